//! OpenPGP: exactly the user IDs that were verified are certified, and gpg agrees.

use anyhow::{Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{Cable, World, material::good_certifications, process::below, story};

const SIGNER: &str = "Test Signer <signer@example.org>";
const ALICE: &str = "Alice Äpfel <alice@example.org>";
const UNVERIFIED: &str = "Somebody Else <else@example.org>";

#[test]
fn an_openpgp_key_comes_back_certified_for_the_named_user_id_only() {
    story(Cable::line(), |world| {
        let key = found(world)?;
        let ended = world.frontend(&[
            "certify", "--key", &key, "--uid", ALICE, "--days", "365", "--wait", "60", "--json",
        ])?;
        let id = tests::world::id_in(&ended.done()?)?;
        let certified = world.file("certified.asc");
        world.frontend(&["get", &id, "--out", &certified])?.done()?;
        world.import_signers_openpgp_key()?;
        world.gpg(&["--import", &certified])?;
        let listing = world.gpg(&["--with-colons", "--check-sigs", &format!("={ALICE}")])?;
        let names = good_certifications(&listing, SIGNER);
        ensure!(names == [ALICE], "certified are {names:?}\n{listing}");
        Ok(())
    });
}

#[test]
fn a_key_at_which_the_worker_hangs_is_set_aside_and_the_next_is_served() {
    story(Cable::Unix, |world| {
        let key = found(world)?;
        let words = ["certify", "--key", &key, "--uid", ALICE, "--renew", "--wait", "60", "--json"];
        world.frontend(&words)?.done()?;
        // The key is good: that the worker stands still is the test's doing.
        let workers = below(world.running_signer()?.id(), "intake");
        ensure!(workers.len() == 1, "workers: {workers:?}");
        kill(Pid::from_raw(workers[0].try_into()?), Signal::SIGSTOP)?;
        let ended = world.frontend(&words)?;
        let id = tests::world::id_in(&ended)?;
        let is_told = ended.stderr.contains("refused (quarantined)");
        ensure!(ended.code == Some(2) && is_told, "{}", ended.stderr);
        let status = world.frontend_json(&["status", &id])?;
        ensure!(status["state"] == "quarantined", "{status}");

        world.frontend(&words)?.done()?;
        ensure!(!below(world.running_signer()?.id(), "intake").contains(&workers[0]));
        Ok(())
    });
}

#[test]
fn a_user_id_that_is_not_in_the_key_is_refused() {
    story(Cable::Unix, |world| {
        let key = found(world)?;
        let code =
            world.refusal(&["certify", "--key", &key, "--uid", "Nobody <no@example.org>"])?;
        ensure!(code == "openpgp-user-id", "the code is {code}");
        Ok(())
    });
}

#[test]
fn a_key_without_a_named_user_id_is_refused() {
    story(Cable::Unix, |world| {
        let key = found(world)?;
        world.frontend(&["certify", "--key", &key, "--wait", "60"])?.with_code(2)?;
        Ok(())
    });
}

#[test]
fn secret_key_material_is_refused_and_does_not_stay_at_the_frontend() {
    story(Cable::Unix, |world| {
        found(world)?;
        let secret = world.file("secret.asc");
        world.gpg(&[
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            "--armor",
            "--output",
            &secret,
            "--export-secret-keys",
            &format!("={ALICE}"),
        ])?;
        let ended = world
            .frontend(&["certify", "--key", &secret, "--uid", ALICE, "--wait", "60"])?
            .with_code(2)?;
        ensure!(ended.stderr.contains("secret"), "{}", ended.stderr);
        Ok(())
    });
}

/// A running world with a signer that has an OpenPGP key, and a person's key with two user IDs.
fn found(world: &mut World) -> Result<String> {
    world.found("ec:P-256")?;
    world.signer(&["openpgp", "create", "--uid", SIGNER])?.done()?;
    world.start()?;
    world.openpgp_key("alice", &[ALICE, UNVERIFIED])
}
