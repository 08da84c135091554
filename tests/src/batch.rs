//! Many requests at once, and the count afterwards: each has exactly one outcome.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, ensure};

use crate::World;

/// Requests that were queued together.
#[derive(Debug)]
pub struct Batch {
    /// What each request id asked for.
    asked: BTreeMap<String, Asked>,
}

/// What one certificate must hold.
#[derive(Debug)]
struct Asked {
    host: String,
    public_key: String,
}

impl Batch {
    /// Queues `count` requests, each for a host and a P-256 key of its own.
    pub fn queue(world: &World, count: usize) -> Result<Self> {
        let mut asked = BTreeMap::new();
        for number in 0..count {
            let host = format!("host-{number}.example.org");
            let csr = world.csr(&format!("batch-{number}"), "ec:P-256", &format!("/CN={host}"))?;
            let public_key = world.openssl(&["req", "-in", &csr, "-noout", "-pubkey"])?.text();
            let name = format!("dns:{host}");
            let words = ["request", "--authority", "issuing", "--profile", "server"];
            let id = world.queue(&[&words[..], &["--csr", &csr, "--san", &name]].concat())?;
            asked.insert(id, Asked { host, public_key });
        }
        ensure!(asked.len() == count, "some of {count} request ids are equal");
        Ok(Self { asked })
    }

    /// Takes another batch in.
    pub fn join(&mut self, other: Self) {
        self.asked.extend(other.asked);
    }

    /// The requests' ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.asked.keys().map(String::as_str)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.asked.len()
    }

    /// Every request has one certificate, for its own host and key; no serial was used twice; index,
    /// stored copies and answers agree; and nothing else was issued.
    pub fn assert_issued_once_each(&self, world: &World) -> Result<()> {
        let mut serials = BTreeSet::new();
        for (id, Asked { host, public_key }) in &self.asked {
            let status = world.frontend_json(&["status", id])?;
            ensure!(status["state"] == "done", "{status}");
            let serial = status["serial"].as_str().context("a done request has a serial")?;
            ensure!(serials.insert(serial.to_owned()), "{serial} was used twice");
            let answer = world.frontend(&["get", id, "--der"])?.done()?.stdout;
            let stored = world.authority("issuing", &format!("newcerts/{serial}.pem"));
            let stored = world.openssl(&["x509", "-in", &stored, "-outform", "DER"])?.stdout;
            ensure!(answer == stored, "{id}: the answer is not the stored certificate {serial}");
            let shown = shown(world, &answer)?;
            let own = shown.contains(&format!("DNS:{host}\n")) && shown.contains(public_key);
            ensure!(own, "{id} got another's certificate: {shown}");
        }
        let index = fs::read_to_string(world.authority("issuing", "index.txt"))?;
        let indexed: Vec<&str> = index.lines().filter_map(|line| line.split('\t').nth(3)).collect();
        ensure!(indexed.len() == serials.len(), "the index has {} lines", indexed.len());
        ensure!(indexed.iter().all(|serial| serials.contains(*serial)), "a stranger in the index");
        let stored = fs::read_dir(world.authority("issuing", "newcerts"))?.count();
        ensure!(stored == serials.len(), "{stored} stored copies of {}", serials.len());
        Ok(())
    }
}

fn shown(world: &World, der: &[u8]) -> Result<String> {
    let file = world.write("shown.der", der)?;
    let words = ["x509", "-in", &file, "-inform", "DER", "-noout", "-pubkey"];
    Ok(world.openssl(&[&words[..], &["-ext", "subjectAltName"]].concat())?.text())
}
