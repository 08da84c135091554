//! Keys made here, right and wrong ones, through the rooms of this module.

use std::time::Duration;

use protocol::{
    bounded::List,
    message::{
        ApprovedUserId, CertificationLevel, CertifyOpenPgp, OPENPGP_KEY_MAX, OpenPgpEntry,
        OpenPgpPolicyEntry, OpenPgpReason, RefusalCode, RequestId, RevokeOpenPgp,
    },
};
use sequoia_openpgp::{
    Cert, Packet, PacketPile,
    cert::{
        CertBuilder, CertRevocationBuilder, CipherSuite, UserIDRevocationBuilder,
        amalgamation::UserIDAmalgamation,
    },
    packet::{
        Signature, UserAttribute, UserID,
        signature::{
            SignatureBuilder,
            subpacket::{NotationDataFlags, Subpacket, SubpacketValue},
        },
        user_attribute::Subpacket as Attribute,
    },
    parse::Parse,
    policy::StandardPolicy,
    serialize::{Serialize, SerializeInto},
    types::{HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType},
};

use super::{
    answer::{self, VerifiedCertification},
    check, export,
    register::Register,
    strip::Stripped,
    *,
};
use crate::{
    catalogue::{Catalogues, OpenPgpAuthority},
    store::Store,
    test_ca::TestCa,
    verify::BadAnswer,
};

const CREATED_US: i64 = 1_790_000_000_000_000;
const NOW_US: i64 = CREATED_US + 1_000_000;
pub(crate) const NOW_S: i64 = NOW_US / 1_000_000;
const DAY: Duration = Duration::from_secs(86_400);
const URI: &str = "https://ca.example/cps";
const SERIAL: &str = "serial@ca.example";
pub(crate) const ALICE: &str = "Alice <a@a.example>";
pub(crate) const BOB: &str = "Bob <b@b.example>";

//------------ Keys ----------------------------------------------------------

fn builder<'b>(user_ids: &[&str]) -> CertBuilder<'b> {
    let builder = user_ids.iter().fold(CertBuilder::new(), |b, id| b.add_userid(*id));
    builder
        .set_creation_time(system_time(CREATED_US))
        .set_primary_key_flags(KeyFlags::empty().set_certification())
}

pub(crate) fn key(user_ids: &[&str]) -> Cert {
    builder(user_ids).add_transport_encryption_subkey().generate().unwrap().0
}

pub(crate) fn public(cert: &Cert) -> Vec<u8> {
    cert.clone().strip_secret_key_material().to_vec().unwrap()
}

fn pair(cert: &Cert) -> sequoia_openpgp::crypto::KeyPair {
    cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap()
}

fn user_id(cert: &Cert, text: &str) -> UserID {
    cert.userids().find(|one| one.userid().value() == text.as_bytes()).unwrap().userid().clone()
}

/// `cert` with a signature by `signer` of its user ID `text`.
pub(crate) fn signed(signer: &Cert, cert: &Cert, text: &str, signature: SignatureBuilder) -> Cert {
    let user_id = user_id(cert, text);
    let signature = user_id.bind(&mut pair(signer), cert, signature).unwrap();
    cert.clone().insert_packets(vec![Packet::from(user_id), signature.into()]).unwrap().0
}

/// What an honest signer says.
pub(crate) fn honest(days: u32) -> SignatureBuilder {
    endless().set_signature_validity_period(DAY * days).unwrap()
}

fn endless() -> SignatureBuilder {
    let readable = NotationDataFlags::empty().set_human_readable();
    SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_hash_algo(HashAlgorithm::SHA512)
        .set_signature_creation_time(system_time(NOW_US))
        .unwrap()
        .set_policy_uri(URI)
        .unwrap()
        .add_notation(SERIAL, "0A01", readable, false)
        .unwrap()
}

fn policy() -> OpenPgpPolicyEntry {
    let kinds: Vec<_> = ["rsa", "ed25519"].map(|kind| kind.try_into().unwrap()).to_vec();
    OpenPgpPolicyEntry {
        name: "default".parse().unwrap(),
        level: CertificationLevel::Positive,
        days_default: 365,
        days_max: 731,
        key_kinds: kinds.try_into().unwrap(),
        rsa_bits_min: 2048,
        needs_encryption: true,
        user_ids_max: 8,
        policy_uri: Some(URI.try_into().unwrap()),
        serial_notation: Some(SERIAL.try_into().unwrap()),
    }
}

/// What a catalogue says of `signer`.
pub(crate) fn entry(signer: &Cert) -> OpenPgpEntry {
    OpenPgpEntry {
        name: "ca".parse().unwrap(),
        certificate: public(signer).try_into().unwrap(),
        policies: vec![policy()].try_into().unwrap(),
    }
}

fn authority(signer: &Cert) -> OpenPgpAuthority {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("s")).unwrap();
    let mut catalogue = TestCa::new("CA").catalogue("issuing");
    catalogue.openpgp = vec![entry(signer)].try_into().unwrap();
    let catalogues = Catalogues(store.connection());
    assert_eq!(catalogues.receive(&catalogue, 1).unwrap(), None);
    catalogues.trusted().unwrap().openpgp.into_values().next().unwrap()
}

fn exact(texts: &[&str]) -> Vec<ApprovedUserId> {
    texts.iter().map(|text| ApprovedUserId::Exact((*text).try_into().unwrap())).collect()
}

//------------ Uploads -------------------------------------------------------

fn trim(bytes: &[u8], asked: &[&str], unix_us: i64) -> Result<Vec<u8>, Refusal> {
    let stripped = Stripped::read(bytes, "`k`")?;
    let trimmed = check::trim(&stripped, &exact(asked), Some(&policy()), "`k`", unix_us)?;
    Ok(trimmed.into_bytes())
}

#[test]
fn an_upload_is_trimmed_to_what_is_certified() {
    let stranger = key(&["stranger"]);
    let mut cert = key(&["primary@a.example", "Zoë <z@a.example>", "other"]);
    let image = Attribute::Unknown(1, vec![1; 5000].into());
    let attribute = UserAttribute::new(&[image]).unwrap();
    let binding = attribute
        .bind(&mut pair(&cert), &cert, SignatureBuilder::new(SignatureType::PositiveCertification))
        .unwrap();
    cert = cert.insert_packets(vec![Packet::from(attribute), binding.into()]).unwrap().0;
    for text in ["Zoë <z@a.example>", "primary@a.example", "other"] {
        cert = signed(&stranger, &cert, text, honest(5));
    }
    let asked = ["Zoe\u{308} <z@A.example>"];
    let trimmed = trim(&public(&cert), &asked, NOW_US).unwrap();
    let back = Cert::from_bytes(&trimmed).unwrap();
    assert_eq!(back.fingerprint(), cert.fingerprint());
    let held: Vec<_> = back.userids().map(|one| one.userid().value().to_vec()).collect();
    assert_eq!(held, ["Zoë <z@a.example>".as_bytes()]);
    assert_eq!(back.keys().subkeys().count(), 1);
    assert_eq!(back.user_attributes().count(), 0);
    assert!(back.userids().all(|one| one.certifications().count() == 0));
    back.with_policy(&StandardPolicy::new(), system_time(NOW_US)).unwrap();
    let armoured = armour(&public(&cert)).unwrap();
    assert_eq!(trim(&armoured, &asked, NOW_US).unwrap(), trimmed);
    let unchecked = read_unchecked(&armoured, "`k`").unwrap();
    assert_eq!(Cert::from_bytes(&unchecked).unwrap().userids().count(), 3);
}

#[test]
fn half_a_megabyte_of_foreign_signatures_stays_here() {
    let cert = key(&[ALICE]);
    let stranger = key(&["stranger"]);
    let one = signed(&stranger, &cert, ALICE, honest(5));
    let foreign = one.userids().next().unwrap().certifications().next().unwrap().clone();
    let foreign = Packet::from(foreign).to_vec().unwrap();
    let mut bytes = Vec::new();
    let plain = cert.clone().strip_secret_key_material();
    for packet in plain.into_packets() {
        let user_id = packet.tag() == sequoia_openpgp::packet::Tag::UserID;
        packet.serialize(&mut bytes).unwrap();
        if user_id {
            (0..2500).for_each(|_| bytes.extend_from_slice(&foreign));
        }
    }
    assert!(bytes.len() > 500_000, "{}", bytes.len());
    let trimmed = trim(&bytes, &[ALICE], NOW_US).unwrap();
    assert!(trimmed.len() < 2000, "{}", trimmed.len());
    assert!(read_unchecked(&bytes, "`k`").unwrap().len() < OPENPGP_KEY_MAX);
}

#[test]
fn armour_behind_a_byte_order_mark_is_read_and_a_secret_key_behind_one_is_refused() {
    let cert = key(&[ALICE]);
    let marked = |armour: &[u8]| {
        let text = String::from_utf8(armour.to_vec()).unwrap();
        let with = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            unit(0xfeff).into_iter().chain(text.encode_utf16().flat_map(unit)).collect()
        };
        let utf8 = [&[0xef, 0xbb, 0xbf][..], armour].concat();
        [utf8, with(u16::to_le_bytes), with(u16::to_be_bytes)]
    };
    let mut secret = Vec::new();
    cert.as_tsk().serialize(&mut secret).unwrap();
    for upload in marked(&armour(&public(&cert)).unwrap()) {
        assert!(trim(&upload, &[ALICE], NOW_US).is_ok());
        assert!(read_unchecked(&upload, "`k`").is_ok());
    }
    for upload in marked(&armour_of(&secret, "PRIVATE")) {
        let refusal = read_unchecked(&upload, "`k`").unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OpenPgpSecret);
    }
}

#[test]
fn uploads_are_refused_with_their_codes() {
    let cert = key(&[ALICE, BOB]);
    let code = |bytes: &[u8], asked: &[&str], now| trim(bytes, asked, now).unwrap_err().code;
    let bytes = public(&cert);
    assert!(trim(&bytes, &[ALICE, BOB], NOW_US).is_ok());

    let mut secret = Vec::new();
    cert.as_tsk().serialize(&mut secret).unwrap();
    let behind = [&bytes[..], &secret].concat();
    for secret in [&secret[..], &behind, &armour_of(&secret, "PRIVATE")] {
        assert_eq!(code(secret, &[ALICE], NOW_US), RefusalCode::OpenPgpSecret);
        assert!(read_unchecked(secret, "`k`").is_err(), "not even unchecked");
    }
    let user_id_first = Packet::from(UserID::from(ALICE)).to_vec().unwrap();
    for junk in [&b"junk"[..], b"", b"\x99", &user_id_first, &bytes[..bytes.len() - 1]] {
        assert_eq!(code(junk, &[ALICE], NOW_US), RefusalCode::OpenPgpMalformed);
        let unchecked = read_unchecked(junk, "`k`");
        assert!(unchecked.is_err() || junk == user_id_first, "it may be a secret key");
    }
    assert_eq!(code(&bytes.repeat(2), &[ALICE], NOW_US), RefusalCode::OpenPgpSeveral);
    let armoured = armour(&bytes).unwrap();
    assert_eq!(code(&armoured.repeat(2), &[ALICE], NOW_US), RefusalCode::OpenPgpSeveral);
    assert_eq!(code(&bytes, &["c@c.example"], NOW_US), RefusalCode::OpenPgpUserId);
    for asked in [&[][..], &[ALICE, ALICE], &["a\u{202e}b"], &["x <a@a.b> <c@d.e>"]] {
        assert_eq!(code(&bytes, asked, NOW_US), RefusalCode::OpenPgpUserIdForm, "{asked:?}");
    }
    let refusal = trim(&bytes, &[], NOW_US).unwrap_err();
    assert!(refusal.text.contains(&format!("it has `{ALICE}`")), "{}", refusal.text);
    let early = CREATED_US - 86_400_000_000;
    assert_eq!(code(&bytes, &[ALICE], early), RefusalCode::OpenPgpKey);
}

#[test]
fn each_fault_of_a_key_has_its_own_code() {
    let code = |cert: &Cert, now| trim(&public(cert), &[ALICE], now).unwrap_err().code;
    let cert = key(&[ALICE, BOB]);
    let revocation = CertRevocationBuilder::new()
        .set_signature_creation_time(system_time(NOW_US))
        .unwrap()
        .set_reason_for_revocation(ReasonForRevocation::KeyRetired, b"")
        .unwrap()
        .build(&mut pair(&cert), &cert, HashAlgorithm::SHA512)
        .unwrap();
    let revoked = cert.clone().insert_packets(revocation).unwrap().0;
    assert_eq!(code(&revoked, NOW_US), RefusalCode::OpenPgpRevoked);

    let revocation = UserIDRevocationBuilder::new()
        .set_signature_creation_time(system_time(NOW_US))
        .unwrap()
        .set_reason_for_revocation(ReasonForRevocation::UIDRetired, b"")
        .unwrap()
        .build(&mut pair(&cert), &cert, &user_id(&cert, ALICE), HashAlgorithm::SHA512)
        .unwrap();
    let revoked = cert.clone().insert_packets(revocation).unwrap().0;
    assert_eq!(code(&revoked, NOW_US), RefusalCode::OpenPgpUserIdRevoked);
    assert!(trim(&public(&revoked), &[BOB], NOW_US).is_ok(), "the other one");

    let short = builder(&[ALICE]).set_validity_period(DAY).add_transport_encryption_subkey();
    let short = short.generate().unwrap().0;
    assert!(trim(&public(&short), &[ALICE], NOW_US).is_ok());
    assert_eq!(code(&short, CREATED_US + 2 * 86_400_000_000), RefusalCode::OpenPgpExpired);

    let deaf = builder(&[ALICE]).add_signing_subkey().generate().unwrap().0;
    assert_eq!(code(&deaf, NOW_US), RefusalCode::OpenPgpNoEncryption);
    let curve = builder(&[ALICE])
        .set_cipher_suite(CipherSuite::P256)
        .add_transport_encryption_subkey()
        .generate()
        .unwrap()
        .0;
    assert_eq!(code(&curve, NOW_US), RefusalCode::OpenPgpKeyKind);
}

fn armour_of(bytes: &[u8], word: &str) -> Vec<u8> {
    let text = String::from_utf8(armour(bytes).unwrap()).unwrap();
    text.replace("PUBLIC", word).into_bytes()
}

//------------ Certified -----------------------------------------------------

pub(crate) fn request(cert: &Cert, user_ids: &[&str], days: Option<u32>) -> CertifyOpenPgp {
    CertifyOpenPgp {
        id: RequestId::from_bytes([1; 16]),
        authority: "ca".parse().unwrap(),
        policy: None,
        user_ids: exact(user_ids).try_into().unwrap(),
        days,
        renew: false,
        key: public(cert).try_into().unwrap(),
    }
}

fn judge(
    signer: &Cert,
    request: &CertifyOpenPgp,
    answer: &Cert,
) -> Result<VerifiedCertification, BadAnswer> {
    answer::certified(&authority(signer), request, &public(answer))
}

/// `cert` with these user IDs only.
fn only(cert: &Cert, user_ids: &[&str]) -> Cert {
    let kept = |value: &[u8]| user_ids.iter().any(|text| text.as_bytes() == value);
    cert.clone().retain_userids(|one| kept(one.userid().value()))
}

#[test]
fn exactly_the_asked_user_ids_must_be_certified_by_the_signer() {
    let signer = key(&["CA"]);
    let cert = key(&[ALICE, BOB]);
    let both = signed(&signer, &signed(&signer, &cert, ALICE, honest(30)), BOB, honest(30));
    let one = only(&both, &[ALICE]);
    let asked = request(&cert, &[ALICE], Some(30));
    let verified = judge(&signer, &asked, &one).unwrap();
    assert_eq!(verified.fingerprint(), cert.fingerprint().to_hex());
    let certified = &verified.certified()[0];
    assert_eq!((certified.user_id.as_str(), certified.serial.as_deref()), (ALICE, Some("0A01")));
    assert_eq!((certified.created, certified.expires), (NOW_S, NOW_S + 30 * 86_400));
    judge(&signer, &request(&cert, &[ALICE, BOB], None), &both).unwrap();

    let too_long = judge(&signer, &request(&cert, &[ALICE], Some(29)), &one).unwrap_err();
    assert!(too_long.to_string().contains("longer"), "{too_long}");
    let missing = request(&cert, &[ALICE, BOB], None);
    assert!(judge(&signer, &missing, &one).is_err(), "b is missing");
    assert!(judge(&signer, &asked, &both).is_err(), "b was not asked for");
    assert!(judge(&signer, &asked, &only(&cert, &[ALICE])).is_err(), "nothing is certified");
    let stranger = signed(&key(&["X"]), &only(&cert, &[ALICE]), ALICE, honest(30));
    assert!(judge(&signer, &asked, &stranger).is_err(), "by somebody else");
    let other = signed(&signer, &key(&[ALICE]), ALICE, honest(30));
    assert!(judge(&signer, &asked, &other).is_err(), "another key");
    let unknown = CertifyOpenPgp { policy: Some("other".parse().unwrap()), ..asked };
    assert!(judge(&signer, &unknown, &one).is_err(), "by a policy that is not shown");
}

#[test]
fn a_certification_that_says_anything_else_is_not_believed() {
    let signer = key(&["CA"]);
    let cert = key(&[ALICE]);
    let asked = request(&cert, &[ALICE], Some(30));
    let of = |signature| judge(&signer, &asked, &signed(&signer, &cert, ALICE, signature));
    of(honest(30)).unwrap();
    let readable = NotationDataFlags::empty().set_human_readable();
    of(honest(30).add_notation("x@y.example", "z", readable, false).unwrap()).unwrap();
    let generic = SignatureType::GenericCertification;
    let bad = [
        ("an introducer", honest(30).set_trust_signature(1, 120).unwrap()),
        ("a part of an introducer", honest(30).set_regular_expression(b"a").unwrap()),
        ("not to be exported", honest(30).set_exportable_certification(false).unwrap()),
        ("not to be revoked", honest(30).set_revocable(false).unwrap()),
        ("another level", honest(30).set_type(generic)),
        ("another policy", honest(30).set_policy_uri("https://other.example").unwrap()),
        ("key flags", honest(30).set_key_flags(KeyFlags::empty().set_signing()).unwrap()),
        ("an old digest", honest(30).set_hash_algo(HashAlgorithm::SHA1)),
        ("what no person reads", honest(30).add_notation("x@y.example", "z", None, false).unwrap()),
        ("for ever", endless()),
        ("for no time", honest(30).set_signature_validity_period(Duration::ZERO).unwrap()),
    ];
    for (what, signature) in bad {
        assert!(of(signature).is_err(), "{what}");
    }
    let twice = signed(&signer, &cert, ALICE, honest(30));
    let twice = signed(&signer, &twice, ALICE, honest(20));
    assert!(judge(&signer, &asked, &twice).is_err(), "two of them");
}

#[test]
fn nothing_may_be_added_to_the_key() {
    let signer = key(&["CA"]);
    let cert = key(&[ALICE]);
    let asked = request(&cert, &[ALICE], Some(30));
    let good = signed(&signer, &cert, ALICE, honest(30));
    judge(&signer, &asked, &good).unwrap();
    let authority = authority(&signer);
    let other = key(&["x"]);
    let subkey = other.keys().subkeys().next().unwrap();
    let stranger = Packet::from(subkey.key().clone().parts_into_public());
    let binding = Packet::from(subkey.self_signatures().next().unwrap().clone());
    let name = Packet::from(UserID::from("new@a.example"));
    let bytes = public(&good);
    for added in [vec![stranger, binding], vec![name]] {
        let mut longer = bytes.clone();
        added.iter().for_each(|packet| packet.serialize(&mut longer).unwrap());
        let judged = answer::certified(&authority, &asked, &longer);
        assert!(judged.is_err(), "{added:?}");
    }
    for index in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[index] ^= 0x01;
        // A library reads the same key from another length form; everything else is noticed.
        let judged = answer::certified(&authority, &asked, &bad);
        if judged.is_ok() {
            assert_eq!(Cert::from_bytes(&bad).unwrap(), Cert::from_bytes(&bytes).unwrap());
        }
    }
    for cut in 0..bytes.len() {
        // Cut at the edge of a subkey it is a smaller key, as a signer may make it.
        let less = answer::certified(&authority, &asked, &bytes[..cut]);
        if let Ok(less) = less {
            assert_eq!(less.certified().len(), 1);
        }
    }
}

#[test]
fn an_earlier_answer_is_believed_where_it_is_one_to_this_request_too() {
    let signer = key(&["CA"]);
    let cert = key(&[ALICE]);
    let answer = signed(&signer, &cert, ALICE, honest(300));
    judge(&signer, &request(&cert, &[ALICE], Some(300)), &answer).unwrap();
    judge(&signer, &request(&cert, &[ALICE], Some(365)), &answer).unwrap();
    let shorter = judge(&signer, &request(&cert, &[ALICE], Some(30)), &answer).unwrap_err();
    assert!(shorter.to_string().contains("longer than was asked for"), "{shorter}");
    // The owner has signed the user ID anew: the old self-signature is not in the upload.
    let anew = SignatureBuilder::new(SignatureType::PositiveCertification);
    let anew = user_id(&cert, ALICE).bind(&mut pair(&cert), &cert, anew).unwrap();
    let packets = cert.clone().into_packets().map(|packet| match packet {
        Packet::Signature(old) if old.typ() == anew.typ() => anew.clone().into(),
        other => other,
    });
    let upload = Cert::from_packets(packets).unwrap();
    let old = judge(&signer, &request(&upload, &[ALICE], Some(300)), &answer).unwrap_err();
    assert!(old.to_string().contains("2 new signatures"), "{old}");
}

//------------ Taken back ----------------------------------------------------

pub(crate) fn revocation(
    signer: &Cert,
    cert: &Cert,
    text: &str,
    reason: ReasonForRevocation,
) -> Signature {
    SignatureBuilder::new(SignatureType::CertificationRevocation)
        .set_hash_algo(HashAlgorithm::SHA512)
        .set_signature_creation_time(system_time(NOW_US + 5_000_000))
        .unwrap()
        .set_reason_for_revocation(reason, b"")
        .unwrap()
        .sign_userid_binding(
            &mut pair(signer),
            cert.primary_key().key().role_as_primary(),
            &user_id(cert, text),
        )
        .unwrap()
}

pub(crate) fn uncertified(cert: &Cert, revocations: &[(&str, Signature)]) -> Vec<u8> {
    let mut bytes = Packet::from(cert.primary_key().key().clone()).to_vec().unwrap();
    for (text, signature) in revocations {
        let user_id = cert.userids().find(|one| one.userid().value() == text.as_bytes()).unwrap();
        Packet::from(user_id.userid().clone()).serialize(&mut bytes).unwrap();
        let own = user_id.self_signatures().next().unwrap().clone();
        Packet::from(own).serialize(&mut bytes).unwrap();
        Packet::from(signature.clone()).serialize(&mut bytes).unwrap();
    }
    bytes
}

#[test]
fn a_revocation_is_believed_for_exactly_what_was_asked() {
    let signer = key(&["CA"]);
    let cert_with_secrets = key(&[ALICE, BOB]);
    let cert = cert_with_secrets.clone().strip_secret_key_material();
    let authority = authority(&signer);
    let at = NOW_S + 5;
    let of = |text, reason| (text, revocation(&signer, &cert, text, reason));
    let plain = ReasonForRevocation::Unspecified;
    let one = uncertified(&cert, &[of(ALICE, plain)]);
    let both = uncertified(&cert, &[of(ALICE, plain), of(BOB, plain)]);
    let wish = |user_id: Option<&str>| RevokeOpenPgp {
        id: RequestId::from_bytes([1; 16]),
        authority: "ca".parse().unwrap(),
        fingerprint: cert.fingerprint().to_hex().as_str().try_into().unwrap(),
        user_id: user_id.map(|text| text.try_into().unwrap()),
        reason: OpenPgpReason::Unspecified,
    };
    let known = [ALICE.to_owned(), BOB.to_owned()];
    let judge = |wish: &RevokeOpenPgp, bytes: &[u8], known: &[String]| {
        answer::revoked(&authority, wish, at, bytes, known)
    };
    let verified = judge(&wish(Some(ALICE)), &one, &known).unwrap();
    assert_eq!((verified.at(), verified.revoked()[0].0.as_str()), (at, ALICE));
    assert_eq!(judge(&wish(None), &both, &known).unwrap().revoked().len(), 2);

    // Who uploaded the key can leave out whose its self-signatures are: that is not signed.
    let by = cert_with_secrets.key_handle();
    let named = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_signature_creation_time(system_time(CREATED_US))
        .unwrap()
        .modify_unhashed_area(|mut area| {
            area.add(Subpacket::new(SubpacketValue::Issuer(by.into()), false)?)?;
            Ok(area)
        })
        .unwrap();
    let user_id = user_id(&cert, ALICE);
    let mut own = user_id.bind(&mut pair(&cert_with_secrets), &cert, named).unwrap();
    own.unhashed_area_mut().clear();
    assert!(own.get_issuers().is_empty());
    let mut packets: Vec<_> = PacketPile::from_bytes(&one).unwrap().into_children().collect();
    packets[2] = own.into();
    let nameless = PacketPile::from(packets).to_vec().unwrap();
    assert_eq!(judge(&wish(Some(ALICE)), &nameless, &known).unwrap().revoked().len(), 1);

    assert!(judge(&wish(Some(ALICE)), &both, &known).is_err(), "more than was asked for");
    assert!(judge(&wish(Some(BOB)), &one, &known).is_err(), "another one");
    assert_eq!(judge(&wish(None), &one, &known).unwrap().missing(), [BOB], "not all");
    assert!(judge(&wish(None), &one, &known[..1]).unwrap().missing().is_empty());
    assert!(answer::revoked(&authority, &wish(Some(ALICE)), at + 1, &one, &known).is_err());
    let other_reason = uncertified(&cert, &[of(ALICE, ReasonForRevocation::UIDRetired)]);
    assert!(judge(&wish(Some(ALICE)), &other_reason, &known).is_err(), "another reason");
    let stranger = revocation(&key(&["X"]), &cert, ALICE, plain);
    let stranger = uncertified(&cert, &[(ALICE, stranger)]);
    assert!(judge(&wish(Some(ALICE)), &stranger, &known).is_err(), "by another");
    let certified = signed(&signer, &cert, ALICE, honest(30));
    assert!(judge(&wish(Some(ALICE)), &public(&certified), &known).is_err(), "a certification");
}

//------------ Kept and handed out -------------------------------------------

#[test]
fn exports_hold_what_is_certified_and_the_keyring_what_was_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("s")).unwrap();
    let register = Register(store.connection());
    let ca = "ca".parse().unwrap();
    let signer = key(&["CA"]);
    let cert = key(&[ALICE, BOB]);
    let answer = signed(&signer, &signed(&signer, &cert, ALICE, honest(30)), BOB, honest(30));
    let verified = judge(&signer, &request(&cert, &[ALICE, BOB], None), &answer).unwrap();
    register.add(&ca, RequestId::from_bytes([1; 16]), &verified).unwrap();
    assert_eq!(register.of_request(RequestId::from_bytes([1; 16])).unwrap().len(), 2);
    assert_eq!(register.tallies(NOW_S).unwrap()[0].valid, 2);

    let read = |bytes: Vec<u8>| Cert::from_bytes(&bytes).unwrap();
    let exported = export::keys(&register, None, NOW_S).unwrap();
    let [key] = &exported[..] else { panic!("{exported:?}") };
    assert_eq!(read(key.for_keyring().unwrap()).userids().count(), 2);
    let of_domain = read(key.for_domain("a.example").unwrap());
    let held: Vec<_> = of_domain.userids().collect();
    assert_eq!(held.len(), 1, "those of other domains are left out");
    assert_eq!(held[0].userid().value(), ALICE.as_bytes());
    assert_eq!(held[0].certifications().count(), 1);
    assert!(export::keys(&register, Some("other"), NOW_S).unwrap().is_empty());
    assert!(export::keys(&register, None, NOW_S + 31 * 86_400).unwrap().is_empty(), "expired");

    let plain = cert.clone().strip_secret_key_material();
    let taken = revocation(&signer, &plain, ALICE, ReasonForRevocation::UIDRetired);
    let bytes = uncertified(&plain, &[(ALICE, taken)]);
    let wish = RevokeOpenPgp {
        id: RequestId::from_bytes([2; 16]),
        authority: ca.clone(),
        fingerprint: cert.fingerprint().to_hex().as_str().try_into().unwrap(),
        user_id: Some(ALICE.try_into().unwrap()),
        reason: OpenPgpReason::UserIdInvalid,
    };
    let at = NOW_S + 5;
    let revoked = answer::revoked(&authority(&signer), &wish, at, &bytes, &[]).unwrap();
    register.revoke(&ca, &revoked, wish.reason).unwrap();
    assert_eq!(register.certified(&ca, verified.fingerprint(), at + 1).unwrap(), [BOB]);

    let exported = export::keys(&register, None, at).unwrap();
    let keyring = read(exported[0].for_keyring().unwrap());
    let alice = keyring.userids().find(|one| one.userid().value() == ALICE.as_bytes()).unwrap();
    assert_eq!(alice.other_revocations().count(), 1, "importers learn of it");
    assert_eq!(alice.certifications().count(), 0);
    assert_eq!(read(exported[0].for_domain("b.example").unwrap()).userids().count(), 1);
    let addresses = exported[0].mailboxes();
    assert_eq!(addresses.iter().map(|one| one.domain()).collect::<Vec<_>>(), ["b.example"]);

    // For good: an earlier certification, replaced by this one, may have had a later end.
    let long_after = export::keys(&register, None, NOW_S + 31 * 86_400).unwrap();
    let [key] = &long_after[..] else { panic!("{long_after:?}") };
    let keyring = read(key.for_keyring().unwrap());
    assert_eq!(keyring.userids().flat_map(|one| one.other_revocations()).count(), 1);
    assert_eq!(keyring.userids().count(), 1, "what expired is left out");
    assert_eq!((key.is_certified(), key.mailboxes().len()), (false, 0));

    // The revocation goes before the certification on the cable.
    let empty = Store::create(&dir.path().join("t")).unwrap();
    let late = Register(empty.connection());
    late.revoke(&ca, &revoked, wish.reason).unwrap();
    // Whoever has the certification learns of it, though it never came here.
    let exported = export::keys(&late, Some("ca"), at).unwrap();
    let [key] = &exported[..] else { panic!("{exported:?}") };
    let alone = read(key.for_keyring().unwrap());
    assert_eq!(alone.userids().flat_map(|one| one.other_revocations()).count(), 1);
    assert!(export::keys(&late, Some("other"), at).unwrap().is_empty());
    late.add(&ca, RequestId::from_bytes([1; 16]), &verified).unwrap();
    let rows = |register: &Register<'_>| register.of_key(verified.fingerprint()).unwrap();
    assert_eq!(rows(&late), rows(&register));

    // The first answer, come again from the queue of a frontend that was restored.
    register.add(&ca, RequestId::from_bytes([1; 16]), &verified).unwrap();
    assert_eq!(register.tallies(at).unwrap()[0].revoked, 1, "it stays taken back");
    let later = honest(30).set_signature_creation_time(system_time(NOW_US + 9_000_000)).unwrap();
    let renewed = signed(&signer, &only(&cert, &[ALICE]), ALICE, later);
    let renewed = judge(&signer, &request(&cert, &[ALICE], None), &renewed).unwrap();
    register.add(&ca, RequestId::from_bytes([3; 16]), &renewed).unwrap();
    assert_eq!(register.tallies(at).unwrap()[0].valid, 2, "certified anew");

    // While that stands a revocation beside it would undo it for some programs; when it has ended,
    // what was taken back before it may last.
    let told = |unix_s| {
        let exported = export::keys(&register, None, unix_s).unwrap();
        let [key] = &exported[..] else { panic!("{exported:?}") };
        let keyring = read(key.for_keyring().unwrap());
        let all = |of: fn(UserIDAmalgamation<'_>) -> usize| keyring.userids().map(of).sum();
        let counts: (usize, usize) =
            (all(|one| one.certifications().count()), all(|one| one.other_revocations().count()));
        counts
    };
    assert_eq!(told(at), (2, 0));
    assert_eq!(told(NOW_S + 31 * 86_400), (0, 1));
}

#[test]
fn another_openpgp_certificate_for_a_known_name_needs_a_person() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("s")).unwrap();
    let catalogues = Catalogues(store.connection());
    let entry = |signer: &Cert| OpenPgpEntry {
        name: "ca".parse().unwrap(),
        certificate: public(signer).try_into().unwrap(),
        policies: List::empty(),
    };
    let mut catalogue = TestCa::new("CA").catalogue("issuing");
    let (first, second) = (key(&["First"]), key(&["Second"]));
    catalogue.openpgp = vec![entry(&first)].try_into().unwrap();
    assert_eq!(catalogues.receive(&catalogue, 1).unwrap(), None);
    // The same key with another user ID on it needs nobody.
    let longer = UserID::from("First, again");
    let binding = longer
        .bind(
            &mut pair(&first),
            &first,
            SignatureBuilder::new(SignatureType::PositiveCertification),
        )
        .unwrap();
    let longer =
        first.clone().insert_packets(vec![Packet::from(longer), binding.into()]).unwrap().0;
    catalogue.openpgp = vec![entry(&longer)].try_into().unwrap();
    assert_eq!(catalogues.receive(&catalogue, 2).unwrap(), None);
    let pinned = |catalogues: &Catalogues<'_>| {
        let trusted = catalogues.trusted().unwrap();
        trusted.openpgp.into_values().next().unwrap().cert().clone()
    };
    assert_eq!(pinned(&catalogues).userids().count(), 2);

    catalogue.openpgp = vec![entry(&second)].try_into().unwrap();
    let alarm = catalogues.receive(&catalogue, 3).unwrap().unwrap();
    assert!(alarm.contains("OpenPGP"), "{alarm}");
    assert_eq!(pinned(&catalogues).fingerprint(), first.fingerprint());
    assert_eq!(catalogues.accept(4).unwrap().len(), 1);
    assert_eq!(pinned(&catalogues).fingerprint(), second.fingerprint());
}
