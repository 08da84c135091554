//! One story for each way in which a cable fails. Each asks questions, lets one thing go wrong,
//! and waits until everything is answered; the pair checks all the while that nothing arrives
//! twice, out of order, or that was not sent.

use link_sim::{
    faults::Faults,
    pair::{Pair, PairConfig},
    workload::{Kind, Workload},
};
use protocol::{
    session::Side,
    time::{Duration, Instant},
};

const BAUD_115200: Option<u32> = Some(11_520);
/// Longer than the silence after which an end gives its peer up, and a few hellos.
const SOON: Duration = Duration::from_secs(20);
const SIDES: [Side; 2] = [Side::Frontend, Side::Signer];

//------------ Damage --------------------------------------------------------

#[test]
fn bit_errors_up_to_one_in_ten_thousand_only_slow_the_line() {
    for probability in [1e-6, 1e-5, 1e-4] {
        finish_under(Faults::none().bit_errors(probability), Duration::from_secs(60));
    }
}

#[test]
fn worse_bit_errors_let_nothing_wrong_through_and_the_line_recovers() {
    for probability in [1e-3, 1e-2] {
        let (mut pair, mut workload) = start(Faults::none().bit_errors(probability));
        workload.run_for(&mut pair, Duration::from_secs(120));
        pair.heal();
        workload.finish(&mut pair, SOON);
    }
}

#[test]
fn lost_bytes_are_repeated_whether_one_or_thousands() {
    for length in [1, 16, 256, 4_096] {
        let faults = Faults::none().drops(0.001 / f64::from(length), length);
        finish_under(faults, Duration::from_secs(90));
    }
}

#[test]
fn repeated_bytes_are_not_taken_twice_whether_one_or_thousands() {
    for length in [1, 16, 256, 4_096] {
        let faults = Faults::none().duplicates(0.001 / f64::from(length), length);
        finish_under(faults, Duration::from_secs(90));
    }
}

#[test]
fn noise_between_and_within_frames_is_survived() {
    for length in [1, 16, 256, 4_096] {
        let faults = Faults::none().noise(0.001 / f64::from(length), length);
        finish_under(faults, Duration::from_secs(90));
    }
}

#[test]
fn break_xon_and_xoff_bytes_are_noise_like_any_other() {
    finish_under(Faults::none().controls(1e-3), Duration::from_secs(90));
}

#[test]
fn kernel_messages_and_login_prompts_are_noise_too() {
    finish_under(Faults::none().texts(5e-4), Duration::from_secs(90));
}

#[test]
fn wrong_baud_rate_says_nothing_and_the_right_one_heals_it() {
    let garbled_until = Instant::from_micros(30_000_000);
    let (mut pair, mut workload) = start(Faults::none().garbled_until(garbled_until));
    workload.run_for(&mut pair, Duration::from_secs(30));
    assert_eq!(pair.counts(Side::Signer).received, 0);
    assert!(SIDES.iter().all(|side| !pair.is_up(*side)));
    workload.finish(&mut pair, SOON);
}

#[test]
fn every_preset_heals() {
    for preset in link_sim::faults::PRESETS {
        let faults = Faults::preset(preset.name).unwrap();
        let (mut pair, mut workload) = start(faults);
        workload.run_for(&mut pair, Duration::from_secs(30));
        pair.heal();
        workload.finish(&mut pair, Duration::from_secs(90));
    }
}

//------------ Cuts ----------------------------------------------------------

#[test]
fn cable_out_for_a_second_a_minute_or_a_day_heals_without_a_hand() {
    for seconds in [1, 11, 60, 3_600, 86_400] {
        let (mut pair, mut workload) = start(Faults::none());
        workload.run_for(&mut pair, Duration::from_millis(300));
        pair.cut();
        pair.drive_for(Duration::from_secs(seconds));
        pair.restore();
        workload.finish(&mut pair, SOON);
    }
}

#[test]
fn cut_at_every_byte_of_an_exchange_loses_nothing() {
    let length = {
        let (mut pair, mut workload) = exchange(None);
        workload.finish(&mut pair, SOON);
        pair.tape(Side::Frontend).len().max(pair.tape(Side::Signer).len())
    };
    assert!(length > 200, "{length} bytes are too few to tell much");
    for byte in 0..length {
        let (mut pair, mut workload) = exchange(Some(byte));
        workload.finish(&mut pair, SOON);
    }
}

#[test]
fn request_acknowledgement_or_answer_lost_is_asked_again_and_answered() {
    // One direction is dead for a while, beginning at each tenth of the exchange.
    for side in SIDES {
        for tenth in 0..10 {
            for seconds in [1, 30] {
                let (mut pair, mut workload) = start(Faults::none());
                workload.run_for(&mut pair, Duration::from_millis(50 * tenth));
                pair.cut_towards(side);
                workload.run_for(&mut pair, Duration::from_secs(seconds));
                pair.restore();
                workload.finish(&mut pair, SOON);
            }
        }
    }
}

//------------ Restarts and old bytes ----------------------------------------

#[test]
fn either_side_may_restart_at_any_step_of_an_exchange() {
    for side in SIDES {
        for step in 0..120 {
            let (mut pair, mut workload) = exchange(None);
            for _ in 0..step {
                workload.turn(&mut pair);
                pair.step(Instant::from_micros(10_000_000));
            }
            restart(&mut pair, &mut workload, side);
            workload.ask_mixture(2);
            workload.finish(&mut pair, SOON);
        }
    }
}

#[test]
fn both_sides_restarting_at_once_find_each_other() {
    let (mut pair, mut workload) = start(Faults::none());
    workload.run_for(&mut pair, Duration::from_millis(200));
    restart(&mut pair, &mut workload, Side::Frontend);
    restart(&mut pair, &mut workload, Side::Signer);
    workload.finish(&mut pair, SOON);
}

#[test]
fn stale_bytes_in_the_buffers_delay_nobody() {
    let (mut pair, _) = start(Faults::none().stale_bytes(4_096));
    pair.drive_until_up(Duration::from_secs(3));
}

#[test]
fn tape_of_the_last_session_played_to_a_new_signer_brings_nothing_back() {
    let (mut pair, mut workload) = start(Faults::none());
    workload.finish(&mut pair, SOON);
    let (asked, told) = (pair.tape(Side::Frontend).to_vec(), pair.tape(Side::Signer).to_vec());
    let received = pair.counts(Side::Signer).received;

    restart(&mut pair, &mut workload, Side::Signer);
    pair.inject(Side::Signer, &asked);
    pair.inject(Side::Frontend, &told);
    pair.drive_for(Duration::from_secs(30));
    assert_eq!(pair.counts(Side::Signer).received, received);
    workload.ask_mixture(10);
    workload.finish(&mut pair, SOON);
}

#[test]
fn tape_played_within_its_own_session_brings_nothing_twice() {
    let (mut pair, mut workload) = start(Faults::none());
    for _ in 0..5 {
        workload.ask_mixture(5);
        workload.run_for(&mut pair, Duration::from_millis(400));
        let tape = pair.tape(Side::Frontend).to_vec();
        pair.inject(Side::Signer, &tape);
        let tape = pair.tape(Side::Signer).to_vec();
        pair.inject(Side::Frontend, &tape);
    }
    workload.finish(&mut pair, Duration::from_secs(60));
}

#[test]
fn echo_of_what_an_end_wrote_is_not_taken_for_its_peer() {
    let (mut pair, mut workload) = start(Faults::none());
    workload.run_for(&mut pair, Duration::from_millis(500));
    for side in SIDES {
        let tape = pair.tape(side).to_vec();
        pair.inject(side, &tape);
    }
    workload.finish(&mut pair, SOON);

    // Nobody at the other end: only the echo of an own hello.
    let (mut pair, _) = start(Faults::none());
    pair.cut();
    for _ in 0..20 {
        pair.drive_for(Duration::from_secs(1));
        let tape = pair.tape(Side::Frontend).to_vec();
        pair.restore();
        pair.inject(Side::Frontend, &tape);
        pair.cut_towards(Side::Signer);
        assert!(!pair.is_up(Side::Frontend));
    }
}

//------------ Speed ---------------------------------------------------------

#[test]
fn slow_lines_work_slowly() {
    for (bytes_per_second, seconds) in [(1, 3_000), (10, 300), (20, 150), (120, 25), (960, 3)] {
        let config = PairConfig {
            seed: 7,
            bytes_per_second: Some(bytes_per_second),
            test: "--test stories",
            ..PairConfig::default()
        };
        let (mut pair, mut workload) = (Pair::new(config), Workload::new(7));
        [Kind::Issue(600), Kind::Revoke, Kind::Time]
            .into_iter()
            .for_each(|kind| workload.ask(kind));
        workload.finish(&mut pair, Duration::from_secs(seconds));
    }
}

#[test]
fn adapters_that_hold_bytes_back_are_no_fault() {
    for latency_ms in [1, 16, 100, 300] {
        let config = PairConfig {
            seed: 7,
            bytes_per_second: BAUD_115200,
            latency: Duration::from_millis(latency_ms),
            batch: Duration::from_millis(16),
            test: "--test stories",
            ..PairConfig::default()
        };
        let (mut pair, mut workload) = (Pair::new(config), Workload::new(7));
        workload.ask_mixture(30);
        workload.finish(&mut pair, Duration::from_secs(60));
        let repeated = SIDES.map(|side| pair.counters(side).link.segments_repeated);
        assert!(repeated.iter().sum::<u64>() <= 2, "{latency_ms} ms: {repeated:?}");
    }
}

#[test]
fn clean_line_repeats_nothing_and_idle_line_is_nearly_silent() {
    let (mut pair, mut workload) = start(Faults::none());
    workload.finish(&mut pair, SOON);
    for side in SIDES {
        let link = pair.counters(side).link;
        assert_eq!((link.segments_repeated, link.frames_broken), (0, 0), "{link:?}");
    }
    let before = pair.tape(Side::Signer).len() + pair.tape(Side::Frontend).len();
    pair.drive_for(Duration::from_secs(3_600));
    let after = pair.tape(Side::Signer).len() + pair.tape(Side::Frontend).len();
    assert!(after - before < 3_600 * 60, "{} bytes in an idle hour", after - before);
}

//------------ Beginnings ----------------------------------------------------

fn start(faults: Faults) -> (Pair, Workload) {
    let config = PairConfig {
        seed: 7,
        bytes_per_second: BAUD_115200,
        batch: Duration::from_millis(2),
        faults,
        test: "--test stories",
        ..PairConfig::default()
    };
    let mut workload = Workload::new(7);
    workload.ask_mixture(30);
    (Pair::new(config), workload)
}

fn finish_under(faults: Faults, limit: Duration) {
    let (mut pair, mut workload) = start(faults);
    workload.finish(&mut pair, limit);
    let touched = SIDES
        .map(|side| pair.wire_counters(side))
        .iter()
        .any(|wire| wire.flipped + wire.dropped + wire.inserted > 0);
    assert!(touched || pair.config().faults.bit_error < 1e-5, "nothing went wrong at all");
}

/// Three short questions; the cable is out for a second from when byte `cut` has passed.
fn exchange(cut: Option<usize>) -> (Pair, Workload) {
    let mut faults = Faults::none();
    if let Some(byte) = cut {
        let micros = byte as u64 * 1_000_000 / 11_520;
        faults = faults.cut(Instant::from_micros(micros), Duration::from_secs(1));
    }
    let config = PairConfig {
        seed: 7,
        bytes_per_second: BAUD_115200,
        batch: Duration::from_millis(2),
        faults,
        test: "--test stories",
        ..PairConfig::default()
    };
    let (pair, mut workload) = (Pair::new(config), Workload::new(7));
    [Kind::Time, Kind::Issue(40), Kind::Crl(40)].into_iter().for_each(|kind| workload.ask(kind));
    (pair, workload)
}

fn restart(pair: &mut Pair, workload: &mut Workload, side: Side) {
    pair.restart(side);
    match side {
        Side::Frontend => workload.frontend_restarted(),
        Side::Signer => workload.signer_restarted(),
    }
}
