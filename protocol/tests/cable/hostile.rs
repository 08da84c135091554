//! A peer that owns the wire and the link's protocol: its frames are good, and what is in them is
//! not. What it cannot make is a record of the secure layer, which is proved elsewhere.
//!
//! It may delay and deny. It may not make an end panic, spin, sleep for ever, flood its program
//! or its line, hold more memory than is written down, or stay away when an honest peer is there
//! again.

use crate::{
    support::{Faults, Pair, Random},
    work::{PACED, SECOND},
};
use protocol::{
    frame,
    link::{
        Endpoint, EndpointConfig, Event, HELLO_PREFIX, RECONNECT_INTERVAL, SEGMENT_MAX, Side,
        WINDOW,
    },
    time::{Duration, Instant},
};

const NONCE_LEN: usize = 12;
/// The victim's nonce in its Hello, see SPEC.md.
const NONCE_AT: usize = 5;

/// An attacker who reads the victim's hellos, and the victim.
struct Siege {
    now: Instant,
    victim: Endpoint,
    random: Random,
    decoder: frame::Decoder,
    /// The victim's present nonce.
    theirs: Vec<u8>,
    /// The attacker's nonce in its last hello, and in the connection's.
    said: Vec<u8>,
    ours: Vec<u8>,
    /// The number of the connection's next segment.
    seq: u64,
    /// How many bytes the victim has to send.
    waits: usize,
    /// Whether the victim's program reads.
    reads: bool,
    written: usize,
    events: usize,
    ups: usize,
    segments: usize,
}

impl Siege {
    fn new(line_rate: Option<u32>, seed: u64, now: Instant) -> Self {
        let config = EndpointConfig { side: Side::Signer, boot_id: 2, line_rate };
        let mut siege = Self {
            now,
            victim: Endpoint::new(config, now),
            random: Random(seed),
            decoder: frame::Decoder::default(),
            theirs: Vec::new(),
            said: Vec::new(),
            ours: Vec::new(),
            seq: 0,
            waits: 0,
            reads: true,
            written: 0,
            events: 0,
            ups: 0,
            segments: 0,
        };
        siege.drain();
        siege
    }

    fn feed(&mut self, bytes: &[u8]) {
        let before = self.events;
        self.victim.handle_bytes(self.now, bytes);
        self.drain();
        let events = self.events - before;
        assert!(events <= 3, "{events} events from one read of {} bytes", bytes.len());
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.wakeup().filter(|at| *at <= end && *at > self.now) {
            self.now = at;
            self.victim.handle_timeout(at);
            self.drain();
        }
        self.now = end;
        self.victim.handle_timeout(end);
        self.drain();
    }

    fn wakeup(&self) -> Option<Instant> {
        self.victim.poll_timeout(self.waits > 0)
    }

    fn drain(&mut self) {
        self.transmit();
        while let Some(event) = self.victim.poll_event() {
            self.events += 1;
            if let Event::Up { .. } = event {
                self.ups += 1;
                self.ours = self.said.clone();
                self.seq = 0;
            }
        }
        while self.reads && self.victim.poll_segment().is_some() {
            self.segments += 1;
        }
        self.transmit();
        let at = self.wakeup();
        let end_of_time = Instant::from_micros(u64::MAX);
        let sane = at.is_some_and(|at| at > self.now) || self.now == end_of_time;
        assert!(sane, "{at:?} is asked for at {:?}", self.now);
    }

    fn transmit(&mut self) {
        let waits = &mut self.waits;
        while let Some(bytes) = self.victim.poll_transmit(self.now, |length_max| {
            let length = length_max.min(*waits);
            *waits -= length;
            (length > 0).then(|| vec![7; length])
        }) {
            self.written += bytes.len();
            let mut bytes = &bytes[..];
            while let Some(sealed) = self.decoder.next(&mut bytes) {
                if sealed.claimed_kind() == 1
                    && let Some(hello) = sealed.open(HELLO_PREFIX)
                {
                    self.theirs = hello[NONCE_AT..][..NONCE_LEN].to_vec();
                }
            }
        }
    }

    /// A hello of `nonce` that echoes the victim's.
    fn hello(
        &mut self,
        versions: [u8; 2],
        nonce: Vec<u8>,
        segment_max: u16,
        window: u16,
    ) -> Vec<u8> {
        let mut body = vec![1, 1, versions[0], versions[1], 0];
        body.extend_from_slice(&nonce);
        body.extend_from_slice(&self.theirs);
        body.extend_from_slice(&segment_max.to_le_bytes());
        body.extend_from_slice(&window.to_le_bytes());
        self.said = nonce;
        sealed(HELLO_PREFIX, &body)
    }

    /// A hello with made-up fields, often of a peer that was heard before.
    fn some_hello(&mut self) -> Vec<u8> {
        let boot_id = 1 + self.random.below(2);
        let incarnation =
            [1, 2, self.random.next() as u32, u32::MAX][self.random.below(4) as usize];
        let segment_max = [63, 64, 4096, u16::MAX][self.random.below(4) as usize];
        let window = [0, 1, 128, u16::MAX][self.random.below(4) as usize];
        let versions = match self.random.chance(0.9) {
            true => [1, 1],
            false => [self.random.next() as u8, self.random.next() as u8],
        };
        self.hello(versions, nonce(boot_id, incarnation), segment_max, window)
    }

    fn some_busy(&mut self) -> Vec<u8> {
        let receiver = match self.random.below(3) {
            0 => self.theirs.clone(),
            1 => vec![0; NONCE_LEN],
            _ => self.random.bytes(NONCE_LEN),
        };
        sealed(HELLO_PREFIX, &[&[7, 1][..], &receiver].concat())
    }

    /// A frame of the present connection: right in form, made up in content.
    fn frame(&mut self) -> Vec<u8> {
        let kind = 2 + self.random.below(5) as u8;
        let carries = kind == 2 || kind == 6;
        let number = |random: &mut Random, usual: u64| match random.below(4) {
            0 => random.next(),
            1 => random.below(300),
            _ => usual,
        };
        let seq = number(&mut self.random, self.seq);
        let ack = number(&mut self.random, 0);
        let bitmap = [0, 0, 1, 16, 17][self.random.below(5) as usize];
        let mut body = vec![if carries { kind | (bitmap as u8) << 3 } else { kind }];
        body.extend(carries.then_some(seq as u8));
        body.push(ack as u8);
        if kind == 4 || kind == 5 {
            body.extend_from_slice(&(self.random.below(40) as u16).to_le_bytes());
        }
        body.extend(self.random.bytes(bitmap));
        if kind == 6 {
            let offset = [0, 16, 17, 4080, u16::MAX][self.random.below(5) as usize];
            let total = [0, 16, 33, 4096, u16::MAX][self.random.below(5) as usize];
            body.extend_from_slice(&offset.to_le_bytes());
            body.extend_from_slice(&total.to_le_bytes());
        }
        if carries {
            let length = [0, 1, 16, 17, 300, SEGMENT_MAX][self.random.below(6) as usize];
            body.extend(self.random.bytes(length));
            let is_taken = kind == 2 && ack == 0 && bitmap < 17 && length > 0;
            self.seq += u64::from(is_taken && seq == self.seq);
        }
        let seq = carries.then_some(seq.to_le_bytes());
        let prefix = [&self.ours[..], &self.theirs, seq.as_slice().as_flattened()].concat();
        sealed(&[&prefix[..], &ack.to_le_bytes()].concat(), &body)
    }

    fn attack(&mut self) {
        let bytes = match self.random.below(40) {
            0 => self.some_hello(),
            1 => {
                let length = self.random.below(9_000) as usize;
                self.random.bytes(length)
            }
            2 => self.some_busy(),
            _ if self.ups == 0 => self.some_hello(),
            _ => self.frame(),
        };
        self.feed(&bytes);
        if self.random.chance(0.2) {
            self.waits += 1_000;
            self.drain();
        }
        if self.random.chance(0.01) {
            self.reads = !self.reads;
        }
    }
}

fn nonce(boot_id: u64, incarnation: u32) -> Vec<u8> {
    [&boot_id.to_le_bytes()[..], &incarnation.to_le_bytes()].concat()
}

fn sealed(prefix: &[u8], body: &[u8]) -> Vec<u8> {
    let mut wire = vec![frame::DELIMITER];
    frame::encode(prefix, &body[..body.len().min(frame::BODY_MAX)], &mut wire);
    wire
}

#[test]
fn made_up_frames_neither_break_an_end_nor_make_it_spin_or_flood() {
    let mut segments = 0;
    for seed in 0..60 {
        let line_rate = [PACED, None, Some(1), Some(960)][seed as usize % 4];
        let mut siege = Siege::new(line_rate, seed, Instant::ZERO);
        for _ in 0..600 {
            siege.attack();
            let pause = siege.random.below(200);
            siege.wait(Duration::from_millis(pause));
        }
        let passed = siege.now.saturating_since(Instant::ZERO);
        let connections = siege.victim.counters().connections;
        let most = 1 + passed.as_secs() / RECONNECT_INTERVAL.as_secs();
        assert!(connections > 0 && connections <= most, "{connections} in {passed:?}");
        if let Some(rate) = line_rate {
            let most = (passed + 2 * SECOND).as_secs_f64() * f64::from(rate) + 4_200.0;
            assert!((siege.written as f64) < most, "{} bytes in {passed:?}", siege.written);
        }
        segments += siege.segments;
    }
    assert!(segments > 300, "the attacker got through {segments} times only");
}

#[test]
fn a_peer_that_does_not_stop_sending_leaves_no_more_than_a_window_unread() {
    let mut siege = Siege::new(None, 3, Instant::ZERO);
    let hello = siege.hello([1, 1], nonce(7, 1), 4096, 128);
    siege.feed(&hello);
    siege.reads = false;
    for seq in 0..2_000u64 {
        let body = [&[2, seq as u8, 0][..], &[9; SEGMENT_MAX]].concat();
        let numbers = [seq.to_le_bytes(), 0u64.to_le_bytes()].concat();
        let prefix = [&siege.ours[..], &siege.theirs, &numbers].concat();
        siege.feed(&sealed(&prefix, &body));
    }
    siege.reads = true;
    siege.drain();
    assert_eq!(siege.segments, WINDOW);
}

#[test]
fn the_end_of_time_is_an_instant_like_any_other() {
    for line_rate in [PACED, None, Some(1)] {
        let near = Instant::from_micros(u64::MAX - 90_000_000);
        let mut siege = Siege::new(line_rate, 5, near);
        for _ in 0..300 {
            siege.attack();
            siege.wait(SECOND / 2);
        }
        assert_eq!(siege.now, Instant::from_micros(u64::MAX));
    }
}

#[test]
fn a_flood_of_hellos_within_one_read_is_told_once() {
    let mut siege = Siege::new(PACED, 7, Instant::ZERO);
    let first = siege.hello([1, 1], nonce(7, 1), 4096, 128);
    siege.feed(&first);
    assert_eq!(siege.ups, 1);
    siege.wait(2 * SECOND);
    let flood: Vec<u8> =
        (2..3_000).flat_map(|i| siege.hello([1, 1], nonce(7, i), 4096, 128)).collect();
    siege.feed(&flood);
    // Neither do strangers who speak other versions, each under its own name.
    let flood: Vec<u8> =
        (2..3_000).flat_map(|i| siege.hello([8, 9], nonce(i, 1), 4096, 128)).collect();
    siege.feed(&flood);
    siege.wait(SECOND);
    siege.feed(&flood);
    // Nor those who say that the place is taken.
    let flood: Vec<u8> = (0..3_000).flat_map(|_| siege.some_busy()).collect();
    siege.feed(&flood);
    assert!(siege.written < 2_000, "{} bytes", siege.written);
}

#[test]
fn an_honest_peer_is_found_again_after_an_attack() {
    for seed in 0..40 {
        let mut siege = Siege::new(PACED, seed, Instant::ZERO);
        for _ in 0..200 {
            siege.attack();
            siege.wait(SECOND / 10);
        }
        (siege.reads, siege.waits) = (true, 0);
        siege.drain();
        let (mut victim, mut now) = (siege.victim, siege.now);
        let config = EndpointConfig { side: Side::Frontend, boot_id: 99, line_rate: PACED };
        let mut honest = Endpoint::new(config, now);
        let (mut question, mut limit) = (vec![vec![5; 60]], now + 4 * SECOND);
        loop {
            while let Some(bytes) = honest.poll_transmit(now, |_| question.pop()) {
                victim.handle_bytes(now, &bytes);
            }
            while let Some(bytes) = victim.poll_transmit(now, |_| None) {
                honest.handle_bytes(now, &bytes);
            }
            if victim.poll_segment().is_some_and(|segment| segment == [5; 60]) {
                break;
            }
            assert!(now < limit, "seed {seed}: not up, or nothing came");
            let was_up = honest.is_up();
            let next = [victim.poll_timeout(false), honest.poll_timeout(!question.is_empty())];
            now = next.into_iter().flatten().min().unwrap().max(now);
            victim.handle_timeout(now);
            honest.handle_timeout(now);
            limit = if honest.is_up() && !was_up { now + SECOND } else { limit };
        }
    }
}

#[test]
fn a_second_frontend_on_the_wire_does_not_end_the_first_one_s_connection() {
    // It says hello as often as any, and the line is bad: a lost answer alone proves nothing.
    let mut pair = Pair::connected(PACED, 31);
    let noise = Faults { bit_error: 3e-4, ..Faults::default() };
    pair.set_faults(noise);
    let mut second = Siege::new(PACED, 31, pair.now);
    second.theirs = vec![0; NONCE_LEN];
    for _ in 0..1_200 {
        let hello = second.hello([1, 1], nonce(0xbad, 1), 4096, 128);
        pair.up.inject(pair.now, &hello);
        pair.drive(SECOND / 2);
    }
    assert_eq!((pair.signer.ups, pair.frontend.ups), (1, 1), "{:?}", pair.signer.downs);
    assert!(pair.signer.session.counters().link.frames_broken > 20);
}
