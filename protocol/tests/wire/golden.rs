//! The bytes of every message of protocol version 1.
//!
//! If a test here fails, the encoding changed. Once version 1 is frozen, do not change the files
//! in `golden/v1`: make a version with golden bytes of its own.

use std::{collections::BTreeSet, fmt::Debug, path::PathBuf};

use protocol::message::{Answer, Message, Request};
use wincode::{SchemaRead, SchemaWrite, config::Configuration};

use crate::samples::{SERIAL, answers, csr, octets, requests};

pub(crate) fn golden_directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "v1"].iter().collect()
}

/// The bytes in a golden file: hexadecimal, with a comment per field after `#`.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = golden_directory().join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn assert_golden<M: Message + PartialEq + Debug>(name: &str, message: &M) {
    let bytes = golden(name);
    assert_eq!(message.to_bytes().unwrap(), bytes, "{name}");
    assert_eq!(&M::from_bytes(&bytes).unwrap(), message, "{name}");
    assert_eq!(bytes[0], message.kind(), "{name}: the kind is the first byte");
    for cut in 0..bytes.len() {
        assert!(M::from_bytes(&bytes[..cut]).is_err(), "{name} cut at {cut}");
    }
}

#[test]
fn every_message_has_its_golden_bytes() {
    for (name, request) in requests() {
        assert_golden(&format!("request-{name}"), &request);
    }
    for (name, answer) in answers() {
        assert_golden(&format!("answer-{name}"), &answer);
    }
}

#[test]
fn every_kind_of_message_has_one_golden_file() {
    let kinds = |kinds: Vec<u8>| kinds.into_iter().collect::<BTreeSet<_>>();
    let of_requests = kinds(requests().iter().map(|(_, m)| m.kind()).collect());
    let of_answers = kinds(answers().iter().map(|(_, m)| m.kind()).collect());
    assert!(of_requests.iter().copied().eq(0..requests().len() as u8));
    assert!(of_answers.iter().copied().eq(0..answers().len() as u8));
    // The next number is no message.
    assert!(Request::from_bytes(&[requests().len() as u8]).is_err());
    assert!(Answer::from_bytes(&[answers().len() as u8]).is_err());
    let files = std::fs::read_dir(golden_directory()).unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        ["request-", "answer-"].iter().any(|kind| name.to_string_lossy().starts_with(kind))
    });
    let files = files.count();
    assert_eq!(files, requests().len() + answers().len());
}

/// Encodes and decodes `mirror`, the message's fields as plain tuples, with the other encoder.
fn assert_same_bytes<T, C>(name: &str, mirror: T, config: C)
where
    C: wincode::config::Config + Copy,
    T: SchemaWrite<C, Src = T> + for<'de> SchemaRead<'de, C, Dst = T> + PartialEq + Debug,
{
    let bytes = golden(name);
    assert_eq!(wincode::config::serialize(&mirror, config).unwrap(), bytes, "{name}");
    let back: T = wincode::config::deserialize_exact(&bytes, config).unwrap();
    assert_eq!(back, mirror, "{name}");
}

#[test]
fn another_encoder_gives_the_same_bytes() {
    let varint = Configuration::default().with_varint_encoding();
    let name = || String::from("issuing");
    let text = |text: &str| String::from(text);
    let (id, other_id) = (octets::<16>(0x10), octets::<16>(0x20));
    let (digest, packed) = (octets::<32>(0), octets::<32>(0x80));

    let time_hint = (0u32, 1_795_305_600_000_000i64, Some(81_234u32), true);
    assert_same_bytes("request-time-hint", time_hint, varint);
    assert_same_bytes("request-status", 1u32, varint);
    let catalogue = (2u32, Some(digest), vec![(name(), 1u64 << 63 | 4711)]);
    assert_same_bytes("request-catalogue", catalogue, varint);
    let subject = vec![(4u32, text("CAcert Inc.")), (0u32, text("höst.example.org"))];
    // A list of enums as its length and its items, each a tuple of its own.
    let names = (
        6u64,
        (0u32, text("host.example.org")),
        (1u32, [192u8, 0, 2, 1]),
        (2u32, [0x20u8, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (3u32, text("ana@example.org")),
        (4u32, text("https://example.org/")),
        (5u32, text("ana@example.org")),
    );
    let issue = (name(), text("server"), Some(90u32), Some(subject), Some(names), (1u32, csr()));
    assert_same_bytes("request-issue", (3u32, id, issue), varint);
    let user_ids =
        (2u64, (0u32, text("Ana <ana@example.org>")), (1u32, text("Ana"), text("a@example.net")));
    let certify = (
        text("people"),
        Some(text("checked")),
        user_ids,
        None::<u32>,
        true,
        vec![0x99u8, 1, 13, 4],
    );
    assert_same_bytes("request-certify", (4u32, id, certify), varint);
    let fingerprint = text("0123456789ABCDEF0123456789ABCDEF01234567");
    let take_back = (fingerprint, Some(text("Ana <ana@example.org>")), 1u32);
    assert_same_bytes("request-revoke-openpgp", (9u32, id, text("people"), take_back), varint);
    assert_same_bytes("request-revoke", (5u32, id, name(), SERIAL.to_vec(), 1u32), varint);
    let fetch = (6u32, name(), (2u32, 7u16), Some(digest), Some((packed, 32_768u64)));
    assert_same_bytes("request-fetch-crl", fetch, varint);
    assert_same_bytes("request-acknowledge", (7u32, vec![id, other_id]), varint);

    assert_same_bytes("request-fetch-log", (8u32, 4711u64, Some(digest), 250u64), varint);

    assert_same_bytes("answer-time-hint-taken", (0u32, -86_400_000_000i64), varint);
    let warnings = vec![text("the clock differs by 41 s")];
    let status = (1u32, text("0.1.0"), 86_400u64, 350_000u64, 2u64, warnings);
    assert_same_bytes("answer-status", status, varint);
    let profile = (text("server"), false, 90u32, 199u32, vec![text("dns"), text("ip")], true);
    let authority =
        (name(), vec![0x30u8, 3, 1, 2, 3], vec![vec![0x30u8, 1, 9]], vec![profile], true, 16u16);
    let kinds = vec![text("rsa"), text("ed25519")];
    let says = (Some(text("https://ca.example/p")), Some(text("serial@ca.example")));
    let policy = (text("checked"), 1u32, 365u32, 731u32, kinds, (2048u16, true, 50u16, says));
    let openpgp = (text("people"), vec![0xc6u8, 0x33], (1u64, policy));
    let catalogue = (3u32, vec![authority], (1u64, openpgp));
    assert_same_bytes("answer-catalogue", catalogue, varint);
    assert_same_bytes("answer-issued", (4u32, id, vec![0x30u8, 0x82, 4, 0xf3]), varint);
    assert_same_bytes("answer-certified", (5u32, id, vec![0x99u8, 2]), varint);
    let taken_back = (15u32, id, 1_795_305_600i64, vec![0x99u8, 2]);
    assert_same_bytes("answer-certification-revoked", taken_back, varint);
    assert_same_bytes("answer-revoked", (6u32, id, 1_795_305_600i64), varint);
    let refused = (7u32, id, 12u32, text("the profile allows 199 days"));
    assert_same_bytes("answer-refused", refused, varint);
    let quarantined = (8u32, id, text("the intake stopped after 5 s"));
    assert_same_bytes("answer-quarantined", quarantined, varint);
    assert_same_bytes("answer-held", (9u32, id, 251u64), varint);
    let piece =
        (name(), 1u32, 65_536u64, digest, 5_093_855u64, packed, 16_167u64, 250u64, vec![1u8, 2, 3]);
    assert_same_bytes("answer-crl-piece", (11u32, piece), varint);
    let log_piece = (13u32, 4712u64, 250u64, b"\"n\":4712}\n".to_vec(), 65_536u64, packed);
    assert_same_bytes("answer-log-piece", log_piece, varint);
    assert_same_bytes("answer-log-differs", (14u32, 251u64, digest), varint);
    assert_same_bytes("answer-crl-unknown", (12u32, name(), 0u32), varint);
}

#[test]
fn a_length_of_any_size_neither_panics_nor_allocates() {
    // The CSR's length stands in front of its bytes; every claim but the right one is refused.
    let bytes = golden("request-issue");
    let at = bytes.len() - csr().len() - 3;
    for claim in [0, 1, 255, 257, 65_535, 65_537, 1 << 24, u64::from(u32::MAX), u64::MAX] {
        let mut lying = bytes[..at].to_vec();
        lying.push(253);
        lying.extend_from_slice(&claim.to_le_bytes());
        lying.extend_from_slice(&csr());
        assert!(Request::from_bytes(&lying).is_err(), "claim {claim}");
    }
}
