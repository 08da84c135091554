//! The take-over of an old tree: adopted, worked on by us, worked on by `openssl ca` again, and no
//! line lost.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use tests::{
    Cable, World,
    cacert_tree::{ISSUED, KeyKind, Leaf, OldCa, OldTree, Status, index_line, one_line},
    story,
};

const LINES: u64 = 10_000;

#[test]
fn generated_tree_has_exactly_the_forms_of_the_real_openssl_ca() {
    story(Cable::Unix, |world| {
        // RSA: its signatures are the same whoever makes them.
        let ours = OldCa::found(&world.path("ours"), "CA", "Forms", KeyKind::Rsa2048, None)?;
        let leaves: Vec<Leaf> = (1..=20).map(Leaf::of_today).collect();
        // The real one works in a copy of the empty authority.
        world.openssl(&["version"])?;
        let from = ours.file("");
        let to = world.path("theirs");
        world.tool("cp", &["-r", &text(&from), &text(&to)])?.done()?;
        let configuration = ours.configuration().replace(&text(from.parent().context("/")?), "X");
        let configuration = configuration.replace("X/CA", &text(&to));
        let configuration = world.write("theirs.cnf", configuration)?;
        let ca = ["ca", "-batch", "-config", &configuration];
        for leaf in &leaves {
            issue_with_openssl(world, &ca, &ours, leaf)?;
        }
        for leaf in &leaves {
            let Status::Revoked(revoked) = &leaf.status else { continue };
            let copy = to.join(format!("newcerts/{:02X}.pem", leaf.serial));
            let reason = match revoked.split_once(',') {
                Some((_, "keyTime,20210201000000Z")) => {
                    vec!["-crl_compromise", "20210201000000Z"]
                }
                Some((_, reason)) => vec!["-crl_reason", reason],
                None => vec![],
            };
            world.openssl(&[&ca[..], &["-revoke", &text(&copy)], &reason].concat())?;
        }
        world.openssl(&[&ca[..], &["-updatedb"]].concat())?;

        let theirs = fs::read_to_string(to.join("index.txt"))?;
        // Only the day of revocation is not ours to choose.
        let leaves: Vec<Leaf> =
            leaves.into_iter().map(|leaf| revoked_when_they_did(leaf, &theirs)).collect();
        let lines: String = leaves.iter().map(index_line).collect();
        ensure!(lines == theirs, "ours:\n{lines}\ntheirs:\n{theirs}");
        ours.fill(leaves.clone())?;
        for name in ["index.txt", "index.txt.attr", "serial"] {
            let (left, right) = (fs::read(ours.file(name))?, fs::read(to.join(name))?);
            ensure!(left == right, "{name} differs");
        }
        for leaf in &leaves {
            let name = format!("newcerts/{:02X}.pem", leaf.serial);
            let left = fs::read_to_string(ours.file(&name))?;
            let right = fs::read_to_string(to.join(&name))?;
            ensure!(left == right, "{name} differs\nours:\n{left}\ntheirs:\n{right}");
        }
        let statuses: Vec<&str> = theirs.lines().map(|line| &line[..1]).collect();
        ensure!(["V", "R", "E"].iter().all(|status| statuses.contains(status)), "{theirs}");
        Ok(())
    });
}

/// Has the real `openssl ca` issue what a leaf says.
fn issue_with_openssl(world: &World, ca: &[&str], ours: &OldCa, leaf: &Leaf) -> Result<()> {
    let key = ours.subject_key(leaf.serial).private_key_to_pem_pkcs8()?;
    let key = world.write("leaf.key", key)?;
    let csr = world.file("leaf.csr");
    // In a -subj the slash and the backslash are taken literally after a backslash.
    let subject: String = leaf
        .subject
        .iter()
        .map(|(kind, value)| {
            format!(
                "/{kind}={}",
                value.replace('\\', "\\\\").replace('/', "\\/").replace('+', "\\+")
            )
        })
        .collect();
    world.openssl(&["req", "-new", "-utf8", "-key", &key, "-subj", &subject, "-out", &csr])?;
    let days = ["-startdate", &leaf.not_before, "-enddate", &leaf.not_after];
    world.openssl(&[ca, &["-in", &csr, "-out", &world.file("leaf.crt")], &days].concat())?;
    Ok(())
}

fn revoked_when_they_did(mut leaf: Leaf, theirs: &str) -> Leaf {
    if matches!(leaf.status, Status::Revoked(_)) {
        let serial = format!("{:02X}", leaf.serial);
        let line = theirs.lines().find(|line| line.split('\t').nth(3) == Some(&serial));
        let revoked = line.and_then(|line| line.split('\t').nth(2)).unwrap_or_default();
        leaf.status = Status::Revoked(revoked.to_owned());
    }
    leaf
}

#[test]
fn old_tree_is_adopted_worked_on_by_us_and_by_openssl_again_and_no_line_is_lost() {
    story(Cable::Unix, |world| {
        let tree = OldTree::grow(&world.path("old"), LINES)?;
        let old_crls = [tree.sign_crl(0)?, tree.sign_crl(1)?];
        let before = tree.digests()?;
        world.signer(&["init"])?.done()?;
        show_plan(world, &tree)?;
        adopt(world, &tree)?;
        ensure!(tree.digests()? == before, "the old tree was changed");
        for (number, name) in NAMES.into_iter().enumerate() {
            assert_same_files(world, &tree, number, name)?;
        }
        world.signer(&["store", "check"])?.done()?;
        // I8: the first CRL lists every R line, with the old dates and reasons.
        for (old, name) in old_crls.iter().zip(NAMES) {
            let current = world.authority(name, "crl/current.crl");
            let (old, new) = (entries(world, &text(old))?, entries(world, &current)?);
            ensure!(!old.is_empty() && old == new, "{name}: {} and {}", old.len(), new.len());
        }
        let original = fs::read_to_string(tree.ssl.join("CA/index.txt"))?;
        ensure!(original.lines().count() as u64 == LINES);

        let touched = work_with_the_signer(world)?;
        let touched_too = work_with_openssl(world)?;
        world.signer(&["store", "rebuild"])?.done()?;
        world.signer(&["store", "check"])?.done()?;
        let index = fs::read_to_string(world.authority("class1", "index.txt"))?;
        assert_no_line_lost(&original, &index, &[touched, touched_too])?;
        // Two by us, of which one was revoked again, and two by openssl.
        ensure!(index.lines().count() as u64 == LINES + 4, "{} lines", index.lines().count());
        ensure!(tree.digests()? == before, "the old tree was changed");
        Ok(())
    });
}

const NAMES: [&str; 4] = ["class1", "class3", "class3s", "root3"];

fn adopt_words<'a>(ssl: &'a str, commmodule: &'a str) -> Vec<&'a str> {
    let words = ["adopt", "--ssl", ssl, "--commmodule", commmodule];
    words.into_iter().chain(["--unattended-root", "class1"]).collect()
}

/// The plan says what is there, and changes nothing.
fn show_plan(world: &World, tree: &OldTree) -> Result<()> {
    let (ssl, commmodule) = (text(&tree.ssl), text(&tree.commmodule));
    let words = [&adopt_words(&ssl, &commmodule)[..], &["--plan"]].concat();
    let page = world.signer(&words)?.done()?.text();
    for word in ["class1", "ec:P-256", "10000 lines: 8000 V, 1000 R, 1000 E", "UNATTENDED ROOT"] {
        ensure!(page.contains(word), "no `{word}` in\n{page}");
    }
    let plan = world.signer_json(&words)?;
    ensure!(plan["refusals"] == 0, "{plan}");
    let names: Vec<_> =
        plan["authorities"].as_array().context("no list")?.iter().map(|a| &a["name"]).collect();
    ensure!(names == NAMES, "{names:?}");
    let class1 = &plan["authorities"][0];
    ensure!(class1["serials"][1] == "2710" && class1["serial_file"] == "2711", "{class1}");
    ensure!(class1["newest_crl"]["entries"] == 1_000, "{class1}");
    ensure!(!Path::new(&world.authority("class1", "")).exists(), "a plan made a directory");
    Ok(())
}

fn adopt(world: &World, tree: &OldTree) -> Result<()> {
    let (ssl, commmodule) = (text(&tree.ssl), text(&tree.commmodule));
    world.signer(&adopt_words(&ssl, &commmodule))?.done()?;
    // An adoption that is done is not done again.
    let again = world.signer(&adopt_words(&ssl, &commmodule))?.done()?;
    ensure!(again.stderr.contains("taken over before"), "{}", again.stderr);
    Ok(())
}

/// Index and copies are there byte for byte.
fn assert_same_files(world: &World, tree: &OldTree, number: usize, name: &str) -> Result<()> {
    let old = &tree.authorities[number];
    let same = fs::read(old.file("index.txt"))? == fs::read(world.authority(name, "index.txt"))?;
    ensure!(same, "{name}: the index differs");
    for entry in fs::read_dir(old.file("newcerts"))? {
        let path = entry?.path();
        let file = path.file_name().and_then(|file| file.to_str()).context("a copy's name")?;
        let ours = fs::read(world.authority(name, &format!("newcerts/{file}")))?;
        ensure!(ours == fs::read(&path)?, "{name}: {file} differs");
    }
    Ok(())
}

/// Serial, date and reason of every entry of a CRL, as openssl tells them.
fn entries(world: &World, crl: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let text = world.openssl(&["crl", "-inform", "DER", "-in", crl, "-noout", "-text"])?.text();
    let (_, list) = text.split_once("Revoked Certificates:\n").context("an empty CRL")?;
    let (list, _) = list.split_once("    Signature Algorithm").context("no end")?;
    let mut found = BTreeMap::<String, Vec<String>>::new();
    let mut serial = String::new();
    let mut lines = list.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line == "Invalidity Date:" {
            lines.next(); // the time that `-crl_compromise` noted beside the reason
            continue;
        }
        if let Some(number) = line.strip_prefix("Serial Number: ") {
            serial = number.to_owned();
        }
        found.entry(serial.clone()).or_default().push(line.to_owned());
    }
    Ok(found)
}

/// Issues two certificates, revokes one of them and one of the old ones over the cable.
fn work_with_the_signer(world: &mut World) -> Result<String> {
    world.frontend(&["init"])?.done()?;
    world.pair()?;
    world.start()?;
    let mut serials = Vec::new();
    for name in ["first", "second"] {
        let subject = format!("/CN={name} after the take-over");
        let csr = world.csr(name, "ec:P-256", &subject)?;
        let words = ["request", "--authority", "class1", "--profile", "client", "--csr", &csr];
        let (_, certificate) = world.complete(&words)?;
        let ca = world.authority("class1", "ca.crt");
        world.openssl(&["verify", "-CAfile", &ca, &certificate])?;
        serials.push(world.serial_of(&certificate)?);
    }
    // 0x0FA1 = 4001 is a V line of the old index.
    for serial in [&serials[0], "0FA1"] {
        let words = ["revoke", "--authority", "class1", "--serial", serial];
        let options = ["--reason", "superseded", "--wait", "60"];
        world.frontend(&[&words[..], &options].concat())?.done()?;
        world.crl_with("class1", serial)?;
    }
    world.stop()?;
    Ok("0FA1".to_owned())
}

/// Has the real `openssl ca` issue, revoke, sign a CRL and update the index in our directory.
fn work_with_openssl(world: &World) -> Result<String> {
    let folder = world.authority("class1", "");
    let ca = ["-C", &folder, "openssl", "ca", "-config", "openssl.cnf", "-batch"];
    let openssl = |words: &[&str]| world.tool("env", &[&ca[..], words].concat())?.done();
    let mut serials = Vec::new();
    for name in ["third", "fourth"] {
        let csr = world.csr(name, "ec:P-256", &format!("/CN={name} by openssl"))?;
        let file = world.file(&format!("{name}.pem"));
        openssl(&["-in", &csr, "-out", &file, "-notext"])?;
        let authority = world.authority("class1", "ca.crt");
        world.openssl(&["verify", "-CAfile", &authority, &file])?;
        serials.push(world.serial_of(&file)?);
    }
    openssl(&["-revoke", &world.file("third.pem"), "-crl_reason", "keyCompromise"])?;
    // 0x0FA2 = 4002 is another V line of the old index.
    openssl(&["-revoke", "newcerts/0FA2.pem"])?;
    openssl(&["-updatedb"])?;
    let crl = world.file("theirs.crl");
    openssl(&["-gencrl", "-out", &crl])?;
    let listed = world.openssl(&["crl", "-in", &crl, "-noout", "-text"])?.text();
    for serial in [&serials[0], "0FA1", "0FA2"] {
        ensure!(listed.contains(&format!("Serial Number: {serial}\n")), "no {serial} in their CRL");
    }
    Ok("0FA2".to_owned())
}

/// Every old line is there byte for byte, but for status and revocation of what was revoked.
fn assert_no_line_lost(original: &str, index: &str, touched: &[String]) -> Result<()> {
    let serial = |line: &str| line.split('\t').nth(3).unwrap_or_default().to_owned();
    let now: BTreeMap<String, &str> = index.lines().map(|line| (serial(line), line)).collect();
    let mut changed = Vec::new();
    for old in original.lines() {
        let new = now.get(&serial(old)).with_context(|| format!("lost: {old}"))?;
        if *new == old {
            continue;
        }
        let columns = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        let (old, new) = (columns(old), columns(new));
        ensure!(old[1] == new[1] && old[3..] == new[3..], "{old:?} became {new:?}");
        ensure!(old[0] == "V" && new[0] == "R", "{old:?} became {new:?}");
        changed.push(old[3].clone());
    }
    ensure!(changed == touched, "{changed:?} changed, not {touched:?}");
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn names_and_days_of_the_generator_are_those_of_openssl() {
    // What the comparison above relies on: all days are fixed and in the past or far ahead.
    assert_eq!(ISSUED, "20200229120000Z");
    let subject = [("CN", "a\tb/c".to_owned())];
    assert_eq!(one_line(&subject, false), "/CN=a\\x09b\\/c");
    assert_eq!(one_line(&subject, true), "/CN=a\\x09b/c");
}
