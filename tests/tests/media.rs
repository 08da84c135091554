//! A signer without any cable: requests and answers are files on a medium.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Cable, Ended, World, batch::Batch, material::good_certifications, story};

const SIGNER: &str = "Test Signer <signer@example.org>";
const ALICE: &str = "Alice <alice@example.org>";

#[test]
fn fifty_certificates_five_revocations_and_an_openpgp_key_travel_on_a_medium() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.signer(&["openpgp", "create", "--uid", SIGNER])?.done()?;
        // Nothing is known yet but the paired key: catalogue and CRLs come with the first answers.
        let batch = Batch::queue(world, 50)?;
        let key = world.openpgp_key("alice", &[ALICE])?;
        let words = ["certify", "--authority", "openpgp", "--key", &key, "--uid", ALICE];
        let certify = world.queue(&words)?;
        let exported = export(world, "requests-1")?;
        ensure!(exported["requests"] == 51 && exported["bundle"] == 1, "{exported}");
        let answered = answer(world, "requests-1", "answers-1")?;
        ensure!(answered["issued"] == 50 && answered["certified"] == 1, "{answered}");
        ensure!(answered["unanswered"] == 0 && answered["refused"] == 0, "{answered}");
        let imported = import(world, "answers-1")?;
        ensure!(imported["done"] == 51 && imported["waiting"] == 0, "{imported}");
        ensure!(notes(&imported).is_empty() && notes(&answered).is_empty(), "{imported}");
        batch.assert_issued_once_each(world)?;
        judge_certificates(world, &batch)?;
        judge_openpgp(world, &certify)?;

        // The second trip: five of them are revoked, and the CRL shows it.
        let serials: Vec<String> =
            batch.ids().take(5).map(|id| serial(world, id)).collect::<Result<_>>()?;
        for serial in &serials {
            let words = ["revoke", "--authority", "issuing", "--serial", serial];
            world.queue(&[&words[..], &["--reason", "superseded"]].concat())?;
        }
        let exported = export(world, "requests-2")?;
        ensure!(exported["revocations"] == 5 && exported["acknowledged"] == 51, "{exported}");
        let answered = answer(world, "requests-2", "answers-2")?;
        ensure!(answered["revoked"] == 5, "{answered}");
        let imported = import(world, "answers-2")?;
        ensure!(imported["done"] == 5, "{imported}");
        judge_crl(world, &serials)?;
        // What was acknowledged on the second trip is so at the signer, and not said again.
        let exported = export(world, "requests-3")?;
        ensure!(exported["acknowledged"] == 5, "{exported}");
        world.signer(&["store", "check"])?.done().map(drop)
    });
}

#[test]
fn lost_doubled_and_old_bundles_lead_to_one_outcome_for_each_request() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let mut batch = Batch::queue(world, 3)?;
        // The first stick is forgotten in a drawer; the second has everything that it had.
        export(world, "forgotten")?;
        batch.join(Batch::queue(world, 2)?);
        let exported = export(world, "second")?;
        ensure!(exported["requests"] == 5 && exported["bundle"] == 2, "{exported}");
        answer(world, "second", "answers-a")?;
        // The answers get lost: the same bundle is answered again, by the same certificates.
        let again = answer(world, "second", "answers-b")?;
        ensure!(again["again"] == true && again["issued"] == 5, "{again}");
        ensure!(again["answers"] == 2, "{again}");
        // Found again, the forgotten stick is old.
        let told = refused(world.signer(&[
            "bundle",
            "answer",
            &file(world, "forgotten"),
            &file(world, "no"),
        ])?)?;
        ensure!(told.contains("bundle 1 is old: bundle 2 was answered"), "{told}");
        import(world, "answers-b")?;
        batch.assert_issued_once_each(world)?;
        // What comes twice or late at this end does nothing either.
        let told = refused(world.frontend(&["bundle", "import", &file(world, "answers-b")])?)?;
        ensure!(told.contains("answers number 2 were taken in"), "{told}");
        let told = refused(world.frontend(&["bundle", "import", &file(world, "answers-a")])?)?;
        ensure!(told.contains("answers number 1 are old"), "{told}");
        batch.assert_issued_once_each(world)
    });
}

#[test]
fn a_bundle_that_is_damaged_cut_off_foreign_or_misdirected_changes_nothing() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        Batch::queue(world, 1)?;
        export(world, "good")?;
        let good = fs::read(world.path("good"))?;
        let before = world.signer_json(&["status"])?;
        let refuse = |name: &str, bytes: &[u8], part: &str| -> Result<()> {
            fs::write(world.path(name), bytes)?;
            let words = ["bundle", "answer", &file(world, name), &file(world, "no")];
            let told = refused(world.signer(&words)?)?;
            ensure!(told.contains(part), "{name}: {told}");
            Ok(())
        };
        for (name, offset) in [("head", 20), ("middle", good.len() / 2), ("end", good.len() - 1)] {
            let mut bad = good.clone();
            bad[offset] ^= 1;
            let part = if name == "head" { "paired side did not write" } else { "damaged" };
            refuse(name, &bad, part)?;
        }
        refuse("cut", &good[..good.len() - 7], "it was cut off")?;
        refuse("picture", b"\x89PNG\r\n\x1a\n and so on", "it is no bundle")?;
        let told = refused(world.frontend(&["bundle", "import", &file(world, "good")])?)?;
        ensure!(told.contains("it holds requests, and answers are expected"), "{told}");
        // A frontend that is paired with nobody here: the signer would not know it.
        let other = World::new(Cable::Unix)?;
        other.found("ec:P-256")?;
        export(&other, "stranger")?;
        refuse("stranger", &fs::read(other.path("stranger"))?, "another pairing")?;
        let after = world.signer_json(&["status"])?;
        ensure!(before["issued"] == after["issued"], "{before} became {after}");
        ensure!(!world.path("no").exists() && !world.path("no.unfinished").exists());
        // And the good one still counts.
        answer(world, "good", "answers")?;
        import(world, "answers").map(drop)
    });
}

#[test]
fn a_medium_that_is_full_leaves_no_bundle_behind() {
    story(Cable::Unix, |world| {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "this story mounts a small medium, for which it must be run as root"
        );
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 40)?;
        export(world, "requests")?;
        fs::create_dir(world.path("medium"))?;
        let (medium, signer) = (file(world, "medium"), world.program("signer"));
        let script = format!(
            "mount -t tmpfs -o size=16k none {medium} || exit 99\n\
             {signer} --dir {} bundle answer {} {medium}/answers\n\
             code=$?; ls -A {medium}; exit $code",
            file(world, "signer"),
            file(world, "requests")
        );
        let ended = world.tool("unshare", &["--mount", "sh", "-c", &script])?.with_code(3)?;
        ensure!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
        ensure!(ended.text().trim().is_empty(), "this stayed behind: {}", ended.text());
        // Nothing that was there is written over.
        let words = ["bundle", "export", &file(world, "requests")];
        let told = world.frontend(&words)?.with_code(4)?.stderr;
        ensure!(told.contains("nothing is written over"), "{told}");
        // All of it was decided; on a larger medium it is answered by the same certificates.
        let answered = answer(world, "requests", "answers")?;
        ensure!(answered["again"] == true && answered["issued"] == 40, "{answered}");
        import(world, "answers")?;
        batch.assert_issued_once_each(world)
    });
}

#[test]
fn a_running_program_and_a_bundle_never_work_on_one_store_at_once() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        Batch::queue(world, 1)?;
        export(world, "requests")?;
        world.start()?;
        // Up at both ends: so both hold their stores.
        world.running_frontend()?.wait_for("link up", std::time::Duration::from_secs(30))?;
        let words = ["bundle", "answer", &file(world, "requests"), &file(world, "answers")];
        let told = world.signer(&words)?.with_code(4)?.stderr;
        ensure!(told.contains("another signer works on"), "{told}");
        let told = world.frontend(&["bundle", "export", &file(world, "more")])?.with_code(3)?;
        ensure!(told.stderr.contains("another `frontend run` works on"), "{}", told.stderr);
        world.stop().map(drop)
    });
}

// What a stranger wrote is vetted by the worker here as well: it cannot break more than itself.
#[test]
fn a_bad_request_in_a_bundle_is_refused_and_the_others_are_served() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let bad = world.path("bad.csr");
        fs::File::create(&bad)?.write_all(b"\x30\x82\xff\xff nonsense")?;
        let bad = bad.display().to_string();
        let words = ["request", "--authority", "issuing", "--profile", "server", "--csr", &bad];
        let id = world.queue(&[&words[..], &["--no-precheck"]].concat())?;
        let batch = Batch::queue(world, 2)?;
        export(world, "requests")?;
        let answered = answer(world, "requests", "answers")?;
        ensure!(answered["issued"] == 2 && answered["refused"] == 1, "{answered}");
        let imported = import(world, "answers")?;
        ensure!(imported["done"] == 2 && imported["refused"] == 1, "{imported}");
        let status = world.frontend_json(&["status", &id])?;
        ensure!(status["refusal"]["code"] == "csr-malformed", "{status}");
        batch.assert_issued_once_each(world)
    });
}

// A webdb from an old backup writes numbers that were used before; the sentence says how to go on.
#[test]
fn a_frontend_from_an_old_backup_goes_on_above_its_old_numbers() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let backup = world.path("frontend-backup");
        copy(&world.path("frontend"), &backup)?;
        Batch::queue(world, 1)?;
        export(world, "requests")?;
        answer(world, "requests", "answers")?;
        fs::remove_dir_all(world.path("frontend"))?;
        fs::rename(&backup, world.path("frontend"))?;
        let batch = Batch::queue(world, 1)?;
        export(world, "again")?;
        let words = ["bundle", "answer", &file(world, "again"), &file(world, "no")];
        let told = refused(world.signer(&words)?)?;
        ensure!(told.contains("`frontend bundle export --after 1`"), "{told}");
        let words = ["bundle", "export", "--after", "1", &file(world, "above")];
        world.frontend(&words)?.done()?;
        answer(world, "above", "answers-above")?;
        import(world, "answers-above")?;
        ensure!(
            world.frontend_json(&["status", batch.ids().next().context("one")?])?["state"]
                == "done"
        );
        Ok(())
    });
}

//------------ What is typed -------------------------------------------------

fn export(world: &World, name: &str) -> Result<Value> {
    world.frontend_json(&["bundle", "export", &file(world, name)])
}

fn answer(world: &World, from: &str, to: &str) -> Result<Value> {
    world.signer_json(&["bundle", "answer", &file(world, from), &file(world, to)])
}

fn import(world: &World, name: &str) -> Result<Value> {
    world.frontend_json(&["bundle", "import", &file(world, name)])
}

fn file(world: &World, name: &str) -> String {
    world.file(name)
}

/// The one sentence of a refusal.
fn refused(ended: Ended) -> Result<String> {
    let told = ended.with_code(2)?.stderr;
    let sentences: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("signer: ") || line.starts_with("frontend: "))
        .collect();
    ensure!(sentences.len() == 1, "not one sentence: {told}");
    Ok(sentences[0].to_owned())
}

fn notes(report: &Value) -> Vec<Value> {
    report["notes"].as_array().cloned().unwrap_or_default()
}

fn serial(world: &World, id: &str) -> Result<String> {
    let status = world.frontend_json(&["status", id])?;
    Ok(status["serial"].as_str().context("a done request has a serial")?.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy(&entry.path(), &target)?,
            kind if kind.is_file() => drop(fs::copy(entry.path(), target)?),
            _ => {}
        }
    }
    Ok(())
}

//------------ What others say -----------------------------------------------

fn judge_certificates(world: &World, batch: &Batch) -> Result<()> {
    let (issuing, root) = (world.authority("issuing", "ca.crt"), world.authority("root", "ca.crt"));
    for id in batch.ids() {
        let certificate = world.file(&format!("{id}.pem"));
        world.frontend(&["get", id, "--out", &certificate])?.done()?;
        let chain = ["-CAfile", &root, "-untrusted", &issuing, &certificate];
        world.openssl(&[&["verify", "-x509_strict"][..], &chain].concat())?;
    }
    Ok(())
}

fn judge_openpgp(world: &World, id: &str) -> Result<()> {
    let certified = world.file("certified.asc");
    world.frontend(&["get", id, "--out", &certified])?.done()?;
    world.import_signers_openpgp_key()?;
    world.gpg(&["--import", &certified])?;
    let listing = world.gpg(&["--with-colons", "--check-sigs", &format!("={ALICE}")])?;
    let names = good_certifications(&listing, SIGNER);
    ensure!(names == [ALICE], "certified are {names:?}\n{listing}");
    Ok(())
}

fn judge_crl(world: &World, serials: &[String]) -> Result<()> {
    let crl = world.file("issuing.crl");
    world.frontend(&["crl", "issuing", "--out", &crl])?.done()?;
    let authority = world.authority("issuing", "ca.crt");
    let judged =
        world.openssl(&["crl", "-in", &crl, "-noout", "-verify", "-CAfile", &authority])?;
    ensure!(judged.stderr.contains("verify OK"), "{}", judged.stderr);
    let text = world.openssl(&["crl", "-in", &crl, "-noout", "-text"])?.text();
    for serial in serials {
        ensure!(text.contains(&format!("Serial Number: {serial}")), "{serial}: {text}");
    }
    let listed = text.matches("Serial Number: ").count();
    ensure!(listed == serials.len(), "{listed} are listed");
    Ok(())
}
