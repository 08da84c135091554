//! Slow lines: those that are known to be slow, and those that are slower than anybody said.

use crate::{
    support::{Faults, Pair, Random},
    work::{PACED, SECOND, Work},
};
use protocol::{link::SILENCE_BYTES, session::DownReason, time::Duration};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_line_of_one_byte_per_second_carries_messages_and_survives_a_cut() {
    let mut work = Work::new(Pair::connected_within(20 * MINUTE, Some(1), 1), 2, &mut Random(1));
    assert!(work.drive(180 * MINUTE), "{} of 2 open", work.open.len());
    assert_eq!(work.pair.signer.session.counters().link.segments_repeated, 0);
    work.open = [0, 1].into();
    work.asked_in = usize::MAX;
    work.turn();
    work.pair.cut();
    work.drive(20 * MINUTE);
    work.pair.join();
    assert!(work.drive(180 * MINUTE), "{} of 2 open", work.open.len());
    let silence = DownReason::Silence { seconds: SILENCE_BYTES as u64 };
    assert_eq!(work.pair.frontend.downs, [silence]);
}

#[test]
fn a_slow_line_answers_everything_in_spite_of_noise_and_restarts() {
    for (seed, rate) in (0..).zip([5, 10, 10, 20, 30, 50, 60, 100, 200]) {
        let mut random = Random(seed);
        let pair = Pair::connected_within(4 * MINUTE, Some(rate), seed);
        let mut work = Work::new(pair, 3, &mut random);
        let level = Faults { bit_error: 1e-4, drop: 1e-4, duplicate: 1e-4, text: 1e-5 };
        work.pair.set_faults(level);
        work.drive(5 * MINUTE);
        work.pair.signer.restart(work.pair.now);
        let limit = 60 * 60 * 20 / rate;
        assert!(work.drive(limit * SECOND), "{rate} B/s: {} of 3 open", work.open.len());
    }
}

#[test]
fn a_wire_slower_than_anybody_said_carries_everything_all_the_same() {
    // A segment, made for the speed that was said, must not take longer than the silence after
    // which the peer counts as gone.
    for rate in [80, 100, 300, 1000, 5000] {
        let mut random = Random(u64::from(rate));
        let mut work = Work::new(Pair::new(PACED, 21), 10, &mut random);
        work.pair.set_rate(rate);
        let bytes: usize = work.lengths.iter().sum();
        let limit = 60 + (bytes + 10 * 700) as u32 * 2 / rate;
        assert!(work.drive(limit * SECOND), "{rate} B/s: {} of 10 open", work.open.len());
        println!(
            "{rate}: {:?} bytes {bytes} {:?}",
            work.pair.now,
            work.pair.frontend.session.counters().link
        );
        assert_eq!(work.pair.frontend.ups, 1, "{:?}", work.pair.frontend.downs);
    }
}

#[test]
fn a_wire_that_crawls_for_a_while_heals_when_its_rate_returns() {
    for rate in [1, 10, 30] {
        let mut random = Random(u64::from(rate));
        let mut work = Work::new(Pair::connected(PACED, 22), 20, &mut random);
        work.turn();
        work.drive(SECOND);
        work.pair.set_rate(rate);
        work.drive(20 * MINUTE);
        work.pair.set_rate(crate::support::LINE_RATE);
        assert!(work.drive(20 * SECOND), "{rate} B/s: {} of 20 open", work.open.len());
        println!("{rate}: {:?}  {:?}", work.pair.now, work.pair.frontend.session.counters().link);
    }
}
