//! A profile as a person writes it, in TOML.
//!
//! Nothing here judges: `check.rs` finds the faults. A key that is absent has the value that
//! permits the least, so that a fault in one part does not hide those in another.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A profile as a person writes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileConfig {
    /// Only the signer's console may use it.
    pub console_only: bool,
    /// How long certificates live.
    pub validity: ValidityConfig,
    /// Which subject keys are taken.
    pub keys: KeysConfig,
    /// Which subjects are taken.
    pub subject: SubjectConfig,
    /// Which subject alternative names are taken.
    pub names: NamesConfig,
    /// What is written into the certificate.
    pub extensions: ExtensionsConfig,
    /// How long revoked certificates stay in CRLs.
    pub crl: CrlRuleConfig,
    /// Named deviations from the standards, each of them logged when the profile is loaded.
    pub deviations: Vec<String>,
}

/// How long revoked certificates stay in CRLs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrlRuleConfig {
    /// So many days past expiry; absent means until one CRL past expiry has listed them.
    pub keep_days: Option<u32>,
}

/// How long certificates live.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidityConfig {
    /// Without a wish.
    pub days_default: u32,
    /// The caps by date of issue, oldest first; the last one that has begun holds.
    pub max: Vec<ValidityCap>,
}

/// A cap that holds from a date on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidityCap {
    /// `YYYY-MM-DD`
    pub from: String,
    /// In days of 86,400 s, both ends counted.
    pub days: u32,
}

/// Which subject keys are taken.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// The smallest RSA modulus; absent means no RSA.
    pub rsa_bits_min: Option<u32>,
    /// The largest RSA modulus.
    pub rsa_bits_max: Option<u32>,
    /// Named curves: `P-256`, `P-384`, `P-521`.
    pub curves: Vec<String>,
    /// Ed25519, for private use only.
    pub ed25519: bool,
    /// Refuses everything as long as no list of weak keys is loaded.
    pub blocklist: bool,
}

/// Which subjects are taken.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubjectConfig {
    /// Attributes that may appear.
    pub allowed: Vec<String>,
    /// Attributes that must appear.
    pub required: Vec<String>,
    /// Every common name must also be a subject alternative name (BR 7.1.4.3).
    pub common_name_is_a_name: bool,
    /// What becomes of attributes that are not in `allowed`.
    pub unlisted: Unlisted,
    /// In which order the attributes stand.
    pub order: Order,
    /// The only value that an attribute may have, by attribute.
    pub fixed: BTreeMap<String, String>,
    /// A regular expression that the whole value must match, by attribute.
    pub patterns: BTreeMap<String, String>,
    /// The string type of the attributes that may have several.
    pub encoding: Encoding,
}

/// What becomes of attributes that are not in `allowed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unlisted {
    /// The request is refused.
    #[default]
    Refuse,
    /// They are left out, as `openssl ca` does.
    Drop,
}

/// In which order the attributes of a subject stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As asked for.
    #[default]
    AsAsked,
    /// Put into the order of `allowed`, as `openssl ca` does.
    AsAllowed,
    /// Refused unless in the order of `allowed`.
    Strict,
}

/// The string type of the attributes that may have several (RFC 5280 4.1.2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// UTF8String.
    #[default]
    Utf8,
    /// PrintableString where the characters allow it, else UTF8String.
    Printable,
}

/// Which subject alternative names are taken.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamesConfig {
    /// `dns`, `ip`, `email`, `uri`, `xmpp`.
    pub types: Vec<String>,
    /// At least one must be there.
    pub required: bool,
    /// The most of them.
    pub max: usize,
    /// Whether `*.` may stand in front of a DNS name.
    pub wildcard: bool,
    /// Where no name is asked for at all, the subject's common names that are DNS names or
    /// addresses, and its mail addresses, are taken: CSRs of old tools have no others.
    pub from_subject: bool,
}

/// What is written into the certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtensionsConfig {
    /// `true` only in console-only profiles.
    pub ca: bool,
    /// basicConstraints pathLenConstraint of a CA.
    pub path_length: Option<u8>,
    /// Whether basicConstraints is there, and critical.
    pub basic_constraints: Presence,
    /// RFC 5280 names; none means that there is no keyUsage.
    pub key_usage: Vec<String>,
    /// keyUsage is critical.
    pub key_usage_critical: bool,
    /// RFC 5280 names or object identifiers.
    pub extended_key_usage: Vec<String>,
    /// extKeyUsage is critical (RFC 3161 2.3 for time stamping).
    pub extended_key_usage_critical: bool,
    /// id-pkix-ocsp-nocheck (RFC 6960 4.2.2.2.1).
    pub ocsp_no_check: bool,
    /// The digest that the issuer signs with: `sha256`, `sha384`, `sha512`; absent means the one
    /// that belongs to its key.
    pub digest: Option<String>,
    /// TLS feature status_request (RFC 7633): servers must staple.
    pub must_staple: bool,
    /// nameConstraints of a CA.
    pub name_constraints: Option<NameConstraintsConfig>,
    /// Where the delta CRL can be fetched (freshestCRL, RFC 5280 4.2.1.15).
    pub delta_crl_urls: Vec<String>,
    /// Where the CRL can be fetched; `{shard}` in it becomes the number of the shard.
    pub crl_urls: Vec<String>,
    /// Where an OCSP responder answers.
    pub ocsp_urls: Vec<String>,
    /// Where the issuer's certificate can be fetched.
    pub issuer_urls: Vec<String>,
    /// certificatePolicies.
    pub policies: Vec<PolicyConfig>,
}

/// Whether an extension is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// There, and critical.
    #[default]
    Critical,
    /// There, and not critical.
    Plain,
    /// Not there.
    Absent,
}

/// nameConstraints (RFC 5280 4.2.1.10), critical: `dns:example.org`, `email:example.org`,
/// `ip:192.0.2.0/24`, `uri:example.org`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NameConstraintsConfig {
    /// Names must lie in one of these.
    pub permitted: Vec<String>,
    /// Names must lie in none of these.
    pub excluded: Vec<String>,
}

impl Default for ExtensionsConfig {
    fn default() -> Self {
        Self {
            ca: false,
            path_length: None,
            basic_constraints: Presence::Critical,
            key_usage: Vec::new(),
            key_usage_critical: true,
            extended_key_usage: Vec::new(),
            extended_key_usage_critical: false,
            ocsp_no_check: false,
            digest: None,
            must_staple: false,
            name_constraints: None,
            delta_crl_urls: Vec::new(),
            crl_urls: Vec::new(),
            ocsp_urls: Vec::new(),
            issuer_urls: Vec::new(),
            policies: Vec::new(),
        }
    }
}

/// One certificate policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Its object identifier.
    pub oid: String,
    /// Where the practice statement can be read.
    pub cps: Option<String>,
}
