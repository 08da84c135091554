//! What the two ends say to each other, and every size bound.
//!
//! A [`Request`] travels from the frontend to the signer, an [`Answer`] back. All types here are
//! on the wire: changing one changes the golden bytes in `tests/golden` and needs a new protocol
//! version once version 1 is frozen. Nothing here decides anything.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    bounded::{Bytes, List, Text},
    codec::{self, CodecError},
};

/// The longest encoded message: the largest field plus what surrounds it.
pub const MESSAGE_MAX: usize = 128 * 1024;
/// What a message may claim while it is decoded. The codec counts a length or a tag as the eight
/// bytes that it has in memory, not as the one that it has on the wire.
const DECODED_MAX: usize = 4 * MESSAGE_MAX;
/// The longest CSR. The largest seen in practice, RSA-16384 with 100 names, has under 10 KiB.
pub const CSR_MAX: usize = 64 * 1024;
/// The longest OpenPGP key, after the frontend dropped what nobody certifies.
pub const OPENPGP_KEY_MAX: usize = 96 * 1024;
/// The longest certificate, X.509 or OpenPGP.
pub const CERTIFICATE_MAX: usize = 96 * 1024;
/// One piece of a CRL: 2.8 s at 115,200 baud, so a cut costs no more than that.
pub const PIECE_MAX: usize = 32 * 1024;
/// Names in one certificate; CA/B practice stops at 100.
pub const NAMES_MAX: usize = 128;
/// Attributes in one subject.
pub const ATTRIBUTES_MAX: usize = 32;
/// Authorities of one signer.
pub const AUTHORITIES_MAX: usize = 64;
/// Profiles of one authority.
pub const PROFILES_MAX: usize = 64;
/// Requests acknowledged in one message.
pub const ACKNOWLEDGE_MAX: usize = 64;

const _: () = assert!(CSR_MAX < MESSAGE_MAX);
const _: () = assert!(OPENPGP_KEY_MAX + NAMES_MAX * 256 <= MESSAGE_MAX);
const _: () = assert!(CERTIFICATE_MAX < MESSAGE_MAX);
const _: () = assert!(PIECE_MAX < MESSAGE_MAX);

//------------ Priorities ----------------------------------------------------

/// The priority classes of the cable, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Time, health, catalogue digests: small and periodic.
    Control,
    /// Revocations and small CRL patches.
    Revocation,
    /// CSRs, OpenPGP keys, and what comes back for them.
    Signing,
    /// Full CRLs and logs; yields to all others.
    Bulk,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Revocation, Self::Signing, Self::Bulk];
}

/// What the session needs to know about a message to carry it well.
pub trait Message: Serialize + DeserializeOwned {
    /// The lane it travels on.
    fn lane(&self) -> Lane;
    /// The request it belongs to, if any: the other end holds that request's bytes already.
    fn request_id(&self) -> Option<RequestId>;
    /// Messages with the same number are alike, so the last one is a good patch reference.
    fn kind(&self) -> u8;

    /// The message's bytes.
    fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    /// The message in `bytes`, if they are exactly one message within the bounds.
    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode::<Self, DECODED_MAX>(bytes)
    }
}

//------------ Identifiers ---------------------------------------------------

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

//------------ Names in certificates -----------------------------------------

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
}

impl GeneralName {
    /// The type's name in requests and profiles.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Ip4(_) | Self::Ip6(_) => "ip",
            Self::Email(_) => "email",
            Self::Uri(_) => "uri",
        }
    }
}

/// A text is not a subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAGeneralName {
    /// The part before the colon is missing or unknown.
    #[error("a subject alternative name is dns:NAME, ip:ADDR, email:ADDR or uri:URI")]
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

//------------ Request -------------------------------------------------------

/// From the frontend to the signer. // on the wire
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// What time the frontend believes it is; sent with every exchange.
    TimeHint(TimeHint),
    /// How the signer is.
    Status,
    /// Which authorities and profiles there are; opens every session.
    Catalogue(CatalogueQuery),
    /// A certificate for a CSR.
    Issue(IssueCertificate),
    /// A certification of an OpenPGP key.
    Certify(CertifyOpenPgp),
    /// A revocation.
    Revoke(Revoke),
    /// A piece of the newest CRL.
    FetchCrl(FetchCrl),
    /// The answers to these requests are stored at the frontend.
    Acknowledge(List<RequestId, ACKNOWLEDGE_MAX>),
}

/// The frontend's clock. // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeHint {
    /// Microseconds since 1970-01-01 UTC when the hint was handed to the session.
    pub unix_us: i64,
    /// How long the previous hint's answer took, if there was one.
    pub round_trip_us: Option<u32>,
    /// Whether the frontend's own clock says that it is synchronised (NTP).
    pub synchronised: bool,
}

/// Opens a session: what the frontend knows of the signer. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueQuery {
    /// The digest of the catalogue that the frontend holds.
    pub have: Option<Digest>,
    /// The highest serial counters the frontend has seen, so that a signer restored from an old
    /// backup never repeats one.
    pub serial_high: List<SerialHigh, AUTHORITIES_MAX>,
}

/// The highest serial counter seen from an authority. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialHigh {
    /// The authority.
    pub authority: Name,
    /// The first 8 octets of the 16-octet serial, as a number.
    pub counter: u64,
}

/// Asks for a certificate. // on the wire
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssueCertificate {
    /// The request's name.
    pub id: RequestId,
    /// Who signs.
    pub authority: Name,
    /// By which profile.
    pub profile: Name,
    /// How long, in days; absent means the profile's default.
    pub days: Option<u32>,
    /// The subject; absent means the CSR's.
    pub subject: Option<Subject>,
    /// The subject alternative names; absent means the CSR's.
    pub subject_alt_names: Option<List<GeneralName, NAMES_MAX>>,
    /// PKCS #10 (RFC 2986), DER.
    pub csr: Bytes<CSR_MAX>,
}

/// Asks for certifications of an OpenPGP key's user IDs. // on the wire
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertifyOpenPgp {
    /// The request's name.
    pub id: RequestId,
    /// The user IDs that were verified, exactly as in the key.
    pub user_ids: List<Text<256>, NAMES_MAX>,
    /// How long, in days; absent means the signer's default.
    pub days: Option<u32>,
    /// One transferable public key (RFC 9580 10.1), binary.
    pub key: Bytes<OPENPGP_KEY_MAX>,
}

/// Asks for a revocation. // on the wire
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revoke {
    /// The request's name.
    pub id: RequestId,
    /// Who issued the certificate.
    pub authority: Name,
    /// Which certificate.
    pub serial: Serial,
    /// Why.
    pub reason: RevocationReason,
}

/// Asks for a piece of the newest CRL, packed against the CRL that the frontend holds.
/// // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchCrl {
    /// Whose CRL.
    pub authority: Name,
    /// The digest of the CRL that the frontend holds.
    pub have: Option<Digest>,
    /// The transfer to go on with: the packed digest and the offset of the next piece.
    pub resume: Option<(Digest, u64)>,
}

//------------ Answer --------------------------------------------------------

/// From the signer to the frontend. // on the wire
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// A time hint arrived.
    TimeHintTaken {
        /// The signer's own clock, microseconds since 1970-01-01 UTC.
        unix_us: i64,
    },
    /// How the signer is.
    Status(SignerStatus),
    /// The catalogue that the frontend holds is current.
    CatalogueUnchanged,
    /// The authorities and their profiles.
    Catalogue(Catalogue),
    /// A certificate.
    Issued {
        /// For which request.
        id: RequestId,
        /// X.509, DER.
        certificate: Bytes<CERTIFICATE_MAX>,
    },
    /// A certified OpenPGP key.
    Certified {
        /// For which request.
        id: RequestId,
        /// The minimal transferable public key with our certifications, binary.
        certificate: Bytes<CERTIFICATE_MAX>,
    },
    /// A revocation is recorded and will be in every later CRL.
    Revoked {
        /// For which request.
        id: RequestId,
        /// When, in seconds since 1970-01-01 UTC: the CRL entry's date.
        revoked_at: i64,
    },
    /// The rules say no; asking again without a change gives the same answer.
    Refused {
        /// For which request.
        id: RequestId,
        /// Which rule.
        code: RefusalCode,
        /// What, where and what to do, for a person.
        text: Text<1024>,
    },
    /// The request broke the signer's intake and was set aside; others go on.
    Quarantined {
        /// For which request.
        id: RequestId,
        /// What happened, for a person.
        text: Text<1024>,
    },
    /// A person must approve the request at the signer's console; ask again later.
    Held {
        /// For which request.
        id: RequestId,
        /// The number to tell that person.
        ticket: u64,
    },
    /// The CRL that the frontend holds is the newest.
    CrlUnchanged {
        /// Whose CRL.
        authority: Name,
    },
    /// A piece of a packed CRL.
    CrlPiece(CrlPiece),
    /// There is no CRL of that name.
    CrlUnknown {
        /// Whose CRL was asked for.
        authority: Name,
    },
}

/// The signer's health. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerStatus {
    /// The program's version.
    pub version: Text<64>,
    /// Seconds since the signer started.
    pub uptime_s: u64,
    /// Certificates issued since the ledger began.
    pub issued: u64,
    /// Requests that wait for a person.
    pub held: u64,
    /// Sentences that an operator should read.
    pub warnings: List<Text<256>, 16>,
}

/// Everything the frontend needs to refuse early and to check answers. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// The X.509 authorities.
    pub authorities: List<AuthorityEntry, AUTHORITIES_MAX>,
    /// The signer's OpenPGP certificate, binary, if it has one.
    pub openpgp: Option<Bytes<CERTIFICATE_MAX>>,
}

impl Catalogue {
    /// The digest that [`CatalogueQuery::have`] names.
    pub fn digest(&self) -> Result<Digest, CodecError> {
        Ok(Digest::of(&codec::encode(self)?))
    }
}

/// One authority. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityEntry {
    /// Its name in requests.
    pub name: Name,
    /// Its certificate, DER.
    pub certificate: Bytes<8192>,
    /// The issuers above it up to the root, nearest first, DER; empty for a root.
    pub chain: List<Bytes<8192>, 8>,
    /// What it issues.
    pub profiles: List<ProfileEntry, PROFILES_MAX>,
}

/// One profile, as far as the frontend may know it. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileEntry {
    /// Its name in requests.
    pub name: Name,
    /// Whether only the signer's console can use it.
    pub console_only: bool,
    /// The validity without a wish, in days.
    pub days_default: u32,
    /// The longest validity at present, in days.
    pub days_max: u32,
    /// The types of subject alternative name that it takes: `dns`, `ip`, `email`, `uri`.
    pub name_types: List<Text<8>, 8>,
}

/// A piece of a packed CRL; [`crate::patch`] says how it is packed. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlPiece {
    /// Whose CRL.
    pub authority: Name,
    /// The CRL number (RFC 5280 5.2.3).
    pub crl_number: u64,
    /// The digest of the CRL, to compare after unpacking.
    pub crl_digest: Digest,
    /// The length of the CRL.
    pub crl_length: u64,
    /// The digest of the packed bytes: the name of this transfer.
    pub packed_digest: Digest,
    /// The length of the packed bytes.
    pub packed_length: u64,
    /// Where this piece starts.
    pub offset: u64,
    /// The piece.
    pub bytes: Bytes<PIECE_MAX>,
}

/// Why the rules said no. The names are public: scripts and runbooks rely on them.
/// // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalCode {
    /// The CSR cannot be parsed.
    CsrMalformed,
    /// The CSR's signature does not prove possession of the key.
    CsrSignature,
    /// The CSR's signature uses a digest that is not accepted.
    CsrDigest,
    /// The CSR asks to be a CA.
    CsrAsksCa,
    /// The key is too small, of the wrong kind, or known to be weak.
    KeyWeak,
    /// The profile does not take this kind of key.
    KeyKind,
    /// No authority has this name.
    AuthorityUnknown,
    /// The authority signs only on a person's direct command.
    AuthorityManual,
    /// The authority has no such profile.
    ProfileUnknown,
    /// The profile is for the console only.
    ProfileConsoleOnly,
    /// The validity asked for is zero or past the cap.
    Validity,
    /// The subject breaks the profile's rules.
    SubjectRule,
    /// A subject alternative name breaks the profile's rules.
    NameRule,
    /// The TBS certificate did not pass the check before signing.
    Lint,
    /// The id was used before with another body.
    RequestReused,
    /// The authority never issued this serial.
    SerialUnknown,
    /// The bytes are not one OpenPGP certificate.
    OpenPgpMalformed,
    /// The upload holds secret key material.
    OpenPgpSecret,
    /// The OpenPGP key is revoked, expired or too weak.
    OpenPgpKey,
    /// A user ID that was asked for is not validly in the key, or none was asked for.
    OpenPgpUserId,
    /// The signer has no OpenPGP key.
    OpenPgpUnavailable,
    /// A person at the console said no.
    Denied,
}

impl RefusalCode {
    /// Every code with its public name and what a person can do.
    pub const TABLE: [(Self, &'static str, &'static str); 22] = [
        (Self::CsrMalformed, "csr-malformed", "make the CSR anew, PKCS #10 in PEM or DER"),
        (Self::CsrSignature, "csr-signature", "sign the CSR with the key it names"),
        (Self::CsrDigest, "csr-digest", "sign the CSR with SHA-256 or better"),
        (Self::CsrAsksCa, "csr-asks-ca", "leave basicConstraints CA:TRUE out of the CSR"),
        (Self::KeyWeak, "key-weak", "make a new key: RSA of 2048 bits or more, or P-256/384/521"),
        (Self::KeyKind, "key-kind", "use a kind of key that the profile takes"),
        (Self::AuthorityUnknown, "authority-unknown", "ask one of the catalogue's authorities"),
        (Self::AuthorityManual, "authority-manual", "ask an issuing authority, not a root"),
        (Self::ProfileUnknown, "profile-unknown", "ask one of the authority's profiles"),
        (
            Self::ProfileConsoleOnly,
            "profile-console-only",
            "have an administrator do it at the signer's console",
        ),
        (Self::Validity, "validity", "ask for fewer days, at least one"),
        (Self::SubjectRule, "subject-rule", "change the subject as the text says"),
        (Self::NameRule, "name-rule", "change the subject alternative names as the text says"),
        (Self::Lint, "lint", "report it: the profile lets through what the standards forbid"),
        (Self::RequestReused, "request-reused", "use a new id for a new request"),
        (Self::SerialUnknown, "serial-unknown", "check the serial and the authority"),
        (Self::OpenPgpMalformed, "openpgp-malformed", "export exactly one public key"),
        (Self::OpenPgpSecret, "openpgp-secret", "upload the public key only; revoke this one"),
        (Self::OpenPgpKey, "openpgp-key", "use a key that is valid and strong"),
        (Self::OpenPgpUserId, "openpgp-user-id", "name user IDs exactly as in the key"),
        (Self::OpenPgpUnavailable, "openpgp-unavailable", "run `signer openpgp create` first"),
        (Self::Denied, "denied", "ask the person who denied it"),
    ];

    /// The public name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What a person can do about it.
    pub fn remedy(self) -> &'static str {
        self.row().2
    }

    /// The code with this public name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        Self::TABLE.iter().find(|row| row.0 == self).expect("every variant has a row")
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//------------ What the session needs ----------------------------------------

impl Request {
    /// The digest that ties a request id to one body: SHA-256 of the encoding.
    pub fn digest(&self) -> Result<Digest, CodecError> {
        Ok(Digest::of(&self.to_bytes()?))
    }
}

impl Message for Request {
    fn lane(&self) -> Lane {
        match self {
            Self::TimeHint(_) | Self::Status | Self::Catalogue(_) => Lane::Control,
            Self::Revoke(_) | Self::FetchCrl(_) => Lane::Revocation,
            Self::Issue(_) | Self::Certify(_) | Self::Acknowledge(_) => Lane::Signing,
        }
    }

    fn request_id(&self) -> Option<RequestId> {
        match self {
            Self::Issue(request) => Some(request.id),
            Self::Certify(request) => Some(request.id),
            Self::Revoke(request) => Some(request.id),
            Self::TimeHint(_)
            | Self::Status
            | Self::Catalogue(_)
            | Self::FetchCrl(_)
            | Self::Acknowledge(_) => None,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::TimeHint(_) => 0,
            Self::Status => 1,
            Self::Catalogue(_) => 2,
            Self::Issue(_) => 3,
            Self::Certify(_) => 4,
            Self::Revoke(_) => 5,
            Self::FetchCrl(_) => 6,
            Self::Acknowledge(_) => 7,
        }
    }
}

impl Message for Answer {
    fn lane(&self) -> Lane {
        match self {
            Self::TimeHintTaken { .. } | Self::Status(_) | Self::CatalogueUnchanged => {
                Lane::Control
            }
            Self::Revoked { .. } | Self::CrlUnchanged { .. } | Self::CrlUnknown { .. } => {
                Lane::Revocation
            }
            Self::Issued { .. }
            | Self::Certified { .. }
            | Self::Refused { .. }
            | Self::Quarantined { .. }
            | Self::Held { .. } => Lane::Signing,
            Self::CrlPiece(piece) if piece.packed_length <= SMALL_CRL_MAX => Lane::Revocation,
            Self::CrlPiece(_) | Self::Catalogue(_) => Lane::Bulk,
        }
    }

    fn request_id(&self) -> Option<RequestId> {
        match self {
            Self::Issued { id, .. }
            | Self::Certified { id, .. }
            | Self::Revoked { id, .. }
            | Self::Refused { id, .. }
            | Self::Quarantined { id, .. }
            | Self::Held { id, .. } => Some(*id),
            Self::TimeHintTaken { .. }
            | Self::Status(_)
            | Self::CatalogueUnchanged
            | Self::Catalogue(_)
            | Self::CrlUnchanged { .. }
            | Self::CrlPiece(_)
            | Self::CrlUnknown { .. } => None,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::TimeHintTaken { .. } => 0,
            Self::Status(_) => 1,
            Self::CatalogueUnchanged => 2,
            Self::Catalogue(_) => 3,
            Self::Issued { .. } => 4,
            Self::Certified { .. } => 5,
            Self::Revoked { .. } => 6,
            Self::Refused { .. } => 7,
            Self::Quarantined { .. } => 8,
            Self::Held { .. } => 9,
            Self::CrlUnchanged { .. } => 10,
            Self::CrlPiece(_) => 11,
            Self::CrlUnknown { .. } => 12,
        }
    }
}

/// A packed CRL up to this size travels with the revocations: 0.7 s at 115,200 baud.
const SMALL_CRL_MAX: u64 = 8 * 1024;
