//! `SPEC.md` says what the code does: its tables of kinds, constants, lanes, messages and codes,
//! the greeting's table and its examples are made anew from the code here and must be in the text,
//! row by row. Layouts are compared in `layouts.rs`, bundles in `bundles.rs`.

use std::{collections::BTreeSet, fmt::Debug, path::PathBuf};

use protocol::{
    frame, lanes, link,
    message::{
        self, Answer, AttributeType, CertificationLevel, CrlScope, CsrForm, GeneralName, Lane,
        Message, OpenPgpReason, RefusalCode, Request, RevocationReason,
    },
    patch,
    secure::{self, Entropy, Pairing, SecretKey},
    session,
    time::{Duration, Instant},
    version,
};

use crate::samples::{answers, issue, requests};

pub(crate) fn text_of(file: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), file].iter().collect();
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Asserts that the table under `heading` has exactly these rows.
fn assert_table(heading: &str, rows: impl IntoIterator<Item = Vec<String>>) {
    let spec = text_of("SPEC.md");
    let section = spec.split(&format!("\n{heading}\n")).nth(1);
    let section = section.unwrap_or_else(|| panic!("SPEC.md has no heading `{heading}`"));
    let table = section.lines().skip_while(|line| !line.starts_with('|'));
    let written: Vec<_> = table.skip(2).take_while(|line| line.starts_with('|')).collect();
    let expected: Vec<_> =
        rows.into_iter().map(|cells| format!("| {} |", cells.join(" | "))).collect();
    assert_eq!(written.join("\n"), expected.join("\n"), "the table under `{heading}`");
}

/// The cells of the first table behind the line that begins with `above`, row by row.
pub(crate) fn rows_below(above: &str) -> Vec<Vec<String>> {
    let spec = text_of("SPEC.md");
    let behind = spec.split(&format!("\n{above}")).nth(1);
    let behind = behind.unwrap_or_else(|| panic!("SPEC.md has no line `{above}`"));
    let table = behind.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().into()).collect();
    table.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// Where the fields of the table behind the line `above` begin, and how long they are.
pub(crate) fn spans(above: &str) -> Vec<(usize, usize)> {
    let number = |cell: &String| -> usize { cell.parse().unwrap() };
    rows_below(above).iter().map(|row| (number(&row[0]), number(&row[1]))).collect()
}

fn row<const N: usize>(cells: [String; N]) -> Vec<String> {
    cells.into()
}

/// The variant's name, as its `Debug` begins.
fn variant(value: &impl Debug) -> String {
    format!("{value:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[test]
fn kinds_of_frames_are_those_of_the_code() {
    assert_table(
        "### Bodies",
        link::KINDS.map(|(name, kind)| row([kind.to_string(), name.to_owned()])),
    );
}

#[test]
fn constants_are_those_of_the_code() {
    let bytes = |name: &str, value: usize| row([name.into(), value.to_string(), "bytes".into()]);
    let count = |name: &str, value: usize, what: &str| {
        row([name.into(), value.to_string(), what.to_owned()])
    };
    let time = |name: &str, value: Duration| {
        row([name.into(), value.as_millis().to_string(), "ms".into()])
    };
    assert_table(
        "## 10 Constants",
        [
            bytes("CRC_LEN", frame::CRC_LEN),
            bytes("BODY_MAX", frame::BODY_MAX),
            bytes("FRAME_MAX", frame::FRAME_MAX),
            bytes("SEGMENT_MAX", link::SEGMENT_MAX),
            count("WINDOW", link::WINDOW, "segments"),
            time("SEGMENT_TIME", link::SEGMENT_TIME),
            bytes("SEGMENT_LEAST", link::SEGMENT_LEAST),
            time("SEGMENT_LEAST_TIME", link::SEGMENT_LEAST_TIME),
            bytes("SEGMENT_SLOW", link::SEGMENT_SLOW),
            bytes("SEGMENT_MIN", link::SEGMENT_MIN),
            time("HELLO_INTERVAL", link::HELLO_INTERVAL),
            time("HELLO_INTERVAL_OCCUPIED", link::HELLO_INTERVAL_OCCUPIED),
            time("HELLO_INTERVAL_INCOMPATIBLE", link::HELLO_INTERVAL_INCOMPATIBLE),
            bytes("HELLO_PAUSE_BYTES", link::HELLO_PAUSE_BYTES),
            time("RECONNECT_INTERVAL", link::RECONNECT_INTERVAL),
            time("KEEP_ALIVE", link::KEEP_ALIVE),
            time("SILENCE", link::SILENCE),
            bytes("SILENCE_BYTES", link::SILENCE_BYTES),
            time("ACK_DELAY", link::ACK_DELAY),
            time("PATIENCE_MAX", link::PATIENCE_MAX),
            bytes("RECORD_MAX", secure::RECORD_MAX),
            bytes("RECORD_MAX_PACED", secure::RECORD_MAX_PACED),
            bytes("RECORD_LEAST", secure::RECORD_LEAST),
            time("RECORD_TIME", secure::RECORD_TIME),
            time("HANDSHAKE_PATIENCE", secure::HANDSHAKE_PATIENCE),
            bytes("HANDSHAKE_BYTES", secure::HANDSHAKE_BYTES),
            time("HANDSHAKE_PAUSE", secure::HANDSHAKE_PAUSE),
            time("RECORD_PATIENCE", secure::RECORD_PATIENCE),
            count("RECORD_PATIENCE_RECORDS", secure::RECORD_PATIENCE_RECORDS as usize, "records"),
            count("RECORD_SLACK", secure::RECORD_SLACK as usize, "times"),
            time("RECORD_SLACK_BYTE", secure::RECORD_SLACK_BYTE),
            bytes("KEY_BYTES", secure::KEY_BYTES as usize),
            bytes("KEY_BYTES_MAX", secure::KEY_BYTES_MAX as usize),
            time("KEY_TIME", secure::KEY_TIME),
            time("KEY_TIME_MAX", secure::KEY_TIME_MAX),
            bytes("PACKED_MAX", lanes::PACKED_MAX),
            count("REFERENCES_MAX", patch::REFERENCES_MAX, "references"),
            bytes("NAME_LEN", patch::NAME_LEN),
            bytes("CHECK_LEN", patch::CHECK_LEN),
            count("KEPT_MESSAGES", session::KEPT_MESSAGES, "messages"),
            bytes("KEPT_BYTES", session::KEPT_BYTES),
            bytes("KEPT_LENGTH_MAX", session::KEPT_LENGTH_MAX),
            bytes("MESSAGE_MAX", message::MESSAGE_MAX),
            bytes("CSR_MAX", message::CSR_MAX),
            bytes("OPENPGP_KEY_MAX", message::OPENPGP_KEY_MAX),
            bytes("CERTIFICATE_MAX", message::CERTIFICATE_MAX),
            bytes("PIECE_MAX", message::PIECE_MAX),
            count("NAMES_MAX", message::NAMES_MAX, "items"),
            count("USER_IDS_MAX", message::USER_IDS_MAX, "items"),
            count("OPENPGP_AUTHORITIES_MAX", message::OPENPGP_AUTHORITIES_MAX, "items"),
            count("OPENPGP_POLICIES_MAX", message::OPENPGP_POLICIES_MAX, "items"),
            count("ATTRIBUTES_MAX", message::ATTRIBUTES_MAX, "items"),
            count("AUTHORITIES_MAX", message::AUTHORITIES_MAX, "items"),
            count("PROFILES_MAX", message::PROFILES_MAX, "items"),
            count("ACKNOWLEDGE_MAX", message::ACKNOWLEDGE_MAX, "items"),
        ],
    );
}

#[test]
fn versions_are_those_of_the_code() {
    let spec = text_of("SPEC.md");
    let (min, current) = (version::VERSION_MIN, version::VERSION_CURRENT);
    let sentence = format!("speaks versions {min} to {current}.");
    assert!(spec.contains(&sentence), "SPEC.md lacks: {sentence}");
}

#[test]
fn lanes_are_those_of_the_code() {
    let rows = Lane::ALL.map(|lane| row([(lane as u8).to_string(), format!("{lane:?}")]));
    assert_table("### Lanes", rows);
}

#[test]
fn kinds_of_messages_and_their_lanes_are_those_of_the_code() {
    fn rows<M: Message + Debug>(messages: Vec<(&'static str, M)>) -> Vec<Vec<String>> {
        let row = |m: &M| row([m.kind().to_string(), variant(m), format!("{:?}", m.lane())]);
        messages.iter().map(|(_, m)| row(m)).collect()
    }
    assert_table("### Requests", rows(requests()));
    // The sample of a CRL piece is small, so the table says both.
    let answers = rows(answers()).into_iter().map(|mut row| {
        if row[1] == "CrlPiece" {
            row[2] = "Revocation, Bulk".into();
        }
        row
    });
    assert_table("### Answers", answers);
}

#[test]
fn a_crl_piece_travels_with_the_revocations_up_to_the_named_length() {
    let piece = |packed_length| {
        let (_, piece) = answers().into_iter().find(|(name, _)| *name == "crl-piece").unwrap();
        let Answer::CrlPiece(piece) = piece else { unreachable!() };
        Answer::CrlPiece(message::CrlPiece { packed_length, ..piece }).lane()
    };
    assert!(text_of("SPEC.md").contains("`packed_length` of at most 8192"));
    assert_eq!((piece(8192), piece(8193)), (Lane::Revocation, Lane::Bulk));
}

#[test]
fn codes_are_those_of_the_code() {
    assert_table(
        "### Refusal codes",
        RefusalCode::TABLE.map(|(code, name, remedy)| {
            row([(code as u8).to_string(), name.into(), remedy.into()])
        }),
    );
    assert_table(
        "### Revocation reasons",
        RevocationReason::TABLE.map(|(reason, name, code)| {
            row([(reason as u8).to_string(), name.into(), code.to_string()])
        }),
    );
    assert_table(
        "### Attribute types",
        AttributeType::TABLE
            .map(|(kind, name, oid)| row([(kind as u8).to_string(), name.into(), oid.into()])),
    );
    let names = issue().subject_alt_names.unwrap();
    let numbered = names.iter().enumerate();
    let rows = numbered.map(|(i, n)| row([i.to_string(), variant(n), n.type_name().to_owned()]));
    assert_table("### General names", rows);
    let kinds: BTreeSet<_> = names.iter().map(variant).collect();
    assert_eq!(kinds.len(), 6, "one sample of each {}", std::any::type_name::<GeneralName>());
    assert_table(
        "### CSR forms",
        [CsrForm::Pkcs10, CsrForm::Spkac]
            .map(|form| row([(form as u8).to_string(), variant(&form)])),
    );
    let approved = requests().into_iter().find_map(|(_, request)| match request {
        Request::Certify(request) => Some(request.user_ids),
        _ => None,
    });
    let approved = approved.unwrap();
    let numbered = approved.iter().enumerate();
    assert_table(
        "### Approved user IDs",
        numbered.map(|(i, id)| row([i.to_string(), variant(id)])),
    );
    assert_table(
        "### OpenPGP reasons",
        OpenPgpReason::TABLE.map(|(reason, name, code)| {
            row([(reason as u8).to_string(), name.into(), code.to_string()])
        }),
    );
    assert_table(
        "### Certification levels",
        CertificationLevel::TABLE.map(|(level, name, kind)| {
            row([(level as u8).to_string(), name.into(), format!("{kind:#04x}")])
        }),
    );
    let scopes = [CrlScope::Full, CrlScope::Delta, CrlScope::Shard(7)];
    let numbered = scopes.iter().enumerate();
    assert_table("### CRL scopes", numbered.map(|(i, scope)| row([i.to_string(), variant(scope)])));
}

#[test]
fn the_handshake_s_table_is_that_of_the_code() {
    let source = text_of("src/link.rs");
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! |"));
    let rows: Vec<_> = rows.skip(2).map(|row| format!("|{row}")).collect();
    assert!(rows.len() > 10);
    let spec = text_of("SPEC.md");
    for row in rows {
        assert!(spec.contains(&row), "SPEC.md lacks {row}");
    }
}

fn hex(bytes: &[u8]) -> String {
    let rows = bytes.chunks(16).map(|row| {
        let bytes: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(" ")
    });
    rows.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_examples_are_what_the_code_sends() {
    let spec = text_of("SPEC.md");
    let assert_in = |bytes: &[u8]| {
        let example = hex(bytes);
        assert!(spec.contains(&example), "SPEC.md lacks this example:\n{example}");
    };
    // Every key is one byte 32 times over: the statics 11 and 22, the ephemerals 33 and 44.
    let entropy = |byte| Entropy::new(move |bytes: &mut [u8]| bytes.fill(byte));
    let [ours, theirs] = [0x11, 0x22].map(|byte| SecretKey::generate(&entropy(byte)));
    let config = |side, boot_id, secret: &SecretKey, peer: &SecretKey, byte| {
        let pairing = Pairing { secret: secret.clone(), peer: peer.public() };
        let link = link::EndpointConfig { side, boot_id, line_rate: None };
        session::SessionConfig { link, pairing, entropy: entropy(byte) }
    };
    let now = Instant::ZERO;
    let config_of = (
        config(link::Side::Frontend, 0x0706_0504_0302_0100, &ours, &theirs, 0x33),
        config(link::Side::Signer, 0x1716_1514_1312_1110, &theirs, &ours, 0x44),
    );
    let mut frontend = session::FrontendSession::new(config_of.0, now);
    let mut signer = session::SignerSession::new(config_of.1, now);
    // Hello, hello, message 1, message 2, confirmation.
    for turn in 0..5 {
        let bytes = match turn % 2 {
            0 => frontend.poll_transmit(now).unwrap(),
            _ => signer.poll_transmit(now).unwrap(),
        };
        assert_in(&bytes);
        match turn % 2 {
            0 => signer.handle_bytes(now, &bytes),
            _ => frontend.handle_bytes(now, &bytes),
        }
    }
    assert!(frontend.is_up() && signer.is_up());
    let revoke = requests().into_iter().find(|(name, _)| *name == "revoke").unwrap().1;
    frontend.send(now, &revoke).unwrap();
    let last = frontend.poll_transmit(now).unwrap();
    assert_in(&last);
    signer.handle_bytes(now, &last);
    let events: Vec<_> = std::iter::from_fn(|| signer.poll_event()).collect();
    let heard = |e: &session::Event<_>| matches!(e, session::Event::Message(m) if *m == revoke);
    assert!(events.iter().any(heard), "{events:?}");
}

/// By the text alone: the keys follow from the secret and the hash, and the tags from the keys.
#[test]
fn the_frame_keys_of_the_example_make_the_tags_of_its_frames() {
    use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer};
    let hmac = |key: &[u8], text: &[u8]| {
        let key = PKey::hmac(key).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        signer.sign_oneshot_to_vec(text).unwrap()
    };
    let spec = text_of("SPEC.md");
    let section = spec.split("\n## 12 An example\n").nth(1).unwrap();
    let blocks: Vec<Vec<u8>> = section
        .split("```")
        .skip(1)
        .step_by(2)
        .map(|block| {
            let octets = block.split_whitespace();
            octets.filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect()
        })
        .collect();
    let keys: Vec<&[u8]> = blocks[4].chunks(32).collect();
    let &[secret, hash, of_frontend, of_signer] = &keys[..] else {
        panic!("{} rows of keys", keys.len())
    };
    for (side, key) in [(1, of_frontend), (2, of_signer)] {
        let text = [&b"isolated signer link frames 1"[..], &[side], hash].concat();
        assert_eq!(hmac(secret, &text), key, "the key of side {side}");
    }
    let nonce = |from: u8| (from..from + 8).chain([1, 0, 0, 0]).collect::<Vec<u8>>();
    for wire in &blocks[5..7] {
        let mut plain = wire[..wire.len() - 1].to_vec();
        let length = cobs::decode_in_place(&mut plain).unwrap();
        let (body, tag) = plain[..length].split_at(length - frame::CRC_LEN);
        let numbers = body[1..3].iter().flat_map(|number| u64::from(*number).to_le_bytes());
        let text: Vec<u8> =
            [nonce(0x00), nonce(0x10)].concat().into_iter().chain(numbers).collect();
        assert_eq!(hmac(of_frontend, &[&text, body].concat())[..4], *tag);
    }
}
