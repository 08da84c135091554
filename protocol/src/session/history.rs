//! What the other end still has: the recent messages of each lane, in both directions.
//!
//! A sender may refer to the last [`KEPT_MESSAGES`] messages that it sent on the same lane, as far
//! as they have [`KEPT_BYTES`] in all: the receiver keeps by the same rule, and within a lane it
//! sees the same messages in the same order. It may also refer to those that it received; their
//! sender keeps many more of them than that, as some may have been sent since.

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
/// What a sender keeps of its own beyond the other end's view: it covers all that can be on its
/// way to an answerer that refers to what it had received when it answered.
const SENT_FACTOR: usize = 12;

/// The histories of one connection.
#[derive(Debug)]
pub(super) struct Histories {
    sent: [History; Lane::ALL.len()],
    received: [History; Lane::ALL.len()],
}

impl Default for Histories {
    fn default() -> Self {
        Self {
            sent: std::array::from_fn(|_| History::new(SENT_FACTOR)),
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

    /// Messages of `kind` that the peer has from us on `lane`, the last one first.
    pub(super) fn sent_alike(&self, lane: Lane, kind: u8) -> impl Iterator<Item = &[u8]> {
        let entries = self.sent[lane as usize].others_view();
        entries.filter(move |entry| entry.kind == Some(kind)).map(|entry| &entry.bytes[..])
    }

    /// The message that the peer sent under `id`.
    pub(super) fn received_under(&self, id: RequestId) -> Option<&[u8]> {
        let mut entries = self.received.iter().flat_map(History::others_view);
        entries.find(|entry| entry.request_id == Some(id)).map(|entry| &entry.bytes[..])
    }

    /// The reference of that name in a message that came on `lane`: the sender's own earlier
    /// messages on that lane first, then any of ours.
    pub(super) fn resolve(&self, lane: Lane, name: ReferenceName) -> Option<&[u8]> {
        let own = self.received[lane as usize].entries.iter().rev();
        let ours = self.sent.iter().flat_map(|history| history.entries.iter().rev());
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
        let (kind, request_id) = (Some(message.kind()), message.request_id());
        Self { name: ReferenceName::of(&bytes), kind, request_id, bytes }
    }

    pub(super) fn undecodable(bytes: Vec<u8>) -> Self {
        Self { name: ReferenceName::of(&bytes), kind: None, request_id: None, bytes }
    }
}

#[derive(Debug)]
struct History {
    /// The oldest first.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How many times the other end's share is kept.
    factor: usize,
}

impl History {
    fn new(factor: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, factor }
    }

    fn push(&mut self, entry: Entry) {
        if entry.bytes.len() > KEPT_LENGTH_MAX {
            return;
        }
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
        while self.entries.len() > self.factor * KEPT_MESSAGES
            || self.bytes > self.factor * KEPT_BYTES
        {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.bytes.len();
        }
    }

    /// What an end that keeps by the plain rule has, the last one first.
    fn others_view(&self) -> impl Iterator<Item = &Entry> {
        let mut bytes = 0;
        self.entries.iter().rev().take(KEPT_MESSAGES).take_while(move |entry| {
            bytes += entry.bytes.len();
            bytes <= KEPT_BYTES
        })
    }
}
