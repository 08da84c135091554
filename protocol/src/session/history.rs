//! What the other end still has: the recent messages of each lane, in both directions.
//!
//! A sender may refer to the last [`KEPT_MESSAGES`] messages that it sent on the same lane, as far
//! as they have [`KEPT_BYTES`] in all: the receiver keeps by the same rule, and within a lane it
//! sees the same messages in the same order. The signer may also refer to the requests with an id
//! that it received; the frontend keeps many more of them than that, as some may have been sent
//! since. Nobody refers to the answers that it received, so the signer keeps few of them: its gate
//! has little memory.

use std::collections::VecDeque;

use crate::{
    message::{Lane, Message, RequestId},
    patch::ReferenceName,
};

/// Messages of one lane and direction that the other end may refer to.
pub const KEPT_MESSAGES: usize = 64;
/// Their bytes in all.
pub const KEPT_BYTES: usize = 128 * 1024;
/// Longer messages are not kept: a reference is worth a few kilobytes at most.
pub const KEPT_LENGTH_MAX: usize = 8 * 1024;
/// How many times as many of its requests the frontend keeps: it covers all that can be on its way
/// to a signer that refers to what it had received when it answered.
pub(super) const KEPT_REQUESTS_FACTOR: usize = 12;

/// The histories of one connection.
#[derive(Debug)]
pub(super) struct Histories {
    sent: [History; Lane::ALL.len()],
    received: [History; Lane::ALL.len()],
}

impl Default for Histories {
    fn default() -> Self {
        Self {
            sent: std::array::from_fn(|_| History::new(KEPT_REQUESTS_FACTOR)),
            received: std::array::from_fn(|_| History::new(1)),
        }
    }
}

impl Histories {
    pub(super) fn sent(&mut self, lane: Lane, entry: Entry) {
        self.sent[lane as usize].push(entry);
    }

    pub(super) fn received(&mut self, lane: Lane, entry: Entry) {
        self.received[lane as usize].push(entry);
    }

    /// Messages of `kind` that the peer has from us on `lane`, those first that are likely to be
    /// most like one of `length` bytes: requests for several profiles come mixed, and each profile
    /// has its lengths. Of equals the last one comes first.
    pub(super) fn sent_alike(&self, lane: Lane, kind: u8, length: usize) -> Vec<&[u8]> {
        let entries = self.sent[lane as usize].recent.iter().rev();
        let mut alike: Vec<&[u8]> = entries
            .filter(|entry| entry.kind == Some(kind))
            .map(|entry| &entry.bytes[..])
            .collect();
        alike.sort_by_key(|bytes| bytes.len().abs_diff(length));
        alike
    }

    /// The message that the peer sent under `id`.
    pub(super) fn received_under(&self, id: RequestId) -> Option<&[u8]> {
        let mut entries = self.received.iter().flat_map(|history| history.recent.iter().rev());
        entries.find(|entry| entry.request_id == Some(id)).map(|entry| &entry.bytes[..])
    }

    /// The reference of that name in a message that came on `lane`: the sender's own earlier
    /// messages on that lane first, then any of ours.
    pub(super) fn resolve(&self, lane: Lane, name: ReferenceName) -> Option<&[u8]> {
        let own = self.received[lane as usize].newest_first();
        let ours = self.sent.iter().flat_map(History::newest_first);
        own.chain(ours).find(|entry| entry.name == name).map(|entry| &entry.bytes[..])
    }
}

/// One message, as a reference.
#[derive(Debug)]
pub(super) struct Entry {
    name: ReferenceName,
    kind: Option<u8>,
    request_id: Option<RequestId>,
    bytes: Vec<u8>,
}

impl Entry {
    pub(super) fn new<M: Message>(message: &M, bytes: Vec<u8>) -> Self {
        let request_id = message.request_id().filter(|_| M::ASKS);
        let kind = Some(message.kind());
        Self { name: ReferenceName::of(&bytes), kind, request_id, bytes }
    }

    pub(super) fn undecodable(bytes: Vec<u8>) -> Self {
        Self { name: ReferenceName::of(&bytes), kind: None, request_id: None, bytes }
    }
}

#[derive(Debug)]
struct History {
    /// What an end that keeps by the plain rule has, the oldest first.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// Requests from before that, the oldest first.
    older: VecDeque<Entry>,
    older_bytes: usize,
    /// How many times the plain rule's share is kept of requests.
    factor: usize,
}

impl History {
    fn new(factor: usize) -> Self {
        let (recent, older) = (VecDeque::new(), VecDeque::new());
        Self { recent, recent_bytes: 0, older, older_bytes: 0, factor }
    }

    fn push(&mut self, entry: Entry) {
        if entry.bytes.len() > KEPT_LENGTH_MAX {
            return;
        }
        self.recent_bytes += entry.bytes.len();
        self.recent.push_back(entry);
        while self.recent.len() > KEPT_MESSAGES || self.recent_bytes > KEPT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { return };
            self.recent_bytes -= oldest.bytes.len();
            self.push_older(oldest);
        }
    }

    fn push_older(&mut self, entry: Entry) {
        let factor = self.factor - 1;
        if factor == 0 || entry.request_id.is_none() {
            return;
        }
        self.older_bytes += entry.bytes.len();
        self.older.push_back(entry);
        while self.older.len() > factor * KEPT_MESSAGES || self.older_bytes > factor * KEPT_BYTES {
            let Some(oldest) = self.older.pop_front() else { return };
            self.older_bytes -= oldest.bytes.len();
        }
    }

    fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.recent.iter().rev().chain(self.older.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Answer, Request, RevocationReason, Revoke, Serial};

    fn id(number: u16) -> RequestId {
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&number.to_be_bytes());
        RequestId::from_bytes(octets)
    }

    fn request(number: u16) -> Entry {
        let request = Request::Revoke(Revoke {
            id: id(number),
            authority: "issuing".parse().unwrap(),
            serial: Serial::from_magnitude(&number.max(1).to_be_bytes()).unwrap(),
            reason: RevocationReason::Unspecified,
        });
        let bytes = request.to_bytes().unwrap();
        Entry::new(&request, bytes)
    }

    fn answer(number: u16) -> Entry {
        let answer = Answer::Revoked { id: id(number), revoked_at: i64::from(number) };
        let bytes = answer.to_bytes().unwrap();
        Entry::new(&answer, bytes)
    }

    fn held(histories: &Histories) -> (usize, usize) {
        let all = histories.sent.iter().chain(&histories.received);
        let entries: Vec<&Entry> = all.flat_map(History::newest_first).collect();
        (entries.len(), entries.iter().map(|entry| entry.bytes.len()).sum())
    }

    /// The gate keeps one plain share of each lane and direction, whatever comes and goes.
    #[test]
    fn the_signer_keeps_one_share_of_each_lane_and_direction() {
        let mut histories = Histories::default();
        for number in 0..5000 {
            for lane in Lane::ALL {
                histories.received(lane, request(number));
                histories.sent(lane, answer(number));
                let mut bulky = answer(number);
                bulky.bytes = vec![number as u8; KEPT_LENGTH_MAX];
                histories.sent(lane, bulky);
                histories.received(lane, Entry::undecodable(vec![1; KEPT_LENGTH_MAX]));
                histories.received(lane, Entry::undecodable(vec![1; KEPT_LENGTH_MAX + 1]));
            }
        }
        let (entries, bytes) = held(&histories);
        let lanes = 2 * Lane::ALL.len();
        assert!(entries <= lanes * KEPT_MESSAGES && bytes <= lanes * KEPT_BYTES, "{bytes} bytes");
    }

    #[test]
    fn the_frontend_keeps_more_requests_but_refers_to_none_that_the_signer_lost() {
        let (mut frontend, mut signer) = (Histories::default(), Histories::default());
        for number in 0..2000 {
            frontend.sent(Lane::Revocation, request(number));
            signer.received(Lane::Revocation, request(number));
        }
        let kept = KEPT_MESSAGES as u16;
        let alike = frontend.sent_alike(Lane::Revocation, 5, 60);
        assert_eq!(alike.len(), KEPT_MESSAGES);
        for bytes in alike {
            assert!(signer.resolve(Lane::Revocation, ReferenceName::of(bytes)).is_some());
        }
        // What the signer may refer to, the frontend has, also long after.
        for number in 2000 - kept..2000 {
            let asked = signer.received_under(id(number)).unwrap();
            assert_eq!(asked, request(number).bytes);
        }
        assert!(signer.received_under(id(1999 - kept)).is_none());
        let oldest = 2000 - (KEPT_REQUESTS_FACTOR * KEPT_MESSAGES) as u16;
        for number in 0..2000 {
            let found = frontend.resolve(Lane::Signing, request(number).name);
            assert_eq!(found.is_some(), number >= oldest, "{number}");
        }
        // Answers are asked for by nobody.
        frontend.received(Lane::Revocation, answer(7));
        assert!(frontend.received_under(id(7)).is_none());
    }
}
