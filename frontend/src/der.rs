//! Reads DER (X.690) without copying and without trusting a length.
//!
//! Only what certificates, CSRs and CRLs need. A CRL of a million entries is walked in place;
//! nothing here allocates.

/// Bytes are not the DER that was expected at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the expected DER structure: {expected}")]
pub struct NotDer {
    /// What should have stood there.
    pub expected: &'static str,
}

/// One element: its tag, its content, and the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The identifier octet; tags above 30 are not used by what is read here.
    pub tag: u8,
    /// The content octets.
    pub content: &'a [u8],
    /// Identifier, length and content octets.
    pub whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// A reader over the content.
    pub fn reader(&self) -> Reader<'a> {
        Reader::new(self.content)
    }
}

/// Takes elements one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub fn any(&mut self, expected: &'static str) -> Result<Element<'a>, NotDer> {
        let broken = NotDer { expected };
        let (&tag, after_tag) = self.rest.split_first().ok_or(broken)?;
        if tag & 0x1f == 0x1f {
            return Err(broken);
        }
        let (&first, after_first) = after_tag.split_first().ok_or(broken)?;
        let (length, content_start) = if first < 0x80 {
            (usize::from(first), 2)
        } else {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) || after_first.len() < count {
                return Err(broken);
            }
            let length =
                after_first[..count].iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
            // X.690 10.1: the fewest octets possible.
            let minimal = if count == 1 { 0x80 } else { 1 << (8 * (count - 1)) };
            if length < minimal {
                return Err(broken);
            }
            (length, 2 + count)
        };
        let end = content_start.checked_add(length).ok_or(broken)?;
        let whole = self.rest.get(..end).ok_or(broken)?;
        self.rest = &self.rest[end..];
        Ok(Element { tag, content: &whole[content_start..], whole })
    }

    /// The next element, which must have this tag.
    pub fn expect(&mut self, tag: u8, expected: &'static str) -> Result<Element<'a>, NotDer> {
        self.optional(tag, expected)?.ok_or(NotDer { expected })
    }

    /// The next element if it has this tag.
    pub fn optional(
        &mut self,
        tag: u8,
        expected: &'static str,
    ) -> Result<Option<Element<'a>>, NotDer> {
        if self.rest.first() == Some(&tag) { self.any(expected).map(Some) } else { Ok(None) }
    }

    /// Nothing may be left.
    pub fn finish(&self, expected: &'static str) -> Result<(), NotDer> {
        if self.is_empty() { Ok(()) } else { Err(NotDer { expected }) }
    }
}

/// BOOLEAN
pub const BOOLEAN: u8 = 0x01;
/// INTEGER
pub const INTEGER: u8 = 0x02;
/// BIT STRING
pub const BIT_STRING: u8 = 0x03;
/// OCTET STRING
pub const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// UTF8String
pub const UTF8_STRING: u8 = 0x0c;
/// UTCTime
pub const UTC_TIME: u8 = 0x17;
/// GeneralizedTime
pub const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE
pub const SEQUENCE: u8 = 0x30;
/// SET
pub const SET: u8 = 0x31;

/// The constructed context-specific tag `[number]`.
pub const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The primitive context-specific tag `[number]`.
pub const fn context_primitive(number: u8) -> u8 {
    0x80 | number
}

/// One extension (RFC 5280 4.1.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The content octets of its object identifier.
    pub oid: &'a [u8],
    /// Whether who does not know it must refuse.
    pub critical: bool,
    /// What the octet string holds.
    pub value: &'a [u8],
}

/// The extensions in the content of a SEQUENCE OF Extension.
pub fn extensions<'a>(mut list: Reader<'a>) -> Result<Vec<Extension<'a>>, NotDer> {
    let mut found = Vec::new();
    while !list.is_empty() {
        if found.len() >= EXTENSIONS_MAX {
            return Err(NotDer { expected: "at most 64 extensions" });
        }
        let mut fields = list.expect(SEQUENCE, "an extension")?.reader();
        let oid = fields.expect(OBJECT_IDENTIFIER, "an extension's identifier")?.content;
        let critical = match fields.optional(BOOLEAN, "an extension's criticality")? {
            Some(flag) => flag.content == [0xff],
            None => false,
        };
        let value = fields.expect(OCTET_STRING, "an extension's value")?.content;
        fields.finish("the end of an extension")?;
        found.push(Extension { oid, critical, value });
    }
    Ok(found)
}

/// More extensions than any certificate in use; a bound for what one object may cost.
const EXTENSIONS_MAX: usize = 64;

/// Seconds since 1970-01-01 UTC of a Time (RFC 5280 4.1.2.5: always with seconds, always `Z`).
pub fn unix_time(time: &Element<'_>) -> Result<i64, NotDer> {
    let broken = NotDer { expected: "a time as RFC 5280 writes it" };
    let (digits, years) = match time.tag {
        UTC_TIME => (13, 2),
        GENERALIZED_TIME => (15, 4),
        _ => return Err(broken),
    };
    let text = time.content;
    if text.len() != digits || text[digits - 1] != b'Z' {
        return Err(broken);
    }
    if !text[..digits - 1].iter().all(u8::is_ascii_digit) {
        return Err(broken);
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    };
    let year = match (years, number(0, years)) {
        (2, short) if short >= 50 => 1900 + short,
        (2, short) => 2000 + short,
        (_, full) => full,
    };
    let field = |index: usize| number(years + 2 * index, years + 2 * index + 2);
    let (month, day, hour, minute, second) = (field(0), field(1), field(2), field(3), field(4));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(broken);
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(broken);
    }
    let days = crate::clock::days_from_civil(year, month, day);
    Ok(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_taken_in_order_and_nothing_else_is_left() {
        let bytes = [0x30, 0x06, 0x02, 0x01, 0x05, 0x04, 0x01, 0xff];
        let mut reader = Reader::new(&bytes);
        let mut inner = reader.expect(SEQUENCE, "a sequence").unwrap().reader();
        assert_eq!(inner.expect(INTEGER, "a number").unwrap().content, [5]);
        assert_eq!(inner.optional(INTEGER, "a number").unwrap(), None);
        assert!(inner.finish("the end").is_err());
        assert_eq!(inner.expect(OCTET_STRING, "octets").unwrap().content, [0xff]);
        assert!(inner.finish("the end").is_ok() && reader.is_empty());
    }

    #[test]
    fn long_and_false_lengths_are_refused() {
        for bytes in [
            &[0x30, 0x81, 0x7f][..],               // not the shortest form
            &[0x30, 0x82, 0x00, 0xff],             // leading zero
            &[0x30, 0x80, 0x00, 0x00],             // indefinite
            &[0x30, 0x85, 1, 1, 1, 1, 1],          // five length octets
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], // 4 GiB claimed
            &[0x30, 0x02, 0x00],                   // one byte short
            &[0x30],
            &[],
            &[0x3f, 0x01, 0x00],
        ] {
            assert!(Reader::new(bytes).any("anything").is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn times_are_read_as_rfc_5280_writes_them() {
        let element = |tag, content| Element { tag, content, whole: content };
        assert_eq!(unix_time(&element(UTC_TIME, b"700101000000Z")), Ok(0));
        assert_eq!(unix_time(&element(UTC_TIME, b"491231235959Z")), Ok(2_524_607_999));
        assert_eq!(unix_time(&element(UTC_TIME, b"500101000000Z")), Ok(-631_152_000));
        assert_eq!(unix_time(&element(GENERALIZED_TIME, b"20500101000000Z")), Ok(2_524_608_000));
        for wrong in [&b"7001010000Z"[..], b"700101000000+", b"701301000000Z", b"70010100000aZ"] {
            assert!(unix_time(&element(UTC_TIME, wrong)).is_err());
        }
    }
}
