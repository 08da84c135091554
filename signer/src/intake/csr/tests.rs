//! Requests made by OpenSSL, and requests built byte by byte to be wrong in one place.

use openssl::{
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::{Padding, Rsa},
    sign::{RsaPssSaltlen, Signer},
    stack::Stack,
    x509::{X509NameBuilder, X509Req, X509ReqBuilder, extension::SubjectAlternativeName},
};

use super::*;
use crate::intake::crafting::{P256, RSA, ec, oid, tlv};

//------------ Building requests ---------------------------------------------

fn attribute(kind: &str, string_type: u8, value: &[u8]) -> Vec<u8> {
    tlv(tag::SEQUENCE, &[&oid(kind), &tlv(string_type, &[value])])
}

fn rdn(kind: &str, string_type: u8, value: &[u8]) -> Vec<u8> {
    tlv(tag::SET, &[&attribute(kind, string_type, value)])
}

fn extension(kind: &str, value: &[u8]) -> Vec<u8> {
    tlv(tag::SEQUENCE, &[&oid(kind), &tlv(tag::OCTET_STRING, &[value])])
}

fn extension_request(kind: &str, extensions: &[Vec<u8>]) -> Vec<u8> {
    let list = tlv(tag::SEQUENCE, &[&extensions.concat()]);
    tlv(tag::SEQUENCE, &[&oid(kind), &tlv(tag::SET, &[&list])])
}

/// A request in the making, right in every place until a test changes one.
struct Draft {
    version: Vec<u8>,
    subject: Vec<u8>,
    attributes: Vec<Vec<u8>>,
    algorithm: Vec<u8>,
    digest: MessageDigest,
    pss_salt: Option<i32>,
    key: PKey<Private>,
}

impl Draft {
    fn new() -> Self {
        Self {
            version: vec![tag::INTEGER, 1, 0],
            subject: rdn("2.5.4.3", tag::UTF8_STRING, b"www.example.org"),
            attributes: Vec::new(),
            algorithm: tlv(tag::SEQUENCE, &[&oid("1.2.840.10045.4.3.2")]),
            digest: MessageDigest::sha256(),
            pss_salt: None,
            key: P256.clone(),
        }
    }

    fn rsa(algorithm: &str, digest: MessageDigest) -> Self {
        let null: &[u8] = &[tag::NULL, 0];
        let algorithm = tlv(tag::SEQUENCE, &[&oid(algorithm), null]);
        Self { algorithm, digest, key: RSA.clone(), ..Self::new() }
    }

    fn subject(rdns: &[Vec<u8>]) -> Self {
        Self { subject: rdns.concat(), ..Self::new() }
    }

    fn extensions(extensions: &[Vec<u8>]) -> Self {
        let attributes = vec![extension_request(EXTENSION_REQUESTS[0], extensions)];
        Self { attributes, ..Self::new() }
    }

    fn names(names: &[Vec<u8>]) -> Self {
        Self::extensions(&[extension(SUBJECT_ALT_NAME, &tlv(tag::SEQUENCE, &[&names.concat()]))])
    }

    fn sign(&self) -> Vec<u8> {
        let info = tlv(
            tag::SEQUENCE,
            &[
                &self.version,
                &tlv(tag::SEQUENCE, &[&self.subject]),
                &self.key.public_key_to_der().unwrap(),
                &tlv(tag::constructed(0), &[&self.attributes.concat()]),
            ],
        );
        let mut signer = Signer::new(self.digest, &self.key).unwrap();
        if let Some(salt) = self.pss_salt {
            signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            signer.set_rsa_mgf1_md(self.digest).unwrap();
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt)).unwrap();
        }
        let signature = signer.sign_oneshot_to_vec(&info).unwrap();
        let signature = tlv(tag::BIT_STRING, &[&[0], &signature]);
        tlv(tag::SEQUENCE, &[&info, &self.algorithm, &signature])
    }

    fn accepted(&self) -> VettedCsr {
        vet(&self.sign()).unwrap()
    }

    fn refused(&self, code: RefusalCode) -> String {
        let refusal = vet(&self.sign()).unwrap_err();
        assert_eq!(refusal.code, code, "{refusal}");
        refusal.text
    }
}

/// As a user's own OpenSSL makes it.
fn by_openssl(key: &PKey<Private>, digest: MessageDigest) -> Vec<u8> {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("C", "CH").unwrap();
    name.append_entry_by_text("O", "Zürcher Käserei").unwrap();
    name.append_entry_by_text("CN", "www.example.org").unwrap();
    let mut builder = X509ReqBuilder::new().unwrap();
    builder.set_version(0).unwrap();
    builder.set_subject_name(&name.build()).unwrap();
    builder.set_pubkey(key).unwrap();
    let mut extensions = Stack::new().unwrap();
    let names = SubjectAlternativeName::new()
        .dns("www.example.org")
        .email("hostmaster@example.org")
        .ip("192.0.2.7")
        .ip("2001:db8::7")
        .uri("https://example.org/")
        .build(&builder.x509v3_context(None))
        .unwrap();
    extensions.push(names).unwrap();
    builder.add_extensions(&extensions).unwrap();
    builder.sign(key, digest).unwrap();
    builder.build().to_der().unwrap()
}

//------------ What is accepted ----------------------------------------------

#[test]
fn requests_made_by_openssl_arrive_whole_for_every_kind_of_key() {
    for (key, digest, kind) in [
        (RSA.clone(), MessageDigest::sha256(), KeyKind::Rsa { bits: 2048 }),
        (RSA.clone(), MessageDigest::sha512(), KeyKind::Rsa { bits: 2048 }),
        (P256.clone(), MessageDigest::sha256(), KeyKind::EcP256),
        (ec(Nid::SECP384R1), MessageDigest::sha384(), KeyKind::EcP384),
        (ec(Nid::SECP521R1), MessageDigest::sha512(), KeyKind::EcP521),
        (PKey::generate_ed25519().unwrap(), MessageDigest::null(), KeyKind::Ed25519),
    ] {
        let vetted = vet(&by_openssl(&key, digest)).unwrap();
        assert_eq!(vetted.key_kind(), kind);
        assert_eq!(vetted.public_key(), key.public_key_to_der().unwrap());
        let subject: Vec<_> =
            vetted.subject().iter().map(|a| (a.kind.short_name(), &*a.value)).collect();
        assert_eq!(subject, [("C", "CH"), ("O", "Zürcher Käserei"), ("CN", "www.example.org")]);
        let names: Vec<_> = vetted.names().iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "dns:www.example.org",
                "email:hostmaster@example.org",
                "ip:192.0.2.7",
                "ip:2001:db8::7",
                "uri:https://example.org/",
            ]
        );
        assert_eq!(vetted.asked_extensions().len(), 1);
    }
}

#[test]
fn vetted_request_crosses_the_socket_unchanged() {
    let vetted = vet(&by_openssl(&RSA, MessageDigest::sha256())).unwrap();
    let bytes = protocol::codec::encode(&vetted).unwrap();
    assert_eq!(protocol::codec::decode::<VettedCsr, 65536>(&bytes).unwrap(), vetted);
}

#[test]
fn what_we_accept_openssl_accepts_with_the_same_key() {
    for draft in [Draft::new(), Draft::rsa("1.2.840.113549.1.1.11", MessageDigest::sha256())] {
        let csr = draft.sign();
        let vetted = vet(&csr).unwrap();
        let request = X509Req::from_der(&csr).unwrap();
        let key = request.public_key().unwrap();
        assert!(request.verify(&key).unwrap());
        assert_eq!(key.public_key_to_der().unwrap(), vetted.public_key());
    }
}

//------------ csr-size, csr-der, csr-version --------------------------------

#[test]
fn csr_der_refuses_a_cut_at_every_offset() {
    for csr in
        [by_openssl(&P256, MessageDigest::sha256()), by_openssl(&RSA, MessageDigest::sha256())]
    {
        for cut in 0..csr.len() {
            let refusal = vet(&csr[..cut]).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::CsrMalformed, "cut {cut}: {refusal}");
        }
    }
}

#[test]
fn a_flip_of_any_bit_is_refused() {
    for csr in
        [by_openssl(&P256, MessageDigest::sha256()), by_openssl(&RSA, MessageDigest::sha256())]
    {
        for bit in 0..csr.len() * 8 {
            let mut flipped = csr.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(vet(&flipped).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn csr_der_refuses_pem_trailing_bytes_two_requests_and_junk() {
    let csr = Draft::new().sign();
    let pem = X509Req::from_der(&csr).unwrap().to_pem().unwrap();
    let trailing = [&csr[..], &[0]].concat();
    let twice = [&csr[..], &csr[..]].concat();
    let junk = b"this is no request at all";
    for bytes in [&pem[..], &trailing, &twice, junk, &[], &[0x30, 0x80, 0, 0]] {
        assert_eq!(vet(bytes).unwrap_err().code, RefusalCode::CsrMalformed);
    }
    assert!(vet(&pem).unwrap_err().text.contains("PEM"));
}

#[test]
fn csr_size_is_checked_before_anything_is_parsed() {
    let refusal = vet(&vec![0x30; CSR_MAX + 1]).unwrap_err();
    assert!(refusal.text.contains("65537 bytes"), "{refusal}");
    // Of the very size it is read, and found to be no DER.
    let refusal = vet(&vec![0x30; CSR_MAX]).unwrap_err();
    assert!(!refusal.text.contains("at most"), "{refusal}");
}

#[test]
fn csr_version_takes_version_1_only() {
    for version in [&[tag::INTEGER, 1, 1][..], &[tag::INTEGER, 1, 2], &[tag::INTEGER, 2, 0, 0]] {
        let draft = Draft { version: version.to_vec(), ..Draft::new() };
        draft.refused(RefusalCode::CsrMalformed);
    }
}

//------------ csr-possession, csr-digest ------------------------------------

#[test]
fn csr_possession_refuses_a_signature_by_another_key_or_over_other_bytes() {
    let csr = Draft::new().sign();
    let other = Draft { key: ec(Nid::X9_62_PRIME256V1), ..Draft::new() }.sign();
    // The last bytes of both are the signature; 64 bytes before the end lie well within it.
    let at = csr.len() - 64;
    let spliced = [&csr[..at], &other[other.len() - 64..]].concat();
    assert_eq!(vet(&spliced).unwrap_err().code, RefusalCode::CsrSignature);

    let mut renamed = csr.clone();
    let name = renamed.windows(3).position(|window| window == b"www").unwrap();
    renamed[name] = b'x';
    assert_eq!(vet(&renamed).unwrap_err().code, RefusalCode::CsrSignature);
}

#[test]
fn csr_possession_refuses_a_signature_algorithm_of_another_kind_of_key() {
    let null: &[u8] = &[tag::NULL, 0];
    let rsa = tlv(tag::SEQUENCE, &[&oid("1.2.840.113549.1.1.11"), null]);
    let edwards = tlv(tag::SEQUENCE, &[&oid("1.3.101.112")]);
    for algorithm in [rsa, edwards] {
        let text = Draft { algorithm, ..Draft::new() }.refused(RefusalCode::CsrSignature);
        assert!(text.contains("does not belong to the request's key (ec:P-256)"), "{text}");
    }
}

#[test]
fn csr_digest_takes_sha2_and_refuses_older_ones_by_name() {
    for (algorithm, digest) in [
        ("1.2.840.113549.1.1.11", MessageDigest::sha256()),
        ("1.2.840.113549.1.1.12", MessageDigest::sha384()),
        ("1.2.840.113549.1.1.13", MessageDigest::sha512()),
    ] {
        Draft::rsa(algorithm, digest).accepted();
    }
    for (algorithm, digest, name) in [
        ("1.2.840.113549.1.1.4", MessageDigest::md5(), "MD5"),
        ("1.2.840.113549.1.1.5", MessageDigest::sha1(), "SHA-1"),
        ("1.2.840.113549.1.1.14", MessageDigest::sha224(), "SHA-224"),
        // Refused by their names before anything is verified.
        ("1.2.840.113549.1.1.2", MessageDigest::sha256(), "MD2"),
        ("1.2.840.113549.1.1.3", MessageDigest::sha256(), "MD4"),
        ("2.16.840.1.101.3.4.3.14", MessageDigest::sha3_256(), "2.16.840.1.101.3.4.3.14"),
    ] {
        let text = Draft::rsa(algorithm, digest).refused(RefusalCode::CsrDigest);
        assert!(text.contains(name), "{text}");
    }
    for (algorithm, digest) in [
        ("1.2.840.10045.4.1", MessageDigest::sha1()),
        ("1.2.840.10045.4.3.1", MessageDigest::sha224()),
    ] {
        let algorithm = tlv(tag::SEQUENCE, &[&oid(algorithm)]);
        Draft { algorithm, digest, ..Draft::new() }.refused(RefusalCode::CsrDigest);
    }
}

#[test]
fn csr_digest_refuses_parameters_that_do_not_belong_to_the_algorithm() {
    let parameters = tlv(tag::SEQUENCE, &[]);
    for (key, kind) in [(&RSA, "1.2.840.113549.1.1.11"), (&P256, "1.2.840.10045.4.3.2")] {
        let algorithm = tlv(tag::SEQUENCE, &[&oid(kind), &parameters]);
        let draft = Draft { algorithm, key: (*key).clone(), ..Draft::new() };
        draft.refused(RefusalCode::CsrMalformed);
    }
    let algorithm = tlv(tag::SEQUENCE, &[&oid("1.2.840.113549.1.1.11")]);
    Draft { algorithm, key: RSA.clone(), ..Draft::new() }.accepted();
    let full: &[u8] = &[tag::NULL, 1, 0];
    let algorithm = tlv(tag::SEQUENCE, &[&oid("1.2.840.113549.1.1.11"), full]);
    let draft = Draft { algorithm, key: RSA.clone(), ..Draft::new() };
    assert!(draft.refused(RefusalCode::CsrMalformed).contains("NULL has content"));
}

fn pss(fields: &[Vec<u8>], salt: i32) -> Draft {
    let parameters = tlv(tag::SEQUENCE, &[&fields.concat()]);
    let algorithm = tlv(tag::SEQUENCE, &[&oid("1.2.840.113549.1.1.10"), &parameters]);
    Draft { algorithm, pss_salt: Some(salt), key: RSA.clone(), ..Draft::new() }
}

#[test]
fn csr_digest_takes_pss_with_sha2_throughout_and_nothing_else() {
    let hash = |kind: &str| tlv(tag::SEQUENCE, &[&oid(kind), &[tag::NULL, 0]]);
    let digest = |kind: &str| tlv(tag::constructed(0), &[&hash(kind)]);
    let mask = |kind: &str| {
        let mgf1 = tlv(tag::SEQUENCE, &[&oid("1.2.840.113549.1.1.8"), &hash(kind)]);
        tlv(tag::constructed(1), &[&mgf1])
    };
    let salt = |octets: u8| tlv(tag::constructed(2), &[&[tag::INTEGER, 1, octets]]);
    const SHA1: &str = "1.3.14.3.2.26";
    const SHA256: &str = "2.16.840.1.101.3.4.2.1";
    const SHA512: &str = "2.16.840.1.101.3.4.2.3";

    for octets in [32, 20, 0] {
        pss(&[digest(SHA256), mask(SHA256), salt(octets)], octets.into()).accepted();
    }
    // The longest salt that fits, which is the openssl command's default.
    let longest = tlv(tag::constructed(2), &[&[tag::INTEGER, 2, 0, 222]]);
    pss(&[digest(SHA256), mask(SHA256), longest], 222).accepted();
    // The salt that was signed is not the salt that is claimed.
    pss(&[digest(SHA256), mask(SHA256), salt(20)], 32).refused(RefusalCode::CsrSignature);
    for fields in [
        vec![],
        vec![digest(SHA256), salt(32)],
        vec![digest(SHA1), mask(SHA1), salt(20)],
        vec![digest(SHA256), mask(SHA1), salt(32)],
        vec![digest(SHA256), mask(SHA512), salt(32)],
    ] {
        pss(&fields, 32).refused(RefusalCode::CsrDigest);
    }
    // As long as the largest modulus it is a salt, though no signature has it; longer it is none.
    let long = |octets: u16| {
        let [high, low] = octets.to_be_bytes();
        tlv(tag::constructed(2), &[&[tag::INTEGER, 2, high, low]])
    };
    pss(&[digest(SHA256), mask(SHA256), long(2048)], 32).refused(RefusalCode::CsrSignature);
    pss(&[digest(SHA256), mask(SHA256), long(2049)], 32).refused(RefusalCode::CsrMalformed);
    let trailer = tlv(tag::constructed(3), &[&[tag::INTEGER, 1, 1]]);
    for fields in
        [vec![digest(SHA256), mask(SHA256)], vec![digest(SHA256), mask(SHA256), salt(32), trailer]]
    {
        pss(&fields, 32).refused(RefusalCode::CsrMalformed);
    }
}

#[test]
fn weak_key_is_refused_whatever_it_signed() {
    let key = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    let draft = Draft { key, ..Draft::rsa("1.2.840.113549.1.1.11", MessageDigest::sha256()) };
    draft.refused(RefusalCode::KeyWeak);
}

//------------ subject-attributes --------------------------------------------

#[test]
fn subject_attributes_keep_order_and_may_be_none() {
    let draft = Draft::subject(&[
        rdn("0.9.2342.19200300.100.1.25", tag::IA5_STRING, b"org"),
        rdn("0.9.2342.19200300.100.1.25", tag::IA5_STRING, b"example"),
        rdn("2.5.4.11", tag::UTF8_STRING, "Küche".as_bytes()),
        rdn("2.5.4.11", tag::T61_STRING, b"Keller \xfc"),
        rdn("2.5.4.3", tag::BMP_STRING, &[0x6a, 0x4b, 0, b'1']),
    ]);
    let vetted = draft.accepted();
    let values: Vec<_> = vetted.subject().iter().map(|a| &*a.value).collect();
    assert_eq!(values, ["org", "example", "Küche", "Keller ü", "橋1"]);
    assert!(Draft::subject(&[]).accepted().subject().is_empty());
}

#[test]
fn subject_attributes_refuse_unknown_types_by_their_oid() {
    let draft = Draft::subject(&[rdn("1.2.840.113549.1.9.2", tag::UTF8_STRING, b"x")]);
    assert!(draft.refused(RefusalCode::SubjectRule).contains("1.2.840.113549.1.9.2"));
}

#[test]
fn subject_attributes_refuse_several_in_one_rdn() {
    let first = attribute("2.5.4.3", tag::UTF8_STRING, b"a");
    let second = attribute("2.5.4.11", tag::UTF8_STRING, b"b");
    let draft = Draft::subject(&[tlv(tag::SET, &[&first, &second])]);
    assert!(draft.refused(RefusalCode::SubjectRule).contains("own RDN"));
    Draft::subject(&[tlv(tag::SET, &[])]).refused(RefusalCode::CsrMalformed);
}

#[test]
fn subject_attributes_refuse_a_second_common_name() {
    let name = |value: &[u8]| rdn("2.5.4.3", tag::UTF8_STRING, value);
    let draft = Draft::subject(&[name(b"a"), name(b"b")]);
    assert!(draft.refused(RefusalCode::SubjectRule).contains("CN is there twice"));
}

#[test]
fn subject_attributes_refuse_nul_empty_long_and_mistyped_values() {
    for (string_type, value) in [
        (tag::UTF8_STRING, &b"www.bank.org\0.evil.org"[..]),
        (tag::IA5_STRING, b"a\nb"),
        (tag::UTF8_STRING, "\u{202e}gro.knab".as_bytes()),
        (tag::UTF8_STRING, b""),
        (tag::UTF8_STRING, &[b'x'; 257]),
        (tag::UTF8_STRING, &[0xff]),
        (tag::OCTET_STRING, b"x"),
    ] {
        Draft::subject(&[rdn("2.5.4.3", string_type, value)]).refused(RefusalCode::SubjectRule);
    }
    Draft::subject(&[rdn("2.5.4.3", tag::UTF8_STRING, &[b'x'; 256])]).accepted();
}

#[test]
fn subject_attributes_are_at_most_32() {
    let unit = rdn("2.5.4.11", tag::UTF8_STRING, b"unit");
    Draft::subject(&vec![unit.clone(); 32]).accepted();
    Draft::subject(&vec![unit; 33]).refused(RefusalCode::SubjectRule);
}

//------------ csr-attributes, csr-extensions --------------------------------

fn other_attribute(kind: &str) -> Vec<u8> {
    let value = tlv(tag::PRINTABLE_STRING, &[b"10.0.20348.2"]);
    tlv(tag::SEQUENCE, &[&oid(kind), &tlv(tag::SET, &[&value])])
}

#[test]
fn csr_attributes_of_other_kinds_are_passed_over() {
    let attributes = vec![
        other_attribute("1.3.6.1.4.1.311.13.2.3"),
        other_attribute("1.2.840.113549.1.9.7"),
        extension_request(EXTENSION_REQUESTS[1], &[extension("2.5.29.15", &[3, 2, 5, 0xa0])]),
    ];
    let vetted = Draft { attributes, ..Draft::new() }.accepted();
    assert_eq!(&*vetted.asked_extensions()[0], "2.5.29.15");
}

#[test]
fn csr_attributes_refuse_doubles_and_malformed_ones() {
    let request = |oid: usize| extension_request(EXTENSION_REQUESTS[oid], &[]);
    let other = || other_attribute("1.2.840.113549.1.9.7");
    let no_value = tlv(tag::SEQUENCE, &[&oid("1.2.840.113549.1.9.7"), &tlv(tag::SET, &[])]);
    let others = |count| -> Vec<_> {
        (0..count).map(|n| other_attribute(&format!("1.2.840.{n}"))).collect()
    };
    Draft { attributes: others(16), ..Draft::new() }.accepted();
    let many = others(17);
    for attributes in [
        vec![other(), other()],
        vec![request(0), request(0)],
        vec![request(0), request(1)],
        vec![no_value],
        vec![vec![tag::NULL, 0]],
        many,
    ] {
        Draft { attributes, ..Draft::new() }.refused(RefusalCode::CsrMalformed);
    }
}

#[test]
fn request_without_the_attributes_field_is_accepted() {
    // What some Java programs send; the field is cut out and the rest signed anew.
    let draft = Draft::new();
    let key = &draft.key;
    let info = tlv(
        tag::SEQUENCE,
        &[
            &draft.version,
            &tlv(tag::SEQUENCE, &[&draft.subject]),
            &key.public_key_to_der().unwrap(),
        ],
    );
    let signature = Signer::new(draft.digest, key).unwrap().sign_oneshot_to_vec(&info).unwrap();
    let signature = tlv(tag::BIT_STRING, &[&[0], &signature]);
    assert!(vet(&tlv(tag::SEQUENCE, &[&info, &draft.algorithm, &signature])).is_ok());
}

#[test]
fn csr_extensions_refuse_doubles_non_der_and_too_many() {
    let usage = || extension("2.5.29.15", &[3, 2, 5, 0xa0]);
    let flagged = |flag: u8| {
        let value = tlv(tag::OCTET_STRING, &[&[3, 2, 5, 0xa0]]);
        tlv(tag::SEQUENCE, &[&oid("2.5.29.15"), &[tag::BOOLEAN, 1, flag], &value])
    };
    let many = |count| -> Vec<_> {
        (0..count).map(|n| extension(&format!("1.2.840.{n}"), &[tag::NULL, 0])).collect()
    };
    Draft::extensions(&[usage()]).accepted();
    Draft::extensions(&[flagged(0xff)]).accepted();
    assert_eq!(Draft::extensions(&many(32)).accepted().asked_extensions().len(), 32);
    for extensions in
        [vec![usage(), usage()], vec![flagged(0)], vec![flagged(1)], many(33), vec![vec![0x30, 0]]]
    {
        Draft::extensions(&extensions).refused(RefusalCode::CsrMalformed);
    }
}

#[test]
fn csr_not_a_ca_refuses_ca_true_also_in_microsofts_attribute() {
    let constraints =
        |content: &[u8]| extension(BASIC_CONSTRAINTS, &tlv(tag::SEQUENCE, &[content]));
    let ca = constraints(&[tag::BOOLEAN, 1, 0xff]);
    let ca_with_path = constraints(&[tag::BOOLEAN, 1, 0xff, tag::INTEGER, 1, 0]);
    for kind in EXTENSION_REQUESTS {
        for extension in [&ca, &ca_with_path] {
            let attributes = vec![extension_request(kind, std::slice::from_ref(extension))];
            Draft { attributes, ..Draft::new() }.refused(RefusalCode::CsrAsksCa);
        }
    }
    // BER's other ways to say true.
    Draft::extensions(&[constraints(&[tag::BOOLEAN, 1, 1])]).refused(RefusalCode::CsrMalformed);
    Draft::extensions(&[constraints(&[])]).accepted();
    Draft::extensions(&[constraints(&[tag::BOOLEAN, 1, 0])]).accepted();
}

//------------ csr-names -----------------------------------------------------

#[test]
fn csr_names_are_read_in_order() {
    let vetted = Draft::names(&[
        tlv(tag::primitive(2), &[b"*.Example.ORG"]),
        tlv(tag::primitive(1), &[b"a@example.org"]),
        tlv(tag::primitive(7), &[&[192, 0, 2, 1]]),
        tlv(tag::primitive(7), &[&[0; 16]]),
        tlv(tag::primitive(6), &[b"urn:example:1"]),
    ])
    .accepted();
    let names: Vec<_> = vetted.names().iter().map(ToString::to_string).collect();
    let expected =
        ["dns:*.example.org", "email:a@example.org", "ip:192.0.2.1", "ip:::", "uri:urn:example:1"];
    assert_eq!(names, expected);
}

fn other_name(kind: &str, value: &[u8]) -> Vec<u8> {
    tlv(tag::constructed(0), &[&oid(kind), &tlv(tag::constructed(0), &[value])])
}

const XMPP: &str = "1.3.6.1.5.5.7.8.5";

#[test]
fn csr_names_take_xmpp_addresses_as_the_one_other_name() {
    let address = tlv(tag::UTF8_STRING, &[b"juliet@im.example.com"]);
    let vetted = Draft::names(&[other_name(XMPP, &address)]).accepted();
    assert_eq!(vetted.names()[0].to_string(), "xmpp:juliet@im.example.com");

    let principal = tlv(tag::UTF8_STRING, &[b"u@example.com"]);
    let text = Draft::names(&[other_name("1.3.6.1.4.1.311.20.2.3", &principal)])
        .refused(RefusalCode::NameRule);
    assert!(text.contains("1.3.6.1.4.1.311.20.2.3"), "{text}");
    for value in ["julié@example.com".as_bytes(), b"", b"two words", b"a\0b", &[0xff]] {
        let value = tlv(tag::UTF8_STRING, &[value]);
        Draft::names(&[other_name(XMPP, &value)]).refused(RefusalCode::NameRule);
    }
    let ascii = tlv(tag::IA5_STRING, &[b"juliet@im.example.com"]);
    let twice = [&address[..], &address].concat();
    let after =
        tlv(tag::constructed(0), &[&oid(XMPP), &tlv(tag::constructed(0), &[&address]), &ascii]);
    let bare = tlv(tag::constructed(0), &[&oid(XMPP)]);
    for name in [other_name(XMPP, &ascii), other_name(XMPP, &twice), after, bare] {
        Draft::names(&[name]).refused(RefusalCode::CsrMalformed);
    }
}

#[test]
fn csr_names_of_other_types_are_refused_by_their_names() {
    let directory = tlv(tag::constructed(4), &[&tlv(tag::SEQUENCE, &[])]);
    for (name, word) in [
        (tlv(tag::constructed(3), &[]), "x400Address"),
        (directory, "directoryName"),
        (tlv(tag::constructed(5), &[]), "ediPartyName"),
        (tlv(tag::primitive(8), &[&[0x2a, 3]]), "registeredID"),
        (tlv(tag::primitive(9), &[]), "unknown type"),
    ] {
        let text = Draft::names(&[name]).refused(RefusalCode::NameRule);
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn csr_names_refuse_other_types_and_values_that_are_none() {
    let dns = |value: &[u8]| tlv(tag::primitive(2), &[value]);
    for names in [
        vec![tlv(tag::constructed(4), &[&tlv(tag::SEQUENCE, &[])])],
        vec![tlv(tag::primitive(8), &[&[0x2a, 3]])],
        vec![dns(b"www.bank.org\0.evil.org")],
        vec![dns(b"")],
        vec![dns(b"two words")],
        vec![dns("käse.example".as_bytes())],
        vec![dns(&[0xff])],
        vec![dns(&[b'x'; 254])],
        vec![tlv(tag::primitive(7), &[&[192, 0, 2]])],
        vec![tlv(tag::primitive(7), &[&[192, 0, 2, 0, 255, 255, 255, 0]])],
        vec![dns(b"example.org"), dns(b"EXAMPLE.org")],
        vec![],
        (0..129).map(|n| dns(format!("n{n}.example").as_bytes())).collect(),
    ] {
        Draft::names(&names).refused(RefusalCode::NameRule);
    }
    let many: Vec<_> = (0..128).map(|n| dns(format!("n{n}.example").as_bytes())).collect();
    assert_eq!(Draft::names(&many).accepted().names().len(), 128);
}
