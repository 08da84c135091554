//! Our key and what it certifies, judged by sequoia and, where it is installed, by GnuPG.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use sequoia_openpgp::{packet::Signature, policy::Policy};
use tempfile::TempDir;

use super::*;
use crate::intake;

const OURS: &str = "Example CA <ca@example.org>";
const ALICE: &str = "Alice Łódzka <alice@example.net>";
const OTHER: &str = "Alice <alice@example.com>";
const NOW: UnixTime = UnixTime(1_760_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn make(directory: &TempDir, algorithm: CaAlgorithm) -> CaKey {
    create(directory.path(), OURS, NOW, algorithm, None).unwrap().0
}

fn alice() -> CertBuilder<'static> {
    CertBuilder::new()
        .set_creation_time(system_time(NOW) - DAY)
        .add_userid(ALICE)
        .add_userid(OTHER)
        .add_transport_encryption_subkey()
}

fn vetted(cert: &Cert, user_ids: &[&str]) -> VettedOpenPgp {
    intake::openpgp::vet(&cert.to_vec().unwrap(), user_ids, system_time(NOW)).unwrap()
}

fn certified(key: &CaKey, vetted: &VettedOpenPgp) -> Vec<u8> {
    let packets = key.certify(vetted, NOW, YEAR).unwrap();
    vetted.minimal().with_certifications(&packets)
}

/// The one certification in `certificate`, as an OpenPGP reader finds it.
fn certification(certificate: &[u8], ours: &CaKey) -> Signature {
    let cert = Cert::from_bytes(certificate).unwrap();
    let key = ours.cert.primary_key().key();
    let user_id = cert.userids().next().unwrap();
    let policy = intake::openpgp::policy(system_time(NOW));
    let found = user_id.valid_certifications_by_key(&policy, system_time(NOW), key).next();
    found.expect("a valid certification by our key").clone()
}

//------------ The key -------------------------------------------------------

#[test]
fn key_is_stored_for_its_owner_only_and_loads_again() {
    for algorithm in [CaAlgorithm::Ed25519, CaAlgorithm::Rsa4096] {
        let directory = scratch();
        assert!(load(directory.path(), None).unwrap().is_none());
        let made = make(&directory, algorithm);
        let mode = fs::metadata(directory.path().join(SECRET_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = load(directory.path(), None).unwrap().unwrap();
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        assert_eq!(loaded.public().unwrap(), made.public().unwrap());
        // Version 4 and certify-only, or GnuPG 2.2 could not read it.
        assert_eq!(loaded.cert.primary_key().key().version(), 4);
        assert!(loaded.public_armoured().unwrap().contains("BEGIN PGP PUBLIC KEY BLOCK"));
        assert!(!loaded.cert.is_tsk(), "the public side holds no secret");
    }
}

#[test]
fn second_key_is_not_made_over_the_first() {
    let directory = scratch();
    let first = make(&directory, CaAlgorithm::Ed25519).fingerprint();
    let second = create(directory.path(), OURS, NOW, CaAlgorithm::Ed25519, None).unwrap_err();
    assert!(second.is_configuration() && second.to_string().contains("already"), "{second}");
    assert_eq!(load(directory.path(), None).unwrap().unwrap().fingerprint(), first);
}

#[test]
fn encrypted_key_opens_with_its_passphrase_only() {
    let directory = scratch();
    let secret = Secret::new(b"correct horse".to_vec());
    let made = create(directory.path(), OURS, NOW, CaAlgorithm::Ed25519, Some(&secret)).unwrap().0;
    let opened = load(directory.path(), Some(&secret)).unwrap().unwrap();
    assert_eq!(opened.fingerprint(), made.fingerprint());
    let wrong = Secret::new(b"battery staple".to_vec());
    for passphrase in [None, Some(&wrong)] {
        let error = load(directory.path(), passphrase).unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("passphrase"), "{error}");
    }
    let stored = Cert::from_bytes(&fs::read(directory.path().join(SECRET_FILE)).unwrap()).unwrap();
    assert_eq!(stored.keys().unencrypted_secret().count(), 0);
}

#[test]
fn damaged_key_file_is_told_by_its_name() {
    let directory = scratch();
    make(&directory, CaAlgorithm::Ed25519);
    fs::write(directory.path().join(SECRET_FILE), b"rubbish").unwrap();
    let error = load(directory.path(), None).unwrap_err();
    assert!(matches!(error, Fault::Damaged { .. }) && error.to_string().contains("secret.pgp"));
}

#[test]
fn key_prints_as_its_fingerprint_and_nothing_else() {
    let key = make(&scratch(), CaAlgorithm::Ed25519);
    assert_eq!(format!("{key:?}"), format!("CaKey({})", key.fingerprint()));
}

#[test]
fn user_id_that_cannot_be_seen_makes_no_key() {
    let directory = scratch();
    let error = create(directory.path(), "CA\n", NOW, CaAlgorithm::Ed25519, None).unwrap_err();
    assert!(error.is_configuration(), "{error}");
    assert!(load(directory.path(), None).unwrap().is_none());
}

//------------ Certifications ------------------------------------------------

#[test]
fn certification_is_valid_for_the_asked_user_id_and_no_other() {
    let ours = make(&scratch(), CaAlgorithm::Ed25519);
    let theirs = alice().generate().unwrap().0;
    let certificate = certified(&ours, &vetted(&theirs, &[ALICE]));
    let cert = Cert::from_bytes(&certificate).unwrap();
    let user_ids: Vec<_> = cert.userids().map(|u| u.userid().value().to_vec()).collect();
    assert_eq!(user_ids, [ALICE.as_bytes()]);

    let signature = certification(&certificate, &ours);
    assert_eq!(signature.typ(), SignatureType::PositiveCertification);
    assert_eq!(signature.hash_algo(), HashAlgorithm::SHA512);
    assert_eq!(signature.signature_creation_time(), Some(system_time(NOW)));
    assert_eq!(signature.signature_validity_period(), Some(YEAR));
    let policy = intake::openpgp::policy(system_time(NOW));
    policy.signature(&signature, Default::default()).unwrap();
}

#[test]
fn each_of_several_user_ids_gets_its_own_certification_in_its_place() {
    let ours = make(&scratch(), CaAlgorithm::Ed25519);
    let theirs = alice().generate().unwrap().0;
    let certificate = certified(&ours, &vetted(&theirs, &[OTHER, ALICE]));
    let cert = Cert::from_bytes(&certificate).unwrap();
    let key = ours.cert.primary_key().key();
    let policy = intake::openpgp::policy(system_time(NOW));
    assert_eq!(cert.userids().count(), 2);
    for user_id in cert.userids() {
        let valid = user_id.valid_certifications_by_key(&policy, system_time(NOW), key).count();
        assert_eq!(valid, 1);
    }
}

#[test]
fn version_6_key_is_certified_too() {
    let ours = make(&scratch(), CaAlgorithm::Ed25519);
    let builder = alice().set_profile(Profile::RFC9580).unwrap();
    let theirs = builder.generate().unwrap().0;
    assert_eq!(theirs.primary_key().key().version(), 6);
    certification(&certified(&ours, &vetted(&theirs, &[ALICE])), &ours);
}

#[test]
fn certification_never_outlives_the_key() {
    let ours = make(&scratch(), CaAlgorithm::Ed25519);
    let short = alice().set_validity_period(31 * DAY).generate().unwrap().0;
    let signature = certification(&certified(&ours, &vetted(&short, &[ALICE])), &ours);
    assert_eq!(signature.signature_validity_period(), Some(30 * DAY));
}

#[test]
fn largest_certification_stays_below_its_bound() {
    let directory = scratch();
    make(&directory, CaAlgorithm::Rsa4096);
    let uri = "u".repeat(TERMS_TEXT_MAX);
    let name = format!("policy@{}", "x".repeat(TERMS_TEXT_MAX - 17));
    let terms = format!("policy_uri = \"{uri}\"\nnotation = [\"{name}\", \"ten bytes.\"]\n");
    fs::write(directory.path().join(TERMS_FILE), terms).unwrap();
    let ours = load(directory.path(), None).unwrap().unwrap();
    let theirs = alice().generate().unwrap().0;
    let packets = ours.certify(&vetted(&theirs, &[ALICE]), NOW, YEAR).unwrap();
    assert!(
        packets[0].len() > 900 && packets[0].len() <= CERTIFICATION_MAX,
        "{}",
        packets[0].len()
    );
}

#[test]
fn terms_come_from_the_operators_file_and_a_wrong_file_is_refused() {
    let directory = scratch();
    make(&directory, CaAlgorithm::Ed25519);
    let path = directory.path().join(TERMS_FILE);
    let good = "positive = false\npolicy_uri = \"https://ca.example/policy\"\n\
                notation = [\"checked@ca.example\", \"in person\"]\n";
    fs::write(&path, good).unwrap();
    let ours = load(directory.path(), None).unwrap().unwrap();
    let theirs = alice().generate().unwrap().0;
    let signature = certification(&certified(&ours, &vetted(&theirs, &[ALICE])), &ours);
    assert_eq!(signature.typ(), SignatureType::GenericCertification);
    assert_eq!(signature.policy_uri(), Some(&b"https://ca.example/policy"[..]));
    let notations: Vec<_> = signature.notation("checked@ca.example").collect();
    assert_eq!(notations, [b"in person"]);

    let long = format!("policy_uri = \"{}\"", "x".repeat(TERMS_TEXT_MAX + 1));
    for wrong in ["positive = 1", "colour = \"blue\"", "policy_uri", &long] {
        fs::write(&path, wrong).unwrap();
        let error = load(directory.path(), None).unwrap_err();
        assert!(error.to_string().contains("certification.toml"), "{error}");
    }
}

//------------ What a captured gate could send -------------------------------

/// The vetted key with bytes exchanged as only a captured gate could.
fn forged(vetted: &VettedOpenPgp, from: &[u8], to: &[u8]) -> VettedOpenPgp {
    let mut bytes = protocol::codec::encode(vetted).unwrap();
    assert_eq!(from.len(), to.len());
    let mut count = 0;
    while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + from.len()].copy_from_slice(to);
        count += 1;
    }
    assert!(count > 0, "nothing was exchanged");
    protocol::codec::decode::<VettedOpenPgp, 1_000_000>(&bytes).unwrap()
}

#[test]
fn permit_takes_what_was_vetted() {
    let theirs = alice().set_validity_period(31 * DAY).generate().unwrap().0;
    permit(&vetted(&theirs, &[ALICE, OTHER]), NOW).unwrap();
}

#[test]
fn permit_refuses_a_key_that_expired_or_was_not_made_yet_at_the_time_of_signing() {
    let theirs = alice().set_validity_period(31 * DAY).generate().unwrap().0;
    let vetted = vetted(&theirs, &[ALICE]);
    for days in [30, 31, 4000, -2, -20_000] {
        let refusal = permit(&vetted, UnixTime(NOW.0 + days * 86_400)).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OpenPgpKey, "{days}: {refusal}");
    }
    permit(&vetted, UnixTime(NOW.0 + 30 * 86_400 - 1)).unwrap();
}

#[test]
fn permit_refuses_forged_values_instead_of_failing_later() {
    let theirs = alice().generate().unwrap().0;
    let vetted = vetted(&theirs, &[ALICE]);
    let fingerprint = vetted.fingerprint().to_owned();
    let other = "0".repeat(fingerprint.len());
    let primary = vetted.primary().to_vec();
    let mut later = primary.clone();
    later[4] ^= 1; // the creation time
    let mut secret = primary.clone();
    secret[0] = 0xc5; // the tag of a secret key
    let rubbish = vec![0xff; primary.len()];
    for (from, to) in [
        (fingerprint.as_bytes(), other.as_bytes()),
        (&primary[..], &later[..]),
        (&primary, &secret),
        (&primary, &rubbish),
    ] {
        let refusal = permit(&forged(&vetted, from, to), NOW).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OpenPgpMalformed, "{refusal}");
    }
    let hidden = forged(&vetted, ALICE.as_bytes(), &vec![b'\n'; ALICE.len()]);
    assert_eq!(permit(&hidden, NOW).unwrap_err().code, RefusalCode::OpenPgpUserId);
}

//------------ GnuPG ---------------------------------------------------------

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
        // The test's own time, in GnuPG's form.
        command.args(["--faked-system-time", &(NOW.0 + 60).to_string()]);
        command.env("GNUPGHOME", self.0.path()).env("LC_ALL", "C.UTF-8");
        command.args(arguments).output().expect("gpg is needed: `cargo xtask setup` installs it")
    }

    fn import(&self, name: &str, bytes: &[u8]) {
        let path = self.file(name);
        fs::write(&path, bytes).unwrap();
        let output = self.run(&["--import", path.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn listing(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.run(arguments).stdout).unwrap()
    }
}

#[test]
fn gnupg_imports_the_minimal_key_and_calls_our_signature_good() {
    let gpg = Gpg::new();
    for algorithm in [CaAlgorithm::Ed25519, CaAlgorithm::Rsa4096] {
        let ours = make(&scratch(), algorithm);
        gpg.import("ca.pgp", &ours.public().unwrap());
        for suite in [CipherSuite::Cv25519, CipherSuite::RSA2k, CipherSuite::P256] {
            let theirs = alice().set_cipher_suite(suite).generate().unwrap().0;
            gpg.import("alice.pgp", &certified(&ours, &vetted(&theirs, &[ALICE])));

            let fingerprint = theirs.fingerprint().to_hex();
            let listing = gpg.listing(&["--check-sigs", &fingerprint]);
            let our_id = &ours.fingerprint()[24..];
            let ours_good = |line: &&str| line.starts_with("sig:!:") && line.contains(our_id);
            let lines: Vec<_> = listing.lines().filter(ours_good).collect();
            assert_eq!(lines.len(), 1, "{listing}");
            let fields: Vec<_> = lines[0].split(':').collect();
            assert_eq!(fields[10], "13x", "positive certification: {}", lines[0]);
            assert_eq!(fields[6], (NOW.0 + 365 * 86_400).to_string(), "expires: {}", lines[0]);
            assert!(listing.contains(ALICE) && !listing.contains(OTHER), "{listing}");
            assert!(!listing.contains("sig:-") && !listing.contains("sig:%"), "{listing}");
        }
    }
}

#[test]
fn key_made_by_gnupg_is_vetted_certified_and_merged_back() {
    let gpg = Gpg::new();
    let ours = make(&scratch(), CaAlgorithm::Ed25519);
    gpg.import("ca.pgp", &ours.public().unwrap());
    for kind in ["rsa2048", "ed25519", "nistp256"] {
        let user_id = format!("Bob Müller {kind} <bob@example.org>");
        let made = gpg.run(&["--passphrase", "", "--quick-gen-key", &user_id, kind]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let exported = gpg.run(&["--export", &format!("={user_id}")]).stdout;
        let at = UnixTime(NOW.0 + 60); // GnuPG's time, at which the key was made
        let vetted = intake::openpgp::vet(&exported, &[&user_id], system_time(at)).unwrap();
        permit(&vetted, at).unwrap();
        let packets = ours.certify(&vetted, at, YEAR).unwrap();
        gpg.import("bob.pgp", &vetted.minimal().with_certifications(&packets));
        let listing = gpg.listing(&["--check-sigs", &format!("={user_id}")]);
        let our_id = &ours.fingerprint()[24..];
        assert!(
            listing.lines().any(|line| line.starts_with("sig:!:") && line.contains(our_id)),
            "{listing}"
        );
    }
}

#[test]
fn gnupg_takes_the_revocation_certificate() {
    let gpg = Gpg::new();
    let directory = scratch();
    let (ours, revocation) =
        create(directory.path(), OURS, NOW, CaAlgorithm::Ed25519, None).unwrap();
    gpg.import("ca.pgp", &ours.public().unwrap());
    let before = gpg.listing(&["--list-keys", &ours.fingerprint()]);
    assert!(!before.contains("pub:r:"), "{before}");
    gpg.import("revocation.asc", revocation.as_bytes());
    let after = gpg.listing(&["--list-keys", &ours.fingerprint()]);
    assert!(after.contains("pub:r:"), "{after}");
}
