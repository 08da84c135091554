//! Text from strangers: ASN.1 strings to UTF-8, and the characters that no name may hold.
//!
//! What a person approves must be what the certificate says, so characters that cannot be seen or
//! that reorder what is seen are refused, never dropped.

use crate::intake::der::{Element, tag};

/// Why a string cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextError {
    #[error("is of string type 0x{0:02x}, which no name may have (RFC 5280 4.1.2.4)")]
    Type(u8),
    #[error("has bytes that its string type does not allow")]
    Content,
    #[error("has the unprintable character U+{0:04X}")]
    Unprintable(u32),
    #[error("is empty")]
    Empty,
}

/// The text of a DirectoryString (RFC 5280 4.1.2.4) or IA5String. Control: `text-decodes`.
pub(crate) fn of_string(element: &Element<'_>) -> Result<String, TextError> {
    let octets = element.content;
    let text = match element.tag {
        tag::UTF8_STRING => std::str::from_utf8(octets).ok().map(str::to_owned),
        // Wider than PrintableString's own alphabet: `*`, `@` and `_` in it are a common mistake,
        // and the certificate gets the text in another string type anyway.
        tag::PRINTABLE_STRING | tag::IA5_STRING => {
            octets.is_ascii().then(|| octets.iter().map(|octet| char::from(*octet)).collect())
        }
        // T.61 proper is used by nobody; everybody, OpenSSL too, means Latin-1.
        tag::T61_STRING => Some(octets.iter().map(|octet| char::from(*octet)).collect()),
        // Basic plane only: the halves of a pair are no characters, so they are refused here.
        tag::BMP_STRING => wide(octets, |unit: [u8; 2]| u32::from(u16::from_be_bytes(unit))),
        tag::UNIVERSAL_STRING => wide(octets, u32::from_be_bytes),
        other => return Err(TextError::Type(other)),
    };
    let text = text.ok_or(TextError::Content)?;
    check_printable(&text)?;
    Ok(text)
}

/// Control: `text-printable`.
pub(crate) fn check_printable(text: &str) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    match text.chars().find(|c| is_unprintable(*c)) {
        Some(found) => Err(TextError::Unprintable(found.into())),
        None => Ok(()),
    }
}

/// Control characters, line and paragraph separators, changes of direction, the byte order mark
/// and what is no character at all. Joiners (U+200C, U+200D) are part of some scripts and stay.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{fdd0}'..='\u{fdef}'
                | '\u{e0000}'..='\u{e007f}'
        )
        || u32::from(c) & 0xfffe == 0xfffe
}

fn wide<const N: usize>(octets: &[u8], unit: fn([u8; N]) -> u32) -> Option<String> {
    let (units, rest) = octets.as_chunks::<N>();
    if !rest.is_empty() {
        return None;
    }
    units.iter().map(|octets| char::from_u32(unit(*octets))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tag: u8, content: &[u8]) -> Result<String, TextError> {
        of_string(&Element { tag, content, whole: content })
    }

    #[test]
    fn text_decodes_every_string_type_to_utf8() {
        let name = "Zoë Çelik";
        let latin: Vec<u8> = name.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let bmp: Vec<u8> = name.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let universal: Vec<u8> = name.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        assert_eq!(text(tag::UTF8_STRING, name.as_bytes()).unwrap(), name);
        assert_eq!(text(tag::T61_STRING, &latin).unwrap(), name);
        assert_eq!(text(tag::BMP_STRING, &bmp).unwrap(), name);
        assert_eq!(text(tag::UNIVERSAL_STRING, &universal).unwrap(), name);
        assert_eq!(text(tag::PRINTABLE_STRING, b"*.example.org").unwrap(), "*.example.org");
        assert_eq!(text(tag::IA5_STRING, b"a@example.org").unwrap(), "a@example.org");
    }

    #[test]
    fn text_decodes_refuses_what_the_string_type_does_not_allow() {
        for (tag, content) in [
            (tag::UTF8_STRING, &[0xff, 0x41][..]),
            (tag::UTF8_STRING, &[0xc0, 0x80]),       // overlong NUL
            (tag::UTF8_STRING, &[0xed, 0xa0, 0x80]), // half of a surrogate pair
            (tag::PRINTABLE_STRING, &[0xe9]),
            (tag::IA5_STRING, &[0x80]),
            (tag::BMP_STRING, &[0x00, 0x41, 0x00]),
            (tag::BMP_STRING, &[0xd8, 0x3d, 0xde, 0x00]), // a surrogate pair
            (tag::UNIVERSAL_STRING, &[0x00, 0x11, 0x00, 0x00]),
        ] {
            assert_eq!(text(tag, content), Err(TextError::Content), "{content:02x?}");
        }
        assert_eq!(text(tag::OCTET_STRING, b"x"), Err(TextError::Type(tag::OCTET_STRING)));
        assert_eq!(text(tag::UTF8_STRING, b""), Err(TextError::Empty));
    }

    #[test]
    fn text_printable_refuses_controls_and_what_reorders_the_line() {
        for bad in ["www.bank.org\0.evil.org", "a\nb", "a\u{7f}", "a\u{85}", "\u{202e}gro.knab"] {
            assert!(matches!(check_printable(bad), Err(TextError::Unprintable(_))), "{bad:?}");
        }
        for bad in ["\u{200b}a", "\u{feff}a", "a\u{fffe}", "a\u{10ffff}", "a\u{e0041}"] {
            assert!(matches!(check_printable(bad), Err(TextError::Unprintable(_))), "{bad:?}");
        }
        for good in ["Łódź", "東京", "Ümit Ünal <u@example.org>", "نام‌ها", "🔑"] {
            assert_eq!(check_printable(good), Ok(()), "{good}");
        }
    }
}
