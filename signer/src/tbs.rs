//! Writes the TBSCertificate (RFC 5280 4.1) that a [`Permit`] describes.
//!
//! Nothing is decided here: names, times, key and extensions come from the permit and the
//! profile, and [`crate::lint`] reads the result back before it is stored.

use std::borrow::Cow;

use protocol::message::{GeneralName, Serial};

use crate::{
    der::{self, tag},
    fault::Fault,
    intake::der::{DerError, Reader},
    keys::{CaKeyKind, SignatureDigest},
    name,
    profile::{ExtensionsConfig, Permit, Presence, Profile, Subtree, Subtrees},
};

/// What a certificate or CRL says about its issuer.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The issuer's subject, DER: used byte for byte.
    pub name: Vec<u8>,
    /// The issuer's subject key identifier.
    pub key_identifier: Vec<u8>,
    /// The AlgorithmIdentifier of its signatures where no profile says another digest, DER.
    pub signature_algorithm: Vec<u8>,
    /// The shards that its certificates are divided among; 0 where none.
    pub crl_shards: u16,
}

impl Issuer {
    /// The AlgorithmIdentifier of a signature by this issuer with `digest`, or with its own, DER.
    pub fn algorithm(&self, digest: Option<SignatureDigest>) -> Cow<'_, [u8]> {
        match (digest, self.family()) {
            (Some(digest), Some(family)) => Cow::Owned(family.signature_algorithm(Some(digest))),
            _ => Cow::Borrowed(&self.signature_algorithm),
        }
    }

    /// Whether its kind of key signs with a digest that can be chosen.
    pub fn has_choice_of_digest(&self) -> bool {
        self.family().is_some()
    }

    /// A kind of key that signs with this issuer's algorithm.
    fn family(&self) -> Option<CaKeyKind> {
        let families = [CaKeyKind::Rsa(2048), CaKeyKind::P256];
        families.into_iter().find(|family| {
            let with = |digest| family.signature_algorithm(Some(digest));
            SignatureDigest::ALL.into_iter().any(|digest| with(digest) == self.signature_algorithm)
        })
    }
}

/// The AlgorithmIdentifier in a TBSCertificate or TBSCertList (RFC 5280 4.1, 5.1), DER.
pub(crate) fn signature_algorithm(tbs: &[u8]) -> Result<&[u8], DerError> {
    // Only the front is read, and the strict reader stops at the 16 MiB that a CRL can pass.
    let header = match tbs.get(1) {
        Some(long @ 0x81..=0x84) => 2 + usize::from(long & 0x7f),
        _ => 2,
    };
    let short = DerError::Short { what: "what is to be signed" };
    let mut fields = Reader::new("what is to be signed", tbs.get(header..).ok_or(short)?);
    while fields.next_is(0xa0) || fields.next_is(tag::INTEGER) {
        fields.any()?; // version and serial number
    }
    Ok(fields.element("the signature algorithm", tag::SEQUENCE)?.whole)
}

/// The shard that lists a certificate if it is revoked: the last two octets of its serial number,
/// big endian, modulo `shards`; 0 where there are none. // stored
///
/// The last octets of a serial are random, so that shards grow alike. The number is written into
/// certificates: this function never changes.
pub fn shard_of(serial: &Serial, shards: u16) -> u16 {
    let last = serial.as_octets().iter().rev().take(2);
    let number =
        last.zip([1_u16, 256]).fold(0, |sum, (octet, place)| sum + u16::from(*octet) * place);
    number.checked_rem(shards).unwrap_or(0)
}

/// Object identifiers of the extensions (RFC 5280 4.2, RFC 6960, RFC 7633).
pub mod extension {
    #![expect(missing_docs, reason = "the names are the standard's")]
    pub const SUBJECT_KEY_IDENTIFIER: &str = "2.5.29.14";
    pub const KEY_USAGE: &str = "2.5.29.15";
    pub const SUBJECT_ALT_NAME: &str = "2.5.29.17";
    pub const BASIC_CONSTRAINTS: &str = "2.5.29.19";
    pub const CRL_NUMBER: &str = "2.5.29.20";
    pub const REASON_CODE: &str = "2.5.29.21";
    pub const INVALIDITY_DATE: &str = "2.5.29.24";
    pub const NAME_CONSTRAINTS: &str = "2.5.29.30";
    pub const CRL_DISTRIBUTION_POINTS: &str = "2.5.29.31";
    pub const CERTIFICATE_POLICIES: &str = "2.5.29.32";
    pub const AUTHORITY_KEY_IDENTIFIER: &str = "2.5.29.35";
    pub const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
    pub const FRESHEST_CRL: &str = "2.5.29.46";
    pub const AUTHORITY_INFORMATION_ACCESS: &str = "1.3.6.1.5.5.7.1.1";
    pub const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
    pub const OCSP_NO_CHECK: &str = "1.3.6.1.5.5.7.48.1.5";
}

/// The TBSCertificate, DER.
pub fn certificate(
    issuer: &Issuer,
    serial: &Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<Vec<u8>, Fault> {
    let wish = permit.wish();
    let validity =
        der::sequence(&[&der::time(permit.not_before()), &der::time(permit.not_after())]);
    Ok(der::sequence(&[
        &der::explicit(0, &der::unsigned(2)), // version 3
        &der::element(tag::INTEGER, serial.as_octets()),
        &issuer.algorithm(profile.digest()),
        &issuer.name,
        &validity,
        &name::encode(&wish.subject, profile.encoding()),
        &wish.public_key,
        &der::explicit(3, &extensions(issuer, serial, permit, profile)?),
    ]))
}

/// The certificate: what was signed, how, and the signature.
pub fn signed(tbs: &[u8], signature_algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    der::sequence(&[tbs, signature_algorithm, &der::bit_string(signature)])
}

/// The key identifier of RFC 5280 4.2.1.2 (1): SHA-1 over the BIT STRING's octets. It names a
/// key and protects nothing; openssl and every path builder expect this form.
pub fn key_identifier(public_key: &[u8]) -> Result<Vec<u8>, Fault> {
    let octets = subject_public_key(public_key).map_err(|error| Fault::Damaged {
        what: "a SubjectPublicKeyInfo".into(),
        why: error.to_string(),
    })?;
    Ok(openssl::sha::sha1(octets).to_vec())
}

fn subject_public_key(public_key: &[u8]) -> Result<&[u8], DerError> {
    let mut outer = Reader::new("SubjectPublicKeyInfo", public_key);
    let mut info = outer.inner("SubjectPublicKeyInfo", tag::SEQUENCE)?;
    outer.finish()?;
    info.any()?;
    let octets = info.bit_string("subjectPublicKey")?;
    info.finish()?;
    Ok(octets)
}

fn extensions(
    issuer: &Issuer,
    serial: &Serial,
    permit: &Permit,
    profile: &Profile,
) -> Result<Vec<u8>, Fault> {
    let config = profile.extensions();
    let mut all = Vec::new();
    if config.basic_constraints != Presence::Absent {
        let critical = config.basic_constraints == Presence::Critical;
        all.push(extension(extension::BASIC_CONSTRAINTS, critical, &basic_constraints(config)));
    }
    if !permit.key_usage().is_empty() {
        let usage = der::named_bits(permit.key_usage());
        all.push(extension(extension::KEY_USAGE, config.key_usage_critical, &usage));
    }
    if !profile.extended_key_usage_oids().is_empty() {
        let purposes = oids(profile.extended_key_usage_oids())?;
        let critical = config.extended_key_usage_critical;
        all.push(extension(extension::EXTENDED_KEY_USAGE, critical, &purposes));
    }
    let own = der::element(tag::OCTET_STRING, &key_identifier(&permit.wish().public_key)?);
    all.push(extension(extension::SUBJECT_KEY_IDENTIFIER, false, &own));
    all.push(authority_key_identifier(issuer));
    if !permit.wish().names.is_empty() {
        // RFC 5280 4.2.1.6: critical when the subject is empty.
        let critical = permit.wish().subject.is_empty();
        let names = general_names(&permit.wish().names);
        all.push(extension(extension::SUBJECT_ALT_NAME, critical, &names));
    }
    if let Some(subtrees) = profile.name_constraints() {
        all.push(extension(extension::NAME_CONSTRAINTS, true, &name_constraints(subtrees)));
    }
    let crl_urls = profile.crl_urls(shard_of(serial, issuer.crl_shards));
    if !crl_urls.is_empty() {
        let points = distribution_points(&crl_urls);
        all.push(extension(extension::CRL_DISTRIBUTION_POINTS, false, &points));
    }
    all.extend(pointers(config)?);
    if !config.delta_crl_urls.is_empty() {
        let points = distribution_points(&config.delta_crl_urls);
        all.push(extension(extension::FRESHEST_CRL, false, &points));
    }
    if config.must_staple {
        // RFC 7633 6: TLS feature 5 is status_request.
        let features = der::sequence(&[&der::unsigned(5)]);
        all.push(extension(extension::TLS_FEATURE, false, &features));
    }
    if config.ocsp_no_check {
        all.push(extension(extension::OCSP_NO_CHECK, false, &der::element(tag::NULL, &[])));
    }
    Ok(der::element(tag::SEQUENCE, &all.concat()))
}

/// An Extension; `critical` FALSE is the default and left out (X.690 11.5).
pub fn extension(oid: &'static str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::boolean_true() } else { Vec::new() };
    der::sequence(&[&der::known_oid(oid), &critical, &der::element(tag::OCTET_STRING, value)])
}

/// The authorityKeyIdentifier extension with the key identifier alone.
pub fn authority_key_identifier(issuer: &Issuer) -> Vec<u8> {
    let value = der::sequence(&[&der::implicit(0, &issuer.key_identifier)]);
    extension(extension::AUTHORITY_KEY_IDENTIFIER, false, &value)
}

fn basic_constraints(config: &ExtensionsConfig) -> Vec<u8> {
    if !config.ca {
        return der::sequence(&[]);
    }
    let length = config.path_length.map(|length| der::unsigned(u64::from(length)));
    der::sequence(&[&der::boolean_true(), &length.unwrap_or_default()])
}

fn oids(dotted: &[String]) -> Result<Vec<u8>, Fault> {
    let one = |dotted: &String| {
        der::oid(dotted).ok_or_else(|| Fault::Internal(format!("unchecked identifier {dotted}")))
    };
    let all: Vec<Vec<u8>> = dotted.iter().map(one).collect::<Result<_, _>>()?;
    Ok(der::element(tag::SEQUENCE, &all.concat()))
}

fn general_names(names: &[GeneralName]) -> Vec<u8> {
    let all: Vec<Vec<u8>> = names
        .iter()
        .map(|name| match name {
            GeneralName::Email(address) => der::implicit(1, address.as_bytes()),
            GeneralName::Dns(name) => der::implicit(2, name.as_bytes()),
            GeneralName::Uri(uri) => der::implicit(6, uri.as_bytes()),
            GeneralName::Xmpp(address) => {
                // OtherName { type-id, [0] EXPLICIT UTF8String } under IMPLICIT [0].
                let value = der::explicit(0, &der::element(tag::UTF8_STRING, address.as_bytes()));
                der::element(0xa0, &[der::known_oid("1.3.6.1.5.5.7.8.5"), value].concat())
            }
            GeneralName::Ip4(octets) => der::implicit(7, octets),
            GeneralName::Ip6(octets) => der::implicit(7, octets),
        })
        .collect();
    der::element(tag::SEQUENCE, &all.concat())
}

/// The value of CRL distribution points, and of freshestCRL: one point for each URL.
pub fn distribution_points(urls: &[String]) -> Vec<u8> {
    let point = |url: &String| {
        // DistributionPoint { [0] DistributionPointName { [0] fullName } }
        let name = der::implicit(6, url.as_bytes());
        der::sequence(&[&der::explicit(0, &der::explicit(0, &name))])
    };
    let points: Vec<Vec<u8>> = urls.iter().map(point).collect();
    der::element(tag::SEQUENCE, &points.concat())
}

/// `NameConstraints { [0] permitted, [1] excluded }`; minimum is 0 and left out.
fn name_constraints(subtrees: &Subtrees) -> Vec<u8> {
    let list = |number: u8, bases: &[Subtree]| {
        let base = |subtree: &Subtree| match subtree {
            Subtree::Email(domain) => der::implicit(1, domain.as_bytes()),
            Subtree::Dns(domain) => der::implicit(2, domain.as_bytes()),
            Subtree::Uri(domain) => der::implicit(6, domain.as_bytes()),
            Subtree::Ip(octets) => der::implicit(7, octets),
        };
        let all: Vec<Vec<u8>> = bases.iter().map(|one| der::sequence(&[&base(one)])).collect();
        if all.is_empty() { Vec::new() } else { der::explicit(number, &all.concat()) }
    };
    der::sequence(&[&list(0, &subtrees.permitted), &list(1, &subtrees.excluded)])
}

/// Authority information access and certificate policies.
fn pointers(config: &ExtensionsConfig) -> Result<Vec<Vec<u8>>, Fault> {
    let mut all = Vec::new();
    let uri = |url: &String| der::implicit(6, url.as_bytes());
    let access = |method: &'static str, urls: &[String]| -> Vec<u8> {
        let one = |url| der::sequence(&[&der::known_oid(method), &uri(url)]);
        urls.iter().flat_map(one).collect()
    };
    let ocsp = access("1.3.6.1.5.5.7.48.1", &config.ocsp_urls);
    let issuers = access("1.3.6.1.5.5.7.48.2", &config.issuer_urls);
    if !(ocsp.is_empty() && issuers.is_empty()) {
        let value = der::sequence(&[&ocsp, &issuers]);
        all.push(extension(extension::AUTHORITY_INFORMATION_ACCESS, false, &value));
    }
    if !config.policies.is_empty() {
        let mut policies = Vec::new();
        for policy in &config.policies {
            let oid = oids(std::slice::from_ref(&policy.oid))?;
            let oid = &oid[2..]; // the one OBJECT IDENTIFIER inside the SEQUENCE
            let qualifier = policy.cps.as_ref().map(|cps| {
                let text = der::element(tag::IA5_STRING, cps.as_bytes());
                let cps_oid = der::known_oid("1.3.6.1.5.5.7.2.1");
                der::sequence(&[&der::sequence(&[&cps_oid, &text])])
            });
            policies.extend(der::sequence(&[oid, &qualifier.unwrap_or_default()]));
        }
        let value = der::element(tag::SEQUENCE, &policies);
        all.push(extension(extension::CERTIFICATE_POLICIES, false, &value));
    }
    Ok(all)
}
