//! Bundles of version 1: golden files that are read and written alike, and section 11 of `SPEC.md`:
//! its header's table cuts them into fields, and a reader that shares nothing with the code opens
//! what is sealed by its words alone.

use std::{fmt::Write as _, io::Cursor};

use openssl::{
    derive::Deriver,
    hash::{MessageDigest, hash},
    pkey::{Id, PKey},
    sha::sha256,
    sign::Signer,
    symm::{Cipher, decrypt_aead},
};
use protocol::{
    bundle::{Head, PIECE_LEN, Reader, Writer},
    message::{Answer, Message, Request},
    secure::{Entropy, Pairing, SecretKey},
    session::Side,
};

use crate::{
    golden::golden,
    samples::{answers, requests},
    spec::{spans, text_of},
};

/// As in section 12: every secret is one byte 32 times over.
const FRONTEND: [u8; 32] = [0x11; 32];
const SIGNER: [u8; 32] = [0x22; 32];

const REQUESTS: Head = Head { from: Side::Frontend, number: 0x0102, answers: 7 };
const ANSWERS: Head = Head { from: Side::Signer, number: 0x0304, answers: 0x0102 };

fn entropy(byte: u8) -> Entropy {
    Entropy::new(move |bytes: &mut [u8]| bytes.fill(byte))
}

fn pairing(side: Side) -> Pairing {
    let [frontend, signer] = [0x11, 0x22].map(|byte| SecretKey::generate(&entropy(byte)));
    match side {
        Side::Frontend => Pairing { secret: frontend, peer: signer.public() },
        Side::Signer => Pairing { secret: signer, peer: frontend.public() },
    }
}

/// What the golden file of these contents holds.
fn messages(from: Side) -> Vec<Vec<u8>> {
    let request = |kind: &str| -> Request {
        requests().into_iter().find(|(name, _)| *name == kind).unwrap().1
    };
    let answer =
        |kind: &str| -> Answer { answers().into_iter().find(|(name, _)| *name == kind).unwrap().1 };
    match from {
        Side::Frontend => {
            ["status", "revoke"].map(|kind| request(kind).to_bytes().unwrap()).to_vec()
        }
        Side::Signer => {
            ["catalogue-unchanged", "revoked"].map(|kind| answer(kind).to_bytes().unwrap()).to_vec()
        }
    }
}

fn write(head: &Head, ephemeral: u8, messages: &[Vec<u8>]) -> Vec<u8> {
    let file = Cursor::new(Vec::new());
    let mut writer = Writer::begin(file, head, &pairing(head.from), &entropy(ephemeral)).unwrap();
    messages.iter().for_each(|message| writer.add(message).unwrap());
    writer.finish().unwrap().0.into_inner()
}

const FILES: [(&str, Head, u8); 2] =
    [("bundle-requests", REQUESTS, 0x33), ("bundle-answers", ANSWERS, 0x44)];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x} ").unwrap();
        text
    })
}

#[test]
fn golden_bundles_are_read_and_written_alike() {
    for (name, head, ephemeral) in FILES {
        let bytes = golden(name);
        let written = write(&head, ephemeral, &messages(head.from));
        assert_eq!(hex(&written), hex(&bytes), "{name}");
        let reader_side = match head.from {
            Side::Frontend => Side::Signer,
            Side::Signer => Side::Frontend,
        };
        let mut reader =
            Reader::open(Cursor::new(&bytes), &pairing(reader_side), reader_side).unwrap();
        assert_eq!(reader.head(), head, "{name}");
        let mut read = Vec::new();
        while let Some(message) = reader.next_message().unwrap() {
            read.push(message);
        }
        assert_eq!(read, messages(head.from), "{name}");
    }
}

#[test]
fn the_header_of_a_golden_bundle_is_cut_by_the_specification_s_table() {
    let rows = spans("## 11 Bundles");
    assert!(text_of("SPEC.md").contains("Header, 74 bytes"));
    let keys = [public(&FRONTEND), public(&SIGNER)].concat();
    for (name, head, _) in FILES {
        let bytes = golden(name);
        let fields: [Vec<u8>; 8] = [
            b"ISBUNDLE".to_vec(),
            vec![1],
            vec![u8::from(head.from == Side::Signer) + 1],
            head.number.to_le_bytes().to_vec(),
            head.answers.to_le_bytes().to_vec(),
            sha256(&keys)[..8].to_vec(),
            (bytes.len() as u64).to_le_bytes().to_vec(),
            sha256(&bytes[74..]).to_vec(),
        ];
        let cut: Vec<_> = rows.iter().map(|(at, length)| &bytes[*at..at + length]).collect();
        assert_eq!(cut, fields, "{name}");
        assert_eq!(fields.concat(), bytes[..74], "{name}: nothing is between the fields");
    }
}

#[test]
fn golden_bundles_open_by_the_words_of_the_specification_alone() {
    for (name, head, _) in FILES {
        let contents = open_by_the_book(&golden(name), head.from);
        assert_eq!(contents.len(), 1, "{name}: one record holds it");
        assert_eq!(contents[0][0], 1, "{name}: it is the last one");
        assert_eq!(stream(&contents), messages(head.from), "{name}");
    }
}

#[test]
fn a_long_bundle_opens_by_the_words_of_the_specification_alone() {
    let long = vec![vec![7; 40_000], vec![], vec![8; 3]];
    let contents = open_by_the_book(&write(&REQUESTS, 0x33, &long), Side::Frontend);
    let (last, others) = contents.split_last().unwrap();
    assert!(others.len() >= 2 && others.iter().all(|content| content[0] == 0));
    assert_eq!(last[0], 1);
    assert!(contents.iter().all(|content| content.len() <= 16_384));
    assert_eq!(PIECE_LEN, 16_384);
    assert_eq!(stream(&contents), long);
}

//------------ A reader by the book ------------------------------------------

/// The contents of all records.
fn open_by_the_book(file: &[u8], from: Side) -> Vec<Vec<u8>> {
    let spec = text_of("SPEC.md");
    for words in [
        "`Noise_K_25519_ChaChaPoly_BLAKE2s`",
        "`isolated signer sealed file 1` and the first 34 bytes of the header",
        "A record is a length of 4 bytes and so many bytes of ciphertext, the nonces counting from 0",
    ] {
        assert!(spec.contains(words), "SPEC.md lacks: {words}");
    }
    let prologue = [&b"isolated signer sealed file 1"[..], &file[..34]].concat();
    let (writer, reader) = match from {
        Side::Frontend => (FRONTEND, SIGNER),
        Side::Signer => (SIGNER, FRONTEND),
    };
    let key = noise_k(&prologue, &public(&writer), &reader, &file[74..74 + 48]);
    let mut rest = &file[74 + 48..];
    let mut contents = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (sealed, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        contents.push(open(&key, contents.len() as u64, &[], sealed));
        rest = behind;
    }
    assert!(rest.is_empty());
    contents
}

/// The messages of the stream that the records carry.
fn stream(contents: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = contents.iter().flat_map(|content| content[1..].to_vec()).collect();
    let mut rest = &bytes[..];
    let mut messages = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (message, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        messages.push(message.to_vec());
        rest = behind;
    }
    assert!(rest.is_empty());
    messages
}

/// Noise, revision 34, pattern K: `-> s`, `<- s`, then `-> e, es, ss`. The key of what follows.
fn noise_k(prologue: &[u8], writer: &[u8; 32], reader: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // The name has 32 bytes, the length of a hash: it is the first hash as it is.
    let name = *b"Noise_K_25519_ChaChaPoly_BLAKE2s";
    let mix = |state: &[u8], data: &[u8]| blake(&[state, data].concat());
    let mut state = mix(&name, prologue);
    state = mix(&state, writer);
    state = mix(&state, &public(reader));
    let (ephemeral, tag) = message.split_at(32);
    state = mix(&state, ephemeral);
    let (chaining, _) = derive(&name, &shared(reader, ephemeral));
    let (chaining, key) = derive(&chaining, &shared(reader, writer));
    assert!(open(&key, 0, &state, tag).is_empty(), "the payload is empty");
    derive(&chaining, &[]).0
}

fn blake2s() -> MessageDigest {
    MessageDigest::from_name("blake2s256").unwrap()
}

fn blake(data: &[u8]) -> [u8; 32] {
    (*hash(blake2s(), data).unwrap()).try_into().unwrap()
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(blake2s(), &key).unwrap();
    signer.sign_oneshot_to_vec(data).unwrap().try_into().unwrap()
}

/// The two outputs of Noise's HKDF.
fn derive(chaining: &[u8], input: &[u8]) -> ([u8; 32], [u8; 32]) {
    let temporary = hmac(chaining, input);
    let first = hmac(&temporary, &[1]);
    (first, hmac(&temporary, &[&first[..], &[2]].concat()))
}

fn public(secret: &[u8; 32]) -> [u8; 32] {
    let key = PKey::private_key_from_raw_bytes(secret, Id::X25519).unwrap();
    key.raw_public_key().unwrap().try_into().unwrap()
}

fn shared(secret: &[u8; 32], public: &[u8]) -> Vec<u8> {
    let secret = PKey::private_key_from_raw_bytes(secret, Id::X25519).unwrap();
    let public = PKey::public_key_from_raw_bytes(public, Id::X25519).unwrap();
    let mut deriver = Deriver::new(&secret).unwrap();
    deriver.set_peer(&public).unwrap();
    deriver.derive_to_vec().unwrap()
}

/// ChaCha20-Poly1305 with Noise's nonce: four zeros, then the number, little-endian.
fn open(key: &[u8; 32], number: u64, associated: &[u8], sealed: &[u8]) -> Vec<u8> {
    let nonce = [&[0; 4][..], &number.to_le_bytes()].concat();
    let (content, tag) = sealed.split_at(sealed.len() - 16);
    let cipher = Cipher::chacha20_poly1305();
    decrypt_aead(cipher, key, Some(&nonce), associated, content, tag).unwrap()
}
