//! Many seeds on several threads, each seed in one of them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use super::{Counts, Failure, Operation, Report, Sabotage, Violation, operations, run};

/// Which seeds, and how long each of their lists is.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed.
    pub first: u64,
    /// How many seeds.
    pub seeds: u64,
    /// Operations of each.
    pub operations: usize,
    /// Threads.
    pub jobs: usize,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Seeds that broke no rule.
    pub good: u64,
    /// What they did, in all.
    pub counts: Counts,
    /// The first seed that broke a rule; the campaign ends with it.
    pub failure: Option<(u64, Failure)>,
}

impl Campaign {
    /// Runs all seeds or up to the first that breaks a rule; `tell` hears of each good one.
    pub fn run(&self, tell: impl Fn(u64, &Report) + Sync) -> Outcome {
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let outcome = Mutex::new(Outcome::default());
        let lock = || outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= self.seeds {
                    return;
                }
                let seed = self.first.wrapping_add(nth);
                match run_seed(seed, self.operations) {
                    Ok(report) => {
                        tell(seed, &report);
                        let mut outcome = lock();
                        outcome.good += 1;
                        outcome.counts.add(&report.counts);
                    }
                    Err(failure) => {
                        stop.store(true, Ordering::Relaxed);
                        lock().failure.get_or_insert((seed, failure));
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(work);
            }
        });
        outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A seed by itself.
pub(crate) fn run_seed(seed: u64, length: usize) -> Result<Report, Failure> {
    run_caught(seed, &operations(seed, length), None)
}

/// A panic of the product is a broken rule like any other.
pub(super) fn run_caught(
    seed: u64,
    list: &[Operation],
    sabotage: Option<Sabotage>,
) -> Result<Report, Failure> {
    catch_unwind(AssertUnwindSafe(|| run(seed, list, sabotage))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Err(Failure { violation: Violation::new(format!("a panic: {text}")), after: list.len() })
    })
}

impl Counts {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Self) {
        let Self { finished, issued, revoked, certified, refused, crls, repeated } = other;
        self.finished += finished;
        self.issued += issued;
        self.revoked += revoked;
        self.certified += certified;
        self.refused += refused;
        self.crls += crls;
        self.repeated += repeated;
    }
}
