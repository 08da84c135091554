//! Keys of every kind that people have, made by gpg and by sq, uploaded in both forms with one,
//! three and fifty user IDs: each comes back certified, both programs take it, gpg finds every
//! certification good with the policy and the expiry that were asked for, and nothing else is
//! changed, packet by packet.
//!
//! One key of each kind and program is made; the program itself writes it out with fewer user IDs.
//! Each number of user IDs has an authority of its own, so that no answer repeats another.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::{
    Cable, Ended, World,
    openpgp::{GpgHome, Packet, assert_only_certified, run},
    story,
};

const POLICY: &str = "https://ca.example.org/openpgp";
const DAYS: i64 = 200;

/// An authority for each number of user IDs, with a key of another kind.
const AUTHORITIES: [Authority; 3] = [
    Authority { name: "one", key: "ed25519", user_ids: 1 },
    Authority { name: "three", key: "rsa3072", user_ids: 3 },
    Authority { name: "fifty", key: "p256", user_ids: 50 },
];

struct Authority {
    name: &'static str,
    key: &'static str,
    user_ids: usize,
}

/// A kind of key, and how each program comes by one.
struct Kind {
    name: &'static str,
    /// gpg's names of the primary key's algorithm and of the encryption subkey's.
    gpg: [&'static str; 2],
    sq: Sq,
}

/// What `sq` of Debian 12 (0.27, on Nettle) can do with a kind of key.
enum Sq {
    /// It makes one with this `--cipher-suite`.
    Makes(&'static str),
    /// It cannot make one: `--cipher-suite` has no such choice. It takes gpg's and signs the user
    /// IDs with it.
    Signs(&'static str),
    /// It can neither make nor use one.
    Cannot(&'static str),
}

const KINDS: [Kind; 5] = [
    Kind { name: "rsa2048", gpg: ["rsa2048", "rsa2048"], sq: Sq::Signs("rsa2k") },
    Kind { name: "rsa4096", gpg: ["rsa4096", "rsa2048"], sq: Sq::Makes("rsa4k") },
    Kind { name: "ed25519", gpg: ["ed25519", "cv25519"], sq: Sq::Makes("cv25519") },
    Kind { name: "p256", gpg: ["nistp256", "nistp256"], sq: Sq::Signs("nistp256") },
    Kind {
        name: "brainpool",
        gpg: ["brainpoolP256r1", "brainpoolP256r1"],
        sq: Sq::Cannot("brainpoolP256r1"),
    },
];

#[test]
fn rsa_2048_keys_are_certified_and_both_programs_take_them() {
    matrix(&KINDS[0]);
}

#[test]
fn rsa_4096_keys_are_certified_and_both_programs_take_them() {
    matrix(&KINDS[1]);
}

#[test]
fn ed25519_keys_are_certified_and_both_programs_take_them() {
    matrix(&KINDS[2]);
}

#[test]
fn p256_keys_are_certified_and_both_programs_take_them() {
    matrix(&KINDS[3]);
}

#[test]
fn brainpool_keys_are_certified_and_gpg_takes_them_while_sq_says_that_it_cannot() {
    matrix(&KINDS[4]);
}

fn matrix(kind: &Kind) {
    story(Cable::Unix, |world| {
        found(world)?;
        let made = kind.by_gpg(world)?;
        check(world, kind, "gpg", &made)?;
        if let Some(made) = kind.by_sq(world)? {
            check(world, kind, "sq", &made)?;
        }
        Ok(())
    });
}

/// A running world with the three authorities, each with a policy that names its text and gives
/// serial numbers.
fn found(world: &mut World) -> Result<()> {
    world.found("ec:P-256")?;
    for Authority { name, key, .. } in AUTHORITIES {
        let user_id = format!("Authority {name} <{name}@ca.example.org>");
        world.signer(&["openpgp", "create", name, "--uid", &user_id, "--key", key])?.done()?;
        let policy = world.path(&format!("signer/openpgp/{name}/policies/default.toml"));
        let text = fs::read_to_string(&policy)?;
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("policy_uri") && !line.starts_with("notation_domain"));
        let lines: Vec<&str> = lines.collect();
        let head = format!("policy_uri = \"{POLICY}\"\nnotation_domain = \"ca.example.org\"\n");
        fs::write(&policy, format!("{head}{}\n", lines.join("\n")))?;
    }
    world.start()
}

//------------ The keys ------------------------------------------------------

/// A key in three sizes, and a signature by it over [`TEXT`].
struct Made {
    fingerprint: String,
    /// With one, three and fifty user IDs, binary.
    uploads: Vec<Vec<u8>>,
    signature: Vec<u8>,
}

const TEXT: &[u8] = b"signed by the owner of the key\n";

fn user_ids(number: usize) -> Vec<String> {
    let one = |at| format!("Person Number {at:02} <p{at:02}@people.example.org>");
    (1..=number).map(one).collect()
}

impl Kind {
    fn by_gpg(&self, world: &World) -> Result<Made> {
        let home = world.gpg_home("maker")?;
        let user_ids = user_ids(50);
        let fingerprint = home.make(&user_ids[0], self.gpg[0], "2y")?;
        home.gpg(&["--quick-add-key", &fingerprint, self.gpg[1], "encr", "2y"])?;
        home.add_user_ids(&fingerprint, &user_ids[1..])?;
        let three = "uid =~ Number 01 || uid =~ Number 02 || uid =~ Number 03";
        let uploads = ["uid =~ Number 01", three];
        let uploads = uploads.map(|keep| home.export(&fingerprint, Some(keep)));
        let uploads = uploads.into_iter().chain([home.export(&fingerprint, None)]);
        let uploads = uploads.collect::<Result<Vec<_>>>()?;
        let signature = home.fed(&["--detach-sign"], Some(TEXT))?.done()?.stdout;
        Ok(Made { fingerprint, uploads, signature })
    }

    /// Nothing where it can do nothing with such a key, which it must say itself.
    fn by_sq(&self, world: &World) -> Result<Option<Made>> {
        let file = |name: &str| world.file(&format!("sq-{name}"));
        let (one, all) = (file("01.pgp"), user_ids(50));
        let generate = |suite: &str| {
            let words = ["key", "generate", "--cipher-suite", suite, "--userid", &all[0]];
            let further = ["--cannot-authenticate", "--export", &one, "--rev-cert", &file("rev")];
            run("sq", &[&words[..], &further].concat(), &[], None)
        };
        let suite = match self.sq {
            Sq::Makes(suite) => {
                generate(suite)?.done()?;
                suite
            }
            Sq::Signs(suite) | Sq::Cannot(suite) => {
                let said = generate(suite)?.stderr;
                let choices = "possible values: rsa3k, rsa4k, cv25519";
                ensure!(said.contains(choices), "sq makes {suite} now: {said}");
                let home = world.gpg_home("lender")?;
                let fingerprint = home.make(&all[0], self.gpg[0], "2y")?;
                fs::write(&one, home.export_secret(&fingerprint)?)?;
                suite
            }
        };
        let (mut uploads, mut last) = (Vec::new(), one.clone());
        for number in AUTHORITIES.map(|authority| authority.user_ids) {
            if number > 1 {
                last = file(&format!("{number:02}.pgp"));
                let mut words = vec!["key", "userid", "add", "--output", &last];
                words.extend(all[1..number].iter().flat_map(|one| ["--userid", one.as_str()]));
                words.push(&one);
                let ended = in_another_second(&words)?;
                if matches!(self.sq, Sq::Cannot(_)) {
                    let refused = ended.code != Some(0) && ended.stderr.contains("no suitable key");
                    ensure!(refused, "sq can sign with {suite} now: {}", ended.stderr);
                    return Ok(None);
                }
                ended.done()?;
            }
            let public = ["key", "extract-cert", "--binary", &last];
            uploads.push(world.sequoia("sq", &public, None)?.stdout);
        }
        let words = ["sign", "--detached", "--binary", "--signer-key", &last];
        let signature = world.sequoia("sq", &words, Some(TEXT))?.stdout;
        let home = world.gpg_home("reader")?;
        home.fed(&["--import"], Some(&uploads[0]))?.done()?;
        Ok(Some(Made { fingerprint: home.fingerprint(&all[0])?, uploads, signature }))
    }
}

/// Runs sq again as long as the key's own signature is of this very second: it signs nothing that
/// would not be newer.
fn in_another_second(words: &[&str]) -> Result<Ended> {
    let mut ended = run("sq", words, &[], None)?;
    for _ in 0..TRIES_MAX {
        if !ended.stderr.contains("newer than SignatureBuilder template") {
            break;
        }
        ended = run("sq", words, &[], None)?;
    }
    Ok(ended)
}

/// More than sq can be started in a second.
const TRIES_MAX: usize = 1000;

//------------ Certified -----------------------------------------------------

fn check(world: &World, kind: &Kind, by: &str, made: &Made) -> Result<()> {
    for (authority, upload) in AUTHORITIES.iter().zip(&made.uploads) {
        let name = format!("{by}-{}-{}", kind.name, authority.name);
        certified(world, kind, authority, &name, made, upload).with_context(|| name.clone())?;
    }
    Ok(())
}

fn certified(
    world: &World,
    kind: &Kind,
    authority: &Authority,
    name: &str,
    made: &Made,
    upload: &[u8],
) -> Result<()> {
    let binary = world.write(&format!("{name}.pgp"), upload)?;
    let armoured = world.sequoia("sq", &["armor", "--label", "cert", &binary], None)?.stdout;
    let armoured = world.write(&format!("{name}.asc"), armoured)?;

    // Asked for in both forms: the second is the same wish, and gets the same answer.
    let from_binary = ask(world, authority, &binary, false)?;
    let from_armour = ask(world, authority, &armoured, true)?;
    let answer = world.frontend(&["get", &from_binary, "--binary"])?.done()?.stdout;
    let file = world.file(&format!("{name}-certified.asc"));
    world.frontend(&["get", &from_armour, "--out", &file])?.done()?;
    let inside = world.sequoia("sq", &["dearmor", &file], None)?.stdout;
    ensure!(inside == answer, "the armoured upload has another answer");

    let ca = world.openpgp_authority(authority.name);
    let home = world.gpg_home(name)?;
    home.gpg(&["--import", &ca, &file])?;
    let issuer =
        home.fingerprint(&format!("Authority {0} <{0}@ca.example.org>", authority.name))?;
    assert_only_certified(upload, &answer, &issuer)?;
    by_gpg(&home, authority, made, &issuer)?;
    by_sequoia(world, kind, authority, name, made, &answer)?;
    match kind.sq {
        Sq::Cannot(_) => Ok(()),
        Sq::Makes(_) | Sq::Signs(_) => by_web_of_trust(authority, made, &file, &ca, &issuer),
    }
}

/// Asks with the words of the program's two forms; the request's id.
fn ask(world: &World, authority: &Authority, key: &str, by_address: bool) -> Result<String> {
    let days = DAYS.to_string();
    let fixed = ["certify", "--authority", authority.name, "--key", key, "--days", &days];
    let mut words: Vec<String> = fixed.into_iter().map(str::to_owned).collect();
    for user_id in user_ids(authority.user_ids) {
        match user_id.trim_end_matches('>').split_once(" <").filter(|_| by_address) {
            Some((name, address)) => {
                words.extend(["--name", name, "--address", address].map(str::to_owned));
            }
            None => words.extend(["--uid".to_owned(), user_id]),
        }
    }
    words.extend(["--wait", "60", "--json"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    tests::world::id_in(&world.frontend(&words)?.done()?)
}

/// gpg took the key and the authority's: each user ID has one good certification, with care, with
/// the expiry, the policy and a serial number.
fn by_gpg(home: &GpgHome, authority: &Authority, made: &Made, issuer: &str) -> Result<()> {
    let judged = home.certifications(&made.fingerprint, issuer)?;
    ensure!(judged.len() == authority.user_ids, "{} user IDs", judged.len());
    let mut serials = Vec::new();
    for user_id in &judged {
        let [one] = &user_id.signatures[..] else {
            anyhow::bail!("{user_id:?}: not one certification");
        };
        let good = (one.verdict.as_str(), one.class.as_str()) == ("!", "13x");
        ensure!(good, "{user_id:?}");
        ensure!(one.expires == Some(one.created + DAYS * 86_400), "{one:?}");
        ensure!(one.policies == [POLICY], "{one:?}");
        let serial = one.notations.iter().find(|one| one.starts_with("serial@ca.example.org="));
        serials.push(serial.with_context(|| format!("{one:?} has no serial"))?.clone());
    }
    serials.sort();
    serials.dedup();
    ensure!(serials.len() == authority.user_ids, "a serial number was used twice");
    Ok(())
}

/// Sequoia's web of trust verifies our certifications by itself: who trusts the authority alone
/// knows each user ID to be the key's.
fn by_web_of_trust(
    authority: &Authority,
    made: &Made,
    key: &str,
    ca: &str,
    issuer: &str,
) -> Result<()> {
    let identify = |root: &str| {
        let words = ["--keyring", key, "--keyring", ca, "--trust-root", root];
        run("sq-wot", &[&words[..], &["identify", &made.fingerprint]].concat(), &[], None)
    };
    let known = identify(issuer)?.done()?.text();
    for user_id in user_ids(authority.user_ids) {
        let line = format!("[✓] {} {user_id}: fully authenticated", made.fingerprint);
        ensure!(known.contains(&line), "{user_id}: {known}");
    }
    let unknown = identify(&"A".repeat(40))?;
    ensure!(unknown.code != Some(0), "it is believed without the authority: {}", unknown.text());
    Ok(())
}

/// sq reads the key and lists every certification; sqv and sqop accept the owner's signature by
/// it. (sq of Debian 12 says of itself that it verifies no certification by others.)
fn by_sequoia(
    world: &World,
    kind: &Kind,
    authority: &Authority,
    name: &str,
    made: &Made,
    answer: &[u8],
) -> Result<()> {
    let key = world.write(&format!("{name}-certified.pgp"), answer)?;
    let shown = world.sequoia("sq", &["inspect", "--certifications", &key], None)?.text();
    ensure!(shown.contains(&made.fingerprint), "{shown}");
    let signature = world.write(&format!("{name}.sig"), &made.signature)?;
    let text = world.write("text", TEXT)?;
    let sqv = run("sqv", &["--keyring", &key, &signature, &text], &[], None)?;
    if matches!(kind.sq, Sq::Cannot(_)) {
        // Nettle, on which these stand, has no Brainpool curve, so they believe nothing of the key.
        ensure!(shown.contains("No binding signature"), "sq knows {} now: {shown}", kind.name);
        ensure!(sqv.code != Some(0), "sqv knows {} now", kind.name);
        return Ok(());
    }
    ensure!(!shown.contains("Invalid") && !shown.contains("Bad Signature"), "{shown}");
    let listed = shown.matches("Alleged certifier").count();
    ensure!(listed == authority.user_ids, "sq lists {listed} certifications: {shown}");
    sqv.done()?;
    world.sequoia("sqop", &["verify", &signature, &key], Some(TEXT))?;
    // Both agree with each other on what is in it.
    let packets = Packet::all(answer)?;
    let dumped = world.sequoia("sq", &["packet", "dump", &key], None)?.text();
    let signatures = dumped.lines().filter(|line| line.starts_with("Signature Packet")).count();
    let ours = packets.iter().filter(|packet| packet.tag == 2).count();
    ensure!(signatures == ours, "sq sees {signatures} signatures of {ours}");
    Ok(())
}
