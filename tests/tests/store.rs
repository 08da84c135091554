//! The signer's store: what stands in it, who may read it, and that it can be written again.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::{Result, ensure};
use tests::{Cable, World, batch::Batch, story};

const PASSPHRASE: &str = "correct horse battery staple";

#[test]
fn a_key_with_a_passphrase_is_useless_without_it_and_the_passphrase_is_in_no_log() {
    story(Cable::Unix, |world| {
        let passphrase = world.write("passphrase", format!("{PASSPHRASE}\n"))?;
        world.signer(&["init"])?.done()?;
        let root = ["authority", "create", "issuing", "--subject", "/CN=Test", "--key", "ec:P-256"];
        let options = ["--unattended-root", "--passphrase-file", &passphrase];
        world.signer(&[&root[..], &options].concat())?.done()?;
        world.frontend(&["init"])?.done()?;
        world.pair()?;

        let key = world.authority("issuing", "private/ca.key");
        let mode = fs::metadata(&key)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "the key's mode is {mode:o}");
        ensure!(fs::read_to_string(&key)?.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        world
            .tool("openssl", &["pkey", "-in", &key, "-passin", "pass:wrong", "-noout"])?
            .with_code(1)?;
        let file = format!("file:{passphrase}");
        world.openssl(&["pkey", "-in", &key, "-passin", &file, "-noout"])?;

        let link = world.frontend_link();
        world.signer(&["run", "--link", &link])?.with_code(4)?;
        world.start_signer_with(&["--passphrase-file", &passphrase])?;
        let batch = Batch::queue(world, 3)?;
        world.run_until_idle(Duration::from_secs(60))?;
        world.stop()?;
        batch.assert_issued_once_each(world)?;
        for log in ["signer.log", "frontend.log"] {
            let text = fs::read_to_string(world.path(log))?;
            ensure!(!text.contains(PASSPHRASE), "the passphrase is in {log}");
        }
        Ok(())
    });
}

#[test]
fn files_that_were_lost_are_found_missing_and_written_again_from_the_ledger() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 5)?;
        world.start_signer()?;
        world.run_until_idle(Duration::from_secs(60))?;
        world.stop()?;
        world.signer(&["store", "check"])?.done()?;

        fs::remove_file(world.authority("issuing", "index.txt"))?;
        fs::remove_dir_all(world.authority("issuing", "newcerts"))?;
        let found = world.signer(&["store", "check"])?;
        ensure!(found.code == Some(3), "the check ended with {:?}: {}", found.code, found.stderr);
        world.signer(&["store", "rebuild"])?.done()?;
        world.signer(&["store", "check"])?.done()?;
        batch.assert_issued_once_each(world)
    });
}

#[test]
fn what_a_person_issues_with_openssl_ca_is_adopted_and_can_be_revoked_over_the_cable() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let csr = world.csr("by-hand", "ec:P-256", "/CN=by-hand.example.org")?;
        let folder = world.authority("issuing", "");
        let ca = ["-C", &folder, "openssl", "ca", "-config", "openssl.cnf", "-batch", "-notext"];
        let certificate = world.file("by-hand.pem");
        world.tool("env", &[&ca[..], &["-in", &csr, "-out", &certificate]].concat())?.done()?;
        let serial = world.serial_of(&certificate)?;

        world.start()?;
        let words = ["revoke", "--authority", "issuing", "--serial", &serial];
        let options = ["--reason", "superseded", "--wait", "60"];
        world.frontend(&[&words[..], &options].concat())?.done()?;
        world.crl_with("issuing", &serial)?;
        world.stop()?;
        world.signer(&["store", "check"])?.done()?;
        let index = fs::read_to_string(world.authority("issuing", "index.txt"))?;
        let line = index.lines().find(|line| line.contains(&serial));
        ensure!(line.is_some_and(|line| line.starts_with("R\t")), "{index}");
        Ok(())
    });
}

#[test]
fn no_work_file_is_left_when_nothing_waits() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let before = files_below(world)?;
        let batch = Batch::queue(world, 20)?;
        world.start_signer()?;
        world.run_until_idle(Duration::from_secs(60))?;
        world.stop()?;
        batch.assert_issued_once_each(world)?;
        let grown = files_below(world)? - before;
        // One stored copy each; an audit segment, a state file and the time hint's two.
        ensure!(grown <= batch.count() + 8, "{grown} new files for {} requests", batch.count());
        Ok(())
    });
}

/// The files of the signer's store and of its authorities.
fn files_below(world: &World) -> Result<usize> {
    let found = world.tool("find", &[&world.file("signer"), "-type", "f"])?.done()?;
    Ok(found.text().lines().count())
}
