//! Each extension's value, read by the strict reader and compared with permit and profile.
//!
//! An extension that this room does not know does not pass.

use std::net::{Ipv4Addr, Ipv6Addr};

use protocol::message::Serial;

use super::{
    Finding, Lint,
    fields::{Extension, Fields},
    must,
};
use crate::{
    der::tag,
    intake::der::{DerError, Reader},
    profile::{Permit, Presence, Profile, Subtree},
    tbs::{self, Issuer, extension},
};

/// Every lint of this room.
#[cfg(test)]
pub(super) const LINTS: [&Lint; 14] = [
    &CA,
    &PATH_LENGTH,
    &KEY_USAGE,
    &PURPOSES,
    &SUBJECT_KEY_IDENTIFIER,
    &AUTHORITY_KEY_IDENTIFIER,
    &NAMES,
    &NAME_CONSTRAINTS,
    &CRL_URLS,
    &DELTA_CRL_URLS,
    &ACCESS,
    &POLICIES,
    &TLS_FEATURE,
    &OCSP_NO_CHECK,
];

const fn of_profile(id: &'static str, says: &'static str, clause: &'static str) -> Lint {
    Lint { id, says, clause }
}

const CA: Lint = of_profile("ca", "it is a CA exactly if the profile says so", "RFC 5280 4.2.1.9");
const PATH_LENGTH: Lint =
    of_profile("path-length", "the path length is the profile's", "RFC 5280 4.2.1.9");
const KEY_USAGE: Lint =
    of_profile("key-usage", "the key usage is the profile's", "RFC 5280 4.2.1.3");
const PURPOSES: Lint = of_profile(
    "extended-key-usage",
    "the extended key usage is the profile's",
    "RFC 5280 4.2.1.12",
);
const SUBJECT_KEY_IDENTIFIER: Lint = of_profile(
    "subject-key-identifier",
    "the key identifier is the SHA-1 of the key",
    "RFC 5280 4.2.1.2",
);
const AUTHORITY_KEY_IDENTIFIER: Lint = of_profile(
    "authority-key-identifier",
    "the authority key identifier is the issuer's, and nothing more",
    "RFC 5280 4.2.1.1",
);
const NAMES: Lint =
    of_profile("subject-alt-name", "the alternative names are those permitted", "RFC 5280 4.2.1.6");
const NAME_CONSTRAINTS: Lint =
    of_profile("name-constraints", "the name constraints are the profile's", "RFC 5280 4.2.1.10");
const CRL_URLS: Lint = of_profile(
    "crl-distribution-points",
    "the CRL distribution points are the profile's, with the serial's shard",
    "RFC 5280 4.2.1.13",
);
const DELTA_CRL_URLS: Lint =
    of_profile("freshest-crl", "the delta CRL's URLs are the profile's", "RFC 5280 4.2.1.15");
const ACCESS: Lint = of_profile(
    "authority-information-access",
    "the authority information access is the profile's",
    "RFC 5280 4.2.2.1",
);
const POLICIES: Lint = of_profile(
    "certificate-policies",
    "the certificate policies are the profile's",
    "RFC 5280 4.2.1.4",
);
const TLS_FEATURE: Lint =
    of_profile("tls-feature", "the TLS feature is status_request alone", "RFC 7633 6");
const OCSP_NO_CHECK: Lint =
    of_profile("ocsp-no-check", "id-pkix-ocsp-nocheck is NULL", "RFC 6960 4.2.2.2.1");

/// id-ad-ocsp and id-ad-caIssuers (RFC 5280 4.2.2.1).
pub(super) const OCSP: &str = "1.3.6.1.5.5.7.48.1";
pub(super) const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
/// id-qt-cps (RFC 5280 4.2.1.4).
const CPS: &str = "1.3.6.1.5.5.7.2.1";
/// id-on-xmppAddr (RFC 6120 13.7.1.4).
const XMPP: &str = "1.3.6.1.5.5.7.8.5";

/// The extensions that must be there, in their order, with their criticality.
pub(super) fn expected<'a>(
    permit: &Permit,
    profile: &'a Profile,
) -> impl Iterator<Item = (&'a str, bool)> {
    let config = profile.extensions();
    let wish = permit.wish();
    let access = !(config.ocsp_urls.is_empty() && config.issuer_urls.is_empty());
    let constraints = config.basic_constraints;
    let rows = [
        (
            extension::BASIC_CONSTRAINTS,
            constraints == Presence::Critical,
            constraints != Presence::Absent,
        ),
        (extension::KEY_USAGE, config.key_usage_critical, !config.key_usage.is_empty()),
        (
            extension::EXTENDED_KEY_USAGE,
            config.extended_key_usage_critical,
            !config.extended_key_usage.is_empty(),
        ),
        (extension::SUBJECT_KEY_IDENTIFIER, false, true),
        (extension::AUTHORITY_KEY_IDENTIFIER, false, true),
        (extension::SUBJECT_ALT_NAME, wish.subject.is_empty(), !wish.names.is_empty()),
        (extension::NAME_CONSTRAINTS, true, config.name_constraints.is_some()),
        (extension::CRL_DISTRIBUTION_POINTS, false, !config.crl_urls.is_empty()),
        (extension::AUTHORITY_INFORMATION_ACCESS, false, access),
        (extension::CERTIFICATE_POLICIES, false, !config.policies.is_empty()),
        (extension::FRESHEST_CRL, false, !config.delta_crl_urls.is_empty()),
        (extension::TLS_FEATURE, false, config.must_staple),
        (extension::OCSP_NO_CHECK, false, config.ocsp_no_check),
    ];
    rows.into_iter().filter(|row| row.2).map(|(oid, critical, _)| (oid, critical))
}

/// Compares every value.
pub(super) fn check(
    fields: &Fields<'_>,
    issuer: &Issuer,
    serial: &Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<(), Finding> {
    let config = profile.extensions();
    let (is_ca, path_length) = fields.basic_constraints()?;
    must(&CA, is_ca == config.ca)?;
    must(&PATH_LENGTH, path_length == config.path_length.map(u16::from))?;
    let mut bits = permit.key_usage().to_vec();
    bits.sort_unstable();
    must(&KEY_USAGE, fields.key_usage()?.unwrap_or_default() == bits)?;
    must(&PURPOSES, fields.purposes()? == profile.extended_key_usage_oids())?;
    for one in &fields.extensions {
        check_value(one, issuer, serial, permit, profile)?;
    }
    Ok(())
}

fn check_value(
    one: &Extension<'_>,
    issuer: &Issuer,
    serial: &Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<(), Finding> {
    let config = profile.extensions();
    let mut reader = Reader::new("extension value", one.value);
    match one.oid.as_str() {
        // Compared above, as a whole.
        extension::BASIC_CONSTRAINTS | extension::KEY_USAGE | extension::EXTENDED_KEY_USAGE => {
            return Ok(());
        }
        extension::SUBJECT_KEY_IDENTIFIER => {
            let found = reader.element("SubjectKeyIdentifier", tag::OCTET_STRING)?.content;
            let expected = tbs::key_identifier(&permit.wish().public_key)
                .map_err(|fault| SUBJECT_KEY_IDENTIFIER.finding(&fault.to_string()))?;
            must(&SUBJECT_KEY_IDENTIFIER, found == expected)?;
        }
        extension::AUTHORITY_KEY_IDENTIFIER => {
            let mut value = reader.inner("AuthorityKeyIdentifier", tag::SEQUENCE)?;
            let found = value.element("keyIdentifier", 0x80)?.content;
            must(&AUTHORITY_KEY_IDENTIFIER, value.is_empty() && found == issuer.key_identifier)?;
        }
        extension::SUBJECT_ALT_NAME => {
            let found = names(&mut reader)?;
            let expected = permit.wish().names.iter().map(ToString::to_string);
            must(&NAMES, found.into_iter().eq(expected))?;
        }
        extension::NAME_CONSTRAINTS => {
            let (permitted, excluded) = subtrees(&mut reader)?;
            let expected = profile.name_constraints();
            let same = expected.is_some_and(|expected| {
                expected.permitted == permitted && expected.excluded == excluded
            });
            must(&NAME_CONSTRAINTS, same)?;
        }
        extension::CRL_DISTRIBUTION_POINTS => {
            let expected = profile.crl_urls(tbs::shard_of(serial, issuer.crl_shards));
            must(&CRL_URLS, distribution_points(&mut reader)? == expected)?;
        }
        extension::FRESHEST_CRL => {
            must(&DELTA_CRL_URLS, distribution_points(&mut reader)? == config.delta_crl_urls)?;
        }
        extension::AUTHORITY_INFORMATION_ACCESS => {
            let of = |method: &str, urls: &[String]| -> Vec<(String, String)> {
                urls.iter().map(|url| (method.to_owned(), url.clone())).collect()
            };
            let mut expected = of(OCSP, &config.ocsp_urls);
            expected.extend(of(CA_ISSUERS, &config.issuer_urls));
            must(&ACCESS, access_descriptions(&mut reader)? == expected)?;
        }
        extension::CERTIFICATE_POLICIES => {
            let policies = config.policies.iter();
            let expected: Vec<_> = policies.map(|p| (p.oid.clone(), p.cps.clone())).collect();
            must(&POLICIES, policies_of(&mut reader)? == expected)?;
        }
        extension::TLS_FEATURE => {
            let mut features = reader.inner("TLS features", tag::SEQUENCE)?;
            must(&TLS_FEATURE, features.small_integer("TLS feature")? == 5)?;
            must(&TLS_FEATURE, features.is_empty())?;
        }
        extension::OCSP_NO_CHECK => {
            let null = reader.any()?;
            must(&OCSP_NO_CHECK, null.whole == [tag::NULL, 0])?;
        }
        other => return Err(super::SIGHT.finding(&format!("{other} is no extension of ours"))),
    }
    Ok(reader.finish()?)
}

/// The URLs of CRLDistributionPoints; none where it is absent.
pub(super) fn crl_urls(fields: &Fields<'_>) -> Result<Vec<String>, Finding> {
    let one = fields.extension(extension::CRL_DISTRIBUTION_POINTS);
    one.map_or(Ok(Vec::new()), |one| distribution_points(&mut Reader::new("value", one.value)))
}

/// Method and URL of each AccessDescription; none where there are none.
pub(super) fn access(fields: &Fields<'_>) -> Result<Vec<(String, String)>, Finding> {
    let one = fields.extension(extension::AUTHORITY_INFORMATION_ACCESS);
    one.map_or(Ok(Vec::new()), |one| access_descriptions(&mut Reader::new("value", one.value)))
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// The names in the form in which requests have them.
fn names(reader: &mut Reader<'_>) -> Result<Vec<String>, Finding> {
    let mut list = reader.inner("subjectAltName", tag::SEQUENCE)?;
    let mut found = Vec::new();
    while !list.is_empty() {
        if list.next_is(0xa0) {
            let mut other = list.inner("otherName", 0xa0)?;
            let is_xmpp = other.oid("otherName type")? == XMPP;
            let mut value = other.inner("otherName value", 0xa0)?;
            other.finish()?;
            let address = value.element("XmppAddr", tag::UTF8_STRING)?.content;
            value.finish()?;
            must(&NAMES, is_xmpp)?;
            found.push(format!("xmpp:{}", text(address)));
            continue;
        }
        let name = list.any()?;
        found.push(match (name.tag, name.content.len()) {
            (0x81, _) => format!("email:{}", text(name.content)),
            (0x82, _) => format!("dns:{}", text(name.content)),
            (0x86, _) => format!("uri:{}", text(name.content)),
            (0x87, 4 | 16) => format!("ip:{}", address(name.content)),
            _ => return Err(NAMES.finding("a name is of an unknown type")),
        });
    }
    Ok(found)
}

fn address(octets: &[u8]) -> String {
    match <[u8; 4]>::try_from(octets) {
        Ok(octets) => Ipv4Addr::from(octets).to_string(),
        Err(_) => <[u8; 16]>::try_from(octets)
            .map_or_else(|_| String::new(), |octets| Ipv6Addr::from(octets).to_string()),
    }
}

/// The permitted and excluded subtrees of NameConstraints.
fn subtrees(reader: &mut Reader<'_>) -> Result<(Vec<Subtree>, Vec<Subtree>), Finding> {
    let mut value = reader.inner("nameConstraints", tag::SEQUENCE)?;
    let mut list = |number: u8| -> Result<Vec<Subtree>, Finding> {
        let mut found = Vec::new();
        if !value.next_is(number) {
            return Ok(found);
        }
        let mut list = value.inner("GeneralSubtrees", number)?;
        must(&NAME_CONSTRAINTS, !list.is_empty())?;
        while !list.is_empty() {
            let mut subtree = list.inner("GeneralSubtree", tag::SEQUENCE)?;
            let base = subtree.any()?;
            subtree.finish()?;
            found.push(match base.tag {
                0x81 => Subtree::Email(text(base.content)),
                0x82 => Subtree::Dns(text(base.content)),
                0x86 => Subtree::Uri(text(base.content)),
                0x87 => Subtree::Ip(base.content.to_vec()),
                _ => return Err(NAME_CONSTRAINTS.finding("a base is of an unknown type")),
            });
        }
        Ok(found)
    };
    let both = (list(0xa0)?, list(0xa1)?);
    value.finish()?;
    Ok(both)
}

/// A uniformResourceIdentifier (RFC 5280 4.2.1.6).
fn url(reader: &mut Reader<'_>) -> Result<String, DerError> {
    Ok(text(reader.element("uniformResourceIdentifier", 0x86)?.content))
}

/// The URLs of CRLDistributionPoints, of which each has a full name and nothing else.
fn distribution_points(reader: &mut Reader<'_>) -> Result<Vec<String>, Finding> {
    let mut list = reader.inner("CRLDistributionPoints", tag::SEQUENCE)?;
    let mut found = Vec::new();
    while !list.is_empty() {
        let mut point = list.inner("DistributionPoint", tag::SEQUENCE)?;
        let mut name = point.inner("DistributionPointName", 0xa0)?;
        point.finish()?;
        let mut full_name = name.inner("fullName", 0xa0)?;
        name.finish()?;
        found.push(url(&mut full_name)?);
        full_name.finish()?;
    }
    Ok(found)
}

/// Method and URL of each AccessDescription.
fn access_descriptions(reader: &mut Reader<'_>) -> Result<Vec<(String, String)>, Finding> {
    let mut list = reader.inner("AuthorityInfoAccessSyntax", tag::SEQUENCE)?;
    let mut found = Vec::new();
    while !list.is_empty() {
        let mut description = list.inner("AccessDescription", tag::SEQUENCE)?;
        found.push((description.oid("accessMethod")?, url(&mut description)?));
        description.finish()?;
    }
    Ok(found)
}

/// Identifier and practice statement of each PolicyInformation.
fn policies_of(reader: &mut Reader<'_>) -> Result<Vec<(String, Option<String>)>, Finding> {
    let mut list = reader.inner("certificatePolicies", tag::SEQUENCE)?;
    let mut found = Vec::new();
    while !list.is_empty() {
        let mut policy = list.inner("PolicyInformation", tag::SEQUENCE)?;
        let oid = policy.oid("policyIdentifier")?;
        let mut cps = None;
        if !policy.is_empty() {
            let mut qualifiers = policy.inner("policyQualifiers", tag::SEQUENCE)?;
            let mut qualifier = qualifiers.inner("PolicyQualifierInfo", tag::SEQUENCE)?;
            qualifiers.finish()?;
            must(&POLICIES, qualifier.oid("policyQualifierId")? == CPS)?;
            cps = Some(text(qualifier.element("CPSuri", tag::IA5_STRING)?.content));
            qualifier.finish()?;
        }
        policy.finish()?;
        found.push((oid, cps));
    }
    Ok(found)
}
