//! The link: one connection at a time over a bad cable, segments in order, each at most once.
//!
//! [`Endpoint`] is sans-IO and the same type at both ends. It says hello until both ends have
//! heard each other, numbers and acknowledges segments, repeats lost ones, shows life, and starts
//! again when the peer is silent or new. Segments are as long as is best for the noise on the
//! line. It never looks into a segment, and what one means is for the session to find out. Until
//! the session has found out who the peer is, frames have a CRC and anybody may have written them;
//! from [`Endpoint::secure`] on they have a tag that only the two ends can make.
//!
//! Memory, whatever the peer sends: at most [`WINDOW`] segments of [`SEGMENT_MAX`] bytes sent and
//! as many received, one frame, and what one `poll_transmit` hands out: 1.1 MiB.
//!
//! | state | event | next state | what happens |
//! |---|---|---|---|
//! | Greeting | Hello of our own side | Greeting | counted: the line is looped back |
//! | Greeting | Hello without a common version | Greeting | `Incompatible`, our hello, slow repetition |
//! | Greeting | Hello that does not echo our nonce | Greeting | remember the peer, answer with its echo |
//! | Greeting | Hello that echoes our nonce | Established | `Up`, an Ack |
//! | Greeting | good frame under peer's and our nonce | Established | `Up`: the peer heard us |
//! | Greeting | Busy for our nonce or for nobody | Greeting | `Occupied`, our next hello later |
//! | Greeting | any other frame | Greeting | counted |
//! | Greeting | timer Hello | Greeting | our hello again |
//! | Established | good Data, Part, Ack, Probe, Report | Established | as the window says |
//! | Established | good Report that contradicts what was acknowledged | Greeting | `Down`, our hello with a fresh nonce |
//! | Established | Hello of the same nonce | Established | an Ack, or our hello if it echoes another |
//! | Established | Hello of the peer's next incarnation | Greeting | `Down`, answer with its echo |
//! | Established | Hello of an earlier incarnation | Established | stale bytes, or ours of the peer was forged: counted, a Probe, timer Doubt |
//! | Established | Hello of a stranger | Established | a Probe, timer Doubt |
//! | Established | timer Greet, until the first good frame | Established | our hello again |
//! | Established | good frame while Doubt runs | Established | the peer lives: Doubt stops |
//! | Established | good Report to a Probe after a stranger's Hello | Established | Busy for the stranger |
//! | Established | timer Doubt, up to three times | Established | another Probe, timer Doubt |
//! | Established | timer Doubt, fourth time | Greeting | `Down`, answer the stranger with its echo |
//! | Established | timer Silence | Greeting | `Down`, our hello with a fresh nonce |
//! | Established | Busy, or any other frame | Established | counted |
//!
//! For [`RECONNECT_INTERVAL`] after `Up` no other connection begins: a Greeting that starts within
//! it hears, but says nothing and never leaves.

mod connection;
mod error;
mod line;
mod noise;
mod pace;
mod packet;
mod round_trip;
#[cfg(test)]
mod tests;
mod timer;
mod window;

use std::collections::VecDeque;

pub use error::DownReason;
pub use line::LinkCounters;
pub use noise::SEGMENT_MIN;
pub use packet::{HELLO_PREFIX, KINDS, Nonce, Side};

use self::{
    connection::{Connection, Heard},
    line::Line,
    packet::{Busy, Claim, Hello},
    timer::Timer,
};
use crate::{
    frame::{self, Check, FrameKeys},
    time::{Duration, Instant},
    version,
};

/// The longest segment. On a paced line the sender chooses shorter ones, see [`SEGMENT_TIME`].
pub const SEGMENT_MAX: usize = 4096;
/// Segments that may be on their way, and that a receiver keeps ahead of a gap. Their numbers
/// travel as eight bits.
pub const WINDOW: usize = 128;
/// How long one segment may occupy a paced line: what is urgent waits for at most that and the
/// lead of `line`. The frame's own bytes are then 1.5 % of it at 115,200 baud. On a noisy line
/// segments are shorter, see [`SEGMENT_MIN`].
pub const SEGMENT_TIME: Duration = Duration::from_millis(64);
/// On slow lines a segment shorter than this would be mostly header; see
/// [`SEGMENT_LEAST_TIME`].
pub const SEGMENT_LEAST: usize = 256;
/// On very slow lines segments are shorter still, down to [`SEGMENT_SLOW`] bytes, if
/// [`SEGMENT_LEAST`] bytes would take longer than this.
pub const SEGMENT_LEAST_TIME: Duration = Duration::from_secs(1);
/// No line is so slow that segments are shorter than this, and every receiver takes as much.
pub const SEGMENT_SLOW: usize = 64;

/// How often an endpoint says hello until it is answered: the link is back this soon, and a
/// little more, after a noise or a cut.
pub const HELLO_INTERVAL: Duration = Duration::from_millis(500);
/// On a line that takes longer than [`HELLO_INTERVAL`] for so many bytes, hellos come only as
/// often: they take an eighth of it.
pub const HELLO_PAUSE_BYTES: usize = 8 * Hello::LEN;
/// How long it waits with the next hello when it was told that the peer talks with somebody else:
/// that one should not be disturbed, and the place should not stay empty for long.
pub const HELLO_INTERVAL_OCCUPIED: Duration = Duration::from_secs(2);
/// How often it says hello to a peer that speaks no common version.
pub const HELLO_INTERVAL_INCOMPATIBLE: Duration = Duration::from_secs(3);
/// Two connections begin at least this long after each other, whatever the peer does: a fault
/// that ends each of them at once, such as patches that cannot be undone, does not fill the line.
pub const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// An endpoint sends an Ack at least this often, also while data goes: being short, it gets
/// through noise that breaks every segment, and the peer knows that the line lives.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// After so long without a good frame the peer counts as gone: four lost keep-alives.
pub const SILENCE: Duration = Duration::from_secs(10);
/// A line that takes longer than [`SILENCE`] for so many bytes has as long for its silence, and a
/// fifth of that between keep-alives: about four of its segments with an Ack each.
pub const SILENCE_BYTES: usize = 512;
/// How long an acknowledgement may wait for data to travel with.
pub const ACK_DELAY: Duration = Duration::from_millis(25);
/// The longest wait for an acknowledgement before the peer is asked what has arrived, and between
/// two such questions, unless the line itself takes longer: the link is in motion again soon after
/// a noise ends. A question is short, so it need not become rare.
pub const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// Enough bytes for one write to the line.
const TRANSMIT_ENOUGH: usize = 16 * 1024;

const _: () = assert!(SEGMENT_MAX <= u16::MAX as usize && WINDOW.is_multiple_of(8));
const _: () = assert!(SILENCE.as_millis() > 4 * KEEP_ALIVE.as_millis());

/// What distinguishes one endpoint from another.
#[derive(Clone, Copy, Debug)]
pub struct EndpointConfig {
    /// Which end of the cable this is.
    pub side: Side,
    /// Random, once per start of the process: two runs of a program are never the same peer.
    pub boot_id: u64,
    /// Bytes per second that the line carries; `None` for a line without a limit.
    pub line_rate: Option<u32>,
}

/// What the endpoint tells the layer above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new connection: nothing of an earlier one will arrive any more.
    Up {
        /// The peer could not undo a patch and wants this connection without references.
        plain: bool,
    },
    /// The connection ended; the endpoint already looks for the next one.
    Down {
        /// Why.
        reason: DownReason,
    },
    /// The peer speaks no common version. Told once per peer; nobody need act but a person.
    Incompatible {
        /// The oldest and the newest version of the peer.
        theirs: (u8, u8),
    },
    /// Another program on our side of the cable talks with the peer. Told once until `Up`; the
    /// endpoint waits for its turn.
    Occupied,
}

/// One end of the link.
///
/// The contract is that of all state machines here: `handle_*` and commands change the state;
/// after any of them drain `poll_transmit`, `poll_event` and `poll_segment`, then ask
/// `poll_timeout` when to call `handle_timeout` at the latest. Time never goes backwards.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    nonce: Nonce,
    /// Whether our hellos ask for a connection without references.
    plain: bool,
    state: State,
    /// When the last connection began.
    connected_at: Option<Instant>,
    /// The peer that was last told to be incompatible, and when.
    incompatible_told: Option<(Nonce, Instant)>,
    /// Whether `Occupied` was told since the last connection.
    occupied_told: bool,
    /// A hello must go as soon as it may.
    hello_due: bool,
    /// When the pauses of all hellos that went will be over: where old hellos come by the dozen,
    /// answers must not take their place on the line. See [`Self::hello_opens_at`].
    hello_rests_until: Instant,
    decoder: frame::Decoder,
    line: Line,
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum State {
    Greeting(Greeting),
    Established(Box<Connection>),
}

/// Until both ends have heard each other.
#[derive(Debug, Default)]
struct Greeting {
    /// The last compatible hello.
    peer: Option<Hello>,
    /// Whether the last hello was incompatible.
    incompatible: bool,
    /// When to say hello again.
    hello_at: Option<Instant>,
}

//------------ Input ---------------------------------------------------------

impl Endpoint {
    /// An endpoint that says hello at once.
    pub fn new(config: EndpointConfig, now: Instant) -> Self {
        let mut endpoint = Self {
            nonce: Nonce { boot_id: config.boot_id, incarnation: 0 },
            plain: false,
            state: State::Greeting(Greeting::default()),
            connected_at: None,
            incompatible_told: None,
            occupied_told: false,
            hello_due: false,
            hello_rests_until: now,
            decoder: frame::Decoder::default(),
            line: Line::new(config.line_rate, now),
            events: VecDeque::new(),
            config,
        };
        endpoint.greet(None, false);
        endpoint
    }

    /// Takes what came from the line, in pieces of any length.
    pub fn handle_bytes(&mut self, now: Instant, mut bytes: &[u8]) {
        self.line.counters.bytes_received += bytes.len() as u64;
        while let Some(sealed) = self.decoder.next(&mut bytes) {
            self.line.unreadable = self.decoder.broken() + self.decoder.oversized();
            match Claim::of(&sealed) {
                Claim::Hello => self.handle_hello_frame(now, &sealed),
                Claim::Busy => self.handle_busy_frame(now, &sealed),
                Claim::Packet => self.handle_connection_frame(now, &sealed),
                Claim::Unknown => self.line.counters.frames_broken += 1,
            }
        }
    }

    /// Runs the timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        loop {
            match &mut self.state {
                State::Greeting(greeting) => {
                    if greeting.hello_at.take_if(|at| *at <= now).is_some() {
                        self.hello_due = true;
                    }
                    return;
                }
                State::Established(connection) => match connection.timers.expire(now) {
                    None => return,
                    Some(Timer::Silence) => {
                        let seconds = self.line.pace.silence().as_secs();
                        self.disconnect(DownReason::Silence { seconds });
                    }
                    Some(Timer::Doubt) => {
                        if let Some(stranger) = connection.believe(now, &self.line) {
                            let reason = DownReason::PeerRestarted;
                            self.events.push_back(Event::Down { reason });
                            self.greet(Some(stranger), false);
                        }
                    }
                    Some(Timer::Greet) => {
                        connection.greet_again(now, &self.line);
                        self.hello_due = true;
                    }
                    Some(timer) => connection.handle_timer(timer, &mut self.line),
                },
            }
        }
    }

    /// Ends the connection, if there is one, and looks for the next.
    pub fn disconnect(&mut self, reason: DownReason) {
        if let State::Established(_) = self.state {
            self.events.push_back(Event::Down { reason });
            self.greet(None, matches!(reason, DownReason::PatchFailed(_)));
        }
    }

    fn handle_hello_frame(&mut self, now: Instant, sealed: &frame::Sealed) {
        let counters = &mut self.line.counters;
        let Some(body) = sealed.open(HELLO_PREFIX) else {
            counters.frames_broken += 1;
            return;
        };
        counters.frames_received += 1;
        match Hello::parse(body) {
            None => counters.frames_malformed += 1,
            Some(hello) if hello.side == self.config.side => counters.hellos_reflected += 1,
            Some(hello) => self.handle_hello(now, hello),
        }
    }

    fn handle_hello(&mut self, now: Instant, hello: Hello) {
        let may_connect = self.may_greet_at() <= now;
        match &mut self.state {
            State::Greeting(greeting) if agreed(&hello) => {
                greeting.peer = Some(hello);
                greeting.incompatible = false;
                match hello.echo == Some(self.nonce) && may_connect {
                    true => self.establish(now, hello),
                    false => self.hello_due = true,
                }
            }
            State::Greeting(greeting) => {
                greeting.peer = None;
                greeting.incompatible = true;
                self.tell_incompatible(now, &hello);
            }
            State::Established(connection) => {
                let (new, old) = (hello.nonce, connection.peer.nonce);
                if new == old && hello.echo == Some(self.nonce) {
                    // The peer does not know yet that we heard it.
                    connection.acknowledge_first();
                } else if new == old {
                    self.hello_due = true;
                } else if new.boot_id == old.boot_id && new.incarnation > old.incarnation {
                    self.events.push_back(Event::Down { reason: DownReason::PeerRestarted });
                    self.greet(Some(hello), false);
                } else {
                    // Whoever forges a later incarnation makes the true one look stale, so that
                    // is believed no more than a stranger is.
                    self.line.counters.hellos_stale += u64::from(new.boot_id == old.boot_id);
                    connection.doubt(now, hello, &self.line);
                }
            }
        }
    }

    /// Answers and tells, but not the same peer twice, and not often however many come.
    fn tell_incompatible(&mut self, now: Instant, hello: &Hello) {
        let told = self.incompatible_told.is_some_and(|(nonce, at)| {
            nonce == hello.nonce || now < at + HELLO_INTERVAL_INCOMPATIBLE
        });
        if !told {
            self.incompatible_told = Some((hello.nonce, now));
            self.events.push_back(Event::Incompatible { theirs: hello.versions });
            self.hello_due = true;
        }
    }

    fn handle_busy_frame(&mut self, now: Instant, sealed: &frame::Sealed) {
        let counters = &mut self.line.counters;
        let Some(body) = sealed.open(HELLO_PREFIX) else {
            counters.frames_broken += 1;
            return;
        };
        counters.frames_received += 1;
        let Some(busy) = Busy::parse(body) else {
            counters.frames_malformed += 1;
            return;
        };
        let is_ours = busy.side != self.config.side
            && busy.receiver.is_none_or(|receiver| receiver == self.nonce);
        let State::Greeting(greeting) = &mut self.state else { return };
        if !is_ours {
            return;
        }
        counters.busies_received += 1;
        self.hello_due = false;
        let pause = self.line.pace.line_time(HELLO_PAUSE_BYTES);
        greeting.hello_at = Some(now + HELLO_INTERVAL_OCCUPIED.max(pause));
        if !std::mem::replace(&mut self.occupied_told, true) {
            self.events.push_back(Event::Occupied);
        }
    }

    fn handle_connection_frame(&mut self, now: Instant, sealed: &frame::Sealed) {
        if let State::Greeting(greeting) = &self.state {
            let known = greeting.peer.filter(|_| self.may_greet_at() <= now);
            let Some(peer) = known else {
                self.line.counters.frames_stray += 1;
                return;
            };
            // Only a peer that heard our nonce can make a frame that opens.
            if !Connection::new(now, self.nonce, peer, &self.line).owns(sealed) {
                self.line.counters.frames_broken += 1;
                return;
            }
            self.establish(now, peer);
        }
        let State::Established(connection) = &mut self.state else { return };
        match connection.handle_frame(now, sealed, &mut self.line) {
            Heard::Taken => {}
            Heard::Broken => self.line.counters.frames_broken += 1,
            Heard::Contradiction => {
                let what = "it no longer has what it acknowledged, or somebody else is on the line";
                self.disconnect(DownReason::PeerMisbehaved { what });
            }
        }
    }
}

/// Whether we speak a version that the sender of `hello` speaks.
fn agreed(hello: &Hello) -> bool {
    version::agree((version::VERSION_MIN, version::VERSION_CURRENT), hello.versions).is_some()
}

//------------ Changes of state ----------------------------------------------

impl Endpoint {
    /// Starts the next attempt with a nonce of its own.
    fn greet(&mut self, peer: Option<Hello>, plain: bool) {
        self.nonce.incarnation = self.nonce.incarnation.wrapping_add(1).max(1);
        self.plain = plain;
        let peer = peer.filter(agreed);
        self.state = State::Greeting(Greeting { peer, ..Greeting::default() });
        self.hello_due = true;
    }

    fn establish(&mut self, now: Instant, peer: Hello) {
        let connection = Connection::new(now, self.nonce, peer, &self.line);
        self.state = State::Established(Box::new(connection));
        self.connected_at = Some(now);
        self.hello_due = false;
        self.occupied_told = false;
        self.line.counters.connections += 1;
        self.events.push_back(Event::Up { plain: peer.plain });
    }

    /// What both ends believe of the present connection, for the session to compare under its own
    /// seal: the version, then the hello of the frontend and that of the signer, with the echoes
    /// left out. Whoever changed either on its way made two different bindings.
    pub fn binding(&self) -> Option<Vec<u8>> {
        let State::Established(connection) = &self.state else { return None };
        let peer = connection.peer;
        let ours = (version::VERSION_MIN, version::VERSION_CURRENT);
        let mut binding = vec![version::agree(ours, peer.versions)?];
        let mut hellos = [self.hello(), peer];
        if self.config.side == Side::Signer {
            hellos.reverse();
        }
        for hello in hellos {
            binding.extend(Hello { echo: None, ..hello }.encode());
        }
        Some(binding)
    }

    /// From now on only those who have the keys can speak for either end of the connection: what
    /// anybody else sends in it is noise. A Hello still has a CRC, and a newer one of the peer's
    /// ends the connection. `peer_has_them` says whether the peer has the keys too; else it will,
    /// and its first frame with a tag says so.
    pub fn secure(&mut self, keys: FrameKeys, peer_has_them: bool) {
        if let State::Established(connection) = &mut self.state {
            connection.secure(keys, peer_has_them);
        }
    }

    /// Whether anybody has spoken in the present connection.
    pub fn is_heard(&self) -> bool {
        matches!(&self.state, State::Established(connection) if connection.is_heard())
    }

    /// Changes whenever the connection gets on: something arrived, or is known to have arrived,
    /// or a frame came through after noise. Keep-alives alone do not change it.
    pub fn progress(&self) -> u64 {
        match &self.state {
            State::Established(connection) => connection.progress(),
            State::Greeting(_) => 0,
        }
    }

    /// When the next connection may begin.
    fn may_greet_at(&self) -> Instant {
        self.connected_at.map_or(Instant::ZERO, |at| at + RECONNECT_INTERVAL)
    }

    /// When a hello may leave.
    fn hello_opens_at(&self) -> Instant {
        // One may go ahead of its time: greeting takes two, and they often follow each other.
        let rested_at = self.hello_rests_until - self.hello_rest();
        let opens_at = self.line.pace.opens_at().max(rested_at);
        match self.state {
            State::Greeting(_) => self.may_greet_at().max(opens_at),
            State::Established(_) => opens_at,
        }
    }

    /// How long a hello keeps the one after the next waiting.
    fn hello_rest(&self) -> Duration {
        self.line.pace.line_time(HELLO_PAUSE_BYTES).min(HELLO_INTERVAL)
    }

    fn hello(&self) -> Hello {
        let peer = match &self.state {
            State::Greeting(greeting) => greeting.peer,
            State::Established(connection) => Some(connection.peer),
        };
        Hello {
            side: self.config.side,
            versions: (version::VERSION_MIN, version::VERSION_CURRENT),
            plain: self.plain,
            nonce: self.nonce,
            echo: peer.map(|hello| hello.nonce),
            segment_max: SEGMENT_MAX as u16,
            window: WINDOW as u16,
        }
    }
}

//------------ Output --------------------------------------------------------

impl Endpoint {
    /// The next frames for the line, or `None` until `poll_timeout` or another call. A new
    /// segment is taken from `source`, which is told how long it may be, only when it leaves at
    /// once: until then what is more urgent can still overtake it. What must stay in one piece
    /// may always have [`SEGMENT_SLOW`] bytes.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        mut source: impl FnMut(usize) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < TRANSMIT_ENOUGH && self.line.pace.is_open(now) {
            if self.hello_due && self.hello_opens_at() <= now {
                self.hello_due = false;
                self.transmit_hello(now, &mut out);
                continue;
            }
            let State::Established(connection) = &mut self.state else { break };
            if !connection.transmit(now, &mut source, &mut self.line, &mut out) {
                break;
            }
        }
        (!out.is_empty()).then_some(out)
    }

    fn transmit_hello(&mut self, now: Instant, out: &mut Vec<u8>) {
        let hello = self.hello();
        self.line.transmit(now, Check::Crc, HELLO_PREFIX, &hello.encode(), out);
        let pause = self.line.pace.line_time(HELLO_PAUSE_BYTES);
        self.hello_rests_until = self.hello_rests_until.max(now) + self.hello_rest();
        if let State::Greeting(greeting) = &mut self.state {
            let interval = match greeting.incompatible {
                true => HELLO_INTERVAL_INCOMPATIBLE,
                false => HELLO_INTERVAL,
            };
            // On a very slow line hellos must not follow each other without a pause.
            greeting.hello_at = Some(now + interval.max(pause));
        }
    }

    /// The next change of the connection.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next segment of the present connection, in order.
    pub fn poll_segment(&mut self) -> Option<Vec<u8>> {
        match &mut self.state {
            State::Established(connection) => connection.read(),
            State::Greeting(_) => None,
        }
    }

    /// When to call `handle_timeout` and drain again at the latest; `source_waits` says whether
    /// the source of `poll_transmit` has something to send.
    pub fn poll_timeout(&self, source_waits: bool) -> Option<Instant> {
        let (timer, wants_to_send) = match &self.state {
            State::Greeting(greeting) => (greeting.hello_at, false),
            State::Established(connection) => {
                (connection.timers.next(), connection.wants_to_send(source_waits, &self.line))
            }
        };
        let hello = self.hello_due.then(|| self.hello_opens_at());
        let line = wants_to_send.then(|| self.line.pace.opens_at());
        [timer, hello, line].into_iter().flatten().min()
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// The smoothed round trip of the present connection, without the line's own time for a
    /// segment.
    pub fn round_trip(&self) -> Option<Duration> {
        match &self.state {
            State::Established(connection) => connection.round_trip(),
            State::Greeting(_) => None,
        }
    }

    /// How long segments are at most, for the noise that was seen on the line.
    pub fn segment_length(&self) -> usize {
        self.line.noise.segment_length()
    }

    /// What to send to whoever else turns up at a port whose line is taken: it then says
    /// [`Event::Occupied`] and waits.
    pub fn busy_frame(side: Side) -> Vec<u8> {
        let mut out = vec![frame::DELIMITER];
        frame::encode(HELLO_PREFIX, &Busy { side, receiver: None }.encode(), &mut out);
        out
    }

    /// What was counted since the endpoint was made.
    pub fn counters(&self) -> LinkCounters {
        LinkCounters {
            frames_broken: self.line.counters.frames_broken + self.decoder.broken(),
            frames_oversized: self.decoder.oversized(),
            ..self.line.counters
        }
    }
}
