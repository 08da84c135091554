//! SPKACs made by the openssl command, and SPKACs built byte by byte to be wrong in one place.

use std::process::Command;

use openssl::{
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    sign::Signer,
};
use proptest::prelude::*;

use super::*;
use crate::intake::{
    crafting::{P256, RSA, ec, oid, tlv},
    csr::KeyKind,
};

const SHA256_RSA: &str = "1.2.840.113549.1.1.11";
const SHA256_ECDSA: &str = "1.2.840.10045.4.3.2";

struct Draft {
    key: PKey<Private>,
    challenge: Vec<u8>,
    algorithm: Vec<u8>,
    digest: MessageDigest,
}

impl Draft {
    fn new() -> Self {
        Self {
            key: P256.clone(),
            challenge: tlv(tag::IA5_STRING, &[b"a challenge"]),
            algorithm: tlv(tag::SEQUENCE, &[&oid(SHA256_ECDSA)]),
            digest: MessageDigest::sha256(),
        }
    }

    fn challenge(text: &[u8]) -> Self {
        Self { challenge: tlv(tag::IA5_STRING, &[text]), ..Self::new() }
    }

    fn rsa(algorithm: &str, digest: MessageDigest) -> Self {
        let algorithm = tlv(tag::SEQUENCE, &[&oid(algorithm), &[tag::NULL, 0]]);
        Self { key: RSA.clone(), algorithm, digest, ..Self::new() }
    }

    fn signed(&self) -> Vec<u8> {
        let spki = self.key.public_key_to_der().unwrap();
        tlv(tag::SEQUENCE, &[&spki, &self.challenge])
    }

    fn sign(&self) -> Vec<u8> {
        let signed = self.signed();
        let mut signer = Signer::new(self.digest, &self.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(&signed).unwrap();
        tlv(tag::SEQUENCE, &[&signed, &self.algorithm, &tlv(tag::BIT_STRING, &[&[0], &signature])])
    }

    fn refused(&self, code: RefusalCode) -> String {
        let refusal = vet(&self.sign()).unwrap_err();
        assert_eq!(refusal.code, code, "{refusal}");
        refusal.text
    }
}

/// What `openssl spkac` writes, without its `SPKAC=` and base64.
fn by_openssl(key: &PKey<Private>, arguments: &[&str]) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("key.pem");
    std::fs::write(&path, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let output =
        Command::new("openssl").arg("spkac").arg("-key").arg(&path).args(arguments).output();
    let output = output.expect("openssl is installed by the test command");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.trim_end().strip_prefix("SPKAC=").unwrap();
    openssl::base64::decode_block(text).unwrap()
}

//------------ What is accepted ----------------------------------------------

#[test]
fn spkacs_made_by_openssl_arrive_for_every_kind_of_key_and_hold_no_name() {
    for (key, kind) in [
        (RSA.clone(), KeyKind::Rsa { bits: 2048 }),
        (P256.clone(), KeyKind::EcP256),
        (ec(Nid::SECP384R1), KeyKind::EcP384),
        (ec(Nid::SECP521R1), KeyKind::EcP521),
    ] {
        for digest in ["sha256", "sha384", "sha512"] {
            let spkac = by_openssl(&key, &["-digest", digest, "-challenge", "Hello, you!"]);
            let vetted = vet(&spkac).unwrap();
            assert_eq!(vetted.key_kind(), kind);
            assert_eq!(vetted.public_key(), key.public_key_to_der().unwrap());
            assert!(vetted.subject().is_empty() && vetted.names().is_empty());
            assert!(vetted.asked_extensions().is_empty());
        }
    }
}

#[test]
fn spkac_built_here_is_what_openssl_builds_but_for_the_signature() {
    let ours = Draft::rsa(SHA256_RSA, MessageDigest::sha256()).sign();
    let theirs = by_openssl(&RSA, &["-digest", "sha256", "-challenge", "a challenge"]);
    assert_eq!(ours, theirs, "RSA with PKCS #1 padding has one signature only");
}

//------------ spkac-size, spkac-der -----------------------------------------

#[test]
fn spkac_size_is_checked_before_anything_is_parsed() {
    let refusal = vet(&vec![0x30; CSR_MAX + 1]).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::CsrMalformed);
    assert!(refusal.text.contains("65537 bytes"), "{refusal}");
    // Of the very size it is read, and found to be no DER.
    let refusal = vet(&vec![0x30; CSR_MAX]).unwrap_err();
    assert!(!refusal.text.contains("bytes, at most"), "{refusal}");
}

#[test]
fn spkac_der_refuses_text_trailing_bytes_two_of_them_and_junk() {
    let spkac = Draft::new().sign();
    let trailing = [&spkac[..], &[0]].concat();
    let twice = [&spkac[..], &spkac[..]].concat();
    for bytes in [&b"SPKAC=MIICXjCC"[..], &trailing, &twice, b"junk", &[], &[0x30, 0x80, 0, 0]] {
        assert_eq!(vet(bytes).unwrap_err().code, RefusalCode::CsrMalformed);
    }
    assert!(vet(b"SPKAC=MIICXjCC").unwrap_err().text.contains("text"));
}

#[test]
fn spkac_der_refuses_a_field_too_many_in_each_structure() {
    let draft = Draft::new();
    let spki = draft.key.public_key_to_der().unwrap();
    let null: &[u8] = &[tag::NULL, 0];
    let sign = |signed: Vec<u8>, after: &[u8]| {
        let mut signer = Signer::new(draft.digest, &draft.key).unwrap();
        let signature =
            tlv(tag::BIT_STRING, &[&[0], &signer.sign_oneshot_to_vec(&signed).unwrap()]);
        tlv(tag::SEQUENCE, &[&signed, &draft.algorithm, &signature, after])
    };
    assert!(vet(&sign(draft.signed(), &[])).is_ok());
    let longer = tlv(tag::SEQUENCE, &[&spki, &draft.challenge, null]);
    for spkac in [sign(draft.signed(), null), sign(longer, &[])] {
        let refusal = vet(&spkac).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::CsrMalformed);
        assert!(refusal.text.contains("2 bytes that do not belong"), "{refusal}");
    }
}

#[test]
fn spkac_der_refuses_a_cut_at_every_offset() {
    for spkac in [
        by_openssl(&P256, &["-digest", "sha256"]),
        by_openssl(&RSA, &["-digest", "sha256", "-challenge", "x"]),
    ] {
        for cut in 0..spkac.len() {
            let refusal = vet(&spkac[..cut]).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::CsrMalformed, "cut {cut}: {refusal}");
        }
    }
}

#[test]
fn a_flip_of_any_bit_of_an_spkac_is_refused() {
    for spkac in [
        by_openssl(&P256, &["-digest", "sha256", "-challenge", "x"]),
        by_openssl(&RSA, &["-digest", "sha256"]),
    ] {
        assert!(vet(&spkac).is_ok());
        for bit in 0..spkac.len() * 8 {
            let mut flipped = spkac.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(vet(&flipped).is_err(), "bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn a_changed_spkac_is_refused_and_never_panics(
        at in 0_usize..400,
        cut in 0_usize..8,
        put in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let spkac = Draft::new().sign();
        let at = at % spkac.len();
        let mut changed = spkac.clone();
        changed.splice(at..(at + cut).min(spkac.len()), put);
        prop_assert!(changed == spkac || vet(&changed).is_err());
    }

    #[test]
    fn any_bytes_are_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(vet(&bytes).is_err());
    }
}

//------------ spkac-challenge -----------------------------------------------

#[test]
fn spkac_challenge_is_bounded_printable_ascii_and_may_be_empty() {
    for good in [&b""[..], b" ", b"~", b"Hello, you! 'q'", &[b'x'; 256]] {
        assert!(vet(&Draft::challenge(good).sign()).is_ok(), "{good:?}");
    }
    for bad in [&[b'x'; 257][..], b"\0", b"a\nb", b"\x7f", b"\x1f", "ü".as_bytes()] {
        let text = Draft::challenge(bad).refused(RefusalCode::CsrMalformed);
        assert!(text.contains("challenge"), "{text}");
    }
}

#[test]
fn spkac_challenge_is_an_ia5_string_and_must_be_there() {
    for challenge in [tlv(tag::UTF8_STRING, &[b"x"]), tlv(tag::OCTET_STRING, &[b"x"]), Vec::new()] {
        Draft { challenge, ..Draft::new() }.refused(RefusalCode::CsrMalformed);
    }
}

//------------ csr-possession, csr-digest, key controls -----------------------

#[test]
fn spkac_possession_refuses_a_signature_by_another_key() {
    let mine = Draft::new();
    let other = Draft { key: ec(Nid::X9_62_PRIME256V1), ..Draft::new() };
    let signature = Signer::new(other.digest, &other.key).unwrap();
    let signature = { signature }.sign_oneshot_to_vec(&mine.signed()).unwrap();
    let signature = tlv(tag::BIT_STRING, &[&[0], &signature]);
    let spkac = tlv(tag::SEQUENCE, &[&mine.signed(), &mine.algorithm, &signature]);
    assert_eq!(vet(&spkac).unwrap_err().code, RefusalCode::CsrSignature);
}

#[test]
fn spkac_digest_takes_sha2_and_refuses_the_md5_that_openssl_writes_unasked() {
    assert!(vet(&Draft::rsa(SHA256_RSA, MessageDigest::sha256()).sign()).is_ok());
    for (algorithm, digest, name) in [
        ("1.2.840.113549.1.1.4", MessageDigest::md5(), "MD5"),
        ("1.2.840.113549.1.1.5", MessageDigest::sha1(), "SHA-1"),
    ] {
        let text = Draft::rsa(algorithm, digest).refused(RefusalCode::CsrDigest);
        assert!(text.contains(name), "{text}");
    }
    let refusal = vet(&by_openssl(&RSA, &[])).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::CsrDigest, "{refusal}");
}

#[test]
fn spkac_of_a_weak_key_is_refused_whatever_it_signed() {
    let key = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    let draft = Draft { key, ..Draft::rsa(SHA256_RSA, MessageDigest::sha256()) };
    draft.refused(RefusalCode::KeyWeak);
}
