//! A profile as a person writes it, in TOML, and what can be wrong with it.
//!
//! Each check answers with one sentence that names the key. Nothing here decides about requests.

use std::collections::BTreeMap;

use protocol::message::NAMES_MAX;
use serde::Deserialize;

use super::syntax::check_uri;
use crate::{calendar::UnixTime, der};

/// A profile as a person writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileConfig {
    /// Only the signer's console may use it.
    #[serde(default)]
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
    #[serde(default)]
    pub crl: CrlRuleConfig,
    /// Named deviations from the standards, each of them logged when the profile is loaded.
    #[serde(default)]
    pub deviations: Vec<String>,
}

/// How long revoked certificates stay in CRLs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrlRuleConfig {
    /// So many days past expiry; absent means until one CRL past expiry has listed them.
    pub keep_days: Option<u32>,
}

/// How long certificates live.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidityConfig {
    /// Without a wish.
    pub days_default: u32,
    /// The caps by date of issue, oldest first; the last one that has begun holds.
    pub max: Vec<ValidityCap>,
}

/// A cap that holds from a date on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidityCap {
    /// `YYYY-MM-DD`
    pub from: String,
    /// In days of 86,400 s, both ends counted.
    pub days: u32,
}

/// Which subject keys are taken.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// The smallest RSA modulus; absent means no RSA.
    pub rsa_bits_min: Option<u32>,
    /// The largest RSA modulus.
    pub rsa_bits_max: Option<u32>,
    /// Named curves: `P-256`, `P-384`, `P-521`.
    #[serde(default)]
    pub curves: Vec<String>,
    /// Ed25519, for private use only.
    #[serde(default)]
    pub ed25519: bool,
    /// Refuses everything as long as no list of weak keys is loaded.
    #[serde(default)]
    pub blocklist: bool,
}

/// Which subjects are taken.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectConfig {
    /// Attributes that may appear.
    pub allowed: Vec<String>,
    /// Attributes that must appear.
    #[serde(default)]
    pub required: Vec<String>,
    /// Every common name must also be a subject alternative name (BR 7.1.4.3).
    #[serde(default)]
    pub common_name_is_a_name: bool,
    /// What becomes of attributes that are not in `allowed`.
    #[serde(default)]
    pub unlisted: Unlisted,
    /// In which order the attributes stand.
    #[serde(default)]
    pub order: Order,
    /// The only value that an attribute may have, by attribute.
    #[serde(default)]
    pub fixed: BTreeMap<String, String>,
    /// A regular expression that the whole value must match, by attribute.
    #[serde(default)]
    pub patterns: BTreeMap<String, String>,
    /// The string type of the attributes that may have several.
    #[serde(default)]
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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamesConfig {
    /// `dns`, `ip`, `email`, `uri`, `xmpp`.
    pub types: Vec<String>,
    /// At least one must be there.
    #[serde(default)]
    pub required: bool,
    /// The most of them.
    pub max: usize,
    /// Whether `*.` may stand in front of a DNS name.
    #[serde(default)]
    pub wildcard: bool,
    /// Where no name is asked for at all, the subject's common names that are DNS names or
    /// addresses, and its mail addresses, are taken: CSRs of old tools have no others.
    #[serde(default)]
    pub from_subject: bool,
}

/// What is written into the certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtensionsConfig {
    /// `true` only in console-only profiles.
    #[serde(default)]
    pub ca: bool,
    /// basicConstraints pathLenConstraint of a CA.
    pub path_length: Option<u8>,
    /// Whether basicConstraints is there, and critical.
    #[serde(default)]
    pub basic_constraints: Presence,
    /// RFC 5280 names.
    pub key_usage: Vec<String>,
    /// keyUsage is critical.
    #[serde(default = "yes")]
    pub key_usage_critical: bool,
    /// RFC 5280 names or object identifiers.
    #[serde(default)]
    pub extended_key_usage: Vec<String>,
    /// extKeyUsage is critical (RFC 3161 2.3 for time stamping).
    #[serde(default)]
    pub extended_key_usage_critical: bool,
    /// id-pkix-ocsp-nocheck (RFC 6960 4.2.2.2.1).
    #[serde(default)]
    pub ocsp_no_check: bool,
    /// The digest that the issuer signs with: `sha256`, `sha384`, `sha512`; absent means the one
    /// that belongs to its key.
    pub digest: Option<String>,
    /// TLS feature status_request (RFC 7633): servers must staple.
    #[serde(default)]
    pub must_staple: bool,
    /// nameConstraints of a CA.
    pub name_constraints: Option<NameConstraintsConfig>,
    /// Where the delta CRL can be fetched (freshestCRL, RFC 5280 4.2.1.15).
    #[serde(default)]
    pub delta_crl_urls: Vec<String>,
    /// Where the CRL can be fetched; `{shard}` in it becomes the number of the shard.
    #[serde(default)]
    pub crl_urls: Vec<String>,
    /// Where an OCSP responder answers.
    #[serde(default)]
    pub ocsp_urls: Vec<String>,
    /// Where the issuer's certificate can be fetched.
    #[serde(default)]
    pub issuer_urls: Vec<String>,
    /// certificatePolicies.
    #[serde(default)]
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
#[serde(deny_unknown_fields)]
pub struct NameConstraintsConfig {
    /// Names must lie in one of these.
    #[serde(default)]
    pub permitted: Vec<String>,
    /// Names must lie in none of these.
    #[serde(default)]
    pub excluded: Vec<String>,
}

fn yes() -> bool {
    true
}

/// One certificate policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Its object identifier.
    pub oid: String,
    /// Where the practice statement can be read.
    pub cps: Option<String>,
}

pub(super) fn check_validity(validity: &ValidityConfig) -> Result<Vec<(UnixTime, u32)>, String> {
    let mut caps = Vec::new();
    for cap in &validity.max {
        let from = UnixTime::from_date(&cap.from)
            .ok_or_else(|| format!("validity.max from `{}` is no date YYYY-MM-DD", cap.from))?;
        if caps.last().is_some_and(|(last, _)| *last >= from) {
            return Err(format!("validity.max from {} is not after the one before", cap.from));
        }
        // 40 years: no authority here lives longer.
        if cap.days == 0 || cap.days > 14_610 {
            return Err(format!("validity.max days {} is not within 1 to 14610", cap.days));
        }
        caps.push((from, cap.days));
    }
    if caps.is_empty() {
        return Err("validity.max has no cap; write at least one".into());
    }
    if validity.days_default == 0 {
        return Err("validity.days_default is 0, at least 1 is needed".into());
    }
    Ok(caps)
}

pub(super) fn check_keys(keys: &KeysConfig) -> Result<(), String> {
    if let Some(bits) = keys.rsa_bits_min.filter(|bits| *bits < 2048) {
        return Err(format!("keys.rsa_bits_min {bits} is below 2048 (BR 6.1.5)"));
    }
    if keys.rsa_bits_max < keys.rsa_bits_min && keys.rsa_bits_max.is_some() {
        return Err("keys.rsa_bits_max is below keys.rsa_bits_min".into());
    }
    for curve in &keys.curves {
        if !["P-256", "P-384", "P-521"].contains(&curve.as_str()) {
            return Err(format!("keys.curves `{curve}` is not P-256, P-384 or P-521"));
        }
    }
    if keys.rsa_bits_min.is_none() && keys.curves.is_empty() && !keys.ed25519 {
        return Err("keys takes no key at all".into());
    }
    Ok(())
}

pub(super) fn check_names(names: &NamesConfig) -> Result<(), String> {
    for (index, kind) in names.types.iter().enumerate() {
        if !NAME_TYPES.contains(&kind.as_str()) {
            return Err(format!("names.types `{kind}` is not dns, ip, email or uri"));
        }
        if names.types[..index].contains(kind) {
            return Err(format!("names.types has `{kind}` twice"));
        }
    }
    if names.max > NAMES_MAX {
        return Err(format!("names.max {} is over {}", names.max, NAMES_MAX));
    }
    if names.required && (names.types.is_empty() || names.max == 0) {
        return Err("names are required but none is allowed".into());
    }
    Ok(())
}

pub(super) fn check_key_usage(extensions: &ExtensionsConfig) -> Result<Vec<u8>, String> {
    let bit = |usage: &String| {
        let row = KEY_USAGES.iter().find(|(name, _)| name == usage);
        row.map(|(_, bit)| *bit).ok_or_else(|| format!("key_usage `{usage}` is not known"))
    };
    let bits: Vec<u8> = extensions.key_usage.iter().map(bit).collect::<Result<_, _>>()?;
    if bits.is_empty() {
        return Err("key_usage names no usage (RFC 5280 4.2.1.3 wants at least one)".into());
    }
    if !extensions.ca && bits.iter().any(|bit| matches!(bit, 5 | 6)) {
        return Err("key_usage keyCertSign and cRLSign belong to a CA (RFC 5280 4.2.1.3)".into());
    }
    Ok(bits)
}

pub(super) fn check_extended_key_usage(
    extensions: &ExtensionsConfig,
) -> Result<Vec<String>, String> {
    let oid = |usage: &String| {
        let row = EXTENDED_KEY_USAGES.iter().find(|(name, _)| name == usage);
        let dotted = row.map_or(usage.as_str(), |(_, dotted)| dotted);
        der::oid(dotted)
            .map(|_| dotted.to_owned())
            .ok_or_else(|| format!("extended_key_usage `{usage}` is neither known nor an OID"))
    };
    extensions.extended_key_usage.iter().map(oid).collect()
}

pub(super) fn check_extensions(config: &ProfileConfig) -> Result<(), String> {
    let extensions = &config.extensions;
    if extensions.ca && !config.console_only {
        return Err("ca = true needs console_only = true: the link never gets a CA".into());
    }
    if extensions.path_length.is_some() && !extensions.ca {
        return Err("path_length without ca = true (RFC 5280 4.2.1.9)".into());
    }
    if extensions.extended_key_usage.is_empty() && !extensions.ca {
        return Err("extended_key_usage is empty: the certificate would serve any purpose".into());
    }
    let urls = [&extensions.crl_urls, &extensions.ocsp_urls, &extensions.issuer_urls];
    for url in urls.into_iter().flatten() {
        // RFC 5280 4.2.1.13 and 4.2.2.1: clients fetch these before they trust any TLS.
        if !url.starts_with("http://") || check_uri(url).is_err() {
            return Err(format!("`{url}` is no http:// URL"));
        }
    }
    for policy in &extensions.policies {
        if der::oid(&policy.oid).is_none() {
            return Err(format!("policies oid `{}` is no object identifier", policy.oid));
        }
        if let Some(cps) = policy.cps.as_ref().filter(|cps| check_uri(cps).is_err()) {
            return Err(format!("policies cps `{cps}` is no URI"));
        }
    }
    Ok(())
}

/// RFC 5280 4.2.1.3, bit number by name.
const KEY_USAGES: [(&str, u8); 9] = [
    ("digitalSignature", 0),
    ("nonRepudiation", 1),
    ("keyEncipherment", 2),
    ("dataEncipherment", 3),
    ("keyAgreement", 4),
    ("keyCertSign", 5),
    ("cRLSign", 6),
    ("encipherOnly", 7),
    ("decipherOnly", 8),
];

/// RFC 5280 4.2.1.12, identifier by name.
const EXTENDED_KEY_USAGES: [(&str, &str); 6] = [
    ("serverAuth", "1.3.6.1.5.5.7.3.1"),
    ("clientAuth", "1.3.6.1.5.5.7.3.2"),
    ("codeSigning", "1.3.6.1.5.5.7.3.3"),
    ("emailProtection", "1.3.6.1.5.5.7.3.4"),
    ("timeStamping", "1.3.6.1.5.5.7.3.8"),
    ("OCSPSigning", "1.3.6.1.5.5.7.3.9"),
];

const NAME_TYPES: [&str; 4] = ["dns", "ip", "email", "uri"];
