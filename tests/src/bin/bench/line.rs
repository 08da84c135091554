//! The line at 115,200 baud: RSA-2048 CSRs, an RSA-4096 issuer, the whole way of both programs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::{Cable, World};

use crate::{
    csrs::Csrs,
    report::{Report, Target},
};

/// Certificates asked for one after the other on the idle line.
const ALONE: usize = 20;
/// A backlog seen in practice.
const BACKLOG: f64 = 3000.0;
const IDLE_MAX: Duration = Duration::from_secs(600);

pub(crate) fn measure(csrs: &Csrs, report: &mut Report) -> Result<()> {
    let mut world = World::new(Cable::line())?;
    world.found("rsa:4096")?;
    let (first, rest) = csrs.files.split_first().context("there is at least one CSR")?;

    eprintln!("bench: the line at 115,200 baud, {} requests", csrs.files.len());
    // The first session also carries the catalogue and the CRLs; it is measured apart.
    let opening = run(&mut world, std::slice::from_ref(first), IDLE_MAX)?;
    let backlog = run(&mut world, rest, IDLE_MAX)?;

    let count = rest.len() as f64;
    report.promised(
        "certificates/s at 115,200 baud",
        count / backlog.took.as_secs_f64(),
        "/s",
        Target::AtLeast(10.0),
    );
    let each = backlog.took.as_secs_f64() / count;
    report.row("a backlog of 3,000, projected", BACKLOG * each, "s");
    report.row("bytes to the signer per certificate", backlog.to_signer / count, "B");
    report.row("bytes to the frontend per certificate", backlog.to_frontend / count, "B");
    report.row(
        "bytes of the first session, both ways",
        opening.to_signer + opening.to_frontend,
        "B",
    );

    let alone = alone(&mut world, &rest[..ALONE.min(rest.len())])?;
    let (median, worst) = (alone[alone.len() / 2], alone[alone.len() - 1]);
    report.promised("latency on the idle line, median", median, "s", Target::AtMost(0.35));
    report.row("latency on the idle line, worst", worst, "s");
    Ok(())
}

/// One queue worked off.
pub(crate) struct Run {
    /// From the frontend's start to its end.
    pub(crate) took: Duration,
    /// Bytes, frames and all.
    pub(crate) to_signer: f64,
    /// Bytes, frames and all.
    pub(crate) to_frontend: f64,
}

/// Queues the requests, lays a fresh cable, and waits until all are answered.
pub(crate) fn run(
    world: &mut World,
    requests: &[(String, String)],
    idle_max: Duration,
) -> Result<Run> {
    for (file, name) in requests {
        world.queue(&Csrs::request(file, name))?;
    }
    world.start_wire()?;
    world.start_signer()?;
    let start = Instant::now();
    world.run_until_idle(idle_max)?;
    let took = start.elapsed();
    let counts = world.stop()?.wire;
    let bytes = |direction: &str| -> Result<f64> {
        let line = counts.lines().find_map(|line| line.split_once(direction));
        let count = line.and_then(|(_, rest)| rest.split_whitespace().next());
        count.with_context(|| format!("no counts in {counts}"))?.parse().context("a count")
    };
    Ok(Run { took, to_signer: bytes("A to B: ")?, to_frontend: bytes("B to A: ")? })
}

/// The seconds of single requests on an idle line, from the command to its end, sorted.
pub(crate) fn alone(world: &mut World, requests: &[(String, String)]) -> Result<Vec<f64>> {
    world.start()?;
    let mut seconds = Vec::new();
    // The first one also waits for the link, so it does not count.
    for (file, name) in requests.iter().take(1).chain(requests) {
        let words = [&Csrs::request(file, name)[..], &["--wait", "60"]].concat();
        let start = Instant::now();
        world.frontend(&words)?.done()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    world.stop()?;
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}
