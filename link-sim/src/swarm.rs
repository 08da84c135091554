//! The whole product in one thread on virtual time, from one number.
//!
//! The real carrier with its queue and store, two sessions, the wire, the real gate, vault and
//! ledger. Random operations happen to them; an oracle checks every invariant that can be seen
//! from outside after each step; at the end everything is made good and must be answered. The
//! same number always gives the same run, and a run that breaks a rule is cut down to the few
//! operations that it takes.
//!
//! What is not as in the field: the intake's verdict is asked for in the same process, and the
//! vault signs when it is told to instead of in threads.

use ::signer::{clock::Moment, fault::Fault};
use protocol::time::{Duration, Instant};

use crate::{checker, random::Random};

mod campaign;
mod certificate;
mod crls;
mod frontend;
mod material;
mod openpgp;
pub mod operations;
mod oracle;
mod sabotage;
mod shrink;
mod signer;
mod store;
mod world;

pub use campaign::{Campaign, Outcome};
pub use operations::Operation;
pub use oracle::Counts;
pub use sabotage::Sabotage;
pub use shrink::shrink;
use world::World;
pub use world::{Point, Points, Trace, points, run_with_power_cut};

/// A rule is broken, or a program stopped that must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

impl Violation {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// Whether it names an invariant; else a program stopped.
    fn breaks_a_rule(&self) -> bool {
        self.0.starts_with('I')
    }
}

impl From<std::io::Error> for Violation {
    fn from(error: std::io::Error) -> Self {
        Self(format!("the swarm's own disk fails: {error}"))
    }
}

impl From<checker::Violation> for Violation {
    fn from(violation: checker::Violation) -> Self {
        Self(format!("the session's contract: {violation}"))
    }
}

/// A fault ends the vault's program: no operation of the swarm may bring one about.
fn stopped(fault: Fault) -> Violation {
    Violation::new(format!("the vault stops: {fault}"))
}

/// No operation of the swarm may stop the carrier.
fn failed(error: impl std::error::Error) -> Violation {
    Violation::new(format!("the carrier stops: {error}"))
}

type Held = Result<(), Violation>;

/// The clock at virtual time zero, seconds since 1970-01-01 UTC: 2027-01-15.
const START_UNIX_S: i64 = 1_800_000_000;

/// A moment of the signer's clocks, `micros` after the start.
fn moment(micros: i64) -> Moment {
    Moment { unix_us: START_UNIX_S * 1_000_000 + micros, boot_us: micros }
}

fn micros(at: Instant) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

/// What a run that broke no rule did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What came of what was asked.
    pub counts: Counts,
    /// How much virtual time passed.
    pub lasted: Duration,
    /// Everything that was written on the wire, as one number.
    pub trace: Trace,
}

/// A run that broke a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Which rule.
    pub violation: Violation,
    /// After how many operations.
    pub after: usize,
}

/// The operations of a seed.
pub fn operations(seed: u64, length: usize) -> Vec<Operation> {
    operations::list(&mut Random::new(seed ^ OPERATIONS), length)
}

/// Lets the operations happen to the world of this seed, then makes everything good.
pub fn run(
    seed: u64,
    operations: &[Operation],
    sabotage: Option<Sabotage>,
) -> Result<Report, Failure> {
    let failed = |after| move |violation| Failure { violation, after };
    let mut world = World::new(seed, sabotage).map_err(failed(0))?;
    for (index, operation) in operations.iter().enumerate() {
        world.apply(operation).map_err(failed(index + 1))?;
    }
    world.finish().map_err(failed(operations.len()))?;
    Ok(world.report())
}

/// So that operations and the world's own chance are different streams of one seed.
const OPERATIONS: u64 = 0x5377_6172_6d21;
