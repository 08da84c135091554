//! The two halves of the sliding window: segments we sent, and segments that came.
//!
//! Inside, segments are numbered without end; on the wire the low 16 bits suffice, as both ends
//! are never more than [`WINDOW`] apart.

use std::collections::VecDeque;

use super::WINDOW;
use crate::time::{Duration, Instant};

const _: () = assert!(WINDOW < 1 << 14, "16-bit numbers must stay unambiguous");

/// The number closest to `near` whose low 16 bits are `low`.
pub(super) fn expand(near: u64, low: u16) -> Option<u64> {
    let distance = i64::from(low.wrapping_sub(near as u16) as i16);
    near.checked_add_signed(distance)
}

//------------ Outgoing ------------------------------------------------------

/// Segments that were sent and not yet acknowledged.
///
/// Transmissions, of segments and of probes, are counted in the order in which the cable carries
/// them. A segment is sent again only when something sent after it has arrived and itself has
/// not, so an acknowledgement is always of its last transmission, and no answer is ambiguous.
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
}

#[derive(Debug)]
struct Segment {
    payload: Vec<u8>,
    state: SegmentState,
    /// Which transmission was its last; zero before the first.
    transmission: u64,
    /// When its last transmission had left the line.
    left_at: Instant,
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
}

impl Outgoing {
    /// How many segments are not acknowledged up to and including the last one sent.
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of segments whose fate is unknown.
    pub(super) fn flight_bytes(&self) -> usize {
        self.flight_bytes
    }

    /// Takes a new segment; returns its number.
    pub(super) fn push(&mut self, payload: Vec<u8>) -> u64 {
        self.segments.push_back(Segment {
            payload,
            state: SegmentState::Waiting,
            transmission: 0,
            left_at: Instant::ZERO,
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

    /// Notes that a waiting segment was sent; returns whether it was sent before.
    pub(super) fn sent(&mut self, number: u64, left_at: Instant) -> bool {
        self.transmissions += 1;
        let segment = &mut self.segments[(number - self.first) as usize];
        assert_eq!(segment.state, SegmentState::Waiting, "only a waiting segment is sent");
        let again = segment.transmission != 0;
        segment.state = SegmentState::InFlight;
        segment.transmission = self.transmissions;
        segment.left_at = left_at;
        self.flight_bytes += segment.payload.len();
        again
    }

    /// The stamp of the next transmission, if that is a probe.
    pub(super) fn stamp(&self) -> u16 {
        (self.transmissions + 1) as u16
    }

    /// Notes that a probe was sent.
    pub(super) fn probed(&mut self, left_at: Instant) {
        self.transmissions += 1;
        self.probe = Probe { transmission: self.transmissions, left_at };
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

    /// Learns from an acknowledgement: all before `ack`, and those in `bitmap`, have arrived. If
    /// there is a bitmap, they are all that have. `None` if it speaks of segments that were never
    /// sent.
    pub(super) fn acknowledge(
        &mut self,
        now: Instant,
        ack: u16,
        bitmap: Option<&[u8]>,
    ) -> Option<Progress> {
        let ack = expand(self.first, ack)?;
        let end = self.first + self.segments.len() as u64;
        if ack > end {
            return None;
        }
        if ack < self.first {
            // It was overtaken by a later one: bytes that somebody repeated.
            return Some(Progress::default());
        }
        // The latest transmission that is newly known to have arrived, and when it left.
        let mut newest = None;
        let selected = bits(bitmap.unwrap_or_default()).map(|bit| ack + 1 + bit);
        for number in (self.first..ack).chain(selected.filter(|number| *number < end)) {
            newest = newest.max(self.arrive((number - self.first) as usize));
        }
        while self.first < ack {
            self.segments.pop_front();
            self.first += 1;
        }
        self.arrived = self.arrived.max(newest.map_or(0, |(transmission, _)| transmission));
        if bitmap.is_some() {
            self.find_lost();
        }
        let measured = newest.filter(|(transmission, _)| *transmission > self.timed_out);
        let round_trip = measured.map(|(_, left_at)| now.saturating_since(left_at));
        Some(Progress { any: newest.is_some(), round_trip })
    }

    /// Learns from the stamp of a report that the probe has arrived; returns the round trip, if
    /// one could be measured. `None` if that probe was never sent.
    pub(super) fn report(&mut self, now: Instant, stamp: u16) -> Option<Option<Duration>> {
        let transmission = expand(self.transmissions, stamp)?;
        if transmission > self.transmissions {
            return None;
        }
        self.arrived = self.arrived.max(transmission);
        let measured = transmission == self.probe.transmission && transmission > self.timed_out;
        Some(measured.then(|| now.saturating_since(self.probe.left_at)))
    }

    /// A cable never reorders: what was sent before something that arrived is lost, if it has not
    /// arrived.
    fn find_lost(&mut self) {
        for segment in &mut self.segments {
            if segment.state == SegmentState::InFlight && segment.transmission < self.arrived {
                segment.state = SegmentState::Waiting;
                self.flight_bytes -= segment.payload.len();
            }
        }
    }

    /// The transmission with which it arrived, unless that was known.
    fn arrive(&mut self, index: usize) -> Option<(u64, Instant)> {
        let segment = &mut self.segments[index];
        let before = std::mem::replace(&mut segment.state, SegmentState::Arrived);
        if before == SegmentState::Arrived {
            return None;
        }
        let payload = std::mem::take(&mut segment.payload);
        if before == SegmentState::InFlight {
            self.flight_bytes -= payload.len();
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
    /// Entry `i` is segment `next + i`; entry 0 is missing whenever there is one.
    ahead: VecDeque<Option<Vec<u8>>>,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It continues what was there.
    InOrder,
    /// Something before it is missing; it is kept.
    Ahead,
    /// It was here already.
    Duplicate,
    /// It is past the window, because the reader is behind; it is dropped.
    BeyondWindow,
}

impl Incoming {
    pub(super) fn accept(&mut self, seq: u16, payload: &[u8]) -> Arrival {
        let Some(number) = expand(self.next, seq).filter(|number| *number >= self.next) else {
            return Arrival::Duplicate;
        };
        let distance = (number - self.next) as usize;
        // What the reader has not taken counts against the window: memory stays bounded.
        if distance + self.ready.len() >= WINDOW {
            return Arrival::BeyondWindow;
        }
        if self.ahead.len() <= distance {
            self.ahead.resize(distance + 1, None);
        }
        if self.ahead[distance].is_some() {
            return Arrival::Duplicate;
        }
        self.ahead[distance] = Some(payload.to_vec());
        while let Some(Some(_)) = self.ahead.front() {
            self.ready.extend(self.ahead.pop_front().flatten());
            self.next += 1;
        }
        if distance == 0 { Arrival::InOrder } else { Arrival::Ahead }
    }

    /// The next segment in order.
    pub(super) fn read(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// The number of the next segment that is missing.
    pub(super) fn ack(&self) -> u16 {
        self.next as u16
    }

    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Which segments after the missing one are here; see [`super::packet::Ack::bitmap`].
    pub(super) fn bitmap(&self) -> Vec<u8> {
        let mut bitmap = vec![0u8; self.ahead.len().saturating_sub(1).div_ceil(8)];
        for (bit, segment) in self.ahead.iter().skip(1).enumerate() {
            bitmap[bit / 8] |= u8::from(segment.is_some()) << (bit % 8);
        }
        bitmap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn send(outgoing: &mut Outgoing, now: Instant) {
        while let Some(number) = outgoing.waiting() {
            outgoing.sent(number, now);
        }
    }

    #[test]
    fn numbers_expand_to_the_closest() {
        assert_eq!(expand(0, 5), Some(5));
        assert_eq!(expand(0, 0xffff), None);
        assert_eq!(expand(65_534, 2), Some(65_538));
        assert_eq!(expand(65_538, 0xfffe), Some(65_534));
        assert_eq!(expand(1 << 40, 0), Some(1 << 40));
    }

    /// An Ack with these bytes in its bitmap.
    fn acked(outgoing: &mut Outgoing, now: Instant, ack: u16, bitmap: &[u8]) -> Progress {
        outgoing.acknowledge(now, ack, Some(bitmap)).unwrap()
    }

    fn sent(segments: u8, now: Instant) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for byte in 0..segments {
            outgoing.push(vec![byte]);
        }
        send(&mut outgoing, now);
        outgoing
    }

    #[test]
    fn what_was_sent_before_something_that_arrived_is_lost() {
        let mut outgoing = sent(4, at(1));
        // Segments 0 and 2 are missing, 1 has arrived: only 0 is known to be lost.
        let progress = acked(&mut outgoing, at(5), 0, &[0b1]);
        assert!(progress.any);
        assert_eq!(progress.round_trip, Some(Duration::from_millis(4)));
        assert_eq!(outgoing.waiting(), Some(0));
        assert_eq!(outgoing.flight_bytes(), 2);
        outgoing.sent(0, at(6));
        // The repeated 0 arrived, sent after 2 and 3: both are lost.
        acked(&mut outgoing, at(9), 2, &[]);
        assert_eq!((outgoing.waiting(), outgoing.flight_bytes()), (Some(2), 0));
        send(&mut outgoing, at(10));
        // What was lost for certain tells a round trip like any other.
        let progress = acked(&mut outgoing, at(14), 4, &[]);
        assert_eq!(progress.round_trip, Some(Duration::from_millis(4)));
        assert_eq!((outgoing.len(), outgoing.flight_bytes()), (0, 0));
    }

    #[test]
    fn data_s_bare_number_says_nothing_of_what_waits_behind_a_gap() {
        let mut outgoing = sent(4, at(1));
        acked(&mut outgoing, at(2), 0, &[0b1]);
        outgoing.sent(0, at(3));
        // 3 is at the peer, but the Ack that said so was lost.
        let progress = outgoing.acknowledge(at(4), 2, None).unwrap();
        assert!(progress.any);
        assert_eq!(outgoing.waiting(), None);
        // The next one names it, and so the one that is missing.
        acked(&mut outgoing, at(5), 2, &[0b1]);
        assert_eq!((outgoing.waiting(), outgoing.flight_bytes()), (Some(2), 0));
    }

    #[test]
    fn nothing_is_repeated_on_suspicion_and_a_report_tells_the_fate_of_all_before_the_probe() {
        let mut outgoing = sent(3, at(1));
        assert!(outgoing.time_out());
        assert_eq!(outgoing.waiting(), None);
        let stamp = outgoing.stamp();
        outgoing.probed(at(100));
        let late = outgoing.push(vec![3]);
        outgoing.sent(late, at(101));
        assert_eq!(outgoing.report(at(110), stamp), Some(Some(Duration::from_millis(10))));
        acked(&mut outgoing, at(110), 0, &[0b1]);
        assert_eq!(outgoing.waiting(), Some(0));
        outgoing.sent(0, at(111));
        // 2 was before the probe and 3 after it.
        assert_eq!(outgoing.waiting(), Some(2));
        outgoing.sent(2, at(112));
        assert_eq!((outgoing.waiting(), outgoing.flight_bytes()), (None, 3));
    }

    #[test]
    fn what_was_in_flight_when_a_timeout_fired_tells_no_round_trip() {
        // Everything arrived before a cut of nine seconds, and its acknowledgements were lost.
        let mut outgoing = sent(3, at(1));
        assert!(outgoing.time_out());
        let stamp = outgoing.stamp();
        outgoing.probed(at(1000));
        assert!(outgoing.time_out());
        assert_eq!(acked(&mut outgoing, at(9000), 2, &[]).round_trip, None);
        assert_eq!(outgoing.report(at(9000), stamp), Some(None));
        assert_eq!(acked(&mut outgoing, at(9000), 3, &[]).round_trip, None);
        // What was sent after it does.
        let number = outgoing.push(vec![3]);
        outgoing.sent(number, at(9001));
        let progress = acked(&mut outgoing, at(9005), 4, &[]);
        assert_eq!(progress.round_trip, Some(Duration::from_millis(4)));
        assert!(!outgoing.time_out());
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_is_refused() {
        let mut outgoing = sent(1, at(1));
        assert_eq!(outgoing.acknowledge(at(2), 2, Some(&[])), None);
        assert_eq!(outgoing.acknowledge(at(2), 0xffff, Some(&[])), None);
        assert_eq!(outgoing.report(at(2), outgoing.stamp()), None);
        assert_eq!(outgoing.report(at(2), 0x8000), None);
        assert!(!acked(&mut outgoing, at(2), 0, &[0xff; 16]).any);
        assert!(acked(&mut outgoing, at(2), 1, &[0xff; 16]).any);
        // An old one changes nothing.
        assert_eq!(acked(&mut outgoing, at(3), 0, &[0xff; 16]), Progress::default());
    }

    #[test]
    fn segments_come_out_once_and_in_order() {
        let mut incoming = Incoming::default();
        assert_eq!(incoming.accept(0, b"a"), Arrival::InOrder);
        assert_eq!(incoming.accept(0, b"a"), Arrival::Duplicate);
        assert_eq!(incoming.accept(2, b"c"), Arrival::Ahead);
        assert_eq!(incoming.accept(2, b"c"), Arrival::Duplicate);
        assert_eq!(incoming.accept(10, b"k"), Arrival::Ahead);
        assert_eq!((incoming.ack(), incoming.bitmap()), (1, vec![0b1, 0b1]));
        assert_eq!(incoming.accept(1, b"b"), Arrival::InOrder);
        assert_eq!((incoming.ack(), incoming.bitmap()), (3, vec![0b100_0000]));
        let read: Vec<_> = std::iter::from_fn(|| incoming.read()).collect();
        assert_eq!(read, [b"a", b"b", b"c"]);
        assert!(incoming.has_gap());
    }

    #[test]
    fn a_slow_reader_holds_the_window() {
        let mut incoming = Incoming::default();
        for seq in 0..WINDOW as u16 {
            assert_eq!(incoming.accept(seq, b"x"), Arrival::InOrder);
        }
        assert_eq!(incoming.accept(WINDOW as u16, b"x"), Arrival::BeyondWindow);
        incoming.read();
        assert_eq!(incoming.accept(WINDOW as u16 + 1, b"x"), Arrival::BeyondWindow);
        assert_eq!(incoming.accept(WINDOW as u16, b"x"), Arrival::InOrder);
    }

    #[test]
    fn numbers_wrap_around_without_a_gap() {
        let (mut outgoing, mut incoming) = (Outgoing::default(), Incoming::default());
        for round in 0..70_000u64 {
            let number = outgoing.push(vec![1]);
            outgoing.sent(number, at(round));
            assert_eq!(incoming.accept(number as u16, b"x"), Arrival::InOrder);
            incoming.read();
            let stamp = outgoing.stamp();
            outgoing.probed(at(round));
            assert_eq!(outgoing.report(at(round), stamp), Some(Some(Duration::ZERO)));
            assert!(acked(&mut outgoing, at(round), incoming.ack(), &[]).any);
        }
    }
}
