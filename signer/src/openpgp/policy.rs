//! A certification policy: what an OpenPGP authority's certifications say, and for which keys.
//!
//! A reviewed TOML file under the authority's directory. It is checked whole, and every fault is
//! named; a policy with a fault certifies nothing. Nothing here signs.

use std::{fmt, path::Path};

use protocol::{
    bounded::{List, Text},
    message::{CertificationLevel, Name, OpenPgpPolicyEntry, RefusalCode, USER_IDS_MAX},
    user_id::UserId,
};
use serde::Deserialize;

use crate::{
    calendar::{DAY_S, UnixTime},
    durable,
    fault::Fault,
    intake::{
        key,
        openpgp::{VettedOpenPgp, kind::KeyKind, refuse},
    },
    keys::SignatureDigest,
    refusal::Refusal,
};

/// The policy that a new authority gets. // stored
pub const DEFAULT: &str = include_str!("../../profiles/openpgp/default.toml");

/// Leaves a certification by RSA-4096 below [`super::CERTIFICATION_MAX`].
const TEXT_MAX: usize = 160;
/// Notations beside the serial's, which share [`TEXT_MAX`] bytes.
const NOTATIONS_MAX: usize = 4;
/// A domain as long as this leaves room for `serial@`.
const DOMAIN_MAX: usize = 100;
/// Five years: a verified address means less from year to year.
const DAYS_CEILING: u32 = 1827;

/// A policy as it is written. // stored
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    level: String,
    digest: String,
    policy_uri: Option<String>,
    notation_domain: Option<String>,
    #[serde(default)]
    notation: Vec<NotationConfig>,
    validity: ValidityConfig,
    keys: KeysConfig,
    user_ids: UserIdsConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NotationConfig {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidityConfig {
    days_default: u32,
    days_max: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysConfig {
    kinds: Vec<String>,
    rsa_bits_min: u32,
    needs_encryption: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserIdsConfig {
    max: usize,
    needs_address: bool,
}

/// A policy without fault.
#[derive(Clone, Debug)]
pub struct Policy {
    name: Name,
    level: CertificationLevel,
    digest: SignatureDigest,
    kinds: Vec<KeyKind>,
    config: Config,
}

/// Every fault of a written policy; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFaults(Vec<String>);

impl PolicyFaults {
    /// Each, a sentence with its key.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for PolicyFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Policy {
    /// The policy in a file, named as the file is.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let wrong = |what: &dyn fmt::Display| {
            Fault::Configuration(format!(
                "{}: {what}; correct it, then check it with `signer openpgp check`",
                path.display()
            ))
        };
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name: Name = name.to_owned().try_into().map_err(|error| wrong(&error))?;
        Self::parse(name, &durable::read_text(path)?).map_err(|faults| wrong(&faults))
    }

    /// The policy in a text, or everything that is wrong with it. Control: `openpgp-policy`.
    pub fn parse(name: Name, text: &str) -> Result<Self, PolicyFaults> {
        let config: Config = toml::from_str(text)
            .map_err(|error| PolicyFaults(vec![error.to_string().trim().replace('\n', " ")]))?;
        let mut faults = Vec::new();
        let level = CertificationLevel::from_name(&config.level);
        if level.is_none() {
            faults.push(format!("level: `{}` is none of generic, positive", config.level));
        }
        let digest = SignatureDigest::from_name(&config.digest);
        if digest.is_none() {
            faults.push(format!("digest: `{}` is none of sha256, sha384, sha512", config.digest));
        }
        check_texts(&config, &mut faults);
        check_numbers(&config, &mut faults);
        let mut kinds = Vec::new();
        for kind in &config.keys.kinds {
            match KeyKind::from_name(kind) {
                Some(kind) if kinds.contains(&kind) => {
                    faults.push(format!("keys.kinds: `{}` is there twice", kind.name()));
                }
                Some(kind) => kinds.push(kind),
                None => {
                    let names = KeyKind::TABLE.map(|row| row.1).join(", ");
                    faults.push(format!("keys.kinds: `{kind}` is none of {names}"));
                }
            }
        }
        if config.keys.kinds.is_empty() {
            faults.push("keys.kinds: there is none, so nothing could be certified".into());
        }
        match (level, digest) {
            (Some(level), Some(digest)) if faults.is_empty() => {
                Ok(Self { name, level, digest, kinds, config })
            }
            _ => Err(PolicyFaults(faults)),
        }
    }

    /// Its name in requests.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What a certification says about the check of the user ID.
    pub fn level(&self) -> CertificationLevel {
        self.level
    }

    /// The digest of its certifications.
    pub fn digest(&self) -> SignatureDigest {
        self.digest
    }

    /// Where it can be read.
    pub fn policy_uri(&self) -> Option<&str> {
        self.config.policy_uri.as_deref()
    }

    /// The notation that holds the serial number.
    pub fn serial_notation(&self) -> Option<String> {
        self.config.notation_domain.as_ref().map(|domain| format!("serial@{domain}"))
    }

    /// The other notations, with their values.
    pub fn notations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.config.notation.iter().map(|one| (one.name.as_str(), one.value.as_str()))
    }

    /// The most days that it certifies for.
    pub fn days_max(&self) -> u32 {
        self.config.validity.days_max
    }

    /// Whether this policy takes that key and those user IDs, and until when it certifies them.
    pub fn permit(
        &self,
        vetted: &VettedOpenPgp,
        kind: (KeyKind, u32),
        user_ids: &[UserId],
        days: Option<u32>,
        at: UnixTime,
    ) -> Result<UnixTime, Refusal> {
        let name = &self.name;
        let (kind, bits) = kind;
        if !self.kinds.contains(&kind) {
            let text = format!("policy {name} takes no {} keys", kind.name());
            return Err(refuse(RefusalCode::OpenPgpKeyKind, text));
        }
        let least = self.config.keys.rsa_bits_min;
        if kind == KeyKind::Rsa && bits < least {
            let text = format!("it is RSA of {bits} bits; policy {name} takes {least} and more");
            return Err(refuse(RefusalCode::OpenPgpKeySize, text));
        }
        // `openpgp-no-encryption`
        if self.config.keys.needs_encryption && !vetted.can_encrypt() {
            let text = format!(
                "nothing of it can be encrypted to at present, which policy {name} demands"
            );
            return Err(refuse(RefusalCode::OpenPgpNoEncryption, text));
        }
        let form = |text: String| Err(Refusal::new(RefusalCode::OpenPgpUserIdForm, text));
        let most = self.config.user_ids.max;
        if user_ids.len() > most {
            return form(format!(
                "{} user IDs are asked for, policy {name} takes {most} at once",
                user_ids.len()
            ));
        }
        let bare = user_ids.iter().find(|user_id| user_id.address().is_none());
        if let Some(bare) = bare.filter(|_| self.config.user_ids.needs_address) {
            return form(format!("`{bare}` has no mail address, which policy {name} demands"));
        }
        let days = self.days(days)?;
        let asked = UnixTime(at.0.saturating_add(i64::from(days) * DAY_S));
        // `openpgp-not-past-the-key`
        Ok(UnixTime(vetted.key_expires().map_or(asked.0, |expires| expires.min(asked.0))))
    }

    /// `validity`
    fn days(&self, asked: Option<u32>) -> Result<u32, Refusal> {
        let refuse = |text: String| Err(Refusal::new(RefusalCode::Validity, text));
        let most = self.config.validity.days_max;
        match asked.unwrap_or(self.config.validity.days_default) {
            0 => refuse("0 days are asked for, at least 1 is needed".into()),
            days if days > most => {
                let name = &self.name;
                refuse(format!("{days} days are asked for, policy {name} allows {most}"))
            }
            days => Ok(days),
        }
    }

    /// What the frontend may know of it.
    pub fn entry(&self) -> Result<OpenPgpPolicyEntry, Fault> {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| Text::truncated(kind.name())).collect();
        let Config { validity, keys, user_ids, .. } = &self.config;
        let small = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Ok(OpenPgpPolicyEntry {
            name: self.name.clone(),
            level: self.level,
            days_default: validity.days_default,
            days_max: validity.days_max,
            key_kinds: List::try_from(kinds).map_err(super::internal)?,
            rsa_bits_min: small(keys.rsa_bits_min),
            needs_encryption: keys.needs_encryption,
            user_ids_max: u16::try_from(user_ids.max).unwrap_or(u16::MAX),
            policy_uri: self.policy_uri().map(Text::truncated),
            serial_notation: self.serial_notation().as_deref().map(Text::truncated),
        })
    }
}

fn check_texts(config: &Config, faults: &mut Vec<String>) {
    if let Some(uri) = &config.policy_uri {
        let printable = uri.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || !(uri.starts_with("https://") || uri.starts_with("http://")) {
            faults.push("policy_uri: it is no http or https URI of printable ASCII".into());
        }
        if uri.len() > TEXT_MAX {
            faults.push(format!("policy_uri: it has {} bytes, at most {TEXT_MAX}", uri.len()));
        }
    }
    let is_domain = |domain: &str| {
        UserId::parse(&format!("a@{domain}"))
            .is_ok_and(|parsed| parsed.address() == Some(&*format!("a@{domain}")))
    };
    if let Some(domain) = &config.notation_domain
        && (!is_domain(domain) || domain.len() > DOMAIN_MAX)
    {
        faults.push(format!(
            "notation_domain: `{domain}` is no domain in lower-case A-labels of at most \
             {DOMAIN_MAX} bytes"
        ));
    }
    let mut length = 0;
    for (at, notation) in config.notation.iter().enumerate() {
        length += notation.name.len() + notation.value.len();
        let (tag, domain) = notation.name.split_once('@').unwrap_or_default();
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if tag.is_empty() || !tag.bytes().all(good) || !is_domain(domain) {
            faults.push(format!(
                "notation[{at}].name: `{}` is not of the form word@domain (RFC 9580 5.2.3.24)",
                notation.name
            ));
        }
        if tag == "serial" && config.notation_domain.as_deref() == Some(domain) {
            faults.push(format!("notation[{at}].name: it is that of the serial number"));
        }
        if notation.value.is_empty() || notation.value.chars().any(char::is_control) {
            faults.push(format!("notation[{at}].value: it is empty or holds a control character"));
        }
    }
    if config.notation.len() > NOTATIONS_MAX || length > TEXT_MAX {
        faults.push(format!(
            "notation: {} of together {length} bytes, at most {NOTATIONS_MAX} of {TEXT_MAX}",
            config.notation.len()
        ));
    }
}

fn check_numbers(config: &Config, faults: &mut Vec<String>) {
    let ValidityConfig { days_default, days_max } = config.validity;
    if !(1..=DAYS_CEILING).contains(&days_max) {
        faults.push(format!("validity.days_max: {days_max} is not within 1 to {DAYS_CEILING}"));
    }
    if !(1..=days_max).contains(&days_default) {
        faults.push(format!(
            "validity.days_default: {days_default} is not within 1 to days_max, {days_max}"
        ));
    }
    let bits = config.keys.rsa_bits_min;
    if !(key::RSA_BITS_MIN..=key::RSA_BITS_MAX).contains(&bits) {
        faults.push(format!(
            "keys.rsa_bits_min: {bits} is not within {} to {}",
            key::RSA_BITS_MIN,
            key::RSA_BITS_MAX
        ));
    }
    let most = config.user_ids.max;
    if !(1..=USER_IDS_MAX).contains(&most) {
        faults.push(format!("user_ids.max: {most} is not within 1 to {USER_IDS_MAX}"));
    }
}
