//! What scripts rely on: exit codes, JSON, and one sentence on standard error.

use anyhow::{Result, ensure};
use tests::{Cable, World, story};

#[test]
fn every_command_ends_with_the_code_that_scripts_rely_on() {
    story(Cable::Unix, |world| {
        let refused = |ended: tests::Ended, code: i32| -> Result<()> {
            let ended = ended.with_code(code)?;
            let lines = ended.stderr.lines().count();
            ensure!(lines >= 1, "`{}` does not say why", ended.command);
            Ok(())
        };
        // 3: there is no store yet.
        refused(world.signer(&["status"])?, 3)?;
        refused(world.frontend(&["status"])?, 3)?;
        // 4: the command makes no sense.
        refused(world.signer(&["no-such-command"])?, 4)?;
        refused(world.frontend(&["no-such-command"])?, 4)?;
        refused(world.frontend(&["run", "--link", "carrier-pigeon:"])?, 4)?;
        world.found("ec:P-256")?;
        refused(world.signer(&["init"])?, 4)?;
        refused(world.signer(&["run", "--link", "carrier-pigeon:"])?, 4)?;
        let twice = ["authority", "create", "root", "--subject", "/CN=Two", "--key", "ec:P-256"];
        refused(world.signer(&twice)?, 4)?;

        // 5: it waits, and says so.
        let csr = world.csr("www", "ec:P-256", "/CN=www.example.org")?;
        let words = ["request", "--authority", "issuing", "--profile", "server", "--csr", &csr];
        let words = [&words[..], &["--san", "dns:www.example.org"]].concat();
        refused(world.frontend(&[&words[..], &["--wait", "1"]].concat())?, 5)?;
        let id = world.queue(&words)?;
        refused(world.frontend(&["get", &id])?, 5)?;

        // 0, and JSON where something is read.
        let status = world.frontend_json(&["status", &id])?;
        ensure!(status["state"] == "queued" && status["id"] == id.as_str(), "{status}");
        world.start()?;
        world.complete(&words)?;
        for words in [&["status"][..], &["time"], &["catalogue"]] {
            ensure!(world.frontend_json(words)?.is_object(), "frontend {words:?} --json");
        }
        for words in [&["status"][..], &["time"]] {
            ensure!(world.signer_json(words)?.is_object(), "signer {words:?} --json");
        }
        Ok(())
    });
}

#[test]
fn a_csr_can_come_on_standard_input_and_the_answer_go_to_standard_output() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let csr = std::fs::read(world.csr("www", "ec:P-256", "/CN=www.example.org")?)?;
        let words = ["request", "--authority", "issuing", "--profile", "server", "--csr", "-"];
        let options = ["--san", "dns:www.example.org", "--wait", "60", "--json"];
        let asked = world.frontend_fed(&[&words[..], &options].concat(), &csr)?.done()?;
        let id = tests::world::id_in(&asked)?;
        let pem = world.frontend(&["get", &id])?.done()?.stdout;
        let subject = subject(world, &pem)?;
        ensure!(subject.contains("www.example.org"), "{subject}");
        Ok(())
    });
}

fn subject(world: &World, pem: &[u8]) -> Result<String> {
    let file = world.write("shown.pem", pem)?;
    Ok(world.openssl(&["x509", "-in", &file, "-noout", "-subject"])?.text())
}
