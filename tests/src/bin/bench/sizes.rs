//! One more certificate when the store holds many: the cost must not grow.
//!
//! A P-256 issuer, so that the store's share is seen and not the signature's.

use anyhow::{Result, ensure};
use tests::{Bare, Cable, World};

use crate::{peers, report::Report};

/// Certificates measured at each size.
const MEASURED: usize = 1000;
/// Requests under way at once.
pub(crate) const WINDOW: usize = 64;

pub(crate) fn measure(sizes: &[usize], report: &mut Report) -> Result<()> {
    let mut world = World::new(Cable::Unix)?;
    world.found("ec:P-256")?;
    let csr_file = world.csr("one", "ec:P-256", "/CN=one.example.org")?;
    let csr = world.openssl(&["req", "-in", &csr_file, "-outform", "DER"])?.stdout;
    world.start_signer()?;
    let mut bare = Bare::connect_to(&world, 0x5123)?;
    let mut held = 0;
    for &size in sizes {
        eprintln!("bench: a store that holds {size} certificates");
        ensure!(size >= held, "the sizes must rise, and {MEASURED} are issued at each");
        issue(&mut bare, &csr, held, size - held)?;
        let theirs = peers::openssl_ca_on_our_index(&world, &csr_file)?;
        let took = issue(&mut bare, &csr, size, MEASURED)?;
        held = size + MEASURED;
        let what = format!("one more certificate at {size} issued");
        report.beside(what, took * 1000.0, "ms", "openssl ca on our index", theirs * 1000.0);
    }
    drop(bare);
    world.stop().map(drop)
}

/// Issues certificates and returns the seconds for each.
fn issue(bare: &mut Bare, csr: &[u8], from: usize, count: usize) -> Result<f64> {
    let mut requests = Vec::with_capacity(count);
    for number in from..from + count {
        requests.push(bare.issue(csr, &format!("host-{number}.example.org"))?);
    }
    let flood = bare.flood(requests, WINDOW)?;
    ensure!(flood.issued == count, "{} of {count} were refused", flood.others);
    Ok(flood.took.as_secs_f64() / count.max(1) as f64)
}
