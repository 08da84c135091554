//! A strict reader of DER (X.690 clause 10) for the few structures of a request.
//!
//! It borrows, never allocates by what a length claims, and has no recursion: each structure is
//! read by the function that knows it, so the depth is that of our own code. It must never grow
//! into a general ASN.1 parser.

use std::fmt::Write as _;

use protocol::message::RefusalCode;

use crate::refusal::Refusal;

/// The tags that a request can hold.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const T61_STRING: u8 = 0x14;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UNIVERSAL_STRING: u8 = 0x1c;
    pub(crate) const BMP_STRING: u8 = 0x1e;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// A context-specific constructed tag, `[n]`.
    pub(crate) const fn constructed(number: u8) -> u8 {
        0xa0 | number
    }

    /// A context-specific primitive tag, `[n] IMPLICIT` of a string.
    pub(crate) const fn primitive(number: u8) -> u8 {
        0x80 | number
    }
}

/// What is wrong with the encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DerError {
    #[error("{what} ends early")]
    Short { what: &'static str },
    #[error("{what} has tag 0x{found:02x} where 0x{expected:02x} belongs")]
    Tag { what: &'static str, expected: u8, found: u8 },
    #[error("{what} has a length that is not in DER's shortest form")]
    Length { what: &'static str },
    #[error("{what} is followed by {count} bytes that do not belong there")]
    Trailing { what: &'static str, count: usize },
    #[error("{what} has content that DER does not allow")]
    Content { what: &'static str },
}

/// What is not DER is no request, whatever it was meant to be.
impl From<DerError> for Refusal {
    fn from(error: DerError) -> Self {
        Self::new(RefusalCode::CsrMalformed, format!("the request is malformed: {error}"))
    }
}

/// One element: its tag, its content, and both with the length between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

/// Reads elements one after another; `what` names the structure in errors.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether the next element has `tag`; for optional fields.
    pub(crate) fn next_is(&self, tag: u8) -> bool {
        self.rest.first() == Some(&tag)
    }

    /// Ends the structure: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DerError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DerError::Trailing { what: self.what, count }),
        }
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Element<'a>, DerError> {
        let short = DerError::Short { what: self.what };
        let bad_length = DerError::Length { what: self.what };
        let [tag, first, ..] = *self.rest else { return Err(short) };
        // Tag numbers past 30 need more octets; nothing here has one.
        if tag & 0x1f == 0x1f {
            return Err(DerError::Content { what: self.what });
        }
        let (header, length) = match first {
            0..=0x7f => (2, usize::from(first)),
            // No request is longer than three length octets can say.
            0x81..=0x83 => {
                let count = usize::from(first & 0x7f);
                let octets = self.rest.get(2..2 + count).ok_or(short.clone())?;
                let length = octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet));
                if octets[0] == 0 || length < 0x80 {
                    return Err(bad_length);
                }
                (2 + count, length)
            }
            _ => return Err(bad_length),
        };
        let whole = self.rest.get(..header + length).ok_or(short)?;
        self.rest = &self.rest[header + length..];
        Ok(Element { tag, content: &whole[header..], whole })
    }

    /// The next element, which must have `tag`; `what` names it.
    pub(crate) fn element(&mut self, what: &'static str, tag: u8) -> Result<Element<'a>, DerError> {
        let Some(&found) = self.rest.first() else { return Err(DerError::Short { what }) };
        if found != tag {
            return Err(DerError::Tag { what, expected: tag, found });
        }
        self.what_for(what).any().inspect(|element| {
            self.rest = &self.rest[element.whole.len()..];
        })
    }

    /// A reader of the content of the next element, which must have `tag`.
    pub(crate) fn inner(&mut self, what: &'static str, tag: u8) -> Result<Self, DerError> {
        Ok(Self::new(what, self.element(what, tag)?.content))
    }

    /// An INTEGER of 0 to 65,535.
    pub(crate) fn small_integer(&mut self, what: &'static str) -> Result<u16, DerError> {
        match *self.element(what, tag::INTEGER)?.content {
            [low] if low < 0x80 => Ok(u16::from(low)),
            [high, low] if (1..0x80).contains(&high) || (high == 0 && low >= 0x80) => {
                Ok(u16::from_be_bytes([high, low]))
            }
            [0, high, low] if high >= 0x80 => Ok(u16::from_be_bytes([high, low])),
            _ => Err(DerError::Content { what }),
        }
    }

    /// The magnitude of an INTEGER above zero, without the sign octet.
    pub(crate) fn positive_integer(&mut self, what: &'static str) -> Result<&'a [u8], DerError> {
        match self.element(what, tag::INTEGER)?.content {
            [0, magnitude @ ..] if magnitude.first().is_some_and(|first| *first >= 0x80) => {
                Ok(magnitude)
            }
            magnitude @ [1..0x80, ..] => Ok(magnitude),
            _ => Err(DerError::Content { what }),
        }
    }

    /// A BOOLEAN; DER knows one octet for true (X.690 11.1).
    pub(crate) fn boolean(&mut self, what: &'static str) -> Result<bool, DerError> {
        match *self.element(what, tag::BOOLEAN)?.content {
            [0x00] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(DerError::Content { what }),
        }
    }

    /// `critical BOOLEAN DEFAULT FALSE` and its like: absent, or true (X.690 11.5).
    pub(crate) fn default_false(&mut self, what: &'static str) -> Result<bool, DerError> {
        if !self.next_is(tag::BOOLEAN) {
            return Ok(false);
        }
        match self.boolean(what)? {
            true => Ok(true),
            false => Err(DerError::Content { what }),
        }
    }

    /// An OBJECT IDENTIFIER in dotted form.
    pub(crate) fn oid(&mut self, what: &'static str) -> Result<String, DerError> {
        dotted(self.element(what, tag::OID)?.content).ok_or(DerError::Content { what })
    }

    /// The octets of a BIT STRING of whole octets.
    pub(crate) fn bit_string(&mut self, what: &'static str) -> Result<&'a [u8], DerError> {
        match self.element(what, tag::BIT_STRING)?.content {
            [0, octets @ ..] => Ok(octets),
            _ => Err(DerError::Content { what }),
        }
    }

    fn what_for(&self, what: &'static str) -> Self {
        Self { rest: self.rest, what }
    }
}

/// No arc that we know needs more than 32 bits; UUID arcs (2.25) are refused.
fn dotted(content: &[u8]) -> Option<String> {
    const CONTENT_MAX: usize = 64;
    if content.is_empty() || content.len() > CONTENT_MAX {
        return None;
    }
    // Most have no more; each comes with every certificate.
    let mut text = String::with_capacity(32);
    let mut arc: u32 = 0;
    let mut fresh = true;
    for octet in content {
        if fresh && *octet == 0x80 {
            return None; // a redundant leading septet
        }
        arc = arc.checked_mul(128)? | u32::from(octet & 0x7f);
        fresh = octet & 0x80 == 0;
        if fresh {
            let written = match (text.is_empty(), arc) {
                (true, 0..80) => write!(text, "{}.{}", arc / 40, arc % 40),
                (true, _) => write!(text, "2.{}", arc - 80),
                (false, _) => write!(text, ".{arc}"),
            };
            written.ok()?;
            arc = 0;
        }
    }
    fresh.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(bytes: &[u8]) -> Result<Element<'_>, DerError> {
        Reader::new("test", bytes).any()
    }

    #[test]
    fn element_is_read_with_short_and_long_length() {
        assert_eq!(any(&[0x04, 0x02, 1, 2]).unwrap().content, [1, 2]);
        let mut long = vec![0x04, 0x81, 0x80];
        long.resize(3 + 0x80, 9);
        assert_eq!(any(&long).unwrap().content.len(), 0x80);
        assert_eq!(any(&long).unwrap().whole, long);
    }

    #[test]
    fn length_in_any_but_the_shortest_form_is_refused() {
        for bytes in [
            &[0x04, 0x81, 0x02, 1, 2][..], // long form for a short length
            &[0x04, 0x82, 0x00, 0x02, 1, 2],
            &[0x30, 0x80, 0x00, 0x00], // indefinite
            &[0x04, 0x84, 0, 0, 0, 1, 0],
            &[0x04, 0xff, 0],
        ] {
            assert!(matches!(any(bytes), Err(DerError::Length { .. })), "{bytes:02x?}");
        }
    }

    #[test]
    fn claim_past_the_end_and_high_tags_are_refused() {
        for bytes in [&[][..], &[0x30], &[0x30, 1], &[0x30, 0x83, 0xff, 0xff, 0xff, 0]] {
            assert!(matches!(any(bytes), Err(DerError::Short { .. })), "{bytes:02x?}");
        }
        assert!(matches!(any(&[0x1f, 0x01, 0x00]), Err(DerError::Content { .. })));
    }

    #[test]
    fn oid_is_dotted_and_redundant_forms_are_refused() {
        let oid = |content: &[u8]| dotted(content);
        assert_eq!(oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]).unwrap(), "1.2.840.113549");
        assert_eq!(oid(&[0x55, 0x04, 0x03]).unwrap(), "2.5.4.3");
        assert_eq!(oid(&[0x88, 0x37]).unwrap(), "2.999");
        for bad in
            [&[][..], &[0x55, 0x80, 0x03], &[0x55, 0x84], &[0x55, 0xff, 0xff, 0xff, 0xff, 0x7f]]
        {
            assert_eq!(oid(bad), None, "{bad:02x?}");
        }
        assert_eq!(oid(&[0x55; 65]), None);
    }

    #[test]
    fn booleans_and_integers_have_one_form() {
        let default_false = |bytes: &[u8]| Reader::new("test", bytes).default_false("flag");
        assert_eq!(default_false(&[]), Ok(false));
        assert_eq!(default_false(&[1, 1, 0xff]), Ok(true));
        assert!(default_false(&[1, 1, 0x00]).is_err());
        assert!(default_false(&[1, 1, 0x01]).is_err());

        let integer = |bytes: &[u8]| Reader::new("test", bytes).small_integer("number");
        assert_eq!(integer(&[2, 1, 0]), Ok(0));
        assert_eq!(integer(&[2, 2, 0, 0x80]), Ok(128));
        assert_eq!(integer(&[2, 3, 0, 0xff, 0xff]), Ok(65535));
        for bad in [&[2, 0][..], &[2, 1, 0x80], &[2, 2, 0, 1], &[2, 3, 0, 0, 1], &[2, 3, 1, 0, 0]] {
            assert!(integer(bad).is_err(), "{bad:02x?}");
        }

        let positive =
            |bytes: &[u8]| Reader::new("test", bytes).positive_integer("n").map(<[u8]>::to_vec);
        assert_eq!(positive(&[2, 1, 0x7f]), Ok(vec![0x7f]));
        assert_eq!(positive(&[2, 2, 0, 0x80]), Ok(vec![0x80]));
        assert_eq!(positive(&[2, 2, 1, 0]), Ok(vec![1, 0]));
        for bad in [&[2, 0][..], &[2, 1, 0], &[2, 1, 0x80], &[2, 2, 0, 1], &[2, 3, 0, 0, 0x80]] {
            assert!(positive(bad).is_err(), "{bad:02x?}");
        }
    }
}
