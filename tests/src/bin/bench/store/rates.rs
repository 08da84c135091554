//! Certificates per second without a line limit: both programs, and the signer alone.

use std::{fs, thread};

use anyhow::{Context, Result, anyhow, ensure};
use tests::{Bare, Cable, World};

use super::{Done, IDLE_MAX, speed};
use crate::{
    csrs::{Csrs, cores},
    figures::{Figures, median},
    report::Target,
};

/// CSRs with a key of their own; requests take them in turn.
const KEYS: usize = 200;
/// Requests under way at once when the signer is asked alone.
pub(super) const WINDOW: usize = 192;
/// Runs of which the median counts.
const RUNS: usize = 3;

pub(super) fn measure(requests: usize, figures: &mut Figures, done: &mut Done) -> Result<()> {
    eprintln!("bench: RSA-4096 issuer, RSA-2048 CSRs, both programs over a unix socket");
    let csrs = Csrs::make(KEYS)?;
    let run = || end_to_end("rsa:4096", &csrs, requests, done);
    let rsa = speed::beside(speed::rsa4096, RUNS, run)?;
    let what = "certificates/s, RSA-4096, both programs";
    figures.add("rsa4096_end_to_end_per_s", rsa.rate, "/s", what);
    let what = "  as a share of openssl speed on all cores at once";
    let target = Target::AtLeast(0.9);
    let share = rsa.of_all_cores;
    figures.promised("rsa4096_share_of_all_cores_at_once", share, "", what, target);
    let what = "  as a share of cores × openssl speed on one of them";
    figures.add("rsa4096_share_of_cores_times_speed", rsa.of_one_times_cores, "", what);

    eprintln!("bench: P-256 issuer, P-256 CSRs");
    done.keep(csrs.world);
    let csrs = Csrs::make_of(KEYS, "ec:P-256")?;
    let run = || signer_alone(&csrs, 5 * requests, done);
    let signer = speed::beside(speed::p256, RUNS, run)?;
    let target = Target::AtLeast(5000.0);
    let what = "certificates/s, P-256, the signer alone";
    figures.promised("p256_signer_per_s", signer.rate, "/s", what, target);
    let what = "  as a share of openssl speed on all cores; verifications leave 0.15 at most";
    figures.add("p256_share_of_all_cores_at_once", signer.of_all_cores, "", what);
    let rate = |_| end_to_end("ec:P-256", &csrs, requests, done);
    let both = median((0..RUNS).map(rate).collect::<Result<_>>()?);
    done.keep(csrs.world);
    figures.add("p256_end_to_end_per_s", both, "/s", "  both programs");
    Ok(())
}

/// Queues the requests, then runs both programs: from the first request sent to the last
/// certificate stored, by the frontend's own notes.
fn end_to_end(key: &str, csrs: &Csrs, requests: usize, done: &mut Done) -> Result<f64> {
    let mut world = World::new(Cable::Unix)?;
    world.found(key)?;
    // It waits for its signer and holds the queue open: else each of the thousands of programs that
    // queue would make and delete the queue's side files, and ext4 without a journal looks at every
    // inode deleted within a minute whenever the signer makes a file.
    world.start_frontend(&[])?;
    let ids = queue(&world, csrs, requests)?;
    world.stop()?;
    world.start_signer()?;
    world.run_until_idle(IDLE_MAX)?;
    world.stop()?;
    let time = |id: &str, name: &str| -> Result<f64> {
        let status = world.frontend_json(&["status", id])?;
        ensure!(status["state"] == "done", "{status}");
        status[name].as_f64().with_context(|| format!("{name} of {status}"))
    };
    let index = fs::read_to_string(world.authority("issuing", "index.txt"))?;
    let status = || world.frontend(&["status"]).map(|ended| ended.text()).unwrap_or_default();
    let lines = index.lines().count();
    ensure!(lines == requests, "{lines} certificates of {requests}: {}", status());
    let (first, last) = (ids.iter().take(EDGE), ids.iter().rev().take(EDGE));
    let start = first.map(|id| time(id, "sent_us")).collect::<Result<Vec<_>>>()?;
    let end = last.map(|id| time(id, "finished_us")).collect::<Result<Vec<_>>>()?;
    let start = start.into_iter().fold(f64::INFINITY, f64::min);
    let end = end.into_iter().fold(0.0, f64::max);
    done.keep(world);
    Ok(requests as f64 * 1e6 / (end - start))
}

/// As many requests at either end of the queue are asked for their times.
const EDGE: usize = 64;

/// Queues requests on all cores; their ids in about the order in which they were queued.
fn queue(world: &World, csrs: &Csrs, requests: usize) -> Result<Vec<String>> {
    let cores = cores();
    let mut ids = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                scope.spawn(move || {
                    let numbers = (core..requests).step_by(cores);
                    let one = |number: usize| {
                        let (file, name) = &csrs.files[number % csrs.files.len()];
                        world.queue(&Csrs::request(file, name))
                    };
                    numbers.map(one).collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Vec<String>>>| {
            thread.join().map_err(|_| anyhow!("queueing panicked"))?
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?
    .concat();
    // A UUID of version 7 begins with its time.
    ids.sort();
    Ok(ids)
}

/// Requests prepared beforehand, the frontend's own work not counted.
fn signer_alone(csrs: &Csrs, requests: usize, done: &mut Done) -> Result<f64> {
    let mut world = World::new(Cable::Unix)?;
    world.found("ec:P-256")?;
    world.start_signer()?;
    let mut bare = Bare::connect_to(&world, 0xa10e)?;
    let ders = csrs.ders()?;
    let prepared = (0..requests)
        .map(|number| {
            let (csr, host) = &ders[number % ders.len()];
            bare.issue(csr, host)
        })
        .collect::<Result<Vec<_>>>()?;
    let flood = bare.flood(prepared, WINDOW)?;
    ensure!(flood.issued == requests, "{} requests were refused", flood.others);
    drop(bare);
    world.stop()?;
    done.keep(world);
    Ok(requests as f64 / flood.took.as_secs_f64())
}
