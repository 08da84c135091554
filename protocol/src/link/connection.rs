//! A connection while it lasts: what to send next, and what arrived.
//!
//! Whether the connection goes on is the endpoint's decision; this room never changes the state,
//! and never knows what a segment holds.

use super::{
    ACK_DELAY, HELLO_INTERVAL, HELLO_PAUSE_BYTES, PATIENCE_MAX, SEGMENT_SLOW, WINDOW,
    line::Line,
    packet::{self, Busy, Content, Hello, Near, Nonce, Opened, PART_UNIT, Packet},
    round_trip::RoundTrip,
    timer::{Timer, Timers},
    window::{Arrival, Incoming, Outgoing, Progress},
};
use crate::{
    frame::{self, Check, FrameKeys},
    time::{Duration, Instant},
};

/// At the latest every second segment is acknowledged.
const ACK_EVERY: u32 = 2;
/// The longest segments in flight beyond what line and round trip explain. If the line is a little
/// slower than it claims to be, this is what can pile up in a driver's buffer.
const FLIGHT_SLACK: usize = 6;
/// How often patience doubles at most: once, in case the way has become longer. More often would
/// only make a noisy line slow, as a question is short and nothing is sent again for lack of its
/// answer.
const BACKOFF_MAX: u32 = 1;
/// How often the peer is asked for a sign of life before a stranger's hello is believed: one
/// lost answer must not end a living connection.
const DOUBT_PROBES: u32 = 4;
/// How often the wait between our hellos doubles at most while nothing good comes.
const GREETS_MAX: u32 = 6;
/// The news of a gap travels with data whose frame takes the line no longer than this; ahead of
/// longer ones goes an Ack of its own.
const QUICK: Duration = Duration::from_millis(20);
/// When the reader has taken so many segments since the peer was told, it is told.
const WINDOW_NEWS: u64 = WINDOW as u64 / 4;

/// What both ends agreed on, and everything that ends with it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Hello,
    pub(super) timers: Timers,
    /// How often our hello went again as nothing good had come.
    greets: u32,
    doubt: Option<Doubt>,
    /// Who greets while the peer lives, and how much was sent before that: a later probe's report
    /// proves that the peer has outlived the greeting.
    stranger: Option<(Nonce, u64)>,
    /// Who is to be told that the peer lives.
    busy_due: Option<Nonce>,
    /// How the prefixes of the two directions' frames begin.
    sending: Vec<u8>,
    receiving: Vec<u8>,
    trust: Trust,
    is_heard: bool,
    /// How often the connection got on, see [`Self::progress`].
    progress: u64,
    /// How much had come that was not whole when the last good frame came.
    broken_before: u64,
    outgoing: Outgoing,
    incoming: Incoming,
    round_trip: RoundTrip,
    /// How often the probe timer ran out since a round trip was measured.
    backoff: u32,
    acknowledge: Acknowledge,
    /// Segments received since the last acknowledgement went.
    unacknowledged: u32,
    /// The last number that was acknowledged, and whether the reader was behind then.
    told: (u64, bool),
    probe_due: bool,
    /// The peer seems to take back what it said; the next probe will tell.
    verify: bool,
    /// The stamp of a probe that is to be answered.
    report_due: Option<u16>,
}

/// Who can make the frames of a connection.
#[derive(Debug)]
enum Trust {
    /// Anybody who heard the greeting: a CRC has no key.
    Anybody,
    /// We have the keys, and the peer soon: its first frame with a tag says so.
    Soon(FrameKeys),
    /// The two ends and nobody else.
    Keyed(FrameKeys),
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The peer's.
    Taken,
    /// Noise, or another connection's, or of the past.
    Broken,
    /// It answers our last question and contradicts an earlier frame: somebody forged one of them.
    Contradiction,
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
    /// It tells of a gap: before any data but the shortest.
    Gap,
    /// Before any data: being short, it gets through where data does not, and shows life.
    First,
}

impl Connection {
    /// A connection whose first frame is an Ack: the peer then knows that its hello was heard.
    pub(super) fn new(now: Instant, ours: Nonce, peer: Hello, line: &Line) -> Self {
        let mut timers = Timers::default();
        timers.set(Timer::Silence, now + line.pace.silence());
        timers.set(Timer::Greet, now + greet_interval(line, 0));
        Self {
            greets: 0,
            timers,
            doubt: None,
            stranger: None,
            busy_due: None,
            sending: packet::identity(ours, peer.nonce),
            receiving: packet::identity(peer.nonce, ours),
            trust: Trust::Anybody,
            is_heard: false,
            progress: 0,
            broken_before: line.not_whole(),
            peer,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            round_trip: RoundTrip::default(),
            backoff: 0,
            acknowledge: Acknowledge::First,
            unacknowledged: 0,
            told: (0, false),
            probe_due: false,
            verify: false,
            report_due: None,
        }
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.smoothed()
    }

    /// Both ends share keys, or soon will: from then on no frame counts that was made without.
    /// With `peer_has_them` that is now, else with the peer's first frame that shows it.
    ///
    /// What anybody may have sent, and nobody has read, is forgotten: an honest peer sends it
    /// again, with a tag, if it was its own.
    pub(super) fn secure(&mut self, keys: FrameKeys, peer_has_them: bool) {
        self.incoming.forget_unread();
        self.trust = if peer_has_them { Trust::Keyed(keys) } else { Trust::Soon(keys) };
    }

    fn trust_the_keys_alone(&mut self) {
        self.trust = match std::mem::replace(&mut self.trust, Trust::Anybody) {
            Trust::Soon(keys) => Trust::Keyed(keys),
            other => other,
        };
    }

    /// Whether any good frame came: if not, the peer may believe in another hello than ours.
    pub(super) fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// Rises when something arrives or is known to have arrived for the first time, and when a
    /// frame comes through after others did not: while it rests, nothing is under way, or the
    /// line is cut.
    pub(super) fn progress(&self) -> u64 {
        self.progress
    }

    /// The stamp of the last probe.
    #[cfg(test)]
    pub(super) fn last_probe(&self) -> u16 {
        self.outgoing.last_probe()
    }

    /// The next segment in order.
    pub(super) fn read(&mut self) -> Option<Vec<u8>> {
        let segment = self.incoming.read()?;
        // The peer may be waiting for the room that this makes.
        let (number, was_behind) = self.told;
        let caught_up = was_behind && !self.incoming.holds_unread();
        if caught_up || self.incoming.ack() >= number + WINDOW_NEWS {
            self.acknowledge = self.acknowledge.max(Acknowledge::Now);
        }
        Some(segment)
    }

    /// Nothing good came yet: each end may believe in a hello that somebody forged, and then no
    /// frame of either is good at the other.
    pub(super) fn greet_again(&mut self, now: Instant, line: &Line) {
        self.greets += 1;
        self.timers.set(Timer::Greet, now + greet_interval(line, self.greets));
    }

    /// An Ack goes before anything else.
    pub(super) fn acknowledge_first(&mut self) {
        self.acknowledge = Acknowledge::First;
    }

    /// A hello came that is not the peer's: asks the peer for signs of life, see
    /// [`Self::believe`].
    pub(super) fn doubt(&mut self, now: Instant, hello: Hello, line: &Line) {
        let probes_left = self.doubt.as_ref().map_or(DOUBT_PROBES, |doubt| doubt.probes_left);
        self.doubt = Some(Doubt { hello, probes_left });
        if self.stranger.is_none_or(|(nonce, _)| nonce != hello.nonce) {
            self.stranger = Some((hello.nonce, self.outgoing.transmissions()));
        }
        self.probe_due = true;
        self.timers.start(Timer::Doubt, now + self.doubt_interval(line));
    }

    /// The peer did not answer: the hello to believe instead, once it was asked often enough.
    pub(super) fn believe(&mut self, now: Instant, line: &Line) -> Option<Hello> {
        let doubt = self.doubt.as_mut()?;
        doubt.probes_left -= 1;
        if doubt.probes_left == 0 {
            return self.doubt.take().map(|doubt| doubt.hello);
        }
        self.probe_due = true;
        self.timers.start(Timer::Doubt, now + self.doubt_interval(line));
        None
    }

    //------------ Input -----------------------------------------------------

    /// Whether a frame is the peer's; only a peer that heard our nonce can make one.
    pub(super) fn owns(&self, sealed: &frame::Sealed) -> bool {
        self.open(sealed).0 != Opened::Broken
    }

    /// What it is, and whether a tag says so.
    fn open<'a>(&self, sealed: &'a frame::Sealed) -> (Opened<'a>, bool) {
        let near = Near { incoming: self.incoming.ack(), outgoing: self.outgoing.first() };
        let open = |check| Packet::open(sealed, check, &self.receiving, near);
        if let Trust::Soon(keys) | Trust::Keyed(keys) = &self.trust {
            let opened = open(Check::Key(&keys.receiving));
            if opened != Opened::Broken || matches!(self.trust, Trust::Keyed(_)) {
                return (opened, true);
            }
        }
        let opened = open(Check::Crc);
        if let (Trust::Soon(_), Opened::Packet(packet)) = (&self.trust, &opened)
            && packet.seq().is_some_and(|seq| seq >= self.incoming.ack())
        {
            // Whoever has something new to say has the keys by now.
            return (Opened::Broken, false);
        }
        (opened, false)
    }

    /// Takes a frame if it is the peer's.
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        sealed: &frame::Sealed,
        line: &mut Line,
    ) -> Heard {
        let (opened, is_keyed) = self.open(sealed);
        if opened == Opened::Broken {
            return Heard::Broken;
        }
        line.counters.frames_received += 1;
        self.is_heard = true;
        let broken = line.not_whole();
        self.progress += u64::from(std::mem::replace(&mut self.broken_before, broken) != broken);
        if is_keyed {
            self.trust_the_keys_alone();
        }
        self.timers.set(Timer::Silence, now + line.pace.silence());
        self.timers.stop(Timer::Greet);
        self.timers.stop(Timer::Doubt);
        self.doubt = None;
        let Opened::Packet(packet) = opened else {
            line.counters.frames_malformed += 1;
            return Heard::Taken;
        };
        let heard = match packet.content {
            Content::Data { .. } | Content::Part { .. } => self.handle_data(now, &packet, line),
            _ => self.handle_ack(now, &packet, line),
        };
        heard.unwrap_or_else(|| {
            line.counters.frames_malformed += 1;
            Heard::Taken
        })
    }

    fn handle_data(&mut self, now: Instant, packet: &Packet<'_>, line: &mut Line) -> Option<Heard> {
        self.take_acknowledgement(now, packet, line)?;
        let (length, arrival) = match packet.content {
            Content::Part { seq, offset, total, payload } => {
                line.counters.parts_received += 1;
                (total.into(), self.incoming.accept_part(seq, offset, total, payload))
            }
            Content::Data { seq, payload } => (payload.len(), self.incoming.accept(seq, payload)),
            Content::Ack | Content::Probe(_) | Content::Report(_) => return None,
        };
        self.progress += u64::from(!matches!(arrival, Arrival::Duplicate | Arrival::BeyondWindow));
        match arrival {
            Arrival::InOrder | Arrival::Ahead => {
                line.counters.segments_received += 1;
                line.counters.payload_received += length as u64;
            }
            Arrival::Duplicate => line.counters.segments_duplicate += 1,
            Arrival::BeyondWindow => line.counters.segments_beyond_window += 1,
            Arrival::Partly => {}
        }
        self.unacknowledged += 1;
        if arrival != Arrival::InOrder || self.incoming.has_gap() {
            self.acknowledge = self.acknowledge.max(Acknowledge::Gap);
        } else if self.unacknowledged >= ACK_EVERY {
            self.acknowledge = self.acknowledge.max(Acknowledge::Now);
        } else {
            self.timers.start(Timer::Ack, now + ACK_DELAY);
        }
        Some(Heard::Taken)
    }

    fn handle_ack(&mut self, now: Instant, packet: &Packet<'_>, line: &mut Line) -> Option<Heard> {
        let mut is_fresh = false;
        match packet.content {
            Content::Probe(stamp) => self.report_due = Some(stamp),
            Content::Report(stamp) => {
                let reported = self.outgoing.report(now, stamp)?;
                self.measured(reported.round_trip);
                self.dispel_stranger(reported.transmission);
                is_fresh = reported.is_fresh;
                // What was lost will be sent again, and waited for anew.
                self.timers.stop(Timer::Probe);
            }
            _ => {}
        }
        let progress = self.take_acknowledgement(now, packet, line);
        self.expect_answer(now, line);
        // What has arrived does not go away, and what was not sent does not arrive, so somebody
        // else spoke for the peer, or for us. What was forged cannot be told from what is true:
        // nothing of the connection can be relied on.
        if is_fresh && progress.as_ref().is_none_or(|progress| progress.takes_back) {
            return Some(Heard::Contradiction);
        }
        progress.map(|_| Heard::Taken)
    }

    fn take_acknowledgement(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        line: &mut Line,
    ) -> Option<Progress> {
        let progress = self.outgoing.acknowledge(now, packet.ack, &packet.bitmap);
        if progress.as_ref().is_none_or(|progress| progress.takes_back) {
            // An old frame that came twice, or a lie: a report will tell.
            self.timers.start(Timer::Probe, now + self.patience(line));
            self.verify = true;
        }
        let progress = progress?;
        self.measured(progress.round_trip);
        line.noise.learn(progress.fates);
        if progress.any {
            self.progress += 1;
            self.timers.stop(Timer::Probe);
            self.expect_answer(now, line);
        }
        Some(progress)
    }

    /// The peer lives after all: whoever greeted is told, so that a person can be.
    fn dispel_stranger(&mut self, reported: u64) {
        if let Some((nonce, _)) = self.stranger.take_if(|(_, sent)| reported > *sent) {
            self.busy_due = Some(nonce);
        }
    }

    fn measured(&mut self, sample: Option<Duration>) {
        if let Some(sample) = sample {
            self.round_trip.sample(sample);
            self.backoff = 0;
        }
    }

    /// Starts the probe timer, if it does not run and something is in flight.
    fn expect_answer(&mut self, now: Instant, line: &Line) {
        if let Some(left_at) = self.outgoing.oldest_left_at() {
            self.timers.start(Timer::Probe, left_at.max(now) + self.patience(line));
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
            Timer::Probe if self.verify => self.probe_due = true,
            Timer::Probe | Timer::Silence | Timer::Doubt | Timer::Greet => {}
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
            self.transmit_ack(now, Content::Report(stamp), line, out);
            return true;
        }
        if std::mem::take(&mut self.probe_due) {
            let content = Content::Probe(self.outgoing.stamp());
            let left_at = self.transmit_ack(now, content, line, out);
            self.verify = false;
            self.outgoing.probed(left_at);
            self.timers.stop(Timer::Probe);
            self.expect_answer(left_at, line);
            return true;
        }
        if let Some(stranger) = self.busy_due.take() {
            let side = self.peer.side.other();
            let busy = Busy { side, receiver: Some(stranger) };
            line.transmit(now, Check::Crc, packet::HELLO_PREFIX, &busy.encode(), out);
            return true;
        }
        let length_max = self.segment_length(line);
        let is_quick = line.pace.line_time(length_max) <= QUICK;
        if self.acknowledge == Acknowledge::First
            || (self.acknowledge == Acknowledge::Gap && !is_quick)
        {
            self.transmit_ack(now, Content::Ack, line, out);
            return true;
        }
        if let Some(number) = self.outgoing.waiting() {
            self.transmit_segment(now, number, line, out);
            return true;
        }
        if self.has_room(line)
            && let Some(payload) = source(length_max)
        {
            let length_max = length_max.max(SEGMENT_SLOW);
            assert!(!payload.is_empty() && payload.len() <= length_max, "source keeps its bounds");
            let number = self.outgoing.push(payload);
            self.transmit_segment(now, number, line, out);
            return true;
        }
        if self.acknowledge != Acknowledge::Later {
            self.transmit_ack(now, Content::Ack, line, out);
            return true;
        }
        false
    }

    fn transmit_ack(
        &mut self,
        now: Instant,
        content: Content<'_>,
        line: &mut Line,
        out: &mut Vec<u8>,
    ) -> Instant {
        let left_at = self.transmit_packet(now, content, line, out);
        self.timers.set(Timer::KeepAlive, now + line.pace.keep_alive());
        self.acknowledged();
        left_at
    }

    fn transmit_segment(&mut self, now: Instant, number: u64, line: &mut Line, out: &mut Vec<u8>) {
        let length = self.segment_length(line);
        let payload = self.outgoing.payload(number);
        let left_at = match self.outgoing.part_from(number, length) {
            None => {
                let content = Content::Data { seq: number, payload };
                let left_at = self.transmit_packet(now, content, line, out);
                match self.outgoing.sent(number, left_at) {
                    true => line.counters.segments_repeated += 1,
                    false => line.counters.segments_sent += 1,
                }
                left_at
            }
            Some(start) => {
                let part = (length / PART_UNIT).max(1) * PART_UNIT;
                let (total, end) = (payload.len() as u16, payload.len().min(start + part));
                let (offset, payload) = (start as u16, &payload[start..end]);
                let content = Content::Part { seq: number, offset, total, payload };
                let left_at = self.transmit_packet(now, content, line, out);
                self.outgoing.sent_part(number, end, left_at);
                line.counters.parts_sent += 1;
                left_at
            }
        };
        self.timers.start(Timer::Probe, left_at + self.patience(line));
        self.acknowledged();
    }

    /// Returns when the line will have carried it.
    fn transmit_packet(
        &self,
        now: Instant,
        content: Content<'_>,
        line: &mut Line,
        out: &mut Vec<u8>,
    ) -> Instant {
        let (ack, bitmap) = (self.incoming.ack(), self.incoming.bitmap());
        let (prefix, body) = Packet { ack, bitmap, content }.encode(&self.sending);
        let check = match &self.trust {
            Trust::Keyed(keys) => Check::Key(&keys.sending),
            Trust::Anybody | Trust::Soon(_) => Check::Crc,
        };
        line.transmit(now, check, &prefix, &body, out)
    }

    /// Every packet says all that has arrived.
    fn acknowledged(&mut self) {
        self.acknowledge = Acknowledge::Later;
        self.unacknowledged = 0;
        self.told = (self.incoming.ack(), self.incoming.holds_unread());
        self.timers.stop(Timer::Ack);
    }

    /// Whether anything could be sent if the line were free.
    pub(super) fn wants_to_send(&self, source_waits: bool, line: &Line) -> bool {
        self.acknowledge != Acknowledge::Later
            || self.probe_due
            || self.report_due.is_some()
            || self.busy_due.is_some()
            || self.outgoing.waiting().is_some()
            || (source_waits && self.has_room(line))
    }

    fn has_room(&self, line: &Line) -> bool {
        self.outgoing.len() < usize::from(self.peer.window).min(WINDOW)
            && self.outgoing.flight_bytes() < self.flight_max(line)
    }

    /// How many bytes may be in flight: what line and round trip explain, and the slack.
    fn flight_max(&self, line: &Line) -> usize {
        let round_trip = self.round_trip.least().unwrap_or_default().min(PATIENCE_MAX);
        let slack = FLIGHT_SLACK * line.noise.longest();
        line.pace.line_bytes(round_trip).map_or(usize::MAX, |bytes| bytes.saturating_add(slack))
    }

    /// How long new segments are at most.
    fn segment_length(&self, line: &Line) -> usize {
        line.noise.segment_length().min(usize::from(self.peer.segment_max))
    }

    /// How long to wait for an acknowledgement once a segment or a probe has left the line: the
    /// round trip, the peer's delay, and the frames that may be on the line ahead of the answer.
    fn patience(&self, line: &Line) -> Duration {
        let patience = self.round_trip.patience() + ACK_DELAY + self.ahead(line);
        (patience * (1 << self.backoff)).min(PATIENCE_MAX.max(patience))
    }

    /// How long to wait for one of several signs of life, see [`DOUBT_PROBES`].
    fn doubt_interval(&self, line: &Line) -> Duration {
        let patience = self.round_trip.patience().min(PATIENCE_MAX / DOUBT_PROBES);
        patience + ACK_DELAY + self.ahead(line)
    }

    fn ahead(&self, line: &Line) -> Duration {
        line.pace.line_time(2 * self.segment_length(line))
    }
}

/// How long to wait for the first good frame before our hello goes again: ever longer, as the line
/// may just be slower than we know.
fn greet_interval(line: &Line, greets: u32) -> Duration {
    let interval = HELLO_INTERVAL.max(line.pace.line_time(HELLO_PAUSE_BYTES));
    interval * (2 << greets.min(GREETS_MAX))
}
