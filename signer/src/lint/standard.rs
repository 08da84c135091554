//! What RFC 5280 asks of every certificate, whatever was permitted.
//!
//! The profile's own check keeps all of this; it is looked at again in what will be signed.

use super::{Finding, Lint, fields::Fields, must};
use crate::{calendar::UnixTime, der::tag, intake::der::Element, tbs::extension};

/// Every lint of this room.
#[cfg(test)]
pub(super) const LINTS: [&Lint; 13] = [
    &VERSION,
    &SERIAL,
    &TIME_FORM,
    &TIME_ORDER,
    &EXTENSION_ONCE,
    &CRITICAL,
    &PLAIN,
    &CA_SIGNS,
    &CA_ONLY,
    &CA_SUBJECT,
    &NAMED,
    &NAMES_CRITICAL,
    &ANY_PURPOSE_PLAIN,
];

const VERSION: Lint = Lint { id: "version", says: "the version is 3", clause: "RFC 5280 4.1.2.1" };
const SERIAL: Lint = Lint {
    id: "serial-form",
    says: "the serial number is positive, minimal and within 20 octets",
    clause: "RFC 5280 4.1.2.2",
};
const TIME_FORM: Lint = Lint {
    id: "time-form",
    says: "times are UTCTime through 2049 and GeneralizedTime after, with seconds and Z",
    clause: "RFC 5280 4.1.2.5",
};
const TIME_ORDER: Lint =
    Lint { id: "time-order", says: "notBefore is before notAfter", clause: "RFC 5280 4.1.2.5" };
const EXTENSION_ONCE: Lint =
    Lint { id: "extension-once", says: "no extension is there twice", clause: "RFC 5280 4.2" };
const CRITICAL: Lint = Lint {
    id: "critical",
    says: "basicConstraints of a CA and nameConstraints are critical",
    clause: "RFC 5280 4.2.1.9, 4.2.1.10",
};
const PLAIN: Lint = Lint {
    id: "not-critical",
    says: "key identifiers, distribution points and access information are not critical",
    clause: "RFC 5280 4.2.1.1, 4.2.1.2, 4.2.1.13, 4.2.1.15, 4.2.2.1",
};
const CA_SIGNS: Lint = Lint {
    id: "ca-signs",
    says: "a CA may sign certificates by its keyUsage",
    clause: "RFC 5280 4.2.1.3",
};
const CA_ONLY: Lint = Lint {
    id: "ca-only",
    says: "keyCertSign, pathLenConstraint and nameConstraints belong to a CA",
    clause: "RFC 5280 4.2.1.3, 4.2.1.9, 4.2.1.10",
};
const CA_SUBJECT: Lint =
    Lint { id: "ca-subject", says: "a CA has a subject", clause: "RFC 5280 4.1.2.6" };
const NAMED: Lint = Lint {
    id: "named",
    says: "the certificate has a subject or alternative names",
    clause: "RFC 5280 4.1.2.6",
};
const NAMES_CRITICAL: Lint = Lint {
    id: "names-critical",
    says: "alternative names without a subject are critical",
    clause: "RFC 5280 4.2.1.6",
};
const ANY_PURPOSE_PLAIN: Lint = Lint {
    id: "any-purpose-plain",
    says: "extKeyUsage with anyExtendedKeyUsage is not critical",
    clause: "RFC 5280 4.2.1.12",
};

/// An empty Name.
const NO_SUBJECT: [u8; 2] = [tag::SEQUENCE, 0];

pub(super) fn check(fields: &Fields<'_>) -> Result<(), Finding> {
    must(&VERSION, fields.version.content == [tag::INTEGER, 1, 2])?;
    must(&SERIAL, serial_is_good(fields.serial))?;
    let times = (time(&fields.not_before), time(&fields.not_after));
    let (Some(not_before), Some(not_after)) = times else { return Err(TIME_FORM.finding("")) };
    must(&TIME_ORDER, not_before < not_after)?;
    let oids = || fields.extensions.iter().map(|extension| extension.oid.as_str());
    must(&EXTENSION_ONCE, oids().enumerate().all(|(at, oid)| oids().take(at).all(|o| o != oid)))?;
    check_criticality(fields)?;
    check_authority(fields)?;
    let has_names = fields.extension(extension::SUBJECT_ALT_NAME);
    let has_subject = fields.subject != NO_SUBJECT;
    must(&NAMED, has_subject || has_names.is_some())?;
    must(&NAMES_CRITICAL, has_subject || has_names.is_some_and(|names| names.critical))
}

fn serial_is_good(content: &[u8]) -> bool {
    let minimal = match content {
        [0, second, ..] => *second >= 0x80,
        [first, ..] => (1..0x80).contains(first),
        [] => false,
    };
    minimal && content.len() <= 20
}

fn time(element: &Element<'_>) -> Option<UnixTime> {
    let text = std::str::from_utf8(element.content).ok()?;
    let time = UnixTime::from_index(text)?;
    let of_this_century = (1950..2050).contains(&time.civil().year);
    let form = match (element.tag, text.len()) {
        (tag::UTC_TIME, 13) => of_this_century,
        (tag::GENERALIZED_TIME, 15) => !of_this_century,
        _ => false,
    };
    form.then_some(time)
}

fn check_criticality(fields: &Fields<'_>) -> Result<(), Finding> {
    let critical = |oid: &str| fields.extension(oid).map(|extension| extension.critical);
    let (is_ca, _) = fields.basic_constraints()?;
    must(&CRITICAL, !is_ca || critical(extension::BASIC_CONSTRAINTS) == Some(true))?;
    must(&CRITICAL, critical(extension::NAME_CONSTRAINTS) != Some(false))?;
    let plain = [
        extension::SUBJECT_KEY_IDENTIFIER,
        extension::AUTHORITY_KEY_IDENTIFIER,
        extension::CRL_DISTRIBUTION_POINTS,
        extension::FRESHEST_CRL,
        extension::AUTHORITY_INFORMATION_ACCESS,
    ];
    must(&PLAIN, plain.iter().all(|oid| critical(oid) != Some(true)))?;
    let any = fields.purposes()?.iter().any(|purpose| purpose == "2.5.29.37.0");
    must(&ANY_PURPOSE_PLAIN, !any || critical(extension::EXTENDED_KEY_USAGE) == Some(false))
}

fn check_authority(fields: &Fields<'_>) -> Result<(), Finding> {
    let (is_ca, path_length) = fields.basic_constraints()?;
    let signs = fields.key_usage()?.is_some_and(|bits| bits.contains(&5));
    must(&CA_SIGNS, !is_ca || signs)?;
    let constrained = fields.extension(extension::NAME_CONSTRAINTS).is_some();
    must(&CA_ONLY, is_ca || !(signs || constrained || path_length.is_some()))?;
    must(&CA_SUBJECT, !is_ca || fields.subject != NO_SUBJECT)
}
