//! The two halves of the sliding window: segments we sent, and segments that came.
//!
//! Segments are numbered without end; on the wire the low eight bits suffice, as both ends are
//! never more than [`WINDOW`] apart. Nothing here grows past [`WINDOW`] segments, whatever the
//! peer sends.

use std::collections::VecDeque;

use super::{
    SEGMENT_MAX, WINDOW,
    noise::Fates,
    packet::{BITMAP_MAX, PART_UNIT, expand},
};
use crate::time::{Duration, Instant};

const _: () = assert!(2 * WINDOW <= 1 << u8::BITS, "8-bit numbers must stay unambiguous");

//------------ Outgoing ------------------------------------------------------

/// Segments that were sent and not yet acknowledged.
///
/// Transmissions, of segments, parts and probes, are counted in the order in which the cable
/// carries them. A segment is sent again only when something sent after it has arrived and itself
/// has not, so an acknowledgement is always of its last transmission, and no answer is ambiguous.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The number of the first entry in `segments`: all before it are acknowledged.
    first: u64,
    segments: VecDeque<Segment>,
    /// Transmissions so far; the number of the last one.
    transmissions: u64,
    /// The latest transmission known to have arrived.
    arrived: u64,
    /// Transmissions up to this one were overtaken by a timeout: their answers tell no round trip.
    timed_out: u64,
    probe: Probe,
    flight_bytes: usize,
}

/// The last probe.
#[derive(Debug, Default)]
struct Probe {
    transmission: u64,
    left_at: Instant,
    /// No report to it has come yet.
    open: bool,
}

#[derive(Debug)]
struct Segment {
    payload: Vec<u8>,
    state: SegmentState,
    /// Which transmission was its last; zero before the first.
    transmission: u64,
    /// When its last transmission had left the line.
    left_at: Instant,
    /// How much of it was sent again in parts, if it is being sent in parts.
    cut: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SegmentState {
    /// To be sent, for the first time or again.
    Waiting,
    /// Sent; nothing is known yet.
    InFlight,
    /// It is at the peer, ahead of a gap.
    Arrived,
}

/// What an acknowledgement brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Whether any segment is newly known to have arrived.
    pub(super) any: bool,
    /// The measured round trip, if one could be measured.
    pub(super) round_trip: Option<Duration>,
    /// What became of transmissions.
    pub(super) fates: Fates,
    /// It takes back what an earlier one said: it was overtaken, or one of the two was forged.
    pub(super) takes_back: bool,
}

/// A report that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reported {
    /// The number of the probe that it answers, among the transmissions.
    pub(super) transmission: u64,
    /// The measured round trip, if one could be measured.
    pub(super) round_trip: Option<Duration>,
    /// It is the first answer to the last probe: what it says holds now.
    pub(super) is_fresh: bool,
}

impl Outgoing {
    /// The first segment that is not acknowledged.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// How many segments are not acknowledged up to and including the last one sent.
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of segments whose fate is unknown.
    pub(super) fn flight_bytes(&self) -> usize {
        self.flight_bytes
    }

    /// Transmissions so far.
    pub(super) fn transmissions(&self) -> u64 {
        self.transmissions
    }

    /// Takes a new segment; returns its number.
    pub(super) fn push(&mut self, payload: Vec<u8>) -> u64 {
        self.segments.push_back(Segment {
            payload,
            state: SegmentState::Waiting,
            transmission: 0,
            left_at: Instant::ZERO,
            cut: 0,
        });
        self.first + self.segments.len() as u64 - 1
    }

    /// The first segment that must be sent.
    pub(super) fn waiting(&self) -> Option<u64> {
        let index = self.segments.iter().position(|s| s.state == SegmentState::Waiting)?;
        Some(self.first + index as u64)
    }

    pub(super) fn payload(&self, number: u64) -> &[u8] {
        &self.segments[(number - self.first) as usize].payload
    }

    /// Where the next part of a segment begins that is longer than `length` twice, as it was made
    /// before the line became so bad, or could not be cut: as a whole it would hardly arrive on a
    /// line where `length` is best.
    pub(super) fn part_from(&self, number: u64, length: usize) -> Option<usize> {
        let segment = &self.segments[(number - self.first) as usize];
        let hopeless = segment.payload.len() > 2 * length;
        hopeless.then_some(segment.cut)
    }

    /// Notes that a waiting segment was sent as a whole; returns whether it was sent before.
    pub(super) fn sent(&mut self, number: u64, left_at: Instant) -> bool {
        self.transmissions += 1;
        let segment = &mut self.segments[(number - self.first) as usize];
        assert_eq!(segment.state, SegmentState::Waiting, "only a waiting segment is sent");
        let again = segment.transmission != 0;
        segment.state = SegmentState::InFlight;
        segment.transmission = self.transmissions;
        segment.left_at = left_at;
        segment.cut = 0;
        self.flight_bytes += segment.payload.len();
        again
    }

    /// Notes that a waiting segment was sent up to `end` in parts. With the last one it is in
    /// flight again; until then the next part follows at once.
    pub(super) fn sent_part(&mut self, number: u64, end: usize, left_at: Instant) {
        let segment = &mut self.segments[(number - self.first) as usize];
        if end < segment.payload.len() {
            segment.cut = end;
            self.transmissions += 1;
        } else {
            self.sent(number, left_at);
        }
    }

    /// The stamp of the next transmission, if that is a probe.
    pub(super) fn stamp(&self) -> u16 {
        (self.transmissions + 1) as u16
    }

    /// Notes that a probe was sent.
    pub(super) fn probed(&mut self, left_at: Instant) {
        self.transmissions += 1;
        self.probe = Probe { transmission: self.transmissions, left_at, open: true };
    }

    /// The stamp of the last probe.
    #[cfg(test)]
    pub(super) fn last_probe(&self) -> u16 {
        self.probe.transmission as u16
    }

    /// When the oldest segment in flight had left the line.
    pub(super) fn oldest_left_at(&self) -> Option<Instant> {
        let oldest = self.segments.iter().find(|s| s.state == SegmentState::InFlight)?;
        Some(oldest.left_at)
    }

    /// The peer stays mute. Returns whether anything is in flight.
    pub(super) fn time_out(&mut self) -> bool {
        self.timed_out = self.transmissions;
        self.oldest_left_at().is_some()
    }

    /// Learns from an acknowledgement: all before `ack`, and those in `bitmap`, have arrived, and
    /// no others. `None` if it speaks of segments that were never sent.
    pub(super) fn acknowledge(
        &mut self,
        now: Instant,
        ack: u64,
        bitmap: &[u8],
    ) -> Option<Progress> {
        let end = self.first + self.segments.len() as u64;
        if ack > end {
            return None;
        }
        let mut progress = Progress::default();
        if ack < self.first {
            progress.takes_back = true;
            return Some(progress);
        }
        // The latest transmission that is newly known to have arrived, and when it left.
        let mut newest = None;
        let selected = bits(bitmap).map(|bit| ack + bit);
        for number in (self.first..ack).chain(selected.filter(|number| *number < end)) {
            newest = newest.max(self.arrive((number - self.first) as usize, &mut progress.fates));
        }
        while self.first < ack {
            self.segments.pop_front();
            self.first += 1;
        }
        self.arrived = self.arrived.max(newest.map_or(0, |(transmission, _)| transmission));
        self.find_lost(&mut progress.fates);
        let measured = newest.filter(|(transmission, _)| *transmission > self.timed_out);
        progress.any = newest.is_some();
        progress.round_trip = measured.map(|(_, left_at)| now.saturating_since(left_at));
        progress.takes_back = !self.names_all_that_arrived(bitmap);
        Some(progress)
    }

    /// Whether `bitmap`, which begins at `self.first`, has every segment that was said to have
    /// arrived before.
    fn names_all_that_arrived(&self, bitmap: &[u8]) -> bool {
        self.segments.iter().enumerate().all(|(bit, segment)| {
            segment.state != SegmentState::Arrived
                || bitmap.get(bit / 8).is_some_and(|byte| byte & 1 << (bit % 8) != 0)
        })
    }

    /// Learns from the stamp of a report that the probe has arrived. `None` if that probe was
    /// never sent.
    pub(super) fn report(&mut self, now: Instant, stamp: u16) -> Option<Reported> {
        let transmission = expand(self.transmissions, stamp.into(), u16::BITS)?;
        if transmission > self.transmissions {
            return None;
        }
        self.arrived = self.arrived.max(transmission);
        let is_last = transmission == self.probe.transmission;
        let is_fresh = is_last && std::mem::take(&mut self.probe.open);
        let measured = is_fresh && transmission > self.timed_out;
        let round_trip = measured.then(|| now.saturating_since(self.probe.left_at));
        Some(Reported { transmission, round_trip, is_fresh })
    }

    /// A cable never reorders: what was sent before something that arrived is lost, if it has not
    /// arrived.
    fn find_lost(&mut self, fates: &mut Fates) {
        for segment in &mut self.segments {
            if segment.state == SegmentState::InFlight && segment.transmission < self.arrived {
                segment.state = SegmentState::Waiting;
                self.flight_bytes -= segment.payload.len();
                fates.note(segment.payload.len(), true);
            }
        }
    }

    /// The transmission with which it arrived, unless that was known.
    fn arrive(&mut self, index: usize, fates: &mut Fates) -> Option<(u64, Instant)> {
        let segment = &mut self.segments[index];
        let before = std::mem::replace(&mut segment.state, SegmentState::Arrived);
        if before == SegmentState::Arrived {
            return None;
        }
        let payload = std::mem::take(&mut segment.payload);
        if before == SegmentState::InFlight {
            self.flight_bytes -= payload.len();
            fates.note(payload.len(), false);
        }
        Some((segment.transmission, segment.left_at))
    }
}

fn bits(bitmap: &[u8]) -> impl Iterator<Item = u64> {
    (0..bitmap.len() * 8).filter(|bit| bitmap[bit / 8] & 1 << (bit % 8) != 0).map(|bit| bit as u64)
}

//------------ Incoming ------------------------------------------------------

/// Segments that came: in order for the reader, or ahead of a gap.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The next segment that is missing.
    next: u64,
    /// In order and not read yet.
    ready: VecDeque<Vec<u8>>,
    /// Entry `i` is segment `next + i`; entry 0 is not whole whenever there is one, and the last
    /// one is not missing.
    ahead: VecDeque<Slot>,
}

/// What is there of a segment.
#[derive(Clone, Debug, Default)]
enum Slot {
    #[default]
    Missing,
    Partial(Box<Partial>),
    Whole(Vec<u8>),
}

/// A segment that comes in parts.
#[derive(Clone, Debug)]
struct Partial {
    bytes: Vec<u8>,
    /// Bit `i`: unit `i` of `PART_UNIT` bytes is here.
    units: [u64; UNIT_WORDS],
}

const UNIT_WORDS: usize = (SEGMENT_MAX / PART_UNIT).div_ceil(u64::BITS as usize);

impl Partial {
    /// At most [`SEGMENT_MAX`] bytes, so whoever says how many does not size our memory.
    fn new(total: usize) -> Self {
        assert!(total <= SEGMENT_MAX, "the packet's parser knows the bound");
        Self { bytes: vec![0; total], units: [0; UNIT_WORDS] }
    }

    /// Takes a part, which the packet's parser has found to be of whole units.
    fn put(&mut self, offset: usize, payload: &[u8]) {
        self.bytes[offset..offset + payload.len()].copy_from_slice(payload);
        for unit in offset / PART_UNIT..(offset + payload.len()).div_ceil(PART_UNIT) {
            self.units[unit / 64] |= 1 << (unit % 64);
        }
    }

    fn is_whole(&self) -> bool {
        let units = self.units.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        units == self.bytes.len().div_ceil(PART_UNIT)
    }
}

/// What became of a segment or a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It continues what was there.
    InOrder,
    /// Something before it is missing; it is kept.
    Ahead,
    /// A part of a segment of which more is missing; it is kept.
    Partly,
    /// It was here already.
    Duplicate,
    /// It is past the window; it is dropped.
    BeyondWindow,
}

impl Incoming {
    pub(super) fn accept(&mut self, seq: u64, payload: &[u8]) -> Arrival {
        let distance = match self.distance(seq) {
            Ok(distance) => distance,
            Err(arrival) => return arrival,
        };
        *self.slot(distance) = Slot::Whole(payload.to_vec());
        self.advance();
        if distance == 0 { Arrival::InOrder } else { Arrival::Ahead }
    }

    /// Takes a part of a segment of `total` bytes.
    pub(super) fn accept_part(
        &mut self,
        seq: u64,
        offset: u16,
        total: u16,
        payload: &[u8],
    ) -> Arrival {
        let distance = match self.distance(seq) {
            Ok(distance) => distance,
            Err(arrival) => return arrival,
        };
        let total = usize::from(total);
        let slot = self.slot(distance);
        let mut partial = match std::mem::take(slot) {
            Slot::Partial(partial) if partial.bytes.len() == total => partial,
            // Another length: one of the two was forged, and the honest ones keep coming.
            _ => Box::new(Partial::new(total)),
        };
        partial.put(offset.into(), payload);
        if !partial.is_whole() {
            *slot = Slot::Partial(partial);
            return Arrival::Partly;
        }
        *slot = Slot::Whole(partial.bytes);
        self.advance();
        if distance == 0 { Arrival::InOrder } else { Arrival::Ahead }
    }

    /// How far a segment that is wanted is from the next missing one.
    fn distance(&self, seq: u64) -> Result<usize, Arrival> {
        let Some(distance) = seq.checked_sub(self.next) else { return Err(Arrival::Duplicate) };
        // What the reader has not taken counts against the window: memory stays bounded.
        let distance = usize::try_from(distance).unwrap_or(usize::MAX);
        if distance.saturating_add(self.ready.len()) >= WINDOW {
            return Err(Arrival::BeyondWindow);
        }
        match self.ahead.get(distance) {
            Some(Slot::Whole(_)) => Err(Arrival::Duplicate),
            _ => Ok(distance),
        }
    }

    fn slot(&mut self, distance: usize) -> &mut Slot {
        if self.ahead.len() <= distance {
            self.ahead.resize(distance + 1, Slot::Missing);
        }
        &mut self.ahead[distance]
    }

    fn advance(&mut self) {
        while let Some(Slot::Whole(_)) = self.ahead.front() {
            if let Some(Slot::Whole(segment)) = self.ahead.pop_front() {
                self.ready.push_back(segment);
                self.next += 1;
            }
        }
    }

    /// The next segment in order.
    pub(super) fn read(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// Forgets what the reader has not taken, as if it had never come.
    pub(super) fn forget_unread(&mut self) {
        self.next = self.ack();
        self.ready.clear();
        self.ahead.clear();
    }

    /// The number of the next segment that the reader has not taken: the peer may have a window
    /// of segments under way from here.
    pub(super) fn ack(&self) -> u64 {
        self.next - self.ready.len() as u64
    }

    /// Whether the reader is behind.
    pub(super) fn holds_unread(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Which segments from [`Self::ack`] on are here; see [`super::packet::Packet::bitmap`].
    pub(super) fn bitmap(&self) -> Vec<u8> {
        let ahead = self.ahead.iter().map(|slot| matches!(slot, Slot::Whole(_)));
        let mut bitmap = vec![0u8; BITMAP_MAX];
        for (bit, here) in self.ready.iter().map(|_| true).chain(ahead).enumerate() {
            bitmap[bit / 8] |= u8::from(here) << (bit % 8);
        }
        let end = bitmap.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bitmap.truncate(end);
        bitmap
    }
}

#[cfg(test)]
mod tests;
