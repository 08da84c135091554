//! Our keys and what they certify, judged by sequoia and, where it is installed, by GnuPG.

use std::{fs, os::unix::fs::PermissionsExt};

use protocol::message::{ApprovedUserId, OpenPgpReason, Serial};
use sequoia_openpgp::{
    Cert, Profile,
    cert::{CertBuilder, CipherSuite},
    crypto::mpi,
    packet::Signature,
    parse::Parse,
    policy::Policy as _,
    serialize::SerializeInto,
    types::{HashAlgorithm, SignatureType},
};
use tempfile::TempDir;

use super::{key::Algorithm, *};
use crate::{
    intake::{self, openpgp::Limits},
    keys::SignatureDigest,
};

mod gnupg;

const OURS: &str = "Example CA <ca@example.org>";
const ALICE: &str = "Alice Łódzka <alice@example.net>";
const OTHER: &str = "Alice <alice@example.com>";
pub(super) const NOW: UnixTime = UnixTime(1_760_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: UnixTime = UnixTime(NOW.0 + 365 * 86_400);

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn make(directory: &TempDir, algorithm: &str) -> CaKey {
    let (cert, _) = key::generate(OURS, NOW, algorithm.parse().unwrap()).unwrap();
    let path = directory.path().join("secret.pgp");
    key::store(&path, &cert, None).unwrap();
    CaKey::load(&path, None).unwrap()
}

fn alice() -> CertBuilder<'static> {
    CertBuilder::new()
        .set_creation_time(system_time(NOW) - DAY)
        .add_userid(ALICE)
        .add_userid(OTHER)
        .add_transport_encryption_subkey()
}

fn vetted(cert: &Cert, user_ids: &[&str]) -> VettedOpenPgp {
    let asked: Vec<_> =
        user_ids.iter().map(|text| ApprovedUserId::Exact((*text).try_into().unwrap())).collect();
    let key = cert.to_vec().unwrap();
    intake::openpgp::vet(&key, &asked, system_time(NOW), &Limits::WIRE).unwrap()
}

fn policy(text: &str) -> Policy {
    Policy::parse("default".parse().unwrap(), text).unwrap()
}

fn default_one() -> Policy {
    policy(&default_policy(OURS))
}

fn serial() -> Serial {
    Serial::from_magnitude(&[0x40, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap()
}

/// The key with one certification of each user ID.
fn certified(ours: &CaKey, policy: &Policy, vetted: &VettedOpenPgp, until: UnixTime) -> Vec<u8> {
    let checked = check(vetted, NOW).unwrap();
    let mut bytes = vetted.minimal().head().to_vec();
    for (own, user_id) in vetted.minimal().user_ids().iter().zip(vetted.user_ids()) {
        let statement =
            Statement::certification(ours, policy, &serial(), NOW, until, [7; 16]).unwrap();
        let packet = statement.sign(ours, &checked.key, user_id).unwrap();
        assert!(packet.len() <= statement.length_max(ours), "the bound holds");
        bytes.extend_from_slice(own);
        bytes.extend(packet);
    }
    bytes.extend_from_slice(vetted.minimal().tail());
    bytes
}

/// The one certification in `certificate`, as an OpenPGP reader finds it.
fn certification(certificate: &[u8], ours: &CaKey) -> Signature {
    let cert = Cert::from_bytes(certificate).unwrap();
    let key = ours.cert().primary_key().key();
    let user_id = cert.userids().next().unwrap();
    let policy = intake::openpgp::policy(system_time(NOW));
    let found = user_id.valid_certifications_by_key(&policy, system_time(NOW), key).next();
    found.expect("a valid certification by our key").clone()
}

//------------ The key -------------------------------------------------------

#[test]
fn key_of_every_kind_certifies_and_is_stored_for_its_owner_only() {
    let theirs = alice().generate().unwrap().0;
    let vetted = vetted(&theirs, &[ALICE]);
    for algorithm in [
        "ed25519",
        "rsa3072",
        "p256",
        "p384",
        "p521",
        "brainpoolp256",
        "brainpoolp384",
        "brainpoolp512",
    ] {
        let directory = scratch();
        let ours = make(&directory, algorithm);
        let path = directory.path().join("secret.pgp");
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Version 4 and certify-only, or GnuPG 2.2 could not read it.
        assert_eq!(ours.cert().primary_key().key().version(), 4);
        let policy = intake::openpgp::policy(system_time(NOW));
        let valid = ours.cert().with_policy(&policy, system_time(NOW)).unwrap();
        let flags = valid.primary_key().key_flags().unwrap();
        assert!(flags.for_certification() && !flags.for_signing(), "{algorithm}");
        assert!(!ours.cert().is_tsk(), "the public side holds no secret");
        certification(&certified(&ours, &default_one(), &vetted, YEAR), &ours);
    }
    assert!("dsa1024".parse::<Algorithm>().is_err());
}

#[test]
fn what_another_key_signed_or_another_digest_is_no_signature_of_ours() {
    for algorithm in ["ed25519", "rsa3072", "p384", "brainpoolp256"] {
        let (directory, other) = (scratch(), scratch());
        let (ours, other) = (make(&directory, algorithm), make(&other, algorithm));
        let numbers = ours.sign(SignatureDigest::Sha256, &[7; 32]).unwrap();
        let algo = ours.cert().primary_key().key().pk_algo();
        let signature = mpi::Signature::parse(algo, &numbers[..]).unwrap();
        let takes = |key: &CaKey, value: &[u8]| {
            key.verifies(SignatureDigest::Sha256, value, &signature).unwrap_or(false)
        };
        assert!(takes(&ours, &[7; 32]), "{algorithm}");
        assert!(!takes(&ours, &[8; 32]), "{algorithm}: another digest");
        assert!(!takes(&other, &[7; 32]), "{algorithm}: another key");
    }
}

#[test]
fn encrypted_key_opens_with_its_passphrase_only() {
    let directory = scratch();
    let secret = Secret::new(b"correct horse".to_vec());
    for algorithm in ["ed25519", "rsa3072", "brainpoolp256"] {
        let (cert, _) = key::generate(OURS, NOW, algorithm.parse().unwrap()).unwrap();
        let path = directory.path().join("secret.pgp");
        key::store(&path, &cert, Some(&secret)).unwrap();
        let opened = CaKey::load(&path, Some(&secret)).unwrap();
        assert_eq!(opened.fingerprint(), cert.fingerprint().to_hex());
        let wrong = Secret::new(b"battery staple".to_vec());
        for passphrase in [None, Some(&wrong)] {
            let error = CaKey::load(&path, passphrase).unwrap_err();
            assert!(
                error.is_configuration() && error.to_string().contains("passphrase"),
                "{error}"
            );
        }
        let stored = Cert::from_bytes(&fs::read(&path).unwrap()).unwrap();
        assert!(stored.is_tsk());
        assert_eq!(stored.keys().unencrypted_secret().count(), 0);
    }
}

#[test]
fn damaged_key_file_is_told_by_its_name() {
    let directory = scratch();
    let path = directory.path().join("secret.pgp");
    fs::write(&path, b"rubbish").unwrap();
    let error = CaKey::load(&path, None).unwrap_err();
    assert!(matches!(error, Fault::Damaged { .. }) && error.to_string().contains("secret.pgp"));
}

#[test]
fn key_prints_as_its_fingerprint_and_nothing_else() {
    let key = make(&scratch(), "ed25519");
    assert_eq!(format!("{key:?}"), format!("CaKey({})", key.fingerprint()));
}

//------------ Certifications ------------------------------------------------

#[test]
fn certification_says_what_the_policy_and_the_request_said() {
    let ours = make(&scratch(), "ed25519");
    let theirs = alice().generate().unwrap().0;
    let text = default_policy(OURS)
        .replace("level = \"positive\"", "level = \"generic\"")
        .replace("digest = \"sha512\"", "digest = \"sha256\"")
        .replace("#policy_uri", "policy_uri")
        .replace("#[[notation]]\n#name", "[[notation]]\nname")
        .replace("#value", "value");
    let generic = policy(&text);
    let certificate = certified(&ours, &generic, &vetted(&theirs, &[ALICE]), YEAR);
    let cert = Cert::from_bytes(&certificate).unwrap();
    let user_ids: Vec<_> = cert.userids().map(|u| u.userid().value().to_vec()).collect();
    assert_eq!(user_ids, [ALICE.as_bytes()]);
    let signature = certification(&certificate, &ours);
    assert_eq!(signature.typ(), SignatureType::GenericCertification);
    assert_eq!(signature.hash_algo(), HashAlgorithm::SHA256);
    assert_eq!(signature.signature_creation_time(), Some(system_time(NOW)));
    assert_eq!(signature.signature_validity_period(), Some(365 * DAY));
    assert_eq!(signature.policy_uri(), Some(&b"https://ca.example.org/openpgp-policy"[..]));
    let notation =
        |name: &str| -> Vec<Vec<u8>> { signature.notation(name).map(Into::into).collect() };
    assert_eq!(notation("serial@example.org"), [serial().to_string().into_bytes()]);
    assert_eq!(notation("checked@ca.example.org"), [b"in person"]);
    assert_eq!(notation("salt@notations.sequoia-pgp.org"), [[7; 16]]);
    let fingerprint = ours.cert().fingerprint();
    assert_eq!(signature.issuer_fingerprints().collect::<Vec<_>>(), [&fingerprint]);

    let positive = certified(&ours, &default_one(), &vetted(&theirs, &[ALICE]), YEAR);
    let signature = certification(&positive, &ours);
    assert_eq!(signature.typ(), SignatureType::PositiveCertification);
    assert_eq!(signature.hash_algo(), HashAlgorithm::SHA512);
    intake::openpgp::policy(system_time(NOW)).signature(&signature, Default::default()).unwrap();
}

#[test]
fn each_of_several_user_ids_gets_its_own_certification_in_its_place() {
    let ours = make(&scratch(), "ed25519");
    let theirs = alice().generate().unwrap().0;
    let certificate = certified(&ours, &default_one(), &vetted(&theirs, &[OTHER, ALICE]), YEAR);
    let cert = Cert::from_bytes(&certificate).unwrap();
    let key = ours.cert().primary_key().key();
    let policy = intake::openpgp::policy(system_time(NOW));
    assert_eq!(cert.userids().count(), 2);
    for user_id in cert.userids() {
        let valid = user_id.valid_certifications_by_key(&policy, system_time(NOW), key).count();
        assert_eq!(valid, 1);
    }
}

#[test]
fn version_6_key_is_certified_too() {
    let ours = make(&scratch(), "ed25519");
    let builder = alice().set_profile(Profile::RFC9580).unwrap();
    let theirs = builder.generate().unwrap().0;
    assert_eq!(theirs.primary_key().key().version(), 6);
    certification(&certified(&ours, &default_one(), &vetted(&theirs, &[ALICE]), YEAR), &ours);
}

#[test]
fn same_statement_signed_twice_is_the_same_packet_where_the_algorithm_allows() {
    let theirs = alice().generate().unwrap().0;
    let vetted = vetted(&theirs, &[ALICE]);
    for algorithm in ["ed25519", "rsa3072"] {
        let ours = make(&scratch(), algorithm);
        let one = certified(&ours, &default_one(), &vetted, YEAR);
        assert_eq!(one, certified(&ours, &default_one(), &vetted, YEAR), "{algorithm}");
    }
}

#[test]
fn largest_certification_stays_below_its_bound() {
    let directory = scratch();
    let ours = make(&directory, "rsa4096");
    let uri = format!("https://ca.example/{}", "u".repeat(141));
    let domain = format!("{}.{}.example", "a".repeat(60), "b".repeat(31));
    let text = policy::DEFAULT
        .replace(
            "#policy_uri = \"https://ca.example.org/openpgp-policy\"",
            &format!("policy_uri = \"{uri}\""),
        )
        .replace(
            "#notation_domain = \"ca.example.org\"",
            &format!("notation_domain = \"{domain}\""),
        )
        .replace("#[[notation]]", "[[notation]]")
        .replace("#name = \"checked@ca.example.org\"", "name = \"checked@ca.example.org\"")
        .replace("#value = \"in person\"", &format!("value = \"{}\"", "v".repeat(138)));
    let largest = policy(&text);
    let theirs = alice().generate().unwrap().0;
    let vetted = vetted(&theirs, &[ALICE]);
    let length = certified(&ours, &largest, &vetted, YEAR).len() - vetted.minimal().length();
    assert!(length > 1100 && length <= CERTIFICATION_MAX, "{length}");
}

#[test]
fn revocation_takes_the_certification_back() {
    let ours = make(&scratch(), "ed25519");
    let theirs = alice().generate().unwrap().0;
    let vetted = vetted(&theirs, &[ALICE]);
    let key = check(&vetted, NOW).unwrap().key;
    let later = UnixTime(NOW.0 + 1);
    let reason = OpenPgpReason::UserIdInvalid;
    let statement = Statement::revocation(&ours, reason, later, [9; 16]).unwrap();
    let packet = statement.sign(&ours, &key, &vetted.user_ids()[0]).unwrap();
    let certificate = certified(&ours, &default_one(), &vetted, YEAR);
    let cert = Cert::from_bytes(&certificate).unwrap();
    let user_id = sequoia_openpgp::packet::UserID::from(ALICE);
    let packets = [Packet::from(user_id), one_packet(&packet).unwrap()];
    let cert = cert.insert_packets(packets).unwrap().0;
    let user_id = cert.userids().next().unwrap();
    let policy = intake::openpgp::policy(system_time(later));
    let by = ours.cert().primary_key().key();
    let found: Vec<_> =
        user_id.valid_third_party_revocations_by_key(&policy, system_time(later), by).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].typ(), SignatureType::CertificationRevocation);
}

//------------ openpgp-policy ------------------------------------------------

#[test]
fn shipped_policy_has_no_fault_and_gets_the_domain_of_its_authority() {
    assert_eq!(policy(policy::DEFAULT).serial_notation(), None);
    assert_eq!(default_one().serial_notation().unwrap(), "serial@example.org");
    assert_eq!(policy(&default_policy("No Address")).serial_notation(), None);
}

#[test]
fn every_fault_of_a_policy_is_named() {
    let text = r#"
        level = "great"
        digest = "sha1"
        policy_uri = "gopher://x y"
        notation_domain = "Example.org"
        [[notation]]
        name = "Bad Name"
        value = ""
        [validity]
        days_default = 0
        days_max = 9999
        [keys]
        kinds = ["rsa", "rsa", "dsa"]
        rsa_bits_min = 1024
        needs_encryption = true
        [user_ids]
        max = 65
        needs_address = true
    "#;
    let faults = Policy::parse("bad".parse().unwrap(), text).unwrap_err();
    let found: Vec<&str> = faults.iter().collect();
    for key in [
        "level",
        "digest",
        "policy_uri",
        "notation_domain",
        "notation[0].name",
        "notation[0].value",
        "validity.days_default",
        "validity.days_max",
        "keys.kinds: `rsa` is there twice",
        "keys.kinds: `dsa`",
        "keys.rsa_bits_min",
        "user_ids.max",
    ] {
        assert!(found.iter().any(|fault| fault.starts_with(key)), "{key}: {found:?}");
    }
    for wrong in ["", "colour = 1", "level = 1"] {
        assert_eq!(Policy::parse("bad".parse().unwrap(), wrong).unwrap_err().iter().count(), 1);
    }
}

#[test]
fn policy_refuses_what_it_does_not_take() {
    let rsa = CertBuilder::new()
        .set_cipher_suite(CipherSuite::RSA2k)
        .set_creation_time(system_time(NOW) - DAY)
        .add_userid(ALICE)
        .add_userid("Alice")
        .set_validity_period(31 * DAY)
        .generate()
        .unwrap()
        .0;
    let judge = |edit: (&str, &str), user_ids: &[&str], days: Option<u32>| {
        let vetted = vetted(&rsa, user_ids);
        let checked = check(&vetted, NOW).unwrap();
        let text = match edit {
            ("", _) => policy::DEFAULT.to_owned(),
            (from, to) => policy::DEFAULT.replace(from, to),
        };
        assert!(edit.0.is_empty() || text != policy::DEFAULT);
        policy(&text).permit(&vetted, checked.kind, &checked.user_ids, days, NOW)
    };
    let none = ("", "");
    let until = judge(none, &[ALICE], None).unwrap();
    assert_eq!(until.0, NOW.0 + 30 * 86_400, "never past the key's own end");
    assert_eq!(judge(none, &[ALICE], Some(5)).unwrap().0, NOW.0 + 5 * 86_400);
    for (edit, user_ids, days, code) in [
        (none, &[ALICE][..], Some(0), RefusalCode::Validity),
        (none, &[ALICE], Some(732), RefusalCode::Validity),
        (("\"rsa\", ", ""), &[ALICE], None, RefusalCode::OpenPgpKeyKind),
        (
            ("rsa_bits_min = 2048", "rsa_bits_min = 3072"),
            &[ALICE],
            None,
            RefusalCode::OpenPgpKeySize,
        ),
        (
            ("needs_encryption = false", "needs_encryption = true"),
            &[ALICE],
            None,
            RefusalCode::OpenPgpNoEncryption,
        ),
        (("max = 50", "max = 1"), &[ALICE, "Alice"], None, RefusalCode::OpenPgpUserIdForm),
        (
            ("needs_address = false", "needs_address = true"),
            &["Alice"],
            None,
            RefusalCode::OpenPgpUserIdForm,
        ),
    ] {
        let refusal = judge(edit, user_ids, days).unwrap_err();
        assert_eq!(refusal.code, code, "{edit:?}: {refusal}");
    }
}

//------------ What a captured gate could send -------------------------------

/// The vetted key with bytes exchanged as only a captured gate could.
fn forged(vetted: &VettedOpenPgp, from: &[u8], to: &[u8]) -> VettedOpenPgp {
    forged_after(0, vetted, from, to)
}

/// The same, but the first places where the bytes stand are left as they are.
fn forged_after(left: usize, vetted: &VettedOpenPgp, from: &[u8], to: &[u8]) -> VettedOpenPgp {
    let mut bytes = protocol::codec::encode(vetted).unwrap();
    assert_eq!(from.len(), to.len());
    let windows = bytes.windows(from.len()).enumerate();
    let places = windows.filter_map(|(at, window)| (window == from).then_some(at)).skip(left);
    let places: Vec<usize> = places.collect();
    assert!(!places.is_empty(), "nothing was exchanged");
    places.iter().for_each(|at| bytes[*at..at + from.len()].copy_from_slice(to));
    protocol::codec::decode::<VettedOpenPgp, 1_000_000>(&bytes).unwrap()
}

#[test]
fn check_refuses_a_key_that_expired_or_was_not_made_yet_at_the_time_of_signing() {
    let theirs = alice().set_validity_period(31 * DAY).generate().unwrap().0;
    let vetted = vetted(&theirs, &[ALICE, OTHER]);
    for (days, code) in [
        (30, RefusalCode::OpenPgpExpired),
        (4000, RefusalCode::OpenPgpExpired),
        (-2, RefusalCode::OpenPgpKey),
        (-20_000, RefusalCode::OpenPgpKey),
    ] {
        let refusal = check(&vetted, UnixTime(NOW.0 + days * 86_400)).unwrap_err();
        assert_eq!(refusal.code, code, "{days}: {refusal}");
    }
    check(&vetted, UnixTime(NOW.0 + 30 * 86_400 - 1)).unwrap();
}

#[test]
fn check_refuses_forged_values_instead_of_failing_later() {
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
        let refusal = check(&forged(&vetted, from, to), NOW).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OpenPgpMalformed, "{refusal}");
    }
    // The key that is looked at is good, but not the one that is handed out and taken back later.
    for to in [&later, &secret, &rubbish] {
        let refusal = check(&forged_after(1, &vetted, &primary, to), NOW).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OpenPgpMalformed, "{refusal}");
    }
    let hidden = ALICE.replace("Alice ", "Ali\u{202e}");
    let refusal = check(&forged(&vetted, ALICE.as_bytes(), hidden.as_bytes()), NOW).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OpenPgpUserIdForm, "{refusal}");
}

//------------ Old stores ----------------------------------------------------

#[test]
fn key_without_a_name_gets_one_with_a_policy_that_says_what_its_terms_said() {
    let directory = scratch();
    let store = directory.path();
    fs::create_dir(store.join("openpgp")).unwrap();
    let (cert, _) = key::generate(OURS, NOW, Algorithm::Ed25519).unwrap();
    key::store(&store.join("openpgp/secret.pgp"), &cert, None).unwrap();
    let terms = "positive = false\npolicy_uri = \"https://ca.example/policy\"\n\
                 notation = [\"checked@ca.example\", \"in person\"]\n";
    fs::write(store.join("openpgp/certification.toml"), terms).unwrap();
    fs::write(store.join("openpgp/public.asc"), "public").unwrap();
    // The plug is pulled at each point of it.
    for point in 0..20 {
        crate::durable::crash::after(Some(point));
        let named = names(store);
        crate::durable::crash::after(None);
        if named.is_ok() {
            break;
        }
    }
    let names = names(store).unwrap();
    assert_eq!(names, [UNNAMED.parse().unwrap()]);
    let layout = Layout::new(store, &names[0]);
    let loaded = CaKey::load(&layout.secret(), None).unwrap();
    assert_eq!(loaded.fingerprint(), cert.fingerprint().to_hex());
    assert!(!store.join("openpgp/secret.pgp").exists());
    assert_eq!(fs::read_to_string(layout.public()).unwrap(), "public");
    let policy = Policy::load(&policy_files(&layout).unwrap()[0]).unwrap();
    assert_eq!(policy.name().as_str(), DEFAULT_POLICY);
    assert_eq!(policy.level().name(), "generic");
    assert_eq!(policy.policy_uri(), Some("https://ca.example/policy"));
    assert_eq!(policy.notations().collect::<Vec<_>>(), [("checked@ca.example", "in person")]);
}

#[test]
fn parts_of_a_certificate_that_an_old_program_stored_are_found() {
    let ours = make(&scratch(), "ed25519");
    let theirs = alice().generate().unwrap().0;
    let vetted = vetted(&theirs, &[OTHER, ALICE]);
    let certificate = certified(&ours, &default_one(), &vetted, YEAR);
    let (head, user_ids) = parts(&certificate).unwrap();
    assert_eq!(&certificate[..head], vetted.minimal().head());
    assert_eq!(user_ids.len(), 2);
    for (part, (own, user_id)) in
        user_ids.iter().zip(vetted.minimal().user_ids().iter().zip(vetted.user_ids()))
    {
        assert_eq!(part.user_id, **user_id);
        assert_eq!(part.expires, YEAR);
        assert_eq!(&certificate[part.offset..part.offset + part.own], &**own);
    }
    for junk in [&[][..], b"\x99", &certificate[..head]] {
        assert_eq!(parts(junk), None);
    }
}
