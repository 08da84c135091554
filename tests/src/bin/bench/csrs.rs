//! Many CSRs, each with a key of its own: a key used twice would pack too well on the line.

use std::{num::NonZero, thread};

use anyhow::{Result, anyhow};
use tests::{Cable, World};

/// CSRs by `openssl req`, all in one folder.
pub(crate) struct Csrs {
    /// Keeps the folder.
    pub(crate) world: World,
    /// Their files with the host names that they ask for.
    pub(crate) files: Vec<(String, String)>,
}

impl Csrs {
    /// Makes `count` CSRs on all cores.
    pub(crate) fn make(count: usize) -> Result<Self> {
        let world = World::new(Cable::Unix)?;
        let world_of_all = &world;
        let cores = cores();
        let made = thread::scope(|scope| {
            let threads: Vec<_> = (0..cores)
                .map(|core| {
                    scope.spawn(move || {
                        let numbers = (core..count).step_by(cores);
                        numbers.map(|number| one(world_of_all, number)).collect::<Result<Vec<_>>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("making CSRs panicked"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        Ok(Self { files: made.into_iter().flatten().collect(), world })
    }

    /// The words that ask for this CSR's certificate.
    pub(crate) fn request<'a>(file: &'a str, name: &'a str) -> [&'a str; 9] {
        ["request", "--authority", "issuing", "--profile", "server", "--csr", file, "--san", name]
    }
}

/// How many cores there are.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn one(world: &World, number: usize) -> Result<(String, String)> {
    let host = format!("host-{number}.example.org");
    let csr = world.csr(&format!("csr-{number}"), "rsa:2048", &format!("/CN={host}"))?;
    Ok((csr, format!("dns:{host}")))
}
