//! The section of an authority: digest, days and policy.

use protocol::message::{AttributeType, Subject};

use super::{
    ImportError, ImportFault, Report, Source,
    conf::{Conf, DEFAULT, Entry},
    names::oid_of,
};
use crate::profile::{Encoding, Order};

/// What `openssl ca` takes from its own section.
#[derive(Debug)]
pub(super) struct CaSection {
    pub(super) name: String,
    pub(super) line: u32,
    pub(super) digest: &'static str,
    pub(super) days: Option<Days>,
    pub(super) allowed: Vec<AttributeType>,
    pub(super) required: Vec<AttributeType>,
    pub(super) fixed: Vec<(AttributeType, String)>,
    pub(super) order: Order,
    pub(super) encoding: Encoding,
    pub(super) copy: Copy,
    /// Subjects have addresses by the time that `email:copy` looks for them.
    pub(super) has_emails: bool,
    pub(super) extensions: Option<Extensions>,
}

/// `default_days`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Days {
    pub(super) line: u32,
    pub(super) days: u32,
}

/// Which section has the extensions.
#[derive(Clone, Debug)]
pub(super) struct Extensions {
    pub(super) line: u32,
    pub(super) section: String,
}

/// `copy_extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    None,
    /// What the configuration does not set itself.
    Missing,
    /// What the configuration sets is replaced by what is asked for.
    All,
}

/// A key in the section or, as openssl looks it up, before all sections.
struct Found<'a> {
    line: u32,
    value: &'a str,
}

impl CaSection {
    pub(super) fn read(
        conf: &Conf,
        source: &Source<'_>,
        report: &mut Report,
    ) -> Result<Self, ImportError> {
        let (name, named_at) = section_name(conf, source)?;
        let section = conf.section(&name).filter(|_| name != DEFAULT || named_at == 0);
        let Some(section) = section else {
            let fault = ImportFault::NoSection { key: "default_ca".into(), section: name };
            return Err(ImportError { line: named_at.max(1), fault });
        };
        let reader = Reader { conf, name: &name, line: section.line };
        let policy = reader.policy(source.ca_subject, report)?;
        let copy = reader.copy(report)?;
        reader.without_effect(report)?;
        let order = reader.order(report)?;
        let has_emails = policy.allowed.contains(&AttributeType::EmailAddress);
        let mut ca = Self {
            line: section.line.max(1),
            digest: reader.digest(report)?,
            days: reader.days(report)?,
            allowed: policy.allowed,
            required: policy.required,
            fixed: policy.fixed,
            order,
            encoding: reader.encoding(report)?,
            copy,
            has_emails: has_emails || order == Order::AsAsked,
            extensions: reader.extensions(source)?,
            name: name.clone(),
        };
        reader.drop_email(&mut ca, report)?;
        reader.unique_subject(report)?;
        Ok(ca)
    }
}

fn section_name(conf: &Conf, source: &Source<'_>) -> Result<(String, u32), ImportError> {
    if let Some(name) = source.section {
        if conf.section(name).is_none() {
            let (key, section) = ("--section".to_owned(), name.to_owned());
            return Err(ImportError { line: 1, fault: ImportFault::NoSection { key, section } });
        }
        return Ok((name.to_owned(), 0));
    }
    let entry = conf.lookup("ca", "default_ca");
    let entry = entry.ok_or(ImportError { line: 1, fault: ImportFault::NoDefault })?;
    Ok((entry.value()?.to_owned(), entry.line))
}

struct Reader<'a> {
    conf: &'a Conf,
    name: &'a str,
    line: u32,
}

impl<'a> Reader<'a> {
    fn find(&self, key: &str) -> Result<Option<Found<'a>>, ImportError> {
        let Some(entry) = self.conf.lookup(self.name, key) else { return Ok(None) };
        Ok(Some(Found { line: entry.line, value: entry.value()? }))
    }

    fn digest(&self, report: &mut Report) -> Result<&'static str, ImportError> {
        let Some(Found { line, value }) = self.find("default_md")? else {
            report.left(
                self.line,
                "default_md",
                "",
                "`openssl ca` was told the digest at each call; sha256 is taken",
            );
            return Ok("sha256");
        };
        let plain = value.to_ascii_lowercase().replace(['-', '_'], "");
        match plain.strip_prefix("rsa").unwrap_or(&plain) {
            "default" | "sha256" | "sha2256" => Ok("sha256"),
            "sha384" | "sha2384" => Ok("sha384"),
            "sha512" | "sha2512" => Ok("sha512"),
            _ => {
                let why = "lifted to sha256: nothing else than sha256, sha384 and sha512 is signed \
                           with";
                report.left(line, "default_md", value, why);
                Ok("sha256")
            }
        }
    }

    fn days(&self, report: &mut Report) -> Result<Option<Days>, ImportError> {
        for key in ["default_startdate", "default_enddate"] {
            if let Some(Found { line, value }) = self.find(key)? {
                let why = "certificates begin when they are issued and live a number of days; \
                           review days_default";
                report.left(line, key, value, why);
            }
        }
        let Some(Found { line, value }) = self.find("default_days")? else {
            let why = "`openssl ca` was told the days at each call; today's rule is taken";
            report.left(self.line, "default_days", "", why);
            return Ok(None);
        };
        match value.parse::<u32>() {
            Ok(days) if days > 0 => Ok(Some(Days { line, days })),
            _ => Err(bad(line, "default_days", value, "it is no number of days from 1 on")),
        }
    }

    /// The order of the subject's attributes, from `preserve`.
    fn order(&self, report: &mut Report) -> Result<Order, ImportError> {
        // openssl looks for it in [ca], whatever section it works by.
        if let Some(own) = self.conf.section(self.name).filter(|_| self.name != BASE)
            && let Some(entry) = own.entry("preserve").filter(|entry| is_yes(entry))
        {
            let why = "openssl reads it in [ca] alone, so it had no effect";
            report.left(entry.line, "preserve", entry.value()?, why);
        }
        let Some(entry) = self.conf.lookup(BASE, "preserve").filter(|entry| is_yes(entry)) else {
            return Ok(Order::AsAllowed);
        };
        let (line, value) = (entry.line, entry.value()?);
        let why = "the order is kept as asked, but attributes that the policy does not name are \
                   left out of the subject; add them to subject.allowed if they are wanted";
        report.left(line, "preserve", value, why);
        Ok(Order::AsAsked)
    }

    /// The string type, from `string_mask`: `openssl ca` itself copies what the request has.
    fn encoding(&self, report: &mut Report) -> Result<Encoding, ImportError> {
        let Some(Found { line, value }) = self.find("string_mask")? else {
            return Ok(Encoding::Utf8);
        };
        // ASN1_STRING_set_default_mask_asc, and B_ASN1_PRINTABLESTRING.
        const PRINTABLE: u64 = 0x0002;
        match value {
            "utf8only" => Ok(Encoding::Utf8),
            "nombstr" | "pkix" | "default" => Ok(Encoding::Printable),
            _ => {
                let mask = value.strip_prefix("MASK:").and_then(number);
                let why = "it is not utf8only, pkix, nombstr, default or MASK:NUMBER";
                let mask = mask.ok_or_else(|| bad(line, "string_mask", value, why))?;
                if mask & PRINTABLE != 0 {
                    return Ok(Encoding::Printable);
                }
                let why = "subjects are written in UTF8String, the only other type there is here";
                report.left(line, "string_mask", value, why);
                Ok(Encoding::Utf8)
            }
        }
    }

    fn copy(&self, report: &mut Report) -> Result<Copy, ImportError> {
        let Some(Found { line, value }) = self.find("copy_extensions")? else {
            return Ok(Copy::None);
        };
        let copy = match value {
            value if value.eq_ignore_ascii_case("none") => return Ok(Copy::None),
            value if value.eq_ignore_ascii_case("copy") => Copy::Missing,
            value if value.eq_ignore_ascii_case("copyall") => Copy::All,
            _ => {
                let why = "it is not none, copy or copyall";
                return Err(bad(line, "copy_extensions", value, why));
            }
        };
        let why = "only subject alternative names are taken from requests, never another extension";
        report.left(line, "copy_extensions", value, why);
        Ok(copy)
    }

    fn extensions(&self, source: &Source<'_>) -> Result<Option<Extensions>, ImportError> {
        let (key, line, section) = match (source.extensions, self.find("x509_extensions")?) {
            (Some(section), _) => ("--extensions", 1, section),
            (None, Some(Found { line, value })) => ("x509_extensions", line, value),
            (None, None) => return Ok(None),
        };
        if self.conf.section(section).is_none() {
            let (key, section) = (key.to_owned(), section.to_owned());
            return Err(ImportError { line, fault: ImportFault::NoSection { key, section } });
        }
        Ok(Some(Extensions { line, section: section.to_owned() }))
    }

    fn unique_subject(&self, report: &mut Report) -> Result<(), ImportError> {
        let why = "two valid certificates may have the same subject: renewals do";
        match self.find("unique_subject")? {
            None => report.wider(self.line, "unique_subject", "", why),
            // apps/lib: parse_yesno
            Some(found) if found.value.starts_with(['f', 'F', 'n', 'N', '0']) => {}
            Some(found) => report.wider(found.line, "unique_subject", found.value, why),
        }
        Ok(())
    }

    /// Keys that say something which does not belong into a profile.
    fn without_effect(&self, report: &mut Report) -> Result<(), ImportError> {
        const CRL: &str = "CRLs are the authority's matter: set crl.next_update_days in \
                           authority.toml";
        for (key, why) in [
            ("default_crl_days", CRL),
            ("default_crl_hours", CRL),
            (
                "crl_extensions",
                "every CRL has number and authority key identifier, and no other \
                                extension",
            ),
            ("rand_serial", "every serial number here has 64 random bits"),
            ("oid_file", "the file is not read; write object identifiers out, or use oid_section"),
        ] {
            // A switch by its presence: it may say nothing.
            let Some(entry) = self.conf.lookup(self.name, key) else { continue };
            let value = entry.value()?;
            report.left(entry.line, key, value, why);
        }
        if let Some(entry) = self.conf.lookup(BASE, "msie_hack").filter(|entry| is_yes(entry)) {
            let why = "the string types of Internet Explorer 5 are not written any more";
            report.left(entry.line, "msie_hack", entry.value()?, why);
        }
        Ok(())
    }
}

//------------ Policy --------------------------------------------------------

#[derive(Default)]
struct Policy {
    allowed: Vec<AttributeType>,
    required: Vec<AttributeType>,
    fixed: Vec<(AttributeType, String)>,
}

impl Reader<'_> {
    fn policy(
        &self,
        ca_subject: Option<&Subject>,
        report: &mut Report,
    ) -> Result<Policy, ImportError> {
        let found = self.find("policy")?.ok_or_else(|| ImportError {
            line: self.line.max(1),
            fault: ImportFault::Missing { section: self.name.to_owned(), key: "policy" },
        })?;
        let section = self.conf.section(found.value).ok_or_else(|| ImportError {
            line: found.line,
            fault: ImportFault::NoSection { key: "policy".into(), section: found.value.to_owned() },
        })?;
        let mut policy = Policy::default();
        for entry in section.entries() {
            let (line, key, word) = (entry.line, entry.key.as_str(), entry.value()?);
            if !["match", "supplied", "optional"].contains(&word) {
                return Err(bad(line, key, word, "it is not match, supplied or optional"));
            }
            let oid = oid_of(self.conf, key)?
                .ok_or_else(|| bad(line, key, word, "openssl knows no such attribute"))?;
            let Some(kind) = AttributeType::from_oid(&oid) else {
                let why = "subjects here have no such attribute; it is left out of them";
                report.left(line, key, word, why);
                continue;
            };
            if policy.allowed.contains(&kind) {
                return Err(bad(line, key, word, "the policy has this attribute twice"));
            }
            policy.allowed.push(kind);
            if word != "optional" {
                policy.required.push(kind);
            }
            if word == "match" {
                policy.fixed.push((kind, match_value(kind, line, key, ca_subject, report)?));
            }
        }
        Ok(policy)
    }

    /// `email_in_dn = no`: addresses are taken out of the subject.
    fn drop_email(&self, ca: &mut CaSection, report: &mut Report) -> Result<(), ImportError> {
        let Some(found) = self.find("email_in_dn")?.filter(|found| found.value == "no") else {
            return Ok(());
        };
        let email = AttributeType::EmailAddress;
        if ca.required.contains(&email) {
            let why = "the address stays out of the subject, so requests without one are taken too";
            report.wider(found.line, "email_in_dn", found.value, why);
        }
        ca.allowed.retain(|kind| *kind != email);
        ca.required.retain(|kind| *kind != email);
        ca.fixed.retain(|(kind, _)| *kind != email);
        Ok(())
    }
}

/// The value that `match` compares with.
fn match_value(
    kind: AttributeType,
    line: u32,
    key: &str,
    ca_subject: Option<&Subject>,
    report: &mut Report,
) -> Result<String, ImportError> {
    let fault = |fault| ImportError { line, fault };
    let subject = ca_subject.ok_or_else(|| fault(ImportFault::MatchNeedsCa(key.to_owned())))?;
    let mut values = subject.iter().filter(|attribute| attribute.kind == kind);
    let first = values
        .next()
        .ok_or_else(|| fault(ImportFault::MatchNotInCa(key.to_owned())))?
        .value
        .to_string();
    if values.next().is_some() {
        let why = "the CA's subject has several; only the first may be asked for";
        report.left(line, key, "match", why);
    }
    Ok(first)
}

fn is_yes(entry: &Entry) -> bool {
    entry.value().is_ok_and(|value| value.starts_with(['y', 'Y']))
}

/// Where openssl looks for `preserve` and `msie_hack`.
const BASE: &str = "ca";

fn number(text: &str) -> Option<u64> {
    // strtoul with base 0
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A value that openssl would not take either.
pub(super) fn bad(line: u32, key: &str, value: &str, why: impl Into<String>) -> ImportError {
    let (key, value) = (key.to_owned(), value.escape_debug().to_string());
    ImportError { line, fault: ImportFault::Value { key, value, why: why.into() } }
}
