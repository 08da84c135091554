//! The audit log's way to the webdb with the real programs: byte for byte, over a cable that is
//! taken out and programs that are killed; and a signer whose log is another.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Cable, Process, Seed, World, batch::Batch, story};

const IDLE_MAX: Duration = Duration::from_secs(60);
const COPY_MAX: Duration = Duration::from_secs(20);

#[test]
fn the_copy_is_the_signers_log_byte_for_byte_and_sha256sum_agrees_with_its_chain() {
    story(Cable::line(), |world| {
        world.found("ec:P-256")?;
        let batch = Batch::queue(world, 20)?;
        world.start_wire()?;
        world.start_signer()?;
        world.run_until_idle(IDLE_MAX)?;
        world.stop()?;
        batch.assert_issued_once_each(world)?;
        let (theirs, ours) = (signers_log(world)?, book(world, 1)?);
        ensure!(theirs == ours, "{} bytes at the signer, {} here", theirs.len(), ours.len());
        let entries = ours.lines().count();

        let status = world.frontend_json(&["audit", "status"])?;
        ensure!(status["last"] == entries && status["alarms"] == Value::Array(vec![]), "{status}");
        let verified = world.frontend_json(&["audit", "verify"])?;
        ensure!(verified["ok"] == true && verified["head"] == status["head"], "{verified}");
        let exported = world.frontend(&["audit", "export"])?.done()?;
        ensure!(exported.stdout == ours.as_bytes(), "the export is another");
        let out = world.file("audit.jsonl");
        let some = world.frontend(&["audit", "export", "--from", "5", "--out", &out])?.done()?;
        ensure!(some.text().starts_with(&format!("{} entries", entries - 4)), "{}", some.text());

        // Another tool finds the same chain: each line names the hash of the one before it.
        let lines: Vec<&str> = ours.lines().collect();
        for (line, next) in lines.iter().zip(&lines[1..]) {
            let file = world.write("line", line)?;
            let hash = world.tool("sha256sum", &[&file])?.done()?.text();
            let hash = hash.split_whitespace().next().context("a hash")?;
            ensure!(next.contains(&format!("\"previous\":\"{hash}\"")), "{next}");
        }
        Ok(())
    });
}

#[test]
fn cuts_and_kills_in_mid_log_lose_and_double_nothing() {
    story(Cable::line(), |world| {
        world.found("ec:P-256")?;
        grow_log(world, &mut Seed::from_environment(0xa0d1))?;
        let whole = signers_log(world)?.len() as u64;
        world.start()?;
        let path = book_path(world, 1);
        let here = || fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let mut seen = 0;
        for accident in 0..6 {
            let before = here();
            ensure!(before >= seen, "what was stored went away");
            let grown = world.once(|| {
                let _ = world.frontend(&["status"]);
                Ok((here() > before).then_some(()))
            });
            grown.with_context(|| format!("the log stands still at {before}"))?;
            seen = here();
            match accident % 3 {
                0 => {
                    world.cut()?;
                    world.frontend_json(&["status"])?; // takes a moment
                    world.plug()?;
                }
                1 => world.kill_and_restart_frontend()?,
                _ => world.kill_and_restart_signer()?,
            }
        }
        ensure!(seen < whole, "the log was too short for this story: {seen} of {whole}");
        world.run_until_idle(IDLE_MAX)?;
        while here() < signers_log(world)?.len() as u64 {
            // A run waits only a moment for the log; the next one goes on where it stopped.
            let before = here();
            world.run_until_idle(IDLE_MAX)?;
            ensure!(here() > before, "the log stands still at {before}");
        }
        world.stop()?;
        ensure!(signers_log(world)? == book(world, 1)?, "the copy is another");
        world.frontend(&["audit", "verify"])?.done()?;
        let status = world.frontend_json(&["audit", "status"])?;
        ensure!(status["alarms"] == Value::Array(vec![]), "{status}");
        Ok(())
    });
}

// Invariant I12: truncation shows against the peer's remembered head.
#[test]
fn a_signer_restored_from_a_backup_is_told_by_its_audit_log() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        round(world, 3)?;
        let (store, backup) = (world.file("signer"), world.file("backup"));
        copy(&["-a", &store, &backup])?;
        round(world, 4)?;
        let lost = signers_log(world)?;
        ensure!(book(world, 1)? == lost, "the copy was whole");

        fs::remove_dir_all(&store)?;
        copy(&["-a", &backup, &store])?;
        round(world, 9)?;
        let alarm = audit_alarm(world)?.context("the restored backup was not noticed")?;
        ensure!(alarm.contains("not the one that was remembered"), "{alarm}");
        // Both are kept, and what the signer lost is here.
        ensure!(book(world, 1)? == lost, "the first book was changed");
        let status = world.frontend_json(&["audit", "status"])?;
        ensure!(status["books"].as_array().map(Vec::len) == Some(2), "{status}");
        world.frontend(&["audit", "verify"])?.done()?;
        ensure!(exported(world, &["--book", "1"])? == lost, "book 1");
        ensure!(exported(world, &[])? == signers_log(world)?, "the book that goes on");

        // The alarm outlives everything but a person.
        round(world, 1)?;
        ensure!(audit_alarm(world)?.as_ref() == Some(&alarm), "the alarm changed");
        world.frontend(&["audit", "accept"])?.done()?;
        round(world, 1)?;
        ensure!(audit_alarm(world)?.is_none(), "the alarm came back");
        ensure!(book(world, 1)? == lost, "the first book was changed");
        ensure!(exported(world, &[])? == signers_log(world)?, "it goes on");
        Ok(())
    });
}

#[test]
fn a_copy_that_was_changed_at_the_webdb_does_not_verify() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        round(world, 3)?;
        let whole = book(world, 1)?;
        // Which certificate's entry is the last is not known: two are signed at a time.
        let last = whole.trim_end().rfind('\n').context("entries")? + 1;
        for (at, told) in [
            (whole.find("host-").context("a name")?, "does not build on the entry before it"),
            (last + whole[last..].find("host-").context("a name")?, "was announced"),
        ] {
            let altered = format!("{}gh{}", &whole[..at], &whole[at + 2..]);
            fs::write(book_path(world, 1), altered)?;
            let ended = world.frontend(&["audit", "verify"])?.with_code(3)?;
            ensure!(ended.text().contains(told), "{}", ended.text());
        }
        fs::write(book_path(world, 1), whole)?;
        world.frontend(&["audit", "verify"])?.done().map(drop)
    });
}

/// So many certificates, and the log with them; then both programs stop.
fn round(world: &mut World, count: usize) -> Result<()> {
    Batch::queue(world, count)?;
    world.start_signer()?;
    world.run_until_idle(IDLE_MAX)?;
    world.stop().map(drop)
}

/// Adds entries at the signer's console, where keys are blocked with a reason: some ten seconds of
/// the line, each entry longer than a piece.
fn grow_log(world: &World, seed: &mut Seed) -> Result<()> {
    for key in 1..=12 {
        let fingerprint = format!("{key:064x}");
        let letter = || char::from(b'0' + u8::try_from(seed.below(74)).unwrap_or_default());
        let reason: String =
            std::iter::repeat_with(letter).filter(|c| *c != '\\').take(12_000).collect();
        let words = ["blocklist", "add", "--fingerprint", &fingerprint, "--reason", &reason];
        world.signer(&words)?.done()?;
    }
    Ok(())
}

fn signers_log(world: &World) -> Result<String> {
    Ok(fs::read_to_string(world.path("signer/audit/0000000001.log"))?)
}

fn book_path(world: &World, number: usize) -> PathBuf {
    world.path(&format!("frontend/audit/{number}/0000000001.log"))
}

fn book(world: &World, number: usize) -> Result<String> {
    Ok(fs::read_to_string(book_path(world, number))?)
}

fn exported(world: &World, words: &[&str]) -> Result<String> {
    let words = [&["audit", "export"], words].concat();
    Ok(String::from_utf8(world.frontend(&words)?.done()?.stdout)?)
}

fn audit_alarm(world: &World) -> Result<Option<String>> {
    let status = world.frontend_json(&["status"])?;
    let alarms = status["alarms"].as_array().context("alarms")?;
    let found = alarms.iter().find(|alarm| alarm["scope"] == "audit");
    Ok(found.and_then(|alarm| alarm["text"].as_str()).map(str::to_owned))
}

fn copy(words: &[&str]) -> Result<()> {
    Process::run("cp".as_ref(), words, &[], None, COPY_MAX)?.done().map(drop)
}
