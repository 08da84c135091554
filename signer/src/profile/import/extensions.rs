//! The section of the extensions: each is taken into the profile or listed.
//!
//! An extension that restricts what a certificate may do is never left out in part.

use super::{
    ImportError, ImportFault, Report,
    ca::{CaSection, Copy, bad},
    conf::Conf,
    names::{Part, oid_of, parts, section_parts},
};
use crate::{
    profile::{NameConstraintsConfig, Presence, syntax::check_uri},
    tbs::extension,
};

/// What the profile will write into certificates.
#[derive(Debug)]
pub(super) struct Extensions {
    pub(super) basic_constraints: Presence,
    pub(super) ca: bool,
    pub(super) path_length: Option<u8>,
    pub(super) key_usage: Vec<&'static str>,
    pub(super) key_usage_critical: bool,
    /// Short names of RFC 5280 or dotted identifiers.
    pub(super) purposes: Vec<String>,
    pub(super) purposes_critical: bool,
    pub(super) no_check: bool,
    pub(super) must_staple: bool,
    pub(super) name_constraints: Option<NameConstraintsConfig>,
    pub(super) crl_urls: Vec<String>,
    pub(super) delta_crl_urls: Vec<String>,
    pub(super) ocsp_urls: Vec<String>,
    pub(super) issuer_urls: Vec<String>,
    pub(super) policies: Vec<(String, Option<String>)>,
    /// Where the subject alternative names come from.
    pub(super) names: Names,
}

/// Where the subject alternative names come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// There are none.
    None,
    /// The addresses in the subject: `email:copy`.
    SubjectEmails,
    /// What the request names.
    Request,
    /// What the request names, else the addresses in the subject.
    RequestOrSubjectEmails,
}

/// One line of the section.
struct Line<'a> {
    line: u32,
    key: &'a str,
    critical: bool,
    /// Without `critical,`.
    value: &'a str,
}

impl Extensions {
    pub(super) fn read(
        conf: &Conf,
        ca: &CaSection,
        report: &mut Report,
    ) -> Result<Self, ImportError> {
        let mut found = Self {
            basic_constraints: Presence::Absent,
            ca: false,
            path_length: None,
            key_usage: Vec::new(),
            key_usage_critical: false,
            purposes: Vec::new(),
            purposes_critical: false,
            no_check: false,
            must_staple: false,
            name_constraints: None,
            crl_urls: Vec::new(),
            delta_crl_urls: Vec::new(),
            ocsp_urls: Vec::new(),
            issuer_urls: Vec::new(),
            policies: Vec::new(),
            names: if ca.copy == Copy::None { Names::None } else { Names::Request },
        };
        let Some(section) = &ca.extensions else {
            let why = "certificates were without extensions; here they have key identifiers, and \
                       what the profile says";
            report.left(ca.line, "x509_extensions", "", why);
            return Ok(found);
        };
        let Some(section) = conf.section(&section.section) else { return Ok(found) };
        for entry in section.entries() {
            let written = entry.value()?;
            let (critical, value) = match written.strip_prefix("critical,") {
                Some(value) => (true, value.trim_start()),
                None => (false, written),
            };
            let line = Line { line: entry.line, key: &entry.key, critical, value };
            found.take(conf, ca, &line, report)?;
        }
        Ok(found)
    }

    fn take(
        &mut self,
        conf: &Conf,
        ca: &CaSection,
        line: &Line<'_>,
        report: &mut Report,
    ) -> Result<(), ImportError> {
        let Line { key, value, critical, .. } = *line;
        if value.starts_with("DER:") || value.starts_with("ASN1:") {
            return self.take_raw(conf, line, report);
        }
        // What has no switch for it is not critical in certificates of ours.
        if critical && NEVER_CRITICAL.contains(&key) {
            report.left(line.line, key, value, "it is written, but not critical");
        }
        match key {
            "basicConstraints" => self.take_basic_constraints(conf, line, report)?,
            "keyUsage" => {
                self.key_usage = key_usages(conf, line)?;
                self.key_usage_critical = critical;
            }
            "extendedKeyUsage" => {
                self.purposes = purposes(conf, line)?;
                self.purposes_critical = critical;
            }
            "subjectKeyIdentifier" if value != "hash" => {
                report.left(line.line, key, value, "it is always the hash of the key");
            }
            "subjectKeyIdentifier" => {}
            "authorityKeyIdentifier" => take_authority_key_identifier(conf, line, report)?,
            "subjectAltName" => self.take_names(conf, ca, line, report)?,
            "crlDistributionPoints" => {
                let urls = distribution_points(conf, line, report)?;
                self.crl_urls = urls;
            }
            "freshestCRL" => {
                let urls = distribution_points(conf, line, report)?;
                self.delta_crl_urls = urls;
            }
            "authorityInfoAccess" => self.take_access(conf, line, report)?,
            "certificatePolicies" => self.policies = policies(conf, line, report)?,
            "nameConstraints" => {
                if !critical {
                    report.left(
                        line.line,
                        key,
                        value,
                        "it is written critical (RFC 5280 4.2.1.10)",
                    );
                }
                self.name_constraints = Some(name_constraints(conf, line)?);
            }
            "noCheck" => self.no_check = true,
            "tlsfeature" => self.take_tls_feature(conf, line, report)?,
            _ => leave(line, report),
        }
        Ok(())
    }

    /// `OID = DER:…`, of which only must-staple is known by its bytes.
    fn take_raw(
        &mut self,
        conf: &Conf,
        line: &Line<'_>,
        report: &mut Report,
    ) -> Result<(), ImportError> {
        let oid = oid_of(conf, line.key)?.unwrap_or_default();
        let raw = line.value.strip_prefix("DER:").unwrap_or_default().trim();
        let bytes: String = raw.chars().filter(|character| *character != ':').collect();
        if oid == TLS_FEATURE && bytes.eq_ignore_ascii_case("3003020105") && !line.critical {
            self.must_staple = true;
        } else {
            let why = "bytes written by hand are not taken; say it with the extension's own name";
            match RESTRICTIONS.contains(&oid.as_str()) {
                true => report.wider(line.line, line.key, line.value, why),
                false => report.left(line.line, line.key, line.value, why),
            }
        }
        Ok(())
    }

    fn take_basic_constraints(
        &mut self,
        conf: &Conf,
        line: &Line<'_>,
        report: &mut Report,
    ) -> Result<(), ImportError> {
        let refuse = |why: &str| bad(line.line, line.key, line.value, why);
        let (mut ca, mut path_length) = (false, None);
        for part in line.parts(conf)? {
            match (part.name.as_str(), part.value.as_deref()) {
                ("CA", Some("TRUE" | "true" | "Y" | "y" | "YES" | "yes")) => ca = true,
                ("CA", Some("FALSE" | "false" | "N" | "n" | "NO" | "no")) => ca = false,
                ("pathlen", Some(length)) => {
                    let length = length.parse::<u8>();
                    path_length = Some(length.map_err(|_| refuse("pathlen is not 0 to 255"))?);
                }
                _ => return Err(refuse("it is not CA:TRUE or CA:FALSE, with pathlen:NUMBER")),
            }
        }
        if path_length.is_some() && !ca {
            report.left(line.line, line.key, line.value, "pathlen belongs to CA:TRUE alone");
            path_length = None;
        }
        (self.ca, self.path_length) = (ca, path_length);
        self.basic_constraints = match line.critical {
            true => Presence::Critical,
            false if ca => {
                let why = "a CA's basicConstraints is written critical (RFC 5280 4.2.1.9)";
                report.left(line.line, line.key, line.value, why);
                Presence::Critical
            }
            false => Presence::Plain,
        };
        Ok(())
    }

    fn take_names(
        &mut self,
        conf: &Conf,
        ca: &CaSection,
        line: &Line<'_>,
        report: &mut Report,
    ) -> Result<(), ImportError> {
        let mut copies = false;
        for part in line.parts(conf)? {
            match (part.is("email"), part.value.as_deref()) {
                (true, Some("copy" | "move")) if !ca.has_emails => {
                    let why =
                        "the policy keeps addresses out of subjects, so there is none to copy";
                    report.left(part.line, line.key, &part.written(), why);
                }
                (true, Some("copy")) => copies = true,
                (true, Some("move")) => {
                    let why = "addresses of the subject are copied, not moved: they stay in it too";
                    report.left(part.line, line.key, &part.written(), why);
                    copies = true;
                }
                _ => {
                    let why = "a name that every certificate has is not written by itself; ask \
                               for it with each request";
                    report.left(part.line, line.key, &part.written(), why);
                }
            }
        }
        self.names = match (ca.copy, copies) {
            (Copy::All, false) => Names::Request,
            (Copy::All, true) => {
                let why = "where the request has no names, common names that are host names are \
                           taken too, not only addresses";
                report.wider(line.line, line.key, line.value, why);
                Names::RequestOrSubjectEmails
            }
            // What the configuration sets, the request does not.
            (Copy::None | Copy::Missing, true) => {
                let why = "a request may also ask for addresses that are not in its subject";
                report.wider(line.line, line.key, line.value, why);
                Names::SubjectEmails
            }
            (Copy::None | Copy::Missing, false) => Names::None,
        };
        Ok(())
    }

    fn take_access(
        &mut self,
        conf: &Conf,
        line: &Line<'_>,
        report: &mut Report,
    ) -> Result<(), ImportError> {
        let mut issuers_first = false;
        for part in line.parts(conf)? {
            let (method, location) = part.name.split_once(';').unwrap_or((&part.name, ""));
            let location = Part { name: location.to_owned(), ..part.clone() };
            let urls = match oid_of(conf, method)?.as_deref() {
                Some("1.3.6.1.5.5.7.48.1") => &mut self.ocsp_urls,
                Some("1.3.6.1.5.5.7.48.2") => &mut self.issuer_urls,
                _ => {
                    let why = "only OCSP and caIssuers are written";
                    report.left(part.line, line.key, &part.written(), why);
                    continue;
                }
            };
            if let Some(url) = http_url(line.key, &location, &part.written(), report) {
                urls.push(url);
                issuers_first |= self.ocsp_urls.is_empty();
            }
        }
        if issuers_first && !self.ocsp_urls.is_empty() {
            let why = "both are written, OCSP first";
            report.left(line.line, line.key, line.value, why);
        }
        Ok(())
    }

    fn take_tls_feature(
        &mut self,
        conf: &Conf,
        line: &Line<'_>,
        report: &mut Report,
    ) -> Result<(), ImportError> {
        for part in line.parts(conf)? {
            // RFC 7633 6: status_request; openssl takes the number too.
            match part.value.as_deref().unwrap_or(&part.name) {
                "status_request" | "5" => self.must_staple = true,
                other => report.left(part.line, line.key, other, "only status_request is written"),
            }
        }
        Ok(())
    }
}

impl Line<'_> {
    fn parts(&self, conf: &Conf) -> Result<Vec<Part>, ImportError> {
        parts(conf, self.line, self.key, self.value)
    }
}

fn leave(line: &Line<'_>, report: &mut Report) {
    let Line { line, key, value, critical } = *line;
    match key {
        "policyConstraints" | "inhibitAnyPolicy" => {
            let why = "a profile cannot say it; write a CA certificate that needs it elsewhere";
            report.wider(line, key, value, why);
        }
        _ if key.starts_with("ns") => {
            report.left(line, key, value, "a Netscape extension that nothing reads any more");
        }
        "issuerAltName" => report.left(line, key, value, "nothing reads it; it is not written"),
        _ if critical => report.wider(line, key, value, "a profile does not know this extension"),
        _ => report.left(line, key, value, "a profile does not know this extension"),
    }
}

fn key_usages(conf: &Conf, line: &Line<'_>) -> Result<Vec<&'static str>, ImportError> {
    let mut usages = Vec::new();
    for part in line.parts(conf)? {
        let known = KEY_USAGES.iter().find(|(short, long)| [*short, *long].contains(&&*part.name));
        let why = || format!("openssl knows no key usage `{}`", part.name.escape_debug());
        let (short, _) = known.ok_or_else(|| bad(line.line, line.key, line.value, why()))?;
        if !usages.contains(short) {
            usages.push(*short);
        }
    }
    Ok(usages)
}

fn purposes(conf: &Conf, line: &Line<'_>) -> Result<Vec<String>, ImportError> {
    let mut purposes = Vec::new();
    for part in line.parts(conf)? {
        // openssl looks at the value where there is one.
        let name = part.value.as_deref().unwrap_or(&part.name);
        let why = || format!("openssl knows no purpose `{}`", name.escape_debug());
        let oid = oid_of(conf, name)?.ok_or_else(|| bad(line.line, line.key, line.value, why()))?;
        if !purposes.contains(&oid) {
            purposes.push(oid);
        }
    }
    Ok(purposes)
}

fn take_authority_key_identifier(
    conf: &Conf,
    line: &Line<'_>,
    report: &mut Report,
) -> Result<(), ImportError> {
    for part in line.parts(conf)? {
        match (part.name.as_str(), part.value.as_deref()) {
            ("keyid", None | Some("always")) => {}
            // Only written where the issuer has no key identifier: ours always have one.
            ("issuer", None) => {}
            ("issuer", Some("always")) => {
                let why = "the key identifier alone is written: the issuer's name and serial \
                           number would break the chain when the CA certificate is renewed";
                report.left(part.line, line.key, &part.written(), why);
            }
            ("none", None) => {
                report.left(part.line, line.key, "none", "it is always written (RFC 5280 4.2.1.1)");
            }
            _ => return Err(bad(line.line, line.key, line.value, "it is not keyid or issuer")),
        }
    }
    Ok(())
}

/// The URLs of CRL distribution points: `URI:…`, or the name of a section with `fullname = …`.
fn distribution_points(
    conf: &Conf,
    line: &Line<'_>,
    report: &mut Report,
) -> Result<Vec<String>, ImportError> {
    let mut urls = Vec::new();
    for part in line.parts(conf)? {
        if part.value.is_some() {
            urls.extend(http_url(line.key, &part, &part.written(), report));
            continue;
        }
        for field in section_parts(conf, part.line, line.key, &part.name)? {
            let value = field.value.as_deref().unwrap_or_default();
            if field.name != "fullname" {
                let why = "a distribution point has its URLs and nothing else: such CRLs are not \
                           made here";
                report.left(field.line, &field.name, value, why);
                continue;
            }
            let names = parts(conf, field.line, &field.name, value)?;
            if names.len() > 1 {
                let why = "each URL becomes a distribution point of its own";
                report.left(field.line, &field.name, value, why);
            }
            for name in names {
                urls.extend(http_url(&field.name, &name, &name.written(), report));
            }
        }
    }
    Ok(urls)
}

/// The URL of a `URI:http://…` part; anything else is listed.
fn http_url(key: &str, part: &Part, written: &str, report: &mut Report) -> Option<String> {
    let url = part.value.as_deref().unwrap_or_default();
    if part.is("URI") && url.starts_with("http://") && check_uri(url).is_ok() {
        return Some(url.to_owned());
    }
    let why = "only http:// URLs are written: clients fetch them before they trust any TLS";
    report.left(part.line, key, written, why);
    None
}

/// `ia5org, 1.2.3, @section` with `policyIdentifier`, `CPS.1` and `userNotice.1` in the section.
fn policies(
    conf: &Conf,
    line: &Line<'_>,
    report: &mut Report,
) -> Result<Vec<(String, Option<String>)>, ImportError> {
    let refuse = |what: &str| bad(line.line, line.key, line.value, what);
    let identifier = |text: &str| -> Result<String, ImportError> {
        oid_of(conf, text)?.ok_or_else(|| refuse("it has no object identifier of a policy"))
    };
    let mut policies: Vec<(String, Option<String>)> = Vec::new();
    // Not `@section` alone: here a list may have it as a part.
    for part in line.value.split(',').map(str::trim) {
        if part == "ia5org" {
            continue; // only a form of user notices, which are left out
        }
        let policy = match part.strip_prefix('@') {
            None => (identifier(part)?, None),
            Some(name) => {
                let (mut oid, mut statement) = (None, None);
                for field in section_parts(conf, line.line, line.key, name)? {
                    let value = field.value.clone().unwrap_or_default();
                    if field.name == "policyIdentifier" {
                        oid = Some(identifier(&value)?);
                    } else if field.is("CPS") && statement.is_none() && check_uri(&value).is_ok() {
                        statement = Some(value);
                    } else {
                        let why = "a policy has one CPS URI and nothing else here (RFC 5280 \
                                   4.2.1.4 advises against user notices)";
                        report.left(field.line, &field.name, &value, why);
                    }
                }
                (
                    oid.ok_or_else(|| refuse("the policy's section has no policyIdentifier"))?,
                    statement,
                )
            }
        };
        if policies.iter().any(|(known, _)| *known == policy.0) {
            return Err(refuse("it has a policy twice (RFC 5280 4.2.1.4)"));
        }
        policies.push(policy);
    }
    Ok(policies)
}

/// `permitted;DNS:example.org, excluded;IP:192.0.2.0/255.255.255.0`
fn name_constraints(conf: &Conf, line: &Line<'_>) -> Result<NameConstraintsConfig, ImportError> {
    let mut constraints = NameConstraintsConfig::default();
    for part in line.parts(conf)? {
        let cannot_say = || ImportError {
            line: part.line,
            fault: ImportFault::Restriction { key: "nameConstraints", value: part.written() },
        };
        let value = part.value.as_deref().unwrap_or_default();
        let (side, kind) = part.name.split_once(';').unwrap_or(("", &part.name));
        let list = match side {
            "permitted" => &mut constraints.permitted,
            "excluded" => &mut constraints.excluded,
            _ => {
                return Err(bad(
                    part.line,
                    line.key,
                    line.value,
                    "it is not permitted; or excluded;",
                ));
            }
        };
        let kind = Part { name: kind.to_owned(), ..part.clone() };
        let written = match () {
            () if kind.is("DNS") => format!("dns:{value}"),
            () if kind.is("email") => format!("email:{value}"),
            () if kind.is("URI") => format!("uri:{value}"),
            () if kind.is("IP") => format!("ip:{}", network(value).ok_or_else(cannot_say)?),
            () => return Err(cannot_say()),
        };
        list.push(written);
    }
    Ok(constraints)
}

/// `192.0.2.0/255.255.255.0` as `192.0.2.0/24`.
fn network(text: &str) -> Option<String> {
    use std::net::IpAddr;

    let (address, mask) = text.split_once('/')?;
    let (address, mask): (IpAddr, IpAddr) = (address.parse().ok()?, mask.parse().ok()?);
    let (ones, zeros, bits) = match (address, mask) {
        (IpAddr::V4(_), IpAddr::V4(mask)) => {
            (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros(), 32)
        }
        (IpAddr::V6(_), IpAddr::V6(mask)) => {
            (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros(), 128)
        }
        _ => return None,
    };
    (ones + zeros == bits).then(|| format!("{address}/{ones}"))
}

/// Short and long names of the bits, in their order (crypto/x509/v3_bitst.c).
const KEY_USAGES: [(&str, &str); 9] = [
    ("digitalSignature", "Digital Signature"),
    ("nonRepudiation", "Non Repudiation"),
    ("keyEncipherment", "Key Encipherment"),
    ("dataEncipherment", "Data Encipherment"),
    ("keyAgreement", "Key Agreement"),
    ("keyCertSign", "Certificate Sign"),
    ("cRLSign", "CRL Sign"),
    ("encipherOnly", "Encipher Only"),
    ("decipherOnly", "Decipher Only"),
];

const NEVER_CRITICAL: [&str; 9] = [
    "subjectKeyIdentifier",
    "authorityKeyIdentifier",
    "subjectAltName",
    "crlDistributionPoints",
    "freshestCRL",
    "authorityInfoAccess",
    "certificatePolicies",
    "noCheck",
    "tlsfeature",
];

/// Extensions without which a certificate may do more.
const RESTRICTIONS: [&str; 7] = [
    extension::BASIC_CONSTRAINTS,
    extension::KEY_USAGE,
    extension::EXTENDED_KEY_USAGE,
    "2.5.29.30", // nameConstraints
    "2.5.29.36", // policyConstraints
    "2.5.29.54", // inhibitAnyPolicy
    "2.5.29.16", // privateKeyUsagePeriod
];

/// id-pe-tlsfeature (RFC 7633).
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
