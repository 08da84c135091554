//! Old trees that do not fit together: each is refused with its place, and nothing is changed.
//! And what is only worth a warning: that is said, and taken over.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use openssl::hash::MessageDigest;
use serde_json::Value;
use tests::{
    Cable, World,
    cacert_tree::{Leaf, OldTree},
    story,
};

const LINES: u64 = 40;

/// What a case does to a good tree; `other` is a second one with the same names and other keys.
type Bend = fn(tree: &OldTree, other: &OldTree) -> Result<()>;

/// A case: its kind, what was done, further words on the command line.
struct Case(&'static str, Bend, &'static [&'static str]);

const CASES: [Case; 31] = [
    Case(
        "line-unreadable",
        |tree, _| bend_index(tree, |line| line.replace("\t05\t", "\tzz\t")),
        &[],
    ),
    Case("line-unreadable", |tree, _| bend_index(tree, |line| line.replace("V\t", "X\t")), &[]),
    Case("line-unreadable", |tree, _| cut_index(tree, 1), &[]),
    Case("line-unreadable", |tree, _| cut_index(tree, 20), &[]),
    Case(
        "revoked-without-date",
        |tree, _| bend_index(tree, |line| line.replace("210307101112Z", "")),
        &[],
    ),
    Case("serial-twice", |tree, _| bend_index(tree, |line| line.replace("\t05\t", "\t04\t")), &[]),
    Case("copy-unreadable", |tree, _| write(tree, "CA/newcerts/05.pem", b"not a certificate"), &[]),
    Case("copy-unreadable", |tree, _| write(tree, "CA/newcerts/05.pem", b""), &[]),
    Case(
        "copy-differs",
        |tree, _| copy(tree.ssl.join("CA/newcerts/04.pem"), tree, "CA/newcerts/05.pem"),
        &[],
    ),
    // The other authority's certificate with the same serial and subject.
    Case(
        "copy-differs",
        |tree, _| copy(tree.ssl.join("class3/newcerts/05.pem"), tree, "CA/newcerts/05.pem"),
        &[],
    ),
    Case("copy-differs", |tree, _| bend_index(tree, |line| line.replace("User 4", "User 44")), &[]),
    Case(
        "copy-differs",
        |tree, _| bend_index(tree, |line| line.replace("V\t400301120000Z", "V\t410301120000Z")),
        &[],
    ),
    Case(
        "copy-not-signed-by-this-ca",
        |tree, other| copy(other.ssl.join("CA/newcerts/05.pem"), tree, "CA/newcerts/05.pem"),
        &[],
    ),
    Case("ca-certificate-unclear", |tree, _| remove(tree, "CA/cacert.crt"), &[]),
    Case("ca-certificate-unclear", |tree, _| write(tree, "CA/cacert.crt", b"nothing"), &[]),
    Case("key-unusable", |tree, _| remove(tree, "CA/cacert.pem"), &[]),
    Case("key-unusable", |tree, _| encrypt_key(tree), &[]),
    Case(
        "key-differs",
        |tree, other| copy(other.ssl.join("CA/cacert.pem"), tree, "CA/cacert.pem"),
        &[],
    ),
    Case(
        "ca-out-of-date",
        |tree, _| tree.authorities[3].recertify(None, "20210101000000Z", MessageDigest::sha256()),
        &[],
    ),
    Case(
        "ca-weak",
        |tree, _| {
            let root = Some(&tree.authorities[0]);
            tree.authorities[1].recertify(root, "20490101000000Z", MessageDigest::sha1())
        },
        &[],
    ),
    Case("chain-missing", |tree, _| Ok(fs::remove_dir_all(tree.ssl.join("CA"))?), &[]),
    Case("serial-file", |tree, _| write(tree, "CA/serial", b"28\n"), &[]),
    Case("serial-file", |tree, _| write(tree, "CA/serial", b""), &[]),
    Case("crl-unreadable", |tree, _| cut(&tree.commmodule.join("revoke-root0.crl")), &[]),
    Case(
        "crl-not-signed-by-this-ca",
        |tree, other| {
            let crl = fs::read(other.commmodule.join("revoke-root0.crl"))?;
            Ok(fs::write(tree.commmodule.join("revoke-root0.crl"), crl)?)
        },
        &[],
    ),
    Case("crl-unknown-serial", |tree, _| drop_line(tree, "06"), &[]),
    Case(
        "crl-not-revoked",
        |tree, _| {
            bend_index(tree, |line| {
                line.replace("R\t400301120000Z\t210307101112Z,keyCompromise", "V\t400301120000Z\t")
            })
        },
        &[],
    ),
    Case(
        "crl-number-too-large",
        |tree, _| write(tree, "CA/crlnumber", b"FFFFFFFFFFFFFFFFFF\n"),
        &[],
    ),
    Case("name-taken", |_, _| Ok(()), &["--name", "class3=class1"]),
    Case("name-taken", |_, _| Ok(()), &["--name", "class3=there-already"]),
    Case(
        "nothing-found",
        |tree, _| {
            fs::remove_dir_all(&tree.ssl)?;
            Ok(fs::create_dir_all(&tree.ssl)?)
        },
        &[],
    ),
];

#[test]
fn tree_that_does_not_fit_together_is_refused_with_its_place_and_changes_nothing() {
    story(Cable::Unix, |world| {
        world.signer(&["init"])?.done()?;
        let taken = ["authority", "create", "there-already", "--subject", "/CN=There already"];
        world.signer(&[&taken[..], &["--key", "ec:P-256"]].concat())?.done()?;
        let other = grow(world, "other")?;
        let before = store(world)?;
        for (number, Case(kind, bend, words)) in CASES.iter().enumerate() {
            let tree = grow(world, &format!("tree-{number}"))?;
            bend(&tree, &other).with_context(|| format!("case {number}, {kind}"))?;
            let old = tree.digests()?;
            let plan =
                refused(world, &tree, words).with_context(|| format!("case {number}, {kind}"))?;
            let group = group(&plan, kind).with_context(|| format!("case {number}: {plan:#}"))?;
            ensure!(group["refuses"] == true, "{kind}: {group}");
            let told = &group["told"][0];
            let place = told["file"].as_str().unwrap_or_default();
            let below = place.starts_with(&text(&tree.ssl)) || place.contains("CommModule");
            ensure!(below && told["text"] != "", "{kind}: {group}");
            ensure!(tree.digests()? == old, "{kind}: the old tree was changed");
            ensure!(store(world)? == before, "{kind}: the store was changed");
        }
        Ok(())
    });
}

#[test]
fn what_is_only_odd_is_said_and_taken_over() {
    story(Cable::Unix, |world| {
        let tree = grow(world, "old")?;
        let root = &tree.authorities[0];
        // A copy that is not there, one without a line, an old weak one, lines in older words.
        fs::remove_file(root.file("newcerts/05.pem"))?;
        fs::write(root.file("newcerts/FF.pem"), root.issue(&Leaf::numbered(255))?.to_pem()?)?;
        let weak = root.issue_with(&Leaf::numbered(4), MessageDigest::sha1())?;
        fs::write(root.file("newcerts/04.pem"), weak.to_pem()?)?;
        bend_index(&tree, |line| line.replace("/emailAddress=", "/Email="))?;
        // A line that says more than the newest CRL, and one that says otherwise.
        bend_index(&tree, |line| {
            let line = line.replace("210317101112Z", "210318101112Z");
            match line.contains("\t07\t") {
                true => line.replace("V\t400301120000Z\t", "R\t400301120000Z\t210401000000Z"),
                false => line,
            }
        })?;
        let index = fs::read_to_string(root.file("index.txt"))?;
        fs::write(root.file("index.txt"), format!("# by hand\n{index}"))?;
        write(&tree, "CA/serial", b"40\n")?;
        write(&tree, "CA/crlnumber", b"1F\n")?;
        write(&tree, "class3-proxy.cnf", b"[ ca ]\nnothing = here\n")?;
        tree.authorities[3].recertify(None, "20490101000000Z", MessageDigest::sha1())?;
        fs::copy(stranger_crl(world)?, tree.commmodule.join("revoke-root9.crl"))?;

        world.signer(&["init"])?.done()?;
        let plan = world.signer_json(&words(&tree, &["--plan"]).each())?;
        for kind in [
            "copy-missing",
            "copy-without-line",
            "copy-weak",
            "subject-labels",
            "comment",
            "crl-incomplete",
            "crl-date-differs",
            "crl-of-nobody",
            "profile-not-taken",
            "profile-less",
            "root-weak",
            "serial-gap",
            "not-taken",
        ] {
            let group = group(&plan, kind).with_context(|| format!("no {kind} in {plan:#}"))?;
            ensure!(group["refuses"] == false, "{kind}: {group}");
        }
        world.signer(&words(&tree, &[]).each())?.done()?;
        world.signer(&["store", "check"])?.done()?;
        let ours = fs::read_to_string(world.authority("class1", "index.txt"))?;
        let theirs = fs::read_to_string(root.file("index.txt"))?;
        ensure!(theirs.strip_prefix("# by hand\n") == Some(&ours), "the index differs");
        // The number goes on above both the file and the CRLs.
        let crl = world.authority("class1", "crl/current.crl");
        let read = ["crl", "-inform", "DER", "-in", &crl, "-noout"];
        let number = world.openssl(&[&read[..], &["-crlnumber"]].concat())?;
        ensure!(number.text().trim() == "crlNumber=0x20", "{}", number.text());
        // A certificate without copy can be revoked like any other.
        let revoke = ["revoke", "--authority", "class1", "--serial", "05"];
        world.signer(&revoke)?.done()?;
        let listed = world.openssl(&[&read[..], &["-text"]].concat())?;
        ensure!(listed.text().contains("Serial Number: 05\n"), "05 is not in the CRL");
        Ok(())
    });
}

#[test]
fn encrypted_key_is_taken_over_with_its_passphrase_and_gets_the_stores_own() {
    story(Cable::Unix, |world| {
        let tree = grow(world, "old")?;
        encrypt_key(&tree)?;
        let old = world.write("old.pass", "old secret\n")?;
        let new = world.write("new.pass", "new secret\n")?;
        world.signer(&["init"])?.done()?;
        let key = format!("CA={old}");
        let options = ["--key-passphrase", &key, "--passphrase-file", &new];
        world.signer(&words(&tree, &options).each())?.done()?;
        for (name, opens) in [("new.pass", 0), ("old.pass", 1)] {
            let file = format!("file:{}", world.file(name));
            let key = world.authority("class1", "private/ca.key");
            world
                .tool("openssl", &["pkey", "-in", &key, "-passin", &file, "-noout"])?
                .with_code(opens)?;
        }
        Ok(())
    });
}

#[test]
fn directory_that_is_left_out_is_not_looked_at_and_names_are_chosen() {
    story(Cable::Unix, |world| {
        let tree = grow(world, "old")?;
        write(&tree, "root3/index.txt", b"nonsense\n")?;
        world.signer(&["init"])?.done()?;
        let options = ["--without", "root3", "--without", "CA", "--name", "class3=issuing"];
        world.signer(&words(&tree, &options).each())?.done()?;
        let list = world.signer_json(&["authority", "list"])?.to_string();
        ensure!(list.contains("issuing") && list.contains("class3s"), "{list}");
        ensure!(!list.contains("class1") && !list.contains("root3"), "{list}");
        // The root stays behind, but the chain has it.
        let chain = fs::read_to_string(world.authority("issuing", "chain.pem"))?;
        let root = fs::read_to_string(tree.authorities[0].file("cacert.crt"))?;
        ensure!(chain.ends_with(&root), "the root is not in the chain");
        // Slips on the command line are not guessed about.
        for slip in [["--without", "root4"], ["--unattended-root", "class3s"]] {
            world.signer(&words(&tree, &slip).each())?.with_code(4)?;
        }
        Ok(())
    });
}

/// A small good tree with the CRLs of its two larger authorities.
fn grow(world: &World, name: &str) -> Result<OldTree> {
    let tree = OldTree::grow(&world.path(name), LINES)?;
    tree.sign_crl(0)?;
    tree.sign_crl(1)?;
    Ok(tree)
}

/// A CRL of an authority that no tree here has.
fn stranger_crl(world: &World) -> Result<std::path::PathBuf> {
    let elsewhere = world.file("elsewhere");
    world.signer(&["--dir", &elsewhere, "init"])?.done()?;
    let create = ["authority", "create", "nobody", "--subject", "/CN=Nobody", "--key", "ec:P-256"];
    world.signer(&[&["--dir", &elsewhere][..], &create].concat())?.done()?;
    Ok(world.path("elsewhere/authorities/nobody/crl/current.crl"))
}

fn words(tree: &OldTree, further: &[&str]) -> Vec<String> {
    let mut words = vec!["adopt".to_owned(), "--ssl".to_owned(), text(&tree.ssl)];
    words.extend(["--commmodule".to_owned(), text(&tree.commmodule)]);
    words.extend(further.iter().map(|word| (*word).to_owned()));
    words
}

/// The plan that comes with a refusal.
fn refused(world: &World, tree: &OldTree, further: &[&str]) -> Result<Value> {
    let mut words = words(tree, further);
    words.push("--json".to_owned());
    let ended = world.signer(&words.each())?.with_code(3)?;
    ensure!(ended.stderr.contains("nothing was changed"), "{}", ended.stderr);
    Ok(serde_json::from_slice(&ended.stdout)?)
}

fn group<'a>(plan: &'a Value, kind: &str) -> Option<&'a Value> {
    plan["problems"].as_array()?.iter().find(|group| group["kind"] == kind)
}

/// What a person sees of the store: its authorities, and every audit entry.
fn store(world: &World) -> Result<(Vec<String>, String)> {
    let mut names = Vec::new();
    for entry in fs::read_dir(world.path("signer/authorities"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let list = world.signer_json(&["authority", "list"])?;
    let rows = list.as_array().map_or(0, Vec::len);
    names.push(format!("{rows} in the ledger"));
    Ok((names, fs::read_to_string(world.path("signer/audit/0000000001.log"))?))
}

//--- What is done to a tree ---

fn bend_index(tree: &OldTree, bend: impl Fn(&str) -> String) -> Result<()> {
    let path = tree.ssl.join("CA/index.txt");
    let old = fs::read_to_string(&path)?;
    let new: String = old.lines().map(|line| bend(line) + "\n").collect();
    ensure!(old != new, "nothing was bent");
    Ok(fs::write(path, new)?)
}

fn cut_index(tree: &OldTree, bytes: usize) -> Result<()> {
    let path = tree.ssl.join("CA/index.txt");
    let mut content = fs::read(&path)?;
    content.truncate(content.len() - bytes);
    Ok(fs::write(path, content)?)
}

fn drop_line(tree: &OldTree, serial: &str) -> Result<()> {
    let path = tree.ssl.join("CA/index.txt");
    let place = format!("\t{serial}\t");
    let kept = |line: &&str| !line.contains(&place);
    let old = fs::read_to_string(&path)?;
    let new: String = old.lines().filter(kept).map(|line| format!("{line}\n")).collect();
    Ok(fs::write(path, new)?)
}

fn write(tree: &OldTree, name: &str, bytes: &[u8]) -> Result<()> {
    Ok(fs::write(tree.ssl.join(name), bytes)?)
}

fn copy(from: impl AsRef<Path>, tree: &OldTree, name: &str) -> Result<()> {
    Ok(fs::copy(from, tree.ssl.join(name)).map(drop)?)
}

fn remove(tree: &OldTree, name: &str) -> Result<()> {
    Ok(fs::remove_file(tree.ssl.join(name))?)
}

fn cut(path: &Path) -> Result<()> {
    let content = fs::read(path)?;
    Ok(fs::write(path, &content[..content.len() - 1])?)
}

fn encrypt_key(tree: &OldTree) -> Result<()> {
    let path = tree.ssl.join("CA/cacert.pem");
    let key = openssl::pkey::PKey::private_key_from_pem(&fs::read(&path)?)?;
    let cipher = openssl::symm::Cipher::aes_128_cbc();
    Ok(fs::write(path, key.private_key_to_pem_pkcs8_passphrase(cipher, b"old secret")?)?)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Words as a command line takes them.
trait Each {
    fn each(&self) -> Vec<&str>;
}

impl Each for Vec<String> {
    fn each(&self) -> Vec<&str> {
        self.iter().map(String::as_str).collect()
    }
}
