//! The plug is pulled once, at one exact point of a run that is always the same.
//!
//! A point is a write, rename or commit of the signer's store, or a moment of the run: before an
//! end does what is due, and after that, when all of it is on disk and nothing of it on the wire.
//! While the signer starts again the plug is pulled a second time. From then on nothing more goes
//! wrong, and all rules of the swarm hold as ever.

use signer::durable::crash;

use super::{
    Duration, Held, Instant, Oracle, Sabotage, Side, Violation, World,
    operations::{self, Operation},
};
use crate::{
    random::Random,
    swarm::{Failure, Report},
};

/// Where the plug is pulled; counted from the start of both programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// At the signer, in front of this write, rename or commit of its store.
    Store(u32),
    /// At one end, at this moment.
    Moment(u32),
}

/// How many points a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points {
    /// In the signer's store.
    pub store: u32,
    /// Between what the two ends do.
    pub moments: u32,
}

impl Points {
    /// All of them.
    pub fn count(self) -> u32 {
        self.store + self.moments
    }

    /// One of them, those of the store first.
    pub fn nth(self, nth: u32) -> Point {
        match nth.checked_sub(self.store) {
            None => Point::Store(nth),
            Some(moment) => Point::Moment(moment),
        }
    }
}

/// What happens in every run: certificates, a refusal and a revocation. The seed says how fast line
/// and machine are, and what the authority's CRLs are like.
fn script() -> Vec<Operation> {
    let seconds = |seconds| Operation::Pass(Duration::from_secs(seconds));
    vec![
        Operation::Issue { count: 2, number: 1 },
        seconds(4),
        Operation::Issue { count: 1, number: 2 },
        Operation::AskBadly { how: 4, number: 3 },
        seconds(12),
        Operation::Revoke { nth: 1, number: 4 },
        Operation::Issue { count: 2, number: 5 },
        seconds(20),
    ]
}

/// Lets the script happen to the world of this seed without a cut, and counts the points.
pub fn points(seed: u64) -> Result<Points, Failure> {
    let mut world = World::new(seed, None).map_err(|violation| Failure { violation, after: 0 })?;
    crash::after(Some(u32::MAX));
    let lived = world.live();
    let store = u32::MAX - crash::left().unwrap_or(u32::MAX);
    crash::after(None);
    lived?;
    Ok(Points { store, moments: world.plug.passed })
}

/// The same with power cut at this point; in the end everything is answered, and every file of
/// the signer's store is right.
pub fn run_with_power_cut(
    seed: u64,
    point: Point,
    sabotage: Option<Sabotage>,
) -> Result<Report, Failure> {
    let failed = |violation| Failure { violation, after: 0 };
    let mut world = World::new(seed, sabotage).map_err(failed)?;
    world.plug = Plug { at: Some(point), passed: 0, pulled: None };
    if let Point::Store(nth) = point {
        crash::after(Some(nth));
    }
    let lived = world.live();
    crash::after(None);
    lived?;
    if world.plug.pulled.is_none() {
        return Err(failed(Violation::new(format!("the run ended before {point:?}"))));
    }
    Ok(world.report())
}

/// What pulls the plug.
#[derive(Debug, Default)]
pub(super) struct Plug {
    at: Option<Point>,
    /// Moments so far.
    passed: u32,
    /// When it was pulled.
    pulled: Option<Instant>,
}

impl Plug {
    /// One more moment; says whether power is cut at it.
    pub(super) fn moment(&mut self) -> bool {
        let now = self.pulled.is_none() && self.at == Some(Point::Moment(self.passed));
        self.passed += 1;
        now
    }

    /// Whether a write of the signer was the point. The cut itself stops the vault, so what it did
    /// may have `ended` in a fault; a rule that broke is no cut.
    pub(super) fn store_is_cut(&self, ended: &Held) -> bool {
        let by_a_rule = ended.as_ref().is_err_and(Violation::breaks_a_rule);
        self.pulled.is_none() && crash::happened() && !by_a_rule
    }
}

impl World {
    fn live(&mut self) -> Result<(), Failure> {
        let script = script();
        for (index, operation) in script.iter().enumerate() {
            let failed = |violation| Failure { violation, after: index + 1 };
            self.apply(operation).map_err(failed)?;
        }
        let failed = |violation| Failure { violation, after: script.len() };
        self.finish().and_then(|()| self.check_all_files()).map_err(failed)
    }

    fn check_all_files(&mut self) -> Held {
        self.stop_frontend(false)?;
        self.stop_signer(false)?;
        Oracle::check_files(&self.scratch.path("signer"))
    }

    /// This machine loses power now, and gets it back.
    pub(super) fn lose_power(&mut self, side: Side) -> Held {
        let now = self.now;
        self.plug.pulled = Some(now);
        let mut random = Random::new(u64::from(self.plug.passed) ^ OFF);
        let off = operations::millis(&mut random, 2_000);
        match side {
            Side::Frontend => {
                self.stop_frontend(true)?;
                self.pass(off)?;
                self.start_frontend()
            }
            Side::Signer => {
                self.stop_signer(true)?;
                crash::after(None);
                self.pass(off)?;
                // It is pulled again while the start mends what was left, if that takes so long.
                crash::after(Some(random.below(START_POINTS) as u32));
                let started = self.start_signer();
                let pulled_again = crash::happened();
                crash::after(None);
                match started {
                    Err(violation) if !pulled_again || violation.breaks_a_rule() => Err(violation),
                    Ok(()) if !pulled_again => Ok(()),
                    _ => {
                        self.stop_signer(true)?;
                        self.start_signer()
                    }
                }
            }
        }
    }
}

/// A start that mends something passes about so many points of its store.
const START_POINTS: u64 = 12;
/// So that how long power is off is a stream of its own.
const OFF: u64 = 0x006f_6666;
