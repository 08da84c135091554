//! Reads a subject as people write it on a command line, and shows one.
//!
//! Two forms: `/C=DE/O=x/CN=y`, as openssl takes it, and `C=DE,O=x,CN=y` with the escapes of
//! RFC 4514. Both are kept in the order in which they are written, left to right; RFC 4514's own
//! reversal is not applied, so what is written first comes first in the certificate. Nothing here
//! knows which attributes a profile takes.

use protocol::{
    bounded::{Text, TooLong},
    message::{Attribute, AttributeType, Subject},
};

/// A text is not a subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASubject {
    /// There is no attribute in it.
    #[error("the subject is empty; write `/C=DE/O=Example/CN=name` or `C=DE,O=Example,CN=name`")]
    Empty,
    /// A part has no `=`.
    #[error("`{0}` in the subject is no TYPE=value; escape `/`, `,` and `+` in values with `\\`")]
    NoType(String),
    /// The type before the `=` is not one that can be asked for.
    #[error("`{0}` is no subject attribute that can be asked for; known are {known}", known = known_types())]
    UnknownType(String),
    /// The value is empty.
    #[error("the subject attribute `{0}` has no value; leave it out instead")]
    NoValue(String),
    /// The value is too long, or there are too many attributes.
    #[error("the subject is too long: {0}")]
    TooLong(#[from] TooLong),
    /// An escape at the end, or one that gives no UTF-8.
    #[error("a `\\` escape in the subject gives no UTF-8 character")]
    BadEscape,
    /// The form `#04…` of RFC 4514.
    #[error("`#` with hexadecimal BER is not taken; write the value itself, `\\#` for a leading #")]
    Hexadecimal,
    /// Several attributes in one RDN.
    #[error("each RDN holds one attribute; write `\\+` for a plus sign, `,` between attributes")]
    MultiValued,
}

/// The subject in `text`, outermost RDN first, exactly in the order written.
pub fn parse(text: &str) -> Result<Subject, NotASubject> {
    let slashes = text.starts_with('/');
    let parts = match text.strip_prefix('/') {
        Some(rest) => split(rest, &['/'])?,
        None => split(text, &[',', ';'])?,
    };
    if text.trim().is_empty() || parts.iter().all(|part| part.is_empty()) {
        return Err(NotASubject::Empty);
    }
    let attributes =
        parts.iter().map(|part| attribute(part, slashes)).collect::<Result<Vec<_>, _>>()?;
    Ok(attributes.try_into()?)
}

/// The attribute of type `name` with this value, which is taken as it is.
pub fn attribute_of(name: &str, value: &str) -> Result<Attribute, NotASubject> {
    let kind = attribute_type(name).ok_or_else(|| NotASubject::UnknownType(name.to_owned()))?;
    if value.is_empty() {
        return Err(NotASubject::NoValue(name.to_owned()));
    }
    Ok(Attribute { kind, value: Text::try_from(value)? })
}

/// `subject` in the form with slashes, as [`parse`] reads it.
pub fn show(subject: &Subject) -> String {
    let mut text = String::new();
    for attribute in subject.iter() {
        let value = attribute.value.replace('\\', "\\\\").replace('/', "\\/");
        text.push_str(&format!("/{}={value}", attribute.kind.short_name()));
    }
    text
}

/// One character, and whether a backslash stood before it.
type Character = (char, bool);

/// Resolves the escapes and cuts at each unescaped separator.
fn split(text: &str, separators: &[char]) -> Result<Vec<Vec<Character>>, NotASubject> {
    let mut parts = vec![Vec::new()];
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '\\' {
            let escaped = unescape(&mut rest)?;
            last(&mut parts).push((escaped, true));
        } else if separators.contains(&character) {
            parts.push(Vec::new());
        } else {
            last(&mut parts).push((character, false));
        }
    }
    Ok(parts)
}

fn last(parts: &mut [Vec<Character>]) -> &mut Vec<Character> {
    parts.last_mut().expect("the list starts with one part and only grows")
}

/// RFC 4514 2.4: `\` before a special character, or `\` HEX HEX for each octet of UTF-8.
fn unescape(rest: &mut std::str::Chars<'_>) -> Result<char, NotASubject> {
    let first = rest.clone().next().ok_or(NotASubject::BadEscape)?;
    let Some(octet) = hex_pair(rest.as_str()) else {
        rest.next();
        return Ok(first);
    };
    let mut octets = vec![octet];
    rest.nth(1);
    // UTF-8 has at most four octets in a character.
    while octets.len() < 4 && std::str::from_utf8(&octets).is_err() {
        let next = rest.as_str().strip_prefix('\\').and_then(hex_pair);
        octets.push(next.ok_or(NotASubject::BadEscape)?);
        rest.nth(2);
    }
    let text = std::str::from_utf8(&octets).map_err(|_| NotASubject::BadEscape)?;
    text.chars().next().ok_or(NotASubject::BadEscape)
}

fn hex_pair(text: &str) -> Option<u8> {
    let pair = text.get(..2).filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(pair, 16).ok()
}

fn attribute(part: &[Character], slashes: bool) -> Result<Attribute, NotASubject> {
    let plain = || part.iter().map(|(character, _)| character).collect::<String>();
    let equals = part.iter().position(|character| *character == ('=', false));
    let (name, value) = part.split_at(equals.ok_or_else(|| NotASubject::NoType(plain()))?);
    let name: String = name.iter().map(|(character, _)| character).collect();
    let name = name.trim();
    let kind = attribute_type(name).ok_or_else(|| NotASubject::UnknownType(name.to_owned()))?;
    let mut value = &value[1..];
    if !slashes {
        // RFC 4514: spaces around a value count only when escaped.
        while let [(' ', false), rest @ ..] = value {
            value = rest;
        }
        while let [rest @ .., (' ', false)] = value {
            value = rest;
        }
        if value.first() == Some(&('#', false)) {
            return Err(NotASubject::Hexadecimal);
        }
        if value.contains(&('+', false)) {
            return Err(NotASubject::MultiValued);
        }
    }
    if value.is_empty() {
        return Err(NotASubject::NoValue(name.to_owned()));
    }
    let value: String = value.iter().map(|(character, _)| character).collect();
    Ok(Attribute { kind, value: Text::try_from(value)? })
}

/// openssl's short names, RFC 4514's and the long ones, in any case, and dotted identifiers.
fn attribute_type(name: &str) -> Option<AttributeType> {
    AttributeType::from_short_name(name).or_else(|| AttributeType::from_oid(name)).or_else(|| {
        let row = LONG_NAMES.iter().find(|row| row.0.eq_ignore_ascii_case(name));
        row.map(|row| row.1)
    })
}

fn known_types() -> String {
    AttributeType::TABLE.map(|row| row.1).join(", ")
}

const LONG_NAMES: [(&str, AttributeType); 14] = [
    ("commonName", AttributeType::CommonName),
    ("countryName", AttributeType::CountryName),
    ("stateOrProvinceName", AttributeType::StateOrProvinceName),
    ("S", AttributeType::StateOrProvinceName),
    ("localityName", AttributeType::LocalityName),
    ("organizationName", AttributeType::OrganizationName),
    ("organizationalUnitName", AttributeType::OrganizationalUnitName),
    ("email", AttributeType::EmailAddress),
    ("E", AttributeType::EmailAddress),
    ("domainComponent", AttributeType::DomainComponent),
    ("givenName", AttributeType::GivenName),
    ("surname", AttributeType::Surname),
    ("streetAddress", AttributeType::StreetAddress),
    ("userId", AttributeType::UserId),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<(&'static str, String)>, NotASubject> {
        let subject = parse(text)?;
        Ok(subject.iter().map(|a| (a.kind.short_name(), a.value.to_string())).collect())
    }

    fn owned(rows: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        rows.iter().map(|row| (row.0, row.1.to_owned())).collect()
    }

    #[test]
    fn both_forms_keep_the_written_order() {
        let expected = owned(&[("C", "DE"), ("O", "Example e.V."), ("CN", "host.example")]);
        assert_eq!(pairs("/C=DE/O=Example e.V./CN=host.example").unwrap(), expected);
        assert_eq!(pairs("C=DE,O=Example e.V.,CN=host.example").unwrap(), expected);
        assert_eq!(pairs("C=DE , O = Example e.V. ; 2.5.4.3=host.example").unwrap(), expected);
        let reversed = owned(&[("CN", "y"), ("O", "x"), ("C", "DE")]);
        assert_eq!(pairs("CN=y,O=x,C=DE").unwrap(), reversed);
    }

    #[test]
    fn escapes_and_utf_8_arrive_as_characters() {
        assert_eq!(
            pairs(r"/O=a\/b/CN=x=y,z+w").unwrap(),
            owned(&[("O", "a/b"), ("CN", "x=y,z+w")])
        );
        assert_eq!(
            pairs(r"O=a\,b\+c,CN=\ lead\ ").unwrap(),
            owned(&[("O", "a,b+c"), ("CN", " lead ")])
        );
        let umlaut = owned(&[("CN", "Jürgen Groß 北京")]);
        assert_eq!(pairs("/CN=Jürgen Groß 北京").unwrap(), umlaut);
        assert_eq!(pairs(r"CN=J\C3\BCrgen Gro\C3\9F \E5\8C\97京").unwrap(), umlaut);
        assert_eq!(pairs(r"CN=\#1").unwrap(), owned(&[("CN", "#1")]));
    }

    #[test]
    fn what_is_no_subject_says_why() {
        for (text, error) in [
            ("", NotASubject::Empty),
            ("/", NotASubject::Empty),
            ("/CN=a/b", NotASubject::NoType("b".to_owned())),
            ("/CN=a/XY=b", NotASubject::UnknownType("XY".to_owned())),
            ("/CN=", NotASubject::NoValue("CN".to_owned())),
            ("CN=a+O=b", NotASubject::MultiValued),
            ("CN=#0403", NotASubject::Hexadecimal),
            (r"CN=a\", NotASubject::BadEscape),
            (r"CN=a\C3", NotASubject::BadEscape),
            (r"CN=a\C3x", NotASubject::BadEscape),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
        assert!(matches!(parse(&format!("/CN={}", "x".repeat(257))), Err(NotASubject::TooLong(_))));
        assert!(matches!(parse(&"/CN=x".repeat(33)), Err(NotASubject::TooLong(_))));
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let subject = parse(r"/O=a\/b\\c/CN=Zoë").unwrap();
        assert_eq!(parse(&show(&subject)).unwrap(), subject);
    }
}
