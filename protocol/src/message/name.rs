//! Subjects, subject alternative names and revocation reasons.
//!
//! Whether a name may be certified is the profile's matter, not decided here. // on the wire

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::ATTRIBUTES_MAX;
use crate::bounded::{List, Text};

/// The subject attributes that may be asked for (RFC 5280 4.1.2.4, RFC 4519).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AttributeType {
    /// `CN`
    CommonName,
    /// `C`
    CountryName,
    /// `ST`
    StateOrProvinceName,
    /// `L`
    LocalityName,
    /// `O`
    OrganizationName,
    /// `OU`
    OrganizationalUnitName,
    /// `emailAddress` (PKCS #9)
    EmailAddress,
    /// `serialNumber`
    SerialNumber,
    /// `DC`
    DomainComponent,
    /// `GN`
    GivenName,
    /// `SN`
    Surname,
    /// `title`
    Title,
    /// `street`
    StreetAddress,
    /// `postalCode`
    PostalCode,
    /// `UID`
    UserId,
}

impl AttributeType {
    /// Every attribute type, with openssl's short name and its object identifier.
    pub const TABLE: [(Self, &'static str, &'static str); 15] = [
        (Self::CommonName, "CN", "2.5.4.3"),
        (Self::CountryName, "C", "2.5.4.6"),
        (Self::StateOrProvinceName, "ST", "2.5.4.8"),
        (Self::LocalityName, "L", "2.5.4.7"),
        (Self::OrganizationName, "O", "2.5.4.10"),
        (Self::OrganizationalUnitName, "OU", "2.5.4.11"),
        (Self::EmailAddress, "emailAddress", "1.2.840.113549.1.9.1"),
        (Self::SerialNumber, "serialNumber", "2.5.4.5"),
        (Self::DomainComponent, "DC", "0.9.2342.19200300.100.1.25"),
        (Self::GivenName, "GN", "2.5.4.42"),
        (Self::Surname, "SN", "2.5.4.4"),
        (Self::Title, "title", "2.5.4.12"),
        (Self::StreetAddress, "street", "2.5.4.9"),
        (Self::PostalCode, "postalCode", "2.5.4.17"),
        (Self::UserId, "UID", "0.9.2342.19200300.100.1.1"),
    ];

    /// openssl's short name.
    pub fn short_name(self) -> &'static str {
        self.row().1
    }

    /// The object identifier in dotted form.
    pub fn oid(self) -> &'static str {
        self.row().2
    }

    /// The attribute type with this short name, in any case.
    pub fn from_short_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// The attribute type with this object identifier in dotted form.
    pub fn from_oid(oid: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.2 == oid).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        Self::TABLE.iter().find(|row| row.0 == self).expect("every variant has a row")
    }
}

/// One attribute of a subject; every RDN holds one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attribute {
    /// Which attribute.
    pub kind: AttributeType,
    /// Its value, UTF-8.
    pub value: Text<256>,
}

/// A subject, outermost RDN first.
pub type Subject = List<Attribute, ATTRIBUTES_MAX>;

/// A subject alternative name (RFC 5280 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GeneralName {
    /// `dNSName`, as an A-label.
    Dns(Text<253>),
    /// `iPAddress`, version 4.
    Ip4([u8; 4]),
    /// `iPAddress`, version 6.
    Ip6([u8; 16]),
    /// `rfc822Name`
    Email(Text<320>),
    /// `uniformResourceIdentifier`
    Uri(Text<1024>),
    /// `otherName` with `id-on-xmppAddr` (RFC 6120 13.7.1.4): an XMPP address.
    Xmpp(Text<320>),
}

impl GeneralName {
    /// The type's name in requests and profiles.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Ip4(_) | Self::Ip6(_) => "ip",
            Self::Email(_) => "email",
            Self::Uri(_) => "uri",
            Self::Xmpp(_) => "xmpp",
        }
    }
}

/// A text is not a subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAGeneralName {
    /// The part before the colon is missing or unknown.
    #[error("a subject alternative name is dns:NAME, ip:ADDR, email:ADDR, uri:URI or xmpp:ADDR")]
    UnknownType,
    /// The address after `ip:` is none.
    #[error("`{0}` is no IP address")]
    NotAnAddress(String),
    /// The value has no characters, too many, or some outside printable ASCII.
    #[error("a {kind} name has 1 to {limit} printable ASCII characters (an A-label for IDN)")]
    BadValue {
        /// The type before the colon.
        kind: &'static str,
        /// How long the value may be.
        limit: usize,
    },
}

impl FromStr for GeneralName {
    type Err = NotAGeneralName;

    fn from_str(text: &str) -> Result<Self, NotAGeneralName> {
        fn ascii<const N: usize>(
            kind: &'static str,
            value: &str,
        ) -> Result<Text<N>, NotAGeneralName> {
            let printable = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic());
            Text::try_from(value)
                .ok()
                .filter(|_| printable)
                .ok_or(NotAGeneralName::BadValue { kind, limit: N })
        }

        let (kind, value) = text.split_once(':').ok_or(NotAGeneralName::UnknownType)?;
        match kind.to_ascii_lowercase().as_str() {
            "dns" => Ok(Self::Dns(ascii("dns", &value.to_ascii_lowercase())?)),
            "email" => Ok(Self::Email(ascii("email", value)?)),
            "uri" => Ok(Self::Uri(ascii("uri", value)?)),
            "xmpp" => Ok(Self::Xmpp(ascii("xmpp", value)?)),
            "ip" => match value.parse() {
                Ok(std::net::IpAddr::V4(address)) => Ok(Self::Ip4(address.octets())),
                Ok(std::net::IpAddr::V6(address)) => Ok(Self::Ip6(address.octets())),
                Err(_) => Err(NotAGeneralName::NotAnAddress(value.to_owned())),
            },
            _ => Err(NotAGeneralName::UnknownType),
        }
    }
}

/// The form that [`GeneralName::from_str`] reads.
impl fmt::Display for GeneralName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Ip4(octets) => write!(f, "ip:{}", std::net::Ipv4Addr::from(*octets)),
            Self::Ip6(octets) => write!(f, "ip:{}", std::net::Ipv6Addr::from(*octets)),
            Self::Email(address) => write!(f, "email:{address}"),
            Self::Uri(uri) => write!(f, "uri:{uri}"),
            Self::Xmpp(address) => write!(f, "xmpp:{address}"),
        }
    }
}

/// Why a certificate is revoked (RFC 5280 5.3.1). `certificateHold`, `removeFromCRL` and
/// `unspecified` are not asked for by name: an absent reason is `Unspecified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RevocationReason {
    /// 0, left out of the CRL entry
    Unspecified,
    /// 1
    KeyCompromise,
    /// 2
    CaCompromise,
    /// 3
    AffiliationChanged,
    /// 4
    Superseded,
    /// 5
    CessationOfOperation,
    /// 9
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// Every reason with its RFC 5280 name and code.
    pub const TABLE: [(Self, &'static str, u8); 7] = [
        (Self::Unspecified, "unspecified", 0),
        (Self::KeyCompromise, "keyCompromise", 1),
        (Self::CaCompromise, "CACompromise", 2),
        (Self::AffiliationChanged, "affiliationChanged", 3),
        (Self::Superseded, "superseded", 4),
        (Self::CessationOfOperation, "cessationOfOperation", 5),
        (Self::PrivilegeWithdrawn, "privilegeWithdrawn", 9),
    ];

    /// RFC 5280's name, as openssl writes it in `index.txt`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// RFC 5280's code.
    pub fn code(self) -> u8 {
        self.row().2
    }

    /// The reason with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, u8) {
        Self::TABLE.iter().find(|row| row.0 == self).expect("every variant has a row")
    }
}
