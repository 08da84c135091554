//! Many revocations as one piece of work: a list, one CRL, one report.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Bare, Cable, World, story};

/// As many as a community CA once had in a day.
const MANY: usize = 1_128;

// Lesson: 1,128 revocations make one CRL.
#[test]
fn a_list_of_1128_serials_becomes_one_crl_that_lists_them_all() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start_signer()?;
        let serials = issue_many(world, MANY)?;
        world.start_frontend(&[])?;
        let file = world.issued("file")?;
        // The CRL that shows this one is the last before the list.
        let before = world.issued("before")?;
        let words = ["revoke", "--authority", "issuing", "--cert", &before, "--wait"];
        world.frontend(&words)?.done()?;
        let number = crl_number(world)?;

        let mut list = String::from("# found in the dump of the first of May\n");
        serials.iter().for_each(|serial| list.push_str(&format!("issuing {serial}\n")));
        list.push_str(&format!("{file} superseded\n"));
        let list = world.write("list", list)?;
        let words = ["revoke", "--list", &list, "--reason", "keyCompromise"];
        let dry = world.frontend_json(&[&words[..], &["--dry-run"]].concat())?;
        ensure!(dry["queued"] == MANY + 1 && dry["dry_run"] == true, "{}", counts(&dry));
        ensure!(queued(world)? == 0, "a dry run queued something");

        let report = world.frontend_json(&[&words[..], &["--wait", "100"]].concat())?;
        for key in ["certificates", "queued", "revoked", "published"] {
            ensure!(report[key] == MANY + 1, "{key}: {}", counts(&report));
        }
        ensure!(crl_number(world)? == number + 1, "{number}, then {}", crl_number(world)?);
        let crl = world.file("issuing.crl");
        world.frontend(&["crl", "issuing", "--out", &crl])?.done()?;
        let text = world.openssl(&["crl", "-in", &crl, "-noout", "-text"])?.text();
        let listed: BTreeSet<&str> =
            text.lines().filter_map(|line| line.trim().strip_prefix("Serial Number: ")).collect();
        ensure!(listed.len() == MANY + 2, "{} entries", listed.len());
        ensure!(serials.iter().all(|serial| listed.contains(serial.as_str())), "one is missing");
        let reasons = |name: &str| text.matches(name).count();
        ensure!((reasons("Key Compromise"), reasons("Superseded")) == (MANY, 1), "other reasons");

        // The same list again: nothing is queued, and there is nothing to wait for.
        let again = world.frontend_json(&[&words[..], &["--wait", "100"]].concat())?;
        ensure!(again["queued"] == 0 && again["already_revoked"] == MANY + 1, "{}", counts(&again));
        ensure!(crl_number(world)? == number + 1, "the second run made a CRL");
        world.stop()?;
        world.signer(&["store", "check"])?.done().map(drop)
    });
}

// Checked before anything is queued: a person with a long list must not end up half-way.
#[test]
fn a_bad_line_is_told_by_its_number_and_nothing_is_queued() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let good = world.issued("good")?;
        let root = world.authority("root", "ca.crt");
        let cases = [
            (format!("{good}\nissuing XYZ\n"), 4, "line 2 of "),
            (format!("{good}\n\nnowhere 01\n"), 2, "refused (authority-unknown): line 3 of "),
            (format!("{good}\n01\n"), 4, "line 2 of "),
            (format!("{good}\nissuing {root}\n"), 2, "refused (serial-unknown): line 2 of "),
            (format!("{good}\n{good} keyCompromise\n"), 4, "line 2 of "),
        ];
        for (list, code, told) in cases {
            let words = ["revoke", "--list", "-", "--wait", "60"];
            let ended = world.frontend_fed(&words, list.as_bytes())?.with_code(code)?;
            let sentence = ended.stderr.trim_end();
            ensure!(sentence.contains(told) && sentence.lines().count() == 1, "{sentence}");
            ensure!(queued(world)? == 0, "something was queued for {list}");
        }
        Ok(())
    });
}

#[test]
fn what_the_signer_refuses_is_reported_by_its_line_and_the_rest_is_revoked() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let good = world.issued("good")?;
        let serial = world.serial_of(&good)?;
        let never = "0123456789ABCDEF0123456789ABCDEF";
        let list = format!("# the first is none of ours\n{never}\n{serial} # ours\n");
        let words = ["revoke", "--list", "-", "--authority", "issuing", "--wait", "--json"];
        let ended = world.frontend_fed(&words, list.as_bytes())?.with_code(2)?;
        ensure!(ended.stderr.contains("1 of 2"), "{}", ended.stderr);
        let report: Value = serde_json::from_slice(&ended.stdout)?;
        ensure!(report["revoked"] == 1 && report["published"] == 1, "{report}");
        let refused = &report["entries"][0];
        ensure!(refused["line"] == 2 && refused["state"] == "refused", "{refused}");
        ensure!(refused["refusal"]["code"] == "serial-unknown", "{refused}");
        world.crl_with("issuing", &serial)?;

        // For people: one line for each refusal, and the counts above it.
        let words = ["revoke", "--list", "-", "--authority", "issuing", "--wait"];
        let ended = world.frontend_fed(&words, list.as_bytes())?.with_code(2)?;
        let text = ended.text();
        let told = text.lines().any(|line| line.starts_with("line 2: issuing 0123"));
        ensure!(told && text.contains("serial-unknown"), "{text}");
        ensure!(text.contains("1  revoked before"), "{text}");
        Ok(())
    });
}

/// Has so many certificates issued; their serials, as `index.txt` writes them.
fn issue_many(world: &World, count: usize) -> Result<Vec<String>> {
    let csr = world.csr("many", "ec:P-256", "/CN=many.example.org")?;
    let csr = world.openssl(&["req", "-in", &csr, "-outform", "DER"])?.stdout;
    let mut bare = Bare::connect_to(world, 0x1128)?;
    let requests = (0..count)
        .map(|number| bare.issue(&csr, &format!("host-{number}.example.org")))
        .collect::<Result<Vec<_>>>()?;
    let flood = bare.flood(requests, 64)?;
    ensure!(flood.issued == count, "{flood:?}");
    let index = fs::read_to_string(world.authority("issuing", "index.txt"))?;
    let serials = index.lines().filter_map(|line| line.split('\t').nth(3)).map(str::to_owned);
    Ok(serials.collect())
}

/// The number of the newest CRL that the signer made.
fn crl_number(world: &World) -> Result<u64> {
    let numbers = fs::read_dir(world.authority("issuing", "crl"))?
        .filter_map(|file| file.ok()?.path().file_stem()?.to_str()?.parse::<u64>().ok());
    Ok(numbers.max().unwrap_or(0))
}

/// How many requests wait.
fn queued(world: &World) -> Result<u64> {
    let requests = &world.frontend_json(&["status"])?["requests"];
    let count = |state: &str| requests[state].as_u64().context("a count");
    Ok(count("queued")? + count("sent")? + count("held")?)
}

/// A report without its entries.
fn counts(report: &Value) -> Value {
    let mut counts = report.clone();
    counts["entries"] = Value::Null;
    counts
}
