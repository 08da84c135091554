//! Two sessions and two wires on virtual time: one number replays a run.

use std::collections::VecDeque;

use protocol::{
    link::EndpointConfig,
    message::{Answer, Message, Request},
    secure::{Entropy, Pairing},
    session::{Event, Session, SessionConfig, Side},
    time::{Duration, Instant},
};

/// 115,200 baud, 8N1.
pub(crate) const LINE_RATE: u32 = 11_520;

/// SplitMix64: small, seeded, good enough to place faults.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64 > 1.0 - probability
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// What a wire does to bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Probability that a bit flips.
    pub(crate) bit_error: f64,
    /// Probability that a byte vanishes.
    pub(crate) drop: f64,
    /// Probability that a byte is followed by up to 40 bytes that came before it.
    pub(crate) duplicate: f64,
    /// Probability that a text appears before a byte.
    pub(crate) text: f64,
}

/// One direction of the cable.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) faults: Faults,
    pub(crate) cut: bool,
    pub(crate) latency: Duration,
    /// Bytes that entered the wire, before faults.
    pub(crate) carried: u64,
    rate: Option<u32>,
    random: Random,
    free_at: Instant,
    in_flight: VecDeque<(Instant, Vec<u8>)>,
    recent: VecDeque<u8>,
    /// What a tty's buffer may still hold when everything else has long gone.
    stale: VecDeque<u8>,
    /// Clean bits until the next bit error: sampled as gaps, so that clean bits cost nothing.
    bits_to_error: u64,
}

const PIECE: usize = 32;
const STALE_MAX: usize = 4096;

impl Wire {
    pub(crate) fn new(rate: Option<u32>, seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            cut: false,
            latency: Duration::from_micros(100),
            carried: 0,
            rate,
            random: Random(seed),
            free_at: Instant::ZERO,
            in_flight: VecDeque::new(),
            recent: VecDeque::new(),
            stale: VecDeque::new(),
            bits_to_error: u64::MAX,
        }
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        self.bits_to_error = self.gap();
    }

    pub(crate) fn put(&mut self, now: Instant, bytes: &[u8]) {
        self.carried += bytes.len() as u64;
        self.stale.extend(bytes);
        self.stale.drain(..self.stale.len().saturating_sub(STALE_MAX));
        for piece in bytes.chunks(PIECE) {
            self.free_at = self.free_at.max(now) + self.line_time(piece.len());
            if !self.cut {
                let damaged = self.damage(piece);
                self.in_flight.push_back((self.free_at + self.latency, damaged));
            }
        }
    }

    /// From now on the wire moves so many bytes per second, also those that wait to enter it.
    pub(crate) fn set_rate(&mut self, now: Instant, rate: u32) {
        self.rate = Some(rate);
        let waiting = std::mem::take(&mut self.in_flight);
        self.free_at = now;
        for (_, piece) in waiting {
            self.free_at += self.line_time(piece.len());
            self.in_flight.push_back((self.free_at + self.latency, piece));
        }
    }

    fn line_time(&self, bytes: usize) -> Duration {
        let micros = self.rate.map_or(0, |rate| bytes as u64 * 1_000_000 / u64::from(rate));
        Duration::from_micros(micros)
    }

    /// Bytes that nobody sent.
    pub(crate) fn inject(&mut self, now: Instant, bytes: &[u8]) {
        self.free_at = self.free_at.max(now);
        self.in_flight.push_back((self.free_at + self.latency, bytes.to_vec()));
    }

    /// Bytes of the past come again.
    pub(crate) fn inject_stale(&mut self, now: Instant) {
        let stale: Vec<u8> = self.stale.iter().copied().collect();
        self.inject(now, &stale);
    }

    pub(crate) fn cut(&mut self) {
        self.cut = true;
        self.in_flight.clear();
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.in_flight.front().map(|(at, _)| *at)
    }

    pub(crate) fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.in_flight.pop_front_if(|(at, _)| *at <= now).map(|(_, bytes)| bytes)
    }

    fn gap(&mut self) -> u64 {
        if self.faults.bit_error == 0.0 {
            return u64::MAX;
        }
        // Geometric distribution by inversion.
        let uniform = ((self.random.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        (uniform.ln() / (1.0 - self.faults.bit_error).ln()) as u64
    }

    fn damage(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len());
        for byte in piece {
            let mut byte = *byte;
            for bit in 0..8 {
                if self.bits_to_error == 0 {
                    byte ^= 1 << bit;
                    self.bits_to_error = self.gap();
                } else {
                    self.bits_to_error -= u64::from(self.bits_to_error != u64::MAX);
                }
            }
            let faults = self.faults.clone();
            if faults.text > 0.0 && self.random.chance(faults.text) {
                let texts: [&[u8]; 2] =
                    [b"\r\n[ 12.345678] usb 1-1: new device\r\n", b"\r\nDebian 12\r\nhost login: "];
                out.extend_from_slice(texts[self.random.below(2) as usize]);
            }
            if faults.drop == 0.0 || !self.random.chance(faults.drop) {
                out.push(byte);
            }
            self.recent.push_back(byte);
            if self.recent.len() > 40 {
                self.recent.pop_front();
            }
            if faults.duplicate > 0.0 && self.random.chance(faults.duplicate) {
                let count = self.random.below(self.recent.len() as u64 + 1) as usize;
                out.extend(self.recent.iter().skip(self.recent.len() - count));
            }
        }
        out
    }
}

/// One end with what it heard.
pub(crate) struct End<Out, In> {
    pub(crate) session: Session<Out, In>,
    pub(crate) heard: Vec<In>,
    /// In which connection each message was heard.
    pub(crate) heard_in: Vec<usize>,
    pub(crate) ups: usize,
    pub(crate) downs: Vec<protocol::session::DownReason>,
    pub(crate) others: Vec<String>,
    pub(crate) config: SessionConfig,
}

impl<Out: Message, In: Message + std::fmt::Debug> End<Out, In> {
    pub(crate) fn new(side: Side, boot_id: u64, line_rate: Option<u32>, now: Instant) -> Self {
        let (frontend, signer) = Pairing::both(1);
        let pairing = if side == Side::Frontend { frontend } else { signer };
        let link = EndpointConfig { side, boot_id, line_rate };
        let config = SessionConfig { link, pairing, entropy: Entropy::seeded(boot_id) };
        Self {
            session: Session::new(config.clone(), now),
            heard: Vec::new(),
            heard_in: Vec::new(),
            ups: 0,
            downs: Vec::new(),
            others: Vec::new(),
            config,
        }
    }

    /// The process dies and starts again.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.config.link.boot_id += 1;
        self.session = Session::new(self.config.clone(), now);
    }

    pub(crate) fn drain(&mut self, now: Instant, wire: &mut Wire) {
        while let Some(bytes) = self.session.poll_transmit(now) {
            wire.put(now, &bytes);
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Up => self.ups += 1,
                Event::Down { reason } => self.downs.push(reason),
                Event::Message(message) => {
                    self.heard.push(message);
                    self.heard_in.push(self.ups);
                }
                other => self.others.push(format!("{other:?}")),
            }
        }
        // Reading may have made room for what waited, and so something to send.
        while let Some(bytes) = self.session.poll_transmit(now) {
            wire.put(now, &bytes);
        }
    }
}

/// Both ends and the cable between them.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) frontend: End<Request, Answer>,
    pub(crate) signer: End<Answer, Request>,
    /// From the frontend to the signer.
    pub(crate) up: Wire,
    /// From the signer to the frontend.
    pub(crate) down: Wire,
}

impl Pair {
    pub(crate) fn new(line_rate: Option<u32>, seed: u64) -> Self {
        let now = Instant::ZERO;
        Self {
            now,
            frontend: End::new(Side::Frontend, seed << 20 | 0x100, line_rate, now),
            signer: End::new(Side::Signer, seed << 20 | 0x200, line_rate, now),
            up: Wire::new(line_rate, seed ^ 0x1111),
            down: Wire::new(line_rate, seed ^ 0x2222),
        }
    }

    pub(crate) fn connected(line_rate: Option<u32>, seed: u64) -> Self {
        Self::connected_within(Duration::from_secs(5), line_rate, seed)
    }

    pub(crate) fn connected_within(limit: Duration, line_rate: Option<u32>, seed: u64) -> Self {
        let mut pair = Self::new(line_rate, seed);
        pair.drive_until(limit, Self::is_up).expect("nothing keeps them apart");
        pair
    }

    /// The wire's own speed, whatever the sessions were told.
    pub(crate) fn set_rate(&mut self, rate: u32) {
        self.up.set_rate(self.now, rate);
        self.down.set_rate(self.now, rate);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.frontend.session.is_up() && self.signer.session.is_up()
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.up.set_faults(faults.clone());
        self.down.set_faults(faults);
    }

    pub(crate) fn cut(&mut self) {
        self.up.cut();
        self.down.cut();
    }

    pub(crate) fn join(&mut self) {
        self.up.cut = false;
        self.down.cut = false;
    }

    pub(crate) fn drain(&mut self) {
        self.frontend.drain(self.now, &mut self.up);
        self.signer.drain(self.now, &mut self.down);
    }

    /// Goes to the next moment at which anything happens, but not past `limit`.
    pub(crate) fn step(&mut self, limit: Instant) {
        self.drain();
        let wakeups = [
            self.frontend.session.poll_timeout(),
            self.signer.session.poll_timeout(),
            self.up.next(),
            self.down.next(),
        ];
        let next = wakeups.into_iter().flatten().min().unwrap_or(limit);
        self.now = next.max(self.now).min(limit);
        while let Some(bytes) = self.up.take(self.now) {
            self.signer.session.handle_bytes(self.now, &bytes);
        }
        while let Some(bytes) = self.down.take(self.now) {
            self.frontend.session.handle_bytes(self.now, &bytes);
        }
        self.frontend.session.handle_timeout(self.now);
        self.signer.session.handle_timeout(self.now);
        self.drain();
        // Nothing due is left over, or a driver would spin; something is always to come, or it
        // would sleep for ever.
        for at in [self.frontend.session.poll_timeout(), self.signer.session.poll_timeout()] {
            assert!(at.is_some_and(|at| at > self.now), "{at:?} is asked for at {:?}", self.now);
        }
    }

    /// Lets `time` pass.
    pub(crate) fn drive(&mut self, time: Duration) {
        let end = self.now + time;
        self.drive_to(end, |_| false);
    }

    /// Goes on until `done`, for `limit` at most; returns how long it took.
    pub(crate) fn drive_until(
        &mut self,
        limit: Duration,
        done: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        let end = start + limit;
        self.drive_to(end, done).then(|| self.now.saturating_since(start))
    }

    fn drive_to(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        let (mut standing, mut last) = (0, self.now);
        loop {
            if done(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            self.step(end);
            standing = if self.now == last { standing + 1 } else { 0 };
            last = self.now;
            assert!(standing < 1000, "time stands still at {:?}", self.now);
        }
    }
}
