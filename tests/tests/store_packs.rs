//! Old copies in packs: found wherever they are, and exported byte for byte.

use std::{env, fs};

use anyhow::{Context, Result, ensure};
use tests::{Cable, Ended, Process, World, story, world::START_MAX};

/// `openssl ca` in an authority's directory.
fn ca(world: &World, authority: &str, words: &[&str]) -> Result<Ended> {
    let folder = world.authority(authority, "");
    let start = ["-C", &folder, "openssl", "ca", "-config", "openssl.cnf", "-batch"];
    world.tool("env", &[&start[..], words].concat())
}

/// A certificate that `openssl ca` issues, with its text in front of the stored copy; its serial.
fn by_hand(world: &World, name: &str, more: &[&str]) -> Result<String> {
    let csr = world.csr(name, "ec:P-256", &format!("/O=By hand/CN={name}.example.org"))?;
    let out = world.file(&format!("{name}.pem"));
    let words = ["-in", &csr, "-out", &out];
    ca(world, "issuing", &[&words[..], more].concat())?.done()?;
    world.serial_of(&out)
}

const OLD: [&str; 4] = ["-startdate", "20200101000000Z", "-enddate", "20400101000000Z"];

#[test]
fn a_packed_certificate_is_found_by_serial_by_file_and_by_name_and_exported_byte_for_byte() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let old = by_hand(world, "old", &OLD)?;
        let young = by_hand(world, "young", &[])?;
        let copy = world.authority("issuing", &format!("newcerts/{old}.pem"));
        let written = fs::read(&copy)?;
        ensure!(written.starts_with(b"Certificate:"), "openssl puts its text in front");
        world.signer(&["crl", "sign", "issuing"])?.done()?;
        world.signer(&["store", "rebuild"])?.done()?; // takes the two in, as a start does

        let index = fs::read(world.authority("issuing", "index.txt"))?;
        let told = world.signer(&["store", "pack", "issuing"])?.done()?.text();
        ensure!(told == "issuing: 1 copies packed, 1 packs written\n", "{told}");
        ensure!(!fs::exists(&copy)?, "the file is in the pack");

        let file = world.file("old.pem");
        let by_name = ["store", "find", "--subject", "CN=old.example", "--authority", "issuing"];
        for words in [&["store", "find", &old][..], &["store", "find", "--cert", &file], &by_name] {
            let found = world.signer_json(words)?;
            ensure!(found.as_array().is_some_and(|found| found.len() == 1), "{found}");
            let one = &found[0];
            ensure!(one["authority"] == "issuing" && one["status"] == "V", "{one}");
            ensure!(one["in_pack"] == true && one["index_line"] == 1, "{one}");
            ensure!(one["in_crl"] == false && one["copy_fault"].is_null(), "{one}");
            let pack = world.authority("issuing", "newcerts/packs/000001.pack");
            ensure!(one["copy"] == pack.as_str(), "{one}");
        }
        let text = world.signer(&["store", "find", &young])?.done()?.text();
        ensure!(text.contains(&format!("newcerts/{young}.pem")), "{text}");
        let printed = world.signer(&["store", "find", &old, "--copy"])?.done()?.stdout;
        ensure!(printed == written, "the copy is printed as it was");
        let unknown = world.signer(&["store", "find", "4D"])?.with_code(3)?.stderr;
        ensure!(unknown.contains("no certificate has serial 4D"), "{unknown}");

        let target = world.file("export");
        let words = ["store", "export", &target, "--authority", "issuing"];
        let told = world.signer(&words)?.done()?.text();
        ensure!(told.contains("2 copies written") && told.contains("without its key"), "{told}");
        let exported = |name: &str| format!("{target}/issuing/{name}");
        ensure!(fs::read(exported(&format!("newcerts/{old}.pem")))? == written);
        ensure!(fs::read(exported("index.txt"))? == index, "as openssl wrote it");
        ensure!(!fs::exists(exported("private/ca.key"))?);
        let again = world.signer(&words)?.with_code(4)?.stderr;
        ensure!(again.contains("is there already; name another directory"), "{again}");

        // With its key it is a CA that openssl goes on with.
        let whole = world.file("whole");
        let words = ["store", "export", &whole, "--authority", "issuing", "--with-keys"];
        world.signer(&words)?.done()?;
        let folder = format!("{whole}/issuing");
        let copy = format!("newcerts/{old}.pem");
        let start = ["-C", &folder, "openssl", "ca", "-config", "openssl.cnf", "-batch"];
        world.tool("env", &[&start[..], &["-revoke", &copy]].concat())?.done()?;
        let index = fs::read_to_string(format!("{folder}/index.txt"))?;
        ensure!(index.lines().filter(|line| line.starts_with("R\t")).count() == 1, "{index}");
        world.signer(&["store", "check"])?.done()?;
        Ok(())
    });
}

/// A CRL in words.
fn shown(world: &World, form: &str, path: &str) -> Result<String> {
    let words = ["crl", "-inform", form, "-in", path, "-noout", "-text"];
    Ok(world.openssl(&words)?.text())
}

fn number_in(text: &str) -> Result<u64> {
    let (_, after) = text.split_once("CRL Number:").context("a CRL number")?;
    Ok(after.split_whitespace().next().context("a number")?.parse()?)
}

// The marks of the lines, by openssl's own words and by ours.
fn both_agree(world: &World, serial: &str, letter: &str) -> Result<()> {
    // `ca -status` ends with 1 whatever it finds.
    let told = ca(world, "issuing", &["-status", serial])?.stderr;
    ensure!(
        told.contains(&format!("{serial}=")) && told.contains(&format!("({letter})")),
        "{told}"
    );
    let found = world.signer_json(&["store", "find", serial])?;
    ensure!(found[0]["status"] == letter, "{found}");
    Ok(())
}

/// Waits until the ledger of the running signer has these marks.
fn until_each_is(world: &mut World, serials: &[String], letters: [&str; 6]) -> Result<()> {
    let program = env::current_exe()?;
    let programs = program.ancestors().nth(2).context("the folder of the programs")?;
    let (signer, store) = (programs.join("signer"), world.file("signer"));
    world.running_signer()?.until(START_MAX, || {
        for (serial, letter) in serials.iter().zip(letters) {
            let words = ["--dir", &store, "--json", "store", "find", serial];
            let found = Process::run(&signer, words, &[], None, START_MAX)?;
            let status = format!("\"status\":\"{letter}\"");
            if found.code != Some(0) || !found.text().contains(&status) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

#[test]
fn what_openssl_ca_issues_revokes_expires_and_lists_beside_a_running_signer_is_taken_in() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start_signer()?;
        world.running_signer()?.wait_for("signer runs", START_MAX)?;
        let mut serials = Vec::new();
        for name in ["valid", "plain", "reason", "moment", "superior"] {
            serials.push(by_hand(world, name, &[])?);
        }
        let gone = ["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"];
        serials.push(by_hand(world, "expired", &gone)?);
        // The running signer takes them in, though nobody asks it for anything.
        until_each_is(world, &serials, ["V"; 6])?;

        let revoke = |world: &World, name: &str, more: &[&str]| -> Result<()> {
            let file = world.file(&format!("{name}.pem"));
            ca(world, "issuing", &[&["-revoke", &file][..], more].concat())?.done()?;
            Ok(())
        };
        revoke(world, "plain", &[])?;
        revoke(world, "reason", &["-crl_reason", "superseded"])?;
        revoke(world, "moment", &["-crl_compromise", "20250102030405Z"])?;
        revoke(world, "superior", &["-crl_CA_compromise", "20250102030405Z"])?;
        ca(world, "issuing", &["-updatedb"])?.done()?;
        until_each_is(world, &serials, ["V", "R", "R", "R", "R", "E"])?;
        let index = fs::read_to_string(world.authority("issuing", "index.txt"))?;
        ca(world, "issuing", &["-gencrl", "-out", &world.file("by-hand.crl")])?.done()?;
        let by_hand = number_in(&shown(world, "PEM", &world.file("by-hand.crl"))?)?;
        world.stop()?;

        // Every mark is in the ledger, and the index is as openssl left it.
        world.start_signer()?;
        world.running_signer()?.wait_for("signer runs", START_MAX)?;
        world.stop()?;
        world.signer(&["store", "check"])?.done()?;
        ensure!(fs::read_to_string(world.authority("issuing", "index.txt"))? == index, "{index}");
        for (serial, letter) in serials.iter().zip(["V", "R", "R", "R", "R", "E"]) {
            both_agree(world, serial, letter)?;
        }
        let reason = |at: usize| -> Result<serde_json::Value> {
            Ok(world.signer_json(&["store", "find", &serials[at]])?[0]["reason"].clone())
        };
        ensure!(reason(1)?.is_null() && reason(2)? == "superseded");
        ensure!(reason(3)? == "keyTime,20250102030405Z", "{}", reason(3)?);
        ensure!(reason(4)? == "CAkeyTime,20250102030405Z", "{}", reason(4)?);

        // Our CRL has them all, and a number above openssl's.
        world.signer(&["crl", "sign", "issuing"])?.done()?;
        let text = shown(world, "DER", &world.authority("issuing", "crl/current.crl"))?;
        ensure!(number_in(&text)? > by_hand, "{text}");
        for serial in &serials[1..5] {
            ensure!(text.contains(&format!("Serial Number: {serial}")), "{text}");
        }
        // And openssl goes on counting where we are.
        let next = self::by_hand(world, "next", &[])?;
        ensure!(!serials.contains(&next));
        world.signer(&["store", "rebuild"])?.done()?;
        both_agree(world, &next, "V")
    });
}

// No signer runs, so only the command itself can know what `openssl ca` did a moment ago.
#[test]
fn revocation_at_the_console_knows_what_openssl_ca_did_and_leaves_its_crl_number_to_it() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let issued = by_hand(world, "issued", &[])?;
        let (crl, ours) =
            (world.file("by-hand.crl"), world.authority("issuing", "crl/current.crl"));
        ca(world, "issuing", &["-gencrl", "-out", &crl])?.done()?;
        let theirs = number_in(&shown(world, "PEM", &crl)?)?;
        let file = world.file("issued.pem");
        world.signer(&["revoke", "--authority", "issuing", "--cert", &file])?.done()?;
        let text = shown(world, "DER", &ours)?;
        ensure!(number_in(&text)? == theirs + 1, "{text}");
        ensure!(text.contains(&format!("Serial Number: {issued}")), "{text}");

        // The same where keys are looked for; and its JSON is one line.
        let weak = by_hand(world, "weak", &[])?;
        ca(world, "issuing", &["-gencrl", "-out", &crl])?.done()?;
        let theirs = number_in(&shown(world, "PEM", &crl)?)?;
        let file = world.file("weak.pem");
        let words = ["revoke", "--weak-keys", &file, "--authority", "issuing", "--json"];
        let told = world.signer(&words)?.done()?.text();
        ensure!(told.lines().count() == 1, "{told}");
        let report: serde_json::Value = serde_json::from_str(&told)?;
        ensure!(report["certificates"][0]["serial"] == weak.as_str(), "{report}");
        ensure!(report["revoked"] == 1 && report["crls"][0]["number"] == theirs + 1, "{report}");
        ensure!(number_in(&shown(world, "DER", &ours)?)? == theirs + 1);

        // And where nothing but a CRL is signed.
        let gone = by_hand(world, "gone", &[])?;
        ca(world, "issuing", &["-revoke", &world.file("gone.pem")])?.done()?;
        world.signer(&["crl", "sign", "issuing"])?.done()?;
        let text = shown(world, "DER", &ours)?;
        for serial in [&issued, &weak, &gone] {
            ensure!(text.contains(&format!("Serial Number: {serial}")), "{text}");
        }
        world.signer(&["store", "rebuild"])?.done()?;
        world.signer(&["store", "check"])?.done()?;
        Ok(())
    });
}
