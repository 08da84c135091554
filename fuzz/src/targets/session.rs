//! Two paired sessions and somebody between them who owns the line, on virtual time.
//!
//! The one in the middle reads who talks and which numbers come next, and computes every CRC, so
//! it passes on, keeps, alters, repeats, reflects, joins and makes up whole frames as it likes;
//! only the keys it does not have.
//! Whatever it does: a message comes out only if the paired peer sent it in that connection, in
//! order within its lane, none left out and none twice. When it is gone, messages arrive within five
//! seconds, or within forty on the slow line, where what waits goes first.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Debug,
    sync::OnceLock,
};

use protocol::{
    frame::{self, BODY_MAX, DELIMITER, Decoder, FRAME_MAX},
    link::{EndpointConfig, HELLO_PREFIX, Side},
    message::{
        Answer, CrlPiece, CrlScope, CsrForm, Digest, IssueCertificate, Lane, Message, Name,
        Request, RequestId, RevocationReason, Revoke, Serial, TimeHint,
    },
    secure::{Entropy, Pairing},
    session::{Event, Session, SessionConfig},
    time::{Duration, Instant},
};

use crate::{input::Input, mutate::Mutator};

/// Operations of one list: more only repeat each other.
const OPERATIONS_MAX: usize = 300;
/// Frames that the one in the middle remembers.
const REMEMBERED_MAX: usize = 64;
/// Frames that wait to be passed on or dropped.
const HEARD_MAX: usize = 10_000;
/// How long what both say is when they are alone again: little, as an idle line has, so that what
/// was bent is found out by time and not by bytes that fill it up.
const SPEAKS_LENGTH: usize = 30;
/// From the moment that the two are alone until each has heard the other.
const HEALED_WITHIN: Duration = Duration::from_secs(5);
/// On the slow line what waits in the lanes goes first.
const HEALED_WITHIN_PACED: Duration = Duration::from_secs(40);
/// 115,200 baud.
const SLOW: u32 = 11_520;
/// What the two are called at their first start.
const FRONTEND_BOOT: u64 = 0x100;
const SIGNER_BOOT: u64 = 0x201;
/// Events at one moment, before time counts as standing still.
const STEPS_AT_ONCE_MAX: usize = 2000;

/// The first byte says which line it is; then one operation after the other.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let rate = [None, Some(SLOW), Some(1_000_000)][input.below(3)];
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
#[derive(Default)]
struct Face {
    /// What the end on this side calls itself in its greetings.
    nonce: Vec<u8>,
    /// Frames to be said to the end on this side.
    says: VecDeque<Vec<u8>>,
    /// Frames that the end on this side said.
    heard: VecDeque<Vec<u8>>,
    run: Vec<u8>,
}

impl Face {
    /// Takes what the end said, and returns what is to be said to it.
    fn turn(&mut self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            self.run.push(*byte);
            if *byte == DELIMITER || self.run.len() > FRAME_MAX {
                let frame = std::mem::take(&mut self.run);
                let sealed = Decoder::default().next(&mut &frame[..]);
                if let Some([1, _, _, _, _, rest @ ..]) =
                    sealed.as_ref().and_then(|sealed| sealed.open(HELLO_PREFIX))
                {
                    self.nonce = rest.iter().take(NONCE_LEN).copied().collect();
                }
                self.heard.push_back(frame);
            }
        }
        self.heard.truncate(HEARD_MAX);
        self.says.drain(..).flatten().collect()
    }
}

/// `SPEC.md`, section 3.
const NONCE_LEN: usize = 12;

struct Story {
    now: Instant,
    rate: Option<u32>,
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
            rate,
            faces: Default::default(),
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
                    self.pass(from);
                    self.pass(1 - from);
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
                self.alter(from, |body| {
                    let at = at % body.len();
                    body[at] ^= by;
                });
            }
            8 => {
                let cut = input.below(1024);
                self.alter(from, |body| body.truncate(cut % body.len() + 1));
            }
            9 => {
                let more = input.take(16).to_vec();
                self.alter(from, |body| body.extend(more));
            }
            10 => {
                // Again, or back to the one who said it, or from another connection.
                let which = input.below(REMEMBERED_MAX);
                if let Some(frame) = self.remembered.get(which) {
                    self.faces[from].says.push_back(frame.clone());
                }
            }
            11 => {
                // The beginning of one and the end of another.
                let (one, other) = (input.below(REMEMBERED_MAX), input.below(REMEMBERED_MAX));
                let bodies =
                    [one, other].map(|which| self.remembered.get(which).and_then(|f| body_of(f)));
                if let [Some(one), Some(other)] = bodies {
                    let body = [&one[..one.len() / 2], &other[other.len() / 2..]].concat();
                    let made = self.made(1 - from, &body);
                    self.faces[from].says.push_back(made);
                }
            }
            12 => {
                let length = 1 + input.below(64);
                let body = input.take(length).to_vec();
                if !body.is_empty() {
                    let made = self.made(1 - from, &body);
                    self.faces[from].says.push_back(made);
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
        match which {
            0 => self.frontend.restart(self.now),
            _ => self.signer.restart(self.now),
        }
    }

    /// The next frame of that end, once it is remembered.
    fn next_heard(&mut self, from: usize) -> Option<Vec<u8>> {
        let frame = self.faces[from].heard.pop_front()?;
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.push(frame.clone());
        }
        Some(frame)
    }

    /// The next frame of that end goes to the other one.
    fn pass(&mut self, from: usize) {
        if let Some(frame) = self.next_heard(from) {
            self.faces[1 - from].says.push_back(frame);
        }
    }

    /// It goes there altered, with a right CRC; what is no frame is dropped.
    fn alter(&mut self, from: usize, alter: impl FnOnce(&mut Vec<u8>)) {
        let Some(mut body) = self.next_heard(from).and_then(|frame| body_of(&frame)) else {
            return;
        };
        alter(&mut body);
        body.truncate(BODY_MAX);
        let made = self.made(from, &body);
        self.faces[1 - from].says.push_back(made);
    }

    /// A frame that somebody would make in the name of that end who has no key. Numbers are not
    /// high in so short a story, so their low bits are all there is of them.
    fn made(&self, from: usize, body: &[u8]) -> Vec<u8> {
        let numbers = match (body[0] & 7, body) {
            (2 | 6, [_, seq, ack, ..]) => &[*seq, *ack][..],
            (_, [_, ack, ..]) => &[*ack],
            _ => &[],
        };
        let numbers = numbers.iter().flat_map(|number| u64::from(*number).to_le_bytes());
        let mut prefix = [&self.faces[from].nonce[..], &self.faces[1 - from].nonce].concat();
        prefix.extend(numbers);
        let is_greeting = matches!(body[0], 1 | 7);
        let mut out = Vec::new();
        frame::encode(if is_greeting { HELLO_PREFIX } else { &prefix }, body, &mut out);
        out
    }

    fn say(&mut self, from: usize, choice: u8, length: usize) {
        match from {
            0 => self.frontend.say(self.now, choice, length),
            _ => self.signer.say(self.now, choice, length),
        };
        self.drain();
    }

    fn step(&mut self) {
        let wakeups = [self.frontend.session.poll_timeout(), self.signer.session.poll_timeout()];
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
            let answer = self.faces[0].turn(&said);
            self.frontend.session.handle_bytes(self.now, &answer);
            let said_too: Vec<u8> = self.signer.out.drain(..).collect();
            let answer_too = self.faces[1].turn(&said_too);
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
        let is_slow = self.rate == Some(SLOW);
        let within = if is_slow { HEALED_WITHIN_PACED } else { HEALED_WITHIN };
        let deadline = self.now + within;
        let (mut up, mut down) = (None, None);
        let mut connections = (0, 0);
        let (mut standing, mut last) = (0, self.now);
        loop {
            self.drain();
            let bytes: Vec<u8> = self.frontend.out.drain(..).collect();
            self.signer.session.handle_bytes(self.now, &bytes);
            self.drain();
            let bytes: Vec<u8> = self.signer.out.drain(..).collect();
            self.frontend.session.handle_bytes(self.now, &bytes);
            self.drain();
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
                self.now = next.max(self.now);
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

/// The body of a frame, whoever made it.
fn body_of(frame: &[u8]) -> Option<Vec<u8>> {
    Some(Decoder::default().next(&mut &frame[..])?.claimed().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Story {
        fn pass_all(&mut self) {
            for from in [0, 1] {
                while !self.faces[from].heard.is_empty() {
                    self.pass(from);
                }
            }
        }
    }

    /// Passing everything on, as a cable does: the one in the middle must not keep them apart by
    /// being there, or its tricks would prove nothing.
    #[test]
    fn whoever_only_passes_on_lets_messages_through() {
        let mut story = Story::new(Some(1_000_000));
        story.exchange();
        for _ in 0..400 {
            story.pass_all();
            story.exchange();
            story.step();
        }
        assert!(story.frontend.up && story.signer.up);
        story.say(0, 2, 500);
        story.say(1, 3, 500);
        for _ in 0..400 {
            story.pass_all();
            story.exchange();
            story.step();
        }
        assert_eq!((story.signer.last, story.frontend.last), (Some(0), Some(0)));
        // After both were started anew it works again.
        story.restart(0);
        story.restart(1);
        for _ in 0..400 {
            story.pass_all();
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
