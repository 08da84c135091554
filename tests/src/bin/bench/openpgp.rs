//! `bench openpgp`: how near to the bare signature a certification comes, beside gpg doing the same
//! by hand, and what an upload with thousands of foreign signatures costs.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use protocol::message::{ApprovedUserId, CertifyOpenPgp, Request};
use tests::{
    Bare, Cable, Process, World,
    openpgp::{
        GpgHome, Packet,
        rpgp::{self, Wish},
    },
    process::below,
    world::START_MAX,
};

use crate::{
    figures::{Figures, median},
    process,
    report::Target,
    store::speed,
};

/// Keys that gpg makes and signs.
const KEYS: usize = 40;
/// Requests under way at once.
const WINDOW: usize = 192;
/// Runs of which the median counts.
const RUNS: usize = 3;
/// Foreign signatures in the large upload, and its least length.
const FOREIGN: usize = 2000;
const LARGE: usize = 500_000;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// One JSON object in place of the table
    #[arg(long)]
    json: bool,
    /// Certifications of each run that measures a rate
    #[arg(long, value_name = "N", default_value_t = 4000)]
    requests: usize,
}

pub(crate) fn bench(options: &Options) -> Result<()> {
    let mut figures = Figures::default();
    eprintln!("bench: {KEYS} keys made by gpg");
    let material = World::new(Cable::Unix)?;
    let home = material.gpg_home("people")?;
    let keys = (0..KEYS).map(|number| Key::make(&home, number)).collect::<Result<Vec<_>>>()?;
    eprintln!("bench: {} keys made by rPGP", options.requests);
    let people = Key::make_many(options.requests)?;

    let rsa = speed::beside(speed::rsa4096, RUNS, || signer_alone(&people, "rsa4096"))?;
    let what = "certifications/s, RSA-4096 issuer, the signer alone";
    figures.add("rsa4096_certifications_per_s", rsa.rate, "/s", what);
    let what = "  as a share of openssl speed on all cores at once";
    figures.promised("rsa4096_share_of_raw", rsa.of_all_cores, "", what, Target::AtLeast(0.9));
    let what = "  as a share of cores × openssl speed on one of them";
    figures.add("rsa4096_share_of_cores_times_speed", rsa.of_one_times_cores, "", what);
    let ed25519 = speed::beside(speed::ed25519, RUNS, || signer_alone(&people, "ed25519"))?;
    let what = "certifications/s, Ed25519 issuer, the signer alone";
    figures.add("ed25519_certifications_per_s", ed25519.rate, "/s", what);
    // Two verifications that cannot be left out take six times as long as the signature: nobody can
    // promise nine tenths of the signatures alone.
    let what = "  as a share of openssl speed; verifications leave 0.15 at most";
    figures.add("ed25519_share_of_raw", ed25519.of_all_cores, "", what);
    let what = "gpg --quick-sign-key/s, RSA-4096 issuer";
    figures.add("gpg_quick_sign_key_per_s", by_gpg(&home, &keys, "rsa4096")?, "/s", what);
    let what = "gpg --quick-sign-key/s, Ed25519 issuer";
    figures.add("gpg_quick_sign_key_ed25519_per_s", by_gpg(&home, &keys, "ed25519")?, "/s", what);
    large_upload(&material, &home, &keys[0], &mut figures)?;
    figures.show(options.json)
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

    /// Keys like gpg's, so many that each request has one that nobody has seen: what the signer
    /// remembers of a key helps it to nothing.
    fn make_many(count: usize) -> Result<Vec<Self>> {
        let user_ids: Vec<String> = (0..count)
            .map(|number| format!("Person {number} <person-{number}@people.example.org>"))
            .collect();
        let each: Vec<[&str; 1]> = user_ids.iter().map(|user_id| [user_id.as_str()]).collect();
        let wish = |user_ids| Wish {
            version: 4,
            kind: "ed25519-legacy",
            encrypts: false,
            ..Wish::version_6(user_ids)
        };
        let wishes: Vec<Wish<'_>> = each.iter().map(|user_ids| wish(&user_ids[..])).collect();
        let made = rpgp::make_all(&wishes)?;
        let keys = made.into_iter().zip(user_ids).map(|(made, user_id)| Self {
            user_id,
            fingerprint: made.fingerprint,
            public: made.public,
        });
        Ok(keys.collect())
    }

    fn request(&self, bare: &mut Bare) -> Result<CertifyOpenPgp> {
        let user_ids = vec![ApprovedUserId::Exact(self.user_id.as_str().try_into()?)];
        Ok(CertifyOpenPgp {
            id: bare.fresh_id(),
            authority: "openpgp".parse()?,
            policy: None,
            user_ids: user_ids.try_into()?,
            days: Some(365),
            renew: false,
            key: self.public.clone().try_into()?,
        })
    }
}

/// Requests prepared beforehand over a socket, one for each key, the frontend's own work not
/// counted.
fn signer_alone(keys: &[Key], algorithm: &str) -> Result<f64> {
    let mut world = World::new(Cable::Unix)?;
    world.found("ec:P-256")?;
    let ca = "Authority <ca@example.org>";
    world.signer(&["openpgp", "create", "--uid", ca, "--key", algorithm])?.done()?;
    world.start_signer()?;
    let mut bare = Bare::connect_to(&world, 0xa10e)?;
    let prepared = keys
        .iter()
        .map(|key| Ok(Request::Certify(key.request(&mut bare)?)))
        .collect::<Result<Vec<_>>>()?;
    let flood = bare.flood_of(prepared, WINDOW)?;
    ensure!(flood.issued == keys.len(), "{} requests were refused", flood.others);
    drop(bare);
    world.stop()?;
    Ok(keys.len() as f64 / flood.took.as_secs_f64())
}

/// As a person would do it, one key after the other, with an issuer of this algorithm.
fn by_gpg(home: &GpgHome, keys: &[Key], algorithm: &str) -> Result<f64> {
    let issuer = home.make(&format!("Gpg {algorithm} <gpg@example.org>"), algorithm, "2y")?;
    let start = Instant::now();
    for key in keys {
        home.gpg(&["--default-key", &issuer, "--quick-sign-key", &key.fingerprint])?;
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
    let peak = frontend_peak_mib(&world, &file, &key.user_id)?;
    let what = "  the memory of `frontend certify` at its peak";
    figures.promised("big_key_frontend_mib", peak, "MiB", what, Target::AtMost(32.0));
    Ok(())
}

/// The largest resident set of the command that takes the upload in. Nobody answers it, so it waits
/// for a second with all its work behind it, and the kernel's count can be asked for until its end.
fn frontend_peak_mib(world: &World, file: &str, user_id: &str) -> Result<f64> {
    let words = ["certify", "--key", file, "--uid", user_id, "--renew", "--wait", "1"];
    let folder = world.path("frontend");
    let program = world.program("frontend");
    let variables = [("FRONTEND_DIR", folder.as_os_str())];
    let mut command =
        Process::start("frontend", Path::new(&program), words, &variables, None, None)?;
    let mut peak: f64 = 0.0;
    while command.is_running()? {
        // One that has ended and was not asked for has no memory.
        peak = peak.max(process::peak_mib(command.id()).unwrap_or_default());
    }
    let waited = command.ended(START_MAX)?.with_code(5)?;
    ensure!(peak > 0.0, "`{}` was never seen", waited.command);
    Ok(peak)
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
    let workers = below(signer, "intake");
    let peaks = workers.iter().map(|id| process::peak_mib(*id)).collect::<Result<Vec<_>>>()?;
    let peak = peaks.into_iter().reduce(f64::max);
    peak.with_context(|| format!("no intake worker runs under process {signer}"))
}
