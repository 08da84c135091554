//! Packets by their headers alone (RFC 9580 4.2): what a key is made of, before anything of it is
//! parsed or verified.
//!
//! It cuts; it never looks into a packet. Whatever the bytes are, it takes time and memory in
//! proportion to their number, and no more packets than its caller allows.

use protocol::message::RefusalCode;

use super::refuse;
use crate::refusal::Refusal;

/// Packet types (RFC 9580 5) that a transferable public key can hold.
pub(crate) mod tag {
    pub(crate) const SIGNATURE: u8 = 2;
    pub(crate) const SECRET_KEY: u8 = 5;
    pub(crate) const PUBLIC_KEY: u8 = 6;
    pub(crate) const SECRET_SUBKEY: u8 = 7;
    pub(crate) const MARKER: u8 = 10;
    pub(crate) const TRUST: u8 = 12;
    pub(crate) const USER_ID: u8 = 13;
    pub(crate) const PUBLIC_SUBKEY: u8 = 14;
    pub(crate) const USER_ATTRIBUTE: u8 = 17;
    pub(crate) const PADDING: u8 = 21;
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    /// Its type.
    pub(crate) tag: u8,
    /// With its header.
    pub(crate) whole: &'a [u8],
    /// Without it.
    pub(crate) body: &'a [u8],
}

/// Cuts `bytes` into at most `limit` packets.
pub(crate) fn split(bytes: &[u8], limit: usize) -> Result<Vec<Raw<'_>>, Refusal> {
    let mut packets = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if packets.len() == limit {
            let text = format!("it has more than {limit} packets; send a minimal export");
            return Err(refuse(RefusalCode::OpenPgpMalformed, text));
        }
        let at = bytes.len() - rest.len();
        let (packet, after) = first(rest).map_err(|what| {
            let text = format!("the packet at offset {at} {what}");
            refuse(RefusalCode::OpenPgpMalformed, text)
        })?;
        packets.push(packet);
        rest = after;
    }
    Ok(packets)
}

/// The first packet, and what follows it; or what is wrong with it.
pub(crate) fn first(bytes: &[u8]) -> Result<(Raw<'_>, &[u8]), &'static str> {
    const CUT: &str = "is cut off";
    let (&header, after) = bytes.split_first().ok_or(CUT)?;
    if header & 0x80 == 0 {
        return Err("has no packet header");
    }
    let (tag, length, body_at) = if header & 0x40 != 0 {
        // RFC 9580 4.2.1, the present form.
        let (length, size) = match after {
            [one @ 0..=191, ..] => (usize::from(*one), 1),
            [one @ 192..=223, two, ..] => {
                ((usize::from(*one) - 192) * 256 + usize::from(*two) + 192, 2)
            }
            [255, rest @ ..] => (number(rest.get(..4).ok_or(CUT)?), 5),
            // 4.2.1.4: only for packets that hold data.
            [224..=254, ..] => return Err("comes in partial lengths"),
            _ => return Err(CUT),
        };
        (header & 0x3f, length, 1 + size)
    } else {
        // 4.2.2, the old form.
        let size = match header & 3 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return Err("has no length"),
        };
        ((header >> 2) & 0x0f, number(after.get(..size).ok_or(CUT)?), 1 + size)
    };
    let end = body_at.checked_add(length).ok_or(CUT)?;
    let whole = bytes.get(..end).ok_or(CUT)?;
    Ok((Raw { tag, whole, body: &whole[body_at..] }, &bytes[end..]))
}

fn number(octets: &[u8]) -> usize {
    octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_both_forms_and_every_length_are_cut_at_their_ends() {
        let body = |length: usize| vec![0xab; length];
        let samples = [
            ([&[0xcd, 5][..], &body(5)].concat(), 13, 5),
            ([&[0xc2, 192, 0][..], &body(192)].concat(), 2, 192),
            ([&[0xc2, 223, 255][..], &body(8383)].concat(), 2, 8383),
            ([&[0xc2, 255, 0, 0, 0x20, 0xc0][..], &body(8384)].concat(), 2, 8384),
            ([&[0xb4, 5][..], &body(5)].concat(), 13, 5),
            ([&[0x99, 1, 0][..], &body(256)].concat(), 6, 256),
            ([&[0x8a, 0, 0, 0, 9][..], &body(9)].concat(), 2, 9),
        ];
        for (bytes, tag, length) in &samples {
            let packets = split(bytes, 1).unwrap();
            assert_eq!((packets[0].tag, packets[0].body.len()), (*tag, *length));
            assert_eq!(packets[0].whole, bytes);
            for cut in 1..bytes.len() {
                assert!(split(&bytes[..cut], 9).is_err(), "cut at {cut}");
            }
        }
        let all: Vec<u8> = samples.iter().flat_map(|sample| sample.0.clone()).collect();
        assert_eq!(split(&all, 7).unwrap().len(), 7);
        assert!(split(&all, 6).unwrap_err().text.contains("more than 6 packets"));
    }

    #[test]
    fn what_is_no_packet_is_refused_and_never_sizes_anything() {
        for bytes in [
            &[0x00][..],
            &[0x7f, 1, 1],
            &[0xc2],
            &[0xc2, 224, 1],
            &[0xc2, 254, 1],
            &[0xc2, 255, 0xff, 0xff, 0xff, 0xff],
            &[0x8a, 0xff, 0xff, 0xff, 0xff],
            &[0x8b, 1, 2, 3],
            &[0x99, 0xff, 0xff],
        ] {
            let refusal = split(bytes, 9).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::OpenPgpMalformed, "{bytes:02x?}");
        }
        assert_eq!(split(&[], 0).unwrap(), []);
    }
}
