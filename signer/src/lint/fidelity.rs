//! That the certificate says what was permitted, byte for byte, and that OpenSSL reads the same.
//!
//! Nothing is repaired: what differs is not signed.

use openssl::{
    asn1::{Asn1OctetStringRef, Asn1Time, Asn1TimeRef},
    x509::X509,
};
use protocol::message::{GeneralName, Serial};

use super::{Finding, Lint, extensions, fields::Fields, must};
use crate::{
    calendar::UnixTime,
    der::{self, tag},
    intake::der::{DerError, Reader},
    name,
    profile::{Permit, Profile},
    tbs::{self, Issuer, extension},
};

/// Every lint of this room.
#[cfg(test)]
pub(super) const LINTS: [&Lint; 9] = [
    &SERIAL,
    &ALGORITHM,
    &ISSUER,
    &NOT_BEFORE,
    &NOT_AFTER,
    &SUBJECT,
    &KEY,
    &EXTENSION_LIST,
    &OPENSSL_READS,
];

const fn ours(id: &'static str, says: &'static str) -> Lint {
    Lint { id, says, clause: "" }
}

const SERIAL: Lint = ours("serial", "the serial number is the one taken");
const ALGORITHM: Lint = Lint {
    id: "signature-algorithm",
    says: "the algorithm is the one that signs by this profile",
    clause: "RFC 5280 4.1.1.2",
};
const ISSUER: Lint =
    Lint { id: "issuer", says: "the issuer is ours byte for byte", clause: "RFC 5280 4.1.2.4" };
const NOT_BEFORE: Lint = ours("not-before", "notBefore is the one permitted");
const NOT_AFTER: Lint = ours("not-after", "notAfter is the one permitted");
const SUBJECT: Lint = ours("subject", "the subject is the one permitted, in its encoding");
const KEY: Lint = ours("key", "the key is the one asked for, byte for byte");
const EXTENSION_LIST: Lint = Lint {
    id: "extension-list",
    says: "the extensions are those of the profile in their order and criticality",
    clause: "RFC 5280 4.2",
};
pub(super) const OPENSSL_READS: Lint =
    ours("openssl", "OpenSSL reads the certificate, and reads the same in it");

pub(super) fn check(
    fields: &Fields<'_>,
    issuer: &Issuer,
    serial: &Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<(), Finding> {
    let wish = permit.wish();
    must(&SERIAL, fields.serial == serial.as_octets())?;
    must(&ALGORITHM, fields.algorithm == &*issuer.algorithm(profile.digest()))?;
    must(&ISSUER, fields.issuer == issuer.name)?;
    must(&NOT_BEFORE, fields.not_before.whole == der::time(permit.not_before()))?;
    must(&NOT_AFTER, fields.not_after.whole == der::time(permit.not_after()))?;
    must(&SUBJECT, fields.subject == name::encode(&wish.subject, profile.encoding()))?;
    must(&KEY, fields.public_key == wish.public_key)?;
    let found = fields.extensions.iter().map(|one| (one.oid.as_str(), one.critical));
    must(&EXTENSION_LIST, found.eq(extensions::expected(permit, profile)))?;
    extensions::check(fields, issuer, serial, permit, profile)
}

/// The other reader. What it cannot read, or reads differently, is not signed.
pub(super) fn check_with_openssl(
    tbs: &[u8],
    fields: &Fields<'_>,
    permit: &Permit,
) -> Result<(), Finding> {
    let wish = permit.wish();
    let masked = without_key_algorithm(tbs);
    let (masked, key) = masked.map_err(|error| OPENSSL_READS.finding(&error.to_string()))?;
    let whole = tbs::signed(&masked, fields.algorithm, &[0; 64]);
    let certificate = X509::from_der(&whole)?;
    let same = |what: &str, holds: bool| {
        if holds { Ok(()) } else { Err(OPENSSL_READS.finding(&format!("{what} differs"))) }
    };
    same("the encoding", certificate.to_der()? == whole)?;
    same("the version", certificate.version() == 2)?;
    let serial = certificate.serial_number().to_bn()?;
    let serial = if serial.is_negative() { Vec::new() } else { serial.to_vec() };
    let magnitude = fields.serial.iter().position(|octet| *octet != 0).unwrap_or(0);
    same("the serial number", serial == fields.serial[magnitude..])?;
    same("the issuer", certificate.issuer_name().to_der()? == fields.issuer)?;
    same("the subject", certificate.subject_name().to_der()? == fields.subject)?;
    same("the key", key == wish.public_key)?;
    same("notBefore", is_time(certificate.not_before(), permit.not_before())?)?;
    same("notAfter", is_time(certificate.not_after(), permit.not_after())?)?;
    same("the list of names", names_agree(&certificate, &wish.names))?;
    let identifier = |oid: &str, found: Option<&Asn1OctetStringRef>| {
        let value = fields.extension(oid).map(|extension| extension.value);
        found
            .map(Asn1OctetStringRef::as_slice)
            .zip(value)
            .is_some_and(|(found, value)| value.ends_with(found))
    };
    let own = certificate.subject_key_id();
    same("the key identifier", identifier(extension::SUBJECT_KEY_IDENTIFIER, own))?;
    let issuers = certificate.authority_key_id();
    same("the authority key identifier", identifier(extension::AUTHORITY_KEY_IDENTIFIER, issuers))?;
    let (_, path_length) = fields.basic_constraints()?;
    same("the path length", certificate.pathlen() == path_length.map(u32::from))?;
    same(
        "the distribution points",
        distribution_points(&certificate) == extensions::crl_urls(fields)?,
    )?;
    same("the access information", access(&certificate) == extensions::access(fields)?)
}

/// The TBS with a key algorithm that OpenSSL does not know, and the key in it. OpenSSL then leaves
/// the key alone, whose decoding takes five times as long as all the rest: it had this key in hand
/// when the key was permitted.
fn without_key_algorithm(tbs: &[u8]) -> Result<(Vec<u8>, &[u8]), DerError> {
    let mut outer = Reader::new("TBSCertificate", tbs);
    let mut fields = outer.inner("TBSCertificate", tag::SEQUENCE)?;
    for _ in 0..6 {
        fields.any()?; // version, serial, algorithm, issuer, validity, subject
    }
    let key = fields.any()?.whole;
    let mut info = Reader::new("subjectPublicKeyInfo", key).inner("key", tag::SEQUENCE)?;
    let mut algorithm = info.inner("algorithm", tag::SEQUENCE)?;
    let identifier = algorithm.element("algorithm", tag::OID)?.content;
    // The lowest bit of the first octet says whose arc it is.
    let at = identifier.as_ptr().addr() - tbs.as_ptr().addr();
    let mut masked = tbs.to_vec();
    if let Some(octet) = masked.get_mut(at) {
        *octet ^= 1;
    }
    Ok((masked, key))
}

fn is_time(found: &Asn1TimeRef, expected: UnixTime) -> Result<bool, Finding> {
    let expected = Asn1Time::from_str(&expected.civil().generalized_time())?;
    let difference = found.diff(&expected)?;
    Ok(difference.days == 0 && difference.secs == 0)
}

/// OpenSSL hands out every type of name but `otherName`.
fn names_agree(certificate: &X509, names: &[GeneralName]) -> bool {
    let found = certificate.subject_alt_names();
    let found: Vec<_> = found.iter().flatten().collect();
    found.len() == names.len()
        && found.iter().zip(names).all(|(found, name)| match name {
            GeneralName::Dns(dns) => found.dnsname() == Some(&**dns),
            GeneralName::Email(address) => found.email() == Some(&**address),
            GeneralName::Uri(uri) => found.uri() == Some(&**uri),
            GeneralName::Ip4(octets) => found.ipaddress() == Some(octets.as_slice()),
            GeneralName::Ip6(octets) => found.ipaddress() == Some(octets.as_slice()),
            GeneralName::Xmpp(_) => {
                let known = [found.dnsname(), found.email(), found.uri()];
                known.iter().all(Option::is_none) && found.ipaddress().is_none()
            }
        })
}

fn distribution_points(certificate: &X509) -> Vec<String> {
    let points = certificate.crl_distribution_points();
    let names = points.iter().flatten().filter_map(|point| {
        let names = point.distpoint()?.fullname()?;
        Some(names.iter().filter_map(|name| name.uri().map(str::to_owned)).collect::<Vec<_>>())
    });
    names.flatten().collect()
}

fn access(certificate: &X509) -> Vec<(String, String)> {
    let descriptions = certificate.authority_info();
    let pairs = descriptions.iter().flatten().filter_map(|description| {
        let method = match description.method().nid() {
            openssl::nid::Nid::AD_OCSP => extensions::OCSP,
            openssl::nid::Nid::AD_CA_ISSUERS => extensions::CA_ISSUERS,
            _ => return None,
        };
        Some((method.to_owned(), description.location().uri()?.to_owned()))
    });
    pairs.collect()
}
