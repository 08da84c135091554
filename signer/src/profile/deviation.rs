//! The rules that a profile may break by name, each with its clause.
//!
//! A rule that is not in this table cannot be broken at all. What is named without being needed
//! is a fault too, so that the list in a profile says exactly how far it stands from the rules.

/// A rule that a profile may break, by the name under `deviations`. // stored
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Its name in a profile.
    pub name: &'static str,
    /// Where the rule is written.
    pub clause: &'static str,
    /// What is done differently, for a person.
    pub says: &'static str,
}

/// Every deviation there is.
pub const DEVIATIONS: [Deviation; 16] = [
    KEY_USAGE_ABSENT,
    KEY_USAGE_NOT_CRITICAL,
    KEY_USAGE_UNFIT,
    BASIC_CONSTRAINTS_ABSENT,
    BASIC_CONSTRAINTS_NOT_CRITICAL,
    ANY_PURPOSE,
    VALIDITY_TLS,
    VALIDITY_SMIME,
    VALIDITY_CODE_SIGNING,
    VALIDITY_TIME_STAMPING,
    TIME_STAMPING_PURPOSE,
    OCSP_CHECKED,
    TLS_NAMES_UNCHECKED,
    TLS_OTHER_NAMES,
    CRL_KEEP_SHORT,
    ED25519_KEYS,
];

pub(super) const KEY_USAGE_ABSENT: Deviation = Deviation {
    name: "key-usage-absent",
    clause: "RFC 5280 4.2.1.3, S/MIME BR 7.1.2.3 e",
    says: "certificates have no keyUsage: their keys may be used for anything",
};

pub(super) const KEY_USAGE_NOT_CRITICAL: Deviation = Deviation {
    name: "key-usage-not-critical",
    clause: "RFC 5280 4.2.1.3",
    says: "keyUsage is not critical: software that does not know it may ignore it",
};

pub(super) const KEY_USAGE_UNFIT: Deviation = Deviation {
    name: "key-usage-unfit",
    clause: "RFC 8813 3, RFC 8410 5",
    says: "keyEncipherment and dataEncipherment stand also for keys that cannot encipher, such as those on elliptic curves",
};

pub(super) const BASIC_CONSTRAINTS_ABSENT: Deviation = Deviation {
    name: "basic-constraints-absent",
    clause: "RFC 5280 4.2.1.9",
    says: "subscriber certificates have no basicConstraints",
};

pub(super) const BASIC_CONSTRAINTS_NOT_CRITICAL: Deviation = Deviation {
    name: "basic-constraints-not-critical",
    clause: "RFC 5280 4.2.1.9, TLS BR 7.1.2.7.8",
    says: "basicConstraints of subscriber certificates is not critical",
};

pub(super) const ANY_PURPOSE: Deviation = Deviation {
    name: "any-purpose",
    clause: "RFC 5280 4.2.1.12, TLS BR 7.1.2.7.10",
    says: "extKeyUsage is absent or has anyExtendedKeyUsage: certificates serve any purpose, and no rule of one purpose is checked",
};

pub(super) const VALIDITY_TLS: Deviation = Deviation {
    name: "validity-tls",
    clause: "TLS BR 6.3.2",
    says: "TLS server certificates live longer than 200 days, from 2027-03-15 100, from 2029-03-15 47",
};

pub(super) const VALIDITY_SMIME: Deviation = Deviation {
    name: "validity-smime",
    clause: "S/MIME BR 6.3.2",
    says: "mail certificates live longer than 825 days",
};

pub(super) const VALIDITY_CODE_SIGNING: Deviation = Deviation {
    name: "validity-code-signing",
    clause: "Code Signing BR 6.3.2",
    says: "code signing certificates live longer than 460 days",
};

pub(super) const VALIDITY_TIME_STAMPING: Deviation = Deviation {
    name: "validity-time-stamping",
    clause: "Code Signing BR 6.3.2",
    says: "time stamping certificates live longer than 135 months (4,106 days)",
};

pub(super) const TIME_STAMPING_PURPOSE: Deviation = Deviation {
    name: "time-stamping-purpose",
    clause: "RFC 3161 2.3",
    says: "timeStamping is not critical, or not the only purpose",
};

pub(super) const OCSP_CHECKED: Deviation = Deviation {
    name: "ocsp-checked",
    clause: "TLS BR 4.9.9, RFC 6960 4.2.2.2.1",
    says: "certificates of OCSP responders are without id-pkix-ocsp-nocheck, so clients ask about them in turn",
};

pub(super) const TLS_NAMES_UNCHECKED: Deviation = Deviation {
    name: "tls-names-unchecked",
    clause: "TLS BR 7.1.2.7.12, 7.1.4.3",
    says: "TLS server certificates may be without names, or have a common name that is none of them",
};

pub(super) const TLS_OTHER_NAMES: Deviation = Deviation {
    name: "tls-other-names",
    clause: "TLS BR 7.1.2.7.12",
    says: "TLS server certificates may have names that are neither DNS names nor addresses",
};

pub(super) const CRL_KEEP_SHORT: Deviation = Deviation {
    name: "crl-keep-short",
    clause: "Code Signing BR 4.9.7, 7.2",
    says: "revoked code signing certificates leave the CRL sooner than 10 years (3,653 days) past expiry",
};

pub(super) const ED25519_KEYS: Deviation = Deviation {
    name: "ed25519-keys",
    clause: "TLS BR 6.1.1.3, 7.1.3.1",
    says: "Ed25519 keys are taken, which public software does not",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deviation_has_a_name_of_its_own_and_a_clause() {
        for (index, deviation) in DEVIATIONS.iter().enumerate() {
            let kebab =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(deviation.name.bytes().all(kebab), "{}", deviation.name);
            assert!(deviation.clause.bytes().any(|byte| byte.is_ascii_digit()));
            assert!(DEVIATIONS[..index].iter().all(|other| other.name != deviation.name));
        }
    }
}
