//! What `openssl speed` says of this machine.

use anyhow::{Context, Result};
use tests::{Cable, World};

use crate::{
    csrs::cores,
    figures::{Figures, median},
};

/// Signatures per second by wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    /// One process, times the cores.
    pub(crate) one_times_cores: f64,
    /// As many processes as cores at the same time.
    pub(crate) together: f64,
}

/// A rate beside what openssl makes of the same cores.
pub(crate) struct Beside {
    /// The median of the runs.
    pub(crate) rate: f64,
    /// As a share of [`Speed::together`], the median.
    pub(crate) of_all_cores: f64,
    /// As a share of [`Speed::one_times_cores`], the median.
    pub(crate) of_one_times_cores: f64,
}

/// Runs something so often. What the machine can do changes with its neighbours, so openssl is
/// asked just before and just after each run.
pub(crate) fn beside(
    bare: impl Fn() -> Result<Speed>,
    runs: usize,
    mut run: impl FnMut() -> Result<f64>,
) -> Result<Beside> {
    let (mut rates, mut of_all, mut of_one) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = bare()?;
    for _ in 0..runs {
        let rate = run()?;
        let after = bare()?;
        of_all.push(2.0 * rate / (before.together + after.together));
        of_one.push(2.0 * rate / (before.one_times_cores + after.one_times_cores));
        rates.push(rate);
        before = after;
    }
    Ok(Beside {
        rate: median(rates),
        of_all_cores: median(of_all),
        of_one_times_cores: median(of_one),
    })
}

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let rsa = rsa4096()?;
    let what = "openssl speed, RSA-4096: one process, times cores";
    figures.add("openssl_speed_rsa4096_per_s", rsa.one_times_cores, "/s", what);
    let what = "  as many processes as cores at once";
    figures.add("openssl_speed_rsa4096_together_per_s", rsa.together, "/s", what);
    let p256 = p256()?;
    let what = "openssl speed, P-256: one process, times cores";
    figures.add("openssl_speed_p256_per_s", p256.one_times_cores, "/s", what);
    Ok(())
}

/// RSA-4096 with all that `openssl speed` knows to make it fast.
pub(crate) fn rsa4096() -> Result<Speed> {
    speed("rsa4096", "rsa 4096 bits")
}

/// P-256.
pub(crate) fn p256() -> Result<Speed> {
    speed("ecdsap256", "256 bits ecdsa (nistp256)")
}

/// Ed25519.
pub(crate) fn ed25519() -> Result<Speed> {
    speed("ed25519", "253 bits EdDSA (Ed25519)")
}

fn speed(algorithm: &str, line: &str) -> Result<Speed> {
    let world = World::new(Cable::Unix)?;
    let cores = cores();
    let processes = cores.to_string();
    // By wall clock: with several processes the processor time of the first alone would count.
    let run = |options: &[&str]| -> Result<f64> {
        let fixed = ["speed", "-elapsed", "-seconds", "5"];
        let text = world.openssl(&[&fixed[..], options, &[algorithm]].concat())?.text();
        // rsa 4096 bits 0.003777s 0.000058s    264.8  17301.0
        let found = text.lines().find_map(|said| said.trim().strip_prefix(line));
        let rate = found.and_then(|rest| rest.split_whitespace().rev().nth(1));
        Ok(rate.with_context(|| format!("openssl speed said {text}"))?.parse()?)
    };
    let one = run(&[])?;
    Ok(Speed { one_times_cores: one * cores as f64, together: run(&["-multi", &processes])? })
}
