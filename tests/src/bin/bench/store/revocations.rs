//! Revocations: one into a large CRL, many at once over the line, and a long CRL over a cable that
//! is pulled out.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use protocol::message::{
    Answer, CrlPiece, CrlScope, Digest, FetchCrl, Request, RevocationReason, Revoke,
};
use tests::{Bare, Cable, World};

use super::{Done, rates::WINDOW};
use crate::{
    figures::{Figures, median},
    report::Target,
};

/// Entries of the large CRL, at 66 bytes each: 6.6 MB.
const LARGE: usize = 100_000;
/// Single revocations measured.
const RUNS: usize = 3;
/// A CRL of so many entries is signed at most every ten seconds.
const PAUSE: Duration = Duration::from_secs(11);
/// Revocations of one day at a community CA.
const MANY: usize = 1_128;
/// The line on which the long CRL travels: the usual one would take ten minutes.
const FAST_BAUD: u32 = 921_600;
const CUTS: u32 = 3;
const CUT: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(600);
const REQUESTS_AT_ONCE: usize = 10_000;

pub(super) fn measure(figures: &mut Figures, done: &mut Done) -> Result<()> {
    let world = large_crl(figures)?;
    many_over_the_line(figures)?;
    long_crl_with_cuts(&world, figures)?;
    done.keep(world);
    Ok(())
}

//------------ One into a large CRL ------------------------------------------

/// Leaves a store with that CRL.
fn large_crl(figures: &mut Figures) -> Result<World> {
    eprintln!("bench: {LARGE} certificates to revoke");
    let mut world = World::new(Cable::Unix)?;
    world.found("ec:P-256")?;
    world.start_signer()?;
    let mut bare = Bare::connect_to(&world, 0xc41)?;
    issue(&mut bare, &world, LARGE + RUNS)?;
    let mut serials = serials(&world)?;
    revoke(&mut bare, serials.split_off(RUNS))?;
    let (mut have, _) = fetch(&mut bare, None)?;
    let (mut took, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        bare.pause(PAUSE)?;
        let one = serials.pop().context("a certificate is left")?;
        let request = revocation(&mut bare, &one)?;
        let before = bare.bytes_received();
        let start = Instant::now();
        let answer = bare.ask(&request)?;
        ensure!(matches!(answer, Answer::Revoked { .. }), "{answer:?}");
        let (digest, _) = fetch(&mut bare, Some(have))?;
        took.push(start.elapsed().as_secs_f64() * 1000.0);
        bytes.push((bare.bytes_received() - before) as f64);
        ensure!(digest != have, "no new CRL was signed");
        have = digest;
    }
    let what = format!("one revocation to its signed CRL, {LARGE} entries");
    let target = Target::AtMost(60.0);
    figures.promised("revoke_to_crl_100k_ms", median(took), "ms", &what, target);
    let target = Target::AtMost(1200.0);
    let what = "  bytes to the frontend for it, all of them";
    figures.promised("revoke_to_crl_100k_wire_bytes", median(bytes), "B", what, target);
    drop(bare);
    world.stop()?;
    Ok(world)
}

fn issue(bare: &mut Bare, world: &World, count: usize) -> Result<()> {
    let csr = world.csr("many", "ec:P-256", "/CN=many.example.org")?;
    let csr = world.openssl(&["req", "-in", &csr, "-outform", "DER"])?.stdout;
    for from in (0..count).step_by(REQUESTS_AT_ONCE) {
        let numbers = from..count.min(from + REQUESTS_AT_ONCE);
        let asked = numbers.len();
        let requests = numbers
            .map(|number| bare.issue(&csr, &format!("host-{number}.example.org")))
            .collect::<Result<Vec<_>>>()?;
        let flood = bare.flood(requests, WINDOW)?;
        ensure!(flood.issued == asked, "{} were refused", flood.others);
    }
    Ok(())
}

/// The serials in the issuing authority's index.
fn serials(world: &World) -> Result<Vec<String>> {
    let index = fs::read_to_string(world.authority("issuing", "index.txt"))?;
    let serials = index.lines().filter_map(|line| line.split('\t').nth(3)).map(str::to_owned);
    Ok(serials.collect())
}

fn revocation(bare: &mut Bare, serial: &str) -> Result<Request> {
    let serial = serial.parse().with_context(|| format!("`{serial}` in the index"))?;
    let (id, authority) = (bare.fresh_id(), "issuing".parse()?);
    Ok(Request::Revoke(Revoke { id, authority, serial, reason: RevocationReason::KeyCompromise }))
}

fn revoke(bare: &mut Bare, serials: Vec<String>) -> Result<()> {
    let requests =
        serials.iter().map(|serial| revocation(bare, serial)).collect::<Result<Vec<_>>>()?;
    let flood = bare.flood_of(requests, WINDOW)?;
    ensure!(flood.others == serials.len(), "{flood:?} of {}", serials.len());
    Ok(())
}

/// Fetches the newest CRL, all its pieces; its digest and its packed length.
fn fetch(bare: &mut Bare, have: Option<Digest>) -> Result<(Digest, u64)> {
    let authority: protocol::message::Name = "issuing".parse()?;
    let mut resume = None;
    let start = Instant::now();
    loop {
        let question =
            FetchCrl { authority: authority.clone(), scope: CrlScope::Full, have, resume };
        match bare.ask(&Request::FetchCrl(question))? {
            Answer::CrlPiece(CrlPiece {
                offset,
                bytes,
                packed_digest,
                packed_length,
                crl_digest,
                ..
            }) => {
                let next = offset + bytes.len() as u64;
                if next == packed_length {
                    return Ok((crl_digest, packed_length));
                }
                resume = Some((packed_digest, next));
            }
            // Signed by the clock, a moment later.
            Answer::CrlUnchanged { .. } if start.elapsed() < WAIT_MAX => {
                bare.pause(Duration::from_millis(1))?;
            }
            other => bail!("a piece of the CRL was expected: {other:?}"),
        }
    }
}

//------------ Many over the line --------------------------------------------

fn many_over_the_line(figures: &mut Figures) -> Result<()> {
    eprintln!("bench: {MANY} revocations at 115,200 baud");
    let mut world = World::new(Cable::line())?;
    world.found("ec:P-256")?;
    world.start_wire()?;
    world.start_signer()?;
    let mut bare = Bare::connect_to(&world, 0x1128)?;
    issue(&mut bare, &world, MANY)?;
    drop(bare);
    let list =
        serials(&world)?.iter().map(|serial| format!("issuing {serial}\n")).collect::<String>();
    let list = world.write("list", list)?;
    world.start_frontend(&[])?;
    let number = until_mirrored(&world)?;
    let start = Instant::now();
    let words = ["revoke", "--list", &list, "--reason", "keyCompromise", "--wait", "300"];
    let report = world.frontend_json(&words)?;
    let took = start.elapsed().as_secs_f64();
    ensure!(report["published"] == MANY, "{}", report["published"]);
    let crls = until_mirrored(&world)? - number;
    world.stop()?;
    let what = format!("{MANY} revocations to one CRL in the frontend, 115,200 baud");
    figures.promised("mass_revocation_1128_s", took, "s", &what, Target::AtMost(10.0));
    let what = "  CRLs that were signed for them";
    figures.promised("mass_revocation_crls", crls as f64, "", what, Target::AtMost(1.0));
    Ok(())
}

/// Waits until the issuing authority's CRL is mirrored; its number.
fn until_mirrored(world: &World) -> Result<u64> {
    let file = world.file("mirrored.crl");
    let start = Instant::now();
    while world.frontend(&["crl", "issuing", "--out", &file])?.done().is_err() {
        ensure!(start.elapsed() < WAIT_MAX, "no CRL is mirrored");
        thread::sleep(Duration::from_millis(50));
    }
    let text = world.openssl(&["crl", "-in", &file, "-noout", "-crlnumber"])?.text();
    let digits = text.trim().rsplit_once("0x").map_or("", |(_, digits)| digits);
    u64::from_str_radix(digits, 16).with_context(|| format!("openssl said {text}"))
}

//------------ A long CRL and three cuts -------------------------------------

fn long_crl_with_cuts(store: &World, figures: &mut Figures) -> Result<()> {
    let cable = Cable::Line { baud: FAST_BAUD, options: Vec::new() };
    let mut world = World::kept(&store.path(""), cable)?;
    // What a whole transfer takes, without cuts.
    let mut unix = World::kept(&store.path(""), Cable::Unix)?;
    unix.start_signer()?;
    let mut bare = Bare::connect_to(&unix, 0x65)?;
    let (_, packed) = fetch(&mut bare, None)?;
    drop(bare);
    unix.stop()?;

    let seconds = packed as f64 * 10.0 / f64::from(FAST_BAUD);
    eprintln!("bench: a CRL of {LARGE} entries, {packed} bytes packed, {CUTS} cuts");
    world.start_wire()?;
    world.start_signer()?;
    world.start_frontend(&[])?;
    for _ in 0..CUTS {
        thread::sleep(Duration::from_secs_f64(seconds / f64::from(CUTS + 1)));
        world.cut()?;
        thread::sleep(CUT);
        world.plug()?;
    }
    until_mirrored(&world)?;
    let length = fs::metadata(world.file("mirrored.crl"))?.len();
    let counts = world.stop()?.wire;
    let line = counts.lines().find_map(|line| line.split_once("B to A: "));
    let bytes = line.and_then(|(_, rest)| rest.split_whitespace().next());
    let bytes: f64 = bytes.with_context(|| format!("no counts in {counts}"))?.parse()?;
    let what = format!("a CRL of {:.1} MB in full: cuts survived", length as f64 / 1e6);
    let target = Target::AtLeast(f64::from(CUTS));
    figures.promised("crl_6_5_mb_resumed", f64::from(CUTS), "", &what, target);
    let repeated = (bytes / packed as f64 - 1.0) * 100.0;
    let what = "  bytes on the wire beyond the packed CRL: frames, acks, what was repeated";
    figures.add("crl_6_5_mb_overhead_percent", repeated, "%", what);
    Ok(())
}
