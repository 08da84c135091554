//! Keys of version 6 (RFC 9580), made by rPGP: certified like those of version 4, handed out and
//! taken back. gpg 2.2 and Debian's sq read no such key, so rPGP says what is in the answer, and
//! openssl whether our signature is over what RFC 9580 5.2.4 says.

use std::fs;

use anyhow::{Context, Result, ensure};
use openssl::{
    hash::{MessageDigest, hash},
    pkey::{Id, PKey},
    sign::Verifier,
};
use serde_json::Value;
use tests::{
    Cable, World,
    openpgp::{
        GpgHome, Packet, assert_only_certified,
        rpgp::{self, Made, Wish},
    },
    story,
};

const AUTHORITY: &str = "Authority <ca@ca.example.org>";
const POLICY: &str = "https://ca.example.org/openpgp";
const ALICE: &str = "Alice Example <alice@example.org>";
const HOME: &str = "Alice at home <alice@home.example>";
const ZOE: &str = "Zoë <zoe@example.org>";

#[test]
fn keys_of_version_6_are_certified_and_another_program_reads_them() {
    story(Cable::Unix, |world| {
        let issuer = found(world)?;
        for (kind, user_ids) in [
            ("ed25519", &[ALICE][..]),
            ("ed25519", &[ALICE, HOME, ZOE]),
            ("p256", &[ALICE]),
            ("rsa3072", &[ALICE, ZOE]),
        ] {
            let name = format!("{kind}-{}", user_ids.len());
            let made = rpgp::make(Wish { kind, ..Wish::version_6(user_ids) })?;
            certified(world, &name, &made, user_ids, &issuer).context(name)?;
        }
        Ok(())
    });
}

#[test]
fn only_the_user_ids_of_a_version_6_key_that_were_named_are_certified() {
    story(Cable::Unix, |world| {
        let issuer = found(world)?;
        let made = rpgp::make(Wish::version_6(&[ALICE, HOME, ZOE]))?;
        let key = world.write("alice.pgp", &made.public)?;
        let id = certify(world, &key, &[ZOE], &[])?;
        let answer = world.frontend(&["get", &id, "--binary"])?.done()?.stdout;
        let key = only(rpgp::read(&answer)?)?;
        ensure!(names(&key) == [ZOE], "{key}");
        // The direct-key signature, which says what a key of version 6 may do, stays with it.
        ensure!(key["direct"] == 1 && key["subkeys"] == 1, "{key}");
        ensure!(by(&key["user_ids"][0], &issuer).len() == 1, "{key}");
        Ok(())
    });
}

#[test]
fn a_certification_of_a_version_6_key_is_handed_out_and_taken_back() {
    story(Cable::Unix, |world| {
        let issuer = found(world)?;
        let made = rpgp::make(Wish::version_6(&[ALICE, HOME]))?;
        let key = world.write("alice.pgp", &made.public)?;
        let first = certify(world, &key, &[ALICE, HOME], &[])?;
        let again = certify(world, &key, &[HOME, ALICE], &[])?;
        let get = |id: &str| world.frontend(&["get", id, "--binary"])?.done();
        ensure!(get(&first)?.stdout == get(&again)?.stdout, "asked again, the answer is another");

        let listed = ["openpgp", "list", "--fingerprint", &made.fingerprint];
        let listed = world.frontend_json(&listed)?;
        ensure!(listed["certifications"].as_array().map(Vec::len) == Some(2), "{listed}");
        let held = only(keyring(world)?)?;
        ensure!(held["version"] == 6 && names(&held) == [ALICE, HOME], "{held}");
        let web = world.file("web");
        let exported = world.frontend_json(&["openpgp", "export", "--wkd", &web])?;
        let expected = serde_json::json!({ "example.org": 1, "home.example": 1 });
        ensure!(exported["domains"] == expected, "{exported}");

        let words = ["revoke", "--openpgp", &made.fingerprint, "--uid", HOME, "--wait", "60"];
        let taken = [&words[..], &["--json"]].concat();
        let taken = tests::world::id_in(&world.frontend(&taken)?.done()?)?;
        let told = only(rpgp::read(&get(&taken)?.stdout)?)?;
        let types = |user_id: &Value| -> Vec<String> {
            let ours = by(user_id, &issuer);
            ours.iter().map(|one| one["type"].as_str().unwrap_or_default().to_owned()).collect()
        };
        ensure!(names(&told) == [HOME], "{told}");
        ensure!(types(&told["user_ids"][0]) == ["cert-revocation"], "{told}");
        let held = only(keyring(world)?)?;
        ensure!(types(&held["user_ids"][0]) == ["cert-positive"], "{held}");
        ensure!(types(&held["user_ids"][1]) == ["cert-revocation"], "{held}");
        let code = world.refusal(&[&words[..5], &["--no-precheck"]].concat())?;
        ensure!(code == "openpgp-nothing-certified", "taken back twice: {code}");
        Ok(())
    });
}

/// A running world with one authority; its fingerprint.
fn found(world: &mut World) -> Result<String> {
    world.found("ec:P-256")?;
    world.signer(&["openpgp", "create", "--uid", AUTHORITY])?.done()?;
    let policy = world.path("signer/openpgp/openpgp/policies/default.toml");
    let text = fs::read_to_string(&policy)?;
    let (from, to) = ("#policy_uri = \"https://ca.example.org/openpgp-policy\"", POLICY);
    ensure!(text.contains(from), "no `{from}` in default.toml");
    fs::write(&policy, text.replace(from, &format!("policy_uri = \"{to}\"")))?;
    world.start()?;
    let listed = world.signer_json(&["openpgp", "list"])?;
    let fingerprint = listed["authorities"][0]["fingerprint"].as_str();
    Ok(fingerprint.with_context(|| format!("no fingerprint in {listed}"))?.to_owned())
}

fn certify(world: &World, key: &str, user_ids: &[&str], further: &[&str]) -> Result<String> {
    let mut words = vec!["certify", "--key", key, "--wait", "60", "--json"];
    words.extend(user_ids.iter().flat_map(|one| ["--uid", one]));
    words.extend(further);
    tests::world::id_in(&world.frontend(&words)?.done()?)
}

fn certified(
    world: &World,
    name: &str,
    made: &Made,
    user_ids: &[&str],
    issuer: &str,
) -> Result<()> {
    let key = world.write(&format!("{name}.pgp"), &made.public)?;
    let id = certify(world, &key, user_ids, &["--days", "200"])?;
    let answer = world.frontend(&["get", &id, "--binary"])?.done()?.stdout;
    assert_only_certified(&made.public, &answer, issuer)?;
    let read = only(rpgp::read(&answer)?)?;
    ensure!(read["version"] == 6 && read["fingerprint"] == *made.fingerprint, "{read}");
    ensure!(names(&read) == user_ids, "{read}");
    ensure!(read["direct"] == 1 && read["subkeys"] == 1, "{read}");
    for user_id in read["user_ids"].as_array().into_iter().flatten() {
        let [one] = &by(user_id, issuer)[..] else { anyhow::bail!("not one: {user_id}") };
        ensure!(one["version"] == 4 && one["type"] == "cert-positive", "{one}");
        ensure!(one["lasts"] == 200 * 86_400 && one["policy"] == POLICY, "{one}");
        let notations = one["notations"].as_array().context("notations")?;
        ensure!(notations.iter().any(|name| name == "serial@ca.example.org"), "{one}");
    }
    verified(world, &answer, issuer)
}

/// openssl verifies each of our signatures over what RFC 9580 5.2.4 says is hashed.
fn verified(world: &World, answer: &[u8], issuer: &str) -> Result<()> {
    let public = fs::read(world.openpgp_authority("openpgp"))?;
    let home = world.path("gpg-dearmor");
    let home = if home.exists() { GpgHome::at(home) } else { world.gpg_home("dearmor")? };
    let public = home.fed(&["--dearmor"], Some(&public))?.done()?.stdout;
    let public = Packet::all(&public)?;
    let body = &public.first().context("the authority's key")?.body;
    let raw = &body[body.len() - 32..];
    let ours = PKey::public_key_from_raw_bytes(raw, Id::ED25519)?;

    let packets = Packet::all(answer)?;
    let key = &packets.first().context("a primary key")?.body;
    let (mut user_id, mut count) = (&[][..], 0);
    for packet in &packets {
        if packet.tag == 13 {
            user_id = &packet.body;
        }
        if !packet.is_by(issuer) {
            continue;
        }
        count += 1;
        let signature = Signature::read(&packet.body).context("a signature of version 4")?;
        // A signature of version 4 hashes any key behind 0x99 and two octets.
        let length = u16::try_from(key.len())?.to_be_bytes();
        let head = [&[0x99][..], &length].concat();
        ensure!(signature.is_over(&head, key, user_id, &ours)?, "it does not verify");
        let length = u32::try_from(key.len())?.to_be_bytes();
        let other = [&[0x9b][..], &length].concat();
        ensure!(!signature.is_over(&other, key, user_id, &ours)?, "it verifies over anything");
    }
    ensure!(count > 0, "no signature by {issuer}");
    Ok(())
}

/// A signature of version 4 by Ed25519 (RFC 9580 5.2.3): what is hashed of it, and its numbers.
struct Signature<'s> {
    fields: &'s [u8],
    digest: MessageDigest,
    numbers: Vec<u8>,
}

impl<'s> Signature<'s> {
    fn read(body: &'s [u8]) -> Option<Self> {
        let two =
            |at: usize| Some(usize::from(u16::from_be_bytes(*body.get(at..)?.first_chunk()?)));
        let digest = match body.get(..4)? {
            [4, _, 22, 8] => MessageDigest::sha256(),
            [4, _, 22, 10] => MessageDigest::sha512(),
            _ => return None,
        };
        let hashed = 6 + two(4)?;
        let mut at = hashed + 2 + two(hashed)? + 2;
        let mut numbers = Vec::new();
        for _ in 0..2 {
            let length = two(at)?.div_ceil(8);
            let number = body.get(at + 2..at + 2 + length)?;
            numbers.extend(std::iter::repeat_n(0, 32 - length).chain(number.iter().copied()));
            at += 2 + length;
        }
        (at == body.len()).then_some(Self { fields: &body[..hashed], digest, numbers })
    }

    fn is_over(
        &self,
        head: &[u8],
        key: &[u8],
        user_id: &[u8],
        by: &PKey<openssl::pkey::Public>,
    ) -> Result<bool> {
        let length = u32::try_from(user_id.len())?.to_be_bytes();
        let trailer = u32::try_from(self.fields.len())?.to_be_bytes();
        let hashed =
            [head, key, &[0xb4], &length, user_id, self.fields, &[4, 0xff], &trailer].concat();
        let value = hash(self.digest, &hashed)?;
        Ok(Verifier::new_without_digest(by)?.verify_oneshot(&self.numbers, &value)?)
    }
}

//------------ What rPGP read ------------------------------------------------

fn keyring(world: &World) -> Result<Vec<Value>> {
    let words = ["openpgp", "export", "--keyring", "-"];
    rpgp::read(&world.frontend(&words)?.done()?.stdout)
}

fn only(mut keys: Vec<Value>) -> Result<Value> {
    ensure!(keys.len() == 1, "{} keys", keys.len());
    keys.pop().context("one key")
}

fn names(key: &Value) -> Vec<&str> {
    let user_ids = key["user_ids"].as_array();
    user_ids.into_iter().flatten().filter_map(|one| one["user_id"].as_str()).collect()
}

/// The signatures on a user ID that name this issuer.
fn by<'v>(user_id: &'v Value, issuer: &str) -> Vec<&'v Value> {
    let signatures = user_id["signatures"].as_array();
    let names =
        |one: &&Value| one["issuers"].as_array().is_some_and(|all| all.contains(&issuer.into()));
    signatures.into_iter().flatten().filter(names).collect()
}
