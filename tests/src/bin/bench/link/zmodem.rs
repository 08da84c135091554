//! The same line under zmodem (lrzsz): `sz` at the signer's end, `rz` at the frontend's.
//!
//! Real time, so the file is small, and what has not arrived after the limit is not waited for:
//! then the share is that of the bytes which did arrive.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::OFlag;
use tests::{Cable, Seed, World};

use super::{NOISES, Noise, SEED};
use crate::figures::Figures;

/// 115,200 baud, 8N1.
const LINE_RATE: f64 = 11_520.0;
/// 52 seconds of the line.
const FILE_LENGTH: usize = 600_000;
/// After so many seconds the share is computed from what arrived.
const LIMIT_S: u32 = 120;
/// How `timeout` ends when the time is up.
const TIMED_OUT: i32 = 124;

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    eprintln!("bench: zmodem on the same line, at most {LIMIT_S} s");
    // All lines at once: they cost next to nothing but time.
    let shares = thread::scope(|scope| {
        let threads = NOISES.map(|noise| scope.spawn(move || share(&noise)));
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a transfer panicked"))?)
            .collect::<Result<Vec<f64>>>()
    })?;
    for (noise, share) in NOISES.iter().zip(shares) {
        let what = format!("  zmodem at a bit error rate of {}", noise.word);
        figures.add(noise.zmodem_key, share, "", &what);
    }
    Ok(())
}

fn share(noise: &Noise) -> Result<f64> {
    let seed = format!("{SEED:#x}");
    let mut world = World::new(Cable::faulty(&["--ber", noise.word, "--seed", &seed]))?;
    let mut contents = Seed::new(SEED);
    let bytes: Vec<u8> = (0..FILE_LENGTH).map(|_| contents.below(256) as u8).collect();
    let file = world.write("content", &bytes)?;
    let folder = world.path("received");
    fs::create_dir_all(&folder)?;
    world.start_wire()?;
    let start = Instant::now();
    let mut receiver = at(&world.path("tty-frontend"), "rz")?;
    // Written through at once, so that the file is as long as what arrived.
    receiver.args(["--zmodem", "--binary", "--overwrite", "--quiet", "--o-sync"]);
    let mut receiver = receiver.current_dir(&folder).spawn().context("rz does not start")?;
    let mut sender = at(&world.path("tty-signer"), "sz")?;
    sender.args(["--zmodem", "--binary", "--quiet", &file]);
    let mut sender = sender.spawn().context("sz does not start")?;
    let received = receiver.wait()?;
    let took = start.elapsed().as_secs_f64();
    let sent = sender.wait()?;
    world.stop()?;
    let arrived = fs::read(folder.join("content")).unwrap_or_default();
    check(&bytes, &arrived, received, sent)?;
    Ok(arrived.len() as f64 / took / LINE_RATE)
}

/// A transfer counts if it ended well or the time was up, and only for bytes that are right.
fn check(bytes: &[u8], arrived: &[u8], received: ExitStatus, sent: ExitStatus) -> Result<()> {
    let late = received.code() == Some(TIMED_OUT);
    ensure!(late || received.success(), "rz ended with {received}, sz with {sent}");
    ensure!(late || arrived.len() == bytes.len(), "rz ended well with {} bytes", arrived.len());
    ensure!(bytes.starts_with(arrived), "zmodem delivered other bytes than were sent");
    Ok(())
}

/// A program with a device as its terminal and an end that comes by itself.
fn at(device: &Path, program: &str) -> Result<Command> {
    let open = || -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
        options.open(device).with_context(|| device.display().to_string())
    };
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "timeout", "--foreground", &LIMIT_S.to_string(), program]);
    command.stdin(open()?).stdout(open()?).stderr(Stdio::null());
    Ok(command)
}
