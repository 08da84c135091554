//! One direction of a serial line, without I/O and without a clock.
//!
//! `push` what the sender writes, `poll` what has arrived, sleep until `poll_timeout`; a full
//! duplex line is two wires. Every byte takes its ten bits of line time (8N1), then the latency,
//! and meets the faults of its configuration on the way. The same seed and the same calls give
//! the same bytes. It never delays a byte past another one: a serial line keeps the order.

use std::collections::VecDeque;

use protocol::time::{Duration, Instant};

use crate::{
    faults::{Cut, Faults, Loose, Runs},
    random::Random,
};

#[cfg(test)]
mod tests;

/// What a wire is like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WireConfig {
    /// A tenth of the baud rate; `None` and 0 are a line without a limit.
    pub bytes_per_second: Option<u32>,
    /// From the end of a byte on the line to its arrival: adapters and drivers.
    pub latency: Duration,
    /// What goes wrong.
    pub faults: Faults,
}

/// What happened on a wire so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireCounters {
    /// Bytes that the sender wrote.
    pub pushed: u64,
    /// Bytes that arrived, wanted or not.
    pub delivered: u64,
    /// Bits inverted.
    pub flipped: u64,
    /// Bytes lost one by one or in runs.
    pub dropped: u64,
    /// Bytes that nobody wrote: duplicates, noise, text, stale bytes.
    pub inserted: u64,
    /// Bytes lost because the cable was out.
    pub cut: u64,
}

/// One direction of a serial line.
#[derive(Clone, Debug)]
pub struct Wire {
    line: Line,
    latency: Duration,
    faults: Faults,
    random: Random,
    flying: VecDeque<Flying>,
    skips: Skips,
    /// How many bytes the current run still loses.
    dropping: u64,
    /// The last bytes, for duplicates; empty when there are none.
    recent: VecDeque<u8>,
    plug: Plug,
    counters: WireCounters,
}

/// A byte under way, and when its last bit left the sender.
#[derive(Clone, Copy, Debug)]
struct Flying {
    passes_at: Instant,
    byte: u8,
}

impl Wire {
    /// A wire whose accidents follow from `seed`.
    pub fn new(config: WireConfig, seed: u64) -> Self {
        let WireConfig { bytes_per_second, latency, faults } = config;
        let mut random = Random::new(seed);
        let mut wire = Self {
            line: Line::new(bytes_per_second),
            latency,
            skips: Skips::new(&faults, &mut random),
            plug: Plug::new(&faults, random.fork()),
            random,
            flying: VecDeque::new(),
            dropping: 0,
            recent: VecDeque::new(),
            counters: WireCounters::default(),
            faults,
        };
        for _ in 0..wire.faults.stale {
            let byte = wire.random.byte();
            wire.flying.push_back(Flying { passes_at: Instant::ZERO, byte });
            wire.counters.inserted += 1;
        }
        wire
    }

    /// The sender writes `bytes`; they leave one after the other as the line gets free.
    pub fn push(&mut self, now: Instant, bytes: &[u8]) {
        self.line.wake(now);
        for byte in bytes {
            self.counters.pushed += 1;
            let faulty = self.faults.healed_at.is_none_or(|at| self.line.free_at() < at);
            if faulty { self.carry_badly(*byte) } else { self.carry(*byte) }
        }
    }

    /// Somebody else writes `bytes` on the line, such as a recorded session.
    pub fn inject(&mut self, now: Instant, bytes: &[u8]) {
        self.line.wake(now);
        for byte in bytes {
            self.counters.inserted += 1;
            self.carry(*byte);
        }
    }

    /// What has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut arrived = Vec::new();
        while let Some(flying) = self.flying.front() {
            if flying.passes_at + self.latency > now {
                break;
            }
            if self.plug.is_out(flying.passes_at) {
                self.counters.cut += 1;
            } else {
                arrived.push(flying.byte);
            }
            self.flying.pop_front();
        }
        self.counters.delivered += arrived.len() as u64;
        (!arrived.is_empty()).then_some(arrived)
    }

    /// When `poll` is worth the next call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.flying.front().map(|flying| flying.passes_at + self.latency)
    }

    /// When `poll` is worth the next call if bytes are handed over in batches, as a UART's FIFO
    /// does: `batch` after the first of them, but the last of a burst never waits for it.
    pub fn poll_batch_timeout(&self, batch: Duration) -> Option<Instant> {
        let arrives_at = self.poll_timeout()?;
        let quiet_at = self.line.free_at() + self.latency;
        Some(arrives_at.max(quiet_at.min(arrives_at + batch)))
    }

    /// How many bytes can be pushed at `now` so that the line is free again within `backlog`.
    pub fn room(&self, now: Instant, backlog: Duration) -> usize {
        self.line.room(now, backlog)
    }

    /// When the last byte pushed so far has left the sender.
    pub fn free_at(&self) -> Instant {
        self.line.free_at()
    }

    /// How many bytes are under way.
    pub fn flying(&self) -> usize {
        self.flying.len()
    }

    /// Takes the cable out.
    pub fn cut(&mut self, now: Instant) {
        self.plug.out_since.get_or_insert(now);
    }

    /// Puts the cable in again.
    pub fn restore(&mut self, now: Instant) {
        if let Some(from) = self.plug.out_since.take() {
            self.plug.cuts.push(Cut { from, until: now });
        }
    }

    /// From now on this wire meets no accident; a cable that is out stays out.
    pub fn heal(&mut self, now: Instant) {
        self.faults.healed_at = Some(self.faults.healed_at.map_or(now, |at| at.min(now)));
        self.plug.healed_at = self.faults.healed_at;
    }

    /// From now on these things go wrong, whatever went wrong before; a cable that is out stays
    /// out, and what is under way arrives as it is.
    pub fn change(&mut self, faults: Faults, seed: u64) {
        self.random = Random::new(seed);
        self.skips = Skips::new(&faults, &mut self.random);
        let (cuts, out_since) = (std::mem::take(&mut self.plug.cuts), self.plug.out_since);
        self.plug = Plug::new(&faults, self.random.fork());
        self.plug.cuts.extend(cuts);
        self.plug.out_since = out_since;
        self.dropping = 0;
        self.faults = faults;
    }

    /// What happened so far.
    pub fn counters(&self) -> WireCounters {
        self.counters
    }

    fn carry(&mut self, byte: u8) {
        let passes_at = self.line.take_byte();
        self.flying.push_back(Flying { passes_at, byte });
    }

    fn carry_badly(&mut self, byte: u8) {
        if self.skips.drop.strikes(&mut self.random) {
            self.dropping = run_length(self.faults.drop, &mut self.random);
        }
        if self.dropping > 0 {
            self.dropping -= 1;
            self.counters.dropped += 1;
            self.line.take_byte();
            return;
        }
        let byte = self.damage(byte);
        self.carry(byte);
        self.add_what_nobody_wrote(byte);
    }

    fn damage(&mut self, mut byte: u8) -> u8 {
        if self.faults.garbled_until.is_some_and(|until| self.line.free_at() < until) {
            byte ^= 1 + self.random.below(255) as u8;
            self.counters.flipped += 1;
        }
        if self.skips.flip.passes_over(8) {
            return byte;
        }
        for bit in 0..8 {
            if self.skips.flip.strikes(&mut self.random) {
                byte ^= 1 << bit;
                self.counters.flipped += 1;
            }
        }
        byte
    }

    fn add_what_nobody_wrote(&mut self, byte: u8) {
        let mut added = Vec::new();
        if self.faults.duplicate.per_byte > 0.0 {
            self.recent.push_back(byte);
            if self.recent.len() > self.faults.duplicate.length_max as usize {
                self.recent.pop_front();
            }
            if self.skips.duplicate.strikes(&mut self.random) {
                let run = run_length(self.faults.duplicate, &mut self.random) as usize;
                let start = self.recent.len().saturating_sub(run);
                added.extend(self.recent.range(start..));
            }
        }
        if self.skips.noise.strikes(&mut self.random) {
            let run = run_length(self.faults.noise, &mut self.random);
            added.extend((0..run).map(|_| self.random.byte()));
        }
        if self.skips.control.strikes(&mut self.random) {
            added.push([NUL, XON, XOFF][self.random.below(3) as usize]);
        }
        if self.skips.text.strikes(&mut self.random) {
            added.extend(TEXTS[self.random.below(TEXTS.len() as u64) as usize].as_bytes());
        }
        self.counters.inserted += added.len() as u64;
        for byte in added {
            self.carry(byte);
        }
    }
}

fn run_length(runs: Runs, random: &mut Random) -> u64 {
    1 + random.below(u64::from(runs.length_max.max(1)))
}

/// A BREAK is read as this on a raw tty.
const NUL: u8 = 0x00;
const XON: u8 = 0x11;
const XOFF: u8 = 0x13;

/// What other software writes on a serial line.
const TEXTS: [&str; 4] = [
    "[ 4711.081516] usb 1-1.2: new full-speed USB device number 5 using xhci_hcd\r\n",
    "[    0.000000] Linux version 6.1.0-18-amd64 (debian-kernel@lists.debian.org)\r\n",
    "\r\nDebian GNU/Linux 12 signer ttyS0\r\n\r\nsigner login: ",
    "AT\r\nATE1 E0\r\n",
];

//------------ Line time -----------------------------------------------------

/// When each byte leaves. Counts bytes from the start of a busy time, so nothing drifts.
#[derive(Clone, Copy, Debug)]
struct Line {
    bytes_per_second: u64,
    busy_since: Instant,
    busy_bytes: u64,
}

impl Line {
    fn new(bytes_per_second: Option<u32>) -> Self {
        let bytes_per_second = u64::from(bytes_per_second.unwrap_or(0));
        Self { bytes_per_second, busy_since: Instant::ZERO, busy_bytes: 0 }
    }

    /// An idle line starts a new busy time.
    fn wake(&mut self, now: Instant) {
        if self.free_at() <= now {
            self.busy_since = now;
            self.busy_bytes = 0;
        }
    }

    fn take_byte(&mut self) -> Instant {
        self.busy_bytes += 1;
        self.free_at()
    }

    fn free_at(&self) -> Instant {
        if self.bytes_per_second == 0 {
            return self.busy_since;
        }
        let micros = u128::from(self.busy_bytes) * 1_000_000;
        let micros = micros.div_ceil(u128::from(self.bytes_per_second));
        self.busy_since + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn room(&self, now: Instant, backlog: Duration) -> usize {
        if self.bytes_per_second == 0 {
            return usize::MAX;
        }
        let micros = (now + backlog).saturating_since(self.free_at().max(now)).as_micros();
        let bytes = micros * u128::from(self.bytes_per_second) / 1_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

//------------ Accidents -----------------------------------------------------

/// When each kind of accident happens next.
#[derive(Clone, Debug)]
struct Skips {
    flip: Skip,
    drop: Skip,
    duplicate: Skip,
    noise: Skip,
    control: Skip,
    text: Skip,
}

impl Skips {
    fn new(faults: &Faults, random: &mut Random) -> Self {
        let mut skip = |probability| Skip::new(probability, random);
        Self {
            flip: skip(faults.bit_error),
            drop: skip(faults.drop.per_byte),
            duplicate: skip(faults.duplicate.per_byte),
            noise: skip(faults.noise.per_byte),
            control: skip(faults.control),
            text: skip(faults.text),
        }
    }
}

/// Counts trials down to the next accident: one draw per accident, not per trial.
#[derive(Clone, Copy, Debug)]
struct Skip {
    probability: f64,
    left: u64,
}

impl Skip {
    fn new(probability: f64, random: &mut Random) -> Self {
        Self { probability, left: random.failures_before_success(probability) }
    }

    /// Skips `trials` at once, if none of them is an accident.
    fn passes_over(&mut self, trials: u64) -> bool {
        let clear = self.left >= trials;
        if clear {
            self.left -= trials;
        }
        clear
    }

    fn strikes(&mut self, random: &mut Random) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.left = random.failures_before_success(self.probability);
        true
    }
}

/// Whether the cable is in. Asked with times that only rise.
#[derive(Clone, Debug)]
struct Plug {
    cuts: Vec<Cut>,
    out_since: Option<Instant>,
    loose: Option<Loose>,
    opens_at: Instant,
    closes_at: Instant,
    healed_at: Option<Instant>,
    random: Random,
}

impl Plug {
    fn new(faults: &Faults, random: Random) -> Self {
        let mut plug = Self {
            cuts: faults.cuts.clone(),
            out_since: None,
            loose: faults.loose,
            opens_at: Instant::ZERO,
            closes_at: Instant::ZERO,
            healed_at: faults.healed_at,
            random,
        };
        plug.loosen();
        plug
    }

    fn is_out(&mut self, at: Instant) -> bool {
        self.cuts.retain(|cut| at < cut.until);
        let by_hand = self.out_since.is_some_and(|from| from <= at)
            || self.cuts.iter().any(|cut| cut.from <= at);
        by_hand || self.is_open(at)
    }

    fn is_open(&mut self, at: Instant) -> bool {
        if self.loose.is_none() || self.healed_at.is_some_and(|healed_at| healed_at <= at) {
            return false;
        }
        while self.closes_at <= at {
            self.loosen();
        }
        self.opens_at <= at
    }

    /// Draws the next two moments, each between nothing and twice the mean away.
    fn loosen(&mut self) {
        let Some(loose) = self.loose else { return };
        let mut draw = |mean: Duration| {
            let micros = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX / 4);
            Duration::from_micros(1 + self.random.below(2 * micros + 1))
        };
        self.opens_at = self.closes_at + draw(loose.holds_mean);
        self.closes_at = self.opens_at + draw(loose.open_mean);
    }
}
