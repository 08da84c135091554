//! The swarm of whole programs: it replays, it finds what is wrong on purpose, and it makes the
//! list of what it takes short. `cargo xtask swarm` runs it for longer.

use link_sim::swarm::{self, Campaign, Failure, Operation, Sabotage};

const OPERATIONS: usize = 120;
const SEEDS: u64 = 24;

#[test]
fn whatever_happened_to_both_programs_no_invariant_breaks_and_everything_is_answered() {
    let campaign = Campaign { first: 0, seeds: SEEDS, operations: OPERATIONS, jobs: 2 };
    let outcome = campaign.run(|_, _| {});
    assert_eq!(outcome.failure, None, "replay: cargo xtask swarm --seed N --operations 120");
    assert_eq!(outcome.good, SEEDS);
    // It must not pass because nothing was done.
    let counts = outcome.counts;
    assert!(counts.issued > 10 * SEEDS && counts.revoked > SEEDS && counts.refused > SEEDS);
    assert!(counts.crls > SEEDS && counts.repeated > SEEDS, "{counts:?}");
}

#[test]
fn a_seed_of_whole_programs_replays_to_the_byte() {
    let list = swarm::operations(5, OPERATIONS);
    let first = swarm::run(5, &list, None).unwrap();
    let second = swarm::run(5, &list, None).unwrap();
    assert_eq!(first, second);
    let other = swarm::run(6, &list, None).unwrap();
    assert_ne!(first.trace, other.trace);
}

#[test]
fn every_sabotage_is_seen_by_the_rule_that_it_breaks() {
    for sabotage in Sabotage::ALL {
        let rules: &[&str] = match sabotage {
            Sabotage::DeliversTwice | Sabotage::Reorders => &["the session's contract"],
            Sabotage::Forgets => &["I2"],
            Sabotage::SignsTwice => &["I3"],
            Sabotage::Swaps => &["I1", "I2", "I3", "I11"],
            Sabotage::ForgetsRevocations => &["I8"],
            Sabotage::ForgetfulDisk => &["I1", "I2", "I3", "I5", "I6", "I7", "I8", "I11"],
            Sabotage::OpensTheConsole => &["I6, I14"],
        };
        let (_, _, failure) = caught(sabotage);
        let text = failure.violation.to_string();
        assert!(rules.iter().any(|rule| text.starts_with(rule)), "{sabotage:?}: {text}");
    }
}

#[test]
fn a_failing_list_is_cut_down_to_the_few_operations_that_it_takes() {
    let (seed, list, failure) = caught(Sabotage::OpensTheConsole);
    let (shortest, failure) =
        swarm::shrink(seed, list.clone(), failure, Some(Sabotage::OpensTheConsole));
    assert!(shortest.len() <= 3 && shortest.len() < list.len(), "{shortest:?}");
    assert!(failure.violation.to_string().starts_with("I6, I14"), "{failure:?}");
    assert!(shortest.iter().any(|operation| matches!(operation, Operation::AskBadly { .. })));
    // And it is no accident: the honest programs do the same list without breaking a rule.
    swarm::run(seed, &shortest, None).unwrap();
}

/// The first seed with which the sabotage is seen.
fn caught(sabotage: Sabotage) -> (u64, Vec<Operation>, Failure) {
    for seed in 0..SEEDS {
        let list = swarm::operations(seed, OPERATIONS);
        if let Err(failure) = swarm::run(seed, &list, Some(sabotage)) {
            return (seed, list, failure);
        }
    }
    panic!("nobody saw {sabotage:?} in {SEEDS} seeds");
}
