//! Pairing as persons do it: what is typed, what is said to the wrong one, and that a new pairing
//! needs no restart.

use std::{fs, io::ErrorKind, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use protocol::secure::Pairing;
use tests::{Bare, Cable, World, batch::Batch, story};

const SOON: Duration = Duration::from_secs(30);

/// Stores at both ends that were never paired.
fn unpaired(world: &World) -> Result<()> {
    world.signer(&["init"])?.done()?;
    let root = ["authority", "create", "issuing", "--subject", "/CN=Test", "--key", "ec:P-256"];
    world.signer(&[&root[..], &["--unattended-root"]].concat())?.done()?;
    world.frontend(&["init"])?.done().map(drop)
}

/// The key that `pair --show` prints at this side.
fn key_of(world: &World, side: &str) -> Result<String> {
    let shown = match side {
        "signer" => world.signer_json(&["pair", "--show"])?,
        _ => world.frontend_json(&["pair", "--show"])?,
    };
    Ok(shown[side]["key"].as_str().context("a key is shown")?.to_owned())
}

#[test]
fn an_unpaired_side_talks_to_nobody_and_says_what_to_type() {
    story(Cable::Unix, |world| {
        unpaired(world)?;
        let link = world.frontend_link();
        let sides = [
            (world.signer(&["run", "--link", &link])?, "signer pair --peer KEY"),
            (world.frontend(&["run", "--link", &link])?, "frontend pair --peer KEY"),
        ];
        for (ended, words) in sides {
            let ended = ended.with_code(4)?;
            ensure!(ended.stderr.lines().count() == 1, "{}", ended.stderr);
            ensure!(ended.stderr.contains(words), "{}", ended.stderr);
        }
        ensure!(!world.path("link.sock").exists(), "an unpaired signer opened the cable");
        let said = world.signer(&["status"])?.done()?.text();
        ensure!(said.contains("paired with  nobody: see `signer pair --show`"), "{said}");
        let said = world.frontend(&["status"])?.done()?.text();
        ensure!(said.contains("paired with   nobody: see `frontend pair --show`"), "{said}");
        ensure!(world.signer_json(&["status"])?["paired_with"].is_null());
        ensure!(world.frontend_json(&["status"])?["paired_with"].is_null());

        world.pair()?;
        let shown = world.signer_json(&["pair"])?;
        ensure!(world.signer_json(&["status"])?["paired_with"] == shown["frontend"]["fingerprint"]);
        let shown_there = world.frontend_json(&["pair"])?;
        ensure!(shown == shown_there, "both ends show the same two keys: {shown} {shown_there}");
        world.start()?;
        let batch = Batch::queue(world, 1)?;
        world.run_until_idle(SOON)?;
        batch.assert_issued_once_each(world)?;
        world.stop().map(drop)
    });
}

#[test]
fn a_slip_of_the_finger_is_one_sentence_and_changes_nothing() {
    story(Cable::Unix, |world| {
        unpaired(world)?;
        world.pair()?;
        let peer = fs::read(world.path("signer/link/peer"))?;
        let [own, theirs] = [key_of(world, "signer")?, key_of(world, "frontend")?];
        let other = if theirs.starts_with('0') { "1" } else { "0" };
        let mistyped = format!("{other}{}", &theirs[1..]);
        for (typed, words) in [
            (mistyped.as_str(), "checksum is wrong"),
            (&theirs[5..], "56 letters"),
            (&format!("u{}", &theirs[1..]), "no key has a 'u', which stands at place 1"),
            (&own, "own key"),
        ] {
            let ended = world.signer(&["pair", "--peer", typed, "--replace"])?.with_code(4)?;
            ensure!(ended.stderr.lines().count() == 1, "{}", ended.stderr);
            ensure!(ended.stderr.contains(words), "{}", ended.stderr);
        }
        // A key that is good, but not asked to replace the one that is there.
        let stranger = Pairing::both(7).0.secret.public().to_string();
        let ended = world.signer(&["pair", "--peer", &stranger])?.with_code(4)?;
        ensure!(ended.stderr.contains("--replace"), "{}", ended.stderr);
        let ended = world.frontend(&["pair", "--peer", &stranger])?.with_code(4)?;
        ensure!(ended.stderr.contains("--replace"), "{}", ended.stderr);
        ensure!(fs::read(world.path("signer/link/peer"))? == peer);
        Ok(())
    });
}

#[test]
fn a_stranger_gets_no_word_in_and_both_ends_say_so() {
    story(Cable::Unix, |world| {
        unpaired(world)?;
        world.pair()?;
        world.start_signer()?;
        // It knows the signer's key, as everybody may, and has none that the signer knows.
        let peer = key_of(world, "signer")?.parse()?;
        let stranger = Pairing { secret: Pairing::both(7).0.secret, peer };
        let Err(error) = Bare::connect(&world.frontend_link(), stranger, 1) else {
            bail!("a stranger was let in")
        };
        ensure!(format!("{error:#}").contains("does not know our key"), "{error:#}");
        let said = "the other side's key is not the paired one: compare fingerprints";
        world.running_signer()?.wait_for(said, SOON)?;
        let status = world.signer(&["status"])?.done()?.text();
        ensure!(!status.contains("link         up"), "{status}");
        // The paired one is let in after it.
        world.start_frontend(&[])?;
        world.running_frontend()?.wait_for("link up", SOON)?;
        world.stop().map(drop)
    });
}

#[test]
fn a_new_pairing_takes_effect_while_both_sides_run() {
    story(Cable::Unix, |world| {
        unpaired(world)?;
        world.pair()?;
        world.start()?;
        world.running_frontend()?.wait_for("link up", SOON)?;
        // The webdb gets another key, as a new machine has one.
        fs::remove_file(world.path("frontend/link/secret"))?;
        let key = key_of(world, "frontend")?;
        world.running_frontend()?.wait_for("the other side does not know our key", SOON)?;
        world.once(|| {
            let shown = world.frontend_json(&["status"])?;
            let alarm = shown["alarms"][0]["text"].as_str().unwrap_or_default();
            let is_told = alarm.contains("no session with a signer");
            Ok((is_told && shown["link"]["state"] == "down").then_some(()))
        })?;
        world.signer(&["pair", "--peer", &key, "--replace"])?.done()?;
        world.running_signer()?.wait_for("the pairing changed", SOON)?;
        let batch = Batch::queue(world, 3)?;
        world.run_until_idle(Duration::from_secs(60))?;
        batch.assert_issued_once_each(world)?;
        let shown = world.frontend_json(&["status"])?;
        ensure!(shown["alarms"].as_array().is_some_and(Vec::is_empty), "{shown}");
        world.stop().map(drop)
    });
}

/// The programs below `parent`, by what the system says of them.
fn children(parent: u32) -> Vec<u32> {
    let task = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(task).unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

#[test]
fn the_gate_keeps_no_file_with_the_secret_open() {
    story(Cable::Unix, |world| {
        unpaired(world)?;
        world.pair()?;
        world.start()?;
        world.running_frontend()?.wait_for("link up", SOON)?;
        let vault = world.running_signer()?.id();
        let gate = children(vault);
        ensure!(gate.len() == 1, "the vault has one child: {gate:?}");
        let intake = children(gate[0]);
        let secret = world.path("signer/link/secret").canonicalize()?;
        for process in [vault, gate[0]].into_iter().chain(intake) {
            let files = match fs::read_dir(format!("/proc/{process}/fd")) {
                Ok(files) => files,
                // They forbid everybody to look, but root.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    ensure!(!nix::unistd::geteuid().is_root(), "{error}");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let open: Vec<PathBuf> =
                files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).collect();
            ensure!(open.len() >= 3, "{process} has {open:?}");
            ensure!(!open.contains(&secret), "{process} has {open:?}");
        }
        world.stop().map(drop)
    });
}
