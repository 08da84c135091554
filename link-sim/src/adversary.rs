//! Somebody who owns the wire: reads every frame, drops, keeps back, plays again, sends back to
//! its sender, alters and makes up frames of both directions, all with a right CRC.
//!
//! He needs no key for a CRC: it is affine, so what a change of the body does to it follows from
//! the change alone, whatever else it covers; and he knows the protocol, so he also makes frames
//! with numbers of his own ([`Forgery`]). What he may bring about is delay: nothing may come of it
//! that was not asked for, and service is back soon after he stops. Sans-IO: bytes in, bytes out.

mod forger;

use std::collections::VecDeque;

use crc::{CRC_32_ISCSI, Crc};
use protocol::{
    frame::{self, BODY_MAX, CRC_LEN, DELIMITER, FRAME_MAX},
    link::HELLO_PREFIX,
    session::Side,
    time::{Duration, Instant},
};

use self::forger::Forger;
pub use self::forger::Forgery;
use crate::random::Random;

/// What he did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    /// Frames that he let through as they were.
    pub passed: u64,
    /// Frames that never arrived.
    pub dropped: u64,
    /// Frames that arrived late, after others.
    pub delayed: u64,
    /// Frames played again, to either side.
    pub replayed: u64,
    /// Frames sent back to who sent them.
    pub reflected: u64,
    /// Frames changed, with a right CRC.
    pub altered: u64,
    /// Frames with another content or of another kind, with a right CRC.
    pub made_up: u64,
    /// Greetings of his own.
    pub greetings: u64,
    /// Frames that he made of what he knows of the connection.
    pub forged: u64,
}

impl Deeds {
    /// Everything that he did but letting through.
    pub fn in_all(&self) -> u64 {
        self.each().iter().sum::<u64>() - self.passed
    }

    fn each(&self) -> [u64; 9] {
        let Self {
            passed,
            dropped,
            delayed,
            replayed,
            reflected,
            altered,
            made_up,
            greetings,
            forged,
        } = *self;
        [passed, dropped, delayed, replayed, reflected, altered, made_up, greetings, forged]
    }
}

/// The man in the middle.
#[derive(Debug)]
pub struct Adversary {
    random: Random,
    towards_signer: Vec<u8>,
    towards_frontend: Vec<u8>,
    /// Frames as they were sent, oldest first, with the side that they were sent to.
    recorded: VecDeque<(Side, Vec<u8>)>,
    /// The last greeting of each side, as a body.
    greetings: [Option<Vec<u8>>; 2],
    late: VecDeque<(Instant, Side, Vec<u8>)>,
    /// What he adds to the versions in every greeting.
    version_by: i8,
    /// How often he touches a frame.
    meddles: f64,
    forger: Forger,
    /// The only thing that he does, and whom he deceives.
    only: Option<(Forgery, Side)>,
    deeds: Deeds,
}

impl Adversary {
    /// What he decides follows from `seed`; `meddles` is how often he touches a frame.
    pub fn new(seed: u64, meddles: f64) -> Self {
        Self {
            random: Random::new(seed),
            towards_signer: Vec::new(),
            towards_frontend: Vec::new(),
            recorded: VecDeque::new(),
            greetings: [None, None],
            late: VecDeque::new(),
            version_by: 0,
            meddles,
            forger: Forger::default(),
            only: None,
            deeds: Deeds::default(),
        }
    }

    /// One who does this and nothing else, to what `victim` says.
    pub fn who_forges(forgery: Forgery, victim: Side, seed: u64, meddles: f64) -> Self {
        Self { only: Some((forgery, victim)), ..Self::new(seed, meddles) }
    }

    /// He has seen the greetings that these two said before he came.
    pub fn has_heard(&mut self, from: Side, tape: &[u8]) {
        for run in tape.split_inclusive(|byte| *byte == DELIMITER) {
            if let Some(plain) = plain(run) {
                self.note(from, &plain);
            }
        }
    }

    /// One who only says in every greeting that its sender speaks versions so many later or
    /// earlier.
    pub fn of_another_version(by: i8) -> Self {
        Self { version_by: by, ..Self::new(0, 0.0) }
    }

    /// What he did so far.
    pub fn deeds(&self) -> Deeds {
        self.deeds
    }

    /// Bytes for `to` pass him: what comes out for which side, in order.
    pub fn handle_bytes(&mut self, now: Instant, to: Side, bytes: &[u8]) -> Vec<(Side, Vec<u8>)> {
        let mut out = Vec::new();
        for byte in bytes {
            let run = match to {
                Side::Frontend => &mut self.towards_frontend,
                Side::Signer => &mut self.towards_signer,
            };
            run.push(*byte);
            if *byte == DELIMITER || run.len() > FRAME_MAX {
                let frame = std::mem::take(run);
                self.treat(now, to, frame, &mut out);
            }
        }
        out
    }

    /// When [`Self::poll`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.late.front().map(|late| late.0)
    }

    /// What he kept back until now.
    pub fn poll(&mut self, now: Instant) -> Option<(Side, Vec<u8>)> {
        let due = self.late.front().is_some_and(|late| late.0 <= now);
        due.then(|| self.late.pop_front()).flatten().map(|(_, side, bytes)| (side, bytes))
    }

    fn treat(&mut self, now: Instant, to: Side, frame: Vec<u8>, out: &mut Vec<(Side, Vec<u8>)>) {
        let Some(plain) = plain(&frame) else {
            out.push((to, frame));
            return;
        };
        if self.recorded.len() == RECORDED_MAX {
            self.recorded.pop_front();
        }
        self.recorded.push_back((to, frame.clone()));
        let from = other(to);
        let is_greeting = self.remember_greeting(to, &plain);
        let body = &plain[..plain.len() - CRC_LEN];
        let seen = self.note(from, &plain);
        if is_greeting && self.version_by != 0 {
            self.deeds.greetings += 1;
            out.push((to, self.greeting_of_another_version(&plain)));
            return;
        }
        if !self.random.chance(self.meddles) {
            self.deeds.passed += 1;
            out.push((to, frame));
            return;
        }
        let (only, draw) = (self.only, self.random.below(13));
        let forgery = match only {
            Some((forgery, victim)) => {
                if victim != from {
                    // The truth would spoil what he acknowledges.
                    match forgery == Forgery::Acknowledges && !is_greeting {
                        true => self.deeds.dropped += 1,
                        false => out.push((to, frame)),
                    }
                    return;
                }
                Some(forgery)
            }
            None if draw >= 9 => {
                Some(Forgery::ALL[self.random.below(Forgery::ALL.len() as u64) as usize])
            }
            None => None,
        };
        if let Some(forgery) = forgery {
            let random = &mut self.random;
            let draw = |below: usize| random.below(below.max(1) as u64) as usize;
            let forged =
                seen.and_then(|seen| self.forger.forge(forgery, from, (&frame, body), seen, draw));
            match forged {
                Some(forged) => {
                    self.deeds.forged += 1;
                    out.extend(forged);
                }
                None => out.push((to, frame)),
            }
            return;
        }
        match draw {
            0 => self.deeds.dropped += 1,
            1 => {
                self.deeds.delayed += 1;
                let at = now + Duration::from_micros(self.random.below(DELAY_MAX_US));
                let place = self.late.partition_point(|late| late.0 <= at);
                self.late.insert(place, (at, to, frame));
            }
            2 => {
                self.deeds.reflected += 1;
                out.extend([(other(to), frame.clone()), (to, frame)]);
            }
            3 | 4 => {
                out.push((to, frame));
                let (towards, old) = self.any_recorded();
                self.deeds.replayed += 1;
                // As it was, or to the other side.
                let towards = if self.random.chance(0.8) { towards } else { other(towards) };
                out.push((towards, old));
            }
            5 => {
                out.push((to, frame));
                if let Some(greeting) = self.own_greeting(to) {
                    self.deeds.greetings += 1;
                    out.push((to, greeting));
                }
            }
            6 => {
                self.deeds.made_up += 1;
                if self.random.chance(0.5) {
                    out.push((to, frame));
                }
                let made_up = self.with_another_content(plain);
                out.push((to, made_up));
            }
            _ => {
                self.deeds.altered += 1;
                let altered = self.altered(plain);
                out.push((to, altered));
            }
        }
    }

    /// Learns what there is to learn from a frame of this side.
    fn note(&mut self, from: Side, plain: &[u8]) -> Option<forger::Seen> {
        let (body, crc) = plain.split_at(plain.len() - CRC_LEN);
        if is_greeting(body, crc) {
            self.forger.note_greeting(from, body);
            return None;
        }
        self.forger.note(from, body)
    }

    fn any_recorded(&mut self) -> (Side, Vec<u8>) {
        let nth = self.random.below(self.recorded.len() as u64) as usize;
        self.recorded[nth].clone()
    }

    fn greeting_of_another_version(&self, plain: &[u8]) -> Vec<u8> {
        let mut body = plain[..plain.len() - CRC_LEN].to_vec();
        for version in body.iter_mut().skip(VERSIONS_AT).take(2) {
            *version = version.wrapping_add_signed(self.version_by);
        }
        let mut out = Vec::new();
        frame::encode(HELLO_PREFIX, &body, &mut out);
        out
    }

    /// Whether it is one.
    fn remember_greeting(&mut self, to: Side, plain: &[u8]) -> bool {
        let (body, crc) = plain.split_at(plain.len() - CRC_LEN);
        let is_greeting = is_greeting(body, crc);
        if is_greeting {
            self.greetings[to as usize] = Some(body.to_vec());
        }
        is_greeting
    }

    /// A few bits or bytes of the body become others.
    fn altered(&mut self, mut plain: Vec<u8>) -> Vec<u8> {
        let body = plain.len() - CRC_LEN;
        let mut change = vec![0; body];
        for _ in 0..1 + self.random.below(3) {
            // The header is short, and where it hurts.
            let reach = if self.random.chance(0.6) { body.min(8) } else { body };
            let at = self.random.below(reach as u64) as usize;
            change[at] ^= match self.random.below(2) {
                0 => 1 << self.random.below(8),
                _ => 1 + self.random.below(255) as u8,
            };
        }
        apply(&mut plain, &change);
        framed(&plain)
    }

    /// The same place in the conversation, with a content of his own or of another frame.
    fn with_another_content(&mut self, mut plain: Vec<u8>) -> Vec<u8> {
        let body = plain.len() - CRC_LEN;
        let content: Vec<u8> = match self.random.below(2) {
            0 => (0..body).map(|_| self.random.byte()).collect(),
            _ => {
                let (_, other) = self.any_recorded();
                let mut other = self::plain(&other).unwrap_or_default();
                other.truncate(other.len().saturating_sub(CRC_LEN));
                other.resize(body, 0);
                other
            }
        };
        let from = self.random.below(body.min(8) as u64) as usize;
        let change = plain.iter().zip(&content).enumerate();
        let change: Vec<u8> =
            change.map(|(at, (old, new))| if at < from { 0 } else { old ^ new }).collect();
        apply(&mut plain, &change);
        framed(&plain)
    }

    /// A greeting as this side or the other one wrote it, with any field changed, of any length:
    /// what its CRC covers is known to everybody.
    fn own_greeting(&mut self, to: Side) -> Option<Vec<u8>> {
        let from = if self.random.chance(0.8) { to } else { other(to) };
        let mut body = self.greetings[from as usize].clone()?;
        match self.random.below(4) {
            0 => body.truncate(1 + self.random.below(body.len() as u64) as usize),
            1 => {
                let more = self.random.below(64);
                body.extend((0..more).map(|_| self.random.byte()));
                body.truncate(BODY_MAX);
            }
            _ => {
                for _ in 0..1 + self.random.below(3) {
                    let at = self.random.below(body.len() as u64) as usize;
                    body[at] = self.random.byte();
                }
            }
        }
        let mut out = Vec::new();
        frame::encode(HELLO_PREFIX, &body, &mut out);
        Some(out)
    }
}

fn is_greeting(body: &[u8], crc: &[u8]) -> bool {
    let mut digest = CRC.digest();
    digest.update(HELLO_PREFIX);
    digest.update(body);
    digest.finalize().to_le_bytes() == crc
}

/// Body and CRC of a frame with its delimiter; nothing if it is no frame.
fn plain(frame: &[u8]) -> Option<Vec<u8>> {
    let (last, run) = frame.split_last()?;
    let mut plain = run.to_vec();
    let length = cobs::decode_in_place(&mut plain).ok()?;
    plain.truncate(length);
    (*last == DELIMITER && length > CRC_LEN).then_some(plain)
}

/// Changes body and CRC: what the change does to the CRC is the same whatever is under it.
fn apply(plain: &mut [u8], change: &[u8]) {
    let (body, crc) = plain.split_at_mut(change.len());
    body.iter_mut().zip(change).for_each(|(byte, change)| *byte ^= change);
    let zeros = vec![0; change.len()];
    let difference = CRC.checksum(change) ^ CRC.checksum(&zeros);
    crc.iter_mut().zip(difference.to_le_bytes()).for_each(|(byte, change)| *byte ^= change);
}

fn framed(plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; cobs::max_encoding_length(plain.len())];
    let length = cobs::encode(plain, &mut out);
    out.truncate(length);
    out.push(DELIMITER);
    out
}

const fn other(side: Side) -> Side {
    match side {
        Side::Frontend => Side::Signer,
        Side::Signer => Side::Frontend,
    }
}

/// The CRC of frames: `SPEC.md`, "Frames".
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Where a greeting has its sender's oldest and newest version: `SPEC.md`, "Hello".
const VERSIONS_AT: usize = 2;
/// What he remembers.
const RECORDED_MAX: usize = 256;
/// How long he keeps a frame back.
const DELAY_MAX_US: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use protocol::frame::Decoder;

    use super::*;

    #[test]
    fn a_changed_frame_opens_under_a_prefix_that_he_never_knew() {
        let prefix = b"only the two ends know this";
        let mut adversary = Adversary::new(1, 1.0);
        for length in 1..200_usize {
            let body: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut frame = Vec::new();
            frame::encode(prefix, &body, &mut frame);
            let altered = adversary.altered(plain(&frame).unwrap());
            let sealed = Decoder::default().next(&mut &altered[..]).unwrap();
            let opened = sealed.open(prefix).expect("the CRC is right");
            assert_eq!(opened.len(), body.len());
        }
    }

    #[test]
    fn he_does_all_that_is_said_of_him() {
        let mut adversary = Adversary::new(3, 0.9);
        let mut greeting = Vec::new();
        frame::encode(HELLO_PREFIX, b"\x01a greeting with a nonce in it", &mut greeting);
        let mut frame = Vec::new();
        frame::encode(b"prefix", b"\x02\x00\x00what one end says to the other", &mut frame);
        for _ in 0..500 {
            adversary.handle_bytes(Instant::ZERO, Side::Signer, &greeting);
            adversary.handle_bytes(Instant::ZERO, Side::Frontend, &greeting);
            adversary.handle_bytes(Instant::ZERO, Side::Frontend, &frame);
        }
        let deeds = adversary.deeds().each();
        assert!(deeds.iter().all(|count| *count > 10), "{deeds:?}");
    }
}
