//! The signer's programs in one thread: the real gate, vault and ledger, driven as `signer run`
//! drives them, with a verdict of the intake where the program asks a worker process.
//!
//! Whatever they say to each other is shown to the oracle. Nothing here decides.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
};

use protocol::{
    message::{Answer, CrlScope, Digest, Message, Request, RequestId},
    session::{Event, SendError, SignerSession},
    time::{Duration, Instant},
};
use signer::{
    authority::Layout,
    call::{Call, Reply, Tagged},
    clock::Moment,
    fault::Fault,
    gate::{Action, Gate, PENDING_MAX},
    intake::worker::Job,
    ledger::{AuthorityId, FilesAt, Ledger},
    vault::{Settings, Vault},
};

use super::{
    Held, Violation,
    crls::Crl,
    material::{self, ISSUING},
    micros, moment,
    oracle::Oracle,
    sabotage::Sabotage,
    stopped,
    store::Synced,
};
use crate::{checker::Checker, random::Random};

/// How long the machine takes for what costs it time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// One signature.
    pub(crate) signing: Duration,
    /// One verdict of the intake.
    pub(crate) vetting: Duration,
    /// Between two looks at what is due by time alone.
    pub(crate) tick: Duration,
}

/// The machine in the rack, while it has power.
pub(crate) struct Signer {
    vault: Vault,
    /// A second look at the ledger: it sees what is committed, and nothing else.
    observer: Ledger,
    issuing: AuthorityId,
    /// The CRLs that it signs.
    scopes: &'static [CrlScope],
    layout: Layout,
    gate: GateProcess,
    replies: Vec<Tagged<Reply>>,
    booted_at: Instant,
    pace: Pace,
    tick_at: Instant,
    sign_at: Option<Instant>,
    synced: Synced,
    /// Up to where the vault noted that the files are on disk.
    noted: FilesAt,
}

/// What dies with the gate's process.
pub(crate) struct GateProcess {
    pub(crate) session: SignerSession,
    gate: Gate,
    outbox: VecDeque<Answer>,
    calls: VecDeque<Tagged<Call>>,
    jobs: VecDeque<(u64, Job)>,
    vetted_at: Option<Instant>,
    /// Which request a call is about.
    about: BTreeMap<u64, (RequestId, Digest)>,
}

impl GateProcess {
    pub(crate) fn new(session: SignerSession) -> Self {
        Self {
            session,
            gate: Gate::default(),
            outbox: VecDeque::new(),
            calls: VecDeque::new(),
            jobs: VecDeque::new(),
            vetted_at: None,
            about: BTreeMap::new(),
        }
    }
}

impl Signer {
    /// The machine starts; what the last stop left open is finished before it answers anybody.
    pub(crate) fn start(
        (store, scopes): (&Path, &'static [CrlScope]),
        session: SignerSession,
        mut random: Random,
        pace: Pace,
        now: Instant,
        clock: Duration,
    ) -> Result<Self, Violation> {
        let directory = store.to_owned();
        let boot_id = format!("{:016x}", random.next_u64());
        let random = Box::new(move |bytes: &mut [u8]| {
            bytes.fill_with(|| random.byte());
            Ok::<(), Fault>(())
        });
        let settings = Settings { directory, passphrase: None, boot_id };
        let at = Moment { boot_us: 0, ..moment(micros(now) - lag(clock)) };
        let vault = Vault::open_without_threads(settings, random, at).map_err(stopped)?;
        let observer = Ledger::open(&Ledger::path(store)).map_err(stopped)?;
        let name = material::name(ISSUING);
        let issuing = observer.authority(&name).map_err(stopped)?;
        let issuing = issuing.ok_or_else(|| Violation::new("the ledger lost its authority"))?;
        let layout = Layout::new(store, &name);
        let synced = Synced::now(layout.directory())?;
        let noted = observer.files_at(issuing).map_err(stopped)?;
        let gate = GateProcess::new(session);
        Ok(Self {
            vault,
            observer,
            issuing,
            scopes,
            layout,
            gate,
            replies: Vec::new(),
            booted_at: now,
            pace,
            tick_at: now,
            sign_at: None,
            synced,
            noted,
        })
    }

    pub(crate) fn session(&mut self) -> &mut SignerSession {
        &mut self.gate.session
    }

    pub(crate) fn is_up(&self) -> bool {
        self.gate.session.is_up()
    }

    /// The gate's process died and another was started.
    pub(crate) fn restart_gate(&mut self, session: SignerSession) {
        self.vault.forget_callers();
        self.replies.clear();
        self.gate = GateProcess::new(session);
    }

    /// What a pulled plug leaves of the authority's files; the vault must be gone by then.
    pub(crate) fn into_synced(self) -> (PathBuf, Synced) {
        (self.layout.directory().to_owned(), self.synced)
    }

    /// When [`Self::turn`] has something to do at the latest.
    pub(crate) fn wake(&self) -> Instant {
        let gate = &self.gate;
        let times = [gate.session.poll_timeout(), self.sign_at, gate.vetted_at];
        times.into_iter().flatten().fold(self.tick_at, Instant::min)
    }

    /// Does all that can be done now. `clock` is how far the machine's clock is behind.
    pub(crate) fn turn(
        &mut self,
        now: Instant,
        clock: Duration,
        oracle: &mut Oracle,
        arriving: &mut Checker,
        departed: &mut Vec<Answer>,
    ) -> Held {
        let at = self.clocks(now, clock);
        if self.gate.session.poll_timeout().is_some_and(|at| at <= now) {
            self.gate.session.handle_timeout(now);
        }
        self.hear(now, oracle, arriving)?;
        self.vet(now);
        self.serve(now, at, oracle)?;
        if self.sign_at.is_some_and(|at| at <= now) {
            self.sign(oracle)?;
            self.serve(now, at, oracle)?;
        }
        if self.tick_at <= now {
            self.tick_at = now + self.pace.tick;
            let ticked = self.vault.tick(at).map_err(stopped);
            self.note_synced()?;
            ticked?;
            self.note_crls(oracle)?;
        }
        self.flush(now, oracle, departed)?;
        let bounded = self.gate.gate.pending() <= PENDING_MAX
            && self.gate.outbox.len() <= 2 * PENDING_MAX
            && self.gate.calls.len() <= 2 * PENDING_MAX
            && self.gate.jobs.len() <= PENDING_MAX;
        oracle.check(bounded, "I18: a queue of the gate is longer than its bound")
    }

    /// The program is told to stop, and does before that what it owes.
    pub(crate) fn settle(&mut self, now: Instant, clock: Duration, oracle: &mut Oracle) -> Held {
        let settled = self.vault.settle_files(self.clocks(now, clock)).map_err(stopped);
        self.note_synced()?;
        settled?;
        self.note_crls(oracle)
    }

    /// The vault writes its note when the disk has the files, even if power goes right after that.
    fn note_synced(&mut self) -> Held {
        let noted = self.observer.files_at(self.issuing).map_err(stopped)?;
        if noted != self.noted {
            self.synced = Synced::now(self.layout.directory())?;
            self.noted = noted;
        }
        Ok(())
    }

    fn clocks(&self, now: Instant, clock: Duration) -> Moment {
        let boot_us = micros(now) - micros(self.booted_at);
        Moment { boot_us, ..moment(micros(now) - lag(clock)) }
    }

    /// Takes what the session has.
    fn hear(&mut self, now: Instant, oracle: &mut Oracle, arriving: &mut Checker) -> Held {
        let mut events = Vec::new();
        while let Some(event) = self.gate.session.poll_event() {
            events.push(event);
        }
        oracle.sabotage.reorder(&mut events);
        for event in events {
            match event {
                Event::Up => arriving.up()?,
                Event::Down { .. } => {
                    arriving.down()?;
                    self.gate.gate.on_down();
                    self.gate.outbox.clear();
                    self.gate.jobs.clear();
                    self.gate.vetted_at = None;
                }
                Event::Message(request) => {
                    arriving.received(&request)?;
                    if oracle.sabotage.strikes(Sabotage::DeliversTwice) {
                        arriving.received(&request)?;
                    }
                    self.take_request(now, request);
                }
                Event::Incompatible { theirs } => oracle
                    .check(oracle.meddled, &format!("the signer finds {theirs:?} incompatible"))?,
                Event::Undecodable { lane, error } => {
                    return Err(Violation::new(format!("no message on lane {lane:?}: {error}")));
                }
                // News for the operator: of a stranger, of silence, of a second program.
                Event::Occupied | Event::Refused { .. } => {}
            }
        }
        Ok(())
    }

    fn take_request(&mut self, now: Instant, request: Request) {
        let action = self.gate.gate.on_request(request, Some(1_000));
        self.act(now, action);
    }

    fn act(&mut self, now: Instant, action: Option<Action>) {
        let gate = &mut self.gate;
        match action {
            None => {}
            Some(Action::Call(call)) => {
                if let Some(about) = call.body.request() {
                    gate.about.insert(call.tag, about);
                }
                gate.calls.push_back(call);
            }
            Some(Action::Vet(tag, job)) => {
                gate.jobs.push_back((tag, job));
                gate.vetted_at.get_or_insert(now + self.pace.vetting);
            }
            Some(Action::Answer(answer)) => gate.outbox.push_back(answer),
        }
    }

    /// The intake is done with its oldest job.
    fn vet(&mut self, now: Instant) {
        while self.gate.vetted_at.is_some_and(|at| at <= now) {
            let Some((tag, job)) = self.gate.jobs.pop_front() else { break };
            let action = self.gate.gate.on_verdict(tag, material::vet(&job));
            self.act(now, action);
            self.gate.vetted_at = (!self.gate.jobs.is_empty()).then(|| now + self.pace.vetting);
        }
    }

    /// Exchanges calls and replies until nobody has more.
    fn serve(&mut self, now: Instant, at: Moment, oracle: &mut Oracle) -> Held {
        let mut more = true;
        while more {
            let room = self.vault.room().min(self.gate.calls.len());
            let calls: Vec<_> = self.gate.calls.drain(..room).collect();
            calls
                .iter()
                .filter_map(|call| call.body.request())
                .for_each(|(id, _)| oracle.heard(id));
            let calls = oracle.sabotage.calls(calls);
            let replies = self.vault.turn(at, calls).map_err(stopped)?;
            more = !replies.is_empty();
            // Whoever asks for a CRL may have had some signed, of other scopes too.
            let about_crls = |reply: &Tagged<Reply>| {
                matches!(
                    reply.body,
                    Reply::Answer(Answer::CrlPiece(_) | Answer::CrlUnchanged { .. })
                )
            };
            if replies.iter().any(about_crls) {
                self.note_crls(oracle)?;
            }
            for reply in oracle.sabotage.replies(replies) {
                if let Reply::Answer(answer) = &reply.body {
                    let about = self.gate.about.remove(&reply.tag);
                    oracle.answered(about, answer)?;
                }
                let unix_s = u64::try_from(at.unix().0).unwrap_or(0);
                let action = self.gate.gate.on_reply(reply, unix_s);
                self.act(now, action);
            }
            more |= !self.gate.calls.is_empty() && self.vault.room() > 0;
        }
        if self.vault.in_hand() > 0 {
            self.sign_at.get_or_insert(now + self.pace.signing);
        }
        Ok(())
    }

    /// Signs one intent, after a look at what is on disk.
    fn sign(&mut self, oracle: &mut Oracle) -> Held {
        let intents = self.observer.open_intents().map_err(stopped)?;
        let certifying = self.observer.open_openpgp_intents().map_err(stopped)?;
        if let Some(serial) = self.vault.sign_next() {
            let durable = intents.iter().any(|intent| *intent.serial() == serial)
                || certifying.iter().any(|intent| intent.holds(&serial));
            oracle.check(durable, "I4: a signature without an intent on disk")?;
        }
        self.sign_at = None;
        Ok(())
    }

    /// Shows the oracle the CRLs that are new.
    pub(crate) fn note_crls(&self, oracle: &mut Oracle) -> Held {
        let newest = self.observer.newest_crl(self.issuing).map_err(stopped)?;
        if !newest.is_some_and(|newest| oracle.is_new_crl(newest.number)) {
            return Ok(());
        }
        let mut round = Vec::new();
        for scope in self.scopes {
            let row = self.observer.newest_crl_of(self.issuing, *scope).map_err(stopped)?;
            let Some(row) = row.filter(|row| row.number > oracle.crl_number(*scope)) else {
                continue;
            };
            let crl = Crl::read(*scope, &std::fs::read(self.layout.newest_crl(*scope))?)?;
            oracle.check(
                (crl.digest, crl.number) == (row.digest, row.number),
                "I5: the newest CRL's file is not what the ledger says",
            )?;
            round.push(crl);
        }
        oracle.signed_crls(round)
    }

    /// Hands answers to the session, oldest first, as far as their lanes take them.
    fn flush(&mut self, now: Instant, oracle: &mut Oracle, departed: &mut Vec<Answer>) -> Held {
        let mut kept = VecDeque::new();
        for answer in std::mem::take(&mut self.gate.outbox) {
            if oracle.sabotage.forgets(&answer) {
                continue;
            }
            match self.gate.session.send(now, &answer) {
                Ok(()) => departed.push(answer),
                Err(SendError::LaneFull { .. }) => kept.push_back(answer),
                Err(SendError::NotUp) => {}
                Err(error) => {
                    let id = answer.request_id();
                    return Err(Violation::new(format!(
                        "an answer cannot be sent, {id:?}: {error}"
                    )));
                }
            }
        }
        self.gate.outbox = kept;
        Ok(())
    }
}

fn lag(clock: Duration) -> i64 {
    i64::try_from(clock.as_micros()).unwrap_or(0)
}
