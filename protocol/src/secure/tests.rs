//! Stories of two channels and of whoever sits between them: in segments, as the link delivers
//! them, so that every checksum is right and only the seal can tell.

use std::collections::VecDeque;

use super::*;
use crate::{
    lanes,
    link::{DownReason, Side},
    message::Lane,
    time::{Duration, Instant},
};

const RATE: Option<u32> = Some(11_520);
const BINDING: &[u8] = b"the hellos of this connection";

/// One end: a channel, what waits for it, and what it heard.
struct End {
    channel: Channel,
    lanes: lanes::Outgoing,
    incoming: lanes::Incoming,
    heard: Vec<(Lane, Vec<u8>)>,
    ended: Option<DownReason>,
    refusals: Vec<Failure>,
}

impl End {
    fn new(side: Side, pairing: &Pairing, entropy: u64, binding: &[u8]) -> Self {
        let entropy = &Entropy::seeded(entropy);
        let config = ChannelConfig { side, line_rate: RATE, pairing, entropy, binding };
        Self {
            channel: Channel::new(config, Instant::ZERO).unwrap(),
            lanes: lanes::Outgoing::default(),
            incoming: lanes::Incoming::default(),
            heard: Vec::new(),
            ended: None,
            refusals: Vec::new(),
        }
    }

    fn segments(&mut self, now: Instant, length_max: usize) -> Vec<Vec<u8>> {
        let next = || self.channel.next_segment(now, length_max, &mut self.lanes);
        std::iter::from_fn(next).collect()
    }

    fn hear(&mut self, now: Instant, segment: &[u8]) {
        if self.ended.is_some() {
            return;
        }
        let mut complete = VecDeque::new();
        let incoming = &mut self.incoming;
        let taken = self.channel.handle_segment(now, segment, |chunks| {
            incoming.take(chunks, &mut complete).map_err(|error| error.rule())
        });
        self.heard.extend(complete);
        self.refusals.extend(self.channel.take_refusal());
        self.ended = taken.err();
    }

    fn timeout(&mut self, now: Instant) {
        if self.ended.is_none() {
            self.ended = self.channel.handle_timeout(now).err();
            self.refusals.extend(self.channel.take_refusal());
        }
    }
}

/// Two ends and the segments between them, which a test may change on their way.
struct Pair {
    now: Instant,
    frontend: End,
    signer: End,
    length_max: usize,
}

impl Pair {
    fn new() -> Self {
        let (frontend, signer) = Pairing::both(1);
        Self::of(&frontend, &signer)
    }

    fn of(frontend: &Pairing, signer: &Pairing) -> Self {
        Self {
            now: Instant::ZERO,
            frontend: End::new(Side::Frontend, frontend, 10, BINDING),
            signer: End::new(Side::Signer, signer, 20, BINDING),
            length_max: 690,
        }
    }

    fn open() -> Self {
        let mut pair = Self::new();
        pair.exchange();
        assert!(pair.frontend.channel.is_open() && pair.signer.channel.is_open());
        pair
    }

    /// Until nobody has anything to say.
    fn exchange(&mut self) {
        loop {
            let up = self.frontend.segments(self.now, self.length_max);
            up.iter().for_each(|segment| self.signer.hear(self.now, segment));
            let down = self.signer.segments(self.now, self.length_max);
            down.iter().for_each(|segment| self.frontend.hear(self.now, segment));
            if up.is_empty() && down.is_empty() {
                return;
            }
        }
    }

    fn nobody_heard(&self) -> bool {
        self.frontend.heard.is_empty() && self.signer.heard.is_empty()
    }
}

//------------ The handshake -------------------------------------------------

#[test]
fn three_messages_open_both_ends_and_then_lanes_cross_in_both_directions() {
    let mut pair = Pair::new();
    let first = pair.frontend.segments(pair.now, 690);
    assert_eq!(first.len(), 1);
    pair.signer.hear(pair.now, &first[0]);
    assert!(!pair.signer.channel.is_open(), "message 1 alone proves nothing");
    let second = pair.signer.segments(pair.now, 690);
    pair.frontend.hear(pair.now, &second[0]);
    assert!(pair.frontend.channel.is_open());
    assert!(!pair.signer.channel.is_open());
    pair.exchange();
    assert!(pair.signer.channel.is_open());
    pair.frontend.lanes.push(Lane::Signing, vec![1; 500]);
    pair.signer.lanes.push(Lane::Bulk, vec![2; 50_000]);
    pair.exchange();
    assert_eq!(pair.signer.heard, [(Lane::Signing, vec![1; 500])]);
    assert_eq!(pair.frontend.heard, [(Lane::Bulk, vec![2; 50_000])]);
}

#[test]
fn a_seeded_run_replays_to_the_byte() {
    let run = || {
        let mut pair = Pair::new();
        pair.frontend.segments(pair.now, 690)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_stranger_talks_to_nobody_and_both_ends_say_why() {
    let (frontend, signer) = Pairing::both(1);
    let (stranger, _) = Pairing::both(2);
    // Who pretends to be the frontend; a frontend that was paired with another signer; a signer
    // that was paired with another frontend.
    let impostor = Pairing { peer: frontend.peer, ..stranger.clone() };
    let misled = Pairing { peer: stranger.peer, ..frontend.clone() };
    let moved = Pairing { peer: stranger.secret.public(), ..signer.clone() };
    for (ours, theirs) in [(&impostor, &signer), (&misled, &signer), (&frontend, &moved)] {
        let mut pair = Pair::of(ours, theirs);
        pair.frontend.lanes.push(Lane::Signing, b"sign this".to_vec());
        pair.exchange();
        assert!(!pair.frontend.channel.is_open() && !pair.signer.channel.is_open());
        assert!(pair.nobody_heard());
        assert_eq!(pair.signer.refusals, [Failure::Stranger]);
        assert_eq!(pair.frontend.refusals, [Failure::Refused]);
        // What comes meanwhile means nothing, and after the pause the connection ends.
        pair.signer.hear(pair.now, &[0, 1, 2, 3]);
        pair.now += HANDSHAKE_PAUSE;
        pair.signer.timeout(pair.now);
        pair.frontend.timeout(pair.now);
        assert_eq!(pair.signer.ended, Some(DownReason::Insecure(Failure::Stranger)));
        assert_eq!(pair.frontend.ended, Some(DownReason::Insecure(Failure::Refused)));
    }
}

#[test]
fn message_1_of_another_connection_does_nothing() {
    let (frontend, signer) = Pairing::both(1);
    let recorded = Pair::new().frontend.segments(Instant::ZERO, 690);
    let mut later = End::new(Side::Signer, &signer, 21, b"the hellos of a later connection");
    later.hear(Instant::ZERO, &recorded[0]);
    assert_eq!(later.refusals, [Failure::Stranger]);
    assert!(!later.channel.is_open());
    // The same within its own connection, twice.
    let mut pair = Pair::of(&frontend, &signer);
    pair.signer.hear(pair.now, &recorded[0]);
    pair.signer.hear(pair.now, &recorded[0]);
    assert!(!pair.signer.channel.is_open() && pair.signer.heard.is_empty());
    assert_eq!(pair.signer.refusals, [Failure::Tampered]);
}

#[test]
fn hellos_that_were_changed_on_their_way_are_found_by_the_handshake() {
    let (frontend, signer) = Pairing::both(1);
    let mut pair = Pair::of(&frontend, &signer);
    pair.signer = End::new(Side::Signer, &signer, 20, b"the hellos of thi5 connection");
    pair.exchange();
    assert!(!pair.frontend.channel.is_open() && !pair.signer.channel.is_open());
    assert_eq!(pair.signer.refusals, [Failure::Stranger]);
}

#[test]
fn what_an_end_said_does_nothing_when_it_comes_back() {
    let mut pair = Pair::new();
    let first = pair.frontend.segments(pair.now, 690);
    pair.frontend.hear(pair.now, &first[0]);
    assert_eq!(pair.frontend.refusals, [Failure::Stranger]);
    // And with a session, each direction has its own key.
    let mut pair = Pair::open();
    pair.frontend.lanes.push(Lane::Signing, vec![1; 100]);
    for segment in pair.frontend.segments(pair.now, 690) {
        pair.frontend.hear(pair.now, &segment);
    }
    assert_eq!(pair.frontend.ended, Some(DownReason::Insecure(Failure::Tampered)));
    assert!(pair.frontend.heard.is_empty());
}

#[test]
fn a_mute_peer_is_given_up_in_bounded_time() {
    for rate in [None, RATE, Some(1)] {
        let (frontend, signer) = Pairing::both(1);
        for (side, pairing) in [(Side::Frontend, &frontend), (Side::Signer, &signer)] {
            let entropy = &Entropy::seeded(1);
            let config =
                ChannelConfig { side, line_rate: rate, pairing, entropy, binding: BINDING };
            let mut channel = Channel::new(config, Instant::ZERO).unwrap();
            let at = channel.poll_timeout().unwrap();
            assert!(at <= Instant::ZERO + HANDSHAKE_PATIENCE.max(Duration::from_secs(2048)));
            assert_eq!(channel.handle_timeout(at - Duration::from_micros(1)), Ok(()));
            let seconds = at.as_micros() / 1_000_000;
            let mute = DownReason::Insecure(Failure::Mute { seconds });
            assert_eq!(channel.handle_timeout(at), Err(mute));
        }
    }
}

#[test]
fn every_change_and_every_cut_of_a_handshake_message_is_refused() {
    let message = Pair::new().frontend.segments(Instant::ZERO, 690).remove(0);
    let (_, signer) = Pairing::both(1);
    for bit in 0..message.len() * 8 {
        let mut changed = message.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let mut end = End::new(Side::Signer, &signer, 20, BINDING);
        end.hear(Instant::ZERO, &changed);
        assert!(end.segments(Instant::ZERO, 690).iter().all(|segment| segment.len() < 10));
        // At once, also what says that it is longer.
        assert_eq!(end.refusals.len(), 1, "bit {bit}");
        assert!(!end.channel.is_open());
    }
    for cut in 0..message.len() {
        let mut end = End::new(Side::Signer, &signer, 20, BINDING);
        end.hear(Instant::ZERO, &message[..cut]);
        let answers = end.segments(Instant::ZERO, 690);
        assert!(answers.iter().all(|segment| segment.len() < 10), "cut at {cut}");
    }
}

//------------ Records -------------------------------------------------------

/// What the frontend says, changed on its way, must end the signer's connection, and nothing of
/// what was changed may be heard. With `heard`, what came before the change is.
fn tampered(heard: usize, change: impl Fn(&mut Vec<Vec<u8>>)) {
    let mut pair = Pair::open();
    for number in 0..4 {
        pair.frontend.lanes.push(Lane::Signing, vec![number; 100]);
        let mut segments = pair.frontend.segments(pair.now, 4096);
        assert_eq!(segments.len(), 1);
        pair.frontend.heard.push((Lane::Signing, segments.remove(0)));
    }
    let mut segments: Vec<_> = pair.frontend.heard.drain(..).map(|(_, segment)| segment).collect();
    change(&mut segments);
    segments.iter().for_each(|segment| pair.signer.hear(pair.now, segment));
    let good: Vec<_> = (0..heard as u8).map(|number| (Lane::Signing, vec![number; 100])).collect();
    assert_eq!(pair.signer.heard, good);
    assert_eq!(pair.signer.ended, Some(DownReason::Insecure(Failure::Tampered)));
}

#[test]
fn records_altered_reordered_repeated_left_out_or_cut_end_the_connection() {
    // Every byte but the head and the length, which the next test has.
    let length = 3 + 100 + 2 + noise::TAG_LEN;
    for at in 3..length {
        tampered(1, |segments| segments[1][at] ^= 0x10);
    }
    tampered(0, |segments| segments.swap(0, 1));
    tampered(2, |segments| segments.swap(2, 3));
    tampered(1, |segments| segments.insert(1, segments[0].clone()));
    tampered(1, |segments| drop(segments.remove(1)));
    // The beginning of one and the end of another.
    tampered(1, |segments| {
        let end = segments[2].split_off(60);
        segments[1].truncate(60);
        segments[1].extend(end);
    });
    // A byte less, so that the next record's first byte is taken for its last.
    tampered(1, |segments| {
        segments[1].pop();
    });
    // From one stream to the other.
    tampered(1, |segments| segments[1][0] ^= 1);
}

#[test]
fn lengths_and_streams_that_no_program_sends_end_the_connection() {
    for (segment, what) in [
        (&[2, 0, 0][..], "a stream is unknown"),
        (&[0, 0xff, 0x7f], "a record's length is out of bounds"),
    ] {
        let mut pair = Pair::open();
        pair.signer.hear(pair.now, segment);
        assert_eq!(pair.signer.ended, Some(DownReason::PeerMisbehaved { what }));
    }
    // An empty record has no seal.
    let mut pair = Pair::open();
    pair.signer.hear(pair.now, &[0, 0, 0]);
    assert_eq!(pair.signer.ended, Some(DownReason::Insecure(Failure::Tampered)));
    // Too long for a seal that fits: it waits for bytes, then they do not open.
    tampered(1, |segments| segments[1][1] -= 1);
    tampered(1, |segments| segments[1][1] += 1);
    // The other of two keys, which there is none.
    tampered(1, |segments| segments[1][2] ^= 0x80);
}

#[test]
fn a_record_that_began_and_does_not_end_ends_the_connection_however_little_follows() {
    for (rate, patience) in [(None, 10), (RATE, 10), (Some(100), 41), (Some(1), 4168)] {
        let (frontend, signer) = Pairing::both(1);
        let ends = [(Side::Frontend, &frontend), (Side::Signer, &signer)];
        let [frontend, signer] = ends.map(|(side, pairing)| {
            let mut end = End::new(side, pairing, 7, BINDING);
            let (entropy, binding) = (&Entropy::seeded(side as u64), BINDING);
            let config = ChannelConfig { side, line_rate: rate, pairing, entropy, binding };
            end.channel = Channel::new(config, Instant::ZERO).unwrap();
            end
        });
        let mut pair = Pair { frontend, signer, ..Pair::open() };
        pair.exchange();
        // Somebody adds the first byte of a long record to the urgent stream, and leaves.
        let began = pair.now;
        pair.signer.hear(began, &[0, 0xff]);
        let deadline = began + Duration::from_secs(patience);
        for _ in 0..10 {
            // Each true record is swallowed.
            pair.now += Duration::from_secs(patience) / 11;
            pair.frontend.lanes.push(Lane::Signing, vec![7; 5]);
            pair.exchange();
            pair.signer.timeout(pair.now);
        }
        assert_eq!((&pair.signer.heard[..], pair.signer.ended), (&[][..], None), "{rate:?}");
        let at = pair.signer.channel.poll_timeout().unwrap();
        assert!(at >= deadline && at < deadline + Duration::from_secs(patience), "{at:?}");
        pair.signer.timeout(at - Duration::from_micros(1));
        assert_eq!(pair.signer.ended, None, "{rate:?}");
        pair.signer.timeout(at);
        let unfinished = Failure::Unfinished { seconds: patience };
        assert_eq!(pair.signer.ended, Some(DownReason::Insecure(unfinished)), "{rate:?}");
    }
}

#[test]
fn a_bulky_record_may_wait_for_what_is_urgent_and_for_who_does_not_read() {
    let mut pair = Pair::open();
    pair.frontend.lanes.push(Lane::Bulk, vec![1; 20_000]);
    let first = pair.frontend.channel.next_segment(pair.now, 690, &mut pair.frontend.lanes);
    pair.signer.hear(pair.now, &first.unwrap());
    // The line is full of what is urgent for a minute; as if each segment went three times.
    for _ in 0..1000 {
        pair.frontend.lanes.push(Lane::Signing, vec![2; 200]);
        let next = pair.frontend.channel.next_segment(pair.now, 690, &mut pair.frontend.lanes);
        pair.signer.hear(pair.now, &next.unwrap());
        pair.now += Duration::from_millis(60);
        pair.signer.timeout(pair.now);
        assert_eq!(pair.signer.ended, None);
    }
    // The program reads nothing for a minute.
    for _ in 0..60 {
        pair.now += Duration::from_secs(1);
        pair.signer.channel.rest(pair.now);
        pair.signer.timeout(pair.now);
    }
    assert_eq!(pair.signer.ended, None);
    // What has not begun waits for ever, and the rest still fits.
    pair.exchange();
    assert_eq!(pair.signer.heard.last(), Some(&(Lane::Bulk, vec![1; 20_000])));
    pair.now += KEY_TIME / 2;
    pair.signer.timeout(pair.now);
    assert_eq!(pair.signer.ended, None);
}

#[test]
fn before_any_proof_a_false_length_is_refused_at_once() {
    let (_, signer) = Pairing::both(1);
    let confirming = || {
        let mut pair = Pair::new();
        let first = pair.frontend.segments(pair.now, 690).remove(0);
        pair.signer.hear(pair.now, &first);
        pair.signer.segments(pair.now, 690);
        pair.signer
    };
    for segment in [&[0, 49, 0][..], &[0, 0xff, 0x3f], &[0, 1, 0], &[1, 0], &[1]] {
        for mut end in [End::new(Side::Signer, &signer, 20, BINDING), confirming()] {
            end.hear(Instant::ZERO, segment);
            assert_eq!(end.refusals.len(), 1, "{segment:?}");
            assert_eq!(end.channel.poll_timeout(), Some(Instant::ZERO + HANDSHAKE_PAUSE));
        }
    }
}

#[test]
fn a_handshake_message_that_was_cut_lengthened_or_joined_is_refused_at_once() {
    let message = Pair::new().frontend.segments(Instant::ZERO, 690).remove(0);
    let mut changed: Vec<Vec<u8>> = (1..message.len()).map(|cut| message[..cut].to_vec()).collect();
    changed.push([&message[..], &[0]].concat());
    changed.push([&message[..], &message[1..]].concat());
    for segment in changed {
        let mut pair = Pair::new();
        pair.signer.hear(pair.now, &segment);
        assert_eq!(pair.signer.refusals, [Failure::Stranger], "{} bytes", segment.len());
        // The other one gets to know, in one segment that says nothing else.
        pair.frontend.segments(pair.now, 690);
        let told = pair.signer.segments(pair.now, 690);
        assert_eq!(told, [[0, 0, 0]]);
        pair.frontend.hear(pair.now, &told[0]);
        assert_eq!(pair.frontend.refusals, [Failure::Refused]);
    }
}

#[test]
fn a_handshake_message_stays_whole_however_short_segments_are() {
    let mut pair = Pair::new();
    pair.length_max = crate::link::SEGMENT_MIN;
    for segments in [pair.frontend.segments(pair.now, 16), pair.signer.segments(pair.now, 16)] {
        assert!(segments.iter().all(|segment| segment.len() == HEAD_LEN + 2 + noise::MESSAGE_LEN));
        segments.iter().for_each(|segment| pair.signer.hear(pair.now, segment));
    }
    pair.exchange();
    assert!(pair.frontend.channel.is_open() && pair.signer.channel.is_open());
}

#[test]
fn a_handshake_lasts_as_long_as_the_link_gets_on_and_no_longer() {
    let mut pair = Pair::new();
    for _ in 0..100 {
        pair.now += HANDSHAKE_PATIENCE - Duration::from_micros(1);
        pair.signer.timeout(pair.now);
        assert_eq!(pair.signer.ended, None);
        pair.signer.channel.postpone(pair.now);
    }
    pair.now += HANDSHAKE_PATIENCE;
    pair.signer.timeout(pair.now);
    let mute = Failure::Mute { seconds: HANDSHAKE_PATIENCE.as_secs() };
    assert_eq!(pair.signer.ended, Some(DownReason::Insecure(mute)));
    // What is open does not depend on it any more.
    let mut pair = Pair::open();
    pair.signer.channel.postpone(pair.now);
    pair.now += 10 * HANDSHAKE_PATIENCE;
    pair.signer.timeout(pair.now);
    assert_eq!(pair.signer.ended, None);
}

#[test]
fn the_handshake_gives_both_ends_the_keys_of_the_link_s_frames_and_others_in_each_connection() {
    let keys = |pair: &mut Pair| {
        [&mut pair.frontend, &mut pair.signer].map(|end| end.channel.take_frame_keys().unwrap())
    };
    let mut pair = Pair::new();
    let first = pair.frontend.segments(pair.now, 690);
    assert!(pair.frontend.channel.take_frame_keys().is_none());
    pair.signer.hear(pair.now, &first[0]);
    let second = pair.signer.segments(pair.now, 690);
    pair.frontend.hear(pair.now, &second[0]);
    // The frontend knows that the signer has them; the signer does not know yet of the frontend.
    assert!(pair.frontend.channel.is_open() && !pair.signer.channel.is_open());
    let [ours, theirs] = keys(&mut pair);
    assert!(pair.frontend.channel.take_frame_keys().is_none(), "told once");
    let tag = |key: &crate::frame::FrameKey| {
        let mut out = Vec::new();
        crate::frame::encode_with(crate::frame::Check::Key(key), b"prefix", b"body", &mut out);
        out
    };
    assert_eq!(tag(&ours.sending), tag(&theirs.receiving));
    assert_eq!(tag(&ours.receiving), tag(&theirs.sending));
    assert_ne!(tag(&ours.sending), tag(&ours.receiving));
    let (frontend, signer) = Pairing::both(1);
    let mut later = Pair::of(&frontend, &signer);
    later.frontend = End::new(Side::Frontend, &frontend, 11, BINDING);
    later.exchange();
    let [later, _] = keys(&mut later);
    assert_ne!(tag(&ours.sending), tag(&later.sending));
}

#[test]
fn what_was_recorded_in_one_session_does_nothing_in_another_of_the_same_pair() {
    let (frontend, signer) = Pairing::both(1);
    let mut first = Pair::open();
    first.frontend.lanes.push(Lane::Signing, vec![7; 100]);
    let recorded = first.frontend.segments(first.now, 690);
    let mut second = Pair::of(&frontend, &signer);
    second.frontend = End::new(Side::Frontend, &frontend, 11, BINDING);
    second.signer = End::new(Side::Signer, &signer, 22, BINDING);
    second.exchange();
    recorded.iter().for_each(|segment| second.signer.hear(second.now, segment));
    assert!(second.nobody_heard());
    assert_eq!(second.signer.ended, Some(DownReason::Insecure(Failure::Tampered)));
}

#[test]
fn no_byte_of_a_message_is_on_the_line() {
    let mut pair = Pair::open();
    let text = b"the common name of somebody who would rather not be known";
    pair.frontend.lanes.push(Lane::Signing, text.repeat(20));
    let line = pair.frontend.segments(pair.now, 690).concat();
    assert!(line.len() > text.len() * 20);
    for part in text.windows(6) {
        assert!(!line.windows(6).any(|window| window == part));
    }
    // The same again is other bytes.
    pair.frontend.lanes.push(Lane::Signing, text.repeat(20));
    let again = pair.frontend.segments(pair.now, 690).concat();
    assert_eq!(again.len(), line.len());
    assert_ne!(again, line);
}

#[test]
fn something_urgent_steps_in_between_two_segments_of_a_bulky_record() {
    let mut pair = Pair::open();
    pair.frontend.lanes.push(Lane::Bulk, vec![1; 20_000]);
    let first = pair.frontend.channel.next_segment(pair.now, 690, &mut pair.frontend.lanes);
    pair.signer.hear(pair.now, &first.unwrap());
    pair.frontend.lanes.push(Lane::Signing, vec![2; 300]);
    let second = pair.frontend.channel.next_segment(pair.now, 690, &mut pair.frontend.lanes);
    let second = second.unwrap();
    assert!(second.len() < 300 + 30, "the urgent one travels without ballast");
    pair.signer.hear(pair.now, &second);
    assert_eq!(pair.signer.heard, [(Lane::Signing, vec![2; 300])]);
    pair.exchange();
    assert_eq!(pair.signer.heard.last(), Some(&(Lane::Bulk, vec![1; 20_000])));
}

#[test]
fn sealing_costs_about_one_percent_of_a_line_however_short_its_segments_are() {
    for length_max in [64, 690, 4096] {
        let mut pair = Pair::open();
        pair.frontend.lanes.push(Lane::Bulk, vec![1; 100_000]);
        let segments = pair.frontend.segments(pair.now, length_max);
        let bytes: usize = segments.iter().map(|segment| segment.len() - HEAD_LEN).sum();
        assert!(bytes < 101_100, "{bytes} bytes in segments of {length_max}");
        segments.iter().for_each(|segment| pair.signer.hear(pair.now, segment));
        assert_eq!(pair.signer.heard.len(), 1);
    }
}

//------------ Change of keys ------------------------------------------------

#[test]
fn keys_are_changed_under_load_and_no_message_is_lost() {
    let mut pair = Pair::open();
    pair.length_max = 4096;
    let bulk = vec![3; 100_000];
    let (mut rounds, mut segments) = (0u64, 0);
    let mut parities = [0u64; 2];
    while rounds * 230_000 < 4 * KEY_BYTES {
        rounds += 1;
        for end in [&mut pair.frontend, &mut pair.signer] {
            end.lanes.push(Lane::Bulk, bulk.clone());
            end.lanes.push(Lane::Signing, vec![rounds as u8; 500]);
        }
        // Segment by segment, so that records of both keys and both streams are under way at once.
        loop {
            let up = pair.frontend.channel.next_segment(pair.now, 4096, &mut pair.frontend.lanes);
            let down = pair.signer.channel.next_segment(pair.now, 4096, &mut pair.signer.lanes);
            if up.is_none() && down.is_none() {
                break;
            }
            up.iter().for_each(|segment| pair.signer.hear(pair.now, segment));
            down.iter().for_each(|segment| pair.frontend.hear(pair.now, segment));
            segments += 1;
            if segments % 5 == 0 {
                let urgent = vec![segments as u8; 40];
                pair.frontend.lanes.push(Lane::Control, urgent.clone());
                pair.signer.lanes.push(Lane::Control, urgent);
            }
        }
        parities[usize::from(pair.frontend.channel.parity())] += 1;
        assert_eq!(pair.frontend.channel.parity(), pair.signer.channel.parity());
        for end in [&mut pair.frontend, &mut pair.signer] {
            assert_eq!(end.ended, None);
            let bulky = end.heard.iter().filter(|(lane, _)| *lane == Lane::Bulk).count();
            assert_eq!(bulky, 1);
            let signing = (Lane::Signing, vec![rounds as u8; 500]);
            assert_eq!(end.heard.iter().filter(|heard| **heard == signing).count(), 1);
            end.heard.clear();
        }
    }
    assert!(parities.iter().all(|rounds| *rounds > 20), "{parities:?}");
}

#[test]
fn keys_are_changed_in_time_on_an_idle_line_and_so_for_ever() {
    let mut pair = Pair::open();
    let mut changes = 0;
    for _ in 0..10 {
        let before = pair.frontend.channel.parity();
        let timeouts = [&pair.frontend, &pair.signer].map(|end| end.channel.poll_timeout());
        pair.now = timeouts.into_iter().flatten().min().unwrap();
        pair.frontend.timeout(pair.now);
        pair.signer.timeout(pair.now);
        pair.exchange();
        changes += u32::from(pair.frontend.channel.parity() != before);
        assert!(pair.frontend.ended.is_none() && pair.signer.ended.is_none());
    }
    assert_eq!(changes, 10);
    assert_eq!(pair.now, Instant::ZERO + KEY_TIME * 10);
}

#[test]
fn a_key_is_never_used_past_its_bounds() {
    // The frontend's wish for other keys never arrives: by time.
    let mut pair = Pair::open();
    pair.now = Instant::ZERO + KEY_TIME_MAX - Duration::from_micros(1);
    pair.signer.timeout(pair.now);
    pair.signer.lanes.push(Lane::Signing, vec![1]);
    assert_eq!(pair.signer.segments(pair.now, 690).len(), 1);
    pair.now = Instant::ZERO + KEY_TIME_MAX;
    pair.signer.lanes.push(Lane::Signing, vec![1]);
    assert!(pair.signer.segments(pair.now, 690).is_empty());
    assert_eq!(pair.signer.channel.take_fault(), Some(Failure::WornOut));
    pair.signer.timeout(pair.now);
    assert_eq!(pair.signer.ended, Some(DownReason::Insecure(Failure::WornOut)));
    pair.frontend.timeout(pair.now);
    assert_eq!(pair.frontend.ended, Some(DownReason::Insecure(Failure::WornOut)));

    // And by bytes, at the end that seals them.
    let mut pair = Pair::open();
    let mut sealed = 0u64;
    while pair.signer.channel.take_fault().is_none() {
        // Of what is on the line, a hundredth are seals and lengths.
        assert!(sealed <= KEY_BYTES_MAX + KEY_BYTES_MAX / 99, "{sealed}");
        pair.signer.lanes.push(Lane::Bulk, vec![1; 100_000]);
        let segments = pair.signer.segments(pair.now, 4096);
        sealed += segments.iter().map(|segment| segment.len() as u64 - 1).sum::<u64>();
    }
    assert!(sealed > KEY_BYTES_MAX - 200_000, "{sealed}");
}

#[test]
fn only_the_frontend_asks_for_keys_and_only_one_change_at_a_time() {
    // The signer's own record of that kind; a second wish before the first was confirmed.
    let mut pair = Pair::open();
    pair.signer.channel.seal_own(pair.now, 0x80);
    pair.exchange();
    let what = "a record's kind is unknown";
    assert_eq!(pair.frontend.ended, Some(DownReason::PeerMisbehaved { what }));
    let mut pair = Pair::open();
    pair.signer.channel.seal_own(pair.now, 0x81);
    pair.exchange();
    let what = "keys are changed that nobody asked for";
    assert_eq!(pair.frontend.ended, Some(DownReason::PeerMisbehaved { what }));
    // A handshake message in it that does not open is no peer's.
    let mut pair = Pair::open();
    pair.frontend.channel.seal_own(pair.now, 0x80);
    pair.exchange();
    assert_eq!(pair.signer.ended, Some(DownReason::Insecure(Failure::Stranger)));
    let mut pair = Pair::open();
    pair.frontend.channel.seal_own(pair.now, 0xff);
    pair.exchange();
    let what = "a record's kind is unknown";
    assert_eq!(pair.signer.ended, Some(DownReason::PeerMisbehaved { what }));
}
