//! Every frame of every kind, and every segment of a secure session, cut at every offset.
//!
//! A cut frame does nothing but be counted: no message, no event, no acknowledgement comes of it,
//! and the good frames behind it are as good as ever.

use std::collections::VecDeque;

use protocol::{
    frame::DELIMITER,
    lanes,
    link::{KINDS, Side},
    message::{MESSAGE_MAX, Message, Request},
    patch,
    secure::{Channel, ChannelConfig, Entropy, Pairing},
    time::{Duration, Instant},
};

use crate::{
    samples::requests,
    talk::{From, LINE_RATE, Talk, kind},
};

/// The seeds that are tried until a talk has every kind of frame.
const SEEDS: u64 = 60;
/// Until then the line loses frames.
const NOISY: Duration = Duration::from_secs(4);
/// How long segments are at most.
const SEGMENT: usize = 690;
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

/// Two ends of a secure connection and somebody between them who passes all segments on but one,
/// of which only a prefix, as one who had the key of the link's frames could. Returns how many
/// messages were heard, and the segment's length.
fn with_one_segment_cut(which: usize, cut: Option<usize>) -> (usize, Option<usize>) {
    let now = Instant::ZERO;
    let (frontend, signer) = Pairing::both(1);
    let mut ends = [(Side::Frontend, frontend), (Side::Signer, signer)].map(|(side, pairing)| {
        let config = ChannelConfig {
            side,
            line_rate: Some(LINE_RATE),
            pairing: &pairing,
            entropy: &Entropy::seeded(side as u64),
            binding: b"what both said in their hellos",
        };
        Channel::new(config, now).unwrap()
    });
    let (asked, mut lanes) = (requests(), [lanes::Outgoing::default(), lanes::Outgoing::default()]);
    for (_, request) in &asked {
        lanes[0].push(request.lane(), patch::store(&request.to_bytes().unwrap()));
    }
    let (mut incoming, mut messages) = (lanes::Incoming::default(), VecDeque::new());
    let (mut passed, mut length, mut ended, mut quiet) = (0, None, false, 0);
    while !ended && quiet < 2 {
        for from in [0, 1] {
            let segment = ends[from].next_segment(now, SEGMENT, &mut lanes[from]);
            quiet = if segment.is_none() { quiet + 1 } else { 0 };
            let Some(mut segment) = segment else { continue };
            if passed == which {
                length = Some(segment.len());
                segment.truncate(cut.unwrap_or(segment.len()));
            }
            passed += 1;
            let taken = ends[1 - from].handle_segment(now, &segment, |chunks| {
                incoming.take(chunks, &mut messages).map_err(|error| error.rule())
            });
            ended |= taken.is_err();
        }
    }
    for (_, packed) in &messages {
        let bytes = patch::unpack(packed, |_| None, MESSAGE_MAX).unwrap();
        let heard = Request::from_bytes(&bytes).unwrap();
        let sent = asked.iter().any(|(_, request)| *request == heard);
        assert!(sent, "segment {which} cut at {cut:?}: nobody sent {heard:?}");
    }
    (messages.len(), length)
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
