//! Without a line limit: what the two programs themselves cost, beside openssl on the same CSRs.

use std::time::{Duration, Instant};

use anyhow::Result;
use tests::{Cable, World};

use crate::{csrs::Csrs, peers, report::Report};

/// Requests in the queue: a few seconds of work.
const REQUESTS: usize = 1000;
const IDLE_MAX: Duration = Duration::from_secs(600);

pub(crate) fn measure(csrs: &Csrs, report: &mut Report) -> Result<()> {
    eprintln!("bench: without a line limit, {REQUESTS} requests");
    let mut world = World::new(Cable::Unix)?;
    world.found("rsa:4096")?;
    for (file, name) in csrs.files.iter().cycle().take(REQUESTS) {
        world.queue(&Csrs::request(file, name))?;
    }
    world.start_signer()?;
    let start = Instant::now();
    world.run_until_idle(IDLE_MAX)?;
    let ours = REQUESTS as f64 / start.elapsed().as_secs_f64();
    world.stop()?;
    let theirs = peers::openssl_ca_per_s(csrs)?;
    let what = "certificates/s without a line limit";
    report.beside(what, ours, "/s", "openssl ca", theirs);
    let limit = peers::signatures_per_s(&csrs.world)?;
    report.beside(
        "  of the RSA-4096 signatures/s that all cores can make",
        ours,
        "/s",
        "openssl speed",
        limit,
    );
    Ok(())
}
