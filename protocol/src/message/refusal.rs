//! Why the rules said no: public codes. // on the wire
//!
//! The table is the one place of a code's name and remedy; `hsm-docs/refusals.md` repeats it.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// The key is on a list of keys that others hold too, or that the operator blocked.
    KeyBlocked,
    /// The profile demands a list of weak keys, and none is loaded.
    BlocklistMissing,
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
    /// The bytes are not an OpenPGP certificate.
    OpenPgpMalformed,
    /// The bytes are more than one OpenPGP certificate.
    OpenPgpSeveral,
    /// The upload holds secret key material.
    OpenPgpSecret,
    /// The OpenPGP key's version is none of 4 and 6.
    OpenPgpVersion,
    /// The OpenPGP key's algorithm is too old for anybody to rely on: DSA, ElGamal.
    OpenPgpAlgorithm,
    /// The policy does not take this kind of OpenPGP key.
    OpenPgpKeyKind,
    /// The OpenPGP key is too small, or too large to be used.
    OpenPgpKeySize,
    /// The OpenPGP key is known to be weak, or not valid for another reason.
    OpenPgpKey,
    /// The OpenPGP key's self-signatures use digests that count for nothing, as SHA-1.
    OpenPgpDigest,
    /// The OpenPGP key has expired.
    OpenPgpExpired,
    /// The OpenPGP key is revoked.
    OpenPgpRevoked,
    /// The OpenPGP primary key may not certify, so it holds no user IDs.
    OpenPgpCannotCertify,
    /// The policy wants a key that can be encrypted to, and this one cannot.
    OpenPgpNoEncryption,
    /// A user ID that was asked for is not in the key.
    OpenPgpUserId,
    /// The owner revoked a user ID that was asked for.
    OpenPgpUserIdRevoked,
    /// A user ID was asked for that nobody should certify, or none was, or one twice.
    OpenPgpUserIdForm,
    /// The signer has no OpenPGP key.
    OpenPgpUnavailable,
    /// No OpenPGP authority has this name.
    OpenPgpAuthorityUnknown,
    /// The OpenPGP authority has no such policy.
    OpenPgpPolicyUnknown,
    /// There is no valid certification that could be taken back.
    OpenPgpNothingCertified,
    /// A person at the console said no.
    Denied,
    /// The OpenPGP key, or a user ID that was asked for, is without a valid self-signature.
    OpenPgpSelfSignature,
}

impl RefusalCode {
    /// Every code with its public name and what a person can do.
    pub const TABLE: [(Self, &'static str, &'static str); 40] = [
        (Self::CsrMalformed, "csr-malformed", "make the CSR anew, PKCS #10 in PEM or DER"),
        (Self::CsrSignature, "csr-signature", "sign the CSR with the key it names"),
        (Self::CsrDigest, "csr-digest", "sign the CSR with SHA-256 or better"),
        (Self::CsrAsksCa, "csr-asks-ca", "leave basicConstraints CA:TRUE out of the CSR"),
        (Self::KeyWeak, "key-weak", "make a new key: RSA of 2048 bits or more, or P-256/384/521"),
        (Self::KeyBlocked, "key-blocked", "make a new key and never use this one again"),
        (
            Self::BlocklistMissing,
            "blocklist-missing",
            "have an administrator run `signer blocklist import`, then ask again with a new id",
        ),
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
        (Self::OpenPgpMalformed, "openpgp-malformed", "export the public key anew"),
        (Self::OpenPgpSeveral, "openpgp-several", "export exactly one public key"),
        (Self::OpenPgpSecret, "openpgp-secret", "upload the public key only; revoke this one"),
        (Self::OpenPgpVersion, "openpgp-version", "make a new key, of version 4 or 6"),
        (
            Self::OpenPgpAlgorithm,
            "openpgp-algorithm",
            "make a new key: RSA of 2048 bits or more, or Ed25519",
        ),
        (Self::OpenPgpKeyKind, "openpgp-key-kind", "use a kind of key that the policy takes"),
        (Self::OpenPgpKeySize, "openpgp-key-size", "make a new key, RSA of 2048 bits or more"),
        (Self::OpenPgpKey, "openpgp-key", "use a key that is valid and strong"),
        (
            Self::OpenPgpDigest,
            "openpgp-digest",
            "sign the key anew with SHA-256 or better, as by extending its validity",
        ),
        (Self::OpenPgpExpired, "openpgp-expired", "extend the key's validity, then upload it"),
        (Self::OpenPgpRevoked, "openpgp-revoked", "use a key that is not revoked"),
        (
            Self::OpenPgpCannotCertify,
            "openpgp-cannot-certify",
            "use a key whose primary key may certify",
        ),
        (
            Self::OpenPgpNoEncryption,
            "openpgp-no-encryption",
            "add a valid encryption subkey, then upload the key anew",
        ),
        (Self::OpenPgpUserId, "openpgp-user-id", "name user IDs as they are in the key"),
        (
            Self::OpenPgpUserIdRevoked,
            "openpgp-user-id-revoked",
            "leave the revoked user ID out, or add it to the key anew",
        ),
        (
            Self::OpenPgpUserIdForm,
            "openpgp-user-id-form",
            "make a user ID with one plain name and one address",
        ),
        (Self::OpenPgpUnavailable, "openpgp-unavailable", "run `signer openpgp create` first"),
        (
            Self::OpenPgpAuthorityUnknown,
            "openpgp-authority-unknown",
            "ask one of the catalogue's OpenPGP authorities",
        ),
        (
            Self::OpenPgpPolicyUnknown,
            "openpgp-policy-unknown",
            "ask by one of the OpenPGP authority's policies",
        ),
        (
            Self::OpenPgpNothingCertified,
            "openpgp-nothing-certified",
            "check the fingerprint, the user ID and the authority",
        ),
        (Self::Denied, "denied", "ask the person who denied it"),
        (
            Self::OpenPgpSelfSignature,
            "openpgp-self-signature",
            "have the key's owner sign the user ID, then upload the key anew",
        ),
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
