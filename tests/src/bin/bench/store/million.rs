//! A store with a thousand certificates beside one with a million.
//!
//! Every certificate was issued by the programs: no row is forged. The two signers are asked in
//! turn, with the same requests, so that what else the machine does falls on both.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::{Bare, Cable, World};

use super::{Done, rates::WINDOW};
use crate::{
    figures::{Figures, median},
    peers, process,
    report::Target,
};

/// The small store.
const SMALL: usize = 1_000;
/// Certificates measured in each run.
const MEASURED: usize = 1_000;
/// Runs of which the median counts.
const RUNS: usize = 15;
/// Requests made ahead while a store is filled.
const FILLED_AT_ONCE: usize = 10_000;
const START_MAX: Duration = Duration::from_secs(60);

/// A running signer.
struct Store {
    world: World,
    csr: Vec<u8>,
    csr_file: String,
    issued: usize,
    /// Connections so far. A cable at which nobody works for long counts as cut.
    connections: u64,
}

pub(super) fn measure(large: usize, figures: &mut Figures, done: &mut Done) -> Result<()> {
    let mut small = Store::fill(SMALL)?;
    let mut big = Store::fill(large)?;
    // Else the kernel writes gigabytes of the large store while the small one is measured beside it.
    nix::unistd::sync();
    let (mut at_small, mut at_big, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (one, other) = (small.issue(MEASURED)?, big.issue(MEASURED)?);
        ratios.push(other / one);
        at_small.push(one * 1000.0);
        at_big.push(other * 1000.0);
    }
    let ratio = median(ratios);
    figures.promised(
        "cost_ratio_1m_to_1k",
        ratio,
        "x",
        "cost of a certificate in the large store, by that in the small one",
        Target::AtMost(1.1),
    );
    let what = format!("  one of {MEASURED} at {SMALL} issued");
    figures.add("cost_per_certificate_1k_ms", median(at_small), "ms", &what);
    let what = format!("  one of {MEASURED} at {large} issued");
    figures.add("cost_per_certificate_1m_ms", median(at_big), "ms", &what);

    let theirs_small = peers::openssl_ca_on_our_index(&small.world, &small.csr_file)?;
    let theirs_big = peers::openssl_ca_on_our_index(&big.world, &big.csr_file)?;
    let what = "  the same ratio of openssl ca, one by one";
    figures.add("openssl_ca_cost_ratio", theirs_big / theirs_small, "x", what);
    figures.add("openssl_ca_cost_1k_ms", theirs_small * 1000.0, "ms", "  openssl ca, small store");
    figures.add("openssl_ca_cost_1m_ms", theirs_big * 1000.0, "ms", "  openssl ca, large store");

    done.keep(memory_and_start(big, figures)?);
    done.keep(small.stop()?);
    Ok(())
}

/// The vault's memory after all that, and how long it takes until it serves again.
fn memory_and_start(mut store: Store, figures: &mut Figures) -> Result<World> {
    let peak = process::peak_mib(store.world.running_signer()?.id())?;
    let target = Target::AtMost(64.0);
    let what = "vault memory in the large store, the most so far";
    figures.promised("vault_memory_mib_1m", peak, "MiB", what, target);
    let mut world = store.stop()?;
    let start = |world: &mut World| -> Result<f64> {
        let start = Instant::now();
        world.start_signer()?;
        let signer = world.running_signer()?;
        signer.wait_for("signer runs", START_MAX)?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    };
    let clean = start(&mut world)?;
    let target = Target::AtMost(1000.0);
    figures.promised("vault_start_ms_1m", clean, "ms", "start of the vault there", target);
    let peak = process::peak_mib(world.running_signer()?.id())?;
    figures.add("vault_memory_at_start_mib_1m", peak, "MiB", "  its memory then");
    world.running_signer()?.kill()?;
    let killed = start(&mut world)?;
    figures.add("vault_start_after_kill_ms_1m", killed, "ms", "  start after kill -9");
    world.stop()?;
    Ok(world)
}

impl Store {
    /// A store with a P-256 issuer, so that the store's share is seen and not the signature's.
    fn fill(count: usize) -> Result<Self> {
        let mut world = World::new(Cable::Unix)?;
        world.found("ec:P-256")?;
        let csr_file = world.csr("one", "ec:P-256", "/CN=one.example.org")?;
        let csr = world.openssl(&["req", "-in", &csr_file, "-outform", "DER"])?.stdout;
        world.start_signer()?;
        let mut store = Self { world, csr, csr_file, issued: 0, connections: 0 };
        let mut bare = store.connect()?;
        let start = Instant::now();
        while store.issued < count {
            store.issue_by(&mut bare, (count - store.issued).min(FILLED_AT_ONCE))?;
            if store.issued.is_multiple_of(100_000) {
                let seconds = start.elapsed().as_secs();
                eprintln!("bench: {} certificates issued in {seconds} s", store.issued);
            }
        }
        Ok(store)
    }

    fn connect(&mut self) -> Result<Bare> {
        self.connections += 1;
        Bare::connect_to(&self.world, self.connections)
    }

    /// Issues certificates and returns the seconds for each.
    fn issue(&mut self, count: usize) -> Result<f64> {
        let mut bare = self.connect()?;
        self.issue_by(&mut bare, count)
    }

    fn issue_by(&mut self, bare: &mut Bare, count: usize) -> Result<f64> {
        let requests = (self.issued..self.issued + count)
            .map(|number| bare.issue(&self.csr, &format!("host-{number}.example.org")))
            .collect::<Result<Vec<_>>>()?;
        let flood = bare.flood(requests, WINDOW)?;
        ensure!(flood.issued == count, "{} of {count} were refused", flood.others);
        self.issued += count;
        Ok(flood.took.as_secs_f64() / count.max(1) as f64)
    }

    fn stop(mut self) -> Result<World> {
        self.world.stop()?;
        Ok(self.world)
    }
}
