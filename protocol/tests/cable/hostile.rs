//! A peer that owns the wire and the protocol: its frames are good, and what is in them is not.
//!
//! It may delay and deny. It may not make an end panic, spin, sleep for ever, flood its program
//! or its line, or stay away when an honest peer is there again.

use crate::{
    support::{Faults, Pair, Random},
    work::{PACED, SECOND, answer, issue},
};
use protocol::{
    frame,
    link::{HELLO_PREFIX, RECONNECT_INTERVAL},
    session::{Event, SessionConfig, Side, SignerSession},
    time::{Duration, Instant},
};

const NONCE_LEN: usize = 12;
/// The victim's nonce in its Hello, see SPEC.md.
const NONCE_AT: usize = 5;

/// An attacker who reads the victim's hellos, and the victim.
struct Siege {
    now: Instant,
    victim: SignerSession,
    random: Random,
    decoder: frame::Decoder,
    /// The victim's present nonce.
    theirs: Vec<u8>,
    /// The attacker's nonce in its last hello, and in the connection's.
    said: Vec<u8>,
    ours: Vec<u8>,
    /// The number of the connection's next segment.
    seq: u16,
    written: usize,
    events: usize,
    ups: usize,
    messages: usize,
}

impl Siege {
    fn new(line_rate: Option<u32>, seed: u64, now: Instant) -> Self {
        let config = SessionConfig { side: Side::Signer, boot_id: 2, line_rate };
        let mut siege = Self {
            now,
            victim: SignerSession::new(config, now),
            random: Random(seed),
            decoder: frame::Decoder::default(),
            theirs: Vec::new(),
            said: Vec::new(),
            ours: Vec::new(),
            seq: 0,
            written: 0,
            events: 0,
            ups: 0,
            messages: 0,
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
        while let Some(at) = self.victim.poll_timeout().filter(|at| *at <= end && *at > self.now) {
            self.now = at;
            self.victim.handle_timeout(at);
            self.drain();
        }
        self.now = end;
        self.victim.handle_timeout(end);
        self.drain();
    }

    fn drain(&mut self) {
        self.transmit();
        while let Some(event) = self.victim.poll_event() {
            match event {
                Event::Message(_) | Event::Undecodable { .. } => self.messages += 1,
                Event::Up => {
                    self.events += 1;
                    self.ups += 1;
                    self.ours = self.said.clone();
                    self.seq = 0;
                }
                Event::Down { .. } | Event::Incompatible { .. } => self.events += 1,
            }
        }
        self.transmit();
        let at = self.victim.poll_timeout();
        let end_of_time = Instant::from_micros(u64::MAX);
        let sane = at.is_some_and(|at| at > self.now) || self.now == end_of_time;
        assert!(sane, "{at:?} is asked for at {:?}", self.now);
    }

    fn transmit(&mut self) {
        while let Some(bytes) = self.victim.poll_transmit(self.now) {
            self.written += bytes.len();
            let mut bytes = &bytes[..];
            while let Some(sealed) = self.decoder.next(&mut bytes) {
                if let Some(hello) = sealed.open(HELLO_PREFIX) {
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

    /// A frame of the present connection: right in form, made up in content.
    fn frame(&mut self) -> Vec<u8> {
        let kind = 2 + self.random.below(4) as u8;
        let mut body = vec![kind];
        for field in 0..2 {
            let number = match self.random.below(3) {
                0 => self.random.next() as u16,
                1 => self.random.below(300) as u16,
                _ if field == 0 => self.seq,
                _ => 0,
            };
            self.seq += u16::from(kind == 2 && field == 0 && number == self.seq);
            body.extend_from_slice(&number.to_le_bytes());
        }
        let length = [0, 1, 16, 17, 300, 4096][self.random.below(6) as usize];
        let mut payload = self.random.bytes(length);
        if self.random.chance(0.8) {
            // A message of one byte, over and over.
            payload = [4 | self.random.below(4) as u8, 1, 0].repeat(length / 3);
        }
        body.extend_from_slice(&payload);
        let prefix = [&self.ours[..], &self.theirs].concat();
        sealed(&prefix, &body)
    }

    fn attack(&mut self) {
        let bytes = match self.random.below(40) {
            0 => self.some_hello(),
            1 => {
                let length = self.random.below(9_000) as usize;
                self.random.bytes(length)
            }
            _ if self.ups == 0 => self.some_hello(),
            _ => self.frame(),
        };
        self.feed(&bytes);
        let number = self.random.next();
        if number.is_multiple_of(5) {
            let answer = answer(&issue(number, 600)).unwrap();
            self.victim.send(self.now, &answer).ok();
            self.drain();
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
    let mut messages = 0;
    for seed in 0..60 {
        let line_rate = [PACED, None, Some(1), Some(960)][seed as usize % 4];
        let mut siege = Siege::new(line_rate, seed, Instant::ZERO);
        for _ in 0..600 {
            siege.attack();
            let pause = siege.random.below(200);
            siege.wait(Duration::from_millis(pause));
        }
        let passed = siege.now.saturating_since(Instant::ZERO);
        let connections = siege.victim.counters().link.connections;
        let most = 1 + passed.as_secs() / RECONNECT_INTERVAL.as_secs();
        assert!(connections > 0 && connections <= most, "{connections} in {passed:?}");
        if let Some(rate) = line_rate {
            let most = (passed + 2 * SECOND).as_secs_f64() * f64::from(rate) + 4_096.0;
            assert!((siege.written as f64) < most, "{} bytes in {passed:?}", siege.written);
        }
        messages += siege.messages;
    }
    assert!(messages > 1_000, "the attacker got through {messages} times only");
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
    assert!(siege.written < 2_000, "{} bytes", siege.written);
}

#[test]
fn an_honest_peer_is_found_again_after_an_attack() {
    for seed in 0..20 {
        let mut siege = Siege::new(PACED, seed, Instant::ZERO);
        for _ in 0..200 {
            siege.attack();
            siege.wait(SECOND / 10);
        }
        let mut pair = Pair::new(PACED, seed);
        pair.now = siege.now;
        pair.frontend.restart(pair.now);
        pair.signer.session = siege.victim;
        let time = pair.drive_until(10 * SECOND, |pair| pair.frontend.ups > 0 && pair.is_up());
        assert!(time.is_some_and(|time| time < 4 * SECOND), "seed {seed}: {time:?}");
        pair.frontend.session.send(pair.now, &issue(1, 500)).unwrap();
        let time = pair.drive_until(SECOND, |pair| pair.signer.heard == [issue(1, 500)]);
        assert!(time.is_some(), "seed {seed}: {:?}", pair.signer.heard);
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
