//! OpenPGP at the signer's console, and what is asked again: keys are made, taken over and listed,
//! the revocation certificate is printed once, and a webdb that lost its memory still gets answers.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    Cable, Ended, World,
    openpgp::{GpgHome, find, run},
    story,
};

const AUTHORITY: &str = "Authority <ca@ca.example.org>";
const ALICE: &str = "Alice <alice@example.org>";

/// Certifies a file's user ID [`ALICE`] with further words; the whole state of the request.
fn certify(world: &World, key: &str, further: &[&str]) -> Result<Value> {
    let words = ["certify", "--key", key, "--uid", ALICE, "--wait", "60", "--json"];
    let id = tests::world::id_in(&world.frontend(&[&words[..], further].concat())?.done()?)?;
    world.frontend_json(&["status", &id])
}

/// How many days the certification of a request lasts.
fn days(status: &Value) -> Result<i64> {
    let one = &status["openpgp"]["certifications"][0];
    ensure!(status["state"] == "done" && one["state"] == "valid", "{status}");
    let second = |name: &str| -> Result<i64> {
        let text = one[name].as_str().with_context(|| format!("no {name} in {status}"))?;
        let said = run("date", &["-u", "-d", text, "+%s"], &[], None)?.done()?.text();
        Ok(said.trim().parse()?)
    };
    Ok((second("expires_at")? - second("certified_at")?) / 86_400)
}

/// A person's key in a folder of gpg's.
fn person(world: &World) -> Result<(GpgHome, String)> {
    let home = world.gpg_home("alice")?;
    let fingerprint = home.make(ALICE, "ed25519", "2y")?;
    home.gpg(&["--quick-add-key", &fingerprint, "cv25519", "encr", "2y"])?;
    Ok((home, fingerprint))
}

/// Everything runs, and a person's key, the file at the end, is certified for 300 days.
fn certified(world: &mut World) -> Result<(GpgHome, String, String)> {
    world.found("ec:P-256")?;
    world.signer(&["openpgp", "create", "--uid", AUTHORITY])?.done()?;
    world.start()?;
    let (home, fingerprint) = person(world)?;
    let key = world.write("alice.pgp", home.export(&fingerprint, None)?)?;
    ensure!(days(&certify(world, &key, &["--days", "300"])?)? == 300);
    Ok((home, fingerprint, key))
}

/// Takes the webdb's memory: a new one, as after a disk that was lost.
fn forget(world: &mut World) -> Result<()> {
    world.stop()?;
    fs::remove_dir_all(world.path("frontend"))?;
    world.frontend(&["init"])?.done()?;
    world.pair()?;
    world.start_signer()?;
    world.start_frontend(&[])
}

//------------ Asked again by a webdb that knows nothing ---------------------

#[test]
fn a_webdb_that_lost_its_memory_gets_fewer_days_where_more_were_certified_before() {
    story(Cable::Unix, |world| {
        let (_, _, key) = certified(world)?;
        forget(world)?;
        ensure!(days(&certify(world, &key, &["--days", "30"])?)? == 30);
        // And for the same it gets the same, which it never saw.
        forget(world)?;
        ensure!(days(&certify(world, &key, &["--days", "30"])?)? == 30);
        let listed = world.signer_json(&["openpgp", "list"])?;
        let made = listed["certifications"].as_array().map(Vec::len);
        ensure!(made == Some(2), "{listed}");
        Ok(())
    });
}

#[test]
fn a_webdb_that_lost_its_memory_gets_an_answer_for_a_key_that_its_owner_signed_anew() {
    story(Cable::Unix, |world| {
        let (home, fingerprint, _) = certified(world)?;

        // The end of the key is brought forward, which signs the user ID anew; gpg exports the
        // newest self-signature alone when it is asked for a clean key.
        home.gpg(&["--quick-set-expire", &fingerprint, "100d"])?;
        let clean = ["--export-options", "export-minimal", "--export", &fingerprint];
        let anew = home.fed(&clean, None)?.done()?.stdout;
        let key = world.write("anew.pgp", &anew)?;
        forget(world)?;
        let shorter = days(&certify(world, &key, &[])?)?;
        ensure!((98..=100).contains(&shorter), "{shorter} days, and the key lives for 100");
        // Extended again: what is certified is still good, and is put beside what is new.
        home.gpg(&["--quick-set-expire", &fingerprint, "1y"])?;
        let extended = home.fed(&clean, None)?.done()?.stdout;
        ensure!(extended != anew, "gpg exports the same key");
        let key = world.write("extended.pgp", extended)?;
        forget(world)?;
        let kept = days(&certify(world, &key, &[])?)?;
        ensure!(kept == shorter, "certified anew for {kept} days");
        let alarms = world.frontend_json(&["status"])?;
        ensure!(alarms["alarms"].as_array().is_none_or(Vec::is_empty), "{alarms}");
        Ok(())
    });
}

//------------ The signer's own keys -----------------------------------------

/// What gpg says of the authority's key after it took these files.
fn validity(world: &World, name: &str, files: &[&str]) -> Result<String> {
    let reader = world.gpg_home(name)?;
    for file in files {
        reader.gpg(&["--import", file])?;
    }
    let listing = reader.gpg(&["--with-colons", "--list-keys"])?;
    let line = listing.lines().find(|line| line.starts_with("pub:"));
    let letter = line.and_then(|line| line.split(':').nth(1));
    Ok(letter.with_context(|| listing.clone())?.to_owned())
}

#[test]
fn a_made_key_prints_its_revocation_certificate_once_and_nothing_else() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let made = world.signer(&["openpgp", "create", "people", "--uid", AUTHORITY])?.done()?;
        let printed = made.text();
        let (begin, end) =
            ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "-----END PGP PUBLIC KEY BLOCK-----\n");
        ensure!(printed.starts_with(begin) && printed.ends_with(end), "{printed}");
        ensure!(printed.matches("-----").count() == 4, "{printed}");
        let paper = world.write("paper.asc", &made.stdout)?;
        let public = world.openpgp_authority("people");
        ensure!(validity(world, "before", &[&public])? != "r", "it is revoked from the start");
        ensure!(validity(world, "after", &[&public, &paper])? == "r", "the paper revokes nothing");
        // It is kept nowhere, not in another form either.
        let inside = world.sequoia("sq", &["dearmor", &paper], None)?.stdout;
        let body: Vec<u8> = inside.iter().copied().skip(4).collect();
        let kept = find(&world.path("signer"), &body)?;
        ensure!(kept.is_none(), "the revocation certificate is in {kept:?}");

        let again = world.signer(&["openpgp", "create", "people", "--uid", AUTHORITY])?;
        ensure!(again.code == Some(4) && again.stdout.is_empty(), "{again:?}");
        ensure!(again.stderr.contains("is there already"), "{}", again.stderr);
        Ok(())
    });
}

#[test]
fn a_key_whose_revocation_certificate_cannot_be_printed_is_not_made() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let ended = to_full_device(world, &["openpgp", "create", "people", "--uid", AUTHORITY])?;
        ensure!(ended.code == Some(3), "{ended:?}");
        ensure!(ended.stderr.contains("revocation certificate"), "{}", ended.stderr);
        ensure!(!world.path("signer/openpgp/people").exists(), "the key is there");
        let listed = world.signer_json(&["openpgp", "list"])?;
        ensure!(listed["authorities"].as_array().is_some_and(Vec::is_empty), "{listed}");
        // And can be made when the printer has paper again.
        world.signer(&["openpgp", "create", "people", "--uid", AUTHORITY])?.done()?;
        let ended = to_full_device(world, &["openpgp", "list", "--json"])?;
        ensure!(ended.code == Some(3), "{ended:?}");
        Ok(())
    });
}

/// Types a command of the signer whose standard output is a full disk.
fn to_full_device(world: &World, words: &[&str]) -> Result<Ended> {
    let script = "program=$1; shift; exec \"$program\" \"$@\" > /dev/full";
    let store = world.file("signer");
    let program = world.program("signer");
    let words = [&["-c", script, "sh", &program, "--dir", &store], words].concat();
    run("sh", &words, &[], None)
}

#[test]
fn a_key_of_gpg_is_taken_over_and_everything_it_does_is_listed() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        let old = world.gpg_home("old")?;
        let fingerprint = old.make(AUTHORITY, "rsa2048", "2y")?;
        let secret = world.write("secring.gpg", old.export_secret(&fingerprint)?)?;
        let public = world.write("pubring.gpg", old.export(&fingerprint, None)?)?;
        let words = ["openpgp", "import", "people", "--secring", &secret, "--pubring", &public];
        let taken = world.signer(&words)?.done()?;
        let paper = world.write("paper.asc", &taken.stdout)?;
        let authority = world.openpgp_authority("people");
        ensure!(
            validity(world, "paper", &[&authority, &paper])? == "r",
            "the paper revokes nothing"
        );
        let again = world.signer(&words)?;
        ensure!(again.code == Some(4) && again.stdout.is_empty(), "{again:?}");

        world.start()?;
        let (home, alice) = person(world)?;
        let key = world.write("alice.pgp", home.export(&alice, None)?)?;
        // Nobody has told the webdb the authority's name yet.
        let by_people = ["--authority", "people", "--days", "90"];
        let status = certify(world, &key, &by_people)?;
        let request = status["id"].as_str().context("no id")?.to_owned();
        let serial = status["openpgp"]["certifications"][0]["serial"].clone();
        // gpg takes what the key of gpg certified.
        let certified = world.file("certified.asc");
        world.frontend(&["get", &request, "--out", &certified])?.done()?;
        let reader = world.gpg_home("reader")?;
        reader.gpg(&["--import", &authority, &certified])?;
        let judged = reader.certifications(&alice, &fingerprint)?;
        let good = judged.iter().flat_map(|one| &one.signatures).filter(|one| one.verdict == "!");
        ensure!(good.count() == 1, "{judged:?}");

        let rows = |world: &World, words: &[&str]| -> Result<(Value, Vec<Value>)> {
            let listed = world.signer_json(&[&["openpgp", "list"][..], words].concat())?;
            let rows = listed["certifications"].as_array().cloned();
            Ok((listed.clone(), rows.with_context(|| listed.to_string())?))
        };
        let (listed, made) = rows(world, &[])?;
        ensure!(listed["authorities"][0]["name"] == "people", "{listed}");
        ensure!(listed["authorities"][0]["fingerprint"] == *fingerprint, "{listed}");
        ensure!(listed["authorities"][0]["key"] == "rsa2048", "{listed}");
        let expected = [
            ("authority", Value::from("people")),
            ("policy", "default".into()),
            ("fingerprint", alice.as_str().into()),
            ("user_id", ALICE.into()),
            ("serial", serial),
            ("request", request.as_str().into()),
            ("revoked_at", Value::Null),
            ("reason", Value::Null),
        ];
        ensure!(made.len() == 1, "{listed}");
        for (name, value) in expected {
            ensure!(made[0][name] == value, "{name} is not {value} in {listed}");
        }

        // Taken back, it stays in the records; certified again, there are two.
        let words = ["revoke", "--openpgp", &alice, "--reason", "userIdInvalid", "--wait", "60"];
        world.frontend(&words)?.done()?;
        certify(world, &key, &by_people)?;
        let (listed, made) = rows(world, &["people"])?;
        ensure!(made.len() == 2, "{listed}");
        ensure!(made[0]["reason"] == "userIdInvalid" && made[0]["revoked_at"].is_string());
        ensure!(made[1]["revoked_at"].is_null() && made[1]["serial"] != made[0]["serial"]);
        let text = world.signer(&["openpgp", "list"])?.done()?.text();
        ensure!(text.lines().filter(|line| line.ends_with(ALICE)).count() == 2, "{text}");

        let shown = world.signer_json(&["openpgp", "show", "people"])?;
        ensure!(shown == listed["authorities"][0], "{shown}");
        ensure!(shown["policies"][0]["name"] == "default", "{shown}");
        ensure!(shown["user_ids"][0] == AUTHORITY, "{shown}");
        let text = world.signer(&["openpgp", "show", "people"])?.done()?.text();
        ensure!(text.contains(&fingerprint) && text.contains("default: positive"), "{text}");
        for words in [["openpgp", "show", "nobody"], ["openpgp", "list", "nobody"]] {
            let ended = world.signer(&words)?;
            ensure!(ended.code != Some(0) && ended.stdout.is_empty(), "{ended:?}");
            ensure!(ended.stderr.contains("there is no OpenPGP authority nobody"), "{ended:?}");
        }

        world.stop()?;
        world.signer(&["store", "check"])?.done()?;
        Ok(())
    });
}

#[test]
fn every_fault_of_a_policy_is_named_with_its_key() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.signer(&["openpgp", "create", "people", "--uid", AUTHORITY])?.done()?;
        let shipped = world.path("signer/openpgp/people/policies/default.toml");
        let good = shipped.display().to_string();
        let said = world.signer(&["openpgp", "check", &good])?.done()?.text();
        ensure!(said.contains("is without fault"), "{said}");
        let bad = fs::read_to_string(Path::new(&good))?
            .replace("level = \"positive\"", "level = \"absolute\"")
            .replace("days_max = ", "days_max = 9")
            .replace("digest = \"sha", "digest = \"md5-");
        let bad = world.write("strict.toml", bad)?;
        let ended = world.signer(&["openpgp", "check", &bad])?;
        ensure!(ended.code == Some(4), "{ended:?}");
        for key in ["level", "days_max", "digest"] {
            ensure!(ended.text().contains(key), "{key} is not named: {}", ended.text());
        }
        let ended = world.signer(&["openpgp", "check", &bad, "--json"])?;
        let faults: Value = serde_json::from_slice(&ended.stdout)?;
        ensure!(faults["faults"].as_array().is_some_and(|all| all.len() >= 3), "{faults}");
        Ok(())
    });
}
