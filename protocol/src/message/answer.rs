//! From the signer to the frontend. // on the wire
//!
//! The frontend believes none of it before it has checked it.

use serde::{Deserialize, Serialize};

use super::{
    AUTHORITIES_MAX, CERTIFICATE_MAX, CrlScope, Digest, Lane, Message, Name,
    OPENPGP_AUTHORITIES_MAX, OpenPgpEntry, PIECE_MAX, PROFILES_MAX, RefusalCode, RequestId,
};
use crate::{
    bounded::{Bytes, List, Text},
    codec::{self, CodecError},
};

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
        /// Which of its CRLs.
        scope: CrlScope,
    },
    /// A piece of a packed CRL.
    CrlPiece(CrlPiece),
    /// There is no CRL of that name.
    CrlUnknown {
        /// Whose CRL was asked for.
        authority: Name,
        /// Which of its CRLs.
        scope: CrlScope,
    },
    /// A piece of the audit log.
    LogPiece(LogPiece),
    /// The entry that the frontend remembers is not in the signer's audit log: the log was cut, or
    /// another stands in its place.
    LogDiffers {
        /// The number of the log's last entry.
        last: u64,
        /// That entry's hash.
        head: Digest,
    },
    /// Certifications of an OpenPGP key are taken back.
    CertificationRevoked {
        /// For which request.
        id: RequestId,
        /// When, in seconds since 1970-01-01 UTC: the time in the signatures.
        revoked_at: i64,
        /// The primary key and each user ID whose certification is taken back, with its
        /// self-signature and our revocation signature, binary: to be merged with what is there.
        certificate: Bytes<CERTIFICATE_MAX>,
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
    /// The OpenPGP authorities.
    pub openpgp: List<OpenPgpEntry, OPENPGP_AUTHORITIES_MAX>,
}

impl Catalogue {
    /// The digest that [`super::CatalogueQuery::have`] names.
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
    /// Whether it signs delta CRLs beside the full one.
    pub delta_crl: bool,
    /// How many shards its certificates are divided among; 0 where none.
    pub crl_shards: u16,
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
    /// The types of subject alternative name that it takes: `dns`, `ip`, `email`, `uri`, `xmpp`.
    pub name_types: List<Text<8>, 8>,
    /// Whether subjects are certified exactly as asked for; else attributes may be left out or
    /// stand in another order, but none is added or changed.
    pub subject_as_asked: bool,
}

/// A piece of a packed CRL; [`crate::patch`] says how it is packed. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlPiece {
    /// Whose CRL.
    pub authority: Name,
    /// Which of its CRLs.
    pub scope: CrlScope,
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

/// A piece of the signer's audit log. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    /// The number of the entry that the piece begins in.
    pub first: u64,
    /// Where in that entry.
    pub offset: u64,
    /// Entries as the signer keeps them, a line feed behind each; the last one may go on in the
    /// next piece. Empty if there is nothing newer.
    pub bytes: Bytes<PIECE_MAX>,
    /// The number of the log's last entry.
    pub last: u64,
    /// That entry's hash.
    pub head: Digest,
}

impl Message for Answer {
    const ASKS: bool = false;

    fn lane(&self) -> Lane {
        match self {
            Self::TimeHintTaken { .. } | Self::Status(_) | Self::CatalogueUnchanged => {
                Lane::Control
            }
            Self::Revoked { .. }
            | Self::CertificationRevoked { .. }
            | Self::CrlUnchanged { .. }
            | Self::CrlUnknown { .. } => Lane::Revocation,
            Self::Issued { .. }
            | Self::Certified { .. }
            | Self::Refused { .. }
            | Self::Quarantined { .. }
            | Self::Held { .. } => Lane::Signing,
            Self::CrlPiece(piece) if piece.packed_length <= SMALL_CRL_MAX => Lane::Revocation,
            Self::CrlPiece(_)
            | Self::Catalogue(_)
            | Self::LogPiece(_)
            | Self::LogDiffers { .. } => Lane::Bulk,
        }
    }

    fn request_id(&self) -> Option<RequestId> {
        match self {
            Self::Issued { id, .. }
            | Self::Certified { id, .. }
            | Self::Revoked { id, .. }
            | Self::CertificationRevoked { id, .. }
            | Self::Refused { id, .. }
            | Self::Quarantined { id, .. }
            | Self::Held { id, .. } => Some(*id),
            Self::TimeHintTaken { .. }
            | Self::Status(_)
            | Self::CatalogueUnchanged
            | Self::Catalogue(_)
            | Self::CrlUnchanged { .. }
            | Self::CrlPiece(_)
            | Self::CrlUnknown { .. }
            | Self::LogPiece(_)
            | Self::LogDiffers { .. } => None,
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
            Self::LogPiece(_) => 13,
            Self::LogDiffers { .. } => 14,
            Self::CertificationRevoked { .. } => 15,
        }
    }
}

/// A packed CRL up to this size travels with the revocations: 0.7 s at 115,200 baud.
const SMALL_CRL_MAX: u64 = 8 * 1024;
