//! CRLs of every scope, from the signer's files to the mirror, with the real programs.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Cable, World, process::Process, story, world::COMMAND_MAX};

#[test]
fn delta_and_shards_are_mirrored_and_everybody_says_how_long_they_last() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let profile = world.authority("issuing", "profiles/server.toml");
        let text = fs::read_to_string(&profile)?;
        let urls = "[extensions]\ncrl_urls = [\"http://crl.example.org/issuing-{shard}.crl\"]";
        fs::write(&profile, text.replace("[extensions]", urls))?;
        let config = world.authority("issuing", "authority.toml");
        let lines =
            "\ndelta = true\ndelta_urls = [\"http://crl.example.org/delta.crl\"]\nshards = 4\n";
        fs::write(&config, fs::read_to_string(&config)? + lines)?;
        world.start()?;
        let certificate = world.issued("bad")?;
        let serial = world.serial_of(&certificate)?;
        // The number of the shard is the end of the serial.
        let shard = u32::from_str_radix(&serial[serial.len() - 1..], 16)? % 4;
        let named = world.openssl(&["x509", "-in", &certificate, "-noout", "-text"])?.text();
        let uri = format!("URI:http://crl.example.org/issuing-{shard}.crl");
        ensure!(named.contains(&uri), "{named}");

        let words = ["revoke", "--authority", "issuing", "--cert", &certificate, "--wait", "60"];
        world.frontend(&words)?.done()?;
        let shard_option = shard.to_string();
        let crls = [
            (vec![], "issuing.crl", "X509v3 Freshest CRL"),
            (vec!["--delta"], "issuing.delta.crl", "X509v3 Delta CRL Indicator: critical"),
            (vec!["--shard", &shard_option], "", &uri),
        ];
        for (options, file, words) in &crls {
            let text = listing(world, options, &serial)?;
            ensure!(text.contains(words), "no {words} in {text}");
            let published = world.path("frontend").join("crl").join(file);
            ensure!(file.is_empty() || published.exists(), "{}", published.display());
        }

        // The signer's own view of the same.
        let shown = world.signer_json(&["crl", "show", "issuing"])?;
        let scopes: Vec<_> = rows(&shown)?.iter().map(|crl| crl["scope"].clone()).collect();
        ensure!(
            scopes == ["full", "delta", "shard-00", "shard-01", "shard-02", "shard-03"],
            "{shown}"
        );
        let full = &rows(&shown)?[0];
        ensure!(full["entries"] == 1 && full["runway_hours"].as_f64() > Some(167.0), "{full}");
        let file = full["file"].as_str().context("a file")?;
        let ours =
            world.openssl(&["crl", "-inform", "DER", "-in", file, "-noout", "-crlnumber"])?;
        let number = format!("crlNumber=0x{:02X}", full["number"].as_u64().context("a number")?);
        ensure!(ours.text().trim() == number, "{} {full}", ours.text());
        let mirrored = world.frontend_json(&["crl", "issuing"])?;
        ensure!(mirrored["sha256"] == full["sha256"], "{mirrored} {full}");
        let next = world.signer_json(&["crl", "next", "issuing"])?;
        ensure!(next["entries"] == 1 && next["takes_in"] == Value::Array(vec![]), "{next}");

        // For a monitor: by exit code, and in words that it can read.
        let runway = world.frontend_json(&["crl", "--runway", "issuing"])?;
        ensure!(runway["ok"] == true && rows(&runway)?.len() == 6, "{runway}");
        let long = ["crl", "--runway", "--min-hours", "1000", "issuing"];
        let ended = world.frontend(&long)?.with_code(3)?;
        ensure!(ended.stderr.contains("issuing.shard-03"), "{}", ended.stderr);
        ensure!(ended.text().matches("TOO SHORT").count() == 6, "{}", ended.text());
        world.stop()?;
        world.signer(&["store", "check"])?.done().map(drop)
    });
}

// Invariant I7 across a restored backup: the mirror keeps the newer CRL, says what to do, and what
// it says helps.
#[test]
fn a_signer_restored_from_a_backup_cannot_take_the_mirror_back() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start_signer()?;
        world.start_frontend(&[])?;
        let certificate = world.issued("bad")?;
        let serial = world.serial_of(&certificate)?;
        world.running_signer()?.stop(COMMAND_MAX)?;
        let (store, backup) = (world.file("signer"), world.file("backup"));
        copy(&["-a", &store, &backup])?;
        world.start_signer()?;
        let words = ["revoke", "--authority", "issuing", "--cert", &certificate, "--wait", "60"];
        world.frontend(&words)?.done()?;
        listing(world, &[], &serial)?;
        let held = world.frontend_json(&["crl", "issuing"])?;
        world.running_signer()?.stop(COMMAND_MAX)?;

        fs::remove_dir_all(&store)?;
        copy(&["-a", &backup, &store])?;
        world.start_signer()?;
        let alarm = until_alarm(world)?;
        ensure!(alarm.contains("raise its crlnumber"), "{alarm}");
        ensure!(
            world.frontend_json(&["crl", "issuing"])?["sha256"] == held["sha256"],
            "taken back"
        );

        // As hsm-docs/daily.md says: raise the number, revoke again.
        let number = held["number"].as_u64().context("a number")? + 1;
        fs::write(world.authority("issuing", "crlnumber"), format!("{number:08X}\n"))?;
        let again = ["revoke", "--authority", "issuing", "--serial", &serial, "--no-precheck"];
        world.frontend(&[&again[..], &["--wait", "60"]].concat())?.done()?;
        listing(world, &[], &serial)?;
        let now = world.frontend_json(&["crl", "issuing"])?;
        ensure!(now["number"].as_u64() >= Some(number), "{now}");
        // Whether its audit log had gone on between the last look at it and the backup is chance.
        world.frontend(&["audit", "accept"])?.done()?;
        let status = world.frontend_json(&["status"])?;
        ensure!(status["alarms"] == Value::Array(vec![]), "{status}");
        Ok(())
    });
}

fn rows(value: &Value) -> Result<&Vec<Value>> {
    value["crls"].as_array().with_context(|| format!("no CRLs in {value}"))
}

fn copy(words: &[&str]) -> Result<()> {
    Process::run("cp".as_ref(), words, &[], None, COMMAND_MAX)?.done().map(drop)
}

/// The text of a mirrored CRL once it lists this serial.
fn listing(world: &World, options: &[&str], serial: &str) -> Result<String> {
    let file = world.file("mirrored.crl");
    let words = [&["crl", "issuing", "--out", &file][..], options].concat();
    let entry = format!("Serial Number: {serial}");
    world.once(|| {
        if world.frontend(&words)?.done().is_err() {
            return Ok(None);
        }
        let text = world.openssl(&["crl", "-in", &file, "-noout", "-text"])?.text();
        Ok(text.contains(&entry).then_some(text))
    })
}

/// The alarm about the CRL, once there is one.
fn until_alarm(world: &World) -> Result<String> {
    world.once(|| {
        let status = world.frontend_json(&["status"])?;
        let alarms = status["alarms"].as_array().context("alarms")?;
        let found = alarms.iter().find(|alarm| alarm["scope"] == "crl/issuing");
        Ok(found.and_then(|alarm| alarm["text"].as_str()).map(str::to_owned))
    })
}
