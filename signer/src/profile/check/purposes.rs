//! The rules that belong to one purpose: TLS, mail, code, time stamps, OCSP.
//!
//! They come from the CA/Browser Forum's documents. Each can be broken by name only.

use protocol::message::AttributeType;

use super::{
    super::{
        config::{ProfileConfig, ValidityCap},
        deviation::{
            CRL_KEEP_SHORT, Deviation, OCSP_CHECKED, TIME_STAMPING_PURPOSE, TLS_NAMES_UNCHECKED,
            TLS_OTHER_NAMES, VALIDITY_CODE_SIGNING, VALIDITY_SMIME, VALIDITY_TIME_STAMPING,
            VALIDITY_TLS,
        },
    },
    Checked, Finder,
};
use crate::calendar::UnixTime;

/// A purpose of extKeyUsage.
pub(super) struct Purpose {
    pub(super) name: &'static str,
    pub(super) oid: &'static str,
    /// The bits of keyUsage of which at least one belongs to it (RFC 5280 4.2.1.12).
    usages: &'static [u8],
}

pub(super) const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
pub(super) const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
pub(in crate::profile) const EMAIL_PROTECTION: &str = "1.3.6.1.5.5.7.3.4";
const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
pub(super) const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";
pub(super) const ANY_PURPOSE: &str = "2.5.29.37.0";

/// RFC 5280 4.2.1.12.
pub(super) const PURPOSES: [Purpose; 7] = [
    Purpose { name: "serverAuth", oid: SERVER_AUTH, usages: &[0, 2, 4] },
    Purpose { name: "clientAuth", oid: CLIENT_AUTH, usages: &[0, 4] },
    Purpose { name: "codeSigning", oid: CODE_SIGNING, usages: &[0] },
    Purpose { name: "emailProtection", oid: EMAIL_PROTECTION, usages: &[0, 1, 2, 4] },
    Purpose { name: "timeStamping", oid: TIME_STAMPING, usages: &[0, 1] },
    Purpose { name: "OCSPSigning", oid: OCSP_SIGNING, usages: &[0, 1] },
    Purpose { name: "anyExtendedKeyUsage", oid: ANY_PURPOSE, usages: &[0, 1, 2, 3, 4] },
];

/// The name of a purpose that has one, else its object identifier.
pub(in crate::profile) fn purpose_name(oid: &str) -> &str {
    PURPOSES.iter().find(|row| row.oid == oid).map_or(oid, |row| row.name)
}

/// The longest validity that a purpose may have, by date of issue.
pub(in crate::profile) struct ValidityRule {
    pub(in crate::profile) purpose: &'static str,
    pub(in crate::profile) deviation: &'static Deviation,
    /// From which date on the most days.
    pub(in crate::profile) steps: &'static [(&'static str, u32)],
}

pub(in crate::profile) const VALIDITY_RULES: [ValidityRule; 4] = [
    ValidityRule {
        purpose: SERVER_AUTH,
        deviation: &VALIDITY_TLS,
        steps: &[("2026-03-15", 200), ("2027-03-15", 100), ("2029-03-15", 47)],
    },
    ValidityRule {
        purpose: EMAIL_PROTECTION,
        deviation: &VALIDITY_SMIME,
        steps: &[("2023-09-01", 825)],
    },
    ValidityRule {
        purpose: CODE_SIGNING,
        deviation: &VALIDITY_CODE_SIGNING,
        steps: &[("2026-03-01", 460)],
    },
    ValidityRule {
        purpose: TIME_STAMPING,
        deviation: &VALIDITY_TIME_STAMPING,
        // 135 months: at the least 11 years with two leap days and 89 days.
        steps: &[("2026-03-01", 4_106)],
    },
];

/// Ten years, three leap days among them.
const CODE_KEEP_DAYS: u32 = 3_653;

pub(super) fn check(config: &ProfileConfig, checked: &Checked, finder: &mut Finder) {
    let purposes = &checked.purposes;
    let serves = |purpose: &str| purposes.iter().any(|known| known == purpose);
    check_usages(checked, finder);
    // What may serve any purpose is named as that deviation; a CA's own life is its root's matter.
    if config.extensions.ca || serves(ANY_PURPOSE) {
        return;
    }
    for rule in VALIDITY_RULES.iter().filter(|rule| serves(rule.purpose)) {
        check_validity(rule, &checked.caps, config, finder);
    }
    if serves(SERVER_AUTH) {
        check_tls_names(config, checked, finder);
    }
    let critical = config.extensions.extended_key_usage_critical;
    if serves(TIME_STAMPING) && (!critical || purposes.len() > 1) {
        let text = "timeStamping must stand alone and be critical";
        finder.deviates(&TIME_STAMPING_PURPOSE, "extensions.extended_key_usage", text);
    }
    if serves(OCSP_SIGNING) && !config.extensions.ocsp_no_check {
        let text = "is false: clients would ask about the responder in turn";
        finder.deviates(&OCSP_CHECKED, "extensions.ocsp_no_check", text);
    }
    if serves(CODE_SIGNING) && config.crl.keep_days.is_none_or(|days| days < CODE_KEEP_DAYS) {
        let text = format!("is under {CODE_KEEP_DAYS} days, the ten years of code signing");
        finder.deviates(&CRL_KEEP_SHORT, "crl.keep_days", text);
    }
}

/// Each purpose needs a usage that belongs to it.
fn check_usages(checked: &Checked, finder: &mut Finder) {
    let bits = &checked.key_usage_bits;
    for row in PURPOSES.iter().filter(|row| checked.purposes.iter().any(|oid| oid == row.oid)) {
        if !bits.is_empty() && !bits.iter().any(|bit| row.usages.contains(bit)) {
            let text = format!("has no usage that {} needs", row.name);
            finder.fault("extensions.key_usage", text, "RFC 5280 4.2.1.12");
        }
    }
}

fn check_validity(
    rule: &ValidityRule,
    caps: &[(UnixTime, u32)],
    config: &ProfileConfig,
    finder: &mut Finder,
) {
    for (number, (begins_at, days)) in caps.iter().enumerate() {
        // The first cap holds before it begins, too; each ends where the next begins.
        let from = if number == 0 { UnixTime(i64::MIN) } else { *begins_at };
        let until = caps.get(number + 1).map_or(UnixTime(i64::MAX), |next| next.0);
        let of_file = |cap: &ValidityCap| UnixTime::from_date(&cap.from) == Some(*begins_at);
        let index = config.validity.max.iter().position(of_file).unwrap_or(0); // all are of the file
        for (step, (begins, most)) in rule.steps.iter().enumerate() {
            let date = |text| UnixTime::from_date(text).expect("the dates above are dates: tested");
            let ends = rule.steps.get(step + 1).map_or(UnixTime(i64::MAX), |next| date(next.0));
            if *days > *most && from < ends && until > date(begins) {
                let key = format!("validity.max[{index}].days");
                let purpose = purpose_name(rule.purpose);
                let text = format!("{days} is over {most}, the most for {purpose} from {begins}");
                finder.deviates(rule.deviation, key, text);
            }
        }
    }
}

fn check_tls_names(config: &ProfileConfig, checked: &Checked, finder: &mut Finder) {
    if !config.names.required {
        let text = "is false: TLS clients take no server without names";
        finder.deviates(&TLS_NAMES_UNCHECKED, "names.required", text);
    }
    let takes_common_names = checked.allowed.contains(&AttributeType::CommonName);
    if takes_common_names && !config.subject.common_name_is_a_name {
        let key = "subject.common_name_is_a_name";
        let text = "is false: a common name could be none of the names";
        finder.deviates(&TLS_NAMES_UNCHECKED, key, text);
    }
    for (index, kind) in config.names.types.iter().enumerate() {
        if matches!(kind.as_str(), "email" | "uri" | "xmpp") {
            let text = format!("`{kind}` is no type for TLS servers");
            finder.deviates(&TLS_OTHER_NAMES, format!("names.types[{index}]"), text);
        }
    }
}
