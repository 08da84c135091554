//! The configuration files, what their CSRs hold, and where the two sides are known to differ.

/// How often an attribute is in a subject.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Once.
    Must,
    /// Once or not.
    May,
    /// Up to two times.
    Several,
}

/// In what way a field differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Both have it, with other bytes.
    Value,
    /// Only openssl writes it.
    OnlyTheirs,
    /// Only the signer writes it.
    OnlyOurs,
}

/// One configuration file.
#[derive(Debug)]
pub struct Kind {
    /// The profile that it becomes.
    pub profile: &'static str,
    /// Its text; `DIR` in it is the old authority's folder.
    pub cnf: &'static str,
    /// The section to name, where it has no default.
    pub section: Option<&'static str>,
    /// Who signs.
    pub authority: &'static str,
    /// The attributes of subjects, some of which the policy drops.
    pub subject: &'static [(&'static str, Place)],
    /// CSRs ask for subject alternative names.
    pub takes_names: bool,
    /// What the CSR asks for replaces what the configuration sets.
    pub replaces: bool,
    /// The string types of the CSR: `utf8` or `printable`.
    pub strings: &'static str,
    /// Where certificates must differ: the field, how, and the words by which the import says so.
    pub differs: &'static [(&'static str, Difference, &'static str)],
}

use Difference::{OnlyOurs, OnlyTheirs, Value};
use Place::{May, Must, Several};

/// A kind without surprises.
const PLAIN: Kind = Kind {
    profile: "",
    cnf: "",
    section: None,
    authority: "issuing",
    subject: &[],
    takes_names: false,
    replaces: false,
    strings: "utf8",
    differs: &[],
};

/// Every kind; cases take them in turn.
pub const KINDS: &[Kind] = &[
    Kind {
        profile: "old-server",
        cnf: include_str!("server.cnf"),
        subject: &[
            ("CN", Must),
            ("C", May),
            ("ST", May),
            ("L", May),
            ("O", May),
            ("OU", Several),
            ("emailAddress", May), // dropped
            ("UID", May),          // dropped
        ],
        takes_names: true,
        ..PLAIN
    },
    Kind {
        profile: "old-client",
        cnf: include_str!("client.cnf"),
        authority: "second",
        subject: &[
            ("CN", Must),
            ("emailAddress", Must),
            ("GN", May),
            ("SN", May),
            ("UID", May),
            ("title", May),
            ("O", May), // dropped
        ],
        ..PLAIN
    },
    Kind {
        profile: "old-org",
        cnf: include_str!("org.cnf"),
        section: Some("organisations"),
        subject: &[
            ("C", Must),
            ("O", Must),
            ("OU", Several),
            ("street", May),
            ("postalCode", May),
            ("L", May),
            ("serialNumber", May),
            ("CN", May),
        ],
        takes_names: true,
        replaces: true,
        ..PLAIN
    },
    Kind {
        profile: "member",
        cnf: include_str!("member.cnf"),
        authority: "second",
        subject: &[("CN", Must), ("O", Must), ("OU", Several), ("emailAddress", May), ("L", May)],
        takes_names: true,
        ..PLAIN
    },
    Kind {
        profile: "old-codesign",
        cnf: include_str!("codesign.cnf"),
        subject: &[("CN", Must), ("emailAddress", Must), ("O", May), ("L", May), ("ST", May)],
        ..PLAIN
    },
    Kind {
        profile: "old-ocsp",
        cnf: include_str!("ocsp.cnf"),
        authority: "second",
        subject: &[("CN", Must), ("O", May), ("C", May), ("OU", May)],
        ..PLAIN
    },
    Kind {
        profile: "old-timestamp",
        cnf: include_str!("timestamp.cnf"),
        subject: &[("CN", Must), ("O", May), ("C", May), ("DC", Several)],
        ..PLAIN
    },
    Kind {
        profile: "old-printable",
        cnf: include_str!("printable.cnf"),
        subject: &[
            ("CN", Must),
            ("C", May),
            ("ST", May),
            ("O", May),
            ("OU", Several),
            ("title", May),
            ("emailAddress", May),
        ],
        takes_names: true,
        strings: "printable",
        ..PLAIN
    },
    Kind {
        profile: "cacert-server",
        cnf: include_str!("cacert_server.cnf"),
        subject: &[
            ("CN", Must),
            ("C", May),
            ("ST", May),
            ("O", May),
            ("OU", May),
            ("emailAddress", May),
        ],
        takes_names: true,
        differs: &[
            ("signature", Value, "default_md = sha1: lifted to sha256"),
            ("validity, days", Value, "default_days = 730: at most 199 from 2026-03-15"),
            (NS_COMMENT, OnlyTheirs, "nsComment = To get your own certificate, go to"),
            (NS_CERT_TYPE, OnlyTheirs, "nsCertType = server: a Netscape extension"),
            (AIA, Value, "both are written, OCSP first"),
            (AKI, Value, "authorityKeyIdentifier = issuer:always: the key identifier alone"),
        ],
        ..PLAIN
    },
    Kind {
        profile: "cacert-client",
        cnf: include_str!("cacert_client.cnf"),
        authority: "second",
        subject: &[("CN", Must), ("C", May), ("emailAddress", May), ("O", May)],
        differs: &[(NS_COMMENT, OnlyTheirs, "nsComment = To get your own certificate for FREE #")],
        ..PLAIN
    },
    Kind {
        profile: "bare",
        cnf: include_str!("bare.cnf"),
        subject: &[("CN", Must), ("O", May), ("C", May)],
        differs: &[
            ("version", Value, "x509_extensions is not set: certificates were without extensions"),
            (SKI, OnlyOurs, "key identifiers"),
            (AKI, OnlyOurs, "key identifiers"),
        ],
        ..PLAIN
    },
    Kind { profile: "subca", cnf: include_str!("subca.cnf"), authority: "root", ..PLAIN },
];

const SKI: &str = "extension 2.5.29.14";
const AKI: &str = "extension 2.5.29.35";
const AIA: &str = "extension 1.3.6.1.5.5.7.1.1";
const NS_CERT_TYPE: &str = "extension 2.16.840.1.113730.1.1";
const NS_COMMENT: &str = "extension 2.16.840.1.113730.1.13";
