//! What somebody on the wire leaves behind who knows the protocol: he computes numbers and CRCs
//! and makes frames of both sides, goes, and five seconds later everything is answered: what was
//! asked before he came, while he was there, and when he had gone.

use link_sim::{
    adversary::{Adversary, Forgery},
    pair::{Pair, PairConfig},
    random::Random,
    workload::{Kind, Workload},
};
use protocol::{session::Side, time::Duration};

const SEEDS: u64 = 150;
/// From the moment that he goes until everything is answered.
const BACK_IN: Duration = Duration::from_secs(5);
/// As long as he stays at most: through two silences.
const STAYS_MS: u64 = 25_000;

/// When he comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// Before the first greeting.
    First,
    /// When the two talk.
    Later,
}

/// He does this to what either side says, and goes; how many frames he forged in all.
fn endure(forgery: Forgery, comes: Comes) -> u64 {
    let (mut forged, mut longest) = (0, Duration::ZERO);
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let config = PairConfig {
            seed,
            bytes_per_second: Some(11_520),
            latency: Duration::from_micros(random.below(16_000)),
            batch: Duration::from_millis(2),
            test: "--test left_behind",
            ..PairConfig::default()
        };
        let (mut pair, mut workload) = (Pair::new(config), Workload::new(seed));
        let ask = |workload: &mut Workload| {
            [Kind::Issue(600), Kind::Revoke].into_iter().for_each(|kind| workload.ask(kind));
        };
        if comes == Comes::Later {
            ask(&mut workload);
            workload.run_for(&mut pair, Duration::from_millis(100 + random.below(900)));
        }
        let victim = [Side::Frontend, Side::Signer][random.below(2) as usize];
        let meddles = [1.0, 0.5, 0.1][random.below(3) as usize];
        let mut adversary = Adversary::who_forges(forgery, victim, random.next_u64(), meddles);
        for side in [Side::Frontend, Side::Signer] {
            adversary.has_heard(side, pair.tape(side));
        }
        pair.adversary_comes(adversary);
        ask(&mut workload);
        workload.run_for(&mut pair, Duration::from_micros(random.below(STAYS_MS * 1_000)));
        ask(&mut workload);
        let gone = pair.adversary_leaves();
        forged += gone.map_or(0, |adversary| adversary.deeds().forged);
        ask(&mut workload);
        let left_at = pair.now();
        workload.finish(&mut pair, BACK_IN);
        longest = longest.max(pair.now().saturating_since(left_at));
    }
    println!("{forgery:?}, {comes:?}: {forged} forged, answered within {longest:?}");
    forged
}

/// In both cases, and often enough to mean something.
fn endure_both(forgery: Forgery) {
    for comes in [Comes::First, Comes::Later] {
        let forged = endure(forgery, comes);
        assert!(forged > SEEDS / 2, "{forgery:?}, {comes:?}: {forged} frames");
    }
}

#[test]
fn bytes_added_to_records_delay_nothing_for_more_than_five_seconds_after_he_goes() {
    endure_both(Forgery::Lengthens);
}

#[test]
fn bytes_taken_from_records_delay_nothing_for_more_than_five_seconds_after_he_goes() {
    endure_both(Forgery::Shortens);
}

#[test]
fn a_record_that_he_begins_swallows_nothing_for_more_than_five_seconds_after_he_goes() {
    endure_both(Forgery::Begins);
}

#[test]
fn acknowledgements_of_what_never_arrived_delay_nothing_for_more_than_five_seconds_after_he_goes() {
    endure_both(Forgery::Acknowledges);
}

#[test]
fn acknowledgements_of_more_segments_than_numbers_tell_apart_delay_nothing_for_long_either() {
    let mut forged = 0;
    for seed in 0..SEEDS / 3 {
        let config = PairConfig {
            seed,
            bytes_per_second: Some(11_520),
            batch: Duration::from_millis(2),
            test: "--test left_behind",
            ..PairConfig::default()
        };
        let (mut pair, mut workload) = (Pair::new(config), Workload::new(seed));
        let mut random = Random::new(seed);
        // Eight seconds of the line, of which none arrives and all is acknowledged.
        (0..18).for_each(|_| workload.ask(Kind::Crl(5_000)));
        workload.run_for(&mut pair, Duration::from_micros(200_000 + random.below(100_000)));
        let mut adversary =
            Adversary::who_forges(Forgery::Acknowledges, Side::Signer, random.next_u64(), 1.0);
        for side in [Side::Frontend, Side::Signer] {
            adversary.has_heard(side, pair.tape(side));
        }
        pair.adversary_comes(adversary);
        workload.run_for(&mut pair, Duration::from_micros(random.below(9_000_000)));
        forged += pair.adversary_leaves().map_or(0, |adversary| adversary.deeds().forged);
        // The long ones take their time; a certificate goes ahead of them.
        workload.forget_open();
        [Kind::Issue(600), Kind::Revoke].into_iter().for_each(|kind| workload.ask(kind));
        workload.finish(&mut pair, BACK_IN);
    }
    assert!(forged > SEEDS, "{forged} frames");
}

#[test]
fn handshakes_cut_short_delay_nothing_for_more_than_five_seconds_after_he_goes() {
    let forged = endure(Forgery::CutsHandshakes, Comes::First);
    assert!(forged > SEEDS / 2, "{forged} frames");
}
