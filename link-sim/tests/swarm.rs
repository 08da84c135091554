//! Random mixtures of faults, cuts and restarts: whatever the cable did, once it is good again
//! every question is answered, and nothing arrived on the way that no cable may bring about.
//!
//! `LINK_SIM_SEED=0x5eed cargo test -p link-sim --test swarm` runs one seed alone,
//! `LINK_SIM_SEEDS=100000` that many.

use link_sim::{
    faults::Faults,
    pair::{Pair, PairConfig},
    random::Random,
    workload::Workload,
};
use protocol::{session::Side, time::Duration};

#[test]
fn whatever_the_cable_did_everything_is_answered_once_it_is_good_again() {
    match number_in("LINK_SIM_SEED") {
        Some(seed) => run(seed),
        None => (0..number_in("LINK_SIM_SEEDS").unwrap_or(300)).for_each(run),
    }
}

#[test]
fn round_trips_across_a_cut_do_not_teach_an_end_to_wait() {
    // Acknowledgements nine seconds late, then bits in error: one segment in 17 s ever after.
    run(0xb75);
}

#[test]
fn a_seed_replays_to_the_byte() {
    let tape = |seed| {
        let mut dice = Random::new(seed);
        let (mut pair, mut workload) = start(seed, &mut dice);
        workload.run_for(&mut pair, Duration::from_secs(20));
        [Side::Frontend, Side::Signer].map(|side| pair.tape(side).to_vec())
    };
    assert_eq!(tape(11), tape(11));
    assert_ne!(tape(11), tape(12));
}

fn run(seed: u64) {
    let mut dice = Random::new(seed);
    let (mut pair, mut workload) = start(seed, &mut dice);
    for _ in 0..dice.below(12) {
        accident(&mut pair, &mut workload, &mut dice);
        let pause = Duration::from_millis(dice.below(6_000));
        workload.run_for(&mut pair, pause);
        workload.ask_mixture(dice.below(4));
    }
    pair.heal();
    workload.finish(&mut pair, Duration::from_secs(180));
}

/// 9,600 baud and faster; slower lines have a story of their own.
fn start(seed: u64, dice: &mut Random) -> (Pair, Workload) {
    let rates = [None, Some(960), Some(5_760), Some(11_520), Some(100_000)];
    let config = PairConfig {
        seed,
        bytes_per_second: rates[dice.below(rates.len() as u64) as usize],
        latency: Duration::from_millis(dice.below(60)),
        batch: Duration::from_millis([1, 4, 16][dice.below(3) as usize]),
        faults: mixture(dice),
        test: "--test swarm",
    };
    let mut workload = Workload::new(dice.next_u64());
    workload.ask_mixture(5 + dice.below(20));
    (Pair::new(config), workload)
}

fn mixture(dice: &mut Random) -> Faults {
    let mut faults = Faults::none();
    let lengths = [1, 16, 256, 4_096];
    let length = |dice: &mut Random| lengths[dice.below(4) as usize];
    // A run of faults takes about as much of the line whatever its length.
    let rate = |dice: &mut Random, length: u32| dice.unit() * 0.02 / f64::from(length);
    if dice.chance(0.5) {
        faults = faults.bit_errors([1e-6, 1e-5, 1e-4, 1e-3, 1e-2][dice.below(5) as usize]);
    }
    if dice.chance(0.3) {
        let length = length(dice);
        faults = faults.drops(rate(dice, length), length);
    }
    if dice.chance(0.3) {
        let length = length(dice);
        faults = faults.duplicates(rate(dice, length), length);
    }
    if dice.chance(0.3) {
        let length = length(dice);
        faults = faults.noise(rate(dice, length), length);
    }
    if dice.chance(0.2) {
        faults = faults.controls(dice.unit() * 0.01);
    }
    if dice.chance(0.2) {
        faults = faults.texts(dice.unit() * 0.001);
    }
    if dice.chance(0.3) {
        faults = faults.stale_bytes(dice.below(5_000) as usize);
    }
    if dice.chance(0.1) {
        faults = faults.loose(Duration::from_secs(3), Duration::from_millis(400));
    }
    faults
}

fn accident(pair: &mut Pair, workload: &mut Workload, dice: &mut Random) {
    match dice.below(8) {
        0 => pair.cut(),
        1 => pair.cut_towards(Side::Signer),
        2 => pair.cut_towards(Side::Frontend),
        3 | 4 => pair.restore(),
        5 => {
            pair.restart(Side::Signer);
            workload.signer_restarted();
        }
        6 => {
            pair.restart(Side::Frontend);
            workload.frontend_restarted();
        }
        _ => {
            // Somebody plays back what went over this wire before.
            let side = [Side::Frontend, Side::Signer][dice.below(2) as usize];
            let from = [Side::Frontend, Side::Signer][dice.below(2) as usize];
            let tape = pair.tape(from);
            let start = dice.below(tape.len() as u64 + 1) as usize;
            let end = tape.len().min(start + dice.below(4_000) as usize);
            let piece = tape[start..end].to_vec();
            pair.inject(side, &piece);
        }
    }
}

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}
