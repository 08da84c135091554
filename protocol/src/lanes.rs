//! Lanes: packed messages are cut into chunks that fill segments, the most urgent first.
//!
//! A segment's payload is a row of chunks. A chunk is one head byte (lane, and whether it opens a
//! message), on the first chunk the message's whole length (LEB128), then bytes: as many as the
//! message still has or the segment still holds, so no chunk needs a length of its own. Between
//! two segments a more urgent lane can always step in; within a lane messages keep their order.
//! What is in a message, and whether a segment arrives, is the business of others.

use std::collections::VecDeque;

use crate::{
    message::{Lane, MESSAGE_MAX},
    patch::CONTAINER_OVERHEAD_MAX,
    varint,
};

/// The longest packed message.
pub const PACKED_MAX: usize = MESSAGE_MAX + CONTAINER_OVERHEAD_MAX;
/// Messages that may wait in one lane: a minute's work at 115,200 baud would be more, so the layer
/// above keeps the rest where it can still be ordered, on disk.
pub const LANE_MESSAGES_MAX: usize = 256;
/// Bytes that may wait in one lane, as long as it holds more than one message: 17 s at 115,200 baud.
/// One message may pass it. The gate stays within 16 MiB whatever the peer does not read.
pub const LANE_BYTES_MAX: usize = 192 * 1024;

/// A chunk's head byte: the lane in the low bits, and whether it opens a message.
const HEAD_LANE: u8 = 0b0000_0011;
const HEAD_FIRST: u8 = 0b0000_0100;
/// A chunk shorter than this would be mostly head; the room stays empty instead.
const CHUNK_LEAST: usize = 8;

const _: () = assert!(Lane::ALL.len() - 1 <= HEAD_LANE as usize);
const _: () = assert!(LANE_BYTES_MAX >= PACKED_MAX);

/// Packed messages that wait to be sent.
#[derive(Debug, Default)]
pub struct Outgoing {
    lanes: [Queue; Lane::ALL.len()],
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How much of the front message was sent.
    sent: usize,
}

impl Outgoing {
    /// Whether a lane takes another message.
    pub fn has_room(&self, lane: Lane) -> bool {
        let queue = &self.lanes[lane as usize];
        queue.messages.len() < LANE_MESSAGES_MAX && queue.bytes < LANE_BYTES_MAX
    }

    /// Appends a packed message to its lane.
    pub fn push(&mut self, lane: Lane, packed: Vec<u8>) {
        assert!(!packed.is_empty() && packed.len() <= PACKED_MAX, "packed messages are bounded");
        let queue = &mut self.lanes[lane as usize];
        queue.bytes += packed.len();
        queue.messages.push_back(packed);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|queue| queue.messages.is_empty())
    }

    /// Whether anything waits that is more urgent than [`Lane::Bulk`].
    pub fn urgent_waits(&self) -> bool {
        let mut urgent = Lane::ALL.into_iter().filter(|lane| *lane != Lane::Bulk);
        urgent.any(|lane| !self.lanes[lane as usize].messages.is_empty())
    }

    /// Fills one segment of at most `length_max` bytes; `None` if nothing waits.
    pub fn next_segment(&mut self, length_max: usize) -> Option<Vec<u8>> {
        let mut segment = Vec::new();
        for lane in Lane::ALL {
            // What is bulky does not ride along with something urgent: the urgent message would
            // arrive only with the end of the segment.
            if lane == Lane::Bulk && !segment.is_empty() {
                break;
            }
            let queue = &mut self.lanes[lane as usize];
            while length_max - segment.len() >= CHUNK_LEAST
                && queue.take(lane, length_max, &mut segment)
            {}
        }
        (!segment.is_empty()).then_some(segment)
    }
}

impl Queue {
    /// Appends the next chunk to `segment`, up to `length_max`.
    fn take(&mut self, lane: Lane, length_max: usize, segment: &mut Vec<u8>) -> bool {
        let Some(message) = self.messages.front() else { return false };
        if self.sent == 0 {
            segment.push(lane as u8 | HEAD_FIRST);
            varint::put(message.len() as u64, segment);
        } else {
            segment.push(lane as u8);
        }
        let rest = &message[self.sent..];
        let length = rest.len().min(length_max - segment.len());
        segment.extend_from_slice(&rest[..length]);
        self.sent += length;
        if length == rest.len() {
            self.bytes -= message.len();
            self.sent = 0;
            self.messages.pop_front();
        }
        true
    }
}

/// A segment that no correct sender makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.rule())]
pub enum ChunkError {
    /// A head byte has bits that mean nothing.
    UnknownHead,
    /// A message begins before the one before it in its lane ended.
    Interrupted,
    /// A chunk continues a message that never began.
    Headless,
    /// The length is missing, zero or past [`PACKED_MAX`].
    Length,
    /// A head without bytes.
    Empty,
}

impl ChunkError {
    /// What is wrong, for the reason why the connection ended.
    pub fn rule(self) -> &'static str {
        match self {
            Self::UnknownHead => "a chunk's head is unknown",
            Self::Interrupted => "a message begins within another of its lane",
            Self::Headless => "a chunk continues no message",
            Self::Length => "a message's length is out of bounds",
            Self::Empty => "a chunk is empty",
        }
    }
}

/// Messages that are being put together again.
#[derive(Debug, Default)]
pub struct Incoming {
    lanes: [Partial; Lane::ALL.len()],
}

#[derive(Debug, Default)]
struct Partial {
    /// How many bytes are still to come; zero between messages.
    missing: usize,
    bytes: Vec<u8>,
}

impl Incoming {
    /// Takes a segment; appends the messages that it completes to `complete`.
    pub fn take(
        &mut self,
        mut segment: &[u8],
        complete: &mut VecDeque<(Lane, Vec<u8>)>,
    ) -> Result<(), ChunkError> {
        while let Some((head, rest)) = segment.split_first() {
            segment = rest;
            if head & !(HEAD_LANE | HEAD_FIRST) != 0 {
                return Err(ChunkError::UnknownHead);
            }
            let lane = Lane::ALL[usize::from(head & HEAD_LANE)];
            let partial = &mut self.lanes[lane as usize];
            match (head & HEAD_FIRST != 0, partial.missing) {
                (true, 0) => partial.missing = take_length(&mut segment)?,
                (true, _) => return Err(ChunkError::Interrupted),
                (false, 0) => return Err(ChunkError::Headless),
                (false, _) => {}
            }
            if let Some(message) = partial.extend(&mut segment)? {
                complete.push_back((lane, message));
            }
        }
        Ok(())
    }
}

fn take_length(segment: &mut &[u8]) -> Result<usize, ChunkError> {
    varint::take(segment)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| (1..=PACKED_MAX).contains(length))
        .ok_or(ChunkError::Length)
}

impl Partial {
    /// Memory grows with the bytes that came, not with the length that was claimed.
    fn extend(&mut self, segment: &mut &[u8]) -> Result<Option<Vec<u8>>, ChunkError> {
        let length = self.missing.min(segment.len());
        if length == 0 {
            return Err(ChunkError::Empty);
        }
        let (bytes, rest) = segment.split_at(length);
        self.bytes.extend_from_slice(bytes);
        self.missing -= length;
        *segment = rest;
        Ok((self.missing == 0).then(|| std::mem::take(&mut self.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(incoming: &mut Incoming, segment: &[u8]) -> Vec<(Lane, Vec<u8>)> {
        let mut complete = VecDeque::new();
        incoming.take(segment, &mut complete).unwrap();
        complete.into()
    }

    fn refused(segments: &[&[u8]]) -> ChunkError {
        let (mut incoming, mut complete) = (Incoming::default(), VecDeque::new());
        segments.iter().find_map(|segment| incoming.take(segment, &mut complete).err()).unwrap()
    }

    #[test]
    fn messages_of_every_length_survive_segments_of_every_length() {
        for length_max in [64, 65, 511, 4096] {
            let (mut outgoing, mut incoming) = (Outgoing::default(), Incoming::default());
            let lengths = [1, 2, 7, 60, 61, 62, 63, 64, 126, 127, 128, 129, 5000, PACKED_MAX];
            for length in lengths {
                outgoing.push(Lane::Signing, vec![length as u8; length]);
            }
            let mut messages = Vec::new();
            while let Some(segment) = outgoing.next_segment(length_max) {
                assert!(segment.len() <= length_max);
                messages.extend(received(&mut incoming, &segment));
            }
            let back: Vec<_> = messages.iter().map(|(_, message)| message.len()).collect();
            assert_eq!(back, lengths);
            assert!(outgoing.is_empty());
        }
    }

    #[test]
    fn an_urgent_message_steps_in_between_two_segments_of_a_bulky_one() {
        let (mut outgoing, mut incoming) = (Outgoing::default(), Incoming::default());
        outgoing.push(Lane::Bulk, vec![1; 2000]);
        assert_eq!(received(&mut incoming, &outgoing.next_segment(512).unwrap()), []);
        outgoing.push(Lane::Signing, vec![2; 20]);
        outgoing.push(Lane::Control, vec![3; 10]);
        let segment = outgoing.next_segment(512).unwrap();
        assert!(segment.len() < 40, "the urgent ones travel without ballast");
        let messages = received(&mut incoming, &segment);
        assert_eq!(messages, [(Lane::Control, vec![3; 10]), (Lane::Signing, vec![2; 20])]);
    }

    #[test]
    fn many_small_messages_share_one_segment() {
        let mut outgoing = Outgoing::default();
        for _ in 0..40 {
            outgoing.push(Lane::Control, vec![7; 10]);
        }
        let segment = outgoing.next_segment(512).unwrap();
        assert_eq!(received(&mut Incoming::default(), &segment).len(), 40);
        assert!(outgoing.is_empty());
    }

    #[test]
    fn a_lane_s_queue_is_bounded_by_count_and_by_bytes() {
        let mut outgoing = Outgoing::default();
        for _ in 0..LANE_MESSAGES_MAX {
            assert!(outgoing.has_room(Lane::Signing));
            outgoing.push(Lane::Signing, vec![0; 1]);
        }
        assert!(!outgoing.has_room(Lane::Signing));
        assert!(outgoing.has_room(Lane::Bulk));
        while outgoing.has_room(Lane::Bulk) {
            outgoing.push(Lane::Bulk, vec![0; PACKED_MAX]);
        }
        assert!(outgoing.lanes[Lane::Bulk as usize].bytes < LANE_BYTES_MAX + PACKED_MAX);
    }

    #[test]
    fn segments_that_no_sender_makes_are_refused() {
        assert_eq!(refused(&[&[0x80]]), ChunkError::UnknownHead);
        assert_eq!(refused(&[&[0x02, 9]]), ChunkError::Headless);
        assert_eq!(refused(&[&[0x06, 3, 1], &[0x06, 3, 1]]), ChunkError::Interrupted);
        assert_eq!(refused(&[&[0x06]]), ChunkError::Length);
        assert_eq!(refused(&[&[0x06, 0]]), ChunkError::Length);
        assert_eq!(refused(&[&[0x06, 0xff, 0xff, 0xff, 0x7f, 1]]), ChunkError::Length);
        assert_eq!(refused(&[&[0x06, 3]]), ChunkError::Empty);
        assert_eq!(refused(&[&[0x06, 3, 1], &[0x02]]), ChunkError::Empty);
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut claim = vec![0x07];
        varint::put(PACKED_MAX as u64, &mut claim);
        claim.push(1);
        let mut incoming = Incoming::default();
        assert_eq!(received(&mut incoming, &claim), []);
        assert!(incoming.lanes[3].bytes.capacity() < 64);
    }
}
