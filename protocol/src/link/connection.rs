//! A connection while it lasts: what to send next, and what arrived.
//!
//! Whether the connection goes on is the endpoint's decision; this room never changes the state,
//! and never knows what a segment holds.

use super::{
    ACK_DELAY, KEEP_ALIVE, RETRANSMIT_MAX, SEGMENT_MAX, SEGMENT_TIME, SILENCE, WINDOW,
    line::{Line, Pace},
    packet::{self, Ack, Data, Hello, Nonce},
    round_trip::RoundTrip,
    timer::{Timer, Timers},
    window::{Arrival, Incoming, Outgoing},
};
use crate::{
    frame,
    time::{Duration, Instant},
};

/// At the latest every second segment is acknowledged.
const ACK_EVERY: u32 = 2;
/// On slow lines a shorter segment would be mostly header.
const SEGMENT_LEAST: usize = 256;
/// Segments in flight beyond what line and round trip explain. If the line is a little slower
/// than it claims to be, this is what can pile up in a driver's buffer.
const FLIGHT_SLACK: usize = 6;
/// How often patience doubles. A cable has no congestion to give way to; this only covers a peer
/// that is slower to answer than it was.
const BACKOFF_MAX: u32 = 2;

const _: () = assert!(SEGMENT_LEAST <= SEGMENT_MAX);

/// What both ends agreed on, and everything that ends with it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Hello,
    pub(super) timers: Timers,
    /// A hello that may be the peer's new self or a stranger's.
    pub(super) doubt: Option<Hello>,
    /// The prefixes of the two directions' frames.
    sending: Vec<u8>,
    receiving: Vec<u8>,
    outgoing: Outgoing,
    incoming: Incoming,
    round_trip: RoundTrip,
    /// How often in a row the retransmission timer ran out.
    backoff: u32,
    acknowledge: Acknowledge,
    /// Segments received since the last acknowledgement went.
    unacknowledged: u32,
    probe_due: bool,
}

/// How urgent it is to acknowledge; the delay itself is [`Timer::Ack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Acknowledge {
    /// With the next data, or when the timer says so.
    Later,
    /// As soon as there is no data to travel with.
    Now,
    /// Before any data: it tells of a gap, answers a probe, or shows life.
    First,
}

impl Connection {
    /// A connection whose first frame is an Ack: the peer then knows that its hello was heard.
    pub(super) fn new(now: Instant, ours: Nonce, peer: Hello) -> Self {
        let mut timers = Timers::default();
        timers.set(Timer::Silence, now + SILENCE);
        Self {
            timers,
            doubt: None,
            sending: packet::identity(ours, peer.nonce),
            receiving: packet::identity(peer.nonce, ours),
            peer,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            round_trip: RoundTrip::default(),
            backoff: 0,
            acknowledge: Acknowledge::First,
            unacknowledged: 0,
            probe_due: false,
        }
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.smoothed()
    }

    /// The next segment in order.
    pub(super) fn read(&mut self) -> Option<Vec<u8>> {
        self.incoming.read()
    }

    /// An Ack goes before anything else.
    pub(super) fn acknowledge_first(&mut self) {
        self.acknowledge = Acknowledge::First;
    }

    /// A hello came that is not the peer's: asks the peer for a sign of life, and believes the
    /// hello if there is none in time.
    pub(super) fn doubt(&mut self, now: Instant, hello: Hello, pace: &Pace) {
        self.doubt = Some(hello);
        self.probe_due = true;
        self.timers.start(Timer::Doubt, now + self.patience(pace));
    }

    //------------ Input -----------------------------------------------------

    /// Takes a frame if it is the peer's; `None` if it is broken or of another connection.
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        sealed: &frame::Sealed,
        line: &mut Line,
    ) -> Option<()> {
        let body = sealed.open(&self.receiving)?;
        line.counters.frames_received += 1;
        self.timers.set(Timer::Silence, now + SILENCE);
        self.timers.stop(Timer::Doubt);
        self.doubt = None;
        let understood = match sealed.claimed_kind() {
            packet::KIND_DATA => self.handle_data(now, body, line),
            _ => self.handle_ack(now, body, line),
        };
        if understood.is_none() {
            line.counters.frames_malformed += 1;
        }
        Some(())
    }

    fn handle_data(&mut self, now: Instant, body: &[u8], line: &mut Line) -> Option<()> {
        let data = Data::parse(body)?;
        self.take_acknowledgement(now, data.ack, &[], &line.pace)?;
        let arrival = self.incoming.accept(data.seq, data.payload);
        match arrival {
            Arrival::InOrder | Arrival::Ahead => line.counters.segments_received += 1,
            Arrival::Duplicate => line.counters.segments_duplicate += 1,
            Arrival::BeyondWindow => line.counters.segments_beyond_window += 1,
        }
        self.unacknowledged += 1;
        if arrival != Arrival::InOrder || self.incoming.has_gap() {
            self.acknowledge = Acknowledge::First;
        } else if self.unacknowledged >= ACK_EVERY {
            self.acknowledge = self.acknowledge.max(Acknowledge::Now);
        } else {
            self.timers.start(Timer::Ack, now + ACK_DELAY);
        }
        Some(())
    }

    fn handle_ack(&mut self, now: Instant, body: &[u8], line: &mut Line) -> Option<()> {
        let ack = Ack::parse(body)?;
        self.take_acknowledgement(now, ack.ack, &ack.bitmap, &line.pace)?;
        if ack.probe {
            self.acknowledge = Acknowledge::First;
        }
        Some(())
    }

    fn take_acknowledgement(
        &mut self,
        now: Instant,
        ack: u16,
        bitmap: &[u8],
        pace: &Pace,
    ) -> Option<()> {
        let least = self.round_trip.least().unwrap_or_default();
        let progress = self.outgoing.acknowledge(now, ack, bitmap, least)?;
        if let Some(sample) = progress.round_trip {
            self.round_trip.sample(sample);
        }
        if progress.any {
            self.backoff = 0;
            match self.outgoing.oldest_left_at() {
                Some(left_at) => {
                    let deadline = left_at.max(now) + self.patience(pace);
                    self.timers.set(Timer::Retransmit, deadline);
                }
                None => self.timers.stop(Timer::Retransmit),
            }
        }
        Some(())
    }

    /// Handles the timers that do not end the connection.
    pub(super) fn handle_timer(&mut self, timer: Timer, line: &mut Line) {
        match timer {
            Timer::Ack => self.acknowledge = self.acknowledge.max(Acknowledge::Now),
            Timer::KeepAlive => self.acknowledge = Acknowledge::First,
            Timer::Retransmit if self.outgoing.time_out() => {
                self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
                line.counters.timeouts += 1;
            }
            Timer::Retransmit | Timer::Silence | Timer::Doubt => {}
        }
    }

    //------------ Output ----------------------------------------------------

    /// Sends the most urgent frame, if there is one: what the peer must know at once, then what
    /// was lost, then what is new, then what the peer may know.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        source: &mut impl FnMut(usize) -> Option<Vec<u8>>,
        line: &mut Line,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.acknowledge == Acknowledge::First || self.probe_due {
            self.transmit_ack(now, line, out);
            return true;
        }
        if let Some(number) = self.outgoing.waiting() {
            self.transmit_segment(now, number, line, out);
            return true;
        }
        let length_max = self.segment_length(&line.pace);
        if self.has_room(&line.pace)
            && let Some(payload) = source(length_max)
        {
            assert!(!payload.is_empty() && payload.len() <= length_max, "source keeps its bounds");
            let number = self.outgoing.push(payload);
            self.transmit_segment(now, number, line, out);
            return true;
        }
        if self.acknowledge == Acknowledge::Now {
            self.transmit_ack(now, line, out);
            return true;
        }
        false
    }

    fn transmit_ack(&mut self, now: Instant, line: &mut Line, out: &mut Vec<u8>) {
        let ack = Ack {
            probe: std::mem::take(&mut self.probe_due),
            ack: self.incoming.ack(),
            bitmap: self.incoming.bitmap(),
        };
        line.transmit(now, &self.sending, &ack.encode(), out);
        self.timers.set(Timer::KeepAlive, now + KEEP_ALIVE);
        self.acknowledged();
    }

    fn transmit_segment(&mut self, now: Instant, number: u64, line: &mut Line, out: &mut Vec<u8>) {
        let data = Data {
            seq: number as u16,
            ack: self.incoming.ack(),
            payload: self.outgoing.payload(number),
        };
        let left_at = line.transmit(now, &self.sending, &data.encode(), out);
        match self.outgoing.sent(number, left_at) {
            true => line.counters.segments_repeated += 1,
            false => line.counters.segments_sent += 1,
        }
        self.timers.start(Timer::Retransmit, left_at + self.patience(&line.pace));
        // Data cannot tell of a gap, so it acknowledges fully only without one.
        if !self.incoming.has_gap() {
            self.acknowledged();
        }
    }

    fn acknowledged(&mut self) {
        self.acknowledge = Acknowledge::Later;
        self.unacknowledged = 0;
        self.timers.stop(Timer::Ack);
    }

    /// Whether anything could be sent if the line were free.
    pub(super) fn wants_to_send(&self, source_waits: bool, pace: &Pace) -> bool {
        self.acknowledge != Acknowledge::Later
            || self.probe_due
            || self.outgoing.waiting().is_some()
            || (source_waits && self.has_room(pace))
    }

    fn has_room(&self, pace: &Pace) -> bool {
        self.outgoing.len() < usize::from(self.peer.window).min(WINDOW)
            && self.outgoing.flight_bytes() < self.flight_max(pace)
    }

    /// How many bytes may be in flight.
    fn flight_max(&self, pace: &Pace) -> usize {
        let round_trip = self.round_trip.least().unwrap_or(RETRANSMIT_MAX);
        let slack = FLIGHT_SLACK * self.segment_length(pace);
        pace.line_bytes(round_trip).map_or(usize::MAX, |bytes| bytes.saturating_add(slack))
    }

    /// How long new segments are at most.
    fn segment_length(&self, pace: &Pace) -> usize {
        let by_time = pace.line_bytes(SEGMENT_TIME).unwrap_or(SEGMENT_MAX);
        by_time.clamp(SEGMENT_LEAST, SEGMENT_MAX).min(usize::from(self.peer.segment_max))
    }

    /// How long to wait for an acknowledgement once a segment has left the line: the measured
    /// round trip, the peer's delay, and the frames that may be on the line ahead of the answer.
    fn patience(&self, pace: &Pace) -> Duration {
        let ahead = pace.line_time(2 * self.segment_length(pace));
        let patience = self.round_trip.patience() + ACK_DELAY + ahead;
        (patience * (1 << self.backoff)).min(RETRANSMIT_MAX.max(patience))
    }
}
