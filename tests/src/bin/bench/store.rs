//! `bench store`: what the store costs when it is large, and how near to the bare signature a
//! certificate comes.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use tests::World;

use crate::figures::Figures;

mod million;
mod rates;
mod revocations;
pub(crate) mod speed;

/// The longest that the programs may work on anything here.
const IDLE_MAX: Duration = Duration::from_secs(3600);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// One JSON object in place of the table
    #[arg(long)]
    json: bool,
    /// Certificates in the large store; issued by the programs themselves
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    large: usize,
    /// Requests of each run that measures a rate
    #[arg(long, value_name = "N", default_value_t = 4000)]
    requests: usize,
    /// The parts to measure; all of them unless said
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
}

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Speed,
    Rates,
    Million,
    Revocations,
}

/// Stores that were measured. They are removed at the end: a file system that is still at work on a
/// thousand files just deleted makes new ones slowly.
#[derive(Default)]
struct Done(Vec<World>);

impl Done {
    fn keep(&mut self, world: World) {
        self.0.push(world);
    }
}

pub(crate) fn bench(options: &Options) -> Result<()> {
    let mut figures = Figures::default();
    let mut done = Done::default();
    let has = |part| options.only.is_empty() || options.only.contains(&part);
    if has(Part::Speed) {
        speed::measure(&mut figures)?;
    }
    if has(Part::Rates) {
        rates::measure(options.requests, &mut figures, &mut done)?;
    }
    if has(Part::Million) {
        million::measure(options.large, &mut figures, &mut done)?;
    }
    if has(Part::Revocations) {
        revocations::measure(&mut figures, &mut done)?;
    }
    figures.show(options.json)
}
