//! The extensions that a profile writes, against RFC 5280 4.2 and the RFCs of the others.
//!
//! Rules that hold for one purpose only (TLS, mail, code) are in `purposes.rs`.

use super::{
    super::{
        SHARD_PLACE,
        config::{ExtensionsConfig, Presence, ProfileConfig},
        deviation,
        syntax::check_uri,
    },
    Checked, Finder, check_name_constraints,
    purposes::{ANY_PURPOSE, CLIENT_AUTH, OCSP_SIGNING, PURPOSES, SERVER_AUTH},
};
use crate::{der, intake::der::Reader, keys::SignatureDigest, profile::shard_url};

pub(super) fn check(config: &ProfileConfig, checked: &mut Checked, finder: &mut Finder) {
    let extensions = &config.extensions;
    check_basic_constraints(config, finder);
    checked.key_usage_bits = check_key_usage(extensions, finder);
    let enciphers = checked.key_usage_bits.iter().any(|bit| ENCIPHERMENTS.contains(bit));
    if enciphers && (!config.keys.curves.is_empty() || config.keys.ed25519) {
        finder.may_deviate(&deviation::KEY_USAGE_UNFIT);
    }
    checked.purposes = check_extended_key_usage(extensions, finder);
    checked.digest = check_digest(extensions, finder);
    check_urls(extensions, finder);
    check_policies(extensions, finder);
    let serves = |purpose: &str| checked.purposes.iter().any(|known| known == purpose);
    if extensions.ocsp_no_check && !serves(OCSP_SIGNING) {
        let text = "belongs to OCSP responders: add OCSPSigning or leave it out";
        finder.fault("extensions.ocsp_no_check", text, "RFC 6960 4.2.2.2.1");
    }
    if extensions.must_staple {
        if !serves(SERVER_AUTH) && !serves(CLIENT_AUTH) {
            let text = "belongs to TLS: add serverAuth or leave it out";
            finder.fault("extensions.must_staple", text, "RFC 7633 4.2.3");
        } else if extensions.ocsp_urls.is_empty() {
            let text = "without ocsp_urls no server has anything to staple";
            finder.fault("extensions.must_staple", text, "RFC 7633 4.3.3");
        }
    }
    if let Some(constraints) = &extensions.name_constraints {
        if !extensions.ca {
            let text = "belongs to a CA: set ca = true or leave it out";
            finder.fault("extensions.name_constraints", text, "RFC 5280 4.2.1.10");
        }
        checked.name_constraints = Some(check_name_constraints(constraints, finder));
    }
}

fn check_basic_constraints(config: &ProfileConfig, finder: &mut Finder) {
    let extensions = &config.extensions;
    let key = "extensions.basic_constraints";
    if extensions.ca && !config.console_only {
        let text = "ca = true needs console_only = true: the link never gets a CA";
        finder.fault("extensions.ca", text, "TLS BR 4.3.1.1");
    }
    if extensions.path_length.is_some() && !extensions.ca {
        finder.fault("extensions.path_length", "needs ca = true", "RFC 5280 4.2.1.9");
    }
    match (extensions.basic_constraints, extensions.ca) {
        (Presence::Critical, _) => {}
        (_, true) => finder.fault(key, "of a CA must be there and critical", "RFC 5280 4.2.1.9"),
        (Presence::Plain, false) => {
            finder.deviates(&deviation::BASIC_CONSTRAINTS_NOT_CRITICAL, key, "is not critical");
        }
        (Presence::Absent, false) => {
            finder.deviates(&deviation::BASIC_CONSTRAINTS_ABSENT, key, "is absent");
        }
    }
}

/// keyEncipherment and dataEncipherment, which only RSA keys can do.
pub(in crate::profile) const ENCIPHERMENTS: [u8; 2] = [2, 3];

fn check_key_usage(extensions: &ExtensionsConfig, finder: &mut Finder) -> Vec<u8> {
    const CLAUSE: &str = "RFC 5280 4.2.1.3";
    let mut bits = Vec::new();
    for (index, usage) in extensions.key_usage.iter().enumerate() {
        let key = format!("extensions.key_usage[{index}]");
        match KEY_USAGES.iter().find(|(name, _)| name == usage) {
            None => {
                let known = KEY_USAGES.map(|row| row.0).join(", ");
                finder.fault(key, format!("`{usage}` is not known; there are {known}"), CLAUSE);
            }
            Some((_, bit)) if bits.contains(bit) => {
                finder.fault(key, format!("`{usage}` is there twice"), "");
            }
            Some((_, 5 | 6)) if !extensions.ca => {
                finder.fault(key, format!("`{usage}` belongs to a CA"), CLAUSE);
            }
            Some((_, bit)) => bits.push(*bit),
        }
    }
    let key = "extensions.key_usage";
    if extensions.ca && !bits.contains(&5) {
        finder.fault(key, "a CA needs keyCertSign", CLAUSE);
    } else if extensions.key_usage.is_empty() {
        finder.deviates(&deviation::KEY_USAGE_ABSENT, key, "names no usage");
    }
    if bits.iter().any(|bit| matches!(bit, 7 | 8)) && !bits.contains(&4) {
        finder.fault(
            key,
            "encipherOnly and decipherOnly mean nothing without keyAgreement",
            CLAUSE,
        );
    }
    if !extensions.key_usage_critical && !extensions.key_usage.is_empty() {
        let key = "extensions.key_usage_critical";
        finder.deviates(&deviation::KEY_USAGE_NOT_CRITICAL, key, "is false");
    }
    bits
}

fn check_extended_key_usage(extensions: &ExtensionsConfig, finder: &mut Finder) -> Vec<String> {
    const CLAUSE: &str = "RFC 5280 4.2.1.12";
    let mut purposes: Vec<String> = Vec::new();
    for (index, usage) in extensions.extended_key_usage.iter().enumerate() {
        let key = format!("extensions.extended_key_usage[{index}]");
        let row = PURPOSES.iter().find(|row| row.name == usage);
        let dotted = row.map_or(usage.as_str(), |row| row.oid);
        if !is_oid(dotted) {
            let known = PURPOSES.map(|row| row.name).join(", ");
            let text = format!("`{usage}` is neither an object identifier nor one of {known}");
            finder.fault(key, text, CLAUSE);
        } else if purposes.iter().any(|known| known == dotted) {
            finder.fault(key, format!("`{usage}` is there twice"), "");
        } else {
            purposes.push(dotted.to_owned());
        }
    }
    let critical = extensions.extended_key_usage_critical;
    let key = "extensions.extended_key_usage_critical";
    if critical && extensions.extended_key_usage.is_empty() {
        finder.fault(key, "is of no use without extended_key_usage", "");
    }
    let any = purposes.iter().any(|purpose| purpose == ANY_PURPOSE);
    if critical && any {
        finder.fault(key, "must be false beside anyExtendedKeyUsage", CLAUSE);
    }
    if !extensions.ca && (any || extensions.extended_key_usage.is_empty()) {
        let text = "the certificate would serve any purpose";
        finder.deviates(&deviation::ANY_PURPOSE, "extensions.extended_key_usage", text);
    }
    purposes
}

fn check_digest(extensions: &ExtensionsConfig, finder: &mut Finder) -> Option<SignatureDigest> {
    let digest = extensions.digest.as_deref()?;
    let known = SignatureDigest::from_name(digest);
    if known.is_none() {
        let text = format!("`{digest}` is not sha256, sha384 or sha512, which alone sign here");
        finder.fault("extensions.digest", text, "TLS BR 7.1.3.2");
    }
    known
}

/// RFC 5280 4.2.1.13 and 4.2.2.1: clients fetch these before they trust any TLS.
fn check_urls(extensions: &ExtensionsConfig, finder: &mut Finder) {
    let lists = [
        ("crl_urls", &extensions.crl_urls, "RFC 5280 4.2.1.13"),
        ("delta_crl_urls", &extensions.delta_crl_urls, "RFC 5280 4.2.1.15"),
        ("ocsp_urls", &extensions.ocsp_urls, "RFC 5280 4.2.2.1"),
        ("issuer_urls", &extensions.issuer_urls, "RFC 5280 4.2.2.1"),
    ];
    for (name, urls, clause) in lists {
        for (index, url) in urls.iter().enumerate() {
            let key = format!("extensions.{name}[{index}]");
            let filled = if name == "crl_urls" { shard_url(url, 0) } else { url.clone() };
            if !filled.starts_with("http://") || check_uri(&filled).is_err() {
                let hint = if name == "crl_urls" { "" } else { SHARD_HINT };
                let hint = if url.contains(SHARD_PLACE) { hint } else { "" };
                finder.fault(key, format!("`{url}` is no http:// URL{hint}"), clause);
            } else if urls[..index].contains(url) {
                finder.fault(key, format!("`{url}` is there twice"), "");
            }
        }
        if urls.len() > URLS_MAX {
            let text = format!("has {} URLs, at most {URLS_MAX} fit", urls.len());
            finder.fault(format!("extensions.{name}"), text, "");
        }
    }
    if extensions.crl_urls.is_empty() && !extensions.delta_crl_urls.is_empty() {
        let text = "needs crl_urls: a delta changes a full CRL";
        finder.fault("extensions.delta_crl_urls", text, "RFC 5280 4.2.1.15");
    }
}

const SHARD_HINT: &str = "; `{shard}` belongs to crl_urls alone";

fn check_policies(extensions: &ExtensionsConfig, finder: &mut Finder) {
    const CLAUSE: &str = "RFC 5280 4.2.1.4";
    let policies = &extensions.policies;
    for (index, policy) in policies.iter().enumerate() {
        let key = format!("extensions.policies[{index}]");
        if !is_oid(&policy.oid) {
            let text = format!("`{}` is no object identifier", policy.oid);
            finder.fault(format!("{key}.oid"), text, CLAUSE);
        } else if policies[..index].iter().any(|other| other.oid == policy.oid) {
            finder.fault(format!("{key}.oid"), format!("{} is there twice", policy.oid), CLAUSE);
        }
        if let Some(cps) = policy.cps.as_ref().filter(|cps| check_uri(cps).is_err()) {
            finder.fault(format!("{key}.cps"), format!("`{cps}` is no URI"), "RFC 5280 4.2.1.4");
        }
    }
    if policies.len() > POLICIES_MAX {
        let text = format!("has {}, at most {POLICIES_MAX} fit", policies.len());
        finder.fault("extensions.policies", text, "");
    }
}

/// Whether it can be written, and is read back as it stands.
fn is_oid(dotted: &str) -> bool {
    der::oid(dotted).is_some_and(|element| {
        Reader::new("object identifier", &element).oid("object identifier").as_deref() == Ok(dotted)
    })
}

/// RFC 5280 4.2.1.3, bit number by name.
pub(in crate::profile) const KEY_USAGES: [(&str, u8); 9] = [
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

/// More would make certificates longer without helping anybody to fetch.
const URLS_MAX: usize = 8;
const POLICIES_MAX: usize = 16;
