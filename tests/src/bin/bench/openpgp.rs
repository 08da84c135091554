//! `bench openpgp`: how near to the bare signature a certification comes, beside gpg doing the same
//! by hand, and what an upload with thousands of foreign signatures costs.

use std::{fs, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use protocol::message::{ApprovedUserId, CertifyOpenPgp, Request};
use tests::{
    Bare, Cable, World,
    openpgp::{GpgHome, Packet},
};

use crate::{
    figures::{Figures, median},
    report::Target,
    store::speed,
};

/// Keys made by gpg; requests take them in turn, each time for a new certification.
const KEYS: usize = 40;
/// Requests under way at once.
const WINDOW: usize = 192;
/// Runs of which the median counts.
const RUNS: usize = 3;
/// Foreign signatures in the large upload, and its least length.
const FOREIGN: usize = 2000;
const LARGE: usize = 500_000;

/// What to measure.
pub(crate) struct Options {
    json: bool,
    requests: usize,
}

impl Options {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self { json: false, requests: 4000 };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--json" => options.json = true,
                "--requests" => {
                    let value = words.next().with_context(|| format!("{word} needs a value"))?;
                    options.requests = value.parse()?;
                }
                "--help" => return Ok(None),
                other => bail!("unknown option {other}\n{USAGE}"),
            }
        }
        Ok(Some(options))
    }
}

pub(crate) const USAGE: &str = "\
bench openpgp [--json] [--requests N]

  --requests N   certifications of each run that measures a rate (4000)";

pub(crate) fn bench(options: &Options) -> Result<()> {
    let mut figures = Figures::default();
    eprintln!("bench: {KEYS} keys made by gpg");
    let material = World::new(Cable::Unix)?;
    let home = material.gpg_home("people")?;
    let keys = (0..KEYS).map(|number| Key::make(&home, number)).collect::<Result<Vec<_>>>()?;

    // What the machine can do changes with its neighbours: asked just before each run.
    let rate = |name, bare: &dyn Fn() -> Result<speed::Speed>| -> Result<(f64, f64)> {
        let (mut rates, mut shares) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let raw = bare()?.one_times_cores;
            let rate = signer_alone(&keys, name, options.requests)?;
            rates.push(rate);
            shares.push(rate / raw);
        }
        Ok((median(rates), median(shares)))
    };
    let (rsa, rsa_share) = rate("rsa4096", &speed::rsa4096)?;
    let what = "certifications/s, RSA-4096 issuer, the signer alone";
    figures.add("rsa4096_certifications_per_s", rsa, "/s", what);
    let what = "  as a share of cores × openssl speed";
    figures.promised("rsa4096_share_of_raw", rsa_share, "", what, Target::AtLeast(0.9));
    let (ed25519, ed25519_share) = rate("ed25519", &speed::ed25519)?;
    let what = "certifications/s, Ed25519 issuer, the signer alone";
    figures.add("ed25519_certifications_per_s", ed25519, "/s", what);
    let what = "  as a share of cores × openssl speed";
    figures.promised("ed25519_share_of_raw", ed25519_share, "", what, Target::AtLeast(0.9));
    let what = "gpg --quick-sign-key/s, RSA-4096 issuer";
    figures.add("gpg_quick_sign_key_per_s", by_gpg(&home, &keys)?, "/s", what);
    large_upload(&material, &home, &keys[0], &mut figures)?;
    if options.json {
        figures.print_json();
    } else {
        figures.print_table();
    }
    figures.judge()
}

/// A person's key.
struct Key {
    user_id: String,
    fingerprint: String,
    public: Vec<u8>,
}

impl Key {
    fn make(home: &GpgHome, number: usize) -> Result<Self> {
        let user_id = format!("Person {number} <person-{number}@example.org>");
        let fingerprint = home.make(&user_id, "ed25519", "2y")?;
        let public = home.export(&fingerprint, None)?;
        Ok(Self { user_id, fingerprint, public })
    }

    fn request(&self, bare: &mut Bare) -> Result<CertifyOpenPgp> {
        let user_ids = vec![ApprovedUserId::Exact(self.user_id.as_str().try_into()?)];
        Ok(CertifyOpenPgp {
            id: bare.fresh_id(),
            authority: "openpgp".parse()?,
            policy: None,
            user_ids: user_ids.try_into()?,
            days: Some(365),
            renew: true,
            key: self.public.clone().try_into()?,
        })
    }
}

/// Requests prepared beforehand over a socket, the frontend's own work not counted.
fn signer_alone(keys: &[Key], algorithm: &str, requests: usize) -> Result<f64> {
    let mut world = World::new(Cable::Unix)?;
    world.found("ec:P-256")?;
    let ca = "Authority <ca@example.org>";
    world.signer(&["openpgp", "create", "--uid", ca, "--key", algorithm])?.done()?;
    world.start_signer()?;
    let mut bare = Bare::connect_to(&world, 0xa10e)?;
    let prepared = (0..requests)
        .map(|number| Ok(Request::Certify(keys[number % keys.len()].request(&mut bare)?)))
        .collect::<Result<Vec<_>>>()?;
    let flood = bare.flood_of(prepared, WINDOW)?;
    ensure!(flood.issued == requests, "{} requests were refused", flood.others);
    drop(bare);
    world.stop()?;
    Ok(requests as f64 / flood.took.as_secs_f64())
}

/// As a person would do it, one key after the other.
fn by_gpg(home: &GpgHome, keys: &[Key]) -> Result<f64> {
    home.make("Gpg <gpg@example.org>", "rsa4096", "2y")?;
    let start = Instant::now();
    for key in keys {
        home.gpg(&[
            "--default-key",
            "Gpg <gpg@example.org>",
            "--quick-sign-key",
            &key.fingerprint,
        ])?;
    }
    Ok(keys.len() as f64 / start.elapsed().as_secs_f64())
}

//------------ The large upload ----------------------------------------------

fn large_upload(material: &World, home: &GpgHome, key: &Key, figures: &mut Figures) -> Result<()> {
    let upload = with_foreign_signatures(home, key)?;
    ensure!(upload.len() >= LARGE, "the upload has {} bytes", upload.len());
    let mut world = World::new(Cable::Unix)?;
    world.found("ec:P-256")?;
    world.signer(&["openpgp", "create", "--uid", "Authority <ca@example.org>"])?.done()?;
    world.start()?;
    let file = material.write("large.pgp", &upload)?;
    let small = material.write("small.pgp", &key.public)?;
    // The first answer also brings the session up, which is not the upload's cost.
    world.frontend(&["certify", "--key", &small, "--uid", &key.user_id, "--wait", "60"])?.done()?;
    let mut took = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let words = ["certify", "--key", &file, "--uid", &key.user_id, "--renew", "--wait", "60"];
        world.frontend(&words)?.done()?;
        took.push(start.elapsed().as_secs_f64());
    }
    let peak = worker_peak_mib(world.running_signer()?.id())?;
    world.stop()?;
    let what = format!("an upload of {} bytes, from the command to the answer", upload.len());
    figures.promised("big_key_answer_s", median(took), "s", &what, Target::AtMost(1.0));
    let what = "  the intake's memory at its peak";
    figures.promised("big_key_worker_mib", peak, "MiB", what, Target::AtMost(32.0));
    Ok(())
}

/// The key with thousands of signatures by others: gpg's own, and copies that differ in their last
/// octets, as nobody here has the issuers' keys to tell them apart.
fn with_foreign_signatures(home: &GpgHome, key: &Key) -> Result<Vec<u8>> {
    home.make("Friend <friend@example.org>", "rsa2048", "2y")?;
    let words = ["--default-key", "Friend <friend@example.org>", "--quick-sign-key"];
    home.gpg(&[&words[..], &[&key.fingerprint]].concat())?;
    let friend = home.fingerprint("Friend <friend@example.org>")?;
    let packets = Packet::all(&home.export(&key.fingerprint, None)?)?;
    let one = packets.iter().find(|packet| packet.is_by(&friend));
    let one = one.context("gpg exports no signature by the friend")?;
    let mut bytes = Vec::new();
    for packet in packets.iter().filter(|packet| !packet.is_by(&friend)) {
        bytes.extend(packet.write());
    }
    let mut copy = one.clone();
    for number in 0..FOREIGN {
        let end = copy.body.len();
        let octets = u32::try_from(number)?.to_be_bytes();
        copy.body[end - 4..].copy_from_slice(&octets);
        bytes.extend(copy.write());
    }
    Ok(bytes)
}

/// The largest resident set of the signer's intake workers so far, by the kernel's count.
fn worker_peak_mib(signer: u32) -> Result<f64> {
    let mut family = vec![signer.to_string()];
    let mut peak_kib: f64 = 0.0;
    // Parents come before their children in no order: asked until nobody is new.
    loop {
        let known = family.len();
        for entry in fs::read_dir("/proc")? {
            let process = entry?.file_name().to_string_lossy().into_owned();
            let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else {
                continue;
            };
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.map(str::trim).unwrap_or_default().to_owned()
            };
            let parent = field("PPid:");
            if family.contains(&process) || !family.contains(&parent) {
                continue;
            }
            let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            if command.split(|byte| *byte == 0).any(|word| word == b"intake") {
                let peak = field("VmHWM:");
                let kib = peak.split_whitespace().next().unwrap_or_default();
                peak_kib = peak_kib.max(kib.parse().context("VmHWM")?);
            }
            family.push(process);
        }
        if family.len() == known {
            break;
        }
    }
    ensure!(peak_kib > 0.0, "no intake worker runs under process {signer}");
    Ok(peak_kib / 1024.0)
}
