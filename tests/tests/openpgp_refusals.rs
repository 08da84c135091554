//! What is refused of OpenPGP keys, by which code, at both ends: keys made by gpg and rPGP, uploaded
//! through the frontend's early checks and around them, and the queue moves on behind each.

use std::{cell::RefCell, collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use protocol::{
    bounded::List,
    message::{Answer, ApprovedUserId, CertifyOpenPgp, RefusalCode, Request},
};
use tests::{
    Bare, Cable, World,
    openpgp::{
        GpgHome, Packet,
        rpgp::{self, Wish},
    },
    story,
};

/// One bad upload or wish.
struct Bad {
    what: &'static str,
    code: &'static str,
    /// The user ID that is asked for, and of the key that is made.
    user_id: &'static str,
    policy: &'static str,
    days: &'static str,
    upload: fn(&Makers<'_>, &str) -> Result<Vec<u8>>,
}

const ALICE: &str = "Alice <alice@example.org>";

/// What is good in all but the part that a case replaces.
const GOOD: Bad = Bad {
    what: "nothing",
    code: "",
    user_id: ALICE,
    policy: "default",
    days: "30",
    upload: |makers, user_id| makers.plain(user_id),
};

const CASES: [Bad; 29] = [
    Bad {
        what: "two keys",
        code: "openpgp-several",
        upload: |makers, user_id| {
            Ok([makers.plain(user_id)?, makers.plain("Bob <bob@example.org>")?].concat())
        },
        ..GOOD
    },
    Bad { what: "version 3", code: "openpgp-version", upload: version_3, ..GOOD },
    Bad {
        what: "DSA",
        code: "openpgp-algorithm",
        upload: |makers, user_id| makers.of(user_id, "dsa2048", &[]),
        ..GOOD
    },
    Bad {
        what: "RSA of 1,024 bits",
        code: "openpgp-key-size",
        upload: |makers, user_id| makers.of(user_id, "rsa1024", &[]),
        ..GOOD
    },
    Bad {
        what: "a curve that no policy takes",
        code: "openpgp-key-kind",
        upload: |makers, user_id| makers.of(user_id, "secp256k1", &[]),
        ..GOOD
    },
    Bad {
        what: "a kind that this policy does not take",
        code: "openpgp-key-kind",
        policy: "rsa",
        ..GOOD
    },
    Bad {
        what: "a key of the future",
        code: "openpgp-key",
        upload: |makers, user_id| makers.at("20991231T000000", user_id, "never"),
        ..GOOD
    },
    Bad {
        what: "self-signatures with SHA-1 only",
        code: "openpgp-digest",
        upload: |makers, user_id| makers.of(user_id, "rsa2048", &["--cert-digest-algo", "SHA1"]),
        ..GOOD
    },
    Bad {
        what: "an expired key",
        code: "openpgp-expired",
        upload: |makers, user_id| makers.at("20200101T000000", user_id, "1y"),
        ..GOOD
    },
    Bad { what: "a revoked key", code: "openpgp-revoked", upload: revoked, ..GOOD },
    Bad {
        what: "a primary key that may only sign",
        code: "openpgp-cannot-certify",
        upload: |_, user_id| {
            let kind = "ed25519-legacy";
            Ok(rpgp::make(Wish {
                version: 4,
                kind,
                certifies: false,
                ..Wish::version_6(&[user_id])
            })?
            .public)
        },
        ..GOOD
    },
    Bad {
        what: "nothing to encrypt to, where the policy wants it",
        code: "openpgp-no-encryption",
        policy: "mail",
        ..GOOD
    },
    Bad {
        what: "another's user ID",
        code: "openpgp-user-id",
        upload: |makers, _| makers.plain("Bob <bob@example.org>"),
        ..GOOD
    },
    Bad {
        what: "another's address beside the right name",
        code: "openpgp-user-id",
        upload: |makers, _| makers.plain("Alice <alice@example.com>"),
        ..GOOD
    },
    Bad {
        what: "a user ID that its owner never signed",
        code: "openpgp-self-signature",
        upload: |makers, user_id| {
            let unsigned = Packet { tag: 13, body: user_id.as_bytes().to_vec() };
            let mut key = Vec::new();
            for packet in Packet::all(&makers.plain("Carol <carol@example.org>")?)? {
                if packet.tag == 14 && !key.is_empty() {
                    break;
                }
                key.extend(packet.write());
            }
            Ok([key, unsigned.write()].concat())
        },
        ..GOOD
    },
    Bad {
        what: "a revoked user ID",
        code: "openpgp-user-id-revoked",
        upload: |makers, user_id| {
            makers.plain("Alice, again <again@example.org>")?;
            let home = makers.home()?;
            home.gpg(&["--quick-add-uid", "=Alice, again <again@example.org>", user_id])?;
            home.gpg(&["--quick-revoke-uid", "=Alice, again <again@example.org>", user_id])?;
            let fingerprint = home.fingerprint("Alice, again <again@example.org>")?;
            home.export(&fingerprint, None)
        },
        ..GOOD
    },
    Bad {
        what: "two addresses",
        code: "openpgp-user-id-form",
        user_id: "Alice <alice@example.org> <mallory@example.com>",
        ..GOOD
    },
    Bad {
        what: "an address for a name",
        code: "openpgp-user-id-form",
        user_id: "bank@example.com <alice@example.org>",
        ..GOOD
    },
    Bad {
        what: "a Cyrillic letter in a Latin word",
        code: "openpgp-user-id-form",
        user_id: "\u{0410}lice <alice@example.org>",
        ..GOOD
    },
    Bad {
        what: "what turns the reading around",
        code: "openpgp-user-id-form",
        user_id: "Alice \u{202e}<gro.elpmaxe@ecila>",
        upload: |makers, _| makers.plain(ALICE),
        ..GOOD
    },
    Bad { what: "no day at all", code: "validity", days: "0", ..GOOD },
    Bad { what: "65,535 days", code: "validity", days: "65535", ..GOOD },
    Bad { what: "an unknown policy", code: "openpgp-policy-unknown", policy: "none", ..GOOD },
    Bad {
        what: "version 6 that may only sign",
        code: "openpgp-cannot-certify",
        upload: |_, user_id| {
            Ok(rpgp::make(Wish { certifies: false, ..Wish::version_6(&[user_id]) })?.public)
        },
        ..GOOD
    },
    Bad {
        what: "version 6 with nothing to encrypt to, where the policy wants it",
        code: "openpgp-no-encryption",
        policy: "mail",
        upload: |_, user_id| {
            Ok(rpgp::make(Wish { encrypts: false, ..Wish::version_6(&[user_id]) })?.public)
        },
        ..GOOD
    },
    Bad {
        what: "version 6, Ed448, which the policy does not take",
        code: "openpgp-key-kind",
        upload: |_, user_id| {
            Ok(rpgp::make(Wish { kind: "ed448", ..Wish::version_6(&[user_id]) })?.public)
        },
        ..GOOD
    },
    Bad {
        what: "version 6 of the future",
        code: "openpgp-key",
        upload: |_, user_id| {
            let created = Some(4_070_908_800); // 2099
            Ok(rpgp::make(Wish { created, ..Wish::version_6(&[user_id]) })?.public)
        },
        ..GOOD
    },
    Bad {
        what: "version 6 without any user ID, as RFC 9580 A.3 prints it",
        code: "openpgp-user-id",
        upload: |_, _| Ok(RFC_9580_A_3.into()),
        ..GOOD
    },
    Bad {
        what: "version 5, which RFC 9580 does not know",
        code: "openpgp-version",
        upload: |_, user_id| {
            let mut key = rpgp::make(Wish::version_6(&[user_id]))?.public;
            // The version is the first octet behind a header of two.
            ensure!(key[2] == 6, "the key begins with {:?}", &key[..3]);
            key[2] = 5;
            Ok(key)
        },
        ..GOOD
    },
];

/// What is no key, as far as anybody can read: it might be a secret one.
const UNREADABLE: [Bad; 3] = [
    Bad { what: "junk", code: "openpgp-malformed", upload: |_, _| Ok(b"hello".to_vec()), ..GOOD },
    Bad {
        what: "a message instead of a key",
        code: "openpgp-malformed",
        upload: |makers, user_id| {
            makers.plain(user_id)?;
            Ok(makers.home()?.fed(&["--sign"], Some(b"text"))?.done()?.stdout)
        },
        ..GOOD
    },
    Bad {
        what: "a key that is cut off",
        code: "openpgp-malformed",
        upload: |makers, user_id| {
            let whole = makers.plain(user_id)?;
            Ok(whole[..whole.len() - 5].to_vec())
        },
        ..GOOD
    },
];

/// The version 6 certificate of RFC 9580, appendix A.3: a direct-key signature and a subkey.
const RFC_9580_A_3: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----

xioGY4d/4xsAAAAg+U2nu0jWCmHlZ3BqZYfQMxmZu52JGggkLq2EVD34laPCsQYf
GwoAAABCBYJjh3/jAwsJBwUVCg4IDAIWAAKbAwIeCSIhBssYbE8GCaaX5NUt+mxy
KwwfHifBilZwj2Ul7Ce62azJBScJAgcCAAAAAK0oIBA+LX0ifsDm185Ecds2v8lw
gyU2kCcUmKfvBXbAf6rhRYWzuQOwEn7E/aLwIwRaLsdry0+VcallHhSu4RN6HWaE
QsiPlR4zxP/TP7mhfVEe7XWPxtnMUMtf15OyA51YBM4qBmOHf+MZAAAAIIaTJINn
+eUBXbki+PSAld2nhJh/LVmFsS+60WyvXkQ1wpsGGBsKAAAALAWCY4d/4wKbDCIh
BssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce62azJAAAAAAQBIKbpGG2dWTX8
j+VjFM21J0hqWlEg+bdiojWnKfA5AQpWUWtnNwDEM0g12vYxoWM8Y81W+bHBw805
I8kWVkXU6vFOi+HWvv/ira7ofJu16NnoUkhclkUrk0mXubZvyl4GBg==
-----END PGP PUBLIC KEY BLOCK-----
";

/// What other stories of this file reach, each with its own set-up.
const ELSEWHERE: [&str; 4] = [
    "openpgp-authority-unknown",
    "openpgp-nothing-certified",
    "openpgp-secret",
    "openpgp-unavailable",
];

/// gpg's folders, one for each key.
struct Makers<'w> {
    world: &'w World,
    homes: RefCell<usize>,
}

impl Makers<'_> {
    /// A new folder, for keys that would mix.
    fn fresh(&self) -> Result<GpgHome> {
        *self.homes.borrow_mut() += 1;
        self.world.gpg_home(&format!("bad-{}", self.homes.borrow()))
    }

    /// The folder of the keys that are good in themselves.
    fn home(&self) -> Result<GpgHome> {
        let folder = self.world.path("gpg-good");
        match folder.exists() {
            true => Ok(GpgHome::at(folder)),
            false => self.world.gpg_home("good"),
        }
    }

    /// A good key for this user ID; the same whenever it is asked for.
    fn plain(&self, user_id: &str) -> Result<Vec<u8>> {
        let home = self.home()?;
        let fingerprint = match home.fingerprint(user_id) {
            Ok(fingerprint) => fingerprint,
            Err(_) => home.make(user_id, "ed25519", "2y")?,
        };
        home.export(&fingerprint, None)
    }

    /// A key of this algorithm, made with these options.
    fn of(&self, user_id: &str, algorithm: &str, options: &[&str]) -> Result<Vec<u8>> {
        let home = self.fresh()?;
        let generate = ["--quick-gen-key", user_id, algorithm, "cert,sign", "2y"];
        home.gpg(&[options, &generate].concat())?;
        home.export(&home.fingerprint(user_id)?, None)
    }

    /// A key that was made when gpg believed that it was then.
    fn at(&self, time: &str, user_id: &str, expires: &str) -> Result<Vec<u8>> {
        let home = self.fresh()?;
        let then = ["--faked-system-time", time];
        let generate = ["--quick-gen-key", user_id, "ed25519", "cert,sign", expires];
        home.gpg(&[&then[..], &generate].concat())?;
        home.export(&home.fingerprint(user_id)?, None)
    }
}

/// A key with the revocation certificate that gpg made along with it.
fn revoked(makers: &Makers<'_>, user_id: &str) -> Result<Vec<u8>> {
    let home = makers.fresh()?;
    let fingerprint = home.make(user_id, "ed25519", "2y")?;
    let file = home.path(&format!("openpgp-revocs.d/{fingerprint}.rev"));
    // gpg writes a colon before the armour, so that nobody imports it unawares.
    let certificate = fs::read_to_string(file)?.replace("\n:-----", "\n-----");
    home.fed(&["--import"], Some(certificate.as_bytes()))?.done()?;
    home.export(&fingerprint, None)
}

/// PGP 2.6's form (RFC 9580 5.5.2.1), which no program here makes: by hand, of a real RSA modulus.
fn version_3(makers: &Makers<'_>, user_id: &str) -> Result<Vec<u8>> {
    let rsa = makers.of(user_id, "rsa2048", &[])?;
    let packets = Packet::all(&rsa)?;
    let key = packets.first().context("gpg exports a key")?;
    // 4, time, 1, n, e becomes 3, time, days, 1, n, e.
    let (head, numbers) = key.body.split_at(5);
    let body = [&[3], &head[1..], &[0, 0], numbers].concat();
    let key = Packet { tag: key.tag, body };
    Ok(packets.iter().skip(1).fold(key.write(), |bytes, packet| [bytes, packet.write()].concat()))
}

#[test]
fn every_code_for_openpgp_is_reached_here() {
    let cases = CASES.iter().chain(&UNREADABLE).map(|case| case.code);
    let reached: BTreeSet<&str> = cases.chain(ELSEWHERE).collect();
    let all = RefusalCode::TABLE.iter().map(|(_, name, _)| *name);
    let of_openpgp: BTreeSet<&str> = all.filter(|name| name.starts_with("openpgp-")).collect();
    assert_eq!(&reached - &of_openpgp, ["validity"].into(), "no such code");
    assert_eq!(&of_openpgp - &reached, BTreeSet::new(), "no story reaches them");
}

#[test]
fn each_bad_key_is_refused_with_its_code_at_both_ends_and_the_queue_moves_on() {
    story(Cable::Unix, |world| {
        found(world)?;
        let makers = Makers { world, homes: RefCell::new(0) };
        // The catalogue is here, so that the early checks know the policies.
        certify_good(world, &makers, "Before <before@example.org>")?;
        for (number, case) in CASES.iter().enumerate() {
            let what = case.what;
            let upload = (case.upload)(&makers, case.user_id).context(what)?;
            let key = world.write(&format!("case-{number}.pgp"), upload)?;
            let words = ["certify", "--key", &key, "--uid", case.user_id];
            let words = [&words[..], &["--policy", case.policy, "--days", case.days]].concat();
            let early = world.refusal(&words).context(what)?;
            ensure!(early == case.code, "{what}: {early} where {} is expected", case.code);
            let late = late_refusal(world, &words).context(what)?;
            ensure!(late == case.code, "{what}: the signer says {late}");
        }
        certify_good(world, &makers, "After <after@example.org>")
    });
}

#[test]
fn what_cannot_be_read_gets_into_no_queue_and_is_refused_at_both_ends() {
    story(Cable::Unix, |world| {
        found(world)?;
        let makers = Makers { world, homes: RefCell::new(0) };
        certify_good(world, &makers, "Before <before@example.org>")?;
        let mut uploads = Vec::new();
        for Bad { what, code, user_id, upload, .. } in UNREADABLE {
            let upload = upload(&makers, user_id).context(what)?;
            let key = world.write("unreadable.pgp", &upload)?;
            for further in [&[][..], &["--no-precheck"]] {
                let words = [&["certify", "--key", &key, "--uid", user_id][..], further].concat();
                // Without waiting: what got into the queue has no refusal yet.
                let ended = world.frontend(&words)?.with_code(2).context(what)?;
                let refused = format!("refused ({code})");
                ensure!(ended.stderr.contains(&refused), "{what}: {}", ended.stderr);
            }
            uploads.push((what, code, upload));
        }
        // Around the frontend, as a stolen host could send it.
        world.running_frontend()?.stop(tests::world::START_MAX)?;
        let mut bare = Bare::connect_to(world, 0xbad)?;
        for (what, code, upload) in uploads {
            let answer = certify_bare(&mut bare, upload)?;
            let Answer::Refused { code: late, .. } = answer else { anyhow::bail!("{answer:?}") };
            ensure!(late.name() == code, "{what}: the signer says {late}");
        }
        Ok(())
    });
}

#[test]
fn whom_and_what_nobody_knows_is_refused_at_both_ends() {
    story(Cable::Unix, |world| {
        found(world)?;
        let makers = Makers { world, homes: RefCell::new(0) };
        certify_good(world, &makers, ALICE)?;
        let key = world.write("alice.pgp", makers.plain(ALICE)?)?;
        let fingerprint = makers.home()?.fingerprint(ALICE)?;
        let nobody = fingerprint.replace(|c: char| c.is_ascii_digit(), "A");
        let cases: [(&[&str], &str); 5] = [
            (
                &["certify", "--authority", "other", "--key", &key, "--uid", ALICE],
                "openpgp-authority-unknown",
            ),
            (&["certify", "--key", &key], "openpgp-user-id-form"),
            (
                &["revoke", "--authority", "other", "--openpgp", &fingerprint],
                "openpgp-authority-unknown",
            ),
            (&["revoke", "--openpgp", &nobody], "openpgp-nothing-certified"),
            (
                &["revoke", "--openpgp", &fingerprint, "--uid", "Bob <b@example.org>"],
                "openpgp-nothing-certified",
            ),
        ];
        for (words, code) in cases {
            if code != "openpgp-nothing-certified" {
                let early = world.refusal(words)?;
                ensure!(early == code, "{words:?}: {early}");
            }
            let late = late_refusal(world, words)?;
            ensure!(late == code, "{words:?}: the signer says {late}");
        }
        Ok(())
    });
}

#[test]
fn a_signer_without_an_openpgp_key_says_so() {
    story(Cable::Unix, |world| {
        world.found("ec:P-256")?;
        world.start()?;
        let makers = Makers { world, homes: RefCell::new(0) };
        let key = world.write("alice.pgp", makers.plain(ALICE)?)?;
        let words = ["certify", "--authority", "openpgp", "--key", &key, "--uid", ALICE];
        let late = late_refusal(world, &words)?;
        ensure!(late == "openpgp-unavailable", "{late}");
        let early = world.refusal(&words)?;
        ensure!(early == "openpgp-unavailable", "{early}");
        Ok(())
    });
}

#[test]
fn secret_key_material_stays_out_of_queue_ledger_and_logs_at_both_ends() {
    story(Cable::Unix, |world| {
        found(world)?;
        let makers = Makers { world, homes: RefCell::new(0) };
        makers.plain(ALICE)?;
        let home = makers.home()?;
        let secret = home.export_secret(&home.fingerprint(ALICE)?)?;
        let key = world.write("upload/secret.pgp", &secret)?;
        let version_6 = rpgp::make(Wish::version_6(&[ALICE]))?.secret;
        let version_6 = world.write("upload/secret-6.pgp", version_6)?;
        // As a Windows shell writes it, and as nobody can read it any more.
        let armoured = world.sequoia("sq", &["armor", "--label", "key", &key], None)?.text();
        let units = armoured.encode_utf16().flat_map(u16::to_le_bytes);
        let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(units).collect();
        let utf16 = world.write("upload/secret.txt", utf16)?;
        let broken = world.write("upload/broken.pgp", [&[0][..], &secret].concat())?;
        for (key, expected) in [
            (&key, "openpgp-secret"),
            (&version_6, "openpgp-secret"),
            (&utf16, "openpgp-secret"),
            (&broken, "openpgp-malformed"),
        ] {
            for words in [&[][..], &["--no-precheck"]] {
                let words = [&["certify", "--key", key, "--uid", ALICE][..], words].concat();
                let code = world.refusal(&words)?;
                ensure!(code == expected, "{key}: {code}");
            }
        }
        // Around the frontend, as a stolen host could send it.
        world.running_frontend()?.stop(tests::world::START_MAX)?;
        let mut bare = Bare::connect_to(world, 0x5ec)?;
        let answer = certify_bare(&mut bare, secret.clone())?;
        let Answer::Refused { code, .. } = answer else { anyhow::bail!("{answer:?}") };
        ensure!(code.name() == "openpgp-secret", "{code}");
        drop(bare);
        world.running_signer()?.stop(tests::world::START_MAX)?.done()?;
        // The last octets of the secret key packet are the secret number and its checksum.
        let packets = Packet::all(&secret)?;
        let body = &packets.first().context("gpg exports a key")?.body;
        let trace = &body[body.len() - 20..];
        for folder in ["signer", "frontend", "signer.log", "frontend.log"] {
            let found = tests::openpgp::find(&world.path(folder), trace)?;
            ensure!(found.is_none(), "secret key material lies in {found:?}");
        }
        let found = tests::openpgp::find(&world.path("upload"), trace)?;
        ensure!(found.is_some(), "the search finds what is there");
        Ok(())
    });
}

/// A running world with an authority and two more policies.
fn found(world: &mut World) -> Result<()> {
    world.found("ec:P-256")?;
    world.signer(&["openpgp", "create", "--uid", "Authority <ca@example.org>"])?.done()?;
    let folder = world.path("signer/openpgp/openpgp/policies");
    let text = fs::read_to_string(folder.join("default.toml"))?;
    for (name, from, to) in [
        ("mail.toml", "needs_encryption = false", "needs_encryption = true"),
        ("rsa.toml", "\"rsa\", \"ed25519\",", "\"rsa\","),
    ] {
        ensure!(text.contains(from), "no `{from}` in default.toml");
        fs::write(folder.join(name), text.replace(from, to))?;
    }
    fs::create_dir(world.path("upload"))?;
    world.start()
}

/// The code with which the signer itself refuses what goes around the early checks.
fn late_refusal(world: &World, words: &[&str]) -> Result<String> {
    let words = [words, &["--no-precheck", "--wait", "60", "--json"]].concat();
    let ended = world.frontend(&words)?.with_code(2)?;
    let status: serde_json::Value = serde_json::from_slice(&ended.stdout)
        .with_context(|| format!("no JSON: {} {}", ended.text(), ended.stderr))?;
    let code = status["refusal"]["code"].as_str();
    Ok(code.with_context(|| format!("no code in {status}"))?.to_owned())
}

/// Asks the signer itself, whatever the bytes are.
fn certify_bare(bare: &mut Bare, key: Vec<u8>) -> Result<Answer> {
    let id = bare.fresh_id();
    bare.ask(&Request::Certify(CertifyOpenPgp {
        id,
        authority: "openpgp".parse()?,
        policy: None,
        user_ids: List::try_from(vec![ApprovedUserId::Exact(ALICE.try_into()?)])?,
        days: None,
        renew: false,
        key: key.try_into()?,
    }))
}

/// Behind what was refused, a good key is certified.
fn certify_good(world: &World, makers: &Makers<'_>, user_id: &str) -> Result<()> {
    let key = world.write("good.pgp", makers.plain(user_id)?)?;
    world.frontend(&["certify", "--key", &key, "--uid", user_id, "--wait", "60"])?.done().map(drop)
}
