//! Distinguished names: from text to attributes, to DER, to openssl's one-line form.
//!
//! Only single-valued RDNs of the known attribute types exist here (RFC 5280 4.1.2.4).

use protocol::{
    bounded::{List, Text},
    message::{Attribute, AttributeType, Subject},
};

use crate::{
    der::{self, tag},
    profile::Encoding,
};

/// A text is no distinguished name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A part has no `=`.
    #[error("`{0}` in the name has no `=`; write a name as /C=DE/O=Example/CN=Name")]
    NoEquals(String),
    /// An attribute type is not known.
    #[error("the name has an unknown attribute `{0}`; known are CN, C, ST, L, O, OU, DC, …")]
    UnknownType(String),
    /// A value is empty, too long or has control characters.
    #[error("the value of {0} is empty, over 256 bytes or has control characters")]
    BadValue(&'static str),
    /// There is no attribute, or there are too many.
    #[error("a name has 1 to 32 attributes")]
    Count,
}

/// Reads `/C=DE/O=Example/CN=Name` (openssl's form) or `C=DE, O=Example, CN=Name`; attributes
/// keep the order in which they are written. A backslash takes the next character literally.
pub fn parse(text: &str) -> Result<Subject, NameError> {
    let (separator, text) = match text.strip_prefix('/') {
        Some(rest) => ('/', rest),
        None => (',', text),
    };
    let mut attributes = Vec::new();
    for part in split_unescaped(text, separator) {
        let part = part.trim_start();
        let (kind, value) =
            part.split_once('=').ok_or_else(|| NameError::NoEquals(part.to_owned()))?;
        let kind = AttributeType::from_short_name(kind.trim())
            .ok_or_else(|| NameError::UnknownType(kind.to_owned()))?;
        attributes.push(attribute(kind, &unescape(value))?);
    }
    if attributes.is_empty() {
        return Err(NameError::Count);
    }
    List::try_from(attributes).map_err(|_| NameError::Count)
}

fn attribute(kind: AttributeType, value: &str) -> Result<Attribute, NameError> {
    let bad = NameError::BadValue(kind.short_name());
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(bad);
    }
    Ok(Attribute { kind, value: Text::try_from(value).map_err(|_| bad)? })
}

fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, character) in text.char_indices() {
        if !escaped && character == separator {
            parts.push(&text[start..index]);
            start = index + character.len_utf8();
        }
        escaped = !escaped && character == '\\';
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            other => out.push(other),
        }
    }
    out
}

/// The DER `Name`. `countryName` and `serialNumber` are PrintableString (RFC 5280 appendix A),
/// `domainComponent` and `emailAddress` IA5String, all else UTF8String.
pub fn to_der(subject: &[Attribute]) -> Vec<u8> {
    encode(subject, Encoding::Utf8)
}

/// The DER `Name` with the string types of `encoding` where there is a choice.
pub fn encode(subject: &[Attribute], encoding: Encoding) -> Vec<u8> {
    let rdns: Vec<Vec<u8>> = subject
        .iter()
        .map(|attribute| {
            let printable = attribute.value.bytes().all(is_printable_string);
            let tag = match string_tag(attribute.kind) {
                tag::UTF8_STRING if printable && encoding == Encoding::Printable => {
                    tag::PRINTABLE_STRING
                }
                tag => tag,
            };
            let value = der::element(tag, attribute.value.as_bytes());
            let pair = der::sequence(&[&der::known_oid(attribute.kind.oid()), &value]);
            der::element(tag::SET, &pair)
        })
        .collect();
    der::element(tag::SEQUENCE, &rdns.concat())
}

fn string_tag(kind: AttributeType) -> u8 {
    match kind {
        AttributeType::CountryName | AttributeType::SerialNumber => tag::PRINTABLE_STRING,
        AttributeType::DomainComponent | AttributeType::EmailAddress => tag::IA5_STRING,
        _ => tag::UTF8_STRING,
    }
}

/// Whether the value can be written in the string type that its attribute must have.
pub fn fits_its_type(attribute: &Attribute) -> bool {
    match string_tag(attribute.kind) {
        tag::PRINTABLE_STRING => attribute.value.bytes().all(is_printable_string),
        tag::IA5_STRING => attribute.value.is_ascii(),
        _ => true,
    }
}

/// X.680 41.4, table 10.
fn is_printable_string(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
}

/// openssl's one-line form as `index.txt` has it: bytes outside printable ASCII as `\xHH`, and a
/// backslash before what separates attributes.
pub fn one_line(subject: &[Attribute]) -> String {
    let mut out = String::new();
    for attribute in subject {
        out.push('/');
        out.push_str(attribute.kind.short_name());
        out.push('=');
        for byte in attribute.value.bytes() {
            match byte {
                b'/' | b'+' => out.extend(['\\', char::from(byte)]),
                b' '..=b'~' => out.push(char::from(byte)),
                _ => out.push_str(&format!("\\x{byte:02X}")),
            }
        }
    }
    out
}

/// The one-line form of a name that OpenSSL parsed, with readable characters; for people.
pub fn from_x509(name: &openssl::x509::X509NameRef) -> String {
    let mut out = String::new();
    for entry in name.entries() {
        let kind = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string().unwrap_or_else(|_| "?".to_owned());
        out.push_str(&format!("/{kind}={value}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use openssl::x509::{X509Name, X509NameBuilder};

    use super::*;

    #[test]
    fn both_written_forms_keep_their_order() {
        let slash = parse("/C=DE/O=A, B/CN=x\\/y").unwrap();
        let comma = parse("C=DE, O=A\\, B, CN=x/y").unwrap();
        assert_eq!(slash, comma);
        assert_eq!(one_line(&slash), "/C=DE/O=A, B/CN=x\\/y");
    }

    #[test]
    fn der_equals_what_openssl_writes() {
        let subject = parse("/C=DE/O=Größe/CN=a.example/emailAddress=a@b.example").unwrap();
        let mut builder = X509NameBuilder::new().unwrap();
        for attribute in subject.iter() {
            builder.append_entry_by_text(attribute.kind.short_name(), &attribute.value).unwrap();
        }
        let oracle: X509Name = builder.build();
        assert_eq!(to_der(&subject), oracle.to_der().unwrap());
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(parse("CN"), Err(NameError::NoEquals("CN".into())));
        assert_eq!(parse("/XX=1"), Err(NameError::UnknownType("XX".into())));
        assert_eq!(parse("/CN="), Err(NameError::BadValue("CN")));
        assert_eq!(parse("/CN=a\0b"), Err(NameError::BadValue("CN")));
    }

    #[test]
    fn one_line_escapes_like_openssl() {
        assert_eq!(one_line(&parse("/O=Größe").unwrap()), "/O=Gr\\xC3\\xB6\\xC3\\x9Fe");
    }
}
