//! What an authority is willing to sign: reviewed data in, checked rules out.
//!
//! [`ProfileConfig`] is the TOML that a person wrote; [`Profile`] is the same after every fault
//! was found, with private fields. [`Profile::permit`] is the only way to a [`Permit`]. No rule
//! here can be widened by anything that arrives over the link.

use std::{collections::BTreeSet, path::Path};

use crate::{
    calendar::{DAY_S, UnixTime},
    durable,
    fault::Fault,
    intake::key::KeyKind,
    name,
    refusal::Refusal,
};
use protocol::{
    bounded::{List, Text},
    message::{Attribute, AttributeType, GeneralName, Name, ProfileEntry, RefusalCode, Subject},
};

mod config;
mod syntax;

pub use config::{
    ExtensionsConfig, KeysConfig, NamesConfig, PolicyConfig, ProfileConfig, SubjectConfig,
    ValidityCap, ValidityConfig,
};
use config::{
    check_extended_key_usage, check_extensions, check_key_usage, check_keys, check_names,
    check_validity,
};
use syntax::{check_general_name, is_deceptive};

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
                GeneralName::Email(_) | GeneralName::Uri(_) | GeneralName::Xmpp(_) => false,
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

#[cfg(test)]
mod tests;
