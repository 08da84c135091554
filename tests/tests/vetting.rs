//! Keys and forms that strangers send, over the real cable: weak keys, blocked keys, SPKACs, and
//! the weak ones among certificates that were issued before anybody knew.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::{Cable, World, story};

/// Published, with the Debian fault; its line in openssl-blacklist.
const DEBIAN_KEY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../signer/tests/data/weak-keys/debian-prng-2048.pem");
const DEBIAN_LINE: &str = "# from openssl-blacklist\n042dcb33f1f6f3ce9eee\n";

/// A CSR for this key, by the openssl command.
fn csr(world: &World, key: &str, host: &str) -> Result<String> {
    let out = world.file(&format!("{host}.csr"));
    let subject = format!("/CN={host}");
    world.openssl(&["req", "-new", "-key", key, "-subj", &subject, "-out", &out])?;
    Ok(out)
}

fn new_key(world: &World, name: &str) -> Result<String> {
    let out = world.file(name);
    let words = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &out];
    world.openssl(&words)?;
    Ok(out)
}

fn request<'a>(csr: &'a str, san: &'a str) -> Vec<&'a str> {
    vec!["request", "--authority", "issuing", "--profile", "server", "--csr", csr, "--san", san]
}

#[test]
fn a_key_of_the_debian_fault_is_refused_once_a_list_is_loaded_and_its_certificates_are_found() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let warnings = world.signer_json(&["status"])?["warnings"].to_string();
        ensure!(warnings.contains("no list of weak keys is loaded"), "{warnings}");
        world.start()?;
        let old = csr(world, DEBIAN_KEY, "old.example.org")?;
        world.complete(&request(&old, "dns:old.example.org"))?;
        let mine = new_key(world, "mine.key")?;
        let good = csr(world, &mine, "good.example.org")?;
        world.complete(&request(&good, "dns:good.example.org"))?;

        // While the signer runs.
        let list = world.write("blacklist.RSA-2048", DEBIAN_LINE)?;
        let imported = world.signer_json(&["blocklist", "import", &list])?;
        ensure!(imported["added"] == 1 && imported["entries"] == 1, "{imported}");
        let warnings = world.signer_json(&["status"])?["warnings"].to_string();
        ensure!(!warnings.contains("weak keys"), "{warnings}");
        let new = csr(world, DEBIAN_KEY, "new.example.org")?;
        let code = world.refusal(&request(&new, "dns:new.example.org"))?;
        ensure!(code == "key-blocked", "{code}");

        let dry = world.signer_json(&["revoke", "--weak-keys", "--dry-run"])?;
        // The two issued, and the issuing authority's own certificate below the root.
        ensure!(dry["looked_at"] == 3 && dry["weak"] == 1 && dry["revoked"] == 0, "{dry}");
        let found = &dry["certificates"][0];
        ensure!(found["subject"] == "/CN=old.example.org", "{found}");
        let why = found["why"].as_str().context("a reason is said")?;
        ensure!(why.contains("openssl-blacklist"), "{why}");
        let done = world.signer_json(&["revoke", "--weak-keys"])?;
        ensure!(done["weak"] == 1 && done["revoked"] == 1, "{done}");
        ensure!(done["crls"].as_array().is_some_and(|crls| crls.len() == 1), "{done}");
        let serial = found["serial"].as_str().context("a serial is said")?;
        // Signed at the rack; the frontend fetches it when it next asks.
        let crl = world.authority("issuing", "crl/current.crl");
        let words = ["crl", "-inform", "DER", "-in", &crl, "-noout", "-text"];
        let text = world.openssl(&words)?.text();
        ensure!(text.contains(&format!("Serial Number: {serial}")), "{text}");
        ensure!(text.matches("Key Compromise").count() == 1, "{text}");
        world.stop()?;
        world.signer(&["store", "check"])?.done().map(drop)
    });
}

#[test]
fn a_key_that_the_operator_blocks_is_refused_until_it_is_freed() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let key = new_key(world, "mine.key")?;
        let first = csr(world, &key, "a.example.org")?;
        // By the CSR itself: it holds the key.
        let words = ["blocklist", "add", &first, "--reason", "found on a paste site"];
        world.signer(&words)?.done()?;
        let code = world.refusal(&request(&first, "dns:a.example.org"))?;
        ensure!(code == "key-blocked", "{code}");
        let listed = world.signer_json(&["blocklist", "list"])?;
        let fingerprint = listed["blocked_keys"][0]["fingerprint"].as_str().context("one key")?;
        // As openssl says it.
        let public = world.file("public.der");
        world.openssl(&["pkey", "-in", &key, "-pubout", "-outform", "DER", "-out", &public])?;
        let said = world.openssl(&["dgst", "-sha256", "-r", &public])?.text();
        ensure!(said.starts_with(fingerprint), "{said} {fingerprint}");

        world.signer(&["blocklist", "remove", &key])?.done()?;
        let again = csr(world, &key, "b.example.org")?;
        world.complete(&request(&again, "dns:b.example.org"))?;
        world.stop().map(drop)
    });
}

#[test]
fn a_damaged_or_missing_list_is_told_in_one_sentence_and_changes_nothing() {
    story(Cable::Unix, |world| {
        world.signer(&["init"])?.done()?;
        let good = world.write("good", DEBIAN_LINE)?;
        world.signer(&["blocklist", "import", &good])?.done()?;
        let list = world.path("signer/blocklist/weak-keys.list");
        let before = fs::read(&list)?;
        let damaged = world.write("damaged", "042dcb33f1f6f3ce9eee\n042dcb33f1f6")?;
        let missing = world.file("missing");
        for (file, words) in [(&damaged, "line 2"), (&missing, "missing")] {
            let ended = world.signer(&["blocklist", "import", &good, file])?;
            ensure!(ended.code != Some(0), "{file} was taken");
            let lines: Vec<&str> = ended.stderr.lines().collect();
            ensure!(lines.len() == 1 && lines[0].contains(words), "{}", ended.stderr);
            ensure!(fs::read(&list)? == before, "{file} changed the list");
        }
        let shown = world.signer(&["blocklist", "show"])?.done()?.text();
        ensure!(shown.contains("1 weak keys are listed") && shown.contains("good"), "{shown}");
        Ok(())
    });
}
