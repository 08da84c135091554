//! Stories of bundles on good and bad media.

use std::io::Cursor;

use super::*;

const REQUESTS: Head = Head { from: Side::Frontend, number: 7, answers: 3 };

fn pairings() -> (Pairing, Pairing) {
    Pairing::both(1)
}

/// A bundle of these messages, from the frontend to the signer.
fn bundle(head: &Head, pairing: &Pairing, messages: &[Vec<u8>]) -> Vec<u8> {
    // Two files never share an ephemeral key.
    let entropy = Entropy::seeded(head.number);
    let mut writer = Writer::begin(Cursor::new(Vec::new()), head, pairing, &entropy).unwrap();
    for message in messages {
        writer.add(message).unwrap();
    }
    let (file, written) = writer.finish().unwrap();
    assert_eq!(written.length, file.get_ref().len() as u64);
    file.into_inner()
}

fn read(bytes: &[u8], pairing: &Pairing) -> Result<Vec<Vec<u8>>, BadBundle> {
    let mut reader = Reader::open(Cursor::new(bytes), pairing, Side::Signer)?;
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message()? {
        messages.push(message);
    }
    assert_eq!(reader.messages(), messages.len() as u64);
    Ok(messages)
}

#[test]
fn every_message_comes_out_as_it_went_in_whatever_its_length() {
    let (frontend, signer) = pairings();
    let lengths = [0, 1, 100, PIECE_LEN - 6, PIECE_LEN - 5, PIECE_LEN, 3 * PIECE_LEN, MESSAGE_MAX];
    let messages: Vec<Vec<u8>> =
        lengths.iter().map(|length| (0..*length).map(|i| i as u8).collect()).collect();
    let bytes = bundle(&REQUESTS, &frontend, &messages);
    assert_eq!(read(&bytes, &signer).unwrap(), messages);
    let reader = Reader::open(Cursor::new(&bytes), &signer, Side::Signer).unwrap();
    assert_eq!(reader.head(), REQUESTS);
    // Nothing at all is a bundle too.
    assert!(read(&bundle(&REQUESTS, &frontend, &[]), &signer).unwrap().is_empty());
    // And each length around the end of a record.
    for length in PIECE_LEN - 20..PIECE_LEN + 20 {
        let messages = [vec![5; length], vec![6; 3]];
        assert_eq!(read(&bundle(&REQUESTS, &frontend, &messages), &signer).unwrap(), messages);
    }
}

// MEDIA-1: a file that was altered in one byte, at any offset and in any way, is refused whole.
#[test]
fn one_altered_byte_anywhere_is_refused_with_one_sentence() {
    let (frontend, signer) = pairings();
    let messages = [b"one".to_vec(), vec![2; 600]];
    let good = bundle(&REQUESTS, &frontend, &messages);
    assert_eq!(read(&good, &signer).unwrap(), messages);
    for offset in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[offset] ^= change;
            let error = read(&bad, &signer).unwrap_err().to_string();
            assert!(error.starts_with("it ") && !error.contains('\n'), "{offset}: {error}");
        }
    }
}

// MEDIA-2: who holds the medium can also make the checksum right; the seal tells.
#[test]
fn altered_bytes_with_a_right_checksum_do_not_open() {
    let (frontend, signer) = pairings();
    let good = bundle(&REQUESTS, &frontend, &[vec![2; 300]]);
    for offset in (HEADER_LEN..good.len()).chain(10..26) {
        let mut bad = good.clone();
        bad[offset] ^= 1;
        let digest = Digest::of(&bad[HEADER_LEN..]);
        bad[BOUND_LEN + 8..HEADER_LEN].copy_from_slice(digest.as_bytes());
        assert!(matches!(read(&bad, &signer), Err(BadBundle::Forged)), "{offset}");
    }
}

// MEDIA-3: a full medium.
#[test]
fn a_file_that_was_cut_off_anywhere_is_refused() {
    let (frontend, signer) = pairings();
    let good = bundle(&REQUESTS, &frontend, &[vec![2; 500]]);
    for length in 0..good.len() {
        let error = read(&good[..length], &signer).unwrap_err();
        assert!(matches!(error, BadBundle::CutOff { .. }), "{length}: {error}");
    }
    // What a writer left that was killed before it had finished: no header yet.
    let mut unfinished = good.clone();
    unfinished[..HEADER_LEN].fill(0);
    assert!(matches!(read(&unfinished, &signer), Err(BadBundle::CutOff { .. })));
    let longer = [&good[..], b"x"].concat();
    assert!(matches!(read(&longer, &signer), Err(BadBundle::Damaged)));
}

#[test]
fn records_of_two_bundles_cannot_be_joined() {
    let (frontend, signer) = pairings();
    let head = Head { number: 8, ..REQUESTS };
    let one = bundle(&REQUESTS, &frontend, &[vec![1; PIECE_LEN * 2]]);
    let other = bundle(&head, &frontend, &[vec![2; PIECE_LEN * 2]]);
    assert_eq!(one.len(), other.len());
    let record = LENGTH_LEN + PIECE_LEN + SEALED_OVERHEAD;
    let begin = HEADER_LEN + SEALED_HANDSHAKE_LEN;
    let mut joined = one.clone();
    joined[begin + record..].copy_from_slice(&other[begin + record..]);
    // And within one: the first two records in the wrong order.
    let mut swapped = one.clone();
    swapped[begin..begin + record].copy_from_slice(&one[begin + record..begin + 2 * record]);
    swapped[begin + record..begin + 2 * record].copy_from_slice(&one[begin..begin + record]);
    for mut bad in [joined, swapped] {
        let digest = Digest::of(&bad[HEADER_LEN..]);
        bad[BOUND_LEN + 8..HEADER_LEN].copy_from_slice(digest.as_bytes());
        assert!(matches!(read(&bad, &signer), Err(BadBundle::Forged)));
    }
}

#[test]
fn a_bundle_for_somebody_else_says_so() {
    let (frontend, signer) = pairings();
    let (stranger, strange_signer) = Pairing::both(2);
    let bytes = bundle(&REQUESTS, &frontend, &[vec![1]]);
    assert!(matches!(read(&bytes, &strange_signer), Err(BadBundle::OtherPairing)));
    let foreign = bundle(&REQUESTS, &stranger, &[vec![1]]);
    assert!(matches!(read(&foreign, &signer), Err(BadBundle::OtherPairing)));
    // The signer's own answers are no requests: reflected, they are refused.
    let answers = Head { from: Side::Signer, ..REQUESTS };
    let reflected = bundle(&answers, &signer, &[vec![1]]);
    let error = read(&reflected, &signer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it holds answers, and requests are expected; take the other file"
    );
    // And with the direction changed to what is expected, they do not open.
    let mut forged = reflected;
    forged[9] = 1;
    assert!(matches!(read(&forged, &signer), Err(BadBundle::Forged)));
}

#[test]
fn whatever_is_no_bundle_is_told_apart() {
    let (frontend, signer) = pairings();
    for bytes in [&b"-----BEGIN CERTIFICATE REQUEST-----"[..], &[1], &[0xff; 200]] {
        assert!(matches!(read(bytes, &signer), Err(BadBundle::Foreign)));
    }
    let mut newer = bundle(&REQUESTS, &frontend, &[]);
    newer[8] = 2;
    let told = read(&newer, &signer).unwrap_err().to_string();
    assert!(told.contains("has version 2") && told.contains("knows version 1"), "{told}");
    let mut huge = bundle(&REQUESTS, &frontend, &[]);
    huge[BOUND_LEN..BOUND_LEN + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(read(&huge, &signer), Err(BadBundle::TooLarge(u64::MAX))));
}

#[test]
fn a_full_bundle_takes_no_more() {
    let (frontend, _) = pairings();
    let mut writer =
        Writer::begin(Cursor::new(Vec::new()), &REQUESTS, &frontend, &Entropy::seeded(1)).unwrap();
    assert!(writer.has_room(MESSAGE_MAX));
    writer.length = BUNDLE_MAX - 1000;
    assert!(!writer.has_room(1000));
    assert!(matches!(writer.add(&[0; 1000]), Err(BundleError::Full)));
}
