//! `bench store`: what the store costs when it is large, and how near to the bare signature a
//! certificate comes.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::World;

use crate::figures::Figures;

mod million;
mod rates;
mod revocations;
pub(crate) mod speed;

/// The longest that the programs may work on anything here.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// What to measure.
pub(crate) struct Options {
    json: bool,
    /// Certificates in the large store.
    large: usize,
    /// Requests of each run that measures a rate.
    requests: usize,
    parts: Vec<String>,
}

/// Every part, in the order of their run.
const PARTS: [&str; 4] = ["speed", "rates", "million", "revocations"];

impl Options {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            json: false,
            large: 1_000_000,
            requests: 4000,
            parts: PARTS.map(str::to_owned).to_vec(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--json" => options.json = true,
                "--large" => options.large = value()?.parse()?,
                "--requests" => options.requests = value()?.parse()?,
                "--only" => options.parts = value()?.split(',').map(str::to_owned).collect(),
                "--help" => return Ok(None),
                other => bail!("unknown option {other}\n{USAGE}"),
            }
        }
        if let Some(unknown) = options.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
            bail!("there is no part {unknown}\n{USAGE}");
        }
        Ok(Some(options))
    }
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
    for part in &options.parts {
        match part.as_str() {
            "speed" => speed::measure(&mut figures)?,
            "rates" => rates::measure(options.requests, &mut figures, &mut done)?,
            "million" => million::measure(options.large, &mut figures, &mut done)?,
            _ => revocations::measure(&mut figures, &mut done)?,
        }
    }
    if options.json {
        figures.print_json();
    } else {
        figures.print_table();
    }
    figures.judge()
}

pub(crate) const USAGE: &str = "\
bench store [--json] [--large N] [--requests N] [--only PART,PART,...]

  --large N      certificates in the large store (1000000); issued by the programs themselves
  --requests N   requests of each run that measures a rate (4000)
  --only PARTS   of speed, rates, million, revocations; all of them unless said";
