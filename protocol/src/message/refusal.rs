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
    pub const TABLE: [(Self, &'static str, &'static str); 24] = [
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
