//! The swarm of whole programs: it replays, it finds what is wrong on purpose, and it makes the
//! list of what it takes short. `cargo xtask swarm` runs it for longer.

use std::collections::BTreeSet;

use link_sim::swarm::{self, Campaign, Failure, Operation, Sabotage};
use protocol::time::Duration;

const OPERATIONS: usize = 120;
const SEEDS: u64 = 24;
/// Some need what is rare: a certificate that was revoked and expired. Most need one seed.
const SABOTAGED_SEEDS: u64 = 400;
const SABOTAGED_OPERATIONS: usize = 300;

#[test]
fn whatever_happened_to_both_programs_no_invariant_breaks_and_everything_is_answered() {
    let campaign = Campaign { first: 0, seeds: SEEDS, operations: OPERATIONS, jobs: 2 };
    let outcome = campaign.run(|_, _| {});
    assert_eq!(outcome.failure, None, "replay: cargo xtask swarm --seed N --operations 120");
    assert_eq!(outcome.good, SEEDS);
    // It must not pass because nothing was done.
    let counts = outcome.counts;
    assert!(counts.issued > 2 * SEEDS && counts.revoked > SEEDS, "{counts:?}");
    assert!(counts.certified > SEEDS, "{counts:?}");
    assert!(counts.refused > SEEDS && counts.crls > SEEDS, "{counts:?}");
    assert!(counts.repeated > SEEDS / 2, "{counts:?}");
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
            Sabotage::DropsTheExpired => &["I8: a CRL lacks"],
            Sabotage::MixesShards => &["I9"],
            Sabotage::ThinsDeltas => &["I8: a delta CRL"],
        };
        caught(sabotage, rules);
    }
}

#[test]
fn a_failing_list_is_cut_down_to_the_few_operations_that_it_takes() {
    let (seed, list, failure) = caught(Sabotage::OpensTheConsole, &["I6, I14"]);
    let (shortest, failure) =
        swarm::shrink(seed, list.clone(), failure, Some(Sabotage::OpensTheConsole));
    assert!(shortest.len() <= 3 && shortest.len() < list.len(), "{shortest:?}");
    assert!(failure.violation.to_string().starts_with("I6, I14"), "{failure:?}");
    assert!(shortest.iter().any(|operation| matches!(operation, Operation::AskBadly { .. })));
    // And it is no accident: the honest programs do the same list without breaking a rule.
    swarm::run(seed, &shortest, None).unwrap();
}

// Found by seed 0xd0: revoked past its expiry, so the first CRL that lists it is the last.
#[test]
fn what_expired_may_leave_the_crls_after_one_of_them_has_listed_it_and_no_rule_breaks() {
    let day = Duration::from_secs(86_400);
    let mut list = Vec::new();
    for number in 0..16 {
        list.push(Operation::Issue { count: 2, number });
        list.push(Operation::Pass(Duration::from_secs(2)));
    }
    for round in 0..3 {
        list.push(Operation::Outage { off: day + Duration::from_secs(7_200) });
        list.push(Operation::Pass(Duration::from_secs(5)));
        let revoke =
            |nth: u64| Operation::Revoke { nth: 8 * round + nth, number: 100 * round + nth };
        list.extend((0..8).map(revoke));
        list.push(Operation::Pass(Duration::from_secs(5)));
    }
    for seed in 0..4 {
        let report = swarm::run(seed, &list, None).unwrap();
        assert!(report.counts.revoked == 24 && report.counts.crls >= 4, "{report:?}");
        // And this story has what the rule is about.
        let failure = swarm::run(seed, &list, Some(Sabotage::DropsTheExpired)).unwrap_err();
        assert!(failure.violation.to_string().starts_with("I8: a CRL lacks"), "{failure:?}");
    }
}

// Found by seed 0x11495: for a clock behind the last CRL no time had passed since, so the CRL without
// the revocation was given again as the newest.
#[test]
fn a_revocation_under_a_clock_a_little_behind_is_in_the_crl_that_is_published() {
    let list = [
        Operation::Outage { off: Duration::from_secs(2 * 86_400) },
        Operation::Issue { count: 1, number: 7 },
        Operation::Pass(Duration::from_millis(110)),
        Operation::ClockBack(Duration::from_secs(5)),
        Operation::Pass(Duration::from_millis(185)),
        Operation::Revoke { nth: 0, number: 8 },
        Operation::Pass(Duration::from_millis(524)),
    ];
    let mut revoked = 0;
    for seed in 0..100 {
        let report = swarm::run(seed, &list, None).unwrap();
        revoked += report.counts.revoked;
    }
    assert!(revoked > 5, "{revoked}");
}

/// The first seed with which one of these rules sees the sabotage. In others it may break another
/// rule first: who acknowledges a revocation unseen acknowledges one that is to be refused.
fn caught(sabotage: Sabotage, rules: &[&str]) -> (u64, Vec<Operation>, Failure) {
    let mut others = BTreeSet::new();
    for seed in 0..SABOTAGED_SEEDS {
        let list = swarm::operations(seed, SABOTAGED_OPERATIONS);
        let Err(failure) = swarm::run(seed, &list, Some(sabotage)) else { continue };
        let text = failure.violation.to_string();
        if rules.iter().any(|rule| text.starts_with(rule)) {
            return (seed, list, failure);
        }
        others.insert(text);
    }
    panic!("no rule of {rules:?} saw {sabotage:?} in {SABOTAGED_SEEDS} seeds, but {others:?}");
}
