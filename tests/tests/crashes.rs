//! `kill -9` at any moment, and answers that got lost: each request has exactly one outcome.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{Cable, Seed, World, batch::Batch, material::good_certifications, story};

const REQUESTS: usize = 50;
const REVOCATIONS: usize = 4;
const KILLS: usize = 10;
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A victim that writes nothing for so long has nothing left to do.
const QUIET_MAX: Duration = Duration::from_secs(3);
const SIGNER: &str = "Test Signer <signer@example.org>";
const PERSON: &str = "Alice Äpfel <alice@example.org>";

#[test]
fn kill_nine_of_the_signer_at_any_moment_leaves_one_outcome_per_request() {
    let name = "kill_nine_of_the_signer_at_any_moment";
    story(Cable::line(), |world| {
        killed_again_and_again(world, &mut Seed::from_environment(0x51), name, |world, lines| {
            if world.running_signer()?.wait_for_more(lines, QUIET_MAX)? {
                world.kill_and_restart_signer()?;
            }
            Ok(())
        })
    });
}

#[test]
fn kill_nine_of_the_frontend_at_any_moment_leaves_one_outcome_per_request() {
    let name = "kill_nine_of_the_frontend_at_any_moment";
    story(Cable::line(), |world| {
        killed_again_and_again(world, &mut Seed::from_environment(0xf0), name, |world, lines| {
            if world.running_frontend()?.wait_for_more(lines, QUIET_MAX)? {
                world.kill_and_restart_frontend()?;
            }
            Ok(())
        })
    });
}

// The process that sees the wire holds nothing: its death costs time.
#[test]
fn kill_nine_of_the_gate_at_any_moment_leaves_one_outcome_per_request() {
    let name = "kill_nine_of_the_gate_at_any_moment";
    story(Cable::line(), |world| {
        killed_again_and_again(world, &mut Seed::from_environment(0x6a), name, |world, lines| {
            if world.running_signer()?.wait_for_more(lines, QUIET_MAX)? {
                let signer = world.running_signer()?.id();
                let children =
                    fs::read_to_string(format!("/proc/{signer}/task/{signer}/children"))?;
                for child in children.split_whitespace() {
                    // It may have died of an earlier kill.
                    let _ = kill(Pid::from_raw(child.parse()?), Signal::SIGKILL);
                }
            }
            Ok(())
        })
    });
}

/// The moments follow from the seed and from the machine: a kill comes when the victim has
/// written so many more lines.
fn killed_again_and_again(
    world: &mut World,
    seed: &mut Seed,
    name: &str,
    kill: impl Fn(&mut World, usize) -> Result<()>,
) -> Result<()> {
    world.found("ec:P-256")?;
    world.signer(&["openpgp", "create", "--uid", SIGNER])?.done()?;
    let first = Batch::queue(world, REVOCATIONS)?;
    world.start_wire()?;
    world.start_signer()?;
    world.run_until_idle(IDLE_MAX)?;

    let mut batch = Batch::queue(world, REQUESTS)?;
    let revoked = revoke_all(world, &first)?;
    let key = world.openpgp_key("person", &[PERSON])?;
    let certification = world.queue(&["certify", "--key", &key, "--uid", PERSON])?;
    batch.join(first);
    world.start_frontend(&[])?;
    let mut killed = || -> Result<()> {
        for _ in 0..KILLS {
            let lines = usize::try_from(1 + seed.below(12))?;
            kill(world, lines)?;
        }
        world.run_until_idle(IDLE_MAX)?;
        world.stop()?;
        world.signer(&["store", "check"])?.done()?;
        batch.assert_issued_once_each(world)?;
        assert_revoked_once_each(world, &revoked)?;
        assert_certified(world, &certification)
    };
    killed().with_context(|| seed.replay(name))
}

fn revoke_all(world: &World, batch: &Batch) -> Result<BTreeSet<String>> {
    let mut serials = BTreeSet::new();
    for id in batch.ids() {
        let status = world.frontend_json(&["status", id])?;
        let serial = status["serial"].as_str().context("a done request has a serial")?;
        world.queue(&["revoke", "--authority", "issuing", "--serial", serial])?;
        serials.insert(serial.to_owned());
    }
    Ok(serials)
}

fn assert_revoked_once_each(world: &World, serials: &BTreeSet<String>) -> Result<()> {
    let index = fs::read_to_string(world.authority("issuing", "index.txt"))?;
    let revoked = index.lines().filter(|line| line.starts_with("R\t"));
    let revoked: Vec<&str> = revoked.filter_map(|line| line.split('\t').nth(3)).collect();
    ensure!(revoked.len() == serials.len(), "revoked are {revoked:?}, asked for were {serials:?}");
    let crl = world.file("final.crl");
    world.frontend(&["crl", "issuing", "--out", &crl])?.done()?;
    let text = world.openssl(&["crl", "-in", &crl, "-noout", "-text"])?.text();
    for serial in serials {
        ensure!(revoked.contains(&serial.as_str()), "{serial} is not in the index");
        let entries = text.matches(&format!("Serial Number: {serial}")).count();
        ensure!(entries == 1, "{serial} has {entries} entries in the CRL");
    }
    Ok(())
}

fn assert_certified(world: &World, id: &str) -> Result<()> {
    let file = world.file("certified.asc");
    world.frontend(&["get", id, "--out", &file])?.done()?;
    world.import_signers_openpgp_key()?;
    world.gpg(&["--import", &file])?;
    let listing = world.gpg(&["--with-colons", "--check-sigs", &format!("={PERSON}")])?;
    let names = good_certifications(&listing, SIGNER);
    ensure!(names == [PERSON], "certified are {names:?}\n{listing}");
    Ok(())
}

// Lesson: an acknowledgement lost after signing leads to the same certificate again.
#[test]
fn an_answer_lost_on_the_cable_is_given_again_and_not_signed_again() {
    story(Cable::line(), |world| {
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 1)?;
        world.start()?;
        // The answer takes 50 ms on the line: it is cut while under way.
        world.running_signer()?.wait_for("issued", Duration::from_secs(30))?;
        world.cut()?;
        world.running_frontend()?.kill()?;
        world.running_signer()?.kill()?;
        world.plug()?;
        world.start_signer()?;
        world.run_until_idle(IDLE_MAX)?;
        world.stop()?;
        batch.assert_issued_once_each(world)
    });
}
