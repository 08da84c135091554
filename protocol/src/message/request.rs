//! From the frontend to the signer. // on the wire
//!
//! A request with an id means the same whenever it is sent: the signer answers it once.

use serde::{Deserialize, Serialize};

use super::{
    ACKNOWLEDGE_MAX, AUTHORITIES_MAX, CSR_MAX, CertifyOpenPgp, Digest, GeneralName, Lane, Message,
    NAMES_MAX, Name, RequestId, RevocationReason, RevokeOpenPgp, Serial, Subject,
};
use crate::{
    bounded::{Bytes, List},
    codec::CodecError,
};

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
    /// A piece of the signer's audit log.
    FetchLog(FetchLog),
    /// Certifications of an OpenPGP key taken back.
    RevokeOpenPgp(RevokeOpenPgp),
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
    /// In which form the key and its possession are shown.
    pub form: CsrForm,
    /// The CSR, DER.
    pub csr: Bytes<CSR_MAX>,
}

/// The forms of a CSR: declared, never guessed from the bytes. // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CsrForm {
    /// PKCS #10 (RFC 2986).
    Pkcs10,
    /// A browser's SignedPublicKeyAndChallenge. It has no names: they come from the request.
    Spkac,
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
    /// Which of its CRLs.
    pub scope: CrlScope,
    /// The digest of the CRL that the frontend holds.
    pub have: Option<Digest>,
    /// The transfer to go on with: the packed digest and the offset of the next piece.
    pub resume: Option<(Digest, u64)>,
}

/// Which certificates a CRL of an authority speaks for. // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CrlScope {
    /// All of them.
    Full,
    /// All of them, as changes since a full CRL (RFC 5280 5.2.4).
    Delta,
    /// Those that name this shard as their distribution point (RFC 5280 5.2.5).
    Shard(u16),
}

/// Asks for the audit log from where the frontend's copy ends, and says what it remembers of it.
/// // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchLog {
    /// The number of the last whole entry that the frontend has; 0 before the first.
    pub after: u64,
    /// That entry's hash; absent before the first.
    pub head: Option<Digest>,
    /// How many bytes of the entry behind it the frontend has too.
    pub offset: u64,
}

impl Request {
    /// The digest that ties a request id to one body: SHA-256 of the encoding.
    pub fn digest(&self) -> Result<Digest, CodecError> {
        Ok(Digest::of(&self.to_bytes()?))
    }
}

impl Message for Request {
    const ASKS: bool = true;

    fn lane(&self) -> Lane {
        match self {
            Self::TimeHint(_) | Self::Status | Self::Catalogue(_) => Lane::Control,
            Self::Revoke(_) | Self::RevokeOpenPgp(_) | Self::FetchCrl(_) => Lane::Revocation,
            Self::Issue(_) | Self::Certify(_) | Self::Acknowledge(_) => Lane::Signing,
            Self::FetchLog(_) => Lane::Bulk,
        }
    }

    fn request_id(&self) -> Option<RequestId> {
        match self {
            Self::Issue(request) => Some(request.id),
            Self::Certify(request) => Some(request.id),
            Self::Revoke(request) => Some(request.id),
            Self::RevokeOpenPgp(request) => Some(request.id),
            Self::TimeHint(_)
            | Self::Status
            | Self::Catalogue(_)
            | Self::FetchCrl(_)
            | Self::Acknowledge(_)
            | Self::FetchLog(_) => None,
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
            Self::FetchLog(_) => 8,
            Self::RevokeOpenPgp(_) => 9,
        }
    }
}
