//! Lengths that a careless reader believes, on every layer: nothing, the most, one more, 2^24,
//! 2^32 - 1, and the most that eight bytes can say. None of them sizes an allocation.

use std::collections::VecDeque;

use protocol::{
    frame::{self, BODY_MAX, CRC_LEN, DELIMITER, Decoder, FRAME_MAX},
    lanes::{ChunkError, Incoming, PACKED_MAX},
    message::{Answer, MESSAGE_MAX, Message, Request},
    patch::{self, NAME_LEN, PatchError},
};

use crate::samples::{answers, requests};

const PREFIX: &[u8] = b"connection";
const CLAIMS: [u64; 4] = [1 << 24, u32::MAX as u64, 1 << 32, u64::MAX];

/// Unsigned LEB128.
fn leb128(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

fn opened(decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some(sealed) = decoder.next(&mut bytes) {
        bodies.extend(sealed.open(PREFIX).map(<[u8]>::to_vec));
    }
    bodies
}

/// A frame by SPEC.md, of a body of any length.
fn frame_of(body: &[u8]) -> Vec<u8> {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let mut digest = crc.digest();
    digest.update(PREFIX);
    digest.update(body);
    let plain = [body, &digest.finalize().to_le_bytes()].concat();
    let mut wire = vec![0; cobs::max_encoding_length(plain.len())];
    let length = cobs::encode(&plain, &mut wire);
    wire.truncate(length);
    wire.push(DELIMITER);
    wire
}

#[test]
fn frames_of_no_body_and_of_one_byte_too_much_are_dropped_and_the_longest_is_taken() {
    let good = frame_of(b"good");
    for (length, taken) in [(0, false), (1, true), (BODY_MAX, true), (BODY_MAX + 64, false)] {
        let body = vec![7; length];
        let wire = [&frame_of(&body)[..], &good].concat();
        let mut expected = vec![body];
        expected.retain(|_| taken);
        expected.push(b"good".to_vec());
        assert_eq!(opened(&mut Decoder::default(), &wire), expected, "a body of {length} bytes");
    }
    assert_eq!(frame_of(&[7; BODY_MAX]).len(), {
        let mut ours = Vec::new();
        frame::encode(PREFIX, &[7; BODY_MAX], &mut ours);
        ours.len()
    });
}

#[test]
fn a_run_of_any_length_without_an_end_is_one_oversized_frame() {
    let piece = vec![0x55; 1 << 20];
    for length in [FRAME_MAX as u64 + 1, 1 << 24, u64::from(u32::MAX)] {
        let mut decoder = Decoder::default();
        let mut left = length;
        while left > 0 {
            let count = left.min(piece.len() as u64);
            assert!(opened(&mut decoder, &piece[..count as usize]).is_empty());
            left -= count;
        }
        let good = [&[DELIMITER][..], &frame_of(b"good")].concat();
        assert_eq!(opened(&mut decoder, &good), [b"good"], "after {length} bytes");
        assert_eq!(decoder.oversized(), 1);
    }
    const { assert!(FRAME_MAX > CRC_LEN) };
}

#[test]
fn a_chunk_may_claim_the_longest_message_and_no_more() {
    let open = |claim: u64| {
        let chunk = [&[0b110][..], &leb128(claim), &[1, 2, 3]].concat();
        Incoming::default().take(&chunk, &mut VecDeque::new())
    };
    assert_eq!(open(0), Err(ChunkError::Length));
    assert_eq!(open(PACKED_MAX as u64), Ok(()));
    assert_eq!(open(PACKED_MAX as u64 + 1), Err(ChunkError::Length));
    for claim in CLAIMS {
        assert_eq!(open(claim), Err(ChunkError::Length), "{claim}");
    }
}

#[test]
fn a_patch_may_claim_what_the_caller_takes_and_no_more() {
    let reference = vec![7; 100];
    let name = protocol::message::Digest::of(&reference);
    let resolve = |_| Some(&reference[..]);
    // Patched without and with a reference, and spliced from one.
    for (kind, names) in [(1, 0), (2, 1), (3, 2), (4, 1)] {
        let claiming = |claim: u64| {
            let mut container = vec![kind];
            for _ in 0..names {
                container.extend_from_slice(&name.as_bytes()[..NAME_LEN]);
            }
            container.extend_from_slice(&[0; patch::CHECK_LEN]);
            container.extend(leb128(claim));
            container.extend_from_slice(&[1, 0, 0, 0]);
            patch::unpack(&container, resolve, MESSAGE_MAX)
        };
        // Within the bound it is looked at, and found to be nonsense.
        for claim in [0, MESSAGE_MAX as u64] {
            let refused = claiming(claim).unwrap_err();
            assert!(!matches!(refused, PatchError::TooLong { .. }), "kind {kind}: {refused:?}");
        }
        for claim in CLAIMS.into_iter().chain([MESSAGE_MAX as u64 + 1]) {
            let refused = PatchError::TooLong { claimed: claim, limit: MESSAGE_MAX };
            assert_eq!(claiming(claim), Err(refused), "kind {kind}");
        }
    }
}

/// Every sample with each of its bytes in turn replaced by a length of eight or four bytes.
fn lie<M: Message>(bytes: &[u8]) {
    for at in 0..bytes.len() {
        for claim in CLAIMS {
            let wide = [&[253][..], &claim.to_le_bytes()].concat();
            let narrow = [&[252][..], &(claim as u32).to_le_bytes()].concat();
            for lie in [wide, narrow] {
                let lying = [&bytes[..at], &lie, &bytes[at + 1..]].concat();
                // It may still be a message, with that number in a field; never a longer one.
                if let Ok(message) = M::from_bytes(&lying) {
                    assert!(message.to_bytes().unwrap().len() <= lying.len(), "byte {at}");
                }
            }
        }
    }
}

#[test]
fn a_message_that_claims_any_length_anywhere_is_refused_or_means_that_number() {
    for (_, request) in requests() {
        lie::<Request>(&request.to_bytes().unwrap());
    }
    for (_, answer) in answers() {
        lie::<Answer>(&answer.to_bytes().unwrap());
    }
}
