//! Lanes: any segments from a peer, and whatever was queued through segments of any lengths.

use std::collections::VecDeque;

use protocol::{
    lanes::{Incoming, Outgoing, PACKED_MAX},
    message::Lane,
};

use crate::input::Input;

/// The shortest segment that the link ever asks for.
const SEGMENT_LEAST: usize = 64;

/// The first byte says whether the rest is a peer's segments or a list of messages to carry.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 2 {
        0 => take_anything(input),
        _ => carry(input),
    }
}

/// A peer's segments: no more comes out than went in, and nothing after the first fault counts.
fn take_anything(mut input: Input<'_>) {
    let mut incoming = Incoming::default();
    let mut complete = VecDeque::new();
    let (mut came, mut left) = (0, 0);
    while !input.is_empty() {
        let length = 1 + usize::from(input.word() % 4096);
        let segment = input.take(length);
        came += segment.len();
        let result = incoming.take(segment, &mut complete);
        for (_, message) in complete.drain(..) {
            assert!(!message.is_empty() && message.len() <= PACKED_MAX);
            left += message.len();
        }
        assert!(left <= came, "{left} bytes came out of {came}");
        if result.is_err() {
            return;
        }
    }
}

/// What is queued comes out whole, once, and in order within its lane.
fn carry(mut input: Input<'_>) {
    let mut outgoing = Outgoing::default();
    let mut incoming = Incoming::default();
    let mut under_way: [VecDeque<Vec<u8>>; Lane::ALL.len()] = Default::default();
    let mut complete = VecDeque::new();
    let mut number = 0_u8;
    while !input.is_empty() {
        let choice = input.byte();
        let lane = Lane::ALL[usize::from(choice % 4)];
        if choice < 0x80 {
            if outgoing.has_room(lane) {
                let length = 1 + usize::from(input.word()) % 20_000;
                number = number.wrapping_add(1);
                let message = vec![number; length];
                outgoing.push(lane, message.clone());
                under_way[lane as usize].push_back(message);
            }
            continue;
        }
        let length_max = SEGMENT_LEAST + usize::from(input.word() % 4033);
        if let Some(segment) = outgoing.next_segment(length_max) {
            assert!(!segment.is_empty() && segment.len() <= length_max);
            incoming.take(&segment, &mut complete).expect("our own segments are right");
        }
        hear(&mut complete, &mut under_way);
    }
    while let Some(segment) = outgoing.next_segment(4096) {
        incoming.take(&segment, &mut complete).expect("our own segments are right");
        hear(&mut complete, &mut under_way);
    }
    assert!(outgoing.is_empty() && under_way.iter().all(VecDeque::is_empty), "something is lost");
}

fn hear(
    complete: &mut VecDeque<(Lane, Vec<u8>)>,
    under_way: &mut [VecDeque<Vec<u8>>; Lane::ALL.len()],
) {
    for (lane, message) in complete.drain(..) {
        assert_eq!(under_way[lane as usize].pop_front(), Some(message), "lane {lane:?}");
    }
}
