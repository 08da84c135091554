//! The names of requests, authorities, profiles, certificates and contents.
//!
//! Each is checked when it is made, by us or from a peer's bytes; a [`Name`] is a file name too.
//! // on the wire

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::bounded::Bytes;

/// A request's name for its whole life: a UUID version 7 (RFC 9562), made by the frontend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// The id with these octets.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's octets.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request id is 32 hexadecimal digits in the form 8-4-4-4-12")]
pub struct NotARequestId;

impl FromStr for RequestId {
    type Err = NotARequestId;

    fn from_str(text: &str) -> Result<Self, NotARequestId> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let value = parse_hex(&digits).ok_or(NotARequestId)?;
        Ok(Self(value.try_into().map_err(|_| NotARequestId)?))
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(openssl::sha::sha256(bytes))
    }

    /// The digest with these octets.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest's octets.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of an authority or a profile: lower-case letters, digits and inner hyphens, at most
/// 64; it is also a file name, so nothing else can be one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// A text is not a name of an authority or a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 64 lower-case letters, digits and hyphens, and no hyphen at its ends")]
pub struct NotAName;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edges = text.starts_with('-') || text.ends_with('-');
        if text.is_empty() || text.len() > 64 || edges || !text.chars().all(known) {
            return Err(NotAName);
        }
        Ok(Self(text))
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A certificate's serial number as its content octets: 1 to 20, positive, no redundant leading
/// zero octet (RFC 5280 4.1.2.2, X.690 8.3.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bytes<20>", into = "Bytes<20>")]
pub struct Serial(Vec<u8>);

/// Octets or a text are not a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is positive and has 1 to 20 octets (RFC 5280 4.1.2.2)")]
pub struct NotASerial;

impl Serial {
    /// The serial with this big-endian magnitude; leading zero octets are dropped.
    pub fn from_magnitude(magnitude: &[u8]) -> Result<Self, NotASerial> {
        let start = magnitude.iter().position(|byte| *byte != 0).ok_or(NotASerial)?;
        let mut octets = magnitude[start..].to_vec();
        if octets[0] & 0x80 != 0 {
            octets.insert(0, 0);
        }
        if octets.len() > 20 {
            return Err(NotASerial);
        }
        Ok(Self(octets))
    }

    /// The content octets of the DER INTEGER.
    pub fn as_octets(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Bytes<20>> for Serial {
    type Error = NotASerial;

    fn try_from(octets: Bytes<20>) -> Result<Self, NotASerial> {
        let serial = Self::from_magnitude(&octets)?;
        // Only the canonical form, so that equal serials are equal bytes.
        if serial.0 != *octets { Err(NotASerial) } else { Ok(serial) }
    }
}

impl From<Serial> for Bytes<20> {
    fn from(serial: Serial) -> Self {
        serial.0.try_into().expect("a serial has at most 20 octets")
    }
}

/// Upper-case hexadecimal without a sign octet, an even number of digits: openssl's form.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = if self.0[0] == 0 { &self.0[1..] } else { &self.0[..] };
        magnitude.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = NotASerial;

    /// Hexadecimal digits, colons allowed, an optional `0x` in front.
    fn from_str(text: &str) -> Result<Self, NotASerial> {
        let text = text.strip_prefix("0x").unwrap_or(text);
        let mut digits: String = text.chars().filter(|c| *c != ':').collect();
        if digits.len() % 2 == 1 {
            digits.insert(0, '0');
        }
        Self::from_magnitude(&parse_hex(&digits).ok_or(NotASerial)?)
    }
}

fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || digits.len() % 2 == 1 || !digits.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}
