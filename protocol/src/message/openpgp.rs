//! OpenPGP certification (RFC 9580): what is asked for, and what the catalogue says of it.
//! // on the wire
//!
//! [`crate::user_id`] says when a user ID of a key is one that was approved.

use serde::{Deserialize, Serialize};

use super::{Name, OPENPGP_KEY_MAX, OPENPGP_POLICIES_MAX, RequestId, USER_IDS_MAX};
use crate::bounded::{Bytes, List, Text};

/// Asks for certifications of an OpenPGP key's user IDs. // on the wire
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertifyOpenPgp {
    /// The request's name.
    pub id: RequestId,
    /// Which of the signer's OpenPGP authorities certifies.
    pub authority: Name,
    /// By which of its policies; absent means the one named [`DEFAULT_POLICY`].
    pub policy: Option<Name>,
    /// The user IDs that were verified. Each must be in the key, and nothing else is certified.
    pub user_ids: List<ApprovedUserId, USER_IDS_MAX>,
    /// How long, in days; absent means the policy's default.
    pub days: Option<u32>,
    /// Whether to certify anew what this authority has certified already and is still valid;
    /// without it the answer is the same as before.
    pub renew: bool,
    /// One transferable public key (RFC 9580 10.1), binary.
    pub key: Bytes<OPENPGP_KEY_MAX>,
}

/// The policy of a request that names none.
pub const DEFAULT_POLICY: &str = "default";

/// A user ID that was verified. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ApprovedUserId {
    /// The user ID of the key that is this text after normalisation.
    Exact(Text<256>),
    /// The user ID of the key that has this name and this address, and nothing else, after
    /// normalisation.
    Address {
        /// The name; empty where the user ID is the address alone.
        name: Text<128>,
        /// The address, as `local@domain`.
        address: Text<254>,
    },
}

/// Asks to take certifications back, with a certification revocation signature (RFC 9580 5.2.1,
/// type 0x30). // on the wire
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevokeOpenPgp {
    /// The request's name.
    pub id: RequestId,
    /// Which of the signer's OpenPGP authorities certified.
    pub authority: Name,
    /// The fingerprint of the certified key, upper-case hexadecimal without spaces.
    pub fingerprint: Text<64>,
    /// Which of its user IDs, as it was certified; absent means all that are certified.
    pub user_id: Option<Text<256>>,
    /// Why.
    pub reason: OpenPgpReason,
}

/// Why a certification is taken back (RFC 9580 5.2.3.31). // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OpenPgpReason {
    /// 0: nothing is said.
    Unspecified,
    /// 32: the user ID is no longer valid.
    UserIdInvalid,
}

impl OpenPgpReason {
    /// Every reason with its name and RFC 9580's code.
    pub const TABLE: [(Self, &'static str, u8); 2] =
        [(Self::Unspecified, "unspecified", 0), (Self::UserIdInvalid, "userIdInvalid", 32)];

    /// The name in requests and records.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// RFC 9580's code.
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

/// One of the signer's OpenPGP keys. // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPgpEntry {
    /// Its name in requests.
    pub name: Name,
    /// Its certificate, binary.
    pub certificate: Bytes<8192>,
    /// By which policies it certifies.
    pub policies: List<OpenPgpPolicyEntry, OPENPGP_POLICIES_MAX>,
}

/// One policy, as far as the frontend needs it to refuse early and to check answers.
/// // on the wire
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPgpPolicyEntry {
    /// Its name in requests.
    pub name: Name,
    /// What a certification says about the check of the user ID.
    pub level: CertificationLevel,
    /// The validity without a wish, in days.
    pub days_default: u32,
    /// The longest validity, in days.
    pub days_max: u32,
    /// The kinds of primary key that it takes: `rsa`, `ed25519`, `ed448`, `nistp256`, `nistp384`,
    /// `nistp521`, `brainpoolp256`, `brainpoolp384`, `brainpoolp512`.
    pub key_kinds: List<Text<16>, 16>,
    /// The fewest bits of an RSA key.
    pub rsa_bits_min: u16,
    /// Whether a key must have a part that can be encrypted to.
    pub needs_encryption: bool,
    /// The most user IDs in one request.
    pub user_ids_max: u16,
    /// Where the policy can be read; every certification says it.
    pub policy_uri: Option<Text<160>>,
    /// The name of the notation that holds the certification's serial number, as
    /// `serial@example.org`.
    pub serial_notation: Option<Text<128>>,
}

/// What a certification says about the check of the user ID (RFC 9580 5.2.1). // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CertificationLevel {
    /// 0x10: nothing.
    Generic,
    /// 0x13: it was checked with care.
    Positive,
}

impl CertificationLevel {
    /// Every level with its name in policies and its signature type.
    pub const TABLE: [(Self, &'static str, u8); 2] =
        [(Self::Generic, "generic", 0x10), (Self::Positive, "positive", 0x13)];

    /// The name in policies.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The type of the signature.
    pub fn signature_type(self) -> u8 {
        self.row().2
    }

    /// The level with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, u8) {
        Self::TABLE.iter().find(|row| row.0 == self).expect("every variant has a row")
    }
}
