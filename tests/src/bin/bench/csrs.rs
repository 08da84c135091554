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
    /// Makes `count` CSRs with RSA-2048 keys on all cores.
    pub(crate) fn make(count: usize) -> Result<Self> {
        Self::make_of(count, "rsa:2048")
    }

    /// Makes `count` CSRs with keys of this kind on all cores.
    pub(crate) fn make_of(count: usize, key: &str) -> Result<Self> {
        let world = World::new(Cable::Unix)?;
        let world_of_all = &world;
        let cores = cores();
        let made = thread::scope(|scope| {
            let threads: Vec<_> = (0..cores)
                .map(|core| {
                    scope.spawn(move || {
                        let numbers = (core..count).step_by(cores);
                        numbers
                            .map(|number| one(world_of_all, number, key))
                            .collect::<Result<Vec<_>>>()
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

    /// Their bytes in DER with the host names that they ask for.
    pub(crate) fn ders(&self) -> Result<Vec<(Vec<u8>, String)>> {
        let der = |(file, name): &(String, String)| {
            let der = self.world.openssl(&["req", "-in", file, "-outform", "DER"])?.stdout;
            Ok((der, name.trim_start_matches("dns:").to_owned()))
        };
        self.files.iter().map(der).collect()
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

fn one(world: &World, number: usize, key: &str) -> Result<(String, String)> {
    let host = format!("host-{number}.example.org");
    let csr = world.csr(&format!("csr-{number}"), key, &format!("/CN={host}"))?;
    Ok((csr, format!("dns:{host}")))
}
