//! What the two ends say to each other, and every size bound.
//!
//! A [`Request`] travels from the frontend to the signer, an [`Answer`] back. All types here are
//! on the wire: changing one changes the golden bytes in `tests/golden` and needs a new protocol
//! version: version 1 is frozen. Nothing here decides anything.

use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{self, CodecError};

mod answer;
mod identifier;
mod name;
mod openpgp;
mod refusal;
mod request;

pub use answer::{
    Answer, AuthorityEntry, Catalogue, CrlPiece, LogPiece, ProfileEntry, SignerStatus,
};
pub use identifier::{Digest, Name, NotAName, NotARequestId, NotASerial, RequestId, Serial};
pub use name::{Attribute, AttributeType, GeneralName, NotAGeneralName, RevocationReason, Subject};
pub use openpgp::{
    ApprovedUserId, CertificationLevel, CertifyOpenPgp, DEFAULT_POLICY, OpenPgpEntry,
    OpenPgpPolicyEntry, OpenPgpReason, RevokeOpenPgp,
};
pub use refusal::RefusalCode;
pub use request::{
    CatalogueQuery, CrlScope, CsrForm, FetchCrl, FetchLog, IssueCertificate, Request, Revoke,
    SerialHigh, TimeHint,
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
/// User IDs in one request for an OpenPGP certification: keys of people have fewer than 20.
pub const USER_IDS_MAX: usize = 64;
/// What one approved user ID can have on the wire: its kind, a name and an address, each with its
/// length.
const USER_ID_LEN: usize = 1 + 1 + 128 + 3 + 254;
/// OpenPGP keys of one signer.
pub const OPENPGP_AUTHORITIES_MAX: usize = 8;
/// Policies of one OpenPGP authority.
pub const OPENPGP_POLICIES_MAX: usize = 16;
/// Attributes in one subject.
pub const ATTRIBUTES_MAX: usize = 32;
/// Authorities of one signer.
pub const AUTHORITIES_MAX: usize = 64;
/// Profiles of one authority.
pub const PROFILES_MAX: usize = 64;
/// Requests acknowledged in one message.
pub const ACKNOWLEDGE_MAX: usize = 64;

const _: () = assert!(CSR_MAX < MESSAGE_MAX);
// With the names and numbers around them.
const _: () = assert!(OPENPGP_KEY_MAX + USER_IDS_MAX * USER_ID_LEN + 1024 <= MESSAGE_MAX);
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
    /// Whether messages of this type ask, so that answers refer to them.
    const ASKS: bool;

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
