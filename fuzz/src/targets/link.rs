//! Two ends of the link and a list of operations on virtual time: bytes that pass, vanish, come
//! twice or are damaged, timers, restarts, and a reader that does not read.
//!
//! Whatever the list says: within one connection segments arrive in order and each once, of one
//! connection of the peer only; memory stays bounded; nobody asks to be called at a time that has
//! passed. When the list ends the line is good again, and soon a segment arrives each way.
//!
//! Bytes that nobody sent come from a seed and not from the input: a frame has a checksum and no
//! secret, so a fuzzer that may write a frame of its own can, and that is the session's business.

use std::collections::{BTreeSet, VecDeque};

use protocol::{
    link::{Endpoint, EndpointConfig, Event, SEGMENT_MAX, Side, WINDOW},
    time::{Duration, Instant},
};

use crate::{input::Input, mutate::Mutator};

/// Operations of one list: more only repeat each other.
const OPERATIONS_MAX: usize = 400;
/// What a tty keeps at most; older bytes are lost.
const WIRE_MAX: usize = 64 * 1024;
/// Silence, doubt, a greeting and one segment, each with its longest wait, and as much again.
const HEALED_WITHIN: Duration = Duration::from_secs(40);
/// Events at one moment, before time counts as standing still.
const STEPS_AT_ONCE_MAX: usize = 1000;

/// The first byte says which line it is; then one operation after the other.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let rate = [None, Some(11_520), Some(1_000_000), Some(960)][input.below(4)];
    let mut pair = Pair::new(rate);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        pair.operate(&mut input);
    }
    pair.heal();
}

/// Which segment of which connection of which process this is: the first bytes of each segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tag {
    start: u32,
    connection: u32,
    index: u32,
}

impl Tag {
    const LEN: usize = 12;

    fn segment(self, length: usize) -> Vec<u8> {
        let fields = [self.start, self.connection, self.index];
        let mut segment: Vec<u8> = fields.into_iter().flat_map(u32::to_le_bytes).collect();
        segment.resize(length.max(Self::LEN), self.index as u8);
        segment
    }

    fn read(segment: &[u8]) -> Self {
        let field = |at: usize| {
            let bytes = segment[at..].first_chunk().expect("every segment has a whole tag");
            u32::from_le_bytes(*bytes)
        };
        Self { start: field(0), connection: field(4), index: field(8) }
    }
}

/// One end, and the wire that leads away from it.
struct End {
    endpoint: Endpoint,
    config: EndpointConfig,
    /// How often this process was started.
    start: u32,
    /// How long the segments that wait to be sent are.
    waiting: VecDeque<usize>,
    /// Segments taken by the endpoint in its present connection.
    taken: u32,
    /// Whether the layer above takes segments.
    reads: bool,
    /// Whose segments come, and which is next.
    hears: Option<Tag>,
    /// Connections of the peer that were heard already.
    heard: BTreeSet<(u32, u32)>,
    wire: VecDeque<u8>,
}

impl End {
    fn new(side: Side, boot_id: u64, line_rate: Option<u32>, now: Instant) -> Self {
        let config = EndpointConfig { side, boot_id, line_rate };
        Self {
            endpoint: Endpoint::new(config, now),
            config,
            start: 0,
            waiting: VecDeque::new(),
            taken: 0,
            reads: true,
            hears: None,
            heard: BTreeSet::new(),
            wire: VecDeque::new(),
        }
    }

    fn restart(&mut self, now: Instant) {
        self.config.boot_id += 2;
        self.endpoint = Endpoint::new(self.config, now);
        self.start += 1;
        self.hears = None;
    }

    fn connection(&self) -> u32 {
        self.endpoint.counters().connections as u32
    }

    fn drain(&mut self, now: Instant) {
        self.listen();
        loop {
            let (start, connection) = (self.start, self.connection());
            let (waiting, taken) = (&mut self.waiting, &mut self.taken);
            let sent = self.endpoint.poll_transmit(now, |length_max| {
                assert!((Tag::LEN..=SEGMENT_MAX).contains(&length_max));
                let length = waiting.pop_front()?.min(length_max);
                let tag = Tag { start, connection, index: *taken };
                *taken += 1;
                Some(tag.segment(length))
            });
            let Some(bytes) = sent else { break };
            assert!(!bytes.is_empty() && bytes.len() < 32 * 1024);
            self.wire.extend(bytes);
        }
        let excess = self.wire.len().saturating_sub(WIRE_MAX);
        self.wire.drain(..excess);
    }

    fn listen(&mut self) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Up { .. } => {
                    self.taken = 0;
                    self.hears = None;
                }
                Event::Down { .. } => self.hears = None,
                Event::Incompatible { .. } | Event::Occupied => {}
            }
        }
        while self.reads
            && let Some(segment) = self.endpoint.poll_segment()
        {
            let tag = Tag::read(&segment);
            let expected = self.hears.unwrap_or(Tag { index: 0, ..tag });
            assert_eq!(tag, expected, "a segment out of order, twice, or of another connection");
            if tag.index == 0 {
                let new = self.heard.insert((tag.start, tag.connection));
                assert!(new, "a connection of the peer is heard a second time");
            }
            self.hears = Some(Tag { index: tag.index + 1, ..tag });
        }
    }
}

struct Pair {
    now: Instant,
    ends: [End; 2],
}

impl Pair {
    fn new(rate: Option<u32>) -> Self {
        let now = Instant::ZERO;
        let ends =
            [End::new(Side::Frontend, 0x100, rate, now), End::new(Side::Signer, 0x201, rate, now)];
        Self { now, ends }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let operation = input.byte();
        let from = usize::from(operation & 1);
        match operation >> 1 & 0x0f {
            0..=3 => self.pass(from, usize::MAX),
            4 => self.pass(from, input.below(64)),
            5 => self.step(),
            6 => self.wait(Duration::from_millis(u64::from(input.word()))),
            7 => {
                let (count, length) = (1 + input.below(40), 1 + usize::from(input.word() % 5000));
                let waiting = &mut self.ends[from].waiting;
                waiting.extend(std::iter::repeat_n(length, count));
                waiting.truncate(1000);
            }
            8 => {
                let (skip, count) = (input.below(512), 1 + input.below(64));
                let wire = &mut self.ends[from].wire;
                let start = skip.min(wire.len());
                wire.drain(start..(start + count).min(wire.len()));
            }
            9 => {
                // One bit: the checksum tells, whatever else is in the frame.
                let (at, bit) = (input.below(1024), input.below(8));
                if let Some(byte) = self.ends[from].wire.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            10 => {
                let count = input.below(512);
                let wire = &mut self.ends[from].wire;
                let again: Vec<u8> = wire.iter().take(count).copied().collect();
                wire.extend(again);
            }
            11 => {
                let mut noise = Mutator::new(u64::from(input.word()));
                let bytes: Vec<u8> = (0..input.byte()).map(|_| noise.below(256) as u8).collect();
                self.ends[1 - from].endpoint.handle_bytes(self.now, &bytes);
            }
            12 => self.ends[from].wire.clear(),
            13 => self.ends[from].reads ^= true,
            14 => self.ends[from].restart(self.now),
            _ => {
                // The line is looped back.
                let back: Vec<u8> = self.ends[from].wire.iter().copied().collect();
                self.ends[from].endpoint.handle_bytes(self.now, &back);
            }
        }
        self.settle();
    }

    /// So many bytes arrive.
    fn pass(&mut self, from: usize, count: usize) {
        let wire = &mut self.ends[from].wire;
        let bytes: Vec<u8> = wire.drain(..count.min(wire.len())).collect();
        self.ends[1 - from].endpoint.handle_bytes(self.now, &bytes);
    }

    /// The clock goes to the next moment at which either end wants something.
    fn step(&mut self) {
        let wakeups = self.ends.iter().filter_map(Self::wakeup);
        self.now = wakeups.min().unwrap_or(self.now).max(self.now);
        self.expire();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.expire();
    }

    fn expire(&mut self) {
        for end in &mut self.ends {
            end.endpoint.handle_timeout(self.now);
        }
    }

    fn wakeup(end: &End) -> Option<Instant> {
        end.endpoint.poll_timeout(!end.waiting.is_empty())
    }

    /// What must hold after every operation.
    fn settle(&mut self) {
        for end in &mut self.ends {
            end.drain(self.now);
            let wakeup = Self::wakeup(end);
            assert!(wakeup.is_some_and(|at| at > self.now), "{wakeup:?} at {:?}", self.now);
        }
        for (sender, receiver) in [(0, 1), (1, 0)] {
            let (sender, receiver) = (&self.ends[sender], &self.ends[receiver]);
            let present = receiver.hears.filter(|tag| {
                (tag.start, tag.connection) == (sender.start, sender.connection())
                    && sender.endpoint.is_up()
            });
            if let Some(next) = present {
                let under_way = sender.taken - next.index;
                assert!(under_way as usize <= 2 * WINDOW, "{under_way} segments are under way");
            }
        }
    }

    /// From now on the line is good: soon one new segment arrives each way.
    fn heal(&mut self) {
        for end in &mut self.ends {
            end.wire.clear();
            end.waiting.clear();
            end.reads = true;
        }
        self.settle();
        let deadline = self.now + HEALED_WITHIN;
        let (mut standing, mut last) = (0, self.now);
        let mut asked: [Option<Tag>; 2] = [None; 2];
        loop {
            for from in [0, 1] {
                self.pass(from, usize::MAX);
            }
            self.settle();
            // Each end sends one segment per connection, and wants to see it heard in that one.
            for from in [0, 1] {
                let end = &mut self.ends[from];
                let tag = Tag { start: end.start, connection: end.connection(), index: end.taken };
                let current = asked[from].is_some_and(|asked| {
                    (asked.start, asked.connection) == (tag.start, tag.connection)
                });
                if end.endpoint.is_up() && !current {
                    end.waiting.push_back(100);
                    asked[from] = Some(tag);
                }
            }
            let heard = |from: usize| {
                let (asked, hears) = (asked[from], self.ends[1 - from].hears);
                asked.zip(hears).is_some_and(|(asked, next)| {
                    next > asked && (next.start, next.connection) == (asked.start, asked.connection)
                })
            };
            if heard(0) && heard(1) {
                return;
            }
            assert!(self.now < deadline, "no segment arrived on a good line");
            self.settle();
            if self.ends.iter().all(|end| end.wire.is_empty()) {
                self.step();
                self.settle();
            }
            standing = if self.now == last { standing + 1 } else { 0 };
            last = self.now;
            assert!(standing < STEPS_AT_ONCE_MAX, "time stands still at {:?}", self.now);
        }
    }
}
