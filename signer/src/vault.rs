//! The room with the keys: decides, records, signs, answers.
//!
//! It works in turns. One transaction records what was signed since the last turn and what is
//! decided about new calls; then the new intents go to the signing threads, which never wait for
//! it; then come the files and the answers of what was recorded. The order is the product:
//! nothing is signed that is not on disk, nothing is answered that is not recorded. The vault
//! opens no port, reads no clock and parses nothing a stranger wrote.

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::Arc,
};

use protocol::message::{Answer, Name, RefusalCode, RequestId, Serial};

use crate::{
    authority::{self, Authority},
    blocklist::Blocklist,
    calendar::UnixTime,
    call::{Call, Reply, Tagged},
    clock::{Moment, TimeSync},
    durable::{self, Lock},
    fault::Fault,
    keys::Secret,
    ledger::{Intent, Known, Ledger, OpenPgpIntent, Outcome},
    lint,
    openpgp::{self, OpenPgpAuthority},
    refusal::Refusal,
};

mod blocked;
mod bundle;
mod catalogue;
mod certify;
mod crl;
mod files;
mod issue;
mod log;
mod ready;
mod revoke;
mod sign;
#[cfg(test)]
mod tests;

pub use bundle::{BUNDLE_JUMP_MAX, BundleFacts, BundleVerdict};
use certify::{SignedOpenPgp, UnderWay};
pub(crate) use crl::{Due, outlook, random_octets, sign_crl, sign_crls};
pub use files::{CheckReport, PackReport, check, export, load_all, pack, rebuild};
pub(crate) use files::{follow_audit, lock, settle, take_in};
use issue::Seen;
use sign::{Done, Signed, Task};

/// The most calls in one transaction, one fsync for all of them: as many as the gate has in work.
pub const BATCH_MAX: usize = 256;

/// The most calls that wait for an answer: what may be signed at once, and the same asked again. A
/// gate that was captured could ask for one answer without end.
const WAITING_MAX: usize = 4 * BATCH_MAX;

/// An index of up to so many lines shows a revocation before it is answered: some 20 ms.
const INDEX_AT_ONCE_MAX: u64 = 10_000;

/// The longest jump of a serial counter on the word of the frontend or of an index line; another
/// could exhaust the 63 bits.
const SERIAL_JUMP_MAX: u64 = 1 << 20;

/// The pause before loading is tried again when an authority could not be loaded.
const LOAD_PAUSE_US: i64 = 10_000_000;

/// The most sentences kept for the operator.
const WARNINGS_MAX: usize = 16;

/// Where randomness comes from: the operating system in the program, a seed in tests.
pub type Random = Box<dyn FnMut(&mut [u8]) -> Result<(), Fault> + Send>;

/// What the vault is made of.
#[derive(Debug)]
pub struct Settings {
    /// The store.
    pub directory: PathBuf,
    /// The passphrase of the keys, where they have one.
    pub passphrase: Option<Secret>,
    /// The kernel's id of this boot.
    pub boot_id: String,
}

/// The room with the keys.
pub struct Vault {
    directory: PathBuf,
    passphrase: Option<Secret>,
    random: Random,
    shapes: lint::Shapes,
    ledger: Ledger,
    authorities: BTreeMap<Name, Arc<Authority>>,
    openpgp: BTreeMap<Name, Arc<OpenPgpAuthority>>,
    blocklist: Blocklist,
    time_sync: TimeSync,
    crls: crl::Crls,
    files: files::Files,
    link: LinkState,
    started: Moment,
    load_at_us: i64,
    pool: sign::Pool,
    /// The last signature's time, as far as it is known; [`Self::tick`] asks the ledger.
    floor: UnixTime,
    /// Calls that wait for the next turn.
    inbox: Vec<Tagged<Call>>,
    /// Replies that wait for the end of the turn.
    replies: Vec<Tagged<Reply>>,
    waiting: Waiting,
    /// OpenPGP keys that are being certified, and calls that wait for that.
    under_way: UnderWay,
    /// Whether what the last stop left open is finished: it waits for a clock that can be used.
    recovered: bool,
    warnings: Vec<String>,
    _lock: Lock,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.directory.display())
    }
}

/// What the gate last said about the cable.
#[derive(Clone, Debug, Default)]
struct LinkState {
    up: bool,
    text: String,
}

impl Vault {
    /// Opens the store, takes it for itself, and finishes what a crash left open.
    pub fn open(settings: Settings, random: Random, now: Moment) -> Result<Self, Fault> {
        Self::open_with(sign::Pool::start()?, settings, random, now)
    }

    /// A vault that has no threads of its own: what is to be signed waits for
    /// [`Self::sign_next`]. For simulations; everything else is the same.
    pub fn open_without_threads(
        settings: Settings,
        random: Random,
        now: Moment,
    ) -> Result<Self, Fault> {
        Self::open_with(sign::Pool::without_threads()?, settings, random, now)
    }

    fn open_with(
        pool: sign::Pool,
        settings: Settings,
        random: Random,
        now: Moment,
    ) -> Result<Self, Fault> {
        let Settings { directory, passphrase, boot_id } = settings;
        let lock = Lock::try_take(&directory.join("lock"))?.ok_or_else(|| {
            Fault::Configuration(format!(
                "another signer works on {}; stop it first",
                directory.display()
            ))
        })?;
        let ledger = Ledger::open(&Ledger::path(&directory))?;
        let floor = ledger.time_floor()?;
        let mut vault = Self {
            time_sync: TimeSync::new(directory.clone(), boot_id),
            openpgp: BTreeMap::new(),
            authorities: BTreeMap::new(),
            blocklist: Blocklist::open(&directory)?,
            crls: crl::Crls::default(),
            files: files::Files::default(),
            link: LinkState::default(),
            started: now,
            load_at_us: now.boot_us,
            pool,
            shapes: lint::Shapes::default(),
            floor,
            inbox: Vec::new(),
            replies: Vec::new(),
            waiting: Waiting::default(),
            under_way: UnderWay::default(),
            recovered: false,
            warnings: Vec::new(),
            directory,
            passphrase,
            random,
            ledger,
            _lock: lock,
        };
        vault.load_authorities()?;
        vault.may_sign(now)?;
        Ok(vault)
    }

    /// Loads the authorities that are not loaded yet; the first that cannot be is the fault.
    fn load_authorities(&mut self) -> Result<(), Fault> {
        let mut first_fault = None;
        for name in authority::names(&self.directory)? {
            // Its row comes last in its making: without it, it is not finished.
            if self.authorities.contains_key(&name) || self.ledger.authority(&name)?.is_none() {
                continue;
            }
            let passphrase = self.passphrase.as_ref();
            match Authority::load(&self.directory, &name, &self.ledger, passphrase) {
                Ok(authority) => {
                    let key = authority.key().kind();
                    tracing::info!(authority = %name, %key, "authority loaded");
                    self.authorities.insert(name, Arc::new(authority));
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        match self.load_openpgp() {
            Err(fault @ Fault::Ledger(_)) => return Err(fault),
            loaded => first_fault = first_fault.or(loaded.err()),
        }
        first_fault.map_or(Ok(()), Err)
    }

    /// Loads the OpenPGP authorities that are not loaded yet.
    fn load_openpgp(&mut self) -> Result<(), Fault> {
        let mut first_fault = None;
        for name in openpgp::names(&self.directory)? {
            if self.openpgp.contains_key(&name) {
                continue;
            }
            let floor = self.ledger.time_floor()?;
            let Some((id, noted)) = openpgp::row(&mut self.ledger, &name, floor)? else { continue };
            let passphrase = self.passphrase.as_ref();
            let loaded = OpenPgpAuthority::load(&self.directory, &name, id, passphrase)
                .and_then(|one| openpgp::compare(&mut self.ledger, one, &noted, floor));
            match loaded {
                Ok(authority) => {
                    let key = authority.key().fingerprint();
                    tracing::info!(authority = %name, %key, "OpenPGP authority loaded");
                    self.openpgp.insert(name, Arc::new(authority));
                }
                Err(fault @ Fault::Ledger(_)) => return Err(fault),
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        first_fault.map_or(Ok(()), Err)
    }

    /// Finds what the console made while we run. What cannot be loaded, perhaps because it has
    /// another passphrase, must not stop those that sign.
    fn load_new(&mut self, now: Moment) -> Result<(), Fault> {
        if now.boot_us < self.load_at_us {
            return Ok(());
        }
        match self.load_authorities() {
            Ok(()) => {}
            Err(fault @ Fault::Ledger(_)) => return Err(fault),
            Err(fault) => {
                self.load_at_us = now.boot_us.saturating_add(LOAD_PAUSE_US);
                self.warn(format!("a new key or authority is left out: {fault}"));
            }
        }
        self.reconcile_new()
    }

    /// Works through calls until each has its reply. An error here is a fault: the vault must
    /// stop.
    pub fn handle(
        &mut self,
        now: Moment,
        calls: Vec<Tagged<Call>>,
    ) -> Result<Vec<Tagged<Reply>>, Fault> {
        let mut replies = self.turn(now, calls)?;
        while self.recovered && (self.pool.in_hand() > 0 || !self.inbox.is_empty()) {
            self.pool.wait();
            replies.extend(self.turn(now, Vec::new())?);
        }
        Ok(replies)
    }

    /// Takes calls in and does what can be done without waiting for a signature; answers what is
    /// done by now. The rest is done in a later turn: call it again when [`Self::bell`] rings or
    /// calls come. An error here is a fault: the vault must stop.
    pub fn turn(
        &mut self,
        now: Moment,
        mut calls: Vec<Tagged<Call>>,
    ) -> Result<Vec<Tagged<Reply>>, Fault> {
        if !self.may_sign(now)? {
            calls.splice(..0, self.take_waiting());
            return self.handle_without_clock(now, calls);
        }
        let mut work = Work { replies: std::mem::take(&mut self.replies), ..Work::default() };
        self.look_up(calls, &mut work)?;
        // While enough is being signed, new calls wait to share the transaction that records it.
        let due = self.pool.is_worth_recording()
            || self.under_way.is_over()
            || !self.inbox.is_empty() && !self.pool.has_plenty();
        if !due {
            return Ok(work.replies);
        }
        // The console signs too, and the clock may have been set back since.
        self.floor = self.ledger.time_floor()?;
        if self.may_sign(now)? {
            work.take_in(self.pool.take()?);
            self.work_off(now, &mut work)?;
        } else {
            let calls = self.take_waiting();
            work.replies.extend(self.handle_without_clock(now, calls)?);
        }
        Ok(work.replies)
    }

    /// Signs the oldest intent that waits and says its serial: a vault without threads does it
    /// only so. It is recorded and answered in the next turn.
    pub fn sign_next(&mut self) -> Option<Serial> {
        self.pool.sign_next()
    }

    /// How many intents are on disk and not recorded as signed.
    pub fn in_hand(&self) -> usize {
        self.pool.in_hand()
    }

    /// Readable when a turn is due; none while nothing can be recorded.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.recovered.then(|| self.pool.bell())
    }

    /// How many calls a turn takes now.
    pub fn room(&self) -> usize {
        BATCH_MAX.saturating_sub(self.inbox.len() + self.under_way.behind.len())
    }

    /// The calls that wait, in their order.
    fn take_waiting(&mut self) -> Vec<Tagged<Call>> {
        let mut calls = std::mem::take(&mut self.under_way.behind);
        calls.append(&mut self.inbox);
        calls
    }

    /// Whoever called is gone, and its tags mean nothing any more. What is under way is finished
    /// all the same.
    pub fn forget_callers(&mut self) {
        self.inbox.clear();
        self.under_way.behind.clear();
        self.replies.clear();
        self.waiting = Waiting::default();
    }

    /// Records what is being signed, and starts nothing new.
    fn finish_signing(&mut self, now: Moment) -> Result<(), Fault> {
        while self.pool.in_hand() > 0 {
            self.pool.wait();
            let mut work = Work::default();
            work.take_in(self.pool.take()?);
            self.decide(now, Vec::new(), &mut work)?;
            self.finish_decided(now, &mut work)?;
            self.replies.append(&mut work.replies);
        }
        Ok(())
    }

    /// Works off what waits in the inbox and what was signed.
    fn work_off(&mut self, now: Moment, work: &mut Work) -> Result<(), Fault> {
        let calls = self.take_waiting();
        let unloaded = |call: &Tagged<Call>| match &call.body {
            Call::Issue(issue) => !self.authorities.contains_key(&issue.authority),
            Call::Revoke { revoke, .. } => !self.authorities.contains_key(&revoke.authority),
            Call::FetchCrl(fetch) => !self.authorities.contains_key(&fetch.authority),
            Call::Certify(certify) => !self.openpgp.contains_key(&certify.authority),
            Call::RevokeOpenPgp { revoke, .. } => !self.openpgp.contains_key(&revoke.authority),
            Call::Catalogue(_) => true,
            _ => false,
        };
        if calls.iter().any(unloaded) {
            self.load_new(now)?;
        }
        self.decide(now, calls, work)?;
        self.start_signing(std::mem::take(&mut work.intents))?;
        self.start_signing_openpgp(std::mem::take(&mut work.openpgp_intents))?;
        self.finish_decided(now, work)?;
        for (tag, call) in std::mem::take(&mut work.later) {
            if let Some(answer) = self.answer_later(now, call)? {
                work.reply(tag, answer);
            }
        }
        Ok(())
    }

    /// Answers what needs no date.
    fn handle_without_clock(
        &mut self,
        now: Moment,
        calls: Vec<Tagged<Call>>,
    ) -> Result<Vec<Tagged<Reply>>, Fault> {
        let mut work = Work::default();
        for Tagged { tag, body } in calls {
            match body {
                Call::TimeHint { .. }
                | Call::Catalogue(_)
                | Call::Status
                | Call::FetchLog(_)
                | Call::Link { .. } => {
                    if let Some(answer) = self.answer_later(now, body)? {
                        work.reply(tag, answer);
                    }
                }
                _ => work.replies.push(Tagged { tag, body: Reply::NotNow }),
            }
        }
        Ok(work.replies)
    }

    /// Step one: what was signed, every decision and every intent, in one transaction.
    fn decide(
        &mut self,
        now: Moment,
        calls: Vec<Tagged<Call>>,
        work: &mut Work,
    ) -> Result<(), Fault> {
        let nothing_signed = work.signed.is_empty() && work.openpgp_signed.is_empty();
        if nothing_signed && !calls.iter().any(|call| call.body.writes()) {
            work.later.extend(calls.into_iter().map(|call| (call.tag, call.body)));
            return Ok(());
        }
        self.adopt_all_changes()?;
        self.blocklist.refresh()?;
        let time = self.signing_time(now)?;
        let mut tx = self.ledger.begin(time)?;
        for Signed { intent, der } in &work.signed {
            tx.store_certificate(intent, der)?;
        }
        for signed in std::mem::take(&mut work.openpgp_signed) {
            self.under_way.end(&signed.intent);
            work.answers.extend(certify::record(&mut tx, &signed)?);
        }
        let mut desk = issue::Desk {
            authorities: &self.authorities,
            openpgp: &self.openpgp,
            blocklist: &self.blocklist,
            random: &mut self.random,
            shapes: &mut self.shapes,
            time,
        };
        for Tagged { tag, body } in calls {
            let Some((id, digest)) = body.request() else {
                match body {
                    Call::Acknowledge(ids) => tx.acknowledge(&ids)?,
                    other => work.later.push((tag, other)),
                }
                continue;
            };
            match desk.seen(&tx, id, digest)? {
                Seen::Answered(answer) => work.reply(tag, answer),
                Seen::InWork => self.waiting.add(id, tag, work),
                Seen::New if self.under_way.holds_back(&body, &self.openpgp, &tx) => {
                    self.under_way.behind.push(Tagged { tag, body });
                }
                Seen::New => {
                    let answer = match body {
                        Call::Issue(issue) => desk.issue(&mut tx, *issue)?,
                        Call::Certify(certify) => desk.certify(&mut tx, *certify)?,
                        Call::RevokeOpenPgp { digest, revoke } => {
                            desk.revoke_openpgp(&mut tx, digest, &revoke)?
                        }
                        Call::Revoke { digest, revoke } => {
                            Some(desk.revoke(&mut tx, digest, &revoke, &mut work.revoked)?)
                        }
                        Call::Refuse { id, digest, code, text } => {
                            Some(desk.refuse(&mut tx, id, digest, &Refusal::new(code, &*text))?)
                        }
                        Call::Quarantine { id, digest, text } => {
                            Some(desk.quarantine(&mut tx, id, digest, &text)?)
                        }
                        _ => {
                            work.replies.push(Tagged { tag, body: Reply::Unknown });
                            continue;
                        }
                    };
                    match answer {
                        Some(answer) => work.reply(tag, answer),
                        None => self.waiting.add(id, tag, work),
                    }
                }
            }
        }
        let committed = tx.commit()?;
        work.intents = committed.certificates;
        work.openpgp_intents = committed.openpgp;
        Ok(())
    }

    /// Answers at once whether a request is known, which changes nothing; the rest goes to the
    /// inbox.
    fn look_up(&mut self, calls: Vec<Tagged<Call>>, work: &mut Work) -> Result<(), Fault> {
        let known = calls.iter().any(|call| matches!(call.body, Call::Known { .. }));
        let _together = known.then(|| self.ledger.read_together()).transpose()?;
        for Tagged { tag, body } in calls {
            let Call::Known { id, digest } = body else {
                self.inbox.push(Tagged { tag, body });
                continue;
            };
            match self.ledger.known(id)? {
                Some(known) if is_in_work(&known, digest) => self.waiting.add(id, tag, work),
                known => work.replies.push(Tagged { tag, body: reply_for(id, digest, known)? }),
            }
        }
        Ok(())
    }

    /// Step two: hands intents that are on disk to the signing threads.
    fn start_signing(&mut self, intents: Vec<Intent>) -> Result<(), Fault> {
        let task = |intent: Intent| {
            let id = intent.authority();
            let authority = self.authorities.values().find(|authority| authority.id() == id);
            let authority = authority.ok_or_else(|| {
                Fault::Configuration(format!(
                    "serial {} is to be signed by an authority whose directory is gone; restore it",
                    intent.serial()
                ))
            })?;
            Ok(Task::Certificate { authority: Arc::clone(authority), intent })
        };
        let tasks: Vec<Task> = intents.into_iter().map(task).collect::<Result<_, Fault>>()?;
        self.pool.submit(tasks);
        Ok(())
    }

    /// The same for OpenPGP.
    fn start_signing_openpgp(&mut self, intents: Vec<OpenPgpIntent>) -> Result<(), Fault> {
        self.under_way.begin(&intents);
        let tasks = self.openpgp_tasks(intents)?;
        self.pool.submit(tasks);
        Ok(())
    }

    /// Steps three and four: the files, then the answers of what is recorded.
    fn finish_decided(&mut self, now: Moment, work: &mut Work) -> Result<(), Fault> {
        if !work.signed.is_empty() {
            self.follow_issued(&work.signed)?;
        }
        for Signed { intent, der } in std::mem::take(&mut work.signed) {
            let Some(id) = intent.request() else { continue };
            tracing::info!(request = %id, "certificate issued");
            let certificate = der.try_into().map_err(too_long)?;
            self.answer(work, id, Answer::Issued { id, certificate });
        }
        for (id, answer) in std::mem::take(&mut work.answers) {
            tracing::info!(request = %id, "OpenPGP key signed");
            self.answer(work, id, answer);
        }
        let revoked = std::mem::take(&mut work.revoked);
        revoked.iter().for_each(|name| self.files.note_revocation(name));
        // A long index is written by the clock: the answers and the CRL do not wait for it.
        if !revoked.is_empty() && self.ledger.issued()? <= INDEX_AT_ONCE_MAX {
            self.follow_revocations(now)?;
        }
        self.follow_audit()
    }

    /// Gives the answer to all who wait for it.
    fn answer(&mut self, work: &mut Work, id: RequestId, answer: Answer) {
        for tag in self.waiting.take(id) {
            work.reply(tag, answer.clone());
        }
    }

    /// Calls that need no place in the batch's transaction.
    fn answer_later(&mut self, now: Moment, call: Call) -> Result<Option<Answer>, Fault> {
        match call {
            Call::FetchCrl(fetch) => self.fetch_crl(now, &fetch).map(Some),
            Call::FetchLog(fetch) => self.fetch_log(&fetch).map(Some),
            Call::TimeHint { hint, round_trip_us } => {
                self.time_sync.take(now, hint, round_trip_us)?;
                Ok(Some(Answer::TimeHintTaken { unix_us: now.unix_us }))
            }
            Call::Catalogue(query) => self.catalogue(now, &query).map(Some),
            Call::Status => self.status(now).map(|status| Some(Answer::Status(status))),
            Call::Link { up, text } => {
                self.link = LinkState { up, text: text.to_string() };
                self.write_state(now)?;
                Ok(None)
            }
            other => Err(Fault::Internal(format!("a call was left over: {other:?}"))),
        }
    }

    /// What is due by time alone: CRLs, syncing files, the state for `signer status`. Call it
    /// about once a second.
    pub fn tick(&mut self, now: Moment) -> Result<(), Fault> {
        // The console signs too.
        self.floor = self.ledger.time_floor()?;
        if self.may_sign(now)? {
            self.adopt_settled_changes(now)?;
            self.refresh_crls(now)?;
            self.follow_revocations(now)?;
            self.sync_files()?;
        }
        self.write_state(now)
    }

    /// What is owed before a stop: the files are brought to where the ledger is without waiting for
    /// a better moment, since whoever reads them next finds nobody who goes on.
    pub fn settle_files(&mut self, now: Moment) -> Result<(), Fault> {
        self.files.hurry();
        self.tick(now)
    }

    fn warn(&mut self, text: String) {
        tracing::warn!("{text}");
        if !self.warnings.contains(&text) {
            if self.warnings.len() == WARNINGS_MAX {
                self.warnings.remove(0);
            }
            self.warnings.push(text);
        }
    }

    /// Writes what `signer status` shows of a running signer.
    fn write_state(&self, now: Moment) -> Result<(), Fault> {
        let state = serde_json::json!({
            "at": now.unix().to_string(),
            "pid": std::process::id(),
            "link": { "up": self.link.up, "text": self.link.text },
            "warnings": self.warnings,
        });
        durable::replace_lazily(
            &self.directory.join("run/state.json"),
            state.to_string().as_bytes(),
            0o644,
        )
    }
}

/// Who waits for the answers of the requests that are in work.
#[derive(Default)]
struct Waiting {
    tags: HashMap<RequestId, Vec<u64>>,
    count: usize,
}

impl Waiting {
    /// Notes a call; one too many is told to ask again.
    fn add(&mut self, id: RequestId, tag: u64, work: &mut Work) {
        if self.count == WAITING_MAX {
            work.replies.push(Tagged { tag, body: Reply::NotNow });
            return;
        }
        self.count += 1;
        self.tags.entry(id).or_default().push(tag);
    }

    fn take(&mut self, id: RequestId) -> Vec<u64> {
        let tags = self.tags.remove(&id).unwrap_or_default();
        self.count -= tags.len();
        tags
    }
}

/// What a batch has come to so far.
#[derive(Default)]
struct Work {
    replies: Vec<Tagged<Reply>>,
    later: Vec<(u64, Call)>,
    /// What was signed since the last turn.
    signed: Vec<Signed>,
    intents: Vec<Intent>,
    openpgp_signed: Vec<SignedOpenPgp>,
    openpgp_intents: Vec<OpenPgpIntent>,
    /// What is recorded and not answered.
    answers: Vec<(RequestId, Answer)>,
    revoked: Vec<Name>,
}

impl Work {
    fn take_in(&mut self, done: Vec<Done>) {
        for done in done {
            match done {
                Done::Certificate(signed) => self.signed.push(signed),
                Done::OpenPgp(signed) => self.openpgp_signed.push(signed),
            }
        }
    }

    fn reply(&mut self, tag: u64, answer: Answer) {
        self.replies.push(Tagged { tag, body: Reply::Answer(answer) });
    }
}

/// Whether a call for this request waits for the answer that comes.
fn is_in_work(known: &Known, digest: protocol::message::Digest) -> bool {
    known.outcome == Outcome::Open && known.digest == digest
}

/// Invariant I3: the same id with the same body gets the same answer; with another, a refusal.
fn reply_for(
    id: RequestId,
    digest: protocol::message::Digest,
    known: Option<Known>,
) -> Result<Reply, Fault> {
    match known {
        None => Ok(Reply::Unknown),
        Some(known) if known.digest != digest => {
            let text = format!("request {id} was used before with another body; use a new id");
            tracing::warn!(request = %id, "{text}");
            Ok(Reply::Answer(refused(id, RefusalCode::RequestReused, &text)))
        }
        Some(known) => answer_of(id, known).map(Reply::Answer),
    }
}

fn answer_of(id: RequestId, known: Known) -> Result<Answer, Fault> {
    let certificate = || {
        let der = known.certificate.ok_or_else(|| Fault::Damaged {
            what: format!("the ledger's row of request {id}"),
            why: "it has an outcome but no certificate".into(),
        })?;
        der.try_into().map_err(too_long)
    };
    Ok(match known.outcome {
        Outcome::Issued => Answer::Issued { id, certificate: certificate()? },
        Outcome::Certified => Answer::Certified { id, certificate: certificate()? },
        Outcome::Revoked { at } => Answer::Revoked { id, revoked_at: at.0 },
        Outcome::CertificationRevoked { at } => {
            Answer::CertificationRevoked { id, revoked_at: at.0, certificate: certificate()? }
        }
        Outcome::Refused { code, text } => refused(id, code, &text),
        Outcome::Quarantined { text } => quarantined(id, &text),
        // Who asks with the same body waits for the answer.
        Outcome::Open => return Err(Fault::Internal(format!("request {id} was left open"))),
    })
}

fn refused(id: RequestId, code: RefusalCode, text: &str) -> Answer {
    Answer::Refused { id, code, text: protocol::bounded::Text::truncated(text) }
}

fn quarantined(id: RequestId, text: &str) -> Answer {
    Answer::Quarantined { id, text: protocol::bounded::Text::truncated(text) }
}

fn too_long(error: protocol::bounded::TooLong) -> Fault {
    Fault::Internal(format!("a result is longer than the protocol allows: {error}"))
}
