//! Reads a TBS certificate back with OpenSSL before it is stored, and compares it with what was
//! permitted: the check before the signature (limits: CA/B BR 4.3.1.2).
//!
//! What was written by [`crate::tbs`] is judged here by another reader. Only this room makes a
//! [`LintedTbs`], and only a [`LintedTbs`] becomes an intent.

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    x509::X509,
};
use protocol::message::{GeneralName, RefusalCode, Serial};

use crate::{
    calendar::UnixTime,
    der::tag,
    fault::Fault,
    intake::der::{DerError, Reader},
    name,
    profile::{Permit, Profile},
    refusal::Refusal,
    tbs::{self, Issuer, extension},
};

/// A TBS certificate that says exactly what was permitted and follows RFC 5280.
#[derive(Debug)]
pub struct LintedTbs {
    der: Vec<u8>,
    serial: Serial,
    not_after: UnixTime,
    subject: String,
}

impl LintedTbs {
    /// The TBSCertificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The serial number.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The last second of validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The subject in openssl's one-line form.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    pub(crate) fn into_parts(self) -> (Serial, UnixTime, String, Vec<u8>) {
        (self.serial, self.not_after, self.subject, self.der)
    }
}

/// Why a TBS certificate does not pass.
enum Failure {
    Finding(String),
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// Checks `tbs` against the permit, the profile and the issuer. A finding is a refusal, so that
/// one bad profile cannot stop the queue; it is logged and counted all the same.
pub fn lint(
    tbs: Vec<u8>,
    issuer: &Issuer,
    serial: Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<Result<LintedTbs, Refusal>, Fault> {
    match check(&tbs, issuer, &serial, permit, profile) {
        Ok(()) => {
            let subject = name::one_line(&permit.wish().subject);
            Ok(Ok(LintedTbs { der: tbs, serial, not_after: permit.not_after(), subject }))
        }
        Err(Failure::Finding(text)) => {
            let text = format!("the certificate did not pass the check before signing: {text}");
            Ok(Err(Refusal::new(RefusalCode::Lint, text)))
        }
        Err(Failure::Fault(fault)) => Err(fault),
    }
}

fn check(
    tbs: &[u8],
    issuer: &Issuer,
    serial: &Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<(), Failure> {
    let wish = permit.wish();
    let certificate = X509::from_der(&tbs::signed(tbs, &issuer.signature_algorithm, &[0; 64]))
        .map_err(|error| Failure::Finding(format!("it cannot be parsed: {error}")))?;
    must("the version is 3", certificate.version() == 2)?;
    let found_serial = certificate.serial_number().to_bn()?;
    must(
        "the serial number is positive, within 20 octets and the one taken (RFC 5280 4.1.2.2)",
        !found_serial.is_negative()
            && found_serial.num_bits() > 0
            && serial.as_octets().len() <= 20
            && Serial::from_magnitude(&found_serial.to_vec()).as_ref() == Ok(serial),
    )?;
    must("the issuer is ours byte for byte", certificate.issuer_name().to_der()? == issuer.name)?;
    must(
        "the subject is the one asked for",
        certificate.subject_name().to_der()? == name::to_der(&wish.subject),
    )?;
    must(
        "the key is the one asked for",
        certificate.public_key()?.public_key_to_der()? == wish.public_key,
    )?;
    must("notBefore is right", is_time(certificate.not_before(), permit.not_before())?)?;
    must("notAfter is right", is_time(certificate.not_after(), permit.not_after())?)?;
    must("notBefore is before notAfter", permit.not_before() < permit.not_after())?;
    check_names(&certificate, &wish.names)?;
    check_extensions(tbs, permit, profile)
}

fn must(what: &str, holds: bool) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Finding(format!("not true that {what}"))) }
}

fn is_time(found: &Asn1TimeRef, expected: UnixTime) -> Result<bool, Fault> {
    let expected = Asn1Time::from_str(&expected.civil().generalized_time())?;
    let difference = found.diff(&expected)?;
    Ok(difference.days == 0 && difference.secs == 0)
}

fn check_names(certificate: &X509, names: &[GeneralName]) -> Result<(), Failure> {
    let found = certificate.subject_alt_names();
    let found: Vec<String> = found
        .iter()
        .flatten()
        .map(|name| {
            let address = || match name.ipaddress() {
                Some(octets) if octets.len() == 4 => {
                    <[u8; 4]>::try_from(octets).map(|o| GeneralName::Ip4(o).to_string()).ok()
                }
                Some(octets) => {
                    <[u8; 16]>::try_from(octets).map(|o| GeneralName::Ip6(o).to_string()).ok()
                }
                None => None,
            };
            let dns = name.dnsname().map(|dns| format!("dns:{dns}"));
            dns.or_else(|| name.email().map(|email| format!("email:{email}")))
                .or_else(|| name.uri().map(|uri| format!("uri:{uri}")))
                .or_else(address)
                .unwrap_or_else(|| "of an unknown type".into())
        })
        .collect();
    let expected: Vec<String> = names.iter().map(GeneralName::to_string).collect();
    must("the alternative names are those asked for", found == expected)
}

/// Every extension that must be there, with its criticality, and no other.
fn check_extensions(tbs: &[u8], permit: &Permit, profile: &Profile) -> Result<(), Failure> {
    let config = profile.extensions();
    let wish = permit.wish();
    let pointers = !config.crl_urls.is_empty();
    let access = !(config.ocsp_urls.is_empty() && config.issuer_urls.is_empty());
    let expected: Vec<(&str, bool)> = [
        (extension::BASIC_CONSTRAINTS, true, true),
        (extension::KEY_USAGE, true, true),
        (
            extension::EXTENDED_KEY_USAGE,
            config.extended_key_usage_critical,
            !config.extended_key_usage.is_empty(),
        ),
        (extension::SUBJECT_KEY_IDENTIFIER, false, true),
        (extension::AUTHORITY_KEY_IDENTIFIER, false, true),
        (extension::SUBJECT_ALT_NAME, wish.subject.is_empty(), !wish.names.is_empty()),
        (extension::CRL_DISTRIBUTION_POINTS, false, pointers),
        (extension::AUTHORITY_INFORMATION_ACCESS, false, access),
        (extension::CERTIFICATE_POLICIES, false, !config.policies.is_empty()),
        (extension::OCSP_NO_CHECK, false, config.ocsp_no_check),
    ]
    .into_iter()
    .filter(|(_, _, present)| *present)
    .map(|(oid, critical, _)| (oid, critical))
    .collect();
    let found = read_extensions(tbs)
        .map_err(|error| Failure::Finding(format!("the extensions cannot be read: {error}")))?;
    let as_texts: Vec<(&str, bool)> =
        found.iter().map(|(oid, critical, _)| (oid.as_str(), *critical)).collect();
    must("the extensions are those of the profile, each once", as_texts == expected)?;
    let is_ca = found.iter().any(|(oid, _, value)| {
        // BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, .. }: TRUE is 01 01 FF.
        oid == extension::BASIC_CONSTRAINTS && value.get(2..5) == Some(&[tag::BOOLEAN, 1, 0xff])
    });
    must("only a console-only profile makes a CA", is_ca == config.ca && (!is_ca || profile.console_only()))
}

/// Object identifier, criticality and value of each extension in a TBSCertificate.
fn read_extensions(tbs: &[u8]) -> Result<Vec<(String, bool, Vec<u8>)>, DerError> {
    let mut outer = Reader::new("TBSCertificate", tbs);
    let mut fields = outer.inner("TBSCertificate", tag::SEQUENCE)?;
    outer.finish()?;
    for _ in 0..7 {
        fields.any()?; // version, serial, algorithm, issuer, validity, subject, key
    }
    let mut wrapper = fields.inner("extensions", 0xa3)?;
    fields.finish()?;
    let mut list = wrapper.inner("extensions", tag::SEQUENCE)?;
    wrapper.finish()?;
    let mut found = Vec::new();
    while !list.is_empty() {
        let mut extension = list.inner("extension", tag::SEQUENCE)?;
        let oid = extension.oid("extension")?;
        let critical = extension.default_false("critical")?;
        let value = extension.element("extension value", tag::OCTET_STRING)?.content.to_vec();
        extension.finish()?;
        found.push((oid, critical, value));
    }
    Ok(found)
}
