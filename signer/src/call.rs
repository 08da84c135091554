//! The small typed calls that are all the vault hears from the gate.
//!
//! Nothing in a call is DER or OpenPGP that the vault would have to parse with care: the intake
//! has turned it into plain values. A call can ask; only the vault decides.

use protocol::{
    bounded::{List, Text},
    message::{
        ACKNOWLEDGE_MAX, Answer, CatalogueQuery, Digest, FetchCrl, FetchLog, GeneralName,
        NAMES_MAX, Name, RefusalCode, RequestId, Revoke, RevokeOpenPgp, Subject, TimeHint,
    },
};
use serde::{Deserialize, Serialize};

use crate::intake::{csr::VettedCsr, openpgp::VettedOpenPgp};

/// The longest text of a call, as long as that of an answer: the gate may be captured, and the
/// vault keeps these for good.
const TEXT_MAX: usize = 1024;

/// A call or a reply with the number that pairs them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tagged<T> {
    /// Chosen by the gate, repeated by the vault.
    pub tag: u64,
    /// The call or reply.
    pub body: T,
}

/// From the gate to the vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Call {
    /// Was this request answered before?
    Known {
        /// The request.
        id: RequestId,
        /// The digest of its body.
        digest: Digest,
    },
    /// A certificate for a vetted CSR.
    Issue(Box<Issue>),
    /// Certifications for a vetted OpenPGP key.
    Certify(Box<Certify>),
    /// A revocation.
    Revoke {
        /// The request's digest.
        digest: Digest,
        /// What is asked for.
        revoke: Revoke,
    },
    /// Certifications of an OpenPGP key are to be taken back.
    RevokeOpenPgp {
        /// The request's digest.
        digest: Digest,
        /// What is asked for.
        revoke: RevokeOpenPgp,
    },
    /// The intake refused the request.
    Refuse {
        /// The request.
        id: RequestId,
        /// The digest of its body.
        digest: Digest,
        /// By which rule.
        code: RefusalCode,
        /// In words.
        text: Text<TEXT_MAX>,
    },
    /// The request broke the intake.
    Quarantine {
        /// The request.
        id: RequestId,
        /// The digest of its body.
        digest: Digest,
        /// What happened.
        text: Text<TEXT_MAX>,
    },
    /// A piece of a CRL.
    FetchCrl(FetchCrl),
    /// A piece of the audit log.
    FetchLog(FetchLog),
    /// The frontend's clock.
    TimeHint {
        /// The hint.
        hint: TimeHint,
        /// The link's own measure of a round trip.
        round_trip_us: Option<u32>,
    },
    /// The authorities; and the highest serials that the frontend has seen.
    Catalogue(CatalogueQuery),
    /// The signer's health.
    Status,
    /// Answers that the frontend has stored. No reply.
    Acknowledge(List<RequestId, ACKNOWLEDGE_MAX>),
    /// The cable came up or went down. No reply.
    Link {
        /// Whether a frontend is there.
        up: bool,
        /// For the operator.
        text: Text<TEXT_MAX>,
    },
}

impl Call {
    /// The request that a call is about, with the digest of its body.
    pub fn request(&self) -> Option<(RequestId, Digest)> {
        match self {
            Self::Known { id, digest }
            | Self::Refuse { id, digest, .. }
            | Self::Quarantine { id, digest, .. } => Some((*id, *digest)),
            Self::Issue(issue) => Some((issue.id, issue.digest)),
            Self::Certify(certify) => Some((certify.id, certify.digest)),
            Self::Revoke { digest, revoke } => Some((revoke.id, *digest)),
            Self::RevokeOpenPgp { digest, revoke } => Some((revoke.id, *digest)),
            Self::FetchCrl(_)
            | Self::FetchLog(_)
            | Self::TimeHint { .. }
            | Self::Catalogue(_)
            | Self::Status
            | Self::Acknowledge(_)
            | Self::Link { .. } => None,
        }
    }

    /// Whether it can change the ledger within its batch.
    pub fn writes(&self) -> bool {
        match self {
            Self::Known { .. } => false,
            Self::Acknowledge(_) => true,
            other => other.request().is_some(),
        }
    }
}

/// Asks for a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Issue {
    /// The request.
    pub id: RequestId,
    /// The digest of its body.
    pub digest: Digest,
    /// Who signs.
    pub authority: Name,
    /// By which profile.
    pub profile: Name,
    /// The validity, if wished.
    pub days: Option<u32>,
    /// The subject; absent means the CSR's.
    pub subject: Option<Subject>,
    /// The names; absent means the CSR's.
    pub subject_alt_names: Option<List<GeneralName, NAMES_MAX>>,
    /// What the intake found.
    pub csr: VettedCsr,
}

/// Asks for OpenPGP certifications.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certify {
    /// The request.
    pub id: RequestId,
    /// The digest of its body.
    pub digest: Digest,
    /// Who certifies.
    pub authority: Name,
    /// By which policy; absent means its default.
    pub policy: Option<Name>,
    /// The validity, if wished.
    pub days: Option<u32>,
    /// Whether to certify anew what is certified and still valid.
    pub renew: bool,
    /// What the intake found.
    pub key: VettedOpenPgp,
}

/// From the vault to the gate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The request was never seen: have it vetted.
    Unknown,
    /// Nothing can be signed at present; the frontend asks again by itself.
    NotNow,
    /// Tell the frontend.
    Answer(Answer),
}
