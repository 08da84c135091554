//! Two paired sessions whose frames pass one by one through a test's hands, on virtual time.

use std::collections::VecDeque;

use protocol::{
    frame::{DELIMITER, Decoder},
    link::{EndpointConfig, KINDS},
    message::{Answer, CrlPiece, CrlScope, Message, Request},
    secure::{Entropy, Pairing},
    session::{Counters, Event, FrontendSession, Session, SessionConfig, Side, SignerSession},
    time::{Duration, Instant},
};

use crate::samples::{digest, issue, issuing};

/// 115,200 baud, 8N1.
pub(crate) const LINE_RATE: u32 = 11_520;
/// What drivers add, each way.
const LATENCY: Duration = Duration::from_millis(3);
/// The longest that the whole talk may take.
const WITHIN: Duration = Duration::from_secs(200);
/// What each end has to say: more than a window of segments.
const REQUESTS: usize = 6;
const ANSWERS: usize = 3;

pub(crate) fn config(side: Side, boot_id: u64) -> SessionConfig {
    let (frontend, signer) = Pairing::both(1);
    let pairing = if side == Side::Frontend { frontend } else { signer };
    let link = EndpointConfig { side, boot_id, line_rate: Some(LINE_RATE) };
    SessionConfig { link, pairing, entropy: Entropy::seeded(boot_id) }
}

/// The name of a frame's kind, by its first byte.
pub(crate) fn kind(frame: &[u8]) -> Option<&'static str> {
    let sealed = Decoder::default().next(&mut &frame[..])?;
    let head = sealed.claimed_kind();
    // Hello and Busy are whole bytes; the others share theirs with a bitmap's length.
    let found = |number: u8| KINDS.into_iter().find(|(_, kind)| *kind == number);
    let whole = found(head).filter(|(name, _)| ["Hello", "Busy"].contains(name));
    whole.or_else(|| found(head & 7)).map(|(name, _)| name)
}

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Frontend,
    Signer,
    /// A second frontend on the same wire.
    Stranger,
}

/// A frame that somebody sent, how many-th of all, and what arrives in its place.
pub(crate) type Fate<'a> = dyn FnMut(usize, From, &[u8]) -> Vec<u8> + 'a;

/// The whole talk: each end says what it has to say, again in each connection, until all is heard.
pub(crate) struct Talk {
    pub(crate) now: Instant,
    pub(crate) frontend: FrontendSession,
    pub(crate) signer: SignerSession,
    stranger: Option<(Instant, Option<FrontendSession>)>,
    frames: usize,
    flying: VecDeque<(Instant, From, Vec<u8>)>,
    /// What was heard, each once.
    requests: Vec<Request>,
    answers: Vec<Answer>,
    /// Events that no damaged frame may bring about.
    pub(crate) wonders: Vec<String>,
}

impl Talk {
    pub(crate) fn new() -> Self {
        let now = Instant::ZERO;
        Self {
            now,
            frontend: Session::new(config(Side::Frontend, 0x100), now),
            signer: Session::new(config(Side::Signer, 0x200), now),
            stranger: None,
            frames: 0,
            flying: VecDeque::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            wonders: Vec::new(),
        }
    }

    /// A second frontend is put on the wire then.
    pub(crate) fn with_stranger(at: Duration) -> Self {
        Self { stranger: Some((Instant::ZERO + at, None)), ..Self::new() }
    }

    /// Goes on until everything was heard.
    pub(crate) fn drive(&mut self, fate: &mut Fate<'_>) {
        let end = Instant::ZERO + WITHIN;
        while self.requests.len() < REQUESTS || self.answers.len() < ANSWERS {
            assert!(self.now < end, "{} requests came", self.requests.len());
            self.step(fate);
        }
    }

    /// Goes on for so long.
    pub(crate) fn drive_for(&mut self, time: Duration, fate: &mut Fate<'_>) {
        let end = self.now + time;
        while self.now < end {
            self.step(fate);
        }
    }

    fn step(&mut self, fate: &mut Fate<'_>) {
        self.settle(fate);
        let stranger = self.stranger.as_ref();
        let stranger_at = stranger.and_then(|(at, session)| match session {
            Some(session) => session.poll_timeout(),
            None => Some(*at),
        });
        let wakeups = [
            self.frontend.poll_timeout(),
            self.signer.poll_timeout(),
            stranger_at,
            self.flying.front().map(|(at, ..)| *at),
        ];
        let next = wakeups.into_iter().flatten().min();
        self.now = next.expect("a session always has something to come").max(self.now);
        while let Some((_, from, bytes)) = self.flying.pop_front_if(|(at, ..)| *at <= self.now) {
            self.arrive(from, &bytes);
        }
        self.frontend.handle_timeout(self.now);
        self.signer.handle_timeout(self.now);
        if let Some((at, session)) = &mut self.stranger {
            match session {
                Some(session) => session.handle_timeout(self.now),
                None if *at <= self.now => {
                    *session = Some(Session::new(config(Side::Frontend, 0x300), self.now));
                }
                None => {}
            }
        }
        self.settle(fate);
    }

    fn arrive(&mut self, from: From, bytes: &[u8]) {
        if from == From::Signer {
            self.frontend.handle_bytes(self.now, bytes);
            if let Some((_, Some(stranger))) = &mut self.stranger {
                stranger.handle_bytes(self.now, bytes);
            }
        } else {
            self.signer.handle_bytes(self.now, bytes);
        }
    }

    /// What the receiver of a frame from there has counted.
    pub(crate) fn receiver(&self, from: From) -> Counters {
        match from {
            From::Signer => self.frontend.counters(),
            _ => self.signer.counters(),
        }
    }

    fn settle(&mut self, fate: &mut Fate<'_>) {
        while let Some(event) = self.frontend.poll_event() {
            match event {
                Event::Up => self.speak(Side::Frontend),
                Event::Down { .. } => {}
                Event::Message(answer) => hear(&mut self.answers, answer, &all_answers()),
                other => self.wonders.push(format!("{other:?}")),
            }
        }
        while let Some(event) = self.signer.poll_event() {
            match event {
                Event::Up => self.speak(Side::Signer),
                Event::Down { .. } => {}
                Event::Message(request) => hear(&mut self.requests, request, &all_requests()),
                other => self.wonders.push(format!("{other:?}")),
            }
        }
        let mut sent = Vec::new();
        while let Some(bytes) = self.frontend.poll_transmit(self.now) {
            sent.push((From::Frontend, bytes));
        }
        while let Some(bytes) = self.signer.poll_transmit(self.now) {
            sent.push((From::Signer, bytes));
        }
        if let Some((_, Some(stranger))) = &mut self.stranger {
            while stranger.poll_event().is_some() {}
            while let Some(bytes) = stranger.poll_transmit(self.now) {
                sent.push((From::Stranger, bytes));
            }
        }
        for (from, bytes) in sent {
            for frame in bytes.split_inclusive(|byte| *byte == DELIMITER) {
                let arrives = match frame {
                    [DELIMITER] => frame.to_vec(),
                    _ => {
                        self.frames += 1;
                        fate(self.frames, from, frame)
                    }
                };
                self.flying.push_back((self.now + LATENCY, from, arrives));
            }
        }
    }

    fn speak(&mut self, side: Side) {
        match side {
            Side::Frontend => {
                for request in all_requests() {
                    self.frontend.send(self.now, &request).unwrap();
                }
            }
            Side::Signer => {
                for answer in all_answers() {
                    self.signer.send(self.now, &answer).unwrap();
                }
            }
        }
    }
}

/// In order, each once; what was heard in an earlier connection comes again from the first on.
fn hear<M: Message + PartialEq + std::fmt::Debug>(heard: &mut Vec<M>, message: M, all: &[M]) {
    let which = all.iter().position(|one| *one == message);
    let which = which.unwrap_or_else(|| panic!("nobody sent {message:?}"));
    assert!(which <= heard.len(), "number {which} came before number {}", heard.len());
    if which == heard.len() {
        heard.push(message);
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn all_requests() -> Vec<Request> {
    let request = |number: usize| {
        let csr = noise(number as u64 + 1, 700).try_into().unwrap();
        Request::Issue(protocol::message::IssueCertificate { csr, ..issue() })
    };
    (0..REQUESTS).map(request).collect()
}

fn all_answers() -> Vec<Answer> {
    let answer = |number: usize| {
        Answer::CrlPiece(CrlPiece {
            authority: issuing(),
            scope: CrlScope::Full,
            crl_number: number as u64,
            crl_digest: digest(0),
            crl_length: 1 << 20,
            packed_digest: digest(0),
            packed_length: 1 << 20,
            offset: 0,
            bytes: noise(number as u64 + 77, 4000).try_into().unwrap(),
        })
    };
    (0..ANSWERS).map(answer).collect()
}
