//! Finds every fault of a written profile, and every deviation that it needs.
//!
//! Each fault is one sentence with its key and its clause. Nothing here decides about requests,
//! and no check stops at the first fault.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    bounded::Text,
    message::{Attribute, AttributeType, NAMES_MAX},
};
use regex::{Regex, RegexBuilder};

use super::{
    config::{
        KeysConfig, NameConstraintsConfig, NamesConfig, ProfileConfig, SubjectConfig,
        ValidityConfig,
    },
    constraint::Subtrees,
    deviation::{self, DEVIATIONS, Deviation},
    fault::ProfileFault,
    subject::check_value,
};
use crate::{calendar::UnixTime, keys::SignatureDigest, profile::SHARD_PLACE, tbs::Issuer};

mod extensions;
mod purposes;

pub(super) use extensions::ENCIPHERMENTS;
pub(super) use purposes::{EMAIL_PROTECTION, VALIDITY_RULES, purpose_name};

/// What the checks made of a profile's texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    pub(super) caps: Vec<(UnixTime, u32)>,
    pub(super) key_usage_bits: Vec<u8>,
    pub(super) purposes: Vec<String>,
    pub(super) allowed: Vec<AttributeType>,
    pub(super) required: BTreeSet<AttributeType>,
    pub(super) fixed: BTreeMap<AttributeType, String>,
    pub(super) patterns: BTreeMap<AttributeType, Regex>,
    pub(super) digest: Option<SignatureDigest>,
    pub(super) name_constraints: Option<Subtrees>,
    pub(super) deviations: Vec<&'static Deviation>,
}

/// Checks everything.
pub(super) fn check(config: &ProfileConfig) -> (Checked, Vec<ProfileFault>) {
    let mut finder = Finder::default();
    let mut checked =
        Checked { caps: check_validity(&config.validity, &mut finder), ..Checked::default() };
    check_keys(&config.keys, &mut finder);
    check_subject(&config.subject, &mut checked, &mut finder);
    check_names(&config.names, &mut finder);
    extensions::check(config, &mut checked, &mut finder);
    purposes::check(config, &checked, &mut finder);
    // A century: longer than anything here lives.
    if config.crl.keep_days.is_some_and(|days| days > KEEP_DAYS_MAX) {
        finder.fault("crl.keep_days", format!("is over {KEEP_DAYS_MAX}"), "");
    }
    checked.deviations = finder.settle(&config.deviations);
    (checked, finder.faults)
}

/// Checks what a profile asks of the authority that signs by it.
pub(super) fn check_issuer(config: &ProfileConfig, issuer: &Issuer) -> Vec<ProfileFault> {
    let mut finder = Finder::default();
    for (index, url) in config.extensions.crl_urls.iter().enumerate() {
        if url.contains(SHARD_PLACE) && issuer.crl_shards == 0 {
            let text = "names a shard, but the authority has none; set [crl] shards in \
                        authority.toml or leave `{shard}` out";
            finder.fault(format!("extensions.crl_urls[{index}]"), text, "RFC 5280 5.2.5");
        }
    }
    if config.extensions.digest.is_some() && !issuer.has_choice_of_digest() {
        let text = "the authority's kind of key has no choice of digest; leave it out";
        finder.fault("extensions.digest", text, "RFC 8410 3");
    }
    finder.faults
}

/// Collects faults, and what would be one unless its deviation is named.
#[derive(Default)]
struct Finder {
    faults: Vec<ProfileFault>,
    needed: Vec<(&'static Deviation, ProfileFault)>,
    /// Deviations that change something here, though no fault would be without them.
    possible: Vec<&'static Deviation>,
}

impl Finder {
    fn fault(&mut self, key: impl Into<String>, text: impl Into<String>, clause: &'static str) {
        self.faults.push(ProfileFault { line: None, key: key.into(), text: text.into(), clause });
    }

    /// A rule is broken that may be, by name.
    fn deviates(
        &mut self,
        deviation: &'static Deviation,
        key: impl Into<String>,
        text: impl Into<String>,
    ) {
        let fault = ProfileFault {
            line: None,
            key: key.into(),
            text: text.into(),
            clause: deviation.clause,
        };
        self.needed.push((deviation, fault));
    }

    /// A rule that is followed by itself may be broken, by name.
    fn may_deviate(&mut self, deviation: &'static Deviation) {
        self.possible.push(deviation);
    }

    /// Compares what is needed with what is named; the deviations in force.
    fn settle(&mut self, named: &[String]) -> Vec<&'static Deviation> {
        let mut in_force = Vec::new();
        for (index, name) in named.iter().enumerate() {
            let key = format!("deviations[{index}]");
            let Some(known) = DEVIATIONS.iter().find(|deviation| deviation.name == name) else {
                let known = DEVIATIONS.map(|deviation| deviation.name).join(", ");
                self.fault(key, format!("`{name}` is not known; there are {known}"), "");
                continue;
            };
            if named[..index].contains(name) {
                self.fault(key, format!("`{name}` is there twice"), "");
            } else if self.needed.iter().all(|(needed, _)| needed.name != known.name)
                && self.possible.iter().all(|possible| possible.name != known.name)
            {
                self.fault(key, format!("`{name}` is not needed; leave it out"), known.clause);
            } else {
                in_force.push(known);
            }
        }
        for (deviation, mut fault) in std::mem::take(&mut self.needed) {
            if !named.iter().any(|name| name == deviation.name) {
                let hint = format!("; change it, or name the deviation `{}`", deviation.name);
                fault.text.push_str(&hint);
                self.faults.push(fault);
            }
        }
        in_force
    }
}

fn check_validity(validity: &ValidityConfig, finder: &mut Finder) -> Vec<(UnixTime, u32)> {
    let mut caps: Vec<(UnixTime, u32)> = Vec::new();
    for (index, cap) in validity.max.iter().enumerate() {
        let key = format!("validity.max[{index}]");
        // 40 years: no authority here lives longer.
        if !(1..=DAYS_MAX).contains(&cap.days) {
            let text = format!("{} is not within 1 to {DAYS_MAX}", cap.days);
            finder.fault(format!("{key}.days"), text, "");
        }
        match UnixTime::from_date(&cap.from) {
            None => {
                let text = format!("`{}` is no date YYYY-MM-DD", cap.from);
                finder.fault(format!("{key}.from"), text, "");
            }
            Some(from) if caps.last().is_some_and(|(last, _)| *last >= from) => {
                let text = format!("{} is not after the one before", cap.from);
                finder.fault(format!("{key}.from"), text, "");
                caps.push((from, cap.days));
            }
            Some(from) => caps.push((from, cap.days)),
        }
    }
    if validity.max.is_empty() {
        finder.fault("validity.max", "has no cap; write at least one", "");
    }
    if validity.days_default == 0 {
        finder.fault("validity.days_default", "is 0, at least 1 is needed", "");
    }
    caps
}

fn check_keys(keys: &KeysConfig, finder: &mut Finder) {
    if let Some(bits) = keys.rsa_bits_min.filter(|bits| *bits < 2048) {
        finder.fault("keys.rsa_bits_min", format!("{bits} is below 2048"), "TLS BR 6.1.5");
    }
    if keys.rsa_bits_max < keys.rsa_bits_min && keys.rsa_bits_max.is_some() {
        finder.fault("keys.rsa_bits_max", "is below keys.rsa_bits_min", "");
    }
    for (index, curve) in keys.curves.iter().enumerate() {
        if !CURVES.contains(&curve.as_str()) {
            let text = format!("`{curve}` is not {}", CURVES.join(", "));
            finder.fault(format!("keys.curves[{index}]"), text, "TLS BR 6.1.5");
        }
    }
    if keys.rsa_bits_min.is_none() && keys.curves.is_empty() && !keys.ed25519 {
        finder.fault("keys", "takes no key at all", "");
    }
    if keys.ed25519 {
        finder.deviates(&deviation::ED25519_KEYS, "keys.ed25519", "takes Ed25519 keys");
    }
}

fn check_subject(subject: &SubjectConfig, checked: &mut Checked, finder: &mut Finder) {
    let mut known = |key: &str, name: &str| {
        let kind = AttributeType::from_short_name(name);
        if kind.is_none() {
            let names = AttributeType::TABLE.map(|row| row.1).join(", ");
            finder.fault(key, format!("attribute `{name}` is not known; there are {names}"), "");
        }
        kind
    };
    let mut pairs = Vec::new();
    for (index, name) in subject.allowed.iter().enumerate() {
        pairs.extend(known(&format!("subject.allowed[{index}]"), name).map(|kind| (index, kind)));
    }
    let mut required = Vec::new();
    for (index, name) in subject.required.iter().enumerate() {
        let key = format!("subject.required[{index}]");
        required.extend(known(&key, name).map(|kind| (key, kind)));
    }
    let mut fixed = Vec::new();
    for (name, value) in &subject.fixed {
        let key = format!("subject.fixed.{name}");
        fixed.extend(known(&key, name).map(|kind| (key, kind, value)));
    }
    let mut patterns = Vec::new();
    for (name, pattern) in &subject.patterns {
        let key = format!("subject.patterns.{name}");
        patterns.extend(known(&key, name).map(|kind| (key, kind, pattern)));
    }
    for (index, kind) in pairs {
        if checked.allowed.contains(&kind) {
            let text = format!("{} is there twice", kind.short_name());
            finder.fault(format!("subject.allowed[{index}]"), text, "");
        } else {
            checked.allowed.push(kind);
        }
    }
    let mut is_allowed = |key: &str, kind: AttributeType| {
        let is = checked.allowed.contains(&kind);
        if !is {
            finder.fault(key, format!("{} is not in `allowed`", kind.short_name()), "");
        }
        is
    };
    required.retain(|(key, kind)| is_allowed(key, *kind));
    fixed.retain(|(key, kind, _)| is_allowed(key, *kind));
    patterns.retain(|(key, kind, _)| is_allowed(key, *kind));
    checked.required.extend(required.into_iter().map(|(_, kind)| kind));
    for (key, kind, pattern) in patterns {
        match whole_value(pattern) {
            Ok(regex) => {
                checked.patterns.insert(kind, regex);
            }
            Err(text) => finder.fault(key, text, ""),
        }
    }
    for (key, kind, value) in fixed {
        match check_fixed(kind, value, checked.patterns.get(&kind)) {
            Ok(()) => {
                checked.fixed.insert(kind, value.clone());
            }
            Err(text) => finder.fault(key, text, "RFC 5280 appendix A"),
        }
    }
}

fn check_fixed(kind: AttributeType, value: &str, pattern: Option<&Regex>) -> Result<(), String> {
    let value = Text::try_from(value).map_err(|error| error.to_string())?;
    check_value(&Attribute { kind, value: value.clone() })?;
    match pattern {
        Some(pattern) if !pattern.is_match(&value) => {
            Err(format!("`{value}` does not match its own pattern"))
        }
        _ => Ok(()),
    }
}

/// The pattern, anchored at both ends. It is compiled alone first: `a)|(b` would else get out of
/// the anchors' parentheses.
fn whole_value(pattern: &str) -> Result<Regex, String> {
    let compile = |text: &str| {
        // A pattern that needs more would slow every decision; real ones need a hundredth of it.
        let built = RegexBuilder::new(text).size_limit(PATTERN_SIZE_MAX).build();
        built.map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("the pattern takes more than {limit} bytes; make it shorter")
            }
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default().trim();
                format!("`{pattern}` is no pattern: {}", last.trim_start_matches("error: "))
            }
        })
    };
    if pattern.len() > PATTERN_LENGTH_MAX {
        return Err(format!("the pattern is over {PATTERN_LENGTH_MAX} bytes"));
    }
    compile(pattern)?;
    compile(&format!(r"\A(?:{pattern})\z"))
}

fn check_names(names: &NamesConfig, finder: &mut Finder) {
    for (index, kind) in names.types.iter().enumerate() {
        let key = format!("names.types[{index}]");
        if !NAME_TYPES.contains(&kind.as_str()) {
            finder.fault(key, format!("`{kind}` is not {}", NAME_TYPES.join(", ")), "");
        } else if names.types[..index].contains(kind) {
            finder.fault(key, format!("`{kind}` is there twice"), "");
        }
    }
    if names.max > NAMES_MAX {
        finder.fault("names.max", format!("{} is over {NAMES_MAX}", names.max), "");
    }
    let takes = |kind: &str| names.types.iter().any(|known| known == kind);
    if names.max == 0 && !names.types.is_empty() {
        finder.fault("names.max", "is 0, yet there are types; write how many names fit", "");
    }
    if names.required && (names.types.is_empty() || names.max == 0) {
        finder.fault("names.required", "names are required but none is allowed", "");
    }
    if names.wildcard && !takes("dns") {
        finder.fault("names.wildcard", "is of no use without the type dns", "");
    }
    if names.from_subject && !(takes("dns") || takes("ip") || takes("email")) {
        let text = "is of no use without a type dns, ip or email";
        finder.fault("names.from_subject", text, "");
    }
}

/// Reads the name constraints; the key of each that is wrong is reported.
fn check_name_constraints(config: &NameConstraintsConfig, finder: &mut Finder) -> Subtrees {
    let (subtrees, faults) = Subtrees::parse(config);
    for (key, text) in faults {
        finder.fault(format!("extensions.name_constraints.{key}"), text, "RFC 5280 4.2.1.10");
    }
    subtrees
}

const CURVES: [&str; 3] = ["P-256", "P-384", "P-521"];
const NAME_TYPES: [&str; 5] = ["dns", "ip", "email", "uri", "xmpp"];
/// 40 years of 365.25 days: no authority here lives longer.
pub(crate) const DAYS_MAX: u32 = 14_610;
const KEEP_DAYS_MAX: u32 = 36_525;
const PATTERN_SIZE_MAX: usize = 256 * 1024;
const PATTERN_LENGTH_MAX: usize = 1024;
