//! The room with the keys: decides, records, signs, answers.
//!
//! A batch of calls becomes one transaction of decisions and intents, then signatures on all
//! cores, then one transaction of outcomes, then the files, then the answers. The order is the
//! product: nothing is signed that is not on disk, nothing is answered that is not recorded. The
//! vault opens no port, reads no clock and parses nothing a stranger wrote.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use protocol::message::{Answer, Name, NotASerial, RefusalCode, RequestId, Serial};

use crate::{
    authority::{self, Authority},
    call::{Call, Reply, Tagged},
    clock::{Moment, TimeSync},
    durable::{self, Lock},
    fault::Fault,
    keys::Secret,
    ledger::{Intent, Known, Ledger, OpenPgpIntent, Outcome},
    openpgp,
    refusal::Refusal,
};

mod catalogue;
mod certify;
mod crl;
mod files;
mod issue;
mod revoke;
#[cfg(test)]
mod tests;

pub(crate) use crl::{random_octets, sign as sign_crl};
pub use files::{CheckReport, check, load_all, rebuild};
pub(crate) use files::{follow_audit, lock, settle};
use issue::Seen;

/// The most calls in one transaction: one fsync for all of them.
pub const BATCH_MAX: usize = 64;

/// How far the clock may stand behind the last signature before the vault stops: what a time
/// server's small corrections need.
const CLOCK_TOLERANCE_S: i64 = 5;

/// The longest jump of a serial counter on the word of the frontend or of an index line; another
/// could exhaust the 63 bits.
const SERIAL_JUMP_MAX: u64 = 1 << 20;

/// The pause before loading is tried again when an authority could not be loaded.
const LOAD_PAUSE_US: i64 = 10_000_000;

/// How the sentence about a clock that cannot be used begins.
const CLOCK_WARNING: &str = "the clock stands before the last signature";

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
    ledger: Ledger,
    authorities: BTreeMap<Name, Authority>,
    openpgp: Option<openpgp::CaKey>,
    time_sync: TimeSync,
    transfers: crl::Transfers,
    files: files::Files,
    link: LinkState,
    started: Moment,
    load_at_us: i64,
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
        let Settings { directory, passphrase, boot_id } = settings;
        let lock = Lock::try_take(&directory.join("lock"))?.ok_or_else(|| {
            Fault::Configuration(format!(
                "another signer works on {}; stop it first",
                directory.display()
            ))
        })?;
        let ledger = Ledger::open(&ledger_path(&directory))?;
        let mut vault = Self {
            time_sync: TimeSync::new(directory.clone(), boot_id),
            openpgp: openpgp::load(&directory, passphrase.as_ref())?,
            authorities: BTreeMap::new(),
            transfers: crl::Transfers::default(),
            files: files::Files::default(),
            link: LinkState::default(),
            started: now,
            load_at_us: now.boot_us,
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
                    self.authorities.insert(name, authority);
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        if self.openpgp.is_none() {
            match openpgp::load(&self.directory, self.passphrase.as_ref()) {
                Ok(key) => self.openpgp = key,
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

    /// Invariant I13: nothing is signed with a date before the last signature.
    fn check_clock(&self, now: Moment) -> Result<(), Fault> {
        let floor = self.ledger.time_floor()?;
        if now.unix().0 + CLOCK_TOLERANCE_S < floor.0 {
            return Err(Fault::Clock { now: now.unix().to_string(), floor: floor.to_string() });
        }
        Ok(())
    }

    /// Whether the clock can be used. While it cannot, as after a dead battery, the vault goes on
    /// taking time hints, so that the operator can set it; everything else waits. Once it can,
    /// what the last stop left open is finished first.
    fn may_sign(&mut self, now: Moment) -> Result<bool, Fault> {
        match self.check_clock(now) {
            Ok(()) if self.recovered => {}
            Ok(()) => {
                self.warnings.retain(|warning| !warning.starts_with(CLOCK_WARNING));
                self.recover(now)?;
                self.recovered = true;
            }
            Err(Fault::Clock { floor, .. }) => {
                // What is open when the clock is set back is finished when it is right again.
                self.recovered = false;
                let text = format!(
                    "{CLOCK_WARNING} at {floor}: nothing is signed until it is set as in \
                     hsm-docs/time-visit.md"
                );
                if !self.warnings.contains(&text) {
                    self.warn(text);
                }
                return Ok(false);
            }
            Err(fault) => return Err(fault),
        }
        Ok(true)
    }

    /// The time to sign with: the clock, but never before the last signature.
    fn signing_time(&self, now: Moment) -> Result<crate::calendar::UnixTime, Fault> {
        self.check_clock(now)?;
        Ok(now.unix().max(self.ledger.time_floor()?))
    }

    /// Finishes every open intent with the same serial and the same TBS, then brings the files
    /// to where the ledger is.
    fn recover(&mut self, now: Moment) -> Result<(), Fault> {
        // An intent of the console is open while it holds the lock, and none of ours to finish.
        let locks: Vec<Lock> =
            self.authorities.values().map(files::lock).collect::<Result<_, _>>()?;
        let intents = self.ledger.open_intents()?;
        drop(locks);
        // First what was cut: a line must not be added behind half a line.
        self.reconcile_new()?;
        if !intents.is_empty() {
            tracing::warn!(count = intents.len(), "finishing what was open at the last stop");
            self.finish(&intents, now)?;
        }
        for intent in self.ledger.open_openpgp_intents()? {
            tracing::warn!(request = %intent.request, "finishing an open certification");
            self.finish_certification(&intent, now)?;
        }
        self.follow_audit()
    }

    /// Works through a batch of calls. An error here is a fault: the vault must stop.
    pub fn handle(
        &mut self,
        now: Moment,
        calls: Vec<Tagged<Call>>,
    ) -> Result<Vec<Tagged<Reply>>, Fault> {
        if !self.may_sign(now)? {
            return self.handle_without_clock(now, calls);
        }
        let unloaded = |call: &Tagged<Call>| match &call.body {
            Call::Issue(issue) => !self.authorities.contains_key(&issue.authority),
            Call::Revoke { revoke, .. } => !self.authorities.contains_key(&revoke.authority),
            Call::FetchCrl(fetch) => !self.authorities.contains_key(&fetch.authority),
            Call::Certify(_) => self.openpgp.is_none(),
            Call::Catalogue(_) => true,
            _ => false,
        };
        if calls.iter().any(unloaded) {
            self.load_new(now)?;
        }
        let mut work = Work::default();
        self.decide(now, calls, &mut work)?;
        self.finish_decided(now, &mut work)?;
        for (tag, call) in std::mem::take(&mut work.later) {
            if let Some(answer) = self.answer_later(now, call)? {
                work.reply(tag, answer);
            }
        }
        Ok(work.replies)
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
                Call::TimeHint { .. } | Call::Catalogue(_) | Call::Status | Call::Link { .. } => {
                    if let Some(answer) = self.answer_later(now, body)? {
                        work.reply(tag, answer);
                    }
                }
                _ => work.replies.push(Tagged { tag, body: Reply::NotNow }),
            }
        }
        Ok(work.replies)
    }

    /// Step one: every decision and every intent, in one transaction.
    fn decide(
        &mut self,
        now: Moment,
        calls: Vec<Tagged<Call>>,
        work: &mut Work,
    ) -> Result<(), Fault> {
        if !calls.iter().any(|call| call.body.writes()) {
            return self.look_up(calls, work);
        }
        self.adopt_all_changes()?;
        let time = self.signing_time(now)?;
        let mut tx = self.ledger.begin(time)?;
        let mut desk = issue::Desk {
            authorities: &self.authorities,
            openpgp: self.openpgp.as_ref(),
            random: &mut self.random,
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
                Seen::InWork => work.waiting.push((tag, id)),
                Seen::New => {
                    let answer = match body {
                        Call::Issue(issue) => desk.issue(&mut tx, *issue)?,
                        Call::Certify(certify) => {
                            desk.certify(&mut tx, *certify, &mut work.certifications)?
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
                        None => work.waiting.push((tag, id)),
                    }
                }
            }
        }
        work.intents = tx.commit()?;
        Ok(())
    }

    /// A batch that changes nothing needs no transaction.
    fn look_up(&mut self, calls: Vec<Tagged<Call>>, work: &mut Work) -> Result<(), Fault> {
        for Tagged { tag, body } in calls {
            match body {
                Call::Known { id, digest } => {
                    let known = self.ledger.known(id)?;
                    work.replies.push(Tagged { tag, body: reply_for(id, digest, known)? });
                }
                other => work.later.push((tag, other)),
            }
        }
        Ok(())
    }

    /// Steps two to five: sign, record, write the files, answer.
    fn finish_decided(&mut self, now: Moment, work: &mut Work) -> Result<(), Fault> {
        let intents = std::mem::take(&mut work.intents);
        let mut answers = HashMap::new();
        if !intents.is_empty() {
            for (id, certificate) in self.finish(&intents, now)? {
                tracing::info!(request = %id, "certificate issued");
                let certificate = certificate.try_into().map_err(too_long)?;
                answers.insert(id, Answer::Issued { id, certificate });
            }
        }
        for intent in std::mem::take(&mut work.certifications) {
            let (id, certificate) = (intent.request, self.finish_certification(&intent, now)?);
            tracing::info!(request = %id, "OpenPGP key certified");
            let certificate = certificate.try_into().map_err(too_long)?;
            answers.insert(id, Answer::Certified { id, certificate });
        }
        for (tag, id) in std::mem::take(&mut work.waiting) {
            let answer = answers.get(&id).cloned().ok_or_else(|| {
                Fault::Internal(format!("request {id} has an intent but no certificate"))
            })?;
            work.reply(tag, answer);
        }
        for name in std::mem::take(&mut work.revoked) {
            self.files.note_revocation(&name);
        }
        self.follow_revocations(now)?;
        self.follow_audit()
    }

    /// Signs intents on all cores, records the certificates, writes the files.
    fn finish(
        &mut self,
        intents: &[Intent],
        now: Moment,
    ) -> Result<Vec<(RequestId, Vec<u8>)>, Fault> {
        let signed = issue::sign_all(&self.authorities, intents)?;
        let time = self.signing_time(now)?;
        let mut tx = self.ledger.begin(time)?;
        for (intent, der) in intents.iter().zip(&signed) {
            tx.store_certificate(intent, der)?;
        }
        tx.commit()?;
        self.follow_issued(intents, &signed)?;
        let by_request = intents.iter().zip(signed);
        Ok(by_request.filter_map(|(intent, der)| Some((intent.request()?, der))).collect())
    }

    /// Calls that need no place in the batch's transaction.
    fn answer_later(&mut self, now: Moment, call: Call) -> Result<Option<Answer>, Fault> {
        match call {
            Call::FetchCrl(fetch) => self.fetch_crl(now, &fetch).map(Some),
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
        if self.may_sign(now)? {
            self.refresh_crls(now)?;
            self.follow_revocations(now)?;
            self.sync_files()?;
        }
        self.write_state(now)
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

/// What a batch has come to so far.
#[derive(Default)]
struct Work {
    replies: Vec<Tagged<Reply>>,
    later: Vec<(u64, Call)>,
    intents: Vec<Intent>,
    waiting: Vec<(u64, RequestId)>,
    certifications: Vec<OpenPgpIntent>,
    revoked: Vec<Name>,
}

impl Work {
    fn reply(&mut self, tag: u64, answer: Answer) {
        self.replies.push(Tagged { tag, body: Reply::Answer(answer) });
    }
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
        Outcome::Refused { code, text } => refused(id, code, &text),
        Outcome::Quarantined { text } => quarantined(id, &text),
        // Recovery closes every open request before the first call, and a batch its own.
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

/// The 16-octet serial of design §4: 8 octets of counter, 8 random octets, first bit 0.
pub fn serial(counter: u64, random: [u8; 8]) -> Result<Serial, Fault> {
    let exhausted = |_: NotASerial| Fault::Internal("the serial counter is exhausted".into());
    if counter >> 63 != 0 {
        return Err(exhausted(NotASerial));
    }
    let mut octets = counter.to_be_bytes().to_vec();
    octets.extend_from_slice(&random);
    Serial::from_magnitude(&octets).map_err(exhausted)
}

/// The counter in a serial of ours; other serials have none.
pub fn serial_counter(serial: &Serial) -> Option<u64> {
    let octets = serial.as_octets();
    // Leading zero octets of the counter are not in the encoding.
    let high = octets.len().checked_sub(8)?;
    if high > 8 {
        return None;
    }
    Some(octets[..high].iter().fold(0, |sum, octet| (sum << 8) | u64::from(*octet)))
}

/// The ledger's file in a store.
pub fn ledger_path(store: &Path) -> PathBuf {
    store.join("ledger.sqlite")
}
