//! What an authority is willing to sign: reviewed data in, checked rules out.
//!
//! [`ProfileConfig`] is the TOML that a person wrote; [`Profile`] is the same after every fault
//! was found, with private fields. [`Profile::permit`] is the only way to a [`Permit`]. No rule
//! here can be widened by anything that arrives over the link.

use std::{collections::BTreeSet, path::Path};

use protocol::{
    bounded::{List, Text},
    message::{Attribute, AttributeType, GeneralName, Name, ProfileEntry, RefusalCode, Subject},
};
use serde::Deserialize;

use crate::{
    calendar::{DAY_S, UnixTime},
    der, durable,
    fault::Fault,
    intake::key::KeyKind,
    name,
    refusal::Refusal,
};

/// The profiles that `authority create` installs, by file name.
pub const DEFAULTS: [(&str, &str); 8] = [
    ("server", include_str!("../profiles/server.toml")),
    ("client", include_str!("../profiles/client.toml")),
    ("client-codesign", include_str!("../profiles/client-codesign.toml")),
    ("client-org", include_str!("../profiles/client-org.toml")),
    ("server-org", include_str!("../profiles/server-org.toml")),
    ("ocsp", include_str!("../profiles/ocsp.toml")),
    ("timestamp", include_str!("../profiles/timestamp.toml")),
    ("subca", include_str!("../profiles/subca.toml")),
];

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
}

/// Which subject alternative names are taken.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamesConfig {
    /// `dns`, `ip`, `email`, `uri`.
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
    /// RFC 5280 names.
    pub key_usage: Vec<String>,
    /// RFC 5280 names or object identifiers.
    #[serde(default)]
    pub extended_key_usage: Vec<String>,
    /// extKeyUsage is critical (RFC 3161 2.3 for time stamping).
    #[serde(default)]
    pub extended_key_usage_critical: bool,
    /// id-pkix-ocsp-nocheck (RFC 6960 4.2.2.2.1).
    #[serde(default)]
    pub ocsp_no_check: bool,
    /// Where the CRL can be fetched.
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

/// One certificate policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Its object identifier.
    pub oid: String,
    /// Where the practice statement can be read.
    pub cps: Option<String>,
}

//------------ Profile -------------------------------------------------------

/// A profile without faults.
#[derive(Clone, Debug)]
pub struct Profile {
    name: Name,
    config: ProfileConfig,
    caps: Vec<(UnixTime, u32)>,
    key_usage_bits: Vec<u8>,
    extended_key_usage_oids: Vec<String>,
    allowed: BTreeSet<AttributeType>,
    required: BTreeSet<AttributeType>,
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

impl Profile {
    /// Loads and checks `path`; the profile's name is the file's.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = stem.parse::<Name>().map_err(|error| {
            Fault::Configuration(format!("{}: {error}; rename the file", path.display()))
        })?;
        let fault = |text: String| {
            Fault::Configuration(format!("{}: {text}; correct the profile", path.display()))
        };
        let config: ProfileConfig = toml::from_str(&durable::read_text(path)?)
            .map_err(|error| fault(error.to_string().trim().replace('\n', " ")))?;
        Self::check(name, config).map_err(fault)
    }

    /// Checks what a person wrote; the error names the first fault.
    pub fn check(name: Name, config: ProfileConfig) -> Result<Self, String> {
        let caps = check_validity(&config.validity)?;
        check_keys(&config.keys)?;
        check_names(&config.names)?;
        let attributes = |names: &[String]| -> Result<BTreeSet<AttributeType>, String> {
            let known = |name: &String| {
                AttributeType::from_short_name(name)
                    .ok_or_else(|| format!("subject attribute `{name}` is not known"))
            };
            names.iter().map(known).collect()
        };
        let allowed = attributes(&config.subject.allowed)?;
        let required = attributes(&config.subject.required)?;
        if let Some(missing) = required.difference(&allowed).next() {
            let missing = missing.short_name();
            return Err(format!("subject attribute {missing} is required but not allowed"));
        }
        let key_usage_bits = check_key_usage(&config.extensions)?;
        let extended_key_usage_oids = check_extended_key_usage(&config.extensions)?;
        check_extensions(&config)?;
        Ok(Self { name, caps, key_usage_bits, extended_key_usage_oids, allowed, required, config })
    }

    /// The profile's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether only the console may use it.
    pub fn console_only(&self) -> bool {
        self.config.console_only
    }

    /// The longest validity at `now`, in days; before the first cap begins, the first.
    pub fn days_max(&self, now: UnixTime) -> u32 {
        let begun = self.caps.iter().rev().find(|cap| cap.0 <= now);
        begun.unwrap_or(&self.caps[0]).1
    }

    /// What is written into the certificate.
    pub fn extensions(&self) -> &ExtensionsConfig {
        &self.config.extensions
    }

    /// The named bits of keyUsage.
    pub fn key_usage_bits(&self) -> &[u8] {
        &self.key_usage_bits
    }

    /// The purposes of extKeyUsage as object identifiers.
    pub fn extended_key_usage_oids(&self) -> &[String] {
        &self.extended_key_usage_oids
    }

    /// What the frontend may know of it.
    pub fn entry(&self, now: UnixTime) -> ProfileEntry {
        let types = self.config.names.types.iter();
        let types: Vec<Text<8>> = types.map(|kind| Text::truncated(kind)).collect();
        ProfileEntry {
            name: self.name.clone(),
            console_only: self.config.console_only,
            days_default: self.config.validity.days_default.min(self.days_max(now)),
            days_max: self.days_max(now),
            name_types: List::try_from(types).expect("check_names allows each of four types once"),
        }
    }
}

//------------ Wish and Permit -----------------------------------------------

/// What somebody asks of a profile.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The subject.
    pub subject: Subject,
    /// The subject alternative names.
    pub names: Vec<GeneralName>,
    /// The validity in days, if wished.
    pub days: Option<u32>,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

/// A wish that the profile permits. Only [`Profile::permit`] makes one.
#[derive(Debug)]
pub struct Permit {
    wish: Wish,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Permit {
    /// What is permitted.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// The first second of validity.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The last second of validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }
}

impl Profile {
    /// Decides about a wish. `now` becomes notBefore; `issuer_not_after` is the issuer's end
    /// (invariant I13).
    pub fn permit(
        &self,
        wish: Wish,
        now: UnixTime,
        issuer_not_after: UnixTime,
    ) -> Result<Permit, Refusal> {
        let wish = self.with_names_of_subject(wish);
        self.permit_key(&wish.public_key)?;
        self.permit_subject(&wish)?;
        self.permit_names(&wish.names)?;
        let not_after = self.permit_validity(wish.days, now, issuer_not_after)?;
        Ok(Permit { wish, not_before: now, not_after })
    }

    fn with_names_of_subject(&self, mut wish: Wish) -> Wish {
        if !self.config.names.from_subject || !wish.names.is_empty() {
            return wish;
        }
        for attribute in wish.subject.iter() {
            let name = match attribute.kind {
                AttributeType::CommonName => host_name(&attribute.value),
                AttributeType::EmailAddress => format!("email:{}", attribute.value).parse().ok(),
                _ => None,
            };
            let taken = |kind: &str| self.config.names.types.iter().any(|known| known == kind);
            let is_good = |name: &GeneralName| {
                check_general_name(name, self.config.names.wildcard).is_ok()
                    && taken(name.type_name())
                    && !wish.names.contains(name)
            };
            if let Some(name) = name.filter(is_good) {
                wish.names.push(name);
            }
        }
        wish
    }

    fn permit_key(&self, public_key: &[u8]) -> Result<(), Refusal> {
        let keys = &self.config.keys;
        let kind = KeyKind::of_spki(public_key)?;
        let permitted = match kind {
            KeyKind::Rsa { bits } => {
                keys.rsa_bits_min.is_some_and(|min| bits >= min)
                    && keys.rsa_bits_max.is_none_or(|max| bits <= max)
            }
            KeyKind::EcP256 => keys.curves.iter().any(|curve| curve == "P-256"),
            KeyKind::EcP384 => keys.curves.iter().any(|curve| curve == "P-384"),
            KeyKind::EcP521 => keys.curves.iter().any(|curve| curve == "P-521"),
            KeyKind::Ed25519 => keys.ed25519,
        };
        if permitted {
            return Ok(());
        }
        let text = format!("profile {} does not take keys of the kind {kind}", self.name);
        Err(Refusal::new(RefusalCode::KeyKind, text))
    }

    fn permit_subject(&self, wish: &Wish) -> Result<(), Refusal> {
        let refuse = |text: String| Err(Refusal::new(RefusalCode::SubjectRule, text));
        if wish.subject.is_empty() && wish.names.is_empty() {
            return refuse("neither a subject nor a subject alternative name is asked for".into());
        }
        for attribute in wish.subject.iter() {
            let kind = attribute.kind.short_name();
            if !self.allowed.contains(&attribute.kind) {
                return refuse(format!("profile {} takes no {kind} in subjects", self.name));
            }
            self.permit_attribute(attribute, wish)?;
        }
        for required in &self.required {
            if !wish.subject.iter().any(|attribute| attribute.kind == *required) {
                let kind = required.short_name();
                return refuse(format!("profile {} needs {kind} in the subject", self.name));
            }
        }
        Ok(())
    }

    fn permit_attribute(&self, attribute: &Attribute, wish: &Wish) -> Result<(), Refusal> {
        let refuse = |text: String| Err(Refusal::new(RefusalCode::SubjectRule, text));
        let kind = attribute.kind.short_name();
        let value: &str = &attribute.value;
        // RFC 5280 appendix A.1: upper bounds of the attribute types, in characters.
        let characters_max = match attribute.kind {
            AttributeType::CountryName => 2,
            AttributeType::LocalityName | AttributeType::StateOrProvinceName => 128,
            AttributeType::EmailAddress => 255,
            AttributeType::DomainComponent => 63,
            AttributeType::PostalCode => 40,
            _ => 64,
        };
        let characters = value.chars().count();
        if characters == 0 || characters > characters_max {
            return refuse(format!(
                "{kind} has {characters} characters, 1 to {characters_max} fit"
            ));
        }
        if attribute.kind == AttributeType::CountryName
            && !(characters == 2 && value.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return refuse(format!("C is `{value}`, not two capital letters (ISO 3166-1)"));
        }
        if value.chars().any(is_deceptive) {
            return refuse(format!("{kind} has control or text direction characters"));
        }
        if value.trim() != value {
            return refuse(format!("{kind} begins or ends with white space"));
        }
        if !name::fits_its_type(attribute) {
            return refuse(format!("{kind} has characters outside its string type"));
        }
        let is_common_name = attribute.kind == AttributeType::CommonName;
        if is_common_name && self.config.subject.common_name_is_a_name {
            let named = wish.names.iter().any(|name| match name {
                GeneralName::Dns(dns) => dns.eq_ignore_ascii_case(value),
                GeneralName::Ip4(octets) => std::net::Ipv4Addr::from(*octets).to_string() == value,
                GeneralName::Ip6(octets) => std::net::Ipv6Addr::from(*octets).to_string() == value,
                GeneralName::Email(_) | GeneralName::Uri(_) => false,
            });
            if !named {
                return refuse(format!("CN `{value}` is not among the subject alternative names"));
            }
        }
        Ok(())
    }

    fn permit_names(&self, names: &[GeneralName]) -> Result<(), Refusal> {
        let rules = &self.config.names;
        let refuse = |text: String| Err(Refusal::new(RefusalCode::NameRule, text));
        if rules.required && names.is_empty() {
            let types = rules.types.join(", ");
            return refuse(format!("profile {} needs a name of type {types}", self.name));
        }
        if names.len() > rules.max {
            return refuse(format!(
                "{} names are asked for, at most {} fit",
                names.len(),
                rules.max
            ));
        }
        for (index, general_name) in names.iter().enumerate() {
            let kind = general_name.type_name();
            if !rules.types.iter().any(|allowed| allowed == kind) {
                return refuse(format!("profile {} takes no {kind} names", self.name));
            }
            if names[..index].contains(general_name) {
                return refuse(format!("{general_name} is asked for twice"));
            }
            check_general_name(general_name, rules.wildcard)
                .map_err(|text| Refusal::new(RefusalCode::NameRule, text))?;
        }
        Ok(())
    }

    fn permit_validity(
        &self,
        days: Option<u32>,
        now: UnixTime,
        issuer_not_after: UnixTime,
    ) -> Result<UnixTime, Refusal> {
        let days_max = self.days_max(now);
        let refuse = |text: String| Err(Refusal::new(RefusalCode::Validity, text));
        // Both ends count, so n days end one second before n × 86,400 s (BR 6.3.2).
        let end = |days: u32| UnixTime(now.0 + i64::from(days) * DAY_S - 1);
        match days {
            Some(0) => refuse("0 days are asked for, at least 1 is needed".into()),
            Some(days) if days > days_max => refuse(format!(
                "{days} days are asked for, profile {} allows at most {days_max}",
                self.name
            )),
            Some(days) if end(days) > issuer_not_after => {
                refuse(format!("{days} days reach past the issuer's end at {issuer_not_after}"))
            }
            Some(days) => Ok(end(days)),
            None if issuer_not_after <= now => refuse("the issuer has expired".into()),
            None => {
                let days = self.config.validity.days_default.min(days_max);
                Ok(end(days).min(issuer_not_after))
            }
        }
    }
}

/// What a common name would be as a host's name; whether it is one is checked afterwards.
fn host_name(common_name: &str) -> Option<GeneralName> {
    let kind = if common_name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
    format!("{kind}:{common_name}").parse().ok()
}

/// Control characters, and those that make text read other than it is stored (Unicode TR 36).
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn check_general_name(name: &GeneralName, wildcard: bool) -> Result<(), String> {
    match name {
        GeneralName::Dns(dns) => check_dns(dns, wildcard),
        GeneralName::Email(address) => check_email(address),
        GeneralName::Uri(uri) => check_uri(uri),
        GeneralName::Ip4(octets) if std::net::Ipv4Addr::from(*octets).is_unspecified() => {
            Err("the address 0.0.0.0 names no host".into())
        }
        GeneralName::Ip6(octets) if std::net::Ipv6Addr::from(*octets).is_unspecified() => {
            Err("the address :: names no host".into())
        }
        GeneralName::Ip4(_) | GeneralName::Ip6(_) => Ok(()),
    }
}

/// RFC 1034 3.5 with RFC 1123 2.1, at least two labels; a wildcard is the whole leftmost label
/// (RFC 6125 6.4.3).
fn check_dns(dns: &str, wildcard: bool) -> Result<(), String> {
    let rest = match dns.strip_prefix("*.") {
        Some(rest) if wildcard => rest,
        Some(_) => return Err(format!("`{dns}` is a wildcard, which the profile does not take")),
        None => dns,
    };
    let label_is_good = |label: &str| {
        let edges = label.starts_with('-') || label.ends_with('-');
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len()) && !edges && label.bytes().all(known)
    };
    let labels: Vec<&str> = rest.split('.').collect();
    let numeric = labels.last().is_some_and(|top| top.bytes().all(|byte| byte.is_ascii_digit()));
    if labels.len() < 2 || numeric || !labels.iter().all(|label| label_is_good(label)) {
        return Err(format!("`{dns}` is no fully qualified DNS name in lower case"));
    }
    Ok(())
}

/// The form of RFC 5280 4.2.1.6: `local@host`, nothing around it.
fn check_email(address: &str) -> Result<(), String> {
    let fault = || format!("`{address}` is no mail address of the form local@host");
    let (local, host) = address.rsplit_once('@').ok_or_else(fault)?;
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    if local.is_empty() || local.len() > 64 || dots || !local.bytes().all(atom) {
        return Err(fault());
    }
    check_dns(&host.to_ascii_lowercase(), false).map_err(|_| fault())
}

/// RFC 5280 4.2.1.6: absolute, with a scheme and something after it.
fn check_uri(uri: &str) -> Result<(), String> {
    let fault = || format!("`{uri}` is no absolute URI");
    let (scheme, rest) = uri.split_once(':').ok_or_else(fault)?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let starts_well = scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let printable =
        uri.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&byte));
    if !starts_well || !scheme.bytes().all(known) || rest.is_empty() || !printable {
        return Err(fault());
    }
    Ok(())
}

//------------ Checks of what a person wrote ---------------------------------

fn check_validity(validity: &ValidityConfig) -> Result<Vec<(UnixTime, u32)>, String> {
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

fn check_keys(keys: &KeysConfig) -> Result<(), String> {
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

fn check_names(names: &NamesConfig) -> Result<(), String> {
    for (index, kind) in names.types.iter().enumerate() {
        if !NAME_TYPES.contains(&kind.as_str()) {
            return Err(format!("names.types `{kind}` is not dns, ip, email or uri"));
        }
        if names.types[..index].contains(kind) {
            return Err(format!("names.types has `{kind}` twice"));
        }
    }
    if names.max > protocol::message::NAMES_MAX {
        return Err(format!("names.max {} is over {}", names.max, protocol::message::NAMES_MAX));
    }
    if names.required && (names.types.is_empty() || names.max == 0) {
        return Err("names are required but none is allowed".into());
    }
    Ok(())
}

fn check_key_usage(extensions: &ExtensionsConfig) -> Result<Vec<u8>, String> {
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

fn check_extended_key_usage(extensions: &ExtensionsConfig) -> Result<Vec<String>, String> {
    let oid = |usage: &String| {
        let row = EXTENDED_KEY_USAGES.iter().find(|(name, _)| name == usage);
        let dotted = row.map_or(usage.as_str(), |(_, dotted)| dotted);
        der::oid(dotted)
            .map(|_| dotted.to_owned())
            .ok_or_else(|| format!("extended_key_usage `{usage}` is neither known nor an OID"))
    };
    extensions.extended_key_usage.iter().map(oid).collect()
}

fn check_extensions(config: &ProfileConfig) -> Result<(), String> {
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

#[cfg(test)]
mod tests;
