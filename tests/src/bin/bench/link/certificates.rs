//! RSA-2048 CSRs, an RSA-4096 issuer, both programs, and a line of 115,200 baud between them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Cable, World};

use crate::{
    csrs::Csrs,
    figures::{Figures, median},
    line,
    report::Target,
};

/// A backlog seen in practice.
pub(super) const BACKLOG: usize = 3000;
/// Certificates asked for one after the other on the idle line.
const ALONE: usize = 21;
const IDLE_MAX: Duration = Duration::from_secs(900);

pub(super) fn measure(csrs: &Csrs, requests: usize, figures: &mut Figures) -> Result<()> {
    let mut world = World::new(Cable::line())?;
    world.found("rsa:4096")?;
    let (first, rest) = csrs.files.split_first().context("there is at least one CSR")?;
    // The first session also carries the catalogue and the CRLs: a frontend does that once.
    line::run(&mut world, std::slice::from_ref(first), IDLE_MAX)?;

    eprintln!("bench: {requests} requests in the queue at 115,200 baud");
    let queue: Vec<_> = rest.iter().cycle().take(requests).cloned().collect();
    let backlog = line::run(&mut world, &queue, IDLE_MAX)?;
    let (took, count) = (backlog.took.as_secs_f64(), requests as f64);
    let what = "certificates/s at 115,200 baud";
    let target = Target::AtLeast(17.0);
    figures.promised("certificates_per_s", count / took, "/s", what, target);
    let target = Target::AtMost(640.0);
    let what = "bytes to the signer per certificate";
    let each = backlog.to_signer / count;
    figures.promised("bytes_up_per_certificate", each, "B", what, target);
    let what = "bytes to the frontend per certificate";
    let each = backlog.to_frontend / count;
    figures.promised("bytes_down_per_certificate", each, "B", what, target);
    let what = match requests == BACKLOG {
        true => "a queue of 3,000".to_owned(),
        false => format!("a queue of 3,000, scaled from {requests}"),
    };
    let scaled = took * BACKLOG as f64 / count;
    figures.promised("queued_3000_s", scaled, "s", &what, Target::AtMost(180.0));

    eprintln!("bench: single certificates on the idle line");
    let alone = line::alone(&mut world, &rest[..ALONE.min(rest.len())])?;
    ensure!(!alone.is_empty(), "nothing was asked for");
    let what = "one certificate on the idle line, median, from the command to its end";
    let target = Target::AtMost(0.20);
    figures.promised("idle_certificate_s", median(alone), "s", what, target);
    Ok(())
}
