//! Decides what is sent when, and what an answer does: the frontend's side of the conversation.
//!
//! No I/O but the store and the CRL files, no clock: a driver or a simulation passes [`Now`] in
//! and carries what comes out. Everything is asked for again after a cut, with the same bytes, so
//! it does not matter where a program or a cable stopped.
//!
//! Nothing here refuses a request; an answer is believed only after `verify`, `openpgp` or `crl`
//! has checked it.

use std::collections::BTreeSet;

use protocol::{
    message::{Answer, CatalogueQuery, Message, Request, SignerStatus},
    time::{Duration, Instant},
};
use serde::{Deserialize, Serialize};

use crate::{
    audit::{copy::LogCopy, fetch::LogFetch},
    catalogue::{Catalogues, Trusted},
    clock::Now,
    crl::{
        CrlName, all_of,
        fetch::{FetchError, Fetches, Outcome},
        mirror::{Mirror, MirrorError},
    },
    inventory::Inventory,
    queue::Queue,
    store::{Alarms, Notes, Store, StoreError},
};

mod connection;
mod desk;
mod hints;
mod import;

use connection::Connection;
pub use connection::WINDOW;
use desk::Desk;
pub use hints::Exchange;
use hints::Hints;
pub use import::CrlNews;

#[cfg(test)]
mod tests;

/// Why the carrier cannot go on. Nothing is lost: the next run asks again.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CRL files failed.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

impl From<FetchError> for CarrierError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Mirror(error) => Self::Mirror(error),
            FetchError::Store(error) => Self::Store(error),
        }
    }
}

impl From<rusqlite::Error> for CarrierError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Something is to be sent, or an answer is awaited.
    Busy,
    /// Everything has its outcome or waits for a person at the console, and every CRL is here.
    Idle,
    /// The rest was answered, but the answers failed their checks; alarms say why.
    Doubtful,
}

/// What was counted since the carrier was made. // stored
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Answers that belong to nothing that was asked.
    pub strays: u64,
    /// Answers that failed their checks.
    pub disbelieved: u64,
    /// Requests handed to the session again because their answer did not come.
    pub asked_again: u64,
}

/// The signer's health as it was last heard. // stored
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The program's version.
    pub version: String,
    /// Seconds since the signer started.
    pub uptime_s: u64,
    /// Certificates issued since the signer's ledger began.
    pub issued: u64,
    /// Requests that wait for a person.
    pub held: u64,
    /// Sentences that an operator should read.
    pub warnings: Vec<String>,
    /// When this was heard, microseconds since 1970-01-01 UTC.
    pub heard_us: i64,
}

/// The conversation with the signer.
///
/// Call a `handle_*` for what happened, then [`poll_send`](Self::poll_send) until it gives
/// nothing, then [`poll_timeout`](Self::poll_timeout) for when to call
/// [`handle_timeout`](Self::handle_timeout) at the latest. A request that the session did not
/// take goes back through [`handle_unsent`](Self::handle_unsent).
#[derive(Debug)]
pub struct Carrier {
    store: Store,
    mirror: Mirror,
    trusted: Trusted,
    /// The pins that `trusted` was made from.
    generation: u64,
    hints: Hints,
    fetches: Fetches,
    /// CRLs that do not show yet what was revoked.
    revoked: BTreeSet<CrlName>,
    log: LogFetch,
    counters: Counters,
    /// What exists only while the session is up.
    connection: Option<Connection>,
}

impl Carrier {
    /// A carrier of what is in `store`.
    pub fn new(store: Store, mirror: Mirror, log: LogCopy) -> Result<Self, CarrierError> {
        let catalogues = Catalogues(store.connection());
        let (trusted, generation) = (catalogues.trusted()?, catalogues.generation()?);
        for name in trusted.authorities.values().flat_map(all_of) {
            mirror.repair(&name)?;
        }
        Ok(Self {
            store,
            mirror,
            trusted,
            generation,
            hints: Hints::default(),
            fetches: Fetches::default(),
            revoked: BTreeSet::new(),
            log: LogFetch::new(log),
            counters: Counters::default(),
            connection: None,
        })
    }

    /// The store, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What there is to do.
    pub fn work(&self, now: Now) -> Work {
        let Some(connection) = &self.connection else { return Work::Busy };
        if connection.is_busy() || !self.revoked.is_empty() || !self.fetches.is_idle(now.instant) {
            return Work::Busy;
        }
        if self.log.holds(now.instant) {
            return Work::Busy;
        }
        let doubtful = connection.doubts() || self.fetches.is_failing();
        if doubtful { Work::Doubtful } else { Work::Idle }
    }

    //--- What happened

    /// The session is up: everything without an outcome is asked for (again).
    pub fn handle_up(&mut self, now: Now) -> Result<(), CarrierError> {
        let queue = Queue(self.store.connection());
        let mut connection = Connection::new(now.instant);
        connection.hold_off(now.instant, &queue.held(connection::HELD_MAX)?);
        connection.acknowledge(now.instant, &queue.unacknowledged(connection::ACKNOWLEDGE_AT_UP)?);
        self.connection = Some(connection);
        self.hints.handle_up();
        self.log.handle_up(now.instant);
        let offered = self.trusted.authorities.values().filter(|authority| authority.offered);
        self.fetches.handle_up(now.instant, offered.flat_map(all_of));
        Ok(())
    }

    /// The session is down: what was under way is forgotten here; the store knows it.
    pub fn handle_down(&mut self) {
        self.connection = None;
        self.fetches.handle_down();
        self.log.handle_down();
    }

    /// Another process may have put something into the store.
    pub fn handle_queue_changed(&mut self, now: Now) -> Result<(), CarrierError> {
        if let Some(connection) = &mut self.connection {
            connection.look_again();
        }
        let catalogues = Catalogues(self.store.connection());
        let generation = catalogues.generation()?;
        if generation != self.generation {
            (self.trusted, self.generation) = (catalogues.trusted()?, generation);
            if let Some(connection) = &mut self.connection {
                // Somebody accepted a certificate: what was disbelieved may be right now.
                connection.retry_doubts(now.instant);
            }
            let names = self.trusted.authorities.values().flat_map(all_of);
            names.for_each(|name| self.fetches.want(&name, now.instant));
        }
        Ok(())
    }

    /// Answers came, in this order. They are checked and stored in one transaction; what needs an
    /// acknowledgement gets it only after the commit.
    pub fn handle_answers(&mut self, now: Now, answers: Vec<Answer>) -> Result<(), CarrierError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.unblock();
        let transaction = self.store.transaction()?;
        let counters = self.counters;
        let mut desk = Desk {
            now,
            store: &transaction,
            mirror: &mut self.mirror,
            trusted: &mut self.trusted,
            hints: &mut self.hints,
            fetches: &mut self.fetches,
            revoked: &mut self.revoked,
            log: &mut self.log,
            counters: &mut self.counters,
            connection,
        };
        for answer in answers {
            desk.take(answer)?;
        }
        if self.counters != counters {
            Notes(&transaction).write(COUNTERS, &self.counters)?;
        }
        self.generation = Catalogues(&transaction).generation()?;
        transaction.commit()?;
        self.finish_crl(now)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), CarrierError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        self.counters.asked_again += connection.handle_timeout(now.instant);
        Ok(())
    }

    /// The session did not take `request`: its lane is full, or the session is going down.
    pub fn handle_unsent(&mut self, now: Now, request: Request) {
        match &request {
            Request::TimeHint(_) => self.hints.handle_unsent(),
            Request::FetchCrl(question) => self.fetches.handle_unasked(question),
            Request::FetchLog(_) => self.log.handle_unsent(now.instant),
            _ => {}
        }
        if let Some(connection) = &mut self.connection {
            connection.handle_unsent(now.instant, request);
        }
    }

    /// The session will never take `request`. That is a fault of ours: an alarm stands until a
    /// person looks.
    pub fn handle_unsendable(
        &mut self,
        now: Now,
        request: &Request,
        why: &str,
    ) -> Result<(), CarrierError> {
        if let (Some(id), Some(connection)) = (request.request_id(), &mut self.connection) {
            connection.doubt(now.instant, id);
            let text = format!("the request cannot be sent: {why}; report it");
            tracing::error!(%id, why, "request cannot be sent");
            let alarms = Alarms(self.store.connection());
            alarms.raise(&format!("request/{id}"), &text, now.unix_us)?;
        }
        Ok(())
    }

    //--- What to do

    /// The next request to hand to the session, or nothing until something happens.
    pub fn poll_send(&mut self, now: Now) -> Result<Option<Request>, CarrierError> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        if connection.should_ask_catalogue(now.instant) {
            let have = self.trusted.catalogue;
            let marks = Inventory(self.store.connection()).serial_high()?;
            // The list is bounded by the authorities of one signer.
            let serial_high = marks.try_into().unwrap_or(protocol::bounded::List::empty());
            return Ok(Some(Request::Catalogue(CatalogueQuery { have, serial_high })));
        }
        if connection.is_ready() {
            connection.fill(now, &mut self.store)?;
            if connection.revocations_done() {
                for name in std::mem::take(&mut self.revoked) {
                    self.fetches.want(&name, now.instant);
                }
            }
        }
        let batch = connection.has_pending();
        if connection.takes_control(now.instant) {
            if self.hints.is_due(now.instant, batch) {
                return Ok(Some(Request::TimeHint(self.hints.make(now))));
            }
            if connection.should_ask_status(now.instant) {
                return Ok(Some(Request::Status));
            }
        }
        if !connection.is_ready() {
            return Ok(None);
        }
        if let Some(request) = connection.next_revocation(now.instant) {
            return Ok(Some(request));
        }
        if connection.takes_questions(now.instant) {
            if let Some(question) = self.fetches.poll_ask(now.instant, &mut self.mirror)? {
                return Ok(Some(Request::FetchCrl(question)));
            }
            // A transfer from before the last stop may need nothing more.
            self.finish_crl(now)?;
        }
        let Some(connection) = &mut self.connection else { return Ok(None) };
        if let Some(request) = connection.next_other(now.instant) {
            return Ok(Some(request));
        }
        let acknowledged = connection.next_acknowledgement(now.instant);
        if let Some(ids) = acknowledged {
            let transaction = self.store.transaction()?;
            Queue(&transaction).mark_acknowledged(&ids)?;
            transaction.commit()?;
            return Ok(Some(Request::Acknowledge(ids)));
        }
        if !connection.takes_bulk(now.instant) {
            return Ok(None);
        }
        let idle = !connection.is_busy() && !self.fetches.is_fetching();
        let question = self.log.poll_ask(now, idle, self.store.connection())?;
        Ok(question.map(Request::FetchLog))
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`poll_send`](Self::poll_send) have
    /// something to do at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let connection = self.connection.as_ref()?;
        let hint = self.hints.poll_timeout();
        let fetch = self.fetches.poll_timeout().filter(|_| connection.is_ready());
        let idle = !connection.is_busy() && !self.fetches.is_fetching();
        let log = connection.is_ready().then(|| self.log.poll_timeout(idle));
        let soonest = [Some(connection.poll_timeout()), Some(hint), fetch, log];
        // What is due already but blocked waits for its lane.
        soonest.into_iter().flatten().min().map(|at| connection.not_before_unblocked(at))
    }

    fn finish_crl(&mut self, now: Now) -> Result<(), CarrierError> {
        let Some(name) = self.fetches.complete().cloned() else { return Ok(()) };
        let Some(authority) = self.trusted.authorities.get(&name.authority) else {
            self.fetches.handle_nothing_new(&name, now.instant);
            return Ok(());
        };
        let inventory = Inventory(self.store.connection());
        let outcome = self.fetches.finish(now.instant, authority, &inventory, &mut self.mirror)?;
        let alarms = Alarms(self.store.connection());
        let scope = format!("crl/{name}");
        let alarm = match outcome {
            None => return Ok(()),
            Some(Outcome::AskedInFull) => {
                tracing::warn!(crl = %name, "CRL patch does not fit, the whole CRL is asked for");
                return Ok(());
            }
            Some(Outcome::Installed(facts)) => {
                let (number, entries) = (facts.number, facts.entries);
                tracing::info!(crl = %name, number, entries, "CRL published");
                alarms.clear(&scope)?;
                return Ok(());
            }
            Some(Outcome::Bad(error)) => error.to_string(),
            Some(Outcome::Unusable) => "the CRL that came is not the one that was announced".into(),
        };
        let text = format!("{alarm}; the old CRL of `{name}` stays, look at the signer's log");
        tracing::error!(crl = %name, alarm, "CRL not published");
        alarms.raise(&scope, &text, now.unix_us)?;
        Ok(())
    }
}

impl Health {
    fn of(status: &SignerStatus, heard_us: i64) -> Self {
        Self {
            version: status.version.to_string(),
            uptime_s: status.uptime_s,
            issued: status.issued,
            held: status.held,
            warnings: status.warnings.iter().map(|text| text.to_string()).collect(),
            heard_us,
        }
    }
}

/// The note with the last [`Exchange`].
pub const TIME: &str = "time";
/// The note with the signer's [`Health`].
pub const HEALTH: &str = "health";
/// The note with the [`Counters`].
pub const COUNTERS: &str = "counters";

/// The signer's health is asked for this often.
const STATUS_PERIOD: Duration = Duration::from_secs(60);
