//! A certification authority for tests: keys, CSRs, certificates and CRLs, right and wrong ones.

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private, Public},
    rsa::Rsa,
    stack::Stack,
    x509::{
        X509, X509Builder, X509Name, X509NameBuilder, X509Req, X509ReqBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use protocol::{
    bounded::List,
    message::{AuthorityEntry, Catalogue, ProfileEntry},
};

/// The end of every test authority's validity.
const CA_DAYS: u32 = 3650;

pub(crate) fn ec_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

pub(crate) fn rsa_key(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

fn x509_name(attributes: &[(&str, &str)]) -> X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    for (kind, value) in attributes {
        builder.append_entry_by_text(kind, value).unwrap();
    }
    builder.build()
}

pub(crate) struct CsrRecipe<'k> {
    key: &'k PKey<Private>,
    common_name: &'k str,
    names: Vec<String>,
    digest: MessageDigest,
    ca: bool,
}

impl<'k> CsrRecipe<'k> {
    pub(crate) fn new(key: &'k PKey<Private>, common_name: &'k str) -> Self {
        Self { key, common_name, names: Vec::new(), digest: MessageDigest::sha256(), ca: false }
    }

    pub(crate) fn dns(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    pub(crate) fn digest(mut self, digest: MessageDigest) -> Self {
        self.digest = digest;
        self
    }

    pub(crate) fn ca(mut self) -> Self {
        self.ca = true;
        self
    }

    pub(crate) fn build(self) -> X509Req {
        let mut builder = X509ReqBuilder::new().unwrap();
        builder.set_subject_name(&x509_name(&[("CN", self.common_name)])).unwrap();
        builder.set_pubkey(self.key).unwrap();
        let mut extensions = Stack::new().unwrap();
        if !self.names.is_empty() {
            let mut san = SubjectAlternativeName::new();
            self.names.iter().for_each(|name| {
                san.dns(name);
            });
            extensions.push(san.build(&builder.x509v3_context(None)).unwrap()).unwrap();
        }
        if self.ca {
            extensions.push(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        }
        if !extensions.is_empty() {
            builder.add_extensions(&extensions).unwrap();
        }
        builder.sign(self.key, self.digest).unwrap();
        builder.build()
    }
}

pub(crate) struct TestCa {
    key: PKey<Private>,
    certificate: X509,
    chain: Vec<X509>,
}

impl TestCa {
    /// A self-signed root.
    pub(crate) fn new(common_name: &str) -> Self {
        let key = ec_key();
        let name = x509_name(&[("CN", common_name)]);
        let certificate = ca_certificate(&name, &key, &name, &key);
        Self { key, certificate, chain: Vec::new() }
    }

    /// An authority below this one.
    pub(crate) fn issuing(&self, common_name: &str) -> Self {
        let key = ec_key();
        let name = x509_name(&[("CN", common_name)]);
        let issuer = self.certificate.subject_name().to_owned().unwrap();
        let certificate = ca_certificate(&name, &key, &issuer, &self.key);
        let mut chain = vec![self.certificate.clone()];
        chain.extend(self.chain.clone());
        Self { key, certificate, chain }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.certificate.to_der().unwrap()
    }

    pub(crate) fn subject(&self) -> Vec<u8> {
        self.certificate.subject_name().to_der().unwrap()
    }

    pub(crate) fn public_key(&self) -> PKey<Public> {
        self.certificate.public_key().unwrap()
    }

    /// A catalogue with this authority, a profile `server`, a console-only `subca`, and
    /// `arranged`, which may leave attributes of the subject out.
    pub(crate) fn catalogue(&self, name: &str) -> Catalogue {
        let profile = |name: &str, console_only| ProfileEntry {
            name: name.parse().unwrap(),
            console_only,
            days_default: 90,
            days_max: 200,
            name_types: vec!["dns".try_into().unwrap(), "ip".try_into().unwrap()]
                .try_into()
                .unwrap(),
            subject_as_asked: !name.starts_with("arranged"),
        };
        let chain: Vec<_> =
            self.chain.iter().map(|x509| x509.to_der().unwrap().try_into().unwrap()).collect();
        let entry = AuthorityEntry {
            name: name.parse().unwrap(),
            certificate: self.der().try_into().unwrap(),
            chain: chain.try_into().unwrap(),
            profiles: vec![
                profile("server", false),
                profile("subca", true),
                profile("arranged", false),
            ]
            .try_into()
            .unwrap(),
            delta_crl: false,
            crl_shards: 0,
        };
        Catalogue { authorities: List::try_from(vec![entry]).unwrap(), openpgp: List::empty() }
    }

    /// A CRL with this number that revokes these serials.
    pub(crate) fn crl(&self, number: u64, serials: &[u64]) -> Vec<u8> {
        self.crl_named(number, serials, &self.subject())
    }

    /// The same with any issuer name.
    pub(crate) fn crl_named(&self, number: u64, serials: &[u64], issuer: &[u8]) -> Vec<u8> {
        self.crl_full(number, serials, issuer, &[], "260101000000Z")
    }

    /// A delta CRL.
    pub(crate) fn delta_crl(&self, number: u64, base: u64, serials: &[u64]) -> Vec<u8> {
        let value = [&[0u8][..], &base.to_be_bytes()].concat();
        let indicator = critical(&[0x55, 0x1d, 0x1b], &tlv(0x02, minimal(&value)));
        self.crl_full(number, serials, &self.subject(), &indicator, "260101000000Z")
    }

    /// The CRL of a shard that is named by these URIs.
    pub(crate) fn shard_crl(&self, number: u64, uris: &[&str], serials: &[u64]) -> Vec<u8> {
        let uris: Vec<u8> = uris.iter().flat_map(|uri| tlv(0x86, uri.as_bytes())).collect();
        let point = critical(&[0x55, 0x1d, 0x1c], &tlv(0x30, &tlv(0xa0, &tlv(0xa0, &uris))));
        self.crl_full(number, serials, &self.subject(), &point, "260101000000Z")
    }

    /// A full CRL of this time, `YYMMDDHHMMSSZ`.
    pub(crate) fn crl_at(&self, number: u64, serials: &[u64], this_update: &str) -> Vec<u8> {
        self.crl_full(number, serials, &self.subject(), &[], this_update)
    }

    fn crl_full(
        &self,
        number: u64,
        serials: &[u64],
        issuer: &[u8],
        more_extensions: &[u8],
        this_update: &str,
    ) -> Vec<u8> {
        let algorithm = tlv(0x30, &tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
        let this_update = tlv(0x17, this_update.as_bytes());
        let next_update = tlv(0x17, b"270101000000Z");
        let entries: Vec<u8> = serials
            .iter()
            .flat_map(|serial| {
                let octets = [&[0u8][..], &serial.to_be_bytes()].concat();
                let first = octets[..8].iter().position(|octet| *octet != 0).unwrap_or(8);
                let octets =
                    if octets[first] >= 0x80 { &octets[first - 1..] } else { &octets[first..] };
                tlv(0x30, &[tlv(0x02, octets), this_update.clone()].concat())
            })
            .collect();
        let list = if entries.is_empty() { Vec::new() } else { tlv(0x30, &entries) };
        let value = [&[0u8][..], &number.to_be_bytes()].concat();
        let crl_number = tlv(
            0x30,
            &[tlv(0x06, &[0x55, 0x1d, 0x14]), tlv(0x04, &tlv(0x02, minimal(&value)))].concat(),
        );
        let extensions = [&crl_number, more_extensions].concat();
        let extensions = tlv(0xa0, &tlv(0x30, &extensions));
        let tbs = tlv(
            0x30,
            &[
                tlv(0x02, &[1]),
                algorithm.clone(),
                issuer.to_vec(),
                this_update,
                next_update,
                list,
                extensions,
            ]
            .concat(),
        );
        let mut signer = openssl::sign::Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        signer.update(&tbs).unwrap();
        let signature = [&[0u8][..], &signer.sign_to_vec().unwrap()].concat();
        tlv(0x30, &[tbs, algorithm, tlv(0x03, &signature)].concat())
    }
}

/// A critical extension.
fn critical(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x06, oid), tlv(0x01, &[0xff]), tlv(0x04, value)].concat())
}

fn minimal(mut octets: &[u8]) -> &[u8] {
    while octets.len() > 1 && octets[0] == 0 && octets[1] < 0x80 {
        octets = &octets[1..];
    }
    octets
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        short @ 0..0x80 => bytes.push(short as u8),
        long => {
            let octets = long.to_be_bytes();
            let octets = minimal_length(&octets);
            bytes.push(0x80 | octets.len() as u8);
            bytes.extend_from_slice(octets);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

fn minimal_length(octets: &[u8]) -> &[u8] {
    let first = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len() - 1);
    &octets[first..]
}

fn ca_certificate(
    subject: &X509Name,
    key: &PKey<Private>,
    issuer: &X509Name,
    issuer_key: &PKey<Private>,
) -> X509 {
    let mut builder = certificate_builder(subject, issuer, CA_DAYS * 86_400 - 1, 1);
    builder.set_pubkey(key).unwrap();
    builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    builder.sign(issuer_key, MessageDigest::sha256()).unwrap();
    builder.build()
}

/// 2026-01-01T00:00:00Z
const NOT_BEFORE: i64 = 1_767_225_600;

fn certificate_builder(
    subject: &X509Name,
    issuer: &X509Name,
    seconds: u32,
    serial: u64,
) -> X509Builder {
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(subject).unwrap();
    builder.set_issuer_name(issuer).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(NOT_BEFORE).unwrap()).unwrap();
    let end = NOT_BEFORE + i64::from(seconds);
    builder.set_not_after(&Asn1Time::from_unix(end).unwrap()).unwrap();
    let serial = BigNum::from_slice(&serial.to_be_bytes()).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder
}

pub(crate) struct CertificateRecipe<'t> {
    ca: &'t TestCa,
    key: &'t PKey<Private>,
    subject: Vec<(String, String)>,
    names: Vec<String>,
    days: u32,
    serial: u64,
    is_ca: bool,
}

impl<'t> CertificateRecipe<'t> {
    pub(crate) fn new(ca: &'t TestCa, key: &'t PKey<Private>) -> Self {
        let (subject, names) = (Vec::new(), Vec::new());
        Self { ca, key, subject, names, days: 90, serial: 0x77, is_ca: false }
    }

    pub(crate) fn subject(mut self, attributes: &[(&str, &str)]) -> Self {
        let owned = |row: &(&str, &str)| (row.0.to_owned(), row.1.to_owned());
        self.subject = attributes.iter().map(owned).collect();
        self
    }

    /// `DNS:…` and `IP:…`.
    pub(crate) fn names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    pub(crate) fn signed_by(mut self, ca: &'t TestCa) -> Self {
        self.ca = ca;
        self
    }

    pub(crate) fn days(mut self, days: u32) -> Self {
        self.days = days;
        self
    }

    pub(crate) fn serial(mut self, serial: u64) -> Self {
        self.serial = serial;
        self
    }

    pub(crate) fn ca(mut self) -> Self {
        self.is_ca = true;
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        let subject: Vec<(&str, &str)> =
            self.subject.iter().map(|row| (&row.0[..], &row.1[..])).collect();
        let issuer = self.ca.certificate.subject_name().to_owned().unwrap();
        let seconds = u32::try_from(u64::from(self.days) * 86_400 - 1).unwrap_or(u32::MAX);
        let mut builder = certificate_builder(&x509_name(&subject), &issuer, seconds, self.serial);
        builder.set_pubkey(self.key).unwrap();
        if !self.names.is_empty() {
            let mut san = SubjectAlternativeName::new();
            for name in &self.names {
                match name.split_once(':').unwrap() {
                    ("DNS", dns) => san.dns(dns),
                    (_, ip) => san.ip(ip),
                };
            }
            let extension = san.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(extension).unwrap();
        }
        if self.is_ca {
            builder.append_extension(BasicConstraints::new().ca().build().unwrap()).unwrap();
        }
        builder.sign(&self.ca.key, MessageDigest::sha256()).unwrap();
        builder.build().to_der().unwrap()
    }
}
