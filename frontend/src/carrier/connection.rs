//! What exists only while the session is up: the window of requests under way, the questions of
//! the connection's beginning, and what is to be asked again.
//!
//! Dropped at every cut. The order is that of the queue: revocations first, then the oldest.

use std::collections::{BTreeMap, VecDeque};

use protocol::{
    bounded::List,
    message::{ACKNOWLEDGE_MAX, Lane, Message, Request, RequestId},
    time::{Duration, Instant},
};

use super::STATUS_PERIOD;
use crate::{
    clock::Now,
    queue::{Kind, Queue, State},
    store::{Store, StoreError},
};

/// Requests handed over and not answered. More would only wait in the lanes; fewer would let
/// the line run dry while both sides sync their disks, or a signer's core while the others of a
/// batch are on their way.
pub const WINDOW: usize = 128;

/// The present connection.
#[derive(Debug)]
pub(crate) struct Connection {
    catalogue: Question,
    status_at: Option<Instant>,
    revocations: Cursor,
    others: Cursor,
    pending_revocations: VecDeque<Request>,
    pending_others: VecDeque<Request>,
    outstanding: BTreeMap<RequestId, Outstanding>,
    /// Asked again at this time: held ones, and those whose answer was not believed.
    again: BTreeMap<(Instant, RequestId), Again>,
    acknowledgements: VecDeque<RequestId>,
    acknowledge_at: Option<Instant>,
    blocked: [Option<Instant>; Lane::ALL.len()],
    /// How long an answer takes, smoothed.
    turnaround: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    kind: Kind,
    asked_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// A person must decide first.
    Held,
    /// Its answer failed a check.
    Doubtful,
    /// Its answer did not come.
    Overdue,
}

/// How far the queue was read in this connection.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    after: i64,
    /// Whether there may be more behind.
    more: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    ToAsk,
    Asked(Instant),
    Answered,
}

impl Connection {
    pub(crate) fn new(now: Instant) -> Self {
        let start = Cursor { after: 0, more: true };
        Self {
            catalogue: Question::ToAsk,
            status_at: None,
            revocations: start,
            others: start,
            pending_revocations: VecDeque::new(),
            pending_others: VecDeque::new(),
            outstanding: BTreeMap::new(),
            again: BTreeMap::new(),
            acknowledgements: VecDeque::new(),
            acknowledge_at: Some(now),
            blocked: [None; Lane::ALL.len()],
            turnaround: Duration::ZERO,
        }
    }

    //--- State

    /// Whether the signer's catalogue is known: before that no answer could be checked.
    pub(crate) fn is_ready(&self) -> bool {
        self.catalogue == Question::Answered
    }

    /// Whether something is to be sent or awaited, held and doubtful requests aside.
    pub(crate) fn is_busy(&self) -> bool {
        !self.is_ready()
            || self.revocations.more
            || self.others.more
            || self.has_pending()
            || !self.outstanding.is_empty()
            || !self.acknowledgements.is_empty()
            || self.again.values().any(|again| *again == Again::Overdue)
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending_revocations.is_empty() || !self.pending_others.is_empty()
    }

    pub(crate) fn doubts(&self) -> bool {
        self.again.values().any(|again| *again == Again::Doubtful)
    }

    /// Whether no revocation is left to be sent or answered.
    pub(crate) fn revocations_done(&self) -> bool {
        !self.revocations.more
            && self.pending_revocations.is_empty()
            && self.outstanding.values().all(|request| request.kind != Kind::Revoke)
    }

    //--- What happened

    pub(crate) fn look_again(&mut self) {
        self.revocations.more = true;
        self.others.more = true;
    }

    pub(crate) fn handle_catalogue(&mut self) -> bool {
        let asked = matches!(self.catalogue, Question::Asked(_));
        if asked {
            self.catalogue = Question::Answered;
        }
        asked
    }

    /// A bundle may hold a catalogue: its frontend asked for it.
    pub(crate) fn expect_catalogue(&mut self, now: Instant) {
        self.catalogue = Question::Asked(now);
    }

    /// A bundle holds the answer to a request that left on a medium.
    pub(crate) fn expect(&mut self, now: Instant, id: RequestId, kind: Kind) {
        self.outstanding.insert(id, Outstanding { kind, asked_at: now });
    }

    /// The catalogue is older than what the signer knows: it is asked for at once.
    pub(crate) fn renew_catalogue(&mut self) {
        if self.catalogue == Question::Answered {
            self.catalogue = Question::ToAsk;
        }
    }

    /// The kind of the request that is under way under this id.
    pub(crate) fn kind_of(&self, id: RequestId) -> Option<Kind> {
        self.outstanding.get(&id).map(|request| request.kind)
    }

    /// The request has its outcome, and it is stored once the caller commits.
    pub(crate) fn settle(&mut self, now: Instant, id: RequestId) {
        self.answered(now, id);
        self.acknowledge(now, &[id]);
    }

    /// The requests were answered before, perhaps in another run.
    pub(crate) fn acknowledge(&mut self, now: Instant, ids: &[RequestId]) {
        if !ids.is_empty() {
            self.acknowledgements.extend(ids);
            self.acknowledge_at.get_or_insert(now + ACKNOWLEDGE_PAUSE);
        }
    }

    /// A person must decide about the request: it leaves the window.
    pub(crate) fn hold(&mut self, now: Instant, id: RequestId) {
        self.answered(now, id);
        let held = self.again.values().filter(|again| **again == Again::Held).count();
        // At most one question a second or so, however many wait.
        let rounds = u32::try_from(held / WINDOW + 1).unwrap_or(u32::MAX);
        self.again.insert((now + ASK_AGAIN.saturating_mul(rounds), id), Again::Held);
    }

    /// At the beginning: held requests are asked about one after the other.
    pub(crate) fn hold_off(&mut self, now: Instant, ids: &[RequestId]) {
        for (index, id) in ids.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            self.again.insert((now + HELD_SPACING.saturating_mul(index), *id), Again::Held);
        }
    }

    /// The request's answer was not believed: it leaves the window and is asked for again.
    pub(crate) fn doubt(&mut self, now: Instant, id: RequestId) {
        self.outstanding.remove(&id);
        self.again.insert((now + ASK_AGAIN, id), Again::Doubtful);
    }

    /// What was disbelieved is asked for again at once.
    pub(crate) fn retry_doubts(&mut self, now: Instant) {
        let doubts: Vec<_> =
            self.again.iter().filter(|row| *row.1 == Again::Doubtful).map(|row| *row.0).collect();
        for key in doubts {
            self.again.remove(&key);
            self.again.insert((now, key.1), Again::Doubtful);
        }
    }

    /// Requests whose answer is overdue are asked again; says how many.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> u64 {
        let patience = self.patience();
        for blocked in &mut self.blocked {
            *blocked = blocked.filter(|until| *until > now);
        }
        // As in `poll_timeout`: clocks have microseconds, and the patience may have less than one.
        if let Question::Asked(at) = self.catalogue
            && at + patience <= now
        {
            self.catalogue = Question::ToAsk;
        }
        let overdue: Vec<RequestId> = self
            .outstanding
            .iter()
            .filter(|(_, request)| request.asked_at + patience <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in &overdue {
            tracing::warn!(%id, "no answer yet, asking again");
            self.outstanding.remove(id);
            self.again.insert((now, *id), Again::Overdue);
        }
        overdue.len() as u64
    }

    /// The session did not take the request; its lane is left alone for a moment.
    pub(crate) fn handle_unsent(&mut self, now: Instant, request: Request) {
        self.blocked[request.lane() as usize] = Some(now + BLOCKED_PAUSE);
        match request {
            Request::Catalogue(_) => self.catalogue = Question::ToAsk,
            Request::Status => self.status_at = None,
            Request::Acknowledge(ids) => {
                for id in ids.into_vec().into_iter().rev() {
                    self.acknowledgements.push_front(id);
                }
                self.acknowledge_at = Some(now + BLOCKED_PAUSE);
            }
            Request::Revoke(_) | Request::RevokeOpenPgp(_) => {
                self.pending_revocations.push_front(request);
            }
            Request::Issue(_) | Request::Certify(_) => self.pending_others.push_front(request),
            Request::TimeHint(_) | Request::FetchCrl(_) | Request::FetchLog(_) => {}
        }
    }

    /// Something came from the other end: the lanes may have room.
    pub(crate) fn unblock(&mut self) {
        self.blocked = [None; Lane::ALL.len()];
    }

    fn answered(&mut self, now: Instant, id: RequestId) {
        if let Some(request) = self.outstanding.remove(&id) {
            let took = now.saturating_since(request.asked_at);
            self.turnaround = (self.turnaround * 7 + took) / 8;
        }
    }

    //--- What to do

    /// Takes requests from the queue until the window is full, and notes them as sent.
    pub(crate) fn fill(&mut self, now: Now, store: &mut Store) -> Result<(), StoreError> {
        let mut fresh = Vec::new();
        if self.room() > 0 && (self.revocations.more || self.others.more) {
            let queue = Queue(store.connection());
            for revocations in [true, false] {
                let room = self.room();
                let cursor = if revocations { &mut self.revocations } else { &mut self.others };
                if room == 0 || !cursor.more {
                    continue;
                }
                let found = queue.open_after(revocations, cursor.after, room)?;
                cursor.more = found.len() == room;
                cursor.after = found.last().map_or(cursor.after, |last| last.seq);
                for open in found {
                    if open.state == State::Queued {
                        fresh.extend(open.request.request_id());
                    }
                    self.admit(now.instant, open.request);
                }
            }
        }
        while self.room() > 0 {
            let Some(entry) = self.again.first_entry() else { break };
            if entry.key().0 > now.instant {
                break;
            }
            let ((_, id), _) = entry.remove_entry();
            let queue = Queue(store.connection());
            let open = queue.find(id)?.is_some_and(|entry| !entry.state.is_final());
            if let Some(request) = queue.body(id)?.filter(|_| open) {
                self.admit(now.instant, request);
            }
        }
        if !fresh.is_empty() {
            let transaction = store.transaction()?;
            Queue(&transaction).mark_sent(&fresh, now.unix_us)?;
            transaction.commit()?;
        }
        Ok(())
    }

    fn room(&self) -> usize {
        WINDOW.saturating_sub(self.outstanding.len())
    }

    fn admit(&mut self, now: Instant, request: Request) {
        let Some(id) = request.request_id() else { return };
        let kind = match &request {
            Request::Revoke(_) | Request::RevokeOpenPgp(_) => Kind::Revoke,
            Request::Certify(_) => Kind::Certify,
            _ => Kind::Issue,
        };
        if self.outstanding.insert(id, Outstanding { kind, asked_at: now }).is_some() {
            return;
        }
        match kind {
            Kind::Revoke => self.pending_revocations.push_back(request),
            Kind::Issue | Kind::Certify => self.pending_others.push_back(request),
        }
    }

    pub(crate) fn should_ask_catalogue(&mut self, now: Instant) -> bool {
        let ask = self.catalogue == Question::ToAsk && self.takes(Lane::Control, now);
        if ask {
            self.catalogue = Question::Asked(now);
        }
        ask
    }

    pub(crate) fn should_ask_status(&mut self, now: Instant) -> bool {
        let due = self.status_at.is_none_or(|at| now.saturating_since(at) >= STATUS_PERIOD);
        if due {
            // A new authority or profile should not wait for the next connection.
            if self.status_at.is_some() && self.catalogue == Question::Answered {
                self.catalogue = Question::ToAsk;
            }
            self.status_at = Some(now);
        }
        due
    }

    pub(crate) fn takes_control(&self, now: Instant) -> bool {
        self.takes(Lane::Control, now)
    }

    pub(crate) fn takes_questions(&self, now: Instant) -> bool {
        self.takes(Lane::Revocation, now)
    }

    pub(crate) fn takes_bulk(&self, now: Instant) -> bool {
        self.takes(Lane::Bulk, now)
    }

    pub(crate) fn next_revocation(&mut self, now: Instant) -> Option<Request> {
        let free = self.takes(Lane::Revocation, now);
        let request = free.then(|| self.pending_revocations.pop_front())??;
        Some(self.handing_over(now, request))
    }

    pub(crate) fn next_other(&mut self, now: Instant) -> Option<Request> {
        let free = self.takes(Lane::Signing, now);
        let request = free.then(|| self.pending_others.pop_front())??;
        Some(self.handing_over(now, request))
    }

    pub(crate) fn next_acknowledgement(
        &mut self,
        now: Instant,
    ) -> Option<List<RequestId, ACKNOWLEDGE_MAX>> {
        let due = self.acknowledgements.len() >= ACKNOWLEDGE_BATCH
            || self.acknowledge_at.is_some_and(|at| at <= now)
            || self.outstanding.is_empty();
        if self.acknowledgements.is_empty() || !due || !self.takes(Lane::Signing, now) {
            return None;
        }
        let count = self.acknowledgements.len().min(ACKNOWLEDGE_MAX);
        let ids: Vec<_> = self.acknowledgements.drain(..count).collect();
        self.acknowledge_at = (!self.acknowledgements.is_empty()).then_some(now);
        ids.try_into().ok()
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let patience = self.patience();
        let status = self.status_at.map_or(Instant::ZERO, |at| at + STATUS_PERIOD);
        let overdue = self.outstanding.values().map(|request| request.asked_at + patience).min();
        let catalogue = match self.catalogue {
            Question::ToAsk => Some(Instant::ZERO),
            Question::Asked(at) => Some(at + patience),
            Question::Answered => None,
        };
        let again = self.again.keys().next().map(|key| key.0);
        let again = again.filter(|_| self.is_ready() && self.room() > 0);
        let acknowledge =
            self.acknowledge_at.filter(|_| self.is_ready() && !self.acknowledgements.is_empty());
        let times = [Some(status), overdue, catalogue, again, acknowledge];
        let blocked = self.blocked.iter().copied();
        times.into_iter().chain(blocked).flatten().min().unwrap_or(status)
    }

    /// `at`, or when the first blocked lane is tried again: no lane is tried before that.
    pub(crate) fn not_before_unblocked(&self, at: Instant) -> Instant {
        match self.blocked.iter().flatten().min() {
            Some(unblocked) => at.max(*unblocked),
            None => at,
        }
    }

    fn handing_over(&mut self, now: Instant, request: Request) -> Request {
        let entry = request.request_id().and_then(|id| self.outstanding.get_mut(&id));
        if let Some(entry) = entry {
            entry.asked_at = now;
        }
        request
    }

    fn takes(&self, lane: Lane, now: Instant) -> bool {
        self.blocked[lane as usize].is_none_or(|until| until <= now)
    }

    /// How long an answer may take: a line of 300 baud needs minutes where others need
    /// milliseconds.
    fn patience(&self) -> Duration {
        (self.turnaround * 20).max(PATIENCE_MIN)
    }
}

/// A lane that was full is tried again after this.
const BLOCKED_PAUSE: Duration = Duration::from_millis(20);
/// An answer that does not come is waited for at least this long; the session loses none while
/// it is up, so only a signer that dropped it makes this happen.
const PATIENCE_MIN: Duration = Duration::from_secs(120);
/// Held and disbelieved requests are asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// At the beginning of a connection, held requests are asked about this far apart.
const HELD_SPACING: Duration = Duration::from_millis(250);
/// Held requests that are asked about in one connection.
pub(crate) const HELD_MAX: usize = 16 * 1024;
/// Old outcomes acknowledged at the beginning of a connection; more in the next.
pub(crate) const ACKNOWLEDGE_AT_UP: usize = 4 * ACKNOWLEDGE_MAX;
/// This many acknowledgements go at once; fewer wait for [`ACKNOWLEDGE_PAUSE`].
const ACKNOWLEDGE_BATCH: usize = 32;
/// An acknowledgement waits this long for company.
const ACKNOWLEDGE_PAUSE: Duration = Duration::from_millis(200);

const _: () = assert!(ACKNOWLEDGE_BATCH <= ACKNOWLEDGE_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    // Found by the swarm: a patience that ended between two microseconds had its program ask for
    // a turn at the one before, and do nothing in it, without end.
    #[test]
    fn what_the_clock_says_is_overdue_is_asked_again_at_that_moment() {
        let mut connection = Connection::new(Instant::ZERO);
        connection.handle_timeout(Instant::ZERO);
        connection.catalogue = Question::Answered;
        connection.status_at = Some(Instant::from_micros(1 << 40));
        connection.expect(Instant::ZERO, RequestId::from_bytes([7; 16]), Kind::Issue);
        connection.turnaround = Duration::from_nanos(8_481_889_960);
        let due = connection.poll_timeout();
        assert_eq!(due, Instant::from_micros(169_637_799));
        assert_eq!(connection.handle_timeout(due), 1);
    }
}
