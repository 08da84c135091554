//! Every frame of every kind, and every segment of a secure session, cut at every offset.
//!
//! A cut frame does nothing but be counted: no message, no event, no acknowledgement comes of it,
//! and the good frames behind it are as good as ever.

use std::collections::VecDeque;

use protocol::{
    frame::DELIMITER,
    link::{Endpoint, EndpointConfig, KINDS},
    session::{Event, FrontendSession, Side, SignerSession},
    time::{Duration, Instant},
};

use crate::{
    samples::requests,
    talk::{From, LINE_RATE, Talk, config, kind},
};

/// The seeds that are tried until a talk has every kind of frame.
const SEEDS: u64 = 60;
/// Until then the line loses frames.
const NOISY: Duration = Duration::from_secs(4);
/// When a second frontend is put on the wire.
const STRANGER_AT: Duration = Duration::from_secs(2);

/// Whether the line of this seed loses this frame.
fn is_lost(seed: u64, number: usize) -> bool {
    let mixed = (seed << 32 | number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    seed > 0 && (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 62 == 0
}

fn talk(kind: &str) -> Talk {
    match kind {
        "Busy" => Talk::with_stranger(STRANGER_AT),
        _ => Talk::new(),
    }
}

/// Gets the number, the sender and the bytes of a frame; may give others instead.
type Watcher<'a> = dyn FnMut(usize, From, &[u8]) -> Option<Vec<u8>> + 'a;

/// Runs the talk of this seed; `at` gets every frame that is not lost.
fn run(name: &str, seed: u64, at: &mut Watcher<'_>) -> Talk {
    let mut talk = talk(name);
    let mut fate = |number: usize, from: From, frame: &[u8]| match at(number, from, frame) {
        Some(instead) => instead,
        None if is_lost(seed, number) => vec![DELIMITER],
        None => frame.to_vec(),
    };
    talk.drive_for(NOISY, &mut fate);
    talk
}

/// The first frame of this kind that arrives in the talk of any seed: seed, number and bytes.
fn find(name: &str) -> (u64, usize, Vec<u8>) {
    for seed in 0..SEEDS {
        let mut found = None;
        run(name, seed, &mut |number, _, frame| {
            if found.is_none() && kind(frame) == Some(name) && !is_lost(seed, number) {
                found = Some((seed, number, frame.to_vec()));
            }
            None
        });
        if let Some(found) = found {
            return found;
        }
    }
    panic!("no {name} in {SEEDS} talks");
}

fn cut_at_every_offset(name: &str) {
    let (seed, which, frame) = find(name);
    assert_eq!(frame.last(), Some(&DELIMITER));
    // Without its last byte, the delimiter, it is whole.
    for cut in 0..frame.len() - 1 {
        let mut instead = frame[..cut].to_vec();
        instead.push(DELIMITER);
        let mut talk =
            run(name, seed, &mut |number, _, _| (number == which).then(|| instead.clone()));
        talk.drive(&mut |_, _, frame| frame.to_vec());
        assert_eq!(talk.wonders, [""; 0], "{name} cut at {cut}");
    }
    // The next frame comes at once: it shares the cut one's end, and both are lost together.
    for cut in 1..frame.len() - 1 {
        let mut talk =
            run(name, seed, &mut |number, _, _| (number == which).then(|| frame[..cut].to_vec()));
        talk.drive(&mut |_, _, frame| frame.to_vec());
        assert_eq!(talk.wonders, [""; 0], "{name} cut at {cut} without an end");
    }
}

#[test]
fn a_hello_cut_anywhere_does_nothing() {
    cut_at_every_offset("Hello");
}

#[test]
fn data_cut_anywhere_do_nothing() {
    cut_at_every_offset("Data");
}

#[test]
fn an_ack_cut_anywhere_does_nothing() {
    cut_at_every_offset("Ack");
}

#[test]
fn a_probe_cut_anywhere_does_nothing() {
    cut_at_every_offset("Probe");
}

#[test]
fn a_report_cut_anywhere_does_nothing() {
    cut_at_every_offset("Report");
}

#[test]
fn a_part_cut_anywhere_does_nothing() {
    cut_at_every_offset("Part");
}

#[test]
fn a_busy_cut_anywhere_does_nothing() {
    let (seed, which, frame) = find("Busy");
    for cut in 0..frame.len() - 1 {
        let mut instead = frame[..cut].to_vec();
        instead.push(DELIMITER);
        let mut talk =
            run("Busy", seed, &mut |number, _, _| (number == which).then(|| instead.clone()));
        talk.drive(&mut |_, _, frame| frame.to_vec());
    }
}

#[test]
fn every_kind_of_frame_is_cut_here() {
    let tested = ["Hello", "Data", "Ack", "Probe", "Report", "Part", "Busy"];
    assert_eq!(KINDS.map(|(name, _)| name), tested);
}

/// Each prefix of each kind, followed by a good frame of the same connection: the receiver counts
/// one good frame and no more, and says nothing that it would not have said.
#[test]
fn a_good_frame_behind_a_cut_one_is_taken_and_the_cut_one_is_not() {
    for (name, _) in KINDS {
        let (seed, which, frame) = find(name);
        let mut talk = talk(name);
        let mut sender = None;
        let mut held = None;
        // Up to the frame in question, which is held back.
        while held.is_none() {
            talk.drive_for(Duration::from_millis(1), &mut |number, from, bytes| {
                if number == which {
                    sender = Some(from);
                    held = Some(bytes.to_vec());
                }
                match held.is_some() || is_lost(seed, number) {
                    true => vec![DELIMITER],
                    false => bytes.to_vec(),
                }
            });
        }
        let sender = sender.unwrap();
        assert_eq!(held.as_ref(), Some(&frame), "{name}: the talk replays");
        let before = talk.receiver(sender);
        for cut in 0..frame.len() - 1 {
            let prefix = [&frame[..cut], &[DELIMITER]].concat();
            match sender {
                From::Signer => talk.frontend.handle_bytes(talk.now, &prefix),
                _ => talk.signer.handle_bytes(talk.now, &prefix),
            }
        }
        let after = talk.receiver(sender);
        assert_eq!(after.link.frames_received, before.link.frames_received, "{name}");
        assert_eq!(after.messages_received, before.messages_received, "{name}");
        assert!(after.link.frames_broken > before.link.frames_broken, "{name}");
        match sender {
            From::Signer => talk.frontend.handle_bytes(talk.now, &frame),
            _ => talk.signer.handle_bytes(talk.now, &frame),
        }
        let taken = talk.receiver(sender).link.frames_received - after.link.frames_received;
        assert_eq!(taken, 1, "{name} is good where its prefixes were not");
    }
}

//------------ Segments ------------------------------------------------------

/// Somebody between the two who speaks the link's language with each.
struct Face {
    endpoint: Endpoint,
    says: VecDeque<Vec<u8>>,
}

impl Face {
    fn new(side: Side, boot_id: u64) -> Self {
        let config = EndpointConfig { side, boot_id, line_rate: Some(LINE_RATE) };
        Self { endpoint: Endpoint::new(config, Instant::ZERO), says: VecDeque::new() }
    }

    fn turn(&mut self, now: Instant, bytes: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        self.endpoint.handle_bytes(now, bytes);
        self.endpoint.handle_timeout(now);
        while self.endpoint.poll_event().is_some() {}
        let heard = std::iter::from_fn(|| self.endpoint.poll_segment()).collect();
        let mut out = Vec::new();
        while let Some(bytes) = self.endpoint.poll_transmit(now, |length_max| {
            let mut segment = self.says.pop_front()?;
            if segment.len() > length_max {
                self.says.push_front(segment.split_off(length_max));
            }
            Some(segment)
        }) {
            out.extend(bytes);
        }
        (out, heard)
    }
}

/// Two sessions that each believe to have the other, with somebody in between who passes all
/// segments on but one, of which only a prefix. Returns how many messages were heard, and the
/// segment's length.
fn with_one_segment_cut(which: usize, cut: Option<usize>) -> (usize, Option<usize>) {
    let now = Instant::ZERO;
    let mut frontend = FrontendSession::new(config(Side::Frontend, 1), now);
    let mut signer = SignerSession::new(config(Side::Signer, 2), now);
    // Each face has the name of the one whose place it takes: the handshake binds the names.
    let mut faces = [Face::new(Side::Signer, 2), Face::new(Side::Frontend, 1)];
    let asked = requests();
    let (mut now, mut passed, mut length, mut heard, mut downs) = (now, 0, None, 0, 0);
    let end = now + Duration::from_secs(8);
    while now < end && downs == 0 {
        let mut said = [Vec::new(), Vec::new()];
        while let Some(bytes) = frontend.poll_transmit(now) {
            said[0].extend(bytes);
        }
        while let Some(bytes) = signer.poll_transmit(now) {
            said[1].extend(bytes);
        }
        let mut segments = [Vec::new(), Vec::new()];
        for from in [0, 1] {
            let (out, of_end) = faces[from].turn(now, &said[from]);
            segments[from] = of_end;
            match from {
                0 => frontend.handle_bytes(now, &out),
                _ => signer.handle_bytes(now, &out),
            }
        }
        for from in [0, 1] {
            for mut segment in std::mem::take(&mut segments[from]) {
                if passed == which {
                    length = Some(segment.len());
                    segment.truncate(cut.unwrap_or(segment.len()));
                }
                passed += 1;
                if !segment.is_empty() {
                    faces[1 - from].says.push_back(segment);
                }
            }
        }
        while let Some(event) = frontend.poll_event() {
            match event {
                Event::Up => asked.iter().for_each(|(_, ask)| frontend.send(now, ask).unwrap()),
                Event::Message(answer) => panic!("nobody answered {answer:?}"),
                Event::Down { .. } => downs += 1,
                _ => {}
            }
        }
        while let Some(event) = signer.poll_event() {
            match event {
                Event::Message(request) => {
                    let sent = asked.iter().any(|(_, ask)| *ask == request);
                    assert!(sent, "segment {which} cut at {cut:?}: nobody sent {request:?}");
                    heard += 1;
                }
                Event::Down { .. } => downs += 1,
                _ => {}
            }
        }
        if heard == asked.len() {
            break;
        }
        now += Duration::from_millis(10);
        frontend.handle_timeout(now);
        signer.handle_timeout(now);
    }
    (heard, length)
}

/// The two messages of the handshake, its confirmation, and sealed records: what is cut never
/// becomes a message, and what was whole before it does.
#[test]
fn handshakes_and_sealed_records_cut_anywhere_open_nothing() {
    // The whole conversation is heard if nothing is cut, or what is cut is not there.
    let (all, _) = with_one_segment_cut(usize::MAX, None);
    assert_eq!(all, requests().len());
    let mut cut_ones = 0;
    for which in 0..6 {
        let (_, length) = with_one_segment_cut(which, None);
        let Some(length) = length else { break };
        for cut in 0..length {
            let (heard, _) = with_one_segment_cut(which, Some(cut));
            assert!(heard < all, "segment {which} cut at {cut} of {length}");
        }
        cut_ones += 1;
    }
    assert!(cut_ones >= 4, "only {cut_ones} segments were there to be cut");
}
