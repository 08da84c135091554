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
    shard: Option<u16>,
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

    /// The shard of the CRL that it names.
    pub fn shard(&self) -> Option<u16> {
        self.shard
    }

    pub(crate) fn into_parts(self) -> (Serial, UnixTime, String, Vec<u8>) {
        (self.serial, self.not_after, self.subject, self.der)
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
) -> Result<LintedTbs, Refusal> {
    check(&tbs, issuer, &serial, permit, profile).map_err(|Finding(text)| {
        let text = format!("the certificate did not pass the check before signing: {text}");
        Refusal::new(RefusalCode::Lint, text)
    })?;
    let subject = name::one_line(&permit.wish().subject);
    Ok(LintedTbs { der: tbs, serial, not_after: permit.not_after(), subject, shard: None })
}

/// What is wrong with a TBS certificate.
#[derive(Debug)]
struct Finding(String);

impl From<openssl::error::ErrorStack> for Finding {
    fn from(error: openssl::error::ErrorStack) -> Self {
        Self(format!("OpenSSL cannot read it: {error}"))
    }
}

impl From<DerError> for Finding {
    fn from(error: DerError) -> Self {
        Self(error.to_string())
    }
}

fn check(
    tbs: &[u8],
    issuer: &Issuer,
    serial: &Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<(), Finding> {
    let wish = permit.wish();
    let whole = tbs::signed(tbs, &issuer.signature_algorithm, &[0; 64]);
    let certificate = X509::from_der(&whole)?;
    must("the encoding is DER", certificate.to_der()? == whole)?;
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
    let key_identifier = tbs::key_identifier(&wish.public_key)
        .map_err(|fault| Finding(format!("the key has no identifier: {fault}")))?;
    let is = |found: Option<&openssl::asn1::Asn1OctetStringRef>, expected: &[u8]| {
        found.is_some_and(|found| found.as_slice() == expected)
    };
    must("the key identifier is the key's", is(certificate.subject_key_id(), &key_identifier))?;
    let issuers = is(certificate.authority_key_id(), &issuer.key_identifier);
    must("the authority key identifier is the issuer's", issuers)?;
    check_raw_fields(tbs, issuer, permit)?;
    check_extensions(tbs, permit, profile)?;
    check_values(tbs, profile)
}

/// The fields that must be right to the byte and that OpenSSL hands out in another form.
fn check_raw_fields(tbs: &[u8], issuer: &Issuer, permit: &Permit) -> Result<(), Finding> {
    let mut outer = Reader::new("TBSCertificate", tbs);
    let mut fields = outer.inner("TBSCertificate", tag::SEQUENCE)?;
    fields.any()?; // version
    fields.any()?; // serial
    let algorithm = fields.any()?.whole == issuer.signature_algorithm;
    must("the algorithm inside is the one outside (RFC 5280 4.1.1.2)", algorithm)?;
    fields.any()?; // issuer
    fields.any()?; // validity
    fields.any()?; // subject
    must(
        "the key is the one asked for, byte for byte",
        fields.any()?.whole == permit.wish().public_key,
    )
}

fn must(what: &str, holds: bool) -> Result<(), Finding> {
    if holds { Ok(()) } else { Err(Finding(format!("not true that {what}"))) }
}

fn is_time(found: &Asn1TimeRef, expected: UnixTime) -> Result<bool, Finding> {
    let expected = Asn1Time::from_str(&expected.civil().generalized_time())?;
    let difference = found.diff(&expected)?;
    Ok(difference.days == 0 && difference.secs == 0)
}

fn check_names(certificate: &X509, names: &[GeneralName]) -> Result<(), Finding> {
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
fn check_extensions(tbs: &[u8], permit: &Permit, profile: &Profile) -> Result<(), Finding> {
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
    let found = read_extensions(tbs)?;
    let as_texts: Vec<(&str, bool)> =
        found.iter().map(|(oid, critical, _)| (oid.as_str(), *critical)).collect();
    must("the extensions are those of the profile, each once", as_texts == expected)?;
    Ok(())
}

/// The values of the extensions that say what the certificate is good for.
fn check_values(tbs: &[u8], profile: &Profile) -> Result<(), Finding> {
    let config = profile.extensions();
    for (oid, _, value) in read_extensions(tbs)? {
        let mut reader = Reader::new("extension value", &value);
        match oid.as_str() {
            extension::BASIC_CONSTRAINTS => {
                let mut fields = reader.inner("basicConstraints", tag::SEQUENCE)?;
                let is_ca = fields.default_false("cA")?;
                let path_length = match fields.is_empty() {
                    true => None,
                    false => Some(fields.small_integer("pathLenConstraint")?),
                };
                fields.finish()?;
                must("it is a CA only by the profile", is_ca == config.ca)?;
                must("only a console-only profile makes a CA", !is_ca || profile.console_only())?;
                let expected = config.path_length.map(u16::from);
                must("the path length is the profile's", path_length == expected)?;
            }
            extension::KEY_USAGE => {
                let bits = reader.element("keyUsage", tag::BIT_STRING)?.content;
                let found = named_bits(bits);
                let mut expected = profile.key_usage_bits().to_vec();
                expected.sort_unstable();
                must("the key usage is the profile's", found.as_ref() == Some(&expected))?;
            }
            extension::EXTENDED_KEY_USAGE => {
                let mut list = reader.inner("extKeyUsage", tag::SEQUENCE)?;
                let mut found = Vec::new();
                while !list.is_empty() {
                    found.push(list.oid("KeyPurposeId")?);
                }
                let expected = profile.extended_key_usage_oids();
                must("the extended key usage is the profile's", found == expected)?;
            }
            extension::OCSP_NO_CHECK => {
                let null = reader.element("id-pkix-ocsp-nocheck", tag::NULL)?;
                must("id-pkix-ocsp-nocheck is NULL", null.content.is_empty())?;
            }
            extension::CRL_DISTRIBUTION_POINTS => {
                let found = distribution_points(&mut reader)?;
                must("the CRL distribution points are the profile's", found == config.crl_urls)?;
            }
            extension::AUTHORITY_INFORMATION_ACCESS => {
                let of = |method: &str, urls: &[String]| -> Vec<(String, String)> {
                    urls.iter().map(|url| (method.to_owned(), url.clone())).collect()
                };
                let mut expected = of("1.3.6.1.5.5.7.48.1", &config.ocsp_urls);
                expected.extend(of("1.3.6.1.5.5.7.48.2", &config.issuer_urls));
                let found = access_descriptions(&mut reader)?;
                must("the authority information access is the profile's", found == expected)?;
            }
            extension::CERTIFICATE_POLICIES => {
                let policies = config.policies.iter();
                let expected: Vec<_> = policies.map(|p| (p.oid.clone(), p.cps.clone())).collect();
                let found = policies_of(&mut reader)?;
                must("the certificate policies are the profile's", found == expected)?;
            }
            _ => continue, // the key identifiers and the names are compared as a whole above
        }
        reader.finish()?;
    }
    Ok(())
}

/// A uniformResourceIdentifier (RFC 5280 4.2.1.6).
fn url(reader: &mut Reader<'_>) -> Result<String, Finding> {
    let octets = reader.element("uniformResourceIdentifier", 0x86)?.content;
    Ok(String::from_utf8_lossy(octets).into_owned())
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
            let is_cps = qualifier.oid("policyQualifierId")? == "1.3.6.1.5.5.7.2.1";
            must("a policy qualifier points to a practice statement", is_cps)?;
            let octets = qualifier.element("CPSuri", tag::IA5_STRING)?.content;
            cps = Some(String::from_utf8_lossy(octets).into_owned());
            qualifier.finish()?;
        }
        policy.finish()?;
        found.push((oid, cps));
    }
    Ok(found)
}

/// Which bits of a named BIT STRING are set, lowest first; DER leaves no trailing zeros.
fn named_bits(content: &[u8]) -> Option<Vec<u8>> {
    let (unused, octets) = content.split_first()?;
    let last = *octets.last()?;
    if *unused > 7 || last.trailing_zeros() != u32::from(*unused) {
        return None;
    }
    let bits = 0..u8::try_from(octets.len() * 8).ok()?;
    Some(bits.filter(|bit| octets[usize::from(bit / 8)] & (0x80 >> (bit % 8)) != 0).collect())
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

#[cfg(test)]
mod tests {
    use protocol::bounded::List;

    use super::*;
    use crate::{
        der,
        keys::{CaKey, CaKeyKind},
        profile::{DEFAULTS, PolicyConfig, ProfileConfig, Wish},
    };

    const NOW: UnixTime = UnixTime(1_795_312_800);

    struct Case {
        issuer: Issuer,
        serial: Serial,
        permit: Permit,
        profile: Profile,
    }

    fn profile(name: &str) -> Profile {
        let (name, text) = DEFAULTS.iter().find(|(known, _)| *known == name).unwrap();
        Profile::check(name.parse().unwrap(), toml::from_str(text).unwrap()).unwrap()
    }

    fn case(profile_name: &str, subject: &str, names: &[&str]) -> Case {
        case_of(profile(profile_name), subject, names)
    }

    /// Every extension that a profile can have.
    fn with_every_extension() -> Case {
        let (name, text) = DEFAULTS[0];
        let mut config: ProfileConfig = toml::from_str(text).unwrap();
        let extensions = &mut config.extensions;
        extensions.crl_urls =
            vec!["http://a.example/1.crl".into(), "http://b.example/1.crl".into()];
        extensions.ocsp_urls = vec!["http://ocsp.example/".into()];
        extensions.issuer_urls = vec!["http://a.example/ca.crt".into()];
        extensions.ocsp_no_check = true;
        let policy = |oid: &str, cps: Option<&str>| PolicyConfig {
            oid: oid.into(),
            cps: cps.map(str::to_owned),
        };
        extensions.policies =
            vec![policy("2.23.140.1.2.1", None), policy("1.2.3.4", Some("http://a.example/cps"))];
        let profile = Profile::check(name.parse().unwrap(), config).unwrap();
        case_of(profile, "/CN=a.example", &["dns:a.example"])
    }

    fn case_of(profile: Profile, subject: &str, names: &[&str]) -> Case {
        let key = CaKey::generate(CaKeyKind::P256).unwrap();
        let subject =
            if subject.is_empty() { List::empty() } else { name::parse(subject).unwrap() };
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        let wish = Wish { subject, names, days: None, public_key: key.public_key().unwrap() };
        let permit = profile.permit(wish, NOW, UnixTime(NOW.0 + 400_000_000)).unwrap();
        let issuer = Issuer {
            name: name::to_der(&name::parse("/O=Test/CN=Issuing").unwrap()),
            key_identifier: vec![7; 20],
            signature_algorithm: key.signature_algorithm(),
        };
        Case { issuer, serial: "4000000000000001AA".parse().unwrap(), permit, profile }
    }

    impl Case {
        fn tbs(&self) -> Vec<u8> {
            tbs::certificate(&self.issuer, &self.serial, &self.permit, &self.profile).unwrap()
        }

        fn finding(&self, tbs: Vec<u8>) -> Option<String> {
            lint(tbs, &self.issuer, self.serial.clone(), &self.permit, &self.profile)
                .err()
                .map(|refusal| refusal.text)
        }
    }

    #[test]
    fn what_every_profile_writes_passes() {
        for (name, subject, names) in [
            ("server", "/CN=a.example", &["dns:a.example", "ip:2001:db8::1", "ip:192.0.2.1"][..]),
            ("server", "", &["dns:a.example"]),
            ("server-org", "/C=DE/O=Größe/CN=a.example", &["dns:a.example"]),
            ("client", "/CN=A", &["email:a@example.org"]),
            ("client-codesign", "/CN=A", &["email:a@example.org"]),
            ("client-org", "/C=DE/O=A/CN=A", &["email:a@example.org"]),
            ("ocsp", "/CN=Responder", &[]),
            ("timestamp", "/CN=Time", &[]),
            ("subca", "/CN=Sub", &[]),
        ] {
            let case = case(name, subject, names);
            assert_eq!(case.finding(case.tbs()), None, "{name}");
        }
    }

    #[test]
    fn openssl_reads_the_pointers_that_a_profile_writes() {
        let case = with_every_extension();
        let whole = tbs::signed(&case.tbs(), &case.issuer.signature_algorithm, &[0; 64]);
        let certificate = X509::from_der(&whole).unwrap();
        let text = String::from_utf8(certificate.to_text().unwrap()).unwrap();
        for expected in [
            "Full Name:\n                  URI:http://a.example/1.crl",
            "URI:http://b.example/1.crl",
            "OCSP - URI:http://ocsp.example/",
            "CA Issuers - URI:http://a.example/ca.crt",
            "Policy: 2.23.140.1.2.1",
            "Policy: 1.2.3.4",
            "CPS: http://a.example/cps",
            "OCSP No Check",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn every_changed_byte_is_found() {
        let case = with_every_extension();
        let good = case.tbs();
        assert_eq!(case.finding(good.clone()), None);
        let mut passed = Vec::new();
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 0x01;
            if case.finding(changed).is_none() {
                passed.push(at);
            }
        }
        assert_eq!(passed, [0_usize; 0], "of {}: {:02x?}", good.len(), good);
    }

    #[test]
    fn certificate_of_another_permit_or_issuer_is_found() {
        let case_a = case("server", "/CN=a.example", &["dns:a.example"]);
        let case_b = case("server", "/CN=a.example", &["dns:a.example", "dns:b.example"]);
        assert!(case_a.finding(case_b.tbs()).is_some());
        let mut other_issuer = case("server", "/CN=a.example", &["dns:a.example"]);
        other_issuer.issuer.name = name::to_der(&name::parse("/CN=Other").unwrap());
        let tbs = other_issuer.tbs();
        other_issuer.issuer.name = case_a.issuer.name.clone();
        assert!(other_issuer.finding(tbs).unwrap().contains("issuer"));
    }

    #[test]
    fn ca_certificate_under_a_subscriber_profile_is_found() {
        let subca = case("subca", "/CN=Sub", &[]);
        let mut case = case("ocsp", "/CN=Sub", &[]);
        case.issuer = subca.issuer.clone();
        assert!(case.finding(subca.tbs()).is_some());
    }

    #[test]
    fn truncated_tbs_is_found_at_every_length() {
        let case = case("server", "", &["dns:a.example"]);
        let good = case.tbs();
        for cut in 0..good.len() {
            assert!(case.finding(good[..cut].to_vec()).is_some(), "cut at {cut}");
        }
        let mut longer = good.clone();
        longer.extend(der::sequence(&[]));
        assert!(case.finding(longer).is_some());
    }
}
