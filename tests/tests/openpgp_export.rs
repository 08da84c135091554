//! What happens to a certification afterwards: it is shown, asked for again, renewed, taken back,
//! and handed out as a keyring and as a Web Key Directory that gpg's and Sequoia's tools agree on.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    Cable, World,
    openpgp::{GpgHome, Judged, Packet, run},
    story,
};

const AUTHORITY: &str = "Authority <ca@ca.example.org>";
const WORK: &str = "Alice Example <Alice@example.org>";
const HOME: &str = "Alice at home <alice@home.example>";
const BOB: &str = "Bob <bob.builder@example.org>";

/// A person's key, and gpg's folder with it.
struct Person {
    home: GpgHome,
    fingerprint: String,
    /// The public key's file.
    key: String,
}

impl Person {
    fn new(world: &World, name: &str, user_ids: &[&str]) -> Result<Self> {
        let home = world.gpg_home(name)?;
        let fingerprint = home.make(user_ids[0], "ed25519", "2y")?;
        home.gpg(&["--quick-add-key", &fingerprint, "cv25519", "encr", "2y"])?;
        for further in &user_ids[1..] {
            home.gpg(&["--quick-add-uid", &fingerprint, further])?;
        }
        let key = world.write(&format!("{name}.pgp"), home.export(&fingerprint, None)?)?;
        Ok(Self { home, fingerprint, key })
    }

    /// Asks for these user IDs with further words; the request's id.
    fn certify(&self, world: &World, user_ids: &[&str], further: &[&str]) -> Result<String> {
        let mut words = vec!["certify", "--key", &self.key, "--wait", "60", "--json"];
        words.extend(user_ids.iter().flat_map(|one| ["--uid", one]));
        words.extend(further);
        tests::world::id_in(&world.frontend(&words)?.done()?)
    }
}

fn found(world: &mut World) -> Result<()> {
    world.found("ec:P-256")?;
    world.signer(&["openpgp", "create", "--uid", AUTHORITY])?.done()?;
    world.start()
}

#[test]
fn a_certification_is_the_same_until_it_is_renewed_and_what_is_taken_back_reaches_everybody() {
    story(Cable::Unix, |world| {
        found(world)?;
        let alice = Person::new(world, "alice", &[WORK, HOME])?;
        let bob = Person::new(world, "bob", &[BOB])?;
        let binary = |id: &str| -> Result<Vec<u8>> {
            Ok(world.frontend(&["get", id, "--binary"])?.done()?.stdout)
        };

        let first = alice.certify(world, &[WORK, HOME], &["--days", "90"])?;
        let again = alice.certify(world, &[WORK, HOME], &["--days", "120"])?;
        ensure!(binary(&first)? == binary(&again)?, "asked again, the answer is another");
        let renewed = alice.certify(world, &[WORK], &["--renew"])?;
        ensure!(binary(&renewed)? != binary(&first)?, "a renewal is the old answer");
        bob.certify(world, &[BOB], &[])?;

        let listed =
            world.frontend_json(&["openpgp", "list", "--fingerprint", &alice.fingerprint])?;
        let shown = |listed: &Value| -> Result<Vec<(String, String)>> {
            let rows = listed["certifications"].as_array().context("no list")?;
            let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
            Ok(rows.iter().map(|row| (text(row, "user_id"), text(row, "state"))).collect())
        };
        let valid = |user_id: &str| (user_id.to_owned(), "valid".to_owned());
        ensure!(shown(&listed)? == [valid(WORK), valid(HOME)], "{listed}");
        let status = world.frontend_json(&["status", &renewed])?;
        let one = &status["openpgp"]["certifications"][0];
        ensure!(one["user_id"] == WORK && one["serial"].is_string(), "{status}");
        let status = world.frontend_json(&["status"])?;
        ensure!(
            status["openpgp"][0]["valid"] == 3 && status["openpgp"][0]["keys"] == 2,
            "{status}"
        );

        // Who took the keyring now has both certifications.
        let reader = world.gpg_home("reader")?;
        reader.gpg(&["--import", &world.openpgp_authority("openpgp")])?;
        let issuer = reader.fingerprint(AUTHORITY)?;
        take_keyring(world, &reader)?;
        let before = reader.certifications(&alice.fingerprint, &issuer)?;
        ensure!(before.iter().all(|one| last(one) == Some(("sig", "13x"))), "{before:?}");

        let words = ["revoke", "--openpgp", &alice.fingerprint, "--uid", WORK];
        let words = [&words[..], &["--reason", "userIdInvalid", "--wait", "60", "--json"]].concat();
        let taken = tests::world::id_in(&world.frontend(&words)?.done()?)?;
        let status = world.frontend_json(&["status", &taken])?;
        ensure!(status["openpgp"]["reason"] == "userIdInvalid", "{status}");
        let listed =
            world.frontend_json(&["openpgp", "list", "--fingerprint", &alice.fingerprint])?;
        ensure!(shown(&listed)?[0] == (WORK.to_owned(), "revoked".to_owned()), "{listed}");

        // What came back is a key with the revocation, and the next keyring has it too.
        let file = world.file("taken.asc");
        world.frontend(&["get", &taken, "--out", &file])?.done()?;
        let told = world.gpg_home("told")?;
        told.gpg(&["--import", &world.openpgp_authority("openpgp"), &file])?;
        let judged = told.certifications(&alice.fingerprint, &issuer)?;
        ensure!(judged.len() == 1 && last(&judged[0]) == Some(("rev", "30x,20")), "{judged:?}");
        take_keyring(world, &reader)?;
        let after = reader.certifications(&alice.fingerprint, &issuer)?;
        for one in &after {
            let expected = if one.user_id == WORK { ("rev", "30x,20") } else { ("sig", "13x") };
            ensure!(last(one) == Some(expected), "{after:?}");
        }

        // Certified anew, it counts again.
        alice.certify(world, &[WORK], &[])?;
        take_keyring(world, &reader)?;
        let anew = reader.certifications(&alice.fingerprint, &issuer)?;
        ensure!(anew.iter().all(|one| last(one) == Some(("sig", "13x"))), "{anew:?}");

        // Without a user ID, all of the key is taken back, and only Bob is left in the directory.
        let words = ["revoke", "--openpgp", &alice.fingerprint, "--wait", "60"];
        world.frontend(&words)?.done()?;
        let web = world.file("web");
        let exported = world.frontend_json(&["openpgp", "export", "--wkd", &web])?;
        let expected = serde_json::json!({ "example.org": 1 });
        ensure!(exported["domains"] == expected, "{exported}");
        take_keyring(world, &reader)?;
        let after = reader.certifications(&alice.fingerprint, &issuer)?;
        ensure!(after.iter().all(|one| last(one) == Some(("rev", "30x,00"))), "{after:?}");
        Ok(())
    });
}

/// What gpg counts: the kind and class of the newest good signature.
fn last(judged: &Judged) -> Option<(&str, &str)> {
    let good = judged.signatures.iter().filter(|one| one.verdict == "!");
    good.max_by_key(|one| one.created).map(|one| (one.kind.as_str(), one.class.as_str()))
}

/// Exports the keyring; gpg imports it, and sq reads the same keys in it.
fn take_keyring(world: &World, reader: &GpgHome) -> Result<()> {
    let (binary, armoured) = (world.file("keyring.pgp"), world.file("keyring.asc"));
    world.frontend(&["openpgp", "export", "--keyring", &binary])?.done()?;
    world.frontend(&["openpgp", "export", "--keyring", &armoured, "--armour"])?.done()?;
    reader.gpg(&["--import", &armoured])?;
    ensure!(mode(Path::new(&binary))? == 0o644, "a keyring is for everybody to read");
    let inside = world.sequoia("sq", &["dearmor", &armoured], None)?.stdout;
    let held = fs::read(&binary)?;
    ensure!(inside == held, "with armour it is another keyring");
    let piped = world.frontend(&["openpgp", "export", "--keyring", "-"])?.done()?.stdout;
    ensure!(piped == held, "on standard output it is another keyring");
    let keys = Packet::all(&held)?.iter().filter(|packet| packet.tag == 6).count();
    let listed = world.sequoia("sq", &["keyring", "list", &binary], None)?.text();
    let read = listed.lines().filter(|line| line.contains(". ")).count();
    ensure!(read == keys, "sq reads {read} of {keys} keys: {listed}");
    Ok(())
}

/// The rights on a file or folder.
fn mode(path: &Path) -> Result<u32> {
    let found = fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(found.permissions().mode() & 0o777)
}

#[test]
fn the_web_key_directory_is_the_one_that_gpg_and_sq_would_lay_out() {
    story(Cable::Unix, |world| {
        found(world)?;
        let alice = Person::new(world, "alice", &[WORK, HOME, "No address"])?;
        let bob = Person::new(world, "bob", &[BOB])?;
        alice.certify(world, &[WORK, HOME, "No address"], &[])?;
        bob.certify(world, &[BOB], &[])?;

        let web = world.path("web");
        let root = web.display().to_string();
        let exported = world.frontend_json(&["openpgp", "export", "--wkd", &root])?;
        ensure!(exported["without_address"] == 1 && exported["layout"] == "advanced", "{exported}");
        let names = |folder: &Path| -> Result<BTreeSet<String>> {
            let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
            let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
            entries.map(|entry| Ok(name(entry?))).collect()
        };
        let domain = |root: &Path, domain: &str| root.join(".well-known/openpgpkey").join(domain);

        // The names are those of gpg's own tool, and the files hold that domain's user IDs only.
        for (person, user_id, host) in [
            (&alice, WORK, "example.org"),
            (&alice, HOME, "home.example"),
            (&bob, BOB, "example.org"),
        ] {
            let address = user_id.split_once('<').context("an address")?.1.trim_end_matches('>');
            let client = "/usr/lib/gnupg/gpg-wks-client";
            let said = run(client, &["--print-wkd-hash", address], &[], None)?.done()?.text();
            let hash = said.split(['@', ' ']).next().unwrap_or_default().to_owned();
            let file = domain(&web, host).join("hu").join(&hash);
            let packets = Packet::all(&fs::read(&file).with_context(|| said.clone())?)?;
            let held: Vec<_> = packets.iter().filter(|packet| packet.tag == 13).collect();
            ensure!(held.len() == 1 && held[0].body == user_id.as_bytes(), "{held:?}");
            let reader = world.gpg_home(&format!("reader-{host}-{hash}"))?;
            let shown = file.display().to_string();
            reader.gpg(&["--import", &world.openpgp_authority("openpgp"), &shown])?;
            let issuer = reader.fingerprint(AUTHORITY)?;
            let judged = reader.certifications(&person.fingerprint, &issuer)?;
            ensure!(judged.len() == 1 && last(&judged[0]) == Some(("sig", "13x")), "{judged:?}");
            let policy = domain(&web, host).join("policy");
            ensure!(policy.is_file(), "no policy file for {host}");
            // A web server is another user than the frontend.
            for path in [&file, &policy] {
                ensure!(mode(path)? == 0o644, "{} is not to be read", path.display());
                let folders = path.ancestors().skip(1).take_while(|one| one.starts_with(&web));
                for folder in folders {
                    ensure!(mode(folder)? == 0o755, "{} is not to be entered", folder.display());
                }
            }
            let url = world.sequoia("sq", &["wkd", "url", address], None)?.text();
            let path = format!("/.well-known/openpgpkey/{host}/hu/{hash}");
            ensure!(url.contains(&path), "sq looks at {url}");
            person.home.gpg(&["--list-keys", &person.fingerprint])?;
        }

        ensure!(mode(&web.join(".frontend-export"))? == 0o600, "the list is the frontend's own");

        // sq makes the same files of the keyring, in both layouts.
        let keyring = world.file("keyring.pgp");
        world.frontend(&["openpgp", "export", "--keyring", &keyring])?.done()?;
        let theirs = world.path("theirs");
        let words = ["wkd", "generate", "--skip", &theirs.display().to_string(), "example.org"];
        world.sequoia("sq", &[&words[..], &[&keyring]].concat(), None)?;
        let hu = |root: &Path| domain(root, "example.org").join("hu");
        ensure!(names(&hu(&web))? == names(&hu(&theirs))?, "sq names other files");
        let direct = world.path("direct");
        let words = ["openpgp", "export", "--direct", "--domain", "example.org", "--wkd"];
        world.frontend(&[&words[..], &[&direct.display().to_string()]].concat())?.done()?;
        let theirs = world.path("theirs-direct");
        let words = ["wkd", "generate", "--skip", "--direct-method"];
        let root_of_theirs = theirs.display().to_string();
        let words = [&words[..], &[&root_of_theirs, "example.org", &keyring]].concat();
        world.sequoia("sq", &words, None)?;
        let hu = |root: &Path| domain(root, "").join("hu");
        ensure!(names(&hu(&direct))? == names(&hu(&theirs))?, "sq names other files");
        ensure!(names(&domain(&direct, ""))? == names(&domain(&theirs, ""))?, "another layout");

        // Again, nothing is written; taken back, the file goes, and what others put there stays.
        let again = world.frontend_json(&["openpgp", "export", "--wkd", &root])?;
        ensure!(again["written"] == 0 && again["removed"] == 0, "{again}");
        let foreign = domain(&web, "example.org").join("hu/foreign");
        fs::write(&foreign, b"of another")?;
        let words = ["revoke", "--openpgp", &alice.fingerprint, "--wait", "60"];
        world.frontend(&words)?.done()?;
        let words = ["openpgp", "export", "--wkd", &root, "--domain", "example.org"];
        let after = world.frontend_json(&words)?;
        ensure!(after["removed"] == 1, "{after}");
        ensure!(foreign.is_file() && domain(&web, "home.example").join("hu").is_dir(), "{after}");
        let after = world.frontend_json(&["openpgp", "export", "--wkd", &root])?;
        ensure!(after["removed"] == 2, "the key and the policy of home.example: {after}");
        Ok(())
    });
}
