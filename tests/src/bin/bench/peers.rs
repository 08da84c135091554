//! The same work by openssl.

use std::{fs, time::Instant};

use anyhow::{Context, Result};
use tests::World;

use crate::csrs::{Csrs, cores};

/// Signatures with RSA-4096 that all cores could make in a second, if nothing else was to do.
pub(crate) fn signatures_per_s(world: &World) -> Result<f64> {
    let ended = world.openssl(&["speed", "-seconds", "3", "rsa4096"])?;
    // rsa 4096 bits 0.003777s 0.000058s    264.8  17301.0
    let text = ended.text();
    let line = text.lines().find(|line| line.starts_with("rsa 4096 bits"));
    let per_core = line.and_then(|line| line.split_whitespace().nth(5));
    let per_core: f64 = per_core.with_context(|| format!("openssl speed said {text}"))?.parse()?;
    Ok(per_core * cores() as f64)
}

/// Certificates per second by `openssl ca` with an RSA-4096 key and an empty index, all CSRs in
/// one call.
pub(crate) fn openssl_ca_per_s(csrs: &Csrs) -> Result<f64> {
    let world = &csrs.world;
    fs::create_dir_all(world.path("peer/newcerts"))?;
    world.write("peer/index.txt", "")?;
    world.write("peer/index.txt.attr", "unique_subject = no\n")?;
    world.write("peer/serial", "1000\n")?;
    let folder = world.file("peer");
    let configuration = world.write("peer/openssl.cnf", CONFIGURATION.replace("@DIR@", &folder))?;
    let key = world.key("peer/ca", "rsa:4096")?;
    let certificate = world.file("peer/ca.crt");
    let root = ["req", "-x509", "-new", "-key", &key, "-subj", "/CN=Peer", "-out", &certificate];
    world.openssl(&root)?;
    let mut words = vec!["ca", "-batch", "-notext", "-config", &configuration, "-infiles"];
    words.extend(csrs.files.iter().map(|(file, _)| file.as_str()));
    let start = Instant::now();
    world.openssl(&words)?;
    let took = start.elapsed().as_secs_f64();
    let made = fs::read_dir(world.path("peer/newcerts"))?.count();
    anyhow::ensure!(made == csrs.files.len(), "openssl ca made {made} certificates");
    Ok(made as f64 / took)
}

/// The median seconds of one more certificate by `openssl ca` on a copy of our own index.
pub(crate) fn openssl_ca_on_our_index(world: &World, csr: &str) -> Result<f64> {
    let copy = world.path("copy");
    fs::create_dir_all(copy.join("newcerts"))?;
    for name in ["ca.crt", "index.txt", "index.txt.attr", "serial", "private/ca.key"] {
        let to = copy.join(name.rsplit('/').next().unwrap_or(name));
        fs::copy(world.authority("issuing", name), to).with_context(|| name.to_owned())?;
    }
    let folder = world.file("copy");
    let configuration = world.write("copy/openssl.cnf", CONFIGURATION.replace("@DIR@", &folder))?;
    let mut seconds = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        world.openssl(&["ca", "-batch", "-notext", "-config", &configuration, "-in", csr])?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    fs::remove_dir_all(copy)?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[1])
}

const CONFIGURATION: &str = "\
[ca]
default_ca = peer
[peer]
new_certs_dir = @DIR@/newcerts
database = @DIR@/index.txt
serial = @DIR@/serial
certificate = @DIR@/ca.crt
private_key = @DIR@/ca.key
default_md = sha256
default_days = 30
policy = any
x509_extensions = leaf
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
keyUsage = digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
";
