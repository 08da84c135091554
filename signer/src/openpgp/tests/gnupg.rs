//! GnuPG as the judge, and keys that come from it: exports, keyrings, and the ways in which its
//! versions locked a secret key.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use openssl::{provider::Provider, symm};
use sequoia_openpgp::{
    crypto::{S2K, mpi},
    packet::{UserID, key::Key4, signature::SignatureBuilder},
    serialize,
    types::SymmetricAlgorithm,
};

use super::*;
use crate::openpgp::import::{Imported, Source, import};

/// A GnuPG of its own, with its own home. `cargo xtask test` installs it where it is missing.
struct Gpg(TempDir);

impl Gpg {
    fn new() -> Self {
        let home = scratch();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self(home)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--no-tty", "--no-auto-check-trustdb", "--with-colons"]);
        command.args(["--pinentry-mode", "loopback"]);
        // The test's own time, in GnuPG's form.
        command.args(["--faked-system-time", &(NOW.0 + 60).to_string()]);
        command.env("GNUPGHOME", self.0.path()).env("LC_ALL", "C.UTF-8");
        command.args(arguments).output().expect("gpg is needed: `cargo xtask setup` installs it")
    }

    fn done(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn import(&self, name: &str, bytes: &[u8]) {
        let path = self.file(name);
        fs::write(&path, bytes).unwrap();
        self.done(&["--import", path.to_str().unwrap()]);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn listing(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.run(arguments).stdout).unwrap()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // Its daemons have sockets in the home that goes away.
        let _ = Command::new("gpgconf")
            .args(["--kill", "all"])
            .env("GNUPGHOME", self.0.path())
            .output();
    }
}

#[test]
fn gnupg_imports_the_minimal_key_and_calls_our_signature_good() {
    let gpg = Gpg::new();
    for algorithm in ["ed25519", "rsa4096", "brainpoolp256"] {
        let ours = make(&scratch(), algorithm);
        gpg.import("ca.pgp", &ours.public().unwrap());
        for suite in [CipherSuite::Cv25519, CipherSuite::RSA2k, CipherSuite::P256] {
            let theirs = alice().set_cipher_suite(suite).generate().unwrap().0;
            let vetted = vetted(&theirs, &[ALICE]);
            gpg.import("alice.pgp", &certified(&ours, &default_one(), &vetted, YEAR));

            let fingerprint = theirs.fingerprint().to_hex();
            let listing = gpg.listing(&["--check-sigs", &fingerprint]);
            let our_id = &ours.fingerprint()[24..];
            let ours_good = |line: &&str| line.starts_with("sig:!:") && line.contains(our_id);
            let lines: Vec<_> = listing.lines().filter(ours_good).collect();
            assert_eq!(lines.len(), 1, "{listing}");
            let fields: Vec<_> = lines[0].split(':').collect();
            assert_eq!(fields[10], "13x", "positive certification: {}", lines[0]);
            assert_eq!(fields[6], YEAR.0.to_string(), "expires: {}", lines[0]);
            assert!(listing.contains(ALICE) && !listing.contains(OTHER), "{listing}");
            assert!(!listing.contains("sig:-") && !listing.contains("sig:%"), "{listing}");
        }
    }
}

#[test]
fn key_made_by_gnupg_is_vetted_certified_and_merged_back() {
    let gpg = Gpg::new();
    let ours = make(&scratch(), "ed25519");
    gpg.import("ca.pgp", &ours.public().unwrap());
    for kind in ["rsa2048", "ed25519", "nistp256", "brainpoolP256r1"] {
        let user_id = format!("Bob Müller {} <bob@example.org>", &kind[..3]);
        gpg.done(&["--passphrase", "", "--quick-gen-key", &user_id, kind]);
        let exported = gpg.done(&["--export", &format!("={user_id}")]);
        let at = UnixTime(NOW.0 + 60); // GnuPG's time, at which the key was made
        let asked = [ApprovedUserId::Exact(user_id.as_str().try_into().unwrap())];
        let vetted =
            intake::openpgp::vet(&exported, &asked, system_time(at), &Limits::WIRE).unwrap();
        let key = check(&vetted, at).unwrap().key;
        let (policy, until) = (default_one(), YEAR);
        let statement =
            Statement::certification(&ours, &policy, &serial(), at, until, [1; 16]).unwrap();
        let packet = statement.sign(&ours, &key, &vetted.user_ids()[0]).unwrap();
        let minimal = vetted.minimal();
        let bob = [minimal.head(), &minimal.user_ids()[0], &packet, minimal.tail()].concat();
        gpg.import("bob.pgp", &bob);
        let listing = gpg.listing(&["--check-sigs", &format!("={user_id}")]);
        let our_id = &ours.fingerprint()[24..];
        assert!(
            listing.lines().any(|line| line.starts_with("sig:!:") && line.contains(our_id)),
            "{listing}"
        );

        // And what takes it back: the key, the user ID and the revocation, to be merged.
        let later = UnixTime(NOW.0 + 61);
        let reason = OpenPgpReason::Unspecified;
        let statement = Statement::revocation(&ours, reason, later, [2; 16]).unwrap();
        let packet = statement.sign(&ours, &key, &vetted.user_ids()[0]).unwrap();
        gpg.import("back.pgp", &[minimal.head(), &minimal.user_ids()[0], &packet].concat());
        let listing = gpg.listing(&["--check-sigs", &format!("={user_id}")]);
        assert!(
            listing.lines().any(|line| line.starts_with("rev:!:") && line.contains(our_id)),
            "{listing}"
        );
    }
}

#[test]
fn gnupg_takes_the_revocation_certificate_of_every_kind_of_key() {
    for algorithm in ["ed25519", "brainpoolp384"] {
        let gpg = Gpg::new();
        let (cert, revocation) = key::generate(OURS, NOW, algorithm.parse().unwrap()).unwrap();
        let fingerprint = cert.fingerprint().to_hex();
        gpg.import("ca.pgp", &cert.strip_secret_key_material().to_vec().unwrap());
        let before = gpg.listing(&["--list-keys", &fingerprint]);
        assert!(!before.contains("pub:r:"), "{before}");
        gpg.import("revocation.asc", revocation.as_bytes());
        let after = gpg.listing(&["--list-keys", &fingerprint]);
        assert!(after.contains("pub:r:"), "{after}");
    }
}

//------------ Keys that are taken over --------------------------------------

/// At which the tests take keys over: after GnuPG's own time.
const LATER: UnixTime = UnixTime(NOW.0 + 120);

fn take(path: &Path, passphrase: Option<&str>) -> Result<Imported, Fault> {
    let source = Source { secret_ring: path.to_owned(), public_ring: None, fingerprint: None };
    let passphrase = passphrase.map(|text| Secret::new(text.as_bytes().to_vec()));
    import(&source, passphrase.as_ref(), LATER)
}

/// The imported key certifies, and readers accept it.
fn assert_certifies(imported: &Imported) -> CaKey {
    let directory = scratch();
    let path = directory.path().join("secret.pgp");
    key::store(&path, &imported.cert, None).unwrap();
    let ours = CaKey::load(&path, None).unwrap();
    let theirs = alice().generate().unwrap().0;
    let until = UnixTime(LATER.0 + 86_400);
    let policy = default_one();
    let statement =
        Statement::certification(&ours, &policy, &serial(), LATER, until, [3; 16]).unwrap();
    let vetted = vetted(&theirs, &[ALICE]);
    let key = check(&vetted, LATER).unwrap().key;
    // What it signs it verifies too.
    statement.sign(&ours, &key, &vetted.user_ids()[0]).unwrap();
    ours
}

#[test]
fn key_of_gnupg_2_is_taken_over_with_its_passphrase_armoured_or_not() {
    let gpg = Gpg::new();
    for kind in ["rsa3072", "ed25519", "nistp384", "brainpoolP512r1"] {
        let user_id = format!("Old CA {} <{}@ca.example>", &kind[..3], &kind[..3].to_lowercase());
        gpg.done(&["--passphrase", "open sesame", "--quick-gen-key", &user_id, kind, "cert"]);
        let name = format!("={user_id}");
        let path = gpg.file("exported");
        for armour in [&[][..], &["--armor"]] {
            let arguments = [&["--passphrase", "open sesame"], armour].concat();
            let exported = gpg.done(&[&arguments[..], &["--export-secret-keys", &name]].concat());
            fs::write(&path, exported).unwrap();
            let imported = take(&path, Some("open sesame")).unwrap();
            assert!(!imported.signed_anew, "{kind}");
            let ours = assert_certifies(&imported);
            assert_eq!(ours.cert().userids().count(), 1);
            assert!(imported.revocation.contains("BEGIN PGP PUBLIC KEY BLOCK"));
            for wrong in [None, Some("wrong")] {
                let fault = take(&path, wrong).unwrap_err();
                assert!(fault.is_configuration(), "{fault}");
                assert!(fault.to_string().contains("passphrase"), "{fault}");
            }
        }
        // A public key alone is none.
        fs::write(&path, gpg.done(&["--export", &name])).unwrap();
        let fault = take(&path, None).unwrap_err();
        assert!(fault.to_string().contains("no secret key"), "{fault}");
    }
}

#[test]
fn one_of_several_keys_is_chosen_and_its_public_ring_is_believed() {
    let gpg = Gpg::new();
    for user_id in ["One <one@ca.example>", "Two <two@ca.example>"] {
        gpg.done(&["--passphrase", "", "--quick-gen-key", user_id, "ed25519", "cert"]);
    }
    let path = gpg.file("secring.gpg");
    fs::write(&path, gpg.done(&["--passphrase", "", "--export-secret-keys"])).unwrap();
    let several = take(&path, None).unwrap_err();
    assert!(several.to_string().contains("--fingerprint"), "{several}");
    let listing = gpg.listing(&["--list-keys", "=Two <two@ca.example>"]);
    let fingerprint = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
    let fingerprint = fingerprint.split(':').nth(9).unwrap().to_owned();

    // The owner added a user ID after the secret ring was written, and revoked the first key.
    gpg.done(&["--passphrase", "", "--quick-add-uid", &fingerprint, "Two Anew <anew@ca.example>"]);
    let ring = gpg.file("pubring.gpg.exported");
    fs::write(&ring, gpg.done(&["--export"])).unwrap();
    let spaced = format!("{} {}", &fingerprint[..20], fingerprint[20..].to_lowercase());
    let source =
        Source { secret_ring: path.clone(), public_ring: Some(ring), fingerprint: Some(spaced) };
    let imported = import(&source, None, LATER).unwrap();
    assert_eq!(imported.cert.fingerprint().to_hex(), fingerprint);
    assert_eq!(imported.cert.userids().count(), 2);
    assert_certifies(&imported);

    let missing = Source { fingerprint: Some("0".repeat(40)), ..source };
    assert!(import(&missing, None, LATER).unwrap_err().is_configuration());
    fs::write(&path, b"no keyring").unwrap();
    assert!(take(&path, None).unwrap_err().is_configuration());
}

#[test]
fn keys_that_cannot_certify_here_are_told_why() {
    let gpg = Gpg::new();
    let path = gpg.file("exported");
    for (kind, what) in [("dsa2048", "too old"), ("rsa1024", "1024 bits")] {
        let user_id = format!("Ancient {kind}");
        gpg.done(&["--passphrase", "", "--quick-gen-key", &user_id, kind, "cert"]);
        let export = ["--passphrase", "", "--export-secret-keys", &format!("={user_id}")];
        fs::write(&path, gpg.done(&export)).unwrap();
        let fault = take(&path, None).unwrap_err();
        assert!(fault.is_configuration() && fault.to_string().contains(what), "{fault}");
    }
}

// The rings of an old authority as its own program writes them: what locks the secret key, and with
// which digest the key signs itself, was by the program's year.
#[test]
fn rings_of_gnupg_1_are_taken_over_and_old_digests_signed_anew() {
    let of_its_last_year: &[&str] = &[];
    let of_its_first_years =
        &["--s2k-cipher-algo", "CAST5", "--s2k-digest-algo", "SHA1", "--cert-digest-algo", "SHA1"];
    for (options, signed_anew) in [(of_its_last_year, false), (of_its_first_years, true)] {
        let home = scratch();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let parameters = home.path().join("parameters");
        let text = "Key-Type: RSA\nKey-Length: 2048\nKey-Usage: sign\nName-Real: Old CA\n\
                    Name-Email: ca@old.example\nExpire-Date: 0\nPassphrase: open sesame\n%commit\n";
        fs::write(&parameters, text).unwrap();
        let mut command = Command::new("gpg1");
        // Its keys are thrown away: what /dev/random holds is not used up for them.
        command.args(["--batch", "--no-tty", "--quick-random", "--homedir"]).arg(home.path());
        command.args(options).arg("--gen-key").arg(&parameters);
        let output = command.output().expect("gpg1 is needed: `cargo xtask setup` installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let secret_ring = home.path().join("secring.gpg");
        let public_ring = Some(home.path().join("pubring.gpg"));
        let source = Source { secret_ring, public_ring, fingerprint: None };
        let now = UnixTime(crate::console::now().unwrap().unix().0 + 1);
        let passphrase = Secret::new(b"open sesame".to_vec());
        let imported = import(&source, Some(&passphrase), now).unwrap();
        assert_eq!(imported.signed_anew, signed_anew, "{options:?}");
        assert_eq!(imported.cert.userids().count(), 1);
        let by_this_time = intake::openpgp::policy(system_time(now));
        assert!(imported.cert.with_policy(&by_this_time, system_time(now)).is_ok());
        let early = UnixTime(now.0 - 86_400);
        let fault = import(&source, Some(&passphrase), early).unwrap_err().to_string();
        assert!(fault.contains("after the time of this machine"), "{fault}");
    }
}

//------------ Old locks -----------------------------------------------------

/// A ring as GnuPG 1 wrote it: a version 4 key, its secret part locked by hand with `cipher`, the
/// key derived by `s2k`, and either a SHA-1 (254) or the sum of the octets (255) behind it; a
/// self-signature with SHA-1.
fn old_ring(cipher: SymmetricAlgorithm, s2k: S2K, usage: u8, passphrase: &str) -> Vec<u8> {
    let mut key = Key4::<_, PrimaryRole>::generate_rsa(2048).unwrap();
    key.set_creation_time(system_time(NOW) - 4000 * DAY).unwrap();
    let key = Key::from(key);
    let mut pair = key.clone().into_keypair().unwrap();
    let user_id = UserID::from(OURS);
    let signature = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_hash_algo(HashAlgorithm::SHA1)
        .set_signature_creation_time(system_time(NOW) - 3999 * DAY)
        .unwrap()
        .sign_userid_binding(&mut pair, None, &user_id)
        .unwrap();

    let public = Packet::PublicKey(key.clone().parts_into_public()).to_vec().unwrap();
    let public = intake::openpgp::packets::split(&public, 1).unwrap()[0].body.to_vec();
    let sequoia_openpgp::packet::key::SecretKeyMaterial::Unencrypted(secret) = key.secret() else {
        panic!("made without a lock")
    };
    let mut plain = secret
        .map(|secret: &mpi::SecretKeyMaterial| serialize::MarshalInto::to_vec(secret).unwrap());
    match usage {
        254 => plain.extend(openssl::sha::sha1(&plain)),
        _ => {
            let sum = plain.iter().fold(0_u16, |sum, octet| sum.wrapping_add(u16::from(*octet)));
            plain.extend(sum.to_be_bytes());
        }
    }
    #[expect(deprecated, reason = "GnuPG 1 locked keys so")]
    let (by, block) = match cipher {
        SymmetricAlgorithm::CAST5 => (symm::Cipher::cast5_cfb64(), 8),
        SymmetricAlgorithm::TripleDES => (symm::Cipher::des_ede3_cfb64(), 8),
        SymmetricAlgorithm::Blowfish => (symm::Cipher::bf_cfb64(), 8),
        _ => (symm::Cipher::aes_256_cfb128(), 16),
    };
    let size = cipher.key_size().unwrap();
    let locked_by = s2k.derive_key(&passphrase.into(), size).unwrap();
    let iv = vec![0x5a; block];
    let locked = symm::encrypt(by, &locked_by, Some(&iv), &plain).unwrap();

    let mut body = public;
    body.extend([usage, cipher.into()]);
    body.extend(serialize::MarshalInto::to_vec(&s2k).unwrap());
    body.extend(iv);
    body.extend(locked);
    let mut ring = vec![0x95]; // an old header: secret key, two octets of length
    ring.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    ring.extend(body);
    ring.extend(Packet::from(user_id).to_vec().unwrap());
    ring.extend(Packet::from(signature).to_vec().unwrap());
    ring
}

#[test]
fn secring_of_gnupg_1_with_its_old_locks_is_taken_over_and_signed_anew() {
    // For this test's own locking; the import loads what it needs by itself.
    let _default = Provider::load(None, "default").unwrap();
    let _legacy = Provider::load(None, "legacy").unwrap();
    let salt = [1, 2, 3, 4, 5, 6, 7, 8];
    let sha1 = HashAlgorithm::SHA1;
    let iterated = S2K::Iterated { hash: sha1, salt, hash_bytes: 65_536 };
    #[expect(deprecated, reason = "GnuPG 1 locked keys so")]
    let old = [
        (SymmetricAlgorithm::CAST5, iterated.clone(), 254),
        (SymmetricAlgorithm::CAST5, S2K::Salted { hash: sha1, salt }, 255),
        (SymmetricAlgorithm::TripleDES, S2K::Simple { hash: sha1 }, 255),
        (
            SymmetricAlgorithm::Blowfish,
            S2K::Iterated { hash: HashAlgorithm::RipeMD, salt, hash_bytes: 1024 },
            254,
        ),
        (SymmetricAlgorithm::AES256, iterated, 254),
    ];
    let directory = scratch();
    let path = directory.path().join("secring.gpg");
    for (cipher, s2k, usage) in old {
        fs::write(&path, old_ring(cipher, s2k, usage, "open sesame")).unwrap();
        let imported = take(&path, Some("open sesame"))
            .unwrap_or_else(|fault| panic!("{cipher} {usage}: {fault}"));
        assert!(imported.signed_anew, "its SHA-1 would count for nothing");
        let ours = assert_certifies(&imported);
        let policy = intake::openpgp::policy(system_time(LATER));
        assert!(ours.cert().with_policy(&policy, system_time(LATER)).is_ok());
        assert!(take(&path, Some("close sesame")).unwrap_err().is_configuration());
    }
}

#[test]
fn version_6_and_revoked_keys_are_no_keys_to_certify_with() {
    let (cert, _) = key::generate(OURS, NOW, Algorithm::Ed25519).unwrap();
    let directory = scratch();
    let path = directory.path().join("ring");
    // Version 6: old programs could not read its signatures.
    let six = CertBuilder::new()
        .set_profile(Profile::RFC9580)
        .unwrap()
        .set_creation_time(system_time(NOW))
        .add_userid(OURS)
        .generate()
        .unwrap()
        .0;
    fs::write(&path, six.as_tsk().to_vec().unwrap()).unwrap();
    assert!(take(&path, None).unwrap_err().to_string().contains("version 4"));
    // Revoked by its owner.
    let mut pair =
        cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = sequoia_openpgp::cert::CertRevocationBuilder::new()
        .set_signature_creation_time(system_time(NOW))
        .unwrap()
        .build(&mut pair, &cert, None)
        .unwrap();
    let revoked = cert.insert_packets(revocation).unwrap().0;
    fs::write(&path, revoked.as_tsk().to_vec().unwrap()).unwrap();
    assert!(take(&path, None).unwrap_err().to_string().contains("revoked"));
}
