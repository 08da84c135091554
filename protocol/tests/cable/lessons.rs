//! Lessons of earlier systems, on the simulated wire.

use protocol::time::Duration;

use crate::{
    support::{LINE_RATE, Pair, Random},
    work::issue,
};

/// Lesson 2: an old protocol added its bytes up with XOR and took a request in which the same bit
/// was flipped twice. Here one such pair in each frame, near and far from each other, in every bit.
#[test]
fn two_flipped_bits_that_cancel_in_an_xor_never_reach_the_signer() {
    let mut random = Random(2);
    let mut pair = Pair::connected(Some(LINE_RATE), 2);
    for round in 0..240u64 {
        pair.drive(Duration::from_millis(300));
        let request = issue(random.next(), 300);
        pair.frontend.session.send(pair.now, &request).unwrap();
        let mut frame = pair.frontend.session.poll_transmit(pair.now).unwrap();
        let first = random.below(frame.len() as u64) as usize;
        let second = match round % 3 {
            0 => (first + 1) % frame.len(),
            1 => (first + 16) % frame.len(),
            _ => random.below(frame.len() as u64) as usize,
        };
        frame[first] ^= 1 << (round % 8);
        frame[second] ^= 1 << (round % 8);
        let damaged = first != second;
        let before = pair.signer.session.counters().link;
        pair.up.put(pair.now, &frame);
        let heard = pair.drive_until(Duration::from_secs(20), |pair| !pair.signer.heard.is_empty());
        assert!(heard.is_some(), "round {round}: the request was lost for good");
        assert_eq!(pair.signer.heard.split_off(0), [request], "round {round}");
        if damaged {
            let after = pair.signer.session.counters().link;
            assert_ne!(before, after, "round {round}");
        }
    }
    assert_eq!(pair.signer.session.counters().messages_undecodable, 0);
    assert_eq!(pair.signer.session.counters().patches_failed, 0);
    assert_eq!(pair.signer.ups, 1, "noise of two bits ends no connection");
}
