//! Every state of an endpoint, and every kind of frame that can reach it.

use super::{
    packet::{Content, Packet, identity},
    *,
};

const OURS: Side = Side::Frontend;
const BOOT_ID: u64 = 1;
const PEER: Nonce = Nonce { boot_id: 9, incarnation: 5 };
const STRANGER: Nonce = Nonce { boot_id: 77, incarnation: 1 };

/// What an endpoint can be at when a frame comes.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Greeting, and nobody was heard.
    Alone,
    /// Greeting, and the peer said hello.
    Heard,
    /// Greeting, and the last hello had no common version.
    Foreign,
    /// Greeting, and it was told that the peer talks with somebody else.
    Occupied,
    /// Greeting right after a connection that had just begun.
    Resting,
    /// The same, and the peer said hello.
    RestingHeard,
    /// Established, and nothing else.
    Idle,
    /// Established, and a segment is missing of which a later one and a part are here.
    Gap,
    /// Established, and the reader is behind.
    Unread,
    /// Established; a segment is in flight, one was acknowledged ahead of it, a probe is out.
    Flying,
    /// Established, and a stranger said hello.
    Doubting,
}

const STATES: [At; 11] = [
    At::Alone,
    At::Heard,
    At::Foreign,
    At::Occupied,
    At::Resting,
    At::RestingHeard,
    At::Idle,
    At::Gap,
    At::Unread,
    At::Flying,
    At::Doubting,
];

/// What happened, one letter each: `U`p, `D`own, `I`ncompatible, `O`ccupied, and the frames that
/// left at once: `h`ello, `d`ata, `a`ck, `p`robe, `r`eport, p`t`art, `b`usy; `-` for nothing; then
/// how the frame was counted: `+` received, `!` malformed, `#` broken, `?` stray.
///
/// Columns are the states, in their order.
const TABLE: &str = "
Hello of our side               | -+     -+     -+     -+     -+     -+     -+     -+     -+     -+     -+
Hello, other versions           | hI+    hI+    -+     hI+    I+     I+     p+     p+     p+     p+     p+
Hello, no echo                  | h+     h+     h+     h+     -+     -+     h+     h+     h+     h+     h+
Hello, our echo                 | aU+    aU+    aU+    aU+    -+     -+     a+     a+     a+     a+     a+
Hello, other echo               | h+     h+     h+     h+     -+     -+     h+     h+     h+     h+     h+
Hello, next incarnation         | h+     h+     h+     h+     -+     -+     D+     D+     D+     hD+    D+
Hello, last incarnation         | h+     h+     h+     h+     -+     -+     p+     p+     p+     p+     p+
Hello, stranger                 | h+     h+     h+     h+     -+     -+     p+     p+     p+     p+     p+
Hello, stranger, our echo       | aU+    aU+    aU+    aU+    -+     -+     p+     p+     p+     p+     p+
Hello, too short                | -!     -!     -!     -!     -!     -!     -!     -!     -!     -!     -!
Hello, wrong CRC                | -#     -#     -#     -#     -#     -#     -#     -#     -#     -#     -#
Data, next                      | -?     aU+    -?     -?     -?     -?     -+     a+     a+     -+     -+
Data, ahead                     | -?     aU+    -?     -?     -?     -?     a+     a+     a+     a+     a+
Data, past the window           | -?     -#     -?     -?     -?     -?     -#     -#     -#     -#     -#
Data, acknowledges too much     | -?     aU!    -?     -?     -?     -?     -!     -!     -!     -!     -!
Data, empty                     | -?     aU!    -?     -?     -?     -?     -!     -!     -!     -!     -!
Data, 256 segments ago          | -?     -#     -?     -?     -?     -?     -#     -#     -#     -#     -#
Part, next                      | -?     aU+    -?     -?     -?     -?     a+     a+     a+     a+     a+
Part, ahead                     | -?     aU+    -?     -?     -?     -?     a+     a+     a+     a+     a+
Part, nonsense                  | -?     aU!    -?     -?     -?     -?     -!     -!     -!     -!     -!
Ack                             | -?     aU+    -?     -?     -?     -?     -+     -+     -+     -+     -+
Ack of what is in flight        | -?     aU+    -?     -?     -?     -?     -+     -+     -+     -+     -+
Ack of too much                 | -?     aU!    -?     -?     -?     -?     -!     -!     -!     -!     -!
Probe                           | -?     rU+    -?     -?     -?     -?     r+     r+     r+     r+     r+
Report, last probe              | -?     aU!    -?     -?     -?     -?     -+     -+     -+     d+     b+
Report, last probe, contradicts | -?     aU!    -?     -?     -?     -?     -+     -+     -+     hD+    b+
Report, no probe                | -?     aU!    -?     -?     -?     -?     -!     -!     -!     -!     -!
Ack of another connection       | -?     -#     -?     -?     -?     -?     -#     -#     -#     -#     -#
Busy for us                     | O+     O+     O+     -+     O+     O+     -+     -+     -+     -+     -+
Busy for whoever is there       | O+     O+     O+     -+     O+     O+     -+     -+     -+     -+     -+
Busy for another                | -+     -+     -+     -+     -+     -+     -+     -+     -+     -+     -+
Busy of our side                | -+     -+     -+     -+     -+     -+     -+     -+     -+     -+     -+
Busy, too short                 | -!     -!     -!     -!     -!     -!     -!     -!     -!     -!     -!
Busy, wrong CRC                 | -#     -#     -#     -#     -#     -#     -#     -#     -#     -#     -#
unknown kind                    | -#     -#     -#     -#     -#     -#     -#     -#     -#     -#     -#
no COBS                         | -#     -#     -#     -#     -#     -#     -#     -#     -#     -#     -#
";

struct Victim {
    endpoint: Endpoint,
    now: Instant,
    log: String,
    /// Whether the layer above takes its segments.
    reads: bool,
}

impl Victim {
    fn at(state: At) -> Self {
        let config = EndpointConfig { side: OURS, boot_id: BOOT_ID, line_rate: Some(11_520) };
        let now = Instant::from_micros(1_000_000);
        let endpoint = Endpoint::new(config, now);
        let mut victim = Self { endpoint, now, log: String::new(), reads: true };
        victim.drain(&mut Vec::new());
        match state {
            At::Alone => {}
            At::Heard => victim.feed(&hello(PEER, None)),
            At::Foreign => victim.feed(&foreign(PEER)),
            At::Occupied => victim.feed(&busy(OURS.other(), Some(victim.nonce()))),
            At::Resting | At::RestingHeard => {
                victim.establish();
                victim.endpoint.disconnect(DownReason::Silence { seconds: 0 });
                victim.drain(&mut Vec::new());
                if let At::RestingHeard = state {
                    victim.feed(&hello(PEER, None));
                }
            }
            At::Idle => victim.establish(),
            At::Gap => {
                victim.establish();
                victim.feed(&victim.packet(0, &[], data(2)));
                victim.feed(&victim.packet(0, &[], part(0)));
            }
            At::Unread => {
                victim.establish();
                victim.reads = false;
                victim.feed(&victim.packet(0, &[], data(0)));
            }
            At::Flying => {
                victim.establish();
                victim.drain(&mut vec![vec![2; 100], vec![1; 100]]);
                victim.wait(Duration::from_millis(20));
                victim.feed(&victim.packet(0, &[0b10], Content::Ack));
                // The repeated segment goes unanswered.
                victim.wait(Duration::from_millis(1500));
            }
            At::Doubting => {
                victim.establish();
                victim.feed(&hello(STRANGER, None));
            }
        }
        victim.wait(Duration::from_millis(100));
        victim.log.clear();
        victim
    }

    fn establish(&mut self) {
        self.feed(&hello(PEER, Some(self.nonce())));
        assert!(self.endpoint.is_up());
    }

    fn nonce(&self) -> Nonce {
        self.endpoint.nonce
    }

    /// A frame of the peer in the connection with it.
    fn packet(&self, ack: u64, bitmap: &[u8], content: Content<'_>) -> Vec<u8> {
        let packet = Packet { ack, bitmap: bitmap.to_vec(), content };
        let (prefix, body) = packet.encode(&identity(PEER, self.nonce()));
        wire(&prefix, &body)
    }

    /// The stamp of the last probe, or of none.
    fn stamp(&self) -> u16 {
        match &self.endpoint.state {
            State::Established(connection) => connection.last_probe(),
            State::Greeting(_) => 1,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.endpoint.handle_bytes(self.now, bytes);
        while self.reads && self.endpoint.poll_segment().is_some() {}
        self.drain(&mut Vec::new());
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.endpoint.poll_timeout(false).filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.endpoint.handle_timeout(self.now);
            self.drain(&mut Vec::new());
        }
        self.now = end;
    }

    /// Notes what leaves at once and what is told.
    fn drain(&mut self, segments: &mut Vec<Vec<u8>>) {
        while let Some(bytes) = self.endpoint.poll_transmit(self.now, |_| segments.pop()) {
            let (mut decoder, mut bytes) = (frame::Decoder::default(), &bytes[..]);
            while let Some(sealed) = decoder.next(&mut bytes) {
                let letters = ['h', 'd', 'a', 'p', 'r', 't', 'b'];
                self.log.push(letters[usize::from(sealed.claimed_kind() & 7) - 1]);
            }
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.log.push(match event {
                Event::Up { .. } => 'U',
                Event::Down { .. } => 'D',
                Event::Incompatible { .. } => 'I',
                Event::Occupied => 'O',
            });
        }
        let next = self.endpoint.poll_timeout(!segments.is_empty());
        assert!(next.is_some_and(|at| at > self.now), "{next:?} is asked for at {:?}", self.now);
    }

    /// What the frame did, in the letters of the table.
    fn outcome(&mut self, bytes: &[u8]) -> String {
        let before = self.endpoint.counters();
        self.feed(bytes);
        let after = self.endpoint.counters();
        let mut outcome = std::mem::take(&mut self.log);
        if outcome.is_empty() {
            outcome.push('-');
        }
        let mut times = 0;
        for (letter, count) in [
            ('!', after.frames_malformed - before.frames_malformed),
            ('#', after.frames_broken - before.frames_broken),
            ('?', after.frames_stray - before.frames_stray),
        ] {
            times += count;
            outcome.extend((0..count).map(|_| letter));
        }
        let good = after.frames_received - before.frames_received;
        let malformed = after.frames_malformed - before.frames_malformed;
        outcome.extend((malformed..good).map(|_| '+'));
        assert_eq!(times.max(good), 1, "a frame is counted once: {outcome}");
        outcome
    }
}

fn wire(prefix: &[u8], body: &[u8]) -> Vec<u8> {
    let mut wire = vec![frame::DELIMITER];
    frame::encode(prefix, body, &mut wire);
    wire
}

fn hello_of(side: Side, versions: (u8, u8), nonce: Nonce, echo: Option<Nonce>) -> Vec<u8> {
    let hello = Hello {
        side,
        versions,
        plain: false,
        nonce,
        echo,
        segment_max: SEGMENT_MAX as u16,
        window: WINDOW as u16,
    };
    wire(HELLO_PREFIX, &hello.encode())
}

fn hello(nonce: Nonce, echo: Option<Nonce>) -> Vec<u8> {
    hello_of(OURS.other(), (1, 1), nonce, echo)
}

fn foreign(nonce: Nonce) -> Vec<u8> {
    hello_of(OURS.other(), (200, 201), nonce, None)
}

fn busy(side: Side, receiver: Option<Nonce>) -> Vec<u8> {
    wire(HELLO_PREFIX, &Busy { side, receiver }.encode())
}

fn data(seq: u64) -> Content<'static> {
    Content::Data { seq, payload: b"segment" }
}

fn part(seq: u64) -> Content<'static> {
    Content::Part { seq, offset: 16, total: 64, payload: &[3; 32] }
}

type Frame = (&'static str, fn(&Victim) -> Vec<u8>);

const FRAMES: &[Frame] = &[
    ("Hello of our side", |_| hello_of(OURS, (1, 1), PEER, None)),
    ("Hello, other versions", |_| foreign(Nonce { boot_id: 5, incarnation: 1 })),
    ("Hello, no echo", |_| hello(PEER, None)),
    ("Hello, our echo", |v| hello(PEER, Some(v.nonce()))),
    ("Hello, other echo", |_| hello(PEER, Some(STRANGER))),
    ("Hello, next incarnation", |_| hello(Nonce { incarnation: 6, ..PEER }, None)),
    ("Hello, last incarnation", |_| hello(Nonce { incarnation: 4, ..PEER }, None)),
    ("Hello, stranger", |_| hello(STRANGER, None)),
    ("Hello, stranger, our echo", |v| hello(STRANGER, Some(v.nonce()))),
    ("Hello, too short", |_| wire(HELLO_PREFIX, &[1; 20])),
    ("Hello, wrong CRC", |_| wire(b"another prefix", &hello_body())),
    ("Data, next", |v| v.packet(0, &[], data(0))),
    ("Data, ahead", |v| v.packet(0, &[], data(3))),
    ("Data, past the window", |v| v.packet(0, &[], data(127 + 1))),
    ("Data, acknowledges too much", |v| v.packet(9, &[], data(0))),
    ("Data, empty", |v| v.packet(0, &[], Content::Data { seq: 0, payload: b"" })),
    ("Data, 256 segments ago", |v| v.packet(0, &[], data(256))),
    ("Part, next", |v| v.packet(0, &[], part(0))),
    ("Part, ahead", |v| v.packet(0, &[], part(3))),
    ("Part, nonsense", |v| {
        let payload = &[0; 16];
        v.packet(0, &[], Content::Part { seq: 0, offset: 8, total: 64, payload })
    }),
    ("Ack", |v| v.packet(0, &[], Content::Ack)),
    ("Ack of what is in flight", |v| v.packet(0, &[0b11], Content::Ack)),
    ("Ack of too much", |v| v.packet(9, &[], Content::Ack)),
    ("Probe", |v| v.packet(0, &[], Content::Probe(3))),
    ("Report, last probe", |v| v.packet(0, &[0b10], Content::Report(v.stamp()))),
    ("Report, last probe, contradicts", |v| v.packet(0, &[], Content::Report(v.stamp()))),
    ("Report, no probe", |v| v.packet(0, &[], Content::Report(500))),
    ("Ack of another connection", |_| {
        let packet = Packet { ack: 0, bitmap: vec![], content: Content::Ack };
        let (prefix, body) = packet.encode(&identity(PEER, STRANGER));
        wire(&prefix, &body)
    }),
    ("Busy for us", |v| busy(OURS.other(), Some(v.nonce()))),
    ("Busy for whoever is there", |_| busy(OURS.other(), None)),
    ("Busy for another", |_| busy(OURS.other(), Some(STRANGER))),
    ("Busy of our side", |_| busy(OURS, None)),
    ("Busy, too short", |_| wire(HELLO_PREFIX, &[7; 13])),
    ("Busy, wrong CRC", |_| wire(b"", &[7; 14])),
    ("unknown kind", |_| wire(HELLO_PREFIX, &[8; 20])),
    ("no COBS", |_| vec![0, 9, 1, 0]),
];

fn hello_body() -> Vec<u8> {
    vec![1; Hello::LEN]
}

#[test]
fn every_frame_in_every_state_does_what_the_table_says() {
    let width = FRAMES.iter().map(|(name, _)| name.len()).max().unwrap();
    let rows = FRAMES.iter().map(|(name, frame)| {
        let cells = STATES.map(|state| {
            let mut victim = Victim::at(state);
            let bytes = frame(&victim);
            format!("{:<6}", victim.outcome(&bytes))
        });
        format!("{name:<width$} | {}", cells.join(" ").trim_end())
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(TABLE.trim_matches('\n'), rows.join("\n"), "the table is now:\n{}", rows.join("\n"));
}

#[test]
fn after_any_frame_in_any_state_an_honest_peer_is_found_within_five_seconds() {
    for (name, frame) in FRAMES {
        for state in STATES {
            let mut victim = Victim::at(state);
            let bytes = frame(&victim);
            victim.outcome(&bytes);
            let config = EndpointConfig { side: OURS.other(), boot_id: 4, line_rate: Some(11_520) };
            let mut honest = Endpoint::new(config, victim.now);
            let limit = victim.now + Duration::from_secs(5);
            let is_up = |victim: &Victim, honest: &Endpoint| {
                let ours = victim.endpoint.binding();
                ours.is_some() && ours == honest.binding()
            };
            while !is_up(&victim, &honest) {
                assert!(victim.now < limit, "{name}, {state:?}");
                let now = victim.now;
                while let Some(bytes) = victim.endpoint.poll_transmit(now, |_| None) {
                    honest.handle_bytes(now, &bytes);
                }
                while let Some(bytes) = honest.poll_transmit(now, |_| None) {
                    victim.endpoint.handle_bytes(now, &bytes);
                }
                let timeouts = [victim.endpoint.poll_timeout(false), honest.poll_timeout(false)];
                let next = timeouts.into_iter().flatten().min().unwrap();
                victim.now = next.max(now + Duration::from_millis(1));
                victim.endpoint.handle_timeout(victim.now);
                honest.handle_timeout(victim.now);
            }
        }
    }
}

#[test]
fn an_end_that_doubts_tells_the_stranger_once_the_peer_has_answered() {
    let mut victim = Victim::at(At::Doubting);
    victim.wait(Duration::from_millis(50));
    victim.log.clear();
    // Bytes of the peer that may be older than the hello prove nothing to the stranger.
    victim.feed(&victim.packet(0, &[], Content::Ack));
    assert_eq!(victim.log, "");
    victim.feed(&victim.packet(0, &[], Content::Report(victim.stamp())));
    assert_eq!(victim.log, "b");
    victim.feed(&victim.packet(0, &[], Content::Report(victim.stamp())));
    assert_eq!(victim.log, "b");
}

#[test]
fn who_was_told_to_wait_says_hello_seldom_and_is_told_once() {
    let mut victim = Victim::at(At::Occupied);
    for _ in 0..20 {
        victim.wait(HELLO_INTERVAL_OCCUPIED);
        victim.feed(&busy(OURS.other(), Some(victim.nonce())));
    }
    assert_eq!(victim.log, "h".repeat(20));
    // Nobody says busy any more: the next hellos come as usual.
    victim.wait(HELLO_INTERVAL_OCCUPIED + 4 * HELLO_INTERVAL);
    assert_eq!(victim.log, "h".repeat(25));
    victim.log.clear();
    victim.establish();
    victim.endpoint.disconnect(DownReason::Silence { seconds: 0 });
    victim.wait(RECONNECT_INTERVAL);
    victim.feed(&busy(OURS.other(), None));
    assert_eq!(victim.log.matches('O').count(), 1, "{}", victim.log);
}

#[test]
fn a_binding_is_the_same_at_both_ends_and_another_for_every_changed_hello() {
    let now = Instant::ZERO;
    let config = |side, boot_id| EndpointConfig { side, boot_id, line_rate: None };
    let mut frontend = Endpoint::new(config(Side::Frontend, 1), now);
    let mut signer = Endpoint::new(config(Side::Signer, 2), now);
    assert_eq!(frontend.binding(), None);
    let first = frontend.poll_transmit(now, |_| None).unwrap();
    signer.handle_bytes(now, &first);
    let second = signer.poll_transmit(now, |_| None).unwrap();
    let mut bindings = Vec::new();
    // As it is, plain, with a shorter segment, with another window.
    for (at, value) in [(None, 0), (Some(4), 1), (Some(30), 1), (Some(31), 1)] {
        let sealed = frame::Decoder::default().next(&mut &second[..]);
        let sealed = sealed.or_else(|| frame::Decoder::default().next(&mut &second[1..])).unwrap();
        let mut body = sealed.open(HELLO_PREFIX).unwrap().to_vec();
        if let Some(at) = at {
            body[at] = value;
        }
        let mut forged = Endpoint::new(config(Side::Frontend, 1), now);
        forged.poll_transmit(now, |_| None).unwrap();
        forged.handle_bytes(now, &wire(HELLO_PREFIX, &body));
        bindings.push(forged.binding().unwrap());
        if at.is_none() {
            frontend = forged;
        }
    }
    let third = frontend.poll_transmit(now, |_| None).unwrap();
    signer.handle_bytes(now, &third);
    assert_eq!(signer.binding(), Some(bindings[0].clone()));
    let different: std::collections::BTreeSet<_> = bindings.iter().collect();
    assert_eq!(different.len(), bindings.len());
}

#[test]
fn a_forged_acknowledgement_does_not_leave_a_connection_that_stands_still() {
    // What was never received is acknowledged by somebody else, with and without more to say.
    for later in [0, 3] {
        let mut victim = Victim::at(At::Idle);
        victim.drain(&mut vec![vec![1; 50]]);
        victim.feed(&victim.packet(1, &[], Content::Ack));
        victim.drain(&mut vec![vec![2; 50]; later]);
        victim.log.clear();
        // The peer lives on, and says what is true.
        let end = victim.now + Duration::from_secs(5);
        while victim.now < end && victim.endpoint.is_up() {
            victim.wait(Duration::from_millis(250));
            victim.feed(&victim.packet(0, &[], Content::Ack));
            if victim.log.contains('p') {
                victim.feed(&victim.packet(0, &[], Content::Report(victim.stamp())));
            }
        }
        assert!(victim.log.contains('D'), "{later}: {}", victim.log);
    }
}

#[test]
fn acknowledging_what_was_never_sent_does_not_make_a_connection_deaf() {
    // Somebody spoke for us, and the peer has segments that we never sent: all it says is
    // nonsense here until we have sent as much.
    let mut victim = Victim::at(At::Idle);
    let end = victim.now + Duration::from_secs(5);
    while victim.now < end && victim.endpoint.is_up() {
        victim.wait(Duration::from_millis(250));
        victim.feed(&victim.packet(3, &[], Content::Ack));
        if victim.log.contains('p') {
            victim.feed(&victim.packet(3, &[], Content::Report(victim.stamp())));
        }
    }
    assert!(victim.log.contains('D'), "{}", victim.log);
}

/// Two ends whose frames reach each other, until both have the same connection.
fn find_each_other(now: Instant, one: &mut Endpoint, other: &mut Endpoint) -> Duration {
    let mut at = now;
    while one.binding().is_none() || one.binding() != other.binding() {
        assert!(at < now + Duration::from_secs(60), "they never find each other");
        while let Some(bytes) = one.poll_transmit(at, |_| None) {
            other.handle_bytes(at, &bytes);
        }
        while let Some(bytes) = other.poll_transmit(at, |_| None) {
            one.handle_bytes(at, &bytes);
        }
        let timeouts = [one.poll_timeout(false), other.poll_timeout(false)];
        at = timeouts.into_iter().flatten().min().unwrap().max(at + Duration::from_millis(1));
        one.handle_timeout(at);
        other.handle_timeout(at);
    }
    at.saturating_since(now)
}

#[test]
fn ends_that_believe_forged_hellos_find_each_other_within_five_seconds() {
    let now = Instant::from_micros(1_000_000);
    // The forged name is of a later or an earlier attempt, or of somebody else; at one end or at
    // both, which then both say no hello any more.
    let forge = [
        |nonce: Nonce| Nonce { incarnation: 1 << 30, ..nonce },
        |nonce: Nonce| Nonce { incarnation: nonce.incarnation - 1, ..nonce },
        |nonce: Nonce| Nonce { boot_id: !nonce.boot_id, ..nonce },
    ];
    for (number, forge) in forge.into_iter().enumerate() {
        for both in [false, true] {
            let [mut frontend, mut signer] = [Side::Frontend, Side::Signer].map(|side| {
                let config = EndpointConfig { side, boot_id: 7, line_rate: Some(11_520) };
                let mut end = Endpoint::new(config, now);
                while end.poll_transmit(now, |_| None).is_some() {}
                end
            });
            let (ours, theirs) = (frontend.nonce, signer.nonce);
            frontend.handle_bytes(now, &hello_of(Side::Signer, (1, 1), forge(theirs), Some(ours)));
            if both {
                let hello = hello_of(Side::Frontend, (1, 1), forge(ours), Some(theirs));
                signer.handle_bytes(now, &hello);
            }
            assert!(frontend.is_up() && signer.is_up() == both, "it was believed");
            let time = find_each_other(now, &mut frontend, &mut signer);
            assert!(time < Duration::from_secs(5), "{number}, {both}: {time:?}");
        }
    }
}

//------------ Keys -----------------------------------------------------------

/// The keys of both ends of a connection.
fn frame_keys() -> [frame::FrameKeys; 2] {
    let key = |sender| frame::FrameKey::derive(&[7; 32], sender, b"this connection");
    let keys = |side: Side| frame::FrameKeys { sending: key(side), receiving: key(side.other()) };
    [keys(OURS), keys(OURS.other())]
}

/// A frame of the peer with a tag.
fn keyed(victim: &Victim, ack: u64, content: Content<'_>) -> Vec<u8> {
    let [_, keys] = frame_keys();
    let packet = Packet { ack, bitmap: vec![], content };
    let (prefix, body) = packet.encode(&identity(PEER, victim.nonce()));
    let mut wire = vec![frame::DELIMITER];
    frame::encode_with(Check::Key(&keys.sending), &prefix, &body, &mut wire);
    wire
}

#[test]
fn once_the_peer_has_the_keys_no_frame_counts_that_was_made_without() {
    for state in [At::Idle, At::Gap, At::Flying, At::Doubting] {
        let mut victim = Victim::at(state);
        let [keys, _] = frame_keys();
        victim.endpoint.secure(keys, true);
        let stamp = victim.stamp();
        for content in [data(0), part(1), Content::Ack, Content::Probe(3), Content::Report(stamp)] {
            let forged = victim.packet(0, &[0b11], content);
            assert_eq!(victim.outcome(&forged), "-#", "{state:?}: {content:?}");
            // The same with a tag that belongs to the other direction.
            let packet = Packet { ack: 0, bitmap: vec![], content };
            let (prefix, body) = packet.encode(&identity(PEER, victim.nonce()));
            let mut reflected = vec![frame::DELIMITER];
            let [ours, _] = frame_keys();
            frame::encode_with(Check::Key(&ours.sending), &prefix, &body, &mut reflected);
            assert_eq!(victim.outcome(&reflected), "-#", "{state:?}: {content:?}");
        }
        let probe = keyed(&victim, 0, Content::Probe(3));
        assert_eq!(victim.outcome(&probe), "r+", "{state:?}");
    }
}

#[test]
fn until_the_peer_shows_that_it_has_the_keys_both_kinds_of_frames_count() {
    let mut victim = Victim::at(At::Idle);
    let [keys, _] = frame_keys();
    victim.endpoint.secure(keys, false);
    let plain = victim.packet(0, &[], Content::Probe(1));
    assert_eq!(victim.outcome(&plain), "r+");
    let news = victim.packet(0, &[], data(0));
    assert_eq!(victim.outcome(&news), "-#", "who has something new to say has the keys");
    let first = keyed(&victim, 0, Content::Probe(2));
    assert_eq!(victim.outcome(&first), "r+");
    assert_eq!(victim.outcome(&plain), "-#", "the peer has shown it");
}

#[test]
fn what_anybody_may_have_sent_ahead_is_forgotten_when_the_keys_are_there() {
    for peer_has_them in [true, false] {
        let mut victim = Victim::at(At::Idle);
        let forged = victim.packet(0, &[], Content::Data { seq: 1, payload: b"forged" });
        victim.feed(&forged);
        let [keys, _] = frame_keys();
        victim.endpoint.secure(keys, peer_has_them);
        victim.reads = false;
        for (seq, payload) in [(0, b"first"), (1, b"other")] {
            victim.feed(&keyed(&victim, 0, Content::Data { seq, payload }));
        }
        let heard: Vec<_> = std::iter::from_fn(|| victim.endpoint.poll_segment()).collect();
        assert_eq!(heard, [b"first", b"other"], "{peer_has_them}");
    }
}

#[test]
fn what_was_forged_behind_the_message_that_brings_the_keys_is_not_passed_on() {
    let mut victim = Victim::at(At::Idle);
    victim.reads = false;
    for (seq, payload) in [(1, b"forged"), (0, b"honest")] {
        victim.feed(&victim.packet(0, &[], Content::Data { seq, payload }));
    }
    assert_eq!(victim.endpoint.poll_segment().as_deref(), Some(&b"honest"[..]));
    let [keys, _] = frame_keys();
    victim.endpoint.secure(keys, false);
    assert_eq!(victim.endpoint.poll_segment(), None);
    victim.feed(&keyed(&victim, 0, Content::Data { seq: 1, payload: b"second" }));
    assert_eq!(victim.endpoint.poll_segment().as_deref(), Some(&b"second"[..]));
}
