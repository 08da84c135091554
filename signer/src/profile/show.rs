//! What a certificate by a profile will say, field by field, as a person reads it.
//!
//! It is read from the checked profile, not from its text. Nothing here writes a certificate;
//! `tests` compare it with one that was written.

use super::{Encoding, Order, Presence, Profile, Unlisted, check, constraint::Subtree};
use crate::{
    calendar::UnixTime,
    tbs::{Issuer, extension},
};

/// One field or extension of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name in RFC 5280.
    pub name: &'static str,
    /// The object identifier of an extension.
    pub oid: Option<&'static str>,
    /// Whether an extension is critical.
    pub critical: bool,
    /// What it says, a line each.
    pub values: Vec<String>,
}

/// A step of the date table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownCap {
    /// From this day on.
    pub from: UnixTime,
    /// At most so many days.
    pub days: u32,
    /// Whether it is the one in force.
    pub in_force: bool,
}

/// The authority that signs.
#[derive(Clone, Copy, Debug)]
pub struct Signing<'a> {
    /// Its subject, for a person.
    pub subject: &'a str,
    /// The end of its own validity.
    pub not_after: UnixTime,
    /// What its certificates say about it.
    pub issuer: &'a Issuer,
}

impl Profile {
    /// Every field of a certificate in its order; with `signing`, as that authority signs it.
    pub fn show(&self, now: UnixTime, signing: Option<Signing<'_>>) -> Vec<Shown> {
        let field = |name, values| Shown { name, oid: None, critical: false, values };
        let mut all = vec![
            field("version", vec!["3".into()]),
            field("serialNumber", vec!["16 octets: a rising counter above 64 random bits".into()]),
            field("signature", vec![self.algorithm(signing)]),
            field(
                "issuer",
                vec![
                    signing
                        .map_or_else(|| "the authority's subject".into(), |by| by.subject.into()),
                ],
            ),
            field("validity", self.validity(now, signing)),
            field("subject", self.subject_rules()),
            field("subjectPublicKeyInfo", self.key_rules()),
        ];
        all.extend(self.shown_extensions(signing));
        all
    }

    /// The date table, with the cap of `now` marked.
    pub fn date_table(&self, now: UnixTime) -> Vec<ShownCap> {
        let caps = &self.checked.caps;
        let begun = caps.iter().rposition(|cap| cap.0 <= now).unwrap_or(0);
        let row = |(index, cap): (usize, &(UnixTime, u32))| ShownCap {
            from: cap.0,
            days: cap.1,
            in_force: index == begun,
        };
        caps.iter().enumerate().map(row).collect()
    }

    fn algorithm(&self, signing: Option<Signing<'_>>) -> String {
        match (signing, self.digest()) {
            (Some(by), digest) => algorithm_name(&by.issuer.algorithm(digest)),
            (None, Some(digest)) => format!("with {}", digest.name()),
            (None, None) => "with the digest that belongs to the authority's key".into(),
        }
    }

    fn validity(&self, now: UnixTime, signing: Option<Signing<'_>>) -> Vec<String> {
        let max = self.days_max(now);
        let days = self.config.validity.days_default.min(max);
        let mut values = vec![
            "notBefore: the moment of signing".into(),
            format!("notAfter: {days} days later without a wish, today at most {max}"),
        ];
        values
            .extend(signing.map(|by| format!("never past the authority's end, {}", by.not_after)));
        values
    }

    fn subject_rules(&self) -> Vec<String> {
        let config = &self.config.subject;
        let mut values: Vec<String> = Vec::new();
        for kind in &self.checked.allowed {
            let mut value = kind.short_name().to_owned();
            if self.checked.required.contains(kind) {
                value.push_str(", required");
            }
            if let Some(fixed) = self.checked.fixed.get(kind) {
                value.push_str(&format!(", always `{fixed}`"));
            }
            if self.checked.patterns.contains_key(kind) {
                let pattern = config
                    .patterns
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(kind.short_name()));
                value.extend(pattern.map(|(_, pattern)| format!(", of the form `{pattern}`")));
            }
            values.push(value);
        }
        if values.is_empty() {
            values.push("empty".into());
        }
        values.push(match config.unlisted {
            Unlisted::Refuse => "other attributes: the request is refused".into(),
            Unlisted::Drop => "other attributes: left out".into(),
        });
        values.push(match config.order {
            Order::AsAsked => "order: as asked for".into(),
            Order::AsAllowed => "order: as above, whatever was asked for".into(),
            Order::Strict => "order: as above, else refused".into(),
        });
        if config.encoding == Encoding::Printable {
            values.push("strings: PrintableString where the characters allow it".into());
        }
        if config.common_name_is_a_name {
            values.push("CN: one of the alternative names (TLS BR 7.1.4.3)".into());
        }
        values
    }

    fn key_rules(&self) -> Vec<String> {
        let keys = &self.config.keys;
        let mut values = Vec::new();
        if let Some(min) = keys.rsa_bits_min {
            let max = keys.rsa_bits_max.map_or(String::new(), |max| format!(" to {max}"));
            let or_more = if max.is_empty() { " or more" } else { "" };
            values.push(format!("RSA of {min}{max}{or_more} bits"));
        }
        values.extend(keys.curves.iter().cloned());
        if keys.ed25519 {
            values.push("Ed25519".into());
        }
        if keys.blocklist {
            values.push("nothing, as long as no list of weak keys is loaded".into());
        }
        values
    }

    fn shown_extensions(&self, signing: Option<Signing<'_>>) -> Vec<Shown> {
        let config = &self.config.extensions;
        let mut all = Vec::new();
        let mut add = |name, oid, critical, values: Vec<String>| {
            all.push(Shown { name, oid: Some(oid), critical, values });
        };
        if config.basic_constraints != Presence::Absent {
            let path = match (config.ca, config.path_length) {
                (false, _) => "CA:FALSE".to_owned(),
                (true, None) => "CA:TRUE".to_owned(),
                (true, Some(length)) => format!("CA:TRUE, pathlen:{length}"),
            };
            let critical = config.basic_constraints == Presence::Critical;
            add("basicConstraints", extension::BASIC_CONSTRAINTS, critical, vec![path]);
        }
        if !config.key_usage.is_empty() {
            let critical = config.key_usage_critical;
            add("keyUsage", extension::KEY_USAGE, critical, config.key_usage.clone());
        }
        if !self.checked.purposes.is_empty() {
            let names = self.checked.purposes.iter().map(|oid| check::purpose_name(oid).to_owned());
            let critical = config.extended_key_usage_critical;
            add("extKeyUsage", extension::EXTENDED_KEY_USAGE, critical, names.collect());
        }
        let own = vec!["SHA-1 of the key (RFC 5280 4.2.1.2)".to_owned()];
        add("subjectKeyIdentifier", extension::SUBJECT_KEY_IDENTIFIER, false, own);
        let issuers = signing.map_or_else(
            || "the authority's key identifier".to_owned(),
            |by| hexadecimal(&by.issuer.key_identifier),
        );
        add("authorityKeyIdentifier", extension::AUTHORITY_KEY_IDENTIFIER, false, vec![issuers]);
        if !self.config.names.types.is_empty() {
            add("subjectAltName", extension::SUBJECT_ALT_NAME, false, self.name_rules());
        }
        if let Some(subtrees) = &self.checked.name_constraints {
            let line = |word: &'static str| {
                move |subtree: &Subtree| format!("{word} {}", subtree.written())
            };
            let permitted = subtrees.permitted.iter().map(line("permitted"));
            let excluded = subtrees.excluded.iter().map(line("excluded"));
            let values = permitted.chain(excluded).collect();
            add("nameConstraints", extension::NAME_CONSTRAINTS, true, values);
        }
        if !config.crl_urls.is_empty() {
            let mut values = config.crl_urls.clone();
            if self.names_shard() {
                let shards =
                    signing.map_or("the authority's".into(), |by| by.issuer.crl_shards.to_string());
                values.push(format!(
                    "{{shard}}: the serial's last two octets modulo {shards} shards"
                ));
            }
            add("cRLDistributionPoints", extension::CRL_DISTRIBUTION_POINTS, false, values);
        }
        let access: Vec<String> = (config.ocsp_urls.iter().map(|url| format!("OCSP {url}")))
            .chain(config.issuer_urls.iter().map(|url| format!("caIssuers {url}")))
            .collect();
        if !access.is_empty() {
            let oid = extension::AUTHORITY_INFORMATION_ACCESS;
            add("authorityInfoAccess", oid, false, access);
        }
        if !config.policies.is_empty() {
            let line = |policy: &super::PolicyConfig| match &policy.cps {
                Some(cps) => format!("{}, CPS {cps}", policy.oid),
                None => policy.oid.clone(),
            };
            let values = config.policies.iter().map(line).collect();
            add("certificatePolicies", extension::CERTIFICATE_POLICIES, false, values);
        }
        if !config.delta_crl_urls.is_empty() {
            add("freshestCRL", extension::FRESHEST_CRL, false, config.delta_crl_urls.clone());
        }
        if config.must_staple {
            add("tlsfeature", extension::TLS_FEATURE, false, vec!["status_request".into()]);
        }
        if config.ocsp_no_check {
            add("ocsp-nocheck", extension::OCSP_NO_CHECK, false, vec!["NULL".into()]);
        }
        all
    }

    fn name_rules(&self) -> Vec<String> {
        let names = &self.config.names;
        let least = if names.required { "1" } else { "0" };
        let mut values = vec![format!("{least} to {} of {}", names.max, names.types.join(", "))];
        if names.wildcard {
            values.push("wildcard as the whole leftmost label".into());
        }
        if names.from_subject {
            values.push("from the subject where none is asked for".into());
        }
        values.push("critical where the subject is empty (RFC 5280 4.2.1.6)".into());
        values
    }
}

/// The name of a signature algorithm of ours.
fn algorithm_name(identifier: &[u8]) -> String {
    use crate::keys::{CaKeyKind, SignatureDigest};
    let families = [(CaKeyKind::Rsa(2048), "RSA"), (CaKeyKind::P256, "ECDSA")];
    for (kind, name) in families {
        for digest in SignatureDigest::ALL {
            if kind.signature_algorithm(Some(digest)) == identifier {
                return format!("{name} with {}", digest.name());
            }
        }
    }
    format!("the algorithm {}", hexadecimal(identifier))
}

fn hexadecimal(octets: &[u8]) -> String {
    let pairs: Vec<String> = octets.iter().map(|octet| format!("{octet:02X}")).collect();
    pairs.join(":")
}
