//! Without a line limit: what the two programs themselves cost, beside openssl on the same CSRs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::{Bare, Cable, World};

use crate::{csrs::Csrs, peers, report::Report, sizes::WINDOW};

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
    let alone = signer_alone(&mut world, csrs)?;
    let theirs = peers::openssl_ca_per_s(csrs)?;
    let what = "certificates/s without a line limit";
    report.beside(what, ours, "/s", "openssl ca", theirs);
    report.beside("  by the signer alone, asked by a program", alone, "/s", "openssl ca", theirs);
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

/// The same requests without the frontend's queue and checks.
fn signer_alone(world: &mut World, csrs: &Csrs) -> Result<f64> {
    world.start_signer()?;
    let mut bare = Bare::connect_to(world, 0xa10e)?;
    let mut requests = Vec::with_capacity(REQUESTS);
    for (file, name) in csrs.files.iter().cycle().take(REQUESTS) {
        let csr = csrs.world.openssl(&["req", "-in", file, "-outform", "DER"])?.stdout;
        requests.push(bare.issue(&csr, name.trim_start_matches("dns:"))?);
    }
    let flood = bare.flood(requests, WINDOW)?;
    ensure!(flood.issued == REQUESTS, "{} requests were refused", flood.others);
    drop(bare);
    world.stop()?;
    Ok(REQUESTS as f64 / flood.took.as_secs_f64())
}
