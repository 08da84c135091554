//! Frames: COBS and a check, so that a broken frame is dropped and the next one is good.
//!
//! On the wire a frame is `COBS(body ‖ check) 00`. COBS leaves no zero byte inside, so no payload
//! can imitate the delimiter, and a reader that joins in the middle is in step at the next zero.
//! The check is a CRC-32C, or, once two ends share a key, a tag of the same length that nobody
//! else can make. It runs over a prefix that is *not* transmitted, as in TCP's pseudo header:
//! frames of a connection have that connection's identity there, so bytes of an earlier one are
//! merely broken frames. This room knows nothing of what a body means, and never holds more than
//! [`FRAME_MAX`].

mod key;

use crc::{CRC_32_ISCSI, Crc, Table};

pub use self::key::{FRAME_KEY_LEN, FrameKey, FrameKeys};

/// Ends every frame, and stands in front of one that follows a silence: whatever noise the line
/// made meanwhile then ends with that delimiter instead of eating the frame.
pub const DELIMITER: u8 = 0;
/// CRC-32C, little-endian, or the tag in its place.
pub const CRC_LEN: usize = 4;
/// The longest body: one link header and the longest segment (`link` ties this to its own bounds).
pub const BODY_MAX: usize = 4096 + 24;
/// The longest frame without its delimiter. Longer runs without a zero are noise.
pub const FRAME_MAX: usize = cobs::max_encoding_length(BODY_MAX + CRC_LEN);

/// How a frame shows that it is whole.
#[derive(Clone, Copy, Debug)]
pub enum Check<'a> {
    /// By a CRC: that no noise changed it.
    Crc,
    /// By a tag: that nobody without the key changed it, or made it.
    Key(&'a FrameKey),
}

impl Check<'_> {
    fn over(self, prefix: &[u8], body: &[u8]) -> [u8; CRC_LEN] {
        match self {
            Self::Crc => checksum(prefix, body).to_le_bytes(),
            Self::Key(key) => key.tag(prefix, body),
        }
    }
}

/// Appends the frame of `body` with a CRC and its closing delimiter to `out`.
pub fn encode(prefix: &[u8], body: &[u8], out: &mut Vec<u8>) {
    encode_with(Check::Crc, prefix, body, out);
}

/// Appends the frame of `body` with this check and its closing delimiter to `out`.
pub fn encode_with(check: Check<'_>, prefix: &[u8], body: &[u8], out: &mut Vec<u8>) {
    assert!(body.len() <= BODY_MAX, "a body has at most {BODY_MAX} bytes");
    let mut plain = Vec::with_capacity(body.len() + CRC_LEN);
    plain.extend_from_slice(body);
    plain.extend_from_slice(&check.over(prefix, body));
    let start = out.len();
    out.resize(start + cobs::max_encoding_length(plain.len()), DELIMITER);
    let length = cobs::encode(&plain, &mut out[start..]);
    out.truncate(start + length);
    out.push(DELIMITER);
}

/// CRC-32C (RFC 3720 appendix B.4) over prefix and body.
fn checksum(prefix: &[u8], body: &[u8]) -> u32 {
    static CRC_32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
    let mut digest = CRC_32C.digest();
    digest.update(prefix);
    digest.update(body);
    digest.finalize()
}

/// A body whose check was not looked at yet: prefix and key depend on what kind of frame it is.
#[derive(Debug)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// What the first byte claims; believe it only after [`Sealed::open`].
    pub fn claimed_kind(&self) -> u8 {
        self.0[0]
    }

    /// What the body claims, at least one byte; believe it only after [`Sealed::open`].
    pub fn claimed(&self) -> &[u8] {
        &self.0[..self.0.len() - CRC_LEN]
    }

    /// The body, if the CRC over `prefix` and body is right.
    pub fn open(&self, prefix: &[u8]) -> Option<&[u8]> {
        self.open_with(Check::Crc, prefix)
    }

    /// The body, if this check over `prefix` and body is right.
    pub fn open_with(&self, check: Check<'_>, prefix: &[u8]) -> Option<&[u8]> {
        let (body, found) = self.0.split_at(self.0.len() - CRC_LEN);
        openssl::memcmp::eq(&check.over(prefix, body), found).then_some(body)
    }
}

/// Finds frames in a stream of bytes, in whatever pieces they come.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What came since the last delimiter, at most [`FRAME_MAX`] bytes.
    partial: Vec<u8>,
    /// The run since the last delimiter is longer than any frame, so its end is not a frame's end.
    overrun: bool,
    broken: u64,
    oversized: u64,
}

impl Decoder {
    /// Takes bytes off the front of `input` up to the end of the next frame that COBS can read;
    /// `None` when `input` is used up.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Sealed> {
        loop {
            let Some(end) = input.iter().position(|byte| *byte == DELIMITER) else {
                self.extend(input);
                *input = &[];
                return None;
            };
            let (run, rest) = input.split_at(end);
            *input = &rest[1..];
            self.extend(run);
            if let Some(sealed) = self.finish() {
                return Some(sealed);
            }
        }
    }

    /// Runs between delimiters that COBS could not read or that were too short.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    /// Runs between delimiters that were longer than [`FRAME_MAX`].
    pub fn oversized(&self) -> u64 {
        self.oversized
    }

    fn extend(&mut self, run: &[u8]) {
        if self.overrun || self.partial.len() + run.len() > FRAME_MAX {
            self.overrun = true;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(run);
        }
    }

    fn finish(&mut self) -> Option<Sealed> {
        let mut bytes = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.overrun) {
            self.oversized += 1;
            return None;
        }
        if bytes.is_empty() {
            // Two delimiters in a row: a frame after a silence.
            return None;
        }
        match cobs::decode_in_place(&mut bytes) {
            Ok(length) if length > CRC_LEN => {
                bytes.truncate(length);
                Some(Sealed(bytes))
            }
            _ => {
                self.broken += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &[u8] = b"connection";

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(PREFIX, body, &mut out);
        out
    }

    fn opened(decoder: &mut Decoder, mut input: &[u8]) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        while let Some(sealed) = decoder.next(&mut input) {
            bodies.extend(sealed.open(PREFIX).map(<[u8]>::to_vec));
        }
        bodies
    }

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 7 % 256) as u8).collect()
    }

    #[test]
    fn bodies_of_every_length_survive_in_any_pieces() {
        for length in (1..600).chain([BODY_MAX - 1, BODY_MAX]) {
            for body in [sample(length), vec![0; length], vec![0xff; length]] {
                let wire = framed(&body);
                assert!(wire.len() <= FRAME_MAX + 1);
                assert!(!wire[..wire.len() - 1].contains(&DELIMITER));
                for piece in [1, 3, wire.len()] {
                    let mut decoder = Decoder::default();
                    let bodies: Vec<_> =
                        wire.chunks(piece).flat_map(|bytes| opened(&mut decoder, bytes)).collect();
                    assert_eq!(bodies, std::slice::from_ref(&body));
                }
            }
        }
    }

    #[test]
    fn the_crc_is_the_published_one() {
        // RFC 3720 B.4: 32 bytes of zeros, and of ones.
        assert_eq!(checksum(&[0; 20], &[0; 12]), 0x8a91_36aa);
        assert_eq!(checksum(&[], &[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn every_single_flipped_bit_is_rejected() {
        let good = framed(&sample(300));
        for bit in 0..good.len() * 8 {
            let mut wire = good.clone();
            wire[bit / 8] ^= 1 << (bit % 8);
            wire.push(DELIMITER);
            assert_eq!(opened(&mut Decoder::default(), &wire), Vec::<Vec<u8>>::new(), "bit {bit}");
        }
    }

    #[test]
    fn two_flipped_bits_that_cancel_in_an_xor_are_rejected() {
        // The same bit of two different bytes: an XOR over the bytes stays what it was.
        let good = framed(&sample(60));
        for first in 0..good.len() {
            for second in first + 1..good.len() {
                for bit in 0..8 {
                    let mut wire = good.clone();
                    wire[first] ^= 1 << bit;
                    wire[second] ^= 1 << bit;
                    wire.push(DELIMITER);
                    let bodies = opened(&mut Decoder::default(), &wire);
                    assert!(bodies.is_empty(), "bytes {first} and {second}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_rejected_and_the_next_one_is_good() {
        let good = framed(&sample(300));
        let next = framed(b"next");
        // Without its last byte, the delimiter, the frame is whole.
        for cut in 0..good.len() - 1 {
            let mut wire = good[..cut].to_vec();
            wire.push(DELIMITER);
            wire.extend_from_slice(&next);
            assert_eq!(opened(&mut Decoder::default(), &wire), [b"next"], "cut at {cut}");
        }
    }

    #[test]
    fn another_connection_s_frame_is_broken() {
        let wire = framed(b"stale");
        let sealed = Decoder::default().next(&mut &wire[..]).unwrap();
        assert_eq!(sealed.open(b"connectioN"), None);
        assert_eq!(sealed.open(PREFIX), Some(&b"stale"[..]));
    }

    #[test]
    fn a_flood_without_delimiter_holds_no_memory_and_ends_at_the_next_one() {
        let mut decoder = Decoder::default();
        for _ in 0..1000 {
            assert!(opened(&mut decoder, &[0x55; 1024]).is_empty());
            assert!(decoder.partial.capacity() <= 2 * FRAME_MAX);
        }
        assert!(opened(&mut decoder, &[DELIMITER]).is_empty());
        assert_eq!(decoder.oversized(), 1);
        assert_eq!(opened(&mut decoder, &framed(b"good")), [b"good"]);
    }

    #[test]
    fn noise_between_delimiters_is_counted() {
        let mut decoder = Decoder::default();
        // A code byte that points past the end, then fewer bytes than a CRC has.
        assert!(opened(&mut decoder, &[9, 1, 0, 2, 7, 0, 0, 0]).is_empty());
        assert_eq!(decoder.broken(), 2);
    }
}
