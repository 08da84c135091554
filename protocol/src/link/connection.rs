//! A connection while it lasts: what to send next, and what arrived.
//!
//! Whether the connection goes on is the endpoint's decision; this room never changes the state,
//! and never knows what a segment holds.

use super::{
    ACK_DELAY, PATIENCE_MAX, SEGMENT_LEAST, SEGMENT_LEAST_TIME, SEGMENT_MAX, SEGMENT_TIME, WINDOW,
    line::{Line, Pace},
    packet::{self, Ack, Data, Hello, Nonce, Purpose, SEGMENT_MIN},
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
/// Segments in flight beyond what line and round trip explain. If the line is a little slower
/// than it claims to be, this is what can pile up in a driver's buffer.
const FLIGHT_SLACK: usize = 6;
/// How often patience doubles at most, see [`PATIENCE_MAX`].
const BACKOFF_MAX: u32 = 4;
/// How often the peer is asked for a sign of life before a stranger's hello is believed: one
/// lost answer must not end a living connection.
const DOUBT_PROBES: u32 = 4;

const _: () = assert!(SEGMENT_MIN as usize <= SEGMENT_LEAST && SEGMENT_LEAST <= SEGMENT_MAX);

/// What both ends agreed on, and everything that ends with it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Hello,
    pub(super) timers: Timers,
    doubt: Option<Doubt>,
    /// The prefixes of the two directions' frames.
    sending: Vec<u8>,
    receiving: Vec<u8>,
    outgoing: Outgoing,
    incoming: Incoming,
    round_trip: RoundTrip,
    /// How often the probe timer ran out since a round trip was measured.
    backoff: u32,
    acknowledge: Acknowledge,
    /// Segments received since the last acknowledgement went.
    unacknowledged: u32,
    probe_due: bool,
    /// The stamp of a probe that is to be answered.
    report_due: Option<u16>,
}

/// A hello that may be the peer's new self or a stranger's.
#[derive(Debug)]
struct Doubt {
    hello: Hello,
    probes_left: u32,
}

/// How urgent it is to acknowledge; the delay itself is [`Timer::Ack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Acknowledge {
    /// With the next data, or when the timer says so.
    Later,
    /// As soon as there is no data to travel with.
    Now,
    /// Before any data: it tells of a gap, or shows life.
    First,
}

impl Connection {
    /// A connection whose first frame is an Ack: the peer then knows that its hello was heard.
    pub(super) fn new(now: Instant, ours: Nonce, peer: Hello, pace: &Pace) -> Self {
        let mut timers = Timers::default();
        timers.set(Timer::Silence, now + pace.silence());
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
            report_due: None,
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

    /// A hello came that is not the peer's: asks the peer for signs of life, see
    /// [`Self::believe`].
    pub(super) fn doubt(&mut self, now: Instant, hello: Hello, pace: &Pace) {
        let probes_left = self.doubt.as_ref().map_or(DOUBT_PROBES, |doubt| doubt.probes_left);
        self.doubt = Some(Doubt { hello, probes_left });
        self.probe_due = true;
        self.timers.start(Timer::Doubt, now + self.doubt_interval(pace));
    }

    /// The peer did not answer: the hello to believe instead, once it was asked often enough.
    pub(super) fn believe(&mut self, now: Instant, pace: &Pace) -> Option<Hello> {
        let doubt = self.doubt.as_mut()?;
        doubt.probes_left -= 1;
        if doubt.probes_left == 0 {
            return self.doubt.take().map(|doubt| doubt.hello);
        }
        self.probe_due = true;
        self.timers.start(Timer::Doubt, now + self.doubt_interval(pace));
        None
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
        self.timers.set(Timer::Silence, now + line.pace.silence());
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
        self.take_acknowledgement(now, data.ack, None, &line.pace)?;
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
        match ack.purpose {
            Purpose::Ack => {}
            Purpose::Probe(stamp) => self.report_due = Some(stamp),
            Purpose::Report(stamp) => {
                let sample = self.outgoing.report(now, stamp)?;
                self.measured(sample);
                // What was lost will be sent again, and waited for anew.
                self.timers.stop(Timer::Probe);
            }
        }
        self.take_acknowledgement(now, ack.ack, Some(&ack.bitmap), &line.pace)?;
        self.expect_answer(now, &line.pace);
        Some(())
    }

    fn take_acknowledgement(
        &mut self,
        now: Instant,
        ack: u16,
        bitmap: Option<&[u8]>,
        pace: &Pace,
    ) -> Option<()> {
        let progress = self.outgoing.acknowledge(now, ack, bitmap)?;
        self.measured(progress.round_trip);
        if progress.any {
            self.timers.stop(Timer::Probe);
            self.expect_answer(now, pace);
        }
        Some(())
    }

    fn measured(&mut self, sample: Option<Duration>) {
        if let Some(sample) = sample {
            self.round_trip.sample(sample);
            self.backoff = 0;
        }
    }

    /// Starts the probe timer, if it does not run and something is in flight.
    fn expect_answer(&mut self, now: Instant, pace: &Pace) {
        if let Some(left_at) = self.outgoing.oldest_left_at() {
            self.timers.start(Timer::Probe, left_at.max(now) + self.patience(pace));
        }
    }

    /// Handles the timers that do not end the connection.
    pub(super) fn handle_timer(&mut self, timer: Timer, line: &mut Line) {
        match timer {
            Timer::Ack => self.acknowledge = self.acknowledge.max(Acknowledge::Now),
            Timer::KeepAlive => self.acknowledge = Acknowledge::First,
            Timer::Probe if self.outgoing.time_out() => {
                self.probe_due = true;
                self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
                line.counters.timeouts += 1;
            }
            Timer::Probe | Timer::Silence | Timer::Doubt => {}
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
        if let Some(stamp) = self.report_due.take() {
            self.transmit_ack(now, Purpose::Report(stamp), line, out);
            return true;
        }
        if std::mem::take(&mut self.probe_due) {
            let left_at = self.transmit_ack(now, Purpose::Probe(self.outgoing.stamp()), line, out);
            self.outgoing.probed(left_at);
            self.timers.stop(Timer::Probe);
            self.expect_answer(left_at, &line.pace);
            return true;
        }
        if self.acknowledge == Acknowledge::First {
            self.transmit_ack(now, Purpose::Ack, line, out);
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
            self.transmit_ack(now, Purpose::Ack, line, out);
            return true;
        }
        false
    }

    fn transmit_ack(
        &mut self,
        now: Instant,
        purpose: Purpose,
        line: &mut Line,
        out: &mut Vec<u8>,
    ) -> Instant {
        let (ack, bitmap) = (self.incoming.ack(), self.incoming.bitmap());
        let ack = Ack { purpose, ack, bitmap };
        let left_at = line.transmit(now, &self.sending, &ack.encode(), out);
        self.timers.set(Timer::KeepAlive, now + line.pace.keep_alive());
        self.acknowledged();
        left_at
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
        self.timers.start(Timer::Probe, left_at + self.patience(&line.pace));
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
            || self.report_due.is_some()
            || self.outgoing.waiting().is_some()
            || (source_waits && self.has_room(pace))
    }

    fn has_room(&self, pace: &Pace) -> bool {
        self.outgoing.len() < usize::from(self.peer.window).min(WINDOW)
            && self.outgoing.flight_bytes() < self.flight_max(pace)
    }

    /// How many bytes may be in flight: what line and round trip explain, and the slack.
    fn flight_max(&self, pace: &Pace) -> usize {
        let round_trip = self.round_trip.least().unwrap_or_default().min(PATIENCE_MAX);
        let slack = FLIGHT_SLACK * self.segment_length(pace);
        pace.line_bytes(round_trip).map_or(usize::MAX, |bytes| bytes.saturating_add(slack))
    }

    /// How long new segments are at most.
    fn segment_length(&self, pace: &Pace) -> usize {
        let within = |time| pace.line_bytes(time).unwrap_or(SEGMENT_MAX);
        let least = within(SEGMENT_LEAST_TIME).clamp(usize::from(SEGMENT_MIN), SEGMENT_LEAST);
        let length = within(SEGMENT_TIME).clamp(least, SEGMENT_MAX);
        length.min(usize::from(self.peer.segment_max))
    }

    /// How long to wait for an acknowledgement once a segment or a probe has left the line: the
    /// round trip, the peer's delay, and the frames that may be on the line ahead of the answer.
    fn patience(&self, pace: &Pace) -> Duration {
        let patience = self.round_trip.patience() + ACK_DELAY + self.ahead(pace);
        (patience * (1 << self.backoff)).min(PATIENCE_MAX.max(patience))
    }

    /// How long to wait for one of several signs of life, see [`DOUBT_PROBES`].
    fn doubt_interval(&self, pace: &Pace) -> Duration {
        let patience = self.round_trip.patience().min(PATIENCE_MAX / DOUBT_PROBES);
        patience + ACK_DELAY + self.ahead(pace)
    }

    fn ahead(&self, pace: &Pace) -> Duration {
        pace.line_time(2 * self.segment_length(pace))
    }
}
