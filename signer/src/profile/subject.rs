//! Which subjects a profile permits, and in which form they are written.
//!
//! A value is taken as it was asked for or refused, never repaired; attributes are left out or
//! put into another order only where the profile says so.

use protocol::{
    bounded::List,
    message::{Attribute, AttributeType, GeneralName, RefusalCode, Subject},
};

use super::{
    Order, Profile, Unlisted, Wish,
    syntax::{a_label_form, is_deceptive},
};
use crate::{name, refusal::Refusal};

impl Profile {
    /// The subject as the profile writes it. Control: `subject-unlisted`, `subject-order`.
    pub(super) fn arranged(&self, wish: &mut Wish) -> Result<(), Refusal> {
        let config = &self.config.subject;
        let mut attributes: Vec<Attribute> = wish.subject.iter().cloned().collect();
        if config.unlisted == Unlisted::Drop {
            attributes.retain(|attribute| self.checked.allowed.contains(&attribute.kind));
        }
        let place = |attribute: &Attribute| {
            let mut allowed = self.checked.allowed.iter();
            allowed.position(|kind| *kind == attribute.kind)
        };
        match config.order {
            Order::AsAsked => {}
            Order::AsAllowed => attributes.sort_by_key(place), // keeps equal ones as asked
            Order::Strict if attributes.is_sorted_by_key(place) => {}
            Order::Strict => {
                let order = config.allowed.join(", ");
                return refuse(format!(
                    "profile {} takes subjects in the order {order} only",
                    self.name
                ));
            }
        }
        wish.subject = List::try_from(attributes).unwrap_or_else(|_| Subject::empty());
        Ok(())
    }

    /// Control: `subject-allowed`, `subject-required`, `subject-fixed`, `subject-pattern`,
    /// `ca-subject`.
    pub(super) fn permit_subject(&self, wish: &Wish) -> Result<(), Refusal> {
        if wish.subject.is_empty() && wish.names.is_empty() {
            return refuse(
                "neither a subject nor a subject alternative name is asked for".to_owned(),
            );
        }
        if wish.subject.is_empty() && self.config.extensions.ca {
            return refuse("a CA needs a subject (RFC 5280 4.1.2.6)".to_owned());
        }
        for attribute in wish.subject.iter() {
            let kind = attribute.kind.short_name();
            if !self.checked.allowed.contains(&attribute.kind) {
                return refuse(format!("profile {} takes no {kind} in subjects", self.name));
            }
            check_value(attribute).or_else(refuse)?;
            self.permit_value(attribute)?;
            self.permit_common_name(attribute, &wish.names)?;
        }
        for required in &self.checked.required {
            if !wish.subject.iter().any(|attribute| attribute.kind == *required) {
                let kind = required.short_name();
                return refuse(format!("profile {} needs {kind} in the subject", self.name));
            }
        }
        Ok(())
    }

    fn permit_value(&self, attribute: &Attribute) -> Result<(), Refusal> {
        let kind = attribute.kind.short_name();
        let value: &str = &attribute.value;
        match self.checked.fixed.get(&attribute.kind) {
            Some(fixed) if fixed != value => {
                return refuse(format!(
                    "{kind} is `{value}`; profile {} takes `{fixed}` only",
                    self.name
                ));
            }
            _ => {}
        }
        match self.checked.patterns.get(&attribute.kind) {
            Some(pattern) if !pattern.is_match(value) => refuse(format!(
                "{kind} is `{value}`, which does not have the form that profile {} asks for",
                self.name
            )),
            _ => Ok(()),
        }
    }

    /// Control: `common-name` (TLS BR 7.1.4.3): a copy of one of the names.
    fn permit_common_name(
        &self,
        attribute: &Attribute,
        names: &[GeneralName],
    ) -> Result<(), Refusal> {
        let is_common_name = attribute.kind == AttributeType::CommonName;
        if !is_common_name || !self.config.subject.common_name_is_a_name {
            return Ok(());
        }
        let value: &str = &attribute.value;
        let named = names.iter().any(|name| match name {
            GeneralName::Dns(dns) => dns.eq_ignore_ascii_case(value),
            GeneralName::Ip4(octets) => std::net::Ipv4Addr::from(*octets).to_string() == value,
            GeneralName::Ip6(octets) => std::net::Ipv6Addr::from(*octets).to_string() == value,
            GeneralName::Email(_) | GeneralName::Uri(_) | GeneralName::Xmpp(_) => false,
        });
        if named {
            return Ok(());
        }
        match a_label_form(value) {
            Some(a_labels) => {
                refuse(format!("CN `{value}` must be written in A-labels: `{a_labels}`"))
            }
            None => refuse(format!("CN `{value}` is not among the subject alternative names")),
        }
    }
}

fn refuse<T>(text: String) -> Result<T, Refusal> {
    Err(Refusal::new(RefusalCode::SubjectRule, text))
}

/// What holds for a value in every profile. Control: `subject-length`, `subject-country`,
/// `subject-characters`, `subject-string-type`.
pub(super) fn check_value(attribute: &Attribute) -> Result<(), String> {
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
        return Err(format!("{kind} has {characters} characters, 1 to {characters_max} fit"));
    }
    if attribute.kind == AttributeType::CountryName
        && !(characters == 2 && value.bytes().all(|byte| byte.is_ascii_uppercase()))
    {
        return Err(format!("C is `{value}`, not two capital letters (ISO 3166-1)"));
    }
    if value.chars().any(is_deceptive) {
        return Err(format!("{kind} has control or text direction characters"));
    }
    if value.trim() != value {
        return Err(format!("{kind} begins or ends with white space"));
    }
    if !name::fits_its_type(attribute) {
        return Err(format!("{kind} has characters outside its string type"));
    }
    Ok(())
}
