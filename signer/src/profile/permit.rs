//! Decides about a wish: the only way to a [`Permit`].
//!
//! No rule here can be widened by anything that arrives over the link.

use protocol::message::{AttributeType, GeneralName, RefusalCode, Subject};

use super::{
    Profile,
    check::ENCIPHERMENTS,
    deviation::KEY_USAGE_UNFIT,
    syntax::{check_general_name, comparable},
};
use crate::{
    calendar::{DAY_S, UnixTime},
    intake::key::KeyKind,
    refusal::Refusal,
};

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
    key_usage: Vec<u8>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Permit {
    /// What is permitted, in the form in which it is written.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// The named bits of keyUsage that fit the key; none means that there is no keyUsage.
    pub fn key_usage(&self) -> &[u8] {
        &self.key_usage
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
        let mut wish = self.with_names_of_subject(wish);
        let key_usage = self.permit_key(&wish.public_key)?;
        wish.names.iter_mut().for_each(lower);
        self.arranged(&mut wish)?;
        self.permit_subject(&wish)?;
        self.permit_names(&wish.names)?;
        let not_after = self.permit_validity(wish.days, now, issuer_not_after)?;
        Ok(Permit { wish, key_usage, not_before: now, not_after })
    }

    /// Control: `names-from-subject`.
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
            let is_good = |name: &GeneralName| {
                check_general_name(name, self.config.names.wildcard).is_ok()
                    && self.takes(name.type_name())
                    && !wish.names.iter().any(|known| comparable(known) == comparable(name))
            };
            if let Some(name) = name.filter(is_good) {
                wish.names.push(name);
            }
        }
        wish
    }

    fn takes(&self, name_type: &str) -> bool {
        self.config.names.types.iter().any(|known| known == name_type)
    }

    /// Control: `key-kind`. The answer is the usages that fit the key.
    fn permit_key(&self, public_key: &[u8]) -> Result<Vec<u8>, Refusal> {
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
        if !permitted {
            let text = format!("profile {} does not take keys of the kind {kind}", self.name);
            return Err(Refusal::new(RefusalCode::KeyKind, text));
        }
        let usages = self.key_usage_for(kind);
        if usages.is_empty() && !self.checked.key_usage_bits.is_empty() {
            let text = format!(
                "profile {} is for encipherment, which keys of the kind {kind} cannot do",
                self.name
            );
            return Err(Refusal::new(RefusalCode::KeyKind, text));
        }
        Ok(usages)
    }

    /// Control: `key-usage-fits`. Only RSA keys encipher: keyEncipherment and dataEncipherment
    /// are left out for the others (RFC 8813 3, RFC 8410 5), unless a deviation keeps them.
    fn key_usage_for(&self, kind: KeyKind) -> Vec<u8> {
        let mut usages = self.checked.key_usage_bits.clone();
        let is_kept = self.deviations().iter().any(|known| known.name == KEY_USAGE_UNFIT.name);
        if !matches!(kind, KeyKind::Rsa { .. }) && !is_kept {
            usages.retain(|bit| !ENCIPHERMENTS.contains(bit));
        }
        usages
    }

    /// Control: `names-required`, `names-email`, `names-max`, `names-type`, `names-twice`, and each type's own.
    fn permit_names(&self, names: &[GeneralName]) -> Result<(), Refusal> {
        let rules = &self.config.names;
        let refuse = |text: String| Err(Refusal::new(RefusalCode::NameRule, text));
        if rules.required && names.is_empty() {
            let types = rules.types.join(", ");
            return refuse(format!("profile {} needs a name of type {types}", self.name));
        }
        // A certificate that protects mail is for a mail address (S/MIME BR 7.1.4.2.1).
        let has_mail = names.iter().any(|name| name.type_name() == "email");
        if rules.required && self.protects_mail() && self.takes("email") && !has_mail {
            return refuse(format!("profile {} needs a name of type email", self.name));
        }
        if names.len() > rules.max {
            return refuse(format!(
                "{} names are asked for, at most {} fit",
                names.len(),
                rules.max
            ));
        }
        let mut seen = std::collections::HashSet::with_capacity(names.len());
        for general_name in names {
            let kind = general_name.type_name();
            if !self.takes(kind) {
                return refuse(format!("profile {} takes no {kind} names", self.name));
            }
            if !seen.insert(comparable(general_name)) {
                return refuse(format!("{general_name} is asked for twice"));
            }
            check_general_name(general_name, rules.wildcard)
                .map_err(|text| Refusal::new(RefusalCode::NameRule, text))?;
        }
        Ok(())
    }

    /// Control: `validity-date-table`, `validity-issuer`.
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

/// DNS names are stored in lower case, as every CA stores them (RFC 4343: case means nothing).
fn lower(name: &mut GeneralName) {
    if let GeneralName::Dns(dns) = name
        && dns.bytes().any(|byte| byte.is_ascii_uppercase())
        && let Ok(lower) = dns.to_ascii_lowercase().try_into()
    {
        *dns = lower;
    }
}

/// What a common name would be as a host's name; whether it is one is checked afterwards.
fn host_name(common_name: &str) -> Option<GeneralName> {
    let kind = if common_name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
    format!("{kind}:{common_name}").parse().ok()
}
