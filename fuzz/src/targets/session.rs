//! Two paired sessions and somebody between them who owns the line, on virtual time.
//!
//! The one in the middle speaks the link's language with each of them, under the name of the other
//! (the handshake binds the names), so it passes on, keeps, alters, repeats, reflects and joins
//! whole segments as it likes; only the keys it does not have.
//! Whatever it does: a message comes out only if the paired peer sent it in that connection, in
//! order within its lane, none left out and none twice. When it is gone, the two find each other.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Debug,
    sync::OnceLock,
};

use protocol::{
    link::{self, Endpoint, EndpointConfig, Side},
    message::{
        Answer, CrlPiece, CrlScope, CsrForm, Digest, IssueCertificate, Lane, Message, Name,
        Request, RequestId, RevocationReason, Revoke, Serial, TimeHint,
    },
    secure::{Entropy, Pairing},
    session::{DownReason, Event, Session, SessionConfig},
    time::{Duration, Instant},
};

use crate::{input::Input, mutate::Mutator};

/// Operations of one list: more only repeat each other.
const OPERATIONS_MAX: usize = 300;
/// Segments that the one in the middle remembers.
const REMEMBERED_MAX: usize = 64;
/// How often both have something to say, and how much: little, as an idle line has, so that what
/// was bent is found out by time and not by bytes that fill it up.
const SPEAKS_EVERY: Duration = Duration::from_secs(10);
const SPEAKS_LENGTH: usize = 30;
/// Silence of both, doubt, greetings, a handshake and two messages, and as much again.
const HEALED_WITHIN: Duration = Duration::from_secs(80);
/// What the two are called at their first start.
const FRONTEND_BOOT: u64 = 0x100;
const SIGNER_BOOT: u64 = 0x201;
/// Events at one moment, before time counts as standing still.
const STEPS_AT_ONCE_MAX: usize = 2000;

/// The first byte says which line it is; then one operation after the other.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let rate = [None, Some(11_520), Some(1_000_000)][input.below(3)];
    let mut story = Story::new(rate);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        story.operate(&mut input);
    }
    story.heal();
}

/// The keys of both sides, made once.
pub(super) fn pairings() -> &'static (Pairing, Pairing) {
    static PAIRINGS: OnceLock<(Pairing, Pairing)> = OnceLock::new();
    PAIRINGS.get_or_init(|| Pairing::both(1))
}

/// A session's configuration; what would be random follows from the boot id.
pub(super) fn config(
    side: Side,
    boot_id: u64,
    line_rate: Option<u32>,
    pairing: Pairing,
) -> SessionConfig {
    let link = EndpointConfig { side, boot_id, line_rate };
    SessionConfig { link, pairing, entropy: Entropy::seeded(boot_id) }
}

//------------ Messages that can be told apart -------------------------------

/// A message that carries its number.
pub(super) trait Numbered: Message + Clone + PartialEq + Debug {
    fn make(choice: u8, number: u64, length: usize) -> Self;
    fn number(&self) -> Option<u64>;
}

fn id(number: u64) -> RequestId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    RequestId::from_bytes(bytes)
}

fn number_of(id: RequestId) -> u64 {
    u64::from_le_bytes(*id.as_bytes().first_chunk().expect("an id has 16 bytes"))
}

fn name() -> Name {
    "issuing".parse().expect("lower-case letters are a name")
}

fn content(number: u64, length: usize) -> Vec<u8> {
    let mut noise = Mutator::new(number);
    (0..length).map(|_| noise.below(256) as u8).collect()
}

impl Numbered for Request {
    fn make(choice: u8, number: u64, length: usize) -> Self {
        match choice % 4 {
            0 => Self::TimeHint(TimeHint {
                unix_us: number as i64,
                round_trip_us: None,
                synchronised: true,
            }),
            1 => Self::Revoke(Revoke {
                id: id(number),
                authority: name(),
                serial: Serial::from_magnitude(&[1, 2, 3]).expect("three octets are a serial"),
                reason: RevocationReason::Superseded,
            }),
            _ => Self::Issue(IssueCertificate {
                id: id(number),
                authority: name(),
                profile: name(),
                days: None,
                subject: None,
                subject_alt_names: None,
                form: CsrForm::Pkcs10,
                csr: content(number, length).try_into().expect("the length is bounded"),
            }),
        }
    }

    fn number(&self) -> Option<u64> {
        match self {
            Self::TimeHint(hint) => Some(hint.unix_us as u64),
            _ => self.request_id().map(number_of),
        }
    }
}

impl Numbered for Answer {
    fn make(choice: u8, number: u64, length: usize) -> Self {
        let bytes = content(number, length);
        match choice % 4 {
            0 => Self::TimeHintTaken { unix_us: number as i64 },
            1 => Self::Revoked { id: id(number), revoked_at: 1 },
            2 => Self::Issued {
                id: id(number),
                certificate: bytes.try_into().expect("the length is bounded"),
            },
            _ => Self::CrlPiece(CrlPiece {
                authority: name(),
                scope: CrlScope::Full,
                crl_number: number,
                crl_digest: Digest::of(b"crl"),
                crl_length: 1 << 20,
                packed_digest: Digest::of(b"packed"),
                packed_length: 1 << 20,
                offset: 0,
                bytes: bytes.try_into().expect("the length is bounded"),
            }),
        }
    }

    fn number(&self) -> Option<u64> {
        match self {
            Self::TimeHintTaken { unix_us } => Some(*unix_us as u64),
            Self::CrlPiece(piece) => Some(piece.crl_number),
            _ => self.request_id().map(number_of),
        }
    }
}

//------------ The two ends --------------------------------------------------

/// A message under way: in which connection of its sender, and the how many-th of its lane.
struct Sent<M> {
    connection: u32,
    index: u32,
    message: M,
}

/// One paired end, what it said, and what it heard.
struct End<Out, In> {
    session: Session<Out, In>,
    side: Side,
    boot_id: u64,
    pairing: Pairing,
    rate: Option<u32>,
    /// Counts this end's connections over all its starts.
    connection: u32,
    up: bool,
    sent: Vec<Sent<Out>>,
    sent_on_lane: [u32; Lane::ALL.len()],
    /// Which connection of the peer is heard in the present one.
    hears: Option<u32>,
    heard_on_lane: [u32; Lane::ALL.len()],
    heard: BTreeSet<u32>,
    /// The highest number that was heard.
    last: Option<u64>,
    out: VecDeque<u8>,
}

impl<Out: Numbered, In: Numbered> End<Out, In> {
    fn new(side: Side, boot_id: u64, rate: Option<u32>, pairing: &Pairing, now: Instant) -> Self {
        let pairing = pairing.clone();
        Self {
            session: Session::new(config(side, boot_id, rate, pairing.clone()), now),
            side,
            boot_id,
            pairing,
            rate,
            connection: 0,
            up: false,
            sent: Vec::new(),
            sent_on_lane: Default::default(),
            hears: None,
            heard_on_lane: Default::default(),
            heard: BTreeSet::new(),
            last: None,
            out: VecDeque::new(),
        }
    }

    fn restart(&mut self, now: Instant) {
        self.boot_id += 2;
        let config = config(self.side, self.boot_id, self.rate, self.pairing.clone());
        self.session = Session::new(config, now);
        self.up = false;
        self.out.clear();
    }

    /// Sends a new message if the session takes it; its number.
    fn say(&mut self, now: Instant, choice: u8, length: usize) -> Option<u64> {
        let number = self.sent.len() as u64;
        let message = Out::make(choice, number, length);
        self.session.send(now, &message).ok()?;
        assert!(self.up, "a message is taken before there is a connection");
        let index = &mut self.sent_on_lane[message.lane() as usize];
        self.sent.push(Sent { connection: self.connection, index: *index, message });
        *index += 1;
        Some(number)
    }

    fn drain(&mut self, now: Instant, peer: &[Sent<In>]) {
        loop {
            while let Some(bytes) = self.session.poll_transmit(now) {
                self.out.extend(bytes);
            }
            let Some(event) = self.session.poll_event() else { break };
            match event {
                Event::Up => {
                    self.connection += 1;
                    self.up = true;
                    self.sent_on_lane = Default::default();
                    self.hears = None;
                    self.heard_on_lane = Default::default();
                }
                Event::Down { .. } => self.up = false,
                Event::Message(message) => self.hear(&message, peer),
                Event::Undecodable { error, .. } => panic!("the peer did not send that: {error}"),
                _ => {}
            }
        }
        assert!(!self.session.is_up() || self.up, "it is up and did not say so");
    }

    fn hear(&mut self, message: &In, peer: &[Sent<In>]) {
        let number = message.number().expect("every message here has a number");
        let sent = usize::try_from(number).ok().and_then(|number| peer.get(number));
        let sent = sent.expect("a message that the peer did not send");
        assert!(sent.message == *message, "number {number} was altered on its way");
        assert!(self.up, "a message outside a connection");
        let connection = *self.hears.get_or_insert_with(|| {
            assert!(self.heard.insert(sent.connection), "a connection is heard a second time");
            sent.connection
        });
        assert_eq!(sent.connection, connection, "messages of two connections in one");
        let next = &mut self.heard_on_lane[message.lane() as usize];
        assert_eq!(sent.index, *next, "out of order on lane {:?}", message.lane());
        *next += 1;
        self.last = self.last.max(Some(number));
    }
}

//------------ The one in the middle -----------------------------------------

/// One of the two faces of the one in the middle.
struct Face {
    endpoint: Endpoint,
    config: EndpointConfig,
    /// Segments to be said to the end on this side.
    says: VecDeque<Vec<u8>>,
    /// Segments that the end on this side said.
    heard: VecDeque<Vec<u8>>,
}

impl Face {
    fn new(side: Side, boot_id: u64, line_rate: Option<u32>, now: Instant) -> Self {
        let config = EndpointConfig { side, boot_id, line_rate };
        let endpoint = Endpoint::new(config, now);
        Self { endpoint, config, says: VecDeque::new(), heard: VecDeque::new() }
    }

    /// The one whose name this face has was started anew.
    fn restart(&mut self, boot_id: u64, now: Instant) {
        self.config.boot_id = boot_id;
        self.endpoint = Endpoint::new(self.config, now);
        self.says.clear();
        self.heard.clear();
    }

    /// Takes what the end said, and returns what is to be said to it, and whether the connection
    /// ended.
    fn turn(&mut self, now: Instant, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.endpoint.handle_bytes(now, bytes);
        self.endpoint.handle_timeout(now);
        let mut ended = false;
        while let Some(event) = self.endpoint.poll_event() {
            if matches!(event, link::Event::Down { .. }) {
                self.says.clear();
                ended = true;
            }
        }
        while let Some(segment) = self.endpoint.poll_segment() {
            self.heard.push_back(segment);
        }
        self.heard.truncate(10_000);
        let mut out = Vec::new();
        while let Some(bytes) = self.endpoint.poll_transmit(now, |length_max| {
            // Whoever cuts segments himself meets every length that the line takes.
            let mut segment = self.says.pop_front()?;
            if segment.len() > length_max {
                self.says.push_front(segment.split_off(length_max));
            }
            Some(segment)
        }) {
            out.extend(bytes);
        }
        (out, ended)
    }

    /// Ends the connection as the one whose name it has just did, which so counts alike.
    fn follow(&mut self) {
        self.endpoint.disconnect(DownReason::PeerRestarted);
    }
}

struct Story {
    now: Instant,
    frontend: End<Request, Answer>,
    signer: End<Answer, Request>,
    /// Turned to the frontend, and to the signer.
    faces: [Face; 2],
    remembered: Vec<Vec<u8>>,
}

impl Story {
    fn new(rate: Option<u32>) -> Self {
        let now = Instant::ZERO;
        let (frontend, signer) = pairings();
        Self {
            now,
            frontend: End::new(Side::Frontend, FRONTEND_BOOT, rate, frontend, now),
            signer: End::new(Side::Signer, SIGNER_BOOT, rate, signer, now),
            faces: [
                Face::new(Side::Signer, SIGNER_BOOT, rate, now),
                Face::new(Side::Frontend, FRONTEND_BOOT, rate, now),
            ],
            remembered: Vec::new(),
        }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let operation = input.byte();
        // 0: what the frontend said; 1: what the signer said.
        let from = usize::from(operation & 1);
        match operation >> 1 & 0x0f {
            0..=2 => {
                for _ in 0..8 {
                    self.pass(from, |_| {});
                    self.pass(1 - from, |_| {});
                    self.exchange();
                }
            }
            3 => self.step(),
            4 => self.say(from, input.byte(), 1 + input.below(3000)),
            5 => {
                for _ in 0..10 {
                    self.say(from, input.byte(), 400);
                }
            }
            6 => drop(self.faces[from].heard.pop_front()),
            7 => {
                let (at, by) = (input.below(1024), input.byte());
                self.pass(from, |segment| {
                    let at = at % segment.len().max(1);
                    if let Some(byte) = segment.get_mut(at) {
                        *byte ^= by;
                    }
                });
            }
            8 => {
                let cut = input.below(1024);
                self.pass(from, |segment| segment.truncate(cut % segment.len().max(1) + 1));
            }
            9 => {
                let more = input.take(16).to_vec();
                self.pass(from, |segment| segment.extend(&more));
            }
            10 => {
                // Again, or back to the one who said it, or from another connection.
                let which = input.below(REMEMBERED_MAX);
                if let Some(segment) = self.remembered.get(which) {
                    self.faces[from].says.push_back(segment.clone());
                }
            }
            11 => {
                // The end of one and the beginning of another.
                let (one, other) = (input.below(REMEMBERED_MAX), input.below(REMEMBERED_MAX));
                if let (Some(one), Some(other)) =
                    (self.remembered.get(one), self.remembered.get(other))
                {
                    let segment = [&one[..one.len() / 2], &other[other.len() / 2..]].concat();
                    self.faces[from].says.push_back(segment);
                }
            }
            12 => {
                let length = 1 + input.below(64);
                let segment = input.take(length).to_vec();
                if !segment.is_empty() {
                    self.faces[from].says.push_back(segment);
                }
            }
            13 => {
                self.restart(0);
                self.restart(1);
            }
            14 => self.restart(from),
            _ => {
                let (time, unit) = (u64::from(input.byte()), [1, 100, 1000, 60_000][from * 2]);
                self.now += Duration::from_millis(time * unit);
                self.expire();
            }
        }
        self.exchange();
    }

    fn restart(&mut self, which: usize) {
        let boot_id = match which {
            0 => {
                self.frontend.restart(self.now);
                self.frontend.boot_id
            }
            _ => {
                self.signer.restart(self.now);
                self.signer.boot_id
            }
        };
        self.faces[1 - which].restart(boot_id, self.now);
    }

    /// The next segment of that end goes to the other one, perhaps altered.
    fn pass(&mut self, from: usize, alter: impl FnOnce(&mut Vec<u8>)) {
        let Some(mut segment) = self.faces[from].heard.pop_front() else { return };
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.push(segment.clone());
        }
        alter(&mut segment);
        if !segment.is_empty() {
            self.faces[1 - from].says.push_back(segment);
        }
    }

    fn say(&mut self, from: usize, choice: u8, length: usize) {
        match from {
            0 => self.frontend.say(self.now, choice, length),
            _ => self.signer.say(self.now, choice, length),
        };
        self.drain();
    }

    fn step(&mut self) {
        let wakeups = [
            self.frontend.session.poll_timeout(),
            self.signer.session.poll_timeout(),
            self.faces[0].endpoint.poll_timeout(!self.faces[0].says.is_empty()),
            self.faces[1].endpoint.poll_timeout(!self.faces[1].says.is_empty()),
        ];
        self.now = wakeups.into_iter().flatten().min().unwrap_or(self.now).max(self.now);
        self.expire();
    }

    fn expire(&mut self) {
        self.frontend.session.handle_timeout(self.now);
        self.signer.session.handle_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        self.frontend.drain(self.now, &self.signer.sent);
        self.signer.drain(self.now, &self.frontend.sent);
    }

    /// Bytes between each end and the face before it, until nothing more is said.
    fn exchange(&mut self) {
        for _ in 0..STEPS_AT_ONCE_MAX {
            self.drain();
            let said: Vec<u8> = self.frontend.out.drain(..).collect();
            let (answer, ended) = self.faces[0].turn(self.now, &said);
            if ended {
                self.faces[1].follow();
            }
            self.frontend.session.handle_bytes(self.now, &answer);
            let said_too: Vec<u8> = self.signer.out.drain(..).collect();
            let (answer_too, ended) = self.faces[1].turn(self.now, &said_too);
            if ended {
                self.faces[0].follow();
            }
            self.signer.session.handle_bytes(self.now, &answer_too);
            let quiet = said.is_empty() && said_too.is_empty();
            if quiet && answer.is_empty() && answer_too.is_empty() {
                self.drain();
                return;
            }
        }
        panic!("the talk at one moment has no end");
    }

    /// Nobody stands between them any more: soon one new message arrives each way.
    fn heal(&mut self) {
        let deadline = self.now + HEALED_WITHIN;
        let (mut up, mut down) = (None, None);
        let mut connections = (0, 0);
        let mut speaks_at = self.now + SPEAKS_EVERY;
        let (mut standing, mut last) = (0, self.now);
        loop {
            self.drain();
            let bytes: Vec<u8> = self.frontend.out.drain(..).collect();
            self.signer.session.handle_bytes(self.now, &bytes);
            self.drain();
            let bytes: Vec<u8> = self.signer.out.drain(..).collect();
            self.frontend.session.handle_bytes(self.now, &bytes);
            self.drain();
            // What was said into a connection that somebody else had bent is found out by what is
            // said next.
            if speaks_at <= self.now {
                speaks_at = self.now + SPEAKS_EVERY;
                (up, down) = (None, None);
            }
            // Asked again in each connection, as the programs do.
            if self.frontend.up && (up.is_none() || connections.0 != self.frontend.connection) {
                up = self.frontend.say(self.now, 2, SPEAKS_LENGTH);
                connections.0 = self.frontend.connection;
            }
            if self.signer.up && (down.is_none() || connections.1 != self.signer.connection) {
                down = self.signer.say(self.now, 2, SPEAKS_LENGTH);
                connections.1 = self.signer.connection;
            }
            let heard = up.is_some() && self.signer.last == up;
            if heard && down.is_some() && self.frontend.last == down {
                return;
            }
            self.drain();
            if self.frontend.out.is_empty() && self.signer.out.is_empty() {
                let wakeups =
                    [self.frontend.session.poll_timeout(), self.signer.session.poll_timeout()];
                let next = wakeups.into_iter().flatten().min().unwrap_or(self.now);
                self.now = next.min(speaks_at).max(self.now);
                self.frontend.session.handle_timeout(self.now);
                self.signer.session.handle_timeout(self.now);
            }
            assert!(self.now < deadline, "no message arrived after the line was left alone");
            standing = if self.now == last { standing + 1 } else { 0 };
            last = self.now;
            assert!(standing < STEPS_AT_ONCE_MAX, "time stands still at {:?}", self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passing everything on, as a cable does: the one in the middle must not keep them apart by
    /// being there, or its tricks would prove nothing.
    #[test]
    fn whoever_only_passes_on_lets_messages_through() {
        let mut story = Story::new(Some(1_000_000));
        story.exchange();
        for _ in 0..400 {
            for from in [0, 1] {
                story.pass(from, |_| {});
            }
            story.exchange();
            story.step();
        }
        assert!(story.frontend.up && story.signer.up);
        story.say(0, 2, 500);
        story.say(1, 3, 500);
        for _ in 0..400 {
            for from in [0, 1] {
                story.pass(from, |_| {});
            }
            story.exchange();
            story.step();
        }
        assert_eq!((story.signer.last, story.frontend.last), (Some(0), Some(0)));
        // After both were started anew it works again.
        story.restart(0);
        story.restart(1);
        for _ in 0..400 {
            for from in [0, 1] {
                story.pass(from, |_| {});
            }
            story.exchange();
            story.step();
        }
        assert!(story.frontend.up && story.signer.up, "after a restart");
        story.heal();
    }

    #[test]
    #[should_panic(expected = "a message that the peer did not send")]
    fn a_message_that_nobody_sent_is_found() {
        let mut story = Story::new(None);
        story.signer.up = true;
        story.signer.hear(&Request::make(0, 0, 1), &[]);
    }
}
