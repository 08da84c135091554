//! Writes DER (X.690), just what certificates and CRLs need.
//!
//! Every function returns one complete element. Nothing here parses; what we write is read back
//! by OpenSSL in [`crate::lint`] before it is signed.

use crate::calendar::UnixTime;

/// Universal and context tags used in certificates and CRLs.
pub mod tag {
    #![expect(missing_docs, reason = "the names are the standard's")]
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const NULL: u8 = 0x05;
    pub const OID: u8 = 0x06;
    pub const ENUMERATED: u8 = 0x0a;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const PRINTABLE_STRING: u8 = 0x13;
    pub const IA5_STRING: u8 = 0x16;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
}

/// The tag and length octets in front of `length` content octets.
pub fn header(tag: u8, length: usize) -> Vec<u8> {
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
        return out;
    }
    let octets = length.to_be_bytes();
    let start = octets.iter().position(|octet| *octet != 0).expect("length is at least 0x80");
    out.push(0x80 | (octets.len() - start) as u8);
    out.extend_from_slice(&octets[start..]);
    out
}

/// One element with this tag and content.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = header(tag, content.len());
    out.extend_from_slice(content);
    out
}

/// A constructed element around `parts`.
pub fn constructed(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = header(tag, parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// SEQUENCE
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    constructed(tag::SEQUENCE, parts)
}

/// `[number] EXPLICIT`
pub fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | number, content)
}

/// `[number] IMPLICIT` of a primitive type
pub fn implicit(number: u8, content: &[u8]) -> Vec<u8> {
    element(0x80 | number, content)
}

/// INTEGER from an unsigned number.
pub fn unsigned(number: u64) -> Vec<u8> {
    let octets = number.to_be_bytes();
    let start = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len() - 1);
    let mut content = octets[start..].to_vec();
    if content[0] & 0x80 != 0 {
        content.insert(0, 0);
    }
    element(tag::INTEGER, &content)
}

/// BOOLEAN TRUE; FALSE is always a default here and left out.
pub fn boolean_true() -> Vec<u8> {
    element(tag::BOOLEAN, &[0xff])
}

/// BIT STRING of whole octets.
pub fn bit_string(octets: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(octets.len() + 1);
    content.push(0);
    content.extend_from_slice(octets);
    element(tag::BIT_STRING, &content)
}

/// BIT STRING of named bits: bit `n` is set for every `n` in `bits`; trailing zeros are dropped
/// (X.690 11.2.2).
pub fn named_bits(bits: &[u8]) -> Vec<u8> {
    let Some(last) = bits.iter().max() else { return element(tag::BIT_STRING, &[0]) };
    let mut octets = vec![0u8; usize::from(*last) / 8 + 1];
    for bit in bits {
        octets[usize::from(*bit) / 8] |= 0x80 >> (bit % 8);
    }
    let mut content = vec![7 - last % 8];
    content.extend_from_slice(&octets);
    element(tag::BIT_STRING, &content)
}

/// OBJECT IDENTIFIER from its dotted form, or nothing if `dotted` is none.
pub fn oid(dotted: &str) -> Option<Vec<u8>> {
    let mut arcs = dotted.split('.').map(|arc| arc.parse::<u64>().ok());
    let (first, second) = (arcs.next()??, arcs.next()??);
    if first > 2 || (first < 2 && second > 39) || second > u64::MAX - 80 {
        return None;
    }
    let mut content = Vec::with_capacity(16);
    base128(&mut content, first * 40 + second);
    for arc in arcs {
        base128(&mut content, arc?);
    }
    Some(element(tag::OID, &content))
}

/// OBJECT IDENTIFIER from a dotted form written in this program's source.
pub fn known_oid(dotted: &'static str) -> Vec<u8> {
    oid(dotted).expect("a dotted form in the source is valid: its use is covered by a test")
}

fn base128(out: &mut Vec<u8>, value: u64) {
    let septets = (u64::BITS - value.leading_zeros()).div_ceil(7).max(1);
    for left in (0..septets).rev() {
        let more = if left > 0 { 0x80 } else { 0 };
        out.push(more | (value >> (7 * left) & 0x7f) as u8);
    }
}

/// Time as RFC 5280 4.1.2.5 wants it: UTCTime through 2049, GeneralizedTime from 2050.
pub fn time(time: UnixTime) -> Vec<u8> {
    let civil = time.civil();
    if (1950..2050).contains(&civil.year) {
        element(tag::UTC_TIME, civil.utc_time().as_bytes())
    } else {
        element(tag::GENERALIZED_TIME, civil.generalized_time().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(header(0x30, 0x7f), [0x30, 0x7f]);
        assert_eq!(header(0x30, 0x80), [0x30, 0x81, 0x80]);
        assert_eq!(header(0x30, 0x1234), [0x30, 0x82, 0x12, 0x34]);
    }

    #[test]
    fn integers_are_positive_and_minimal() {
        assert_eq!(unsigned(0), [2, 1, 0]);
        assert_eq!(unsigned(127), [2, 1, 127]);
        assert_eq!(unsigned(128), [2, 2, 0, 128]);
        assert_eq!(unsigned(u64::MAX), [2, 9, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn named_bits_drop_trailing_zeros() {
        assert_eq!(named_bits(&[0, 2]), [3, 2, 5, 0xa0]); // digitalSignature, keyEncipherment
        assert_eq!(named_bits(&[5, 6]), [3, 2, 1, 0x06]); // keyCertSign, cRLSign
        assert_eq!(named_bits(&[8]), [3, 3, 7, 0x00, 0x80]); // decipherOnly
        assert_eq!(named_bits(&[]), [3, 1, 0]);
    }

    #[test]
    fn object_identifiers_agree_with_openssl() {
        for dotted in ["2.5.4.3", "1.2.840.113549.1.1.11", "2.999.3", "0.9.2342.19200300.100.1.25"]
        {
            let content = openssl::asn1::Asn1Object::from_str(dotted).unwrap();
            assert_eq!(&oid(dotted).unwrap()[2..], content.as_slice(), "{dotted}");
        }
        for bad in ["", "1", "3.1", "1.40", "1.x", "1..2", "2.18446744073709551615"] {
            assert_eq!(oid(bad), None, "{bad}");
        }
    }

    #[test]
    fn time_switches_its_form_at_2050() {
        let last = UnixTime::from_civil(2049, 12, 31, 23, 59, 59);
        assert_eq!(time(last)[0], tag::UTC_TIME);
        assert_eq!(time(UnixTime(last.0 + 1))[0], tag::GENERALIZED_TIME);
    }
}
