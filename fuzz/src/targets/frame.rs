//! The frame decoder: any bytes in any pieces, beside a second decoder written from `SPEC.md`.

use protocol::frame::{self, Decoder};

use crate::input::Input;

const PREFIX: &[u8] = b"connection";

/// The first two bytes say how the rest is cut into pieces.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (piece, step) = (1 + usize::from(input.byte()), usize::from(input.byte() % 7));
    let stream = input.rest();
    let expected = read_by_the_specification(stream);
    assert_eq!(opened(&mut [stream].into_iter()), expected, "in one piece");
    assert_eq!(opened(&mut Pieces { rest: stream, piece, step }), expected, "in pieces");
    round_trip(&stream[..stream.len().min(frame::BODY_MAX)]);
}

/// What was made from a body is that body again, also after noise that a delimiter ended.
fn round_trip(body: &[u8]) {
    if body.is_empty() {
        return;
    }
    let mut wire = body.to_vec();
    wire.push(frame::DELIMITER);
    let noise = opened(&mut [&wire[..]].into_iter());
    let start = wire.len();
    frame::encode(PREFIX, body, &mut wire);
    assert!(wire.len() - start <= frame::FRAME_MAX + 1);
    let mut heard = opened(&mut [&wire[..]].into_iter());
    assert_eq!(heard.pop().as_deref(), Some(body));
    assert_eq!(heard, noise);
}

struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
    step: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (piece, rest) = self.rest.split_at(self.piece.min(self.rest.len()));
        self.rest = rest;
        self.piece = (self.piece + self.step) % 300 + 1;
        (!piece.is_empty()).then_some(piece)
    }
}

fn opened(pieces: &mut dyn Iterator<Item = &[u8]>) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::default();
    let mut bodies = Vec::new();
    for mut piece in pieces {
        while let Some(sealed) = decoder.next(&mut piece) {
            if let Some(body) = sealed.open(PREFIX) {
                assert_eq!(sealed.claimed_kind(), body[0]);
                bodies.push(body.to_vec());
            }
        }
    }
    bodies
}

fn read_by_the_specification(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut runs: Vec<&[u8]> = stream.split(|byte| *byte == 0).collect();
    // What no delimiter ended is not a frame yet.
    runs.pop();
    let bodies = runs.into_iter().filter(|run| run.len() <= frame::FRAME_MAX).filter_map(|run| {
        let plain = uncobs(run)?;
        let (body, crc) = plain.split_at_checked(plain.len().checked_sub(frame::CRC_LEN)?)?;
        let right = !body.is_empty() && crc_32c(&[PREFIX, body].concat()).to_le_bytes() == crc;
        right.then(|| body.to_vec())
    });
    bodies.collect()
}

/// Cheshire and Baker 1999: a code byte says how far the next zero is.
fn uncobs(run: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(run.len());
    let mut rest = run;
    while let Some((code, after)) = rest.split_first() {
        let (block, after) = after.split_at_checked(usize::from(*code).checked_sub(1)?)?;
        plain.extend_from_slice(block);
        if *code != 0xff && !after.is_empty() {
            plain.push(0);
        }
        rest = after;
    }
    Some(plain)
}

/// Polynomial 0x1EDC6F41 reflected, byte by byte.
fn crc_32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// What eight bits come to.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_decoder_knows_the_published_values() {
        assert_eq!(crc_32c(b"123456789"), 0xe306_9283);
        assert_eq!(uncobs(&[3, 0x11, 0x22, 2, 0x33]).unwrap(), [0x11, 0x22, 0, 0x33]);
        assert_eq!(uncobs(&[1, 1]).unwrap(), [0]);
        assert_eq!(uncobs(&[5, 1]), None);
    }
}
