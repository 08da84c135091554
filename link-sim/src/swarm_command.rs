//! `link-sim swarm`: counts, progress, and the line that replays a failure.
#![expect(clippy::disallowed_methods, reason = "driver: says how long a campaign took")]

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use link_sim::swarm::{Campaign, Failure, Operation, Outcome, operations, shrink};

use crate::SwarmArgs;

pub(crate) fn run(args: &SwarmArgs) -> anyhow::Result<ExitCode> {
    let jobs = args.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let campaign = Campaign {
        first: args.seed.unwrap_or(0),
        seeds: args.seeds.unwrap_or(if args.seed.is_some() { 1 } else { SEEDS_DEFAULT }),
        operations: args.operations,
        jobs,
    };
    let started = Instant::now();
    let done = AtomicU64::new(0);
    let shows_progress = io::stderr().is_terminal();
    let outcome = campaign.run(|seed, report| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if campaign.seeds == 1 {
            println!(
                "seed {seed:#x}: {:?} of virtual time, trace {:016x}",
                report.lasted, report.trace.0
            );
        } else if shows_progress && done.is_multiple_of(PROGRESS_EVERY) {
            eprint!("\r{done} of {} seeds", campaign.seeds);
        }
    });
    if shows_progress {
        eprintln!();
    }
    tell(&campaign, &outcome, started.elapsed().as_secs_f64())
}

fn tell(campaign: &Campaign, outcome: &Outcome, seconds: f64) -> anyhow::Result<ExitCode> {
    let Outcome { good, counts, failure } = outcome;
    let mut out = io::stdout();
    writeln!(
        out,
        "{} requests came to their outcome: {} certificates, {} revocations, {} OpenPGP keys, \
         {} refusals; {} CRLs, {} answers given again",
        counts.finished,
        counts.issued,
        counts.revoked,
        counts.certified,
        counts.refused,
        counts.crls,
        counts.repeated
    )?;
    let code = match failure {
        None => ExitCode::SUCCESS,
        Some((seed, failure)) => {
            explain(&mut out, *seed, campaign.operations, failure.clone())?;
            ExitCode::FAILURE
        }
    };
    // Without the time that it took to make a failing list short.
    let (seeds, length) = (campaign.seeds, campaign.operations);
    let rate = *good as f64 / seconds.max(f64::EPSILON);
    writeln!(
        out,
        "{good} of {seeds} seeds x {length} operations broke no rule: {} operations in \
         {seconds:.1} s, {rate:.1} seeds/s",
        *good * length as u64,
    )?;
    Ok(code)
}

/// The line to paste comes first: making the list short takes a while.
fn explain(out: &mut impl Write, seed: u64, length: usize, failure: Failure) -> anyhow::Result<()> {
    writeln!(out, "seed {seed:#x} after operation {}: {}", failure.after, failure.violation)?;
    let length_said = if length == OPERATIONS_DEFAULT {
        String::new()
    } else {
        format!(" --operations {length}")
    };
    writeln!(out, "replay: cargo xtask swarm --seed {seed:#x}{length_said}")?;
    out.flush()?;
    let (shortest, failure): (Vec<Operation>, Failure) =
        shrink(seed, operations(seed, length), failure, None);
    writeln!(out, "{} operations are enough: {}", shortest.len(), failure.violation)?;
    for operation in &shortest {
        writeln!(out, "  {operation:?}")?;
    }
    Ok(())
}

/// Seeds without a wish.
pub(crate) const SEEDS_DEFAULT: u64 = 1_000;
/// Operations without a wish; a seed alone replays only with the number that it was found with.
pub(crate) const OPERATIONS_DEFAULT: usize = 300;
/// A terminal hears of so many seeds at once.
const PROGRESS_EVERY: u64 = 100;
