//! Two sessions over a bad cable: what arrives, once, in order, and how soon after a fault.

use crate::{
    support::{End, Faults, Pair, Random},
    work::{PACED, SECOND, Work, answer, id, issue},
};
use protocol::{
    frame,
    link::HELLO_PREFIX,
    message::{Answer, AuthorityEntry, Catalogue, CatalogueQuery, Message, Request},
    session::{DownReason, SendError, Side},
    time::{Duration, Instant},
};

//------------ Coming up -----------------------------------------------------

#[test]
fn the_link_is_up_at_once_whoever_starts_first() {
    for delay_ms in [0, 1, 5, 30, 400, 499, 501, 60_000] {
        for signer_first in [false, true] {
            let mut pair = Pair::new(PACED, delay_ms);
            pair.cut();
            pair.drive(Duration::from_millis(delay_ms));
            match signer_first {
                true => pair.frontend.restart(pair.now),
                false => pair.signer.restart(pair.now),
            }
            pair.join();
            let time = pair.drive_until(SECOND, Pair::is_up);
            assert!(time.is_some_and(|time| time < SECOND / 10), "{delay_ms} ms: {time:?}");
        }
    }
}

#[test]
fn a_looped_back_line_never_comes_up() {
    let now = Instant::ZERO;
    let mut session = End::<Request, Answer>::new(Side::Frontend, 1, PACED, now).session;
    for _ in 0..20 {
        let now = session.poll_timeout().unwrap_or(now);
        session.handle_timeout(now);
        while let Some(bytes) = session.poll_transmit(now) {
            session.handle_bytes(now, &bytes);
        }
    }
    assert!(!session.is_up());
    assert!(session.counters().link.hellos_reflected >= 5);
}

#[test]
fn an_idle_link_stays_up_and_costs_little() {
    let mut pair = Pair::connected(PACED, 3);
    let before = pair.up.carried;
    pair.drive(600 * SECOND);
    assert_eq!((pair.frontend.ups, pair.signer.ups), (1, 1));
    let per_second = (pair.up.carried - before) as f64 / 600.0;
    assert!(per_second < 10.0, "{per_second} bytes per second");
}

/// Someone else's hello, byte by byte as SPEC.md has it.
fn foreign_hello(side: u8, versions: [u8; 2], boot_id: u64) -> Vec<u8> {
    let mut body = vec![1, side, versions[0], versions[1], 0];
    body.extend_from_slice(&boot_id.to_le_bytes());
    body.extend_from_slice(&1u32.to_le_bytes());
    body.extend_from_slice(&[0; 12]);
    body.extend_from_slice(&4096u16.to_le_bytes());
    body.extend_from_slice(&128u16.to_le_bytes());
    let mut wire = vec![frame::DELIMITER];
    frame::encode(HELLO_PREFIX, &body, &mut wire);
    wire
}

#[test]
fn a_peer_without_a_common_version_is_told_once_and_answered() {
    let mut pair = Pair::new(PACED, 4);
    pair.cut();
    pair.drive(SECOND);
    let frames = pair.frontend.session.counters().link.frames_sent;
    for _ in 0..20 {
        pair.now += SECOND / 2;
        pair.frontend.session.handle_bytes(pair.now, &foreign_hello(2, [7, 9], 77));
        pair.drain();
        pair.drive(SECOND / 2);
    }
    assert_eq!(pair.frontend.others, ["Incompatible { theirs: (7, 9) }"]);
    // One answer at once, then one in three seconds.
    let answers = pair.frontend.session.counters().link.frames_sent - frames;
    assert!((5..=8).contains(&answers), "{answers} hellos in 20 s");
    // The peer is upgraded.
    pair.join();
    assert!(pair.drive_until(6 * SECOND, Pair::is_up).is_some());
}

//------------ Noise ---------------------------------------------------------

#[test]
fn every_request_is_answered_over_any_mixture_of_noise() {
    for seed in 0..250 {
        let mut random = Random(seed);
        let mut work = Work::new(Pair::new(PACED, seed), 1 + random.below(12), &mut random);
        let mut level = |scale: f64| if random.chance(0.5) { scale } else { 0.0 };
        work.pair.set_faults(Faults {
            bit_error: level(2e-4),
            drop: level(1e-3),
            duplicate: level(1e-3),
            text: level(3e-4),
        });
        let done = work.drive(120 * SECOND);
        assert!(done, "seed {seed}: {} of {} open", work.open.len(), work.lengths.len());
    }
}

#[test]
fn a_line_that_is_all_noise_is_quiet_again_within_two_seconds() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut work = Work::new(Pair::new(PACED, seed), 4, &mut random);
        work.pair.set_faults(Faults { bit_error: 0.05, drop: 0.05, ..Faults::default() });
        let noise = Duration::from_millis(500 + random.below(40_000));
        work.drive(noise);
        work.pair.set_faults(Faults::default());
        let time = work.pair.drive_until(5 * SECOND, Pair::is_up).expect("up after the noise");
        assert!(time <= 2 * SECOND, "seed {seed}: {time:?} after {noise:?} of noise");
        assert!(work.drive(5 * SECOND), "seed {seed}: answered soon after the noise");
    }
}

#[test]
fn a_line_on_which_hardly_a_frame_survives_works_slowly_rather_than_never() {
    // At 5e-3 two of three acknowledgements get through, and one of six hellos.
    for bit_error in [1e-3, 3e-3, 5e-3] {
        for seed in 0..5 {
            let mut pair = Pair::new(PACED, seed);
            pair.set_faults(Faults { bit_error, ..Faults::default() });
            let mut work = Work::new(pair, 5, &mut Random(seed));
            let done = work.drive(600 * SECOND);
            let (now, open) = (work.pair.now, work.open.len());
            assert!(
                done,
                "{bit_error:e}, seed {seed}: {open} open, {:?}",
                work.pair.frontend.others
            );
            let bytes: usize = work.lengths.iter().sum();
            println!("bit error rate {bit_error:e}: {bytes} bytes answered after {now:?}");
        }
    }
}

#[test]
fn text_in_mid_frame_costs_that_frame_only() {
    let mut pair = Pair::connected(PACED, 6);
    pair.up.set_faults(Faults { text: 1e-3, ..Faults::default() });
    for number in 0..20 {
        pair.frontend.session.send(pair.now, &issue(number, 700)).unwrap();
    }
    pair.drive_until(20 * SECOND, |pair| pair.signer.heard.len() == 20).unwrap();
    let heard: Vec<_> = pair.signer.heard.iter().map(|m| m.request_id().unwrap()).collect();
    assert_eq!(heard, (0..20).map(id).collect::<Vec<_>>());
    assert_eq!((pair.signer.ups, pair.signer.downs.len()), (1, 0));
    assert!(pair.signer.session.counters().link.frames_broken > 0);
}

#[test]
fn a_flood_of_garbage_changes_nothing() {
    let mut pair = Pair::connected(PACED, 8);
    let mut random = Random(8);
    for _ in 0..200 {
        let length = random.below(20_000) as usize;
        let mut garbage = random.bytes(length);
        if random.chance(0.3) {
            // Without delimiters.
            garbage.iter_mut().for_each(|byte| *byte |= 1);
        }
        pair.signer.session.handle_bytes(pair.now, &garbage);
        pair.drain();
        pair.drive(Duration::from_millis(20));
    }
    pair.frontend.session.send(pair.now, &issue(1, 300)).unwrap();
    assert!(pair.drive_until(5 * SECOND, |pair| pair.signer.heard.len() == 1).is_some());
    assert_eq!((pair.signer.ups, pair.signer.others.len()), (1, 0));
}

//------------ Frames one by one ---------------------------------------------

/// The frames that a session sends when it has just come up and has a message to send.
fn captured() -> (Pair, Vec<u8>) {
    let mut pair = Pair::connected(PACED, 9);
    pair.drive(SECOND);
    pair.frontend.session.send(pair.now, &issue(1, 180)).unwrap();
    let wire = pair.frontend.session.poll_transmit(pair.now).unwrap();
    (pair, wire)
}

#[test]
fn a_segment_with_any_flipped_bit_or_cut_anywhere_is_not_taken() {
    let (mut pair, wire) = captured();
    let end = wire.len() - 1;
    let before = pair.signer.session.counters().link;
    for bit in 0..wire.len() * 8 {
        let mut damaged = wire.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged.push(frame::DELIMITER);
        pair.signer.session.handle_bytes(pair.now, &damaged);
    }
    // The frame without the delimiters around it is whole, so cuts start within.
    for cut in 1..end {
        let mut damaged = wire[..cut].to_vec();
        damaged.push(frame::DELIMITER);
        pair.signer.session.handle_bytes(pair.now, &damaged);
    }
    let after = pair.signer.session.counters().link;
    // Flips of the delimiter in front join it with the frame, or leave it good: only those eight
    // can be taken, and only once.
    assert!(after.segments_received - before.segments_received <= 1);
    assert!(after.segments_duplicate - before.segments_duplicate <= 8);
    pair.signer.session.handle_bytes(pair.now, &wire);
    pair.drain();
    assert_eq!(pair.signer.heard, [issue(1, 180)]);
}

#[test]
fn a_hello_with_any_flipped_bit_or_cut_anywhere_is_not_taken() {
    let wire = foreign_hello(2, [1, 1], 42);
    let end = End::<Request, Answer>::new(Side::Frontend, 1, PACED, Instant::ZERO);
    let mut session = end.session;
    for bit in 8..wire.len() * 8 {
        let mut damaged = wire.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged.push(frame::DELIMITER);
        session.handle_bytes(Instant::ZERO, &damaged);
    }
    for cut in 1..wire.len() - 1 {
        let mut damaged = wire[..cut].to_vec();
        damaged.push(frame::DELIMITER);
        session.handle_bytes(Instant::ZERO, &damaged);
    }
    assert_eq!(session.counters().link.frames_received, 0);
    session.handle_bytes(Instant::ZERO, &wire);
    assert_eq!(session.counters().link.frames_received, 1);
}

//------------ Cuts and restarts ---------------------------------------------

#[test]
fn a_cut_of_any_length_ends_with_every_request_answered() {
    for (seed, cut_ms) in (0..).zip([1, 50, 900, 3000, 8500, 11_000, 60_000, 3_600_000]) {
        let mut random = Random(seed);
        let mut work = Work::new(Pair::connected(PACED, seed), 20, &mut random);
        work.turn();
        work.drive(Duration::from_millis(700));
        work.pair.cut();
        work.drive(Duration::from_millis(cut_ms));
        work.pair.join();
        let time = work.pair.drive_until(5 * SECOND, Pair::is_up).expect("up after the cut");
        assert!(time <= 2 * SECOND, "{time:?} after {cut_ms} ms");
        assert!(work.drive(20 * SECOND), "cut of {cut_ms} ms");
        let silent = cut_ms > 10_000;
        let silence = DownReason::Silence { seconds: 10 };
        assert_eq!(work.pair.frontend.downs, if silent { vec![silence] } else { vec![] });
    }
}

#[test]
fn acknowledgements_lost_in_a_cut_leave_nothing_slow_behind() {
    // Requests arrive and their acknowledgements do not, for almost as long as a connection
    // bears; then the line is bad for a while. None of that is a round trip.
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut work = Work::new(Pair::connected(PACED, seed), 16, &mut random);
        work.turn();
        work.drive(Duration::from_millis(random.below(400)));
        work.pair.down.cut();
        work.drive(Duration::from_millis(5_000 + random.below(4_900)));
        work.pair.join();
        work.pair.set_faults(Faults { bit_error: 1e-3, ..Faults::default() });
        work.drive(Duration::from_millis(random.below(8_000)));
        work.pair.set_faults(Faults::default());
        assert!(work.drive(8 * SECOND), "seed {seed}: {} of 16 open", work.open.len());
    }
}

#[test]
fn either_side_restarted_at_any_moment_is_found_again_within_two_seconds() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut work = Work::new(Pair::new(PACED, seed), 8, &mut random);
        for _ in 0..=random.below(3) {
            // Often within the handshake, else in mid-work.
            let moment = if random.chance(0.5) { 15_000 } else { 2_500_000 };
            work.drive(Duration::from_micros(random.below(moment)));
            if random.chance(0.5) {
                work.pair.frontend.restart(work.pair.now);
                work.asked_in = usize::MAX;
            } else {
                work.pair.signer.restart(work.pair.now);
            }
        }
        let before = work.pair.frontend.ups;
        let agree = |pair: &Pair| pair.is_up() && pair.frontend.ups > before;
        let start = work.pair.now;
        while !(agree(&work.pair) || work.open.is_empty()) {
            let time = work.pair.now.saturating_since(start);
            assert!(time <= 2 * SECOND, "seed {seed}: not up after {time:?}");
            let limit = work.pair.now + SECOND;
            work.pair.step(limit);
            work.turn();
        }
        assert!(work.drive(20 * SECOND), "seed {seed}: {} open", work.open.len());
    }
}

#[test]
fn any_sequence_of_faults_ends_with_every_request_answered() {
    for seed in 0..250 {
        let mut random = Random(seed ^ 0xfa01);
        let mut work = Work::new(Pair::new(PACED, seed), 1 + random.below(15), &mut random);
        for _ in 0..random.below(30) {
            fault(&mut work, &mut random);
            work.drive(Duration::from_micros(1 << random.below(23)));
        }
        work.pair.set_faults(Faults::default());
        work.pair.join();
        // Ten seconds of silence may have to pass where one side does not know yet that the other
        // one is new, and two to come up again.
        assert!(work.drive(30 * SECOND), "seed {seed}: {} open", work.open.len());
    }
}

fn fault(work: &mut Work, random: &mut Random) {
    let Work { pair, asked_in, .. } = work;
    let now = pair.now;
    match random.below(10) {
        0 => pair.up.cut(),
        1 => pair.down.cut(),
        2 | 3 => pair.join(),
        4 => {
            pair.frontend.restart(now);
            *asked_in = usize::MAX;
        }
        5 => pair.signer.restart(now),
        6 => pair.up.inject_stale(now),
        7 => pair.down.inject_stale(now),
        8 => {
            let level = [0.0, 1e-5, 1e-4, 1e-2][random.below(4) as usize];
            let faults = Faults { bit_error: level, drop: level, duplicate: level, text: level };
            pair.set_faults(faults);
        }
        _ => {
            let garbage = random.bytes(300);
            pair.up.inject(now, &garbage);
            pair.down.inject(now, &foreign_hello(2, [1, 2], random.next()));
        }
    }
}

#[test]
fn bytes_of_an_earlier_connection_are_merely_broken_frames() {
    // Everything the signer ever sent, kept by a tty and spilled into the next connection.
    let mut pair = Pair::connected(PACED, 11);
    pair.frontend.session.send(pair.now, &issue(1, 400)).unwrap();
    pair.drive(SECOND);
    let mut stale = Vec::new();
    for number in 0..5 {
        let answer = answer(&issue(number, 300)).unwrap();
        pair.signer.session.send(pair.now, &answer).unwrap();
        while let Some(bytes) = pair.signer.session.poll_transmit(pair.now) {
            stale.extend_from_slice(&bytes);
        }
        pair.drive(SECOND / 5);
    }
    pair.signer.restart(pair.now);
    while let Some(bytes) = pair.signer.session.poll_transmit(pair.now) {
        stale.extend_from_slice(&bytes);
    }
    pair.signer.restart(pair.now);
    let heard = pair.frontend.heard.len();
    for _ in 0..3 {
        pair.down.inject(pair.now, &stale);
        pair.drive(3 * SECOND);
    }
    assert!(pair.is_up());
    assert_eq!(pair.frontend.heard.len(), heard);
    let ups = pair.frontend.ups;
    pair.down.inject(pair.now, &stale);
    pair.frontend.session.send(pair.now, &issue(9, 400)).unwrap();
    pair.drive(3 * SECOND);
    assert_eq!(pair.signer.heard.last(), Some(&issue(9, 400)));
    // The stale hello of a boot that is gone raises a doubt, which the living peer dispels.
    assert_eq!((pair.frontend.ups, pair.frontend.heard.len()), (ups, heard));
}

#[test]
fn a_stranger_s_hello_does_not_end_a_living_connection() {
    let mut pair = Pair::connected(PACED, 12);
    for _ in 0..20 {
        pair.up.inject(pair.now, &foreign_hello(1, [1, 1], 0xbad));
        pair.drive(SECOND / 2);
    }
    assert_eq!((pair.signer.ups, pair.signer.downs.len()), (1, 0));
}

//------------ Bounds --------------------------------------------------------

#[test]
fn a_message_is_refused_with_the_reason_before_anything_is_sent() {
    let mut pair = Pair::new(PACED, 13);
    let now = pair.now;
    let refused = pair.frontend.session.send(now, &issue(1, 10));
    assert!(matches!(refused, Err(SendError::NotUp)), "{refused:?}");
    let mut pair = Pair::connected(PACED, 13);
    let mut taken = 0;
    let refused = loop {
        match pair.frontend.session.send(pair.now, &issue(taken, 100)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SendError::LaneFull { .. }), "{refused:?}");
    // Another lane is not touched by that.
    let query = CatalogueQuery { have: None, serial_high: vec![].try_into().unwrap() };
    pair.frontend.session.send(pair.now, &Request::Catalogue(query)).unwrap();
    pair.drive_until(60 * SECOND, |pair| pair.signer.heard.len() as u64 == taken + 1).unwrap();
    let refused = pair.signer.session.send(pair.now, &Answer::Catalogue(huge_catalogue()));
    assert!(matches!(refused, Err(SendError::TooLong { .. })), "{refused:?}");
}

/// Within the bounds of every field, past that of a message.
fn huge_catalogue() -> Catalogue {
    let authority = AuthorityEntry {
        name: "issuing".parse().unwrap(),
        certificate: vec![0; 8192].try_into().unwrap(),
        chain: vec![].try_into().unwrap(),
        profiles: vec![].try_into().unwrap(),
        delta_crl: false,
        crl_shards: 0,
    };
    Catalogue {
        authorities: vec![authority; 17].try_into().unwrap(),
        openpgp: vec![].try_into().unwrap(),
    }
}

#[test]
fn messages_up_to_the_longest_arrive_whole_also_without_a_line_limit() {
    for line_rate in [PACED, None] {
        let mut pair = Pair::connected(line_rate, 14);
        for length in [0, 1, 1000, 64 * 1024] {
            pair.frontend.session.send(pair.now, &issue(3, length)).unwrap();
        }
        pair.drive_until(60 * SECOND, |pair| pair.signer.heard.len() == 4).unwrap();
        assert_eq!(pair.signer.heard[3], issue(3, 64 * 1024));
    }
}

#[test]
fn a_message_s_patches_shorten_it_on_the_line() {
    let mut pair = Pair::connected(PACED, 15);
    for number in 0..30 {
        pair.frontend.session.send(pair.now, &issue(5, 700)).unwrap();
        let answers = pair.frontend.heard.len();
        pair.drive_until(SECOND, |pair| pair.signer.heard.len() > number).unwrap();
        let answer = answer(pair.signer.heard.last().unwrap()).unwrap();
        pair.signer.session.send(pair.now, &answer).unwrap();
        pair.drive_until(SECOND, |pair| pair.frontend.heard.len() > answers).unwrap();
    }
    let sent = pair.signer.session.counters();
    // The CSR's 700 random bytes are in every certificate, and the frontend has them.
    assert!(sent.packed_bytes_sent * 10 < sent.message_bytes_sent, "{sent:?}");
    assert_eq!(pair.frontend.session.counters().patches_failed, 0);
}
