//! Keys made for the test, right in every place but the one that is told.

use openssl::bn::BigNum;
use sequoia_openpgp::{
    Profile,
    armor::{Kind, Writer},
    cert::{CertBuilder, CipherSuite},
    crypto::{KeyPair, mpi},
    packet::{
        UserAttribute, UserID,
        key::{Key4, SecretParts},
        signature::SignatureBuilder,
        user_attribute::{Image, Subpacket},
    },
    types::{Curve, KeyFlags, PublicKeyAlgorithm, ReasonForRevocation, SignatureType},
};

use super::*;

/// The real one, for user IDs that are named exactly.
fn vet(key: &[u8], asked: &[&str], now: SystemTime) -> Result<VettedOpenPgp, Refusal> {
    super::vet(key, &exactly(asked), now, &Limits::WIRE)
}

fn exactly(asked: &[&str]) -> Vec<ApprovedUserId> {
    asked.iter().map(|text| ApprovedUserId::Exact(Text::truncated(text))).collect()
}

/// The minimal certificate, as an answer without certifications would be.
fn bare(vetted: &VettedOpenPgp) -> Vec<u8> {
    let minimal = vetted.minimal();
    let user_ids = minimal.user_ids().iter().flat_map(|user_id| user_id.to_vec());
    minimal.head().iter().copied().chain(user_ids).chain(minimal.tail().to_vec()).collect()
}

const ALICE: &str = "Alice Łódzka <alice@example.org>";
const OTHER: &str = "Alice Elsewhere <alice@example.com>";
const DAY: Duration = Duration::from_secs(86_400);

/// When the keys are made, and when they are vetted.
fn made() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn now() -> SystemTime {
    made() + 100 * DAY
}

fn general(suite: CipherSuite) -> CertBuilder<'static> {
    CertBuilder::new()
        .set_cipher_suite(suite)
        .set_creation_time(made())
        .add_userid(ALICE)
        .add_userid(OTHER)
        .add_transport_encryption_subkey()
        .add_signing_subkey()
}

fn alice() -> Cert {
    general(CipherSuite::Cv25519).generate().unwrap().0
}

fn public(cert: &Cert) -> Vec<u8> {
    cert.to_vec().unwrap()
}

fn signer(cert: &Cert) -> KeyPair {
    cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap()
}

fn with(cert: Cert, packet: impl Into<Packet>) -> Cert {
    cert.insert_packets(packet.into()).unwrap().0
}

fn refused(key: &[u8], user_ids: &[&str], code: RefusalCode) -> String {
    let refusal = vet(key, user_ids, now()).unwrap_err();
    assert_eq!(refusal.code, code, "{refusal}");
    refusal.text
}

/// A key built packet by packet, as no honest program builds it.
struct Handmade {
    pair: KeyPair,
    packets: Vec<Packet>,
}

impl Handmade {
    fn new(key: Key4<SecretParts, PrimaryRole>) -> Self {
        let mut key = key;
        key.set_creation_time(made()).unwrap();
        let public = Key::from(key.clone()).parts_into_public();
        let pair = Key::from(key).into_keypair().unwrap();
        Self { pair, packets: vec![Packet::PublicKey(public)] }
    }

    fn user_id(
        mut self,
        user_id: &str,
        change: impl FnOnce(SignatureBuilder) -> SignatureBuilder,
    ) -> Self {
        let user_id = UserID::from(user_id);
        let builder = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_signature_creation_time(made())
            .unwrap();
        let signature =
            change(builder).sign_userid_binding(&mut self.pair, None, &user_id).unwrap();
        self.packets.push(user_id.into());
        self.packets.push(signature.into());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        self.packets.iter().flat_map(|packet| packet.to_vec().unwrap()).collect()
    }
}

fn ed25519() -> Key4<SecretParts, PrimaryRole> {
    Key4::generate_ecc(true, Curve::Ed25519).unwrap()
}

//------------ What is accepted ----------------------------------------------

#[test]
fn keys_of_each_accepted_kind_are_vetted_with_exactly_the_user_ids_asked_for() {
    use CipherSuite::{Cv25519, P256, P384, P521, RSA2k};
    let mut certs: Vec<Cert> =
        [Cv25519, RSA2k, P256, P384, P521].map(|suite| general(suite).generate().unwrap().0).into();
    let version6 = general(Cv25519).set_profile(Profile::RFC9580).unwrap();
    certs.push(version6.generate().unwrap().0);
    for cert in certs {
        let vetted = vet(&public(&cert), &[ALICE], now()).unwrap();
        assert_eq!(vetted.fingerprint(), cert.fingerprint().to_hex());
        assert_eq!(vetted.user_ids(), [Text::try_from(ALICE).unwrap()]);
        assert_eq!(vetted.key_expires(), None);
        let both = vet(&public(&cert), &[OTHER, ALICE], now()).unwrap();
        assert_eq!(both.user_ids().len(), 2);
        assert_eq!(&*both.user_ids()[0], OTHER, "the order of the request");
    }
}

#[test]
fn brainpool_keys_are_accepted() {
    for curve in [Curve::BrainpoolP256, Curve::BrainpoolP384, Curve::BrainpoolP512] {
        let key = Handmade::new(Key4::generate_ecc(true, curve).unwrap()).user_id(ALICE, |b| b);
        assert!(vet(&key.bytes(), &[ALICE], now()).is_ok());
    }
}

#[test]
fn vetted_key_crosses_the_socket_unchanged() {
    let vetted = vet(&public(&alice()), &[ALICE, OTHER], now()).unwrap();
    let bytes = protocol::codec::encode(&vetted).unwrap();
    assert_eq!(protocol::codec::decode::<VettedOpenPgp, 65536>(&bytes).unwrap(), vetted);
}

#[test]
fn expiry_of_the_key_is_reported() {
    let cert = general(CipherSuite::Cv25519).set_validity_period(200 * DAY).generate().unwrap().0;
    let vetted = vet(&public(&cert), &[ALICE], now()).unwrap();
    assert_eq!(vetted.key_expires(), Some(unix_seconds(made() + 200 * DAY)));
}

#[test]
fn minimal_key_keeps_primary_asked_user_id_and_subkeys_and_drops_the_rest() {
    let mut stranger = signer(&alice());
    let cert = alice();
    let user_id = UserID::from(ALICE);
    let theirs = user_id
        .certify(&mut stranger, &cert, SignatureType::GenericCertification, None, made())
        .unwrap();
    let photo = UserAttribute::new(&[Subpacket::Image(Image::JPEG(vec![1; 500].into()))]).unwrap();
    let builder = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_signature_creation_time(made())
        .unwrap();
    let photo_signature = photo.bind(&mut signer(&cert), &cert, builder).unwrap();
    let packets: Vec<Packet> =
        vec![user_id.into(), theirs.into(), photo.into(), photo_signature.into()];
    let cert = cert.insert_packets(packets).unwrap().0;
    assert_eq!(cert.user_attributes().count(), 1);

    let vetted = vet(&public(&cert), &[ALICE], now()).unwrap();
    let minimal = Cert::from_bytes(&bare(&vetted)).unwrap();
    assert_eq!(minimal.fingerprint(), cert.fingerprint());
    assert_eq!(minimal.userids().count(), 1);
    assert_eq!(minimal.user_attributes().count(), 0);
    assert_eq!(minimal.keys().subkeys().count(), 2);
    let user_id = minimal.userids().next().unwrap();
    assert_eq!(user_id.userid().value(), ALICE.as_bytes());
    assert_eq!(user_id.self_signatures().count(), 1);
    assert_eq!(user_id.certifications().count(), 0);
    // The subkeys still work: their bindings came along.
    let valid = minimal.with_policy(&policy(now()), now()).map(|valid| valid.keys().count());
    assert_eq!(valid.unwrap(), 3);
}

//------------ openpgp-binary, openpgp-one, openpgp-public -------------------

fn armoured(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = Writer::new(Vec::new(), kind).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finalize().unwrap()
}

#[test]
fn openpgp_binary_refuses_armour_junk_and_nothing() {
    let armour = armoured(Kind::PublicKey, &public(&alice()));
    assert!(refused(&armour, &[ALICE], RefusalCode::OpenPgpMalformed).contains("armoured"));
    let long = vec![0x99; OPENPGP_KEY_MAX + 1];
    for junk in [&[][..], b"hello", &[0x80], &[0xff; 100], &[0x99, 0xff, 0xff], &long] {
        refused(junk, &[ALICE], RefusalCode::OpenPgpMalformed);
    }
}

#[test]
fn openpgp_one_refuses_two_keys_and_foreign_packets() {
    let one = public(&alice());
    let two = [one.clone(), public(&alice())].concat();
    assert!(refused(&two, &[ALICE], RefusalCode::OpenPgpSeveral).contains("more than one"));
    let literal = [0xcb, 0x07, b'b', 0, 0, 0, 0, 0, b'x'];
    let mixed = [&one[..], &literal].concat();
    assert!(refused(&mixed, &[ALICE], RefusalCode::OpenPgpMalformed).contains("type 11"));
    // A user ID ahead of the key.
    let user_id = Packet::from(UserID::from(ALICE)).to_vec().unwrap();
    refused(&[user_id, one].concat(), &[ALICE], RefusalCode::OpenPgpMalformed);
}

#[test]
fn openpgp_one_refuses_keys_of_endless_packets() {
    let mut bytes = public(&alice());
    let user_id = Packet::from(UserID::from("x")).to_vec().unwrap();
    bytes.extend(user_id.repeat(Limits::WIRE.packets));
    assert!(refused(&bytes, &[ALICE], RefusalCode::OpenPgpMalformed).contains("4096 packets"));
}

#[test]
fn openpgp_public_refuses_secret_keys_armoured_or_not_encrypted_or_not() {
    let plain = alice();
    let locked =
        general(CipherSuite::Cv25519).set_password(Some("secret".into())).generate().unwrap().0;
    for cert in [plain, locked] {
        let secret = cert.as_tsk().to_vec().unwrap();
        refused(&secret, &[ALICE], RefusalCode::OpenPgpSecret);
        let armour = armoured(Kind::SecretKey, &secret);
        refused(&armour, &[ALICE], RefusalCode::OpenPgpSecret);
    }
    // A secret subkey under a public primary key.
    let cert = alice();
    let subkey = cert.keys().subkeys().secret().next().unwrap().key().clone();
    let secret = Packet::SecretSubkey(subkey).to_vec().unwrap();
    let mixed = [public(&cert), secret].concat();
    refused(&mixed, &[ALICE], RefusalCode::OpenPgpSecret);
}

#[test]
fn a_cut_at_any_offset_is_refused_or_leaves_a_smaller_valid_key() {
    let whole = public(&alice());
    let good = vet(&whole, &[ALICE], now()).unwrap();
    let mut accepted = 0;
    for cut in 0..whole.len() {
        if let Ok(vetted) = vet(&whole[..cut], &[ALICE], now()) {
            accepted += 1;
            assert_eq!(vetted.primary(), good.primary());
            assert_eq!(vetted.minimal().user_ids, good.minimal().user_ids);
            assert!(good.minimal().tail.starts_with(&vetted.minimal().tail), "cut {cut}");
        }
    }
    // Only the edges between packets: 2 user IDs, 2 subkeys, their signatures.
    assert!((1..=8).contains(&accepted), "{accepted} cuts accepted");
}

#[test]
fn a_flip_of_any_bit_never_changes_who_or_what_is_certified() {
    let whole = public(&alice());
    let good = vet(&whole, &[ALICE], now()).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(vetted) = vet(&flipped, &[ALICE], now()) {
            assert_eq!(vetted.primary(), good.primary(), "bit {bit}");
            assert_eq!(vetted.user_ids(), good.user_ids(), "bit {bit}");
            assert_eq!(vetted.key_expires(), good.key_expires(), "bit {bit}");
        }
    }
}

//------------ openpgp-version, openpgp-algorithm ----------------------------

#[test]
fn openpgp_version_refuses_version_3_and_5() {
    for version in [3, 5] {
        // Made at 1, valid 0 days, RSA, n = e = 3; version 5 has a length there instead.
        let mut bytes = vec![0x98, 14, version, 0, 0, 0, 1, 0, 0, 1, 0, 2, 3, 0, 2, 3];
        bytes.extend(Packet::from(UserID::from(ALICE)).to_vec().unwrap());
        assert!(refused(&bytes, &[ALICE], RefusalCode::OpenPgpVersion).contains("version"));
    }
}

/// An RSA key that nobody can use to sign; its numbers are looked at first.
fn rsa_key(modulus: &[u8]) -> Vec<u8> {
    let key = Key4::<_, PrimaryRole>::import_public_rsa(&[1, 0, 1], modulus, made()).unwrap();
    let mut bytes = Packet::PublicKey(key.into()).to_vec().unwrap();
    bytes.extend(Packet::from(UserID::from(ALICE)).to_vec().unwrap());
    bytes
}

#[test]
fn openpgp_algorithm_refuses_short_endless_and_broken_rsa() {
    let number = |bits: i32| {
        let mut number = BigNum::new().unwrap();
        number.set_bit(bits - 1).unwrap();
        number.add_word(1).unwrap();
        number.to_vec()
    };
    for bits in [1024, 2047, 16385] {
        let text = refused(&rsa_key(&number(bits)), &[ALICE], RefusalCode::OpenPgpKeySize);
        assert!(text.contains(&format!("RSA of {bits} bits")), "{text}");
    }
    let mut factor = BigNum::new().unwrap();
    factor.generate_prime(2046, false, None, None).unwrap();
    factor.mul_word(7).unwrap();
    let text = refused(&rsa_key(&factor.to_vec()), &[ALICE], RefusalCode::OpenPgpKey);
    assert!(text.contains("factor 7"), "{text}");
}

#[test]
fn openpgp_algorithm_refuses_dsa_and_elgamal_and_openpgp_key_kind_other_curves() {
    use mpi::{MPI, PublicKey};
    let n = || MPI::new(&[0xff; 256]);
    let elsewhere = Curve::Unknown(vec![0x2b, 0x81, 0x04, 0x00, 0x0a].into());
    for (algorithm, public, code) in [
        #[expect(deprecated, reason = "refusing it is the point")]
        (
            PublicKeyAlgorithm::DSA,
            PublicKey::DSA { p: n(), q: n(), g: n(), y: n() },
            RefusalCode::OpenPgpAlgorithm,
        ),
        #[expect(deprecated, reason = "refusing it is the point")]
        (
            PublicKeyAlgorithm::ElGamalEncryptSign,
            PublicKey::ElGamal { p: n(), g: n(), y: n() },
            RefusalCode::OpenPgpAlgorithm,
        ),
        (
            PublicKeyAlgorithm::ECDSA,
            PublicKey::ECDSA { curve: elsewhere, q: n() },
            RefusalCode::OpenPgpKeyKind,
        ),
    ] {
        let key = Key4::<_, PrimaryRole>::new(made(), algorithm, public).unwrap();
        let mut bytes = Packet::PublicKey(key.into()).to_vec().unwrap();
        bytes.extend(Packet::from(UserID::from(ALICE)).to_vec().unwrap());
        let text = refused(&bytes, &[ALICE], code);
        assert!(text.contains("its algorithm is"), "{text}");
    }
}

#[test]
fn openpgp_key_weak_refuses_exponents_that_cost_or_break() {
    let mut modulus = vec![0xc3; 256];
    modulus[255] = 0x0b;
    for exponent in [&[1][..], &[2], &[1, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 1]] {
        let key = Key4::<_, PrimaryRole>::import_public_rsa(exponent, &modulus, made()).unwrap();
        let mut bytes = Packet::PublicKey(key.into()).to_vec().unwrap();
        bytes.extend(Packet::from(UserID::from(ALICE)).to_vec().unwrap());
        assert!(refused(&bytes, &[ALICE], RefusalCode::OpenPgpKey).contains("exponent"));
    }
}

//------------ openpgp-not-yet, -expired, -revoked, -sha1, -certifies ---------

#[test]
fn openpgp_not_yet_and_expired_refuse_keys_outside_their_life() {
    let key = public(&alice());
    let before = vet(&key, &[ALICE], made() - DAY).unwrap_err();
    assert_eq!(before.code, RefusalCode::OpenPgpKey);
    assert!(before.text.contains("clocks"), "{before}");

    let short = general(CipherSuite::Cv25519).set_validity_period(99 * DAY).generate().unwrap().0;
    refused(&public(&short), &[ALICE], RefusalCode::OpenPgpExpired);
    assert!(vet(&public(&short), &[ALICE], made() + 98 * DAY).is_ok());
}

#[test]
fn openpgp_revoked_refuses_whatever_the_reason_and_the_date() {
    use ReasonForRevocation::{KeyCompromised, KeySuperseded, Unspecified};
    for reason in [KeyCompromised, KeySuperseded, Unspecified] {
        for time in [made(), now(), now() + 1000 * DAY] {
            let cert = alice();
            let revocation = sequoia_openpgp::cert::CertRevocationBuilder::new()
                .set_reason_for_revocation(reason, b"")
                .unwrap()
                .set_signature_creation_time(time)
                .unwrap()
                .build(&mut signer(&cert), &cert, None)
                .unwrap();
            let key = public(&with(cert, revocation));
            assert!(refused(&key, &[ALICE], RefusalCode::OpenPgpRevoked).contains("revoked"));
        }
    }
}

#[test]
fn a_revocation_by_a_stranger_revokes_nothing() {
    let cert = alice();
    let revocation = sequoia_openpgp::cert::CertRevocationBuilder::new()
        .build(&mut signer(&alice()), &cert, None)
        .unwrap();
    let cert = with(cert, revocation);
    assert_eq!(cert.primary_key().other_revocations().count(), 1, "it lies in the key");
    assert!(vet(&public(&cert), &[ALICE], now()).is_ok());
}

#[test]
fn openpgp_sha1_self_signatures_count_for_nothing_also_by_a_clock_set_back() {
    let old = |builder: SignatureBuilder| builder.set_hash_algo(HashAlgorithm::SHA1);
    let key = Handmade::new(ed25519()).user_id(ALICE, old);
    assert!(refused(&key.bytes(), &[ALICE], RefusalCode::OpenPgpDigest).contains("SHA-1"));
    // One good user ID makes the key good, not the other user ID.
    let key = Handmade::new(ed25519()).user_id(ALICE, |b| b).user_id(OTHER, old);
    assert!(vet(&key.bytes(), &[ALICE], now()).is_ok());
    assert!(refused(&key.bytes(), &[OTHER], RefusalCode::OpenPgpDigest).contains("SHA-1"));

    let mut ancient = ed25519();
    ancient.set_creation_time(UNIX_EPOCH + DAY).unwrap();
    let policy = policy(UNIX_EPOCH + 2 * DAY);
    for hash in [HashAlgorithm::SHA1, HashAlgorithm::MD5, HashAlgorithm::RipeMD] {
        let cutoff = policy
            .hash_cutoff(hash, sequoia_openpgp::policy::HashAlgoSecurity::CollisionResistance);
        assert_eq!(cutoff, Some(UNIX_EPOCH), "{hash} is never accepted");
    }
}

#[test]
fn openpgp_certifies_refuses_a_primary_that_may_only_sign() {
    let flags = |flags: KeyFlags| {
        let key = Handmade::new(ed25519())
            .user_id(ALICE, |builder| builder.set_key_flags(flags).unwrap())
            .bytes();
        vet(&key, &[ALICE], now())
    };
    let refusal = flags(KeyFlags::empty().set_signing()).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OpenPgpCannotCertify);
    assert!(refusal.text.contains("certify"), "{refusal}");
    assert!(flags(KeyFlags::empty().set_signing().set_certification()).is_ok());
}

//------------ openpgp-user-id-form, openpgp-user-id, openpgp-size -----------

#[test]
fn openpgp_user_id_form_refuses_none_doubles_and_what_deceives() {
    let key = public(&alice());
    let code = RefusalCode::OpenPgpUserIdForm;
    assert!(refused(&key, &[], code).contains("none"));
    assert!(refused(&key, &[ALICE, ALICE], code).contains("twice"));
    for bad in [
        "Alice\n",
        "Alice\0",
        "\u{202e}ecilA",
        "",
        "Alice <alice@example.org> <eve@example.com>",
        "alice@example.org <eve@example.com>",
        "Alice <alice@ex\u{430}mple.org>",
    ] {
        // Also when the key has it: its owner may write what he likes.
        let cert = Handmade::new(ed25519()).user_id(bad, |b| b).user_id(ALICE, |b| b);
        refused(&cert.bytes(), &[bad], code);
        assert!(vet(&cert.bytes(), &[ALICE], now()).is_ok(), "{bad:?} harms no other");
    }
}

#[test]
fn openpgp_user_id_must_be_in_the_key_after_normalisation() {
    let key = public(&alice());
    for other in
        ["Bob <bob@example.org>", "alice łódzka <alice@example.org>", "alice@example.org", "Alice"]
    {
        refused(&key, &[other], RefusalCode::OpenPgpUserId);
        refused(&key, &[ALICE, other], RefusalCode::OpenPgpUserId);
    }
    // The same letters in another Unicode form, the domain in another case: the key's own bytes
    // are certified.
    for same in
        ["Alice \u{141}o\u{301}dzka <alice@example.org>", "Alice Łódzka <alice@EXAMPLE.org>"]
    {
        let vetted = vet(&key, &[same], now()).unwrap();
        assert_eq!(&*vetted.user_ids()[0], ALICE);
    }
    let asked = |name: &str, address: &str| ApprovedUserId::Address {
        name: name.try_into().unwrap(),
        address: address.try_into().unwrap(),
    };
    let by = |asked: ApprovedUserId| super::vet(&key, &[asked], now(), &Limits::WIRE);
    let vetted = by(asked("Alice Łódzka", "alice@EXAMPLE.ORG")).unwrap();
    assert_eq!(&*vetted.user_ids()[0], ALICE);
    for (name, address) in [
        ("Alice Łódzka", "alice@example.com"),
        ("Alice", "alice@example.org"),
        ("", "alice@example.org"),
    ] {
        assert_eq!(by(asked(name, address)).unwrap_err().code, RefusalCode::OpenPgpUserId);
    }
}

#[test]
fn openpgp_self_signature_by_the_owner_must_be_there_for_each_user_id() {
    let mut key = Handmade::new(ed25519()).user_id(ALICE, |b| b);
    let bob = UserID::from(OTHER);
    let stranger = alice();
    let forged = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_signature_creation_time(made())
        .unwrap()
        .sign_userid_binding(&mut signer(&stranger), key.pair.public().role_as_primary(), &bob)
        .unwrap();
    key.packets.push(bob.into());
    refused(&key.bytes(), &[OTHER], RefusalCode::OpenPgpSelfSignature);
    key.packets.push(forged.into());
    refused(&key.bytes(), &[OTHER], RefusalCode::OpenPgpSelfSignature);
    assert!(vet(&key.bytes(), &[ALICE], now()).is_ok());
}

#[test]
fn openpgp_user_id_revoked_is_refused_until_the_owner_signs_it_anew() {
    for time in [made() + DAY, now() + 1000 * DAY] {
        let cert = alice();
        let mut pair = signer(&cert);
        let user_id = UserID::from(ALICE);
        let revocation = sequoia_openpgp::cert::UserIDRevocationBuilder::new()
            .set_reason_for_revocation(ReasonForRevocation::UIDRetired, b"")
            .unwrap()
            .set_signature_creation_time(time)
            .unwrap()
            .build(&mut pair, &cert, &user_id, None)
            .unwrap();
        let cert = cert.insert_packets([Packet::from(user_id), revocation.into()]).unwrap().0;
        let key = public(&cert);
        assert!(refused(&key, &[ALICE], RefusalCode::OpenPgpUserIdRevoked).contains("revoked"));
        assert!(vet(&key, &[OTHER], now()).is_ok(), "the other one is unharmed");

        let anew = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_signature_creation_time(made() + 2 * DAY)
            .unwrap();
        let user_id = UserID::from(ALICE);
        let anew = user_id.bind(&mut pair, &cert, anew).unwrap();
        let cert = cert.insert_packets([Packet::from(user_id), anew.into()]).unwrap().0;
        let taken_back = vet(&public(&cert), &[ALICE], now()).is_ok();
        assert_eq!(taken_back, time < made() + 2 * DAY);
    }
}

#[test]
fn openpgp_size_refuses_what_no_answer_holds() {
    let long = |n: usize| format!("User {n} {} <u{n}@example.org>", "x".repeat(200));
    let names: Vec<String> = (0..64).map(long).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let uri = |builder: SignatureBuilder| builder.set_policy_uri("x".repeat(2000)).unwrap();
    let key = names.iter().fold(Handmade::new(ed25519()), |key, name| key.user_id(name, uri));
    let limits = Limits { bytes: 1 << 20, ..Limits::WIRE };
    let vet = |names: &[&str]| super::vet(&key.bytes(), &exactly(names), now(), &limits);
    let refusal = vet(&names).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OpenPgpMalformed);
    assert!(refusal.text.contains("fewer"), "{refusal}");
    assert_eq!(vet(&names[..32]).unwrap().user_ids().len(), 32);
}

//------------ What a key may cost -------------------------------------------

/// A key that 2,000 others certified, of 500 KB.
fn famous() -> Vec<u8> {
    let cert = alice();
    let mut stranger = signer(&alice());
    let user_id = UserID::from(ALICE);
    let theirs = SignatureBuilder::new(SignatureType::GenericCertification)
        .set_signature_creation_time(made())
        .unwrap()
        .set_policy_uri("x".repeat(80))
        .unwrap();
    let primary = cert.primary_key().key();
    let theirs = theirs.sign_userid_binding(&mut stranger, primary, &user_id).unwrap();
    let theirs = Packet::from(theirs).to_vec().unwrap();
    let mut bytes = Vec::new();
    for packet in cert.clone().strip_secret_key_material().into_packets() {
        bytes.extend(packet.to_vec().unwrap());
        if matches!(packet, Packet::UserID(_)) {
            bytes.extend(theirs.repeat(1000));
        }
    }
    bytes
}

#[test]
fn key_with_two_thousand_foreign_signatures_costs_less_than_a_second() {
    let key = famous();
    assert!(key.len() > 500_000, "{} bytes", key.len());
    let limits = Limits { bytes: 1 << 20, ..Limits::WIRE };
    let spent = || {
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD);
        let usage = usage.unwrap();
        let times = [usage.user_time(), usage.system_time()];
        times.map(|time| time.tv_sec() * 1_000_000 + time.tv_usec()).iter().sum::<i64>()
    };
    let before = spent();
    let vetted = super::vet(&key, &exactly(&[ALICE, OTHER]), now(), &limits).unwrap();
    let microseconds = spent() - before;
    assert!(microseconds <= 1_000_000, "{microseconds} µs");
    assert!(vetted.minimal().length() < 3000, "{} bytes", vetted.minimal().length());
}

#[test]
fn key_with_endless_signatures_in_its_own_name_is_refused_by_count() {
    let cert = alice();
    let user_id = UserID::from(ALICE);
    // In the owner's name, newer than his own, and by nobody.
    let forged = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_signature_creation_time(made() + DAY)
        .unwrap()
        .set_issuer_fingerprint(cert.fingerprint())
        .unwrap();
    let primary = alice().primary_key().key().clone().parts_into_public();
    let forged = forged.sign_userid_binding(&mut signer(&cert), &primary, &user_id).unwrap();
    let forged = Packet::from(forged).to_vec().unwrap();
    let with = |count: usize| {
        let mut bytes = Vec::new();
        for packet in cert.clone().strip_secret_key_material().into_packets() {
            bytes.extend(packet.to_vec().unwrap());
            if matches!(&packet, Packet::UserID(this) if *this == user_id) {
                bytes.extend(forged.repeat(count));
            }
        }
        vet(&bytes, &[ALICE], now())
    };
    assert!(with(20).is_ok(), "a few harm nobody");
    let refusal = with(Limits::WIRE.checks + 1).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OpenPgpMalformed);
    assert!(refusal.text.contains("too many self-signatures"), "{refusal}");
}

#[test]
fn whether_a_key_can_be_encrypted_to_is_told() {
    assert!(vet(&public(&alice()), &[ALICE], now()).unwrap().can_encrypt());
    let lone = Handmade::new(ed25519()).user_id(ALICE, |b| b);
    assert!(!vet(&lone.bytes(), &[ALICE], now()).unwrap().can_encrypt());
}

#[test]
fn revoked_subkey_stays_with_its_revocation_and_counts_for_nothing() {
    let cert = alice();
    let mut subkeys = cert.keys().subkeys();
    let subkey = subkeys.find(|key| key.key().pk_algo().for_encryption()).unwrap().key().clone();
    let revocation = sequoia_openpgp::cert::SubkeyRevocationBuilder::new()
        .set_signature_creation_time(made() + DAY)
        .unwrap()
        .build(&mut signer(&cert), &cert, subkey.parts_as_public(), None)
        .unwrap();
    let cert = with(cert, revocation);
    let vetted = vet(&public(&cert), &[ALICE], now()).unwrap();
    assert!(!vetted.can_encrypt(), "the encryption subkey is the revoked one");
    let minimal = Cert::from_bytes(&bare(&vetted)).unwrap();
    assert_eq!(minimal.keys().subkeys().count(), 2);
    assert_eq!(minimal.keys().subkeys().flat_map(|key| key.self_revocations()).count(), 1);
}

#[test]
fn expiry_is_the_first_that_any_of_the_self_signatures_says() {
    let until = |days: u32| {
        move |builder: SignatureBuilder| builder.set_key_validity_period(Some(days * DAY)).unwrap()
    };
    let key = Handmade::new(ed25519()).user_id(OTHER, until(400)).user_id(ALICE, until(300));
    for asked in [ALICE, OTHER] {
        let vetted = vet(&key.bytes(), &[asked], now()).unwrap();
        let expected = if asked == ALICE { 300 } else { 400 };
        assert!(vetted.key_expires().unwrap() <= unix_seconds(made() + expected * DAY));
    }
}

#[test]
fn arbitrary_bytes_are_refused_and_break_nothing() {
    use proptest::prelude::*;
    let whole = public(&alice());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let edits = proptest::collection::vec((0..whole.len(), any::<u8>(), 0..40_usize), 1..8);
    runner
        .run(&edits, |edits| {
            let mut bytes = whole.clone();
            for (at, value, repeat) in edits {
                let at = at.min(bytes.len());
                bytes.splice(at..at, std::iter::repeat_n(value, repeat));
            }
            let _ = vet(&bytes, &[ALICE], now());
            Ok(())
        })
        .unwrap();
}
