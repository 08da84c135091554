//! One PKCS #10 request (RFC 2986) in DER becomes a [`VettedCsr`].
//!
//! The structure is read by our own strict reader, the key and the signature by OpenSSL. Nothing
//! is repaired: what is not exactly right is refused with a sentence. No profile is applied here.
//! Every control has its id in a comment, an accept test and a reject test.

use std::collections::HashSet;

use openssl::{
    error::ErrorStack,
    hash::MessageDigest,
    rsa::Padding,
    sign::{RsaPssSaltlen, Verifier},
};
use protocol::{
    bounded::{List, Text},
    message::{Attribute, AttributeType, CSR_MAX, GeneralName, NAMES_MAX, RefusalCode, Subject},
};
use serde::{Deserialize, Serialize};

pub use crate::intake::key::KeyKind;
use crate::{
    intake::{
        der::{DerError, Element, Reader, tag},
        key::PublicKey,
        text::{self, TextError},
    },
    refusal::Refusal,
};

/// Extensions that one request may ask for; the richest seen in practice has 9.
pub const EXTENSIONS_MAX: usize = 32;
/// Attributes of one request; Windows adds 4.
const REQUEST_ATTRIBUTES_MAX: usize = 16;
/// The salt of RSA-PSS is no longer than the largest modulus.
const SALT_MAX: u16 = 2048;

/// A request whose signer holds the key it names. Only [`vet`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VettedCsr {
    public_key: Vec<u8>,
    key_kind: KeyKind,
    subject: Subject,
    names: List<GeneralName, NAMES_MAX>,
    asked_extensions: List<Text<192>, EXTENSIONS_MAX>,
}

impl VettedCsr {
    /// The SubjectPublicKeyInfo, DER; its possession was proven.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// What kind of key it is; whoever signs asks [`KeyKind::of_spki`] again.
    pub fn key_kind(&self) -> KeyKind {
        self.key_kind
    }

    /// The subject that the request asks for; may be empty.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The subject alternative names that the request asks for; may be empty.
    pub fn names(&self) -> &[GeneralName] {
        &self.names
    }

    /// The object identifiers of all extensions that the request asks for, so that a log can say
    /// what was not granted. Their content is not kept but for the names.
    pub fn asked_extensions(&self) -> &[Text<192>] {
        &self.asked_extensions
    }
}

/// Vets `csr`: structure, key, possession, and the names asked for.
pub fn vet(csr: &[u8]) -> Result<VettedCsr, Refusal> {
    // `csr-size`
    if csr.len() > CSR_MAX {
        return Err(malformed(format!("{} bytes, at most {CSR_MAX} are taken", csr.len())));
    }
    // `csr-der`: one request and nothing after it.
    if csr.starts_with(b"-----BEGIN") {
        return Err(malformed("it is PEM; send the DER inside"));
    }
    let mut outer = Reader::new("the request", csr);
    let mut request = outer.inner("the request", tag::SEQUENCE)?;
    outer.finish()?;
    let signed = request.element("the request's information", tag::SEQUENCE)?;
    let algorithm = request.element("the signature algorithm", tag::SEQUENCE)?;
    let signature = request.bit_string("the signature")?;
    request.finish()?;

    let mut info = Reader::new("the request's information", signed.content);
    // `csr-version`
    let version = info.small_integer("the version")?;
    if version != 0 {
        return Err(malformed(format!("version {version}, only version 1 (coded 0) exists")));
    }
    let subject = info.element("the subject", tag::SEQUENCE)?;
    let public_key = info.element("the public key", tag::SEQUENCE)?.whole;
    // RFC 2986 wants the field even when it is empty; some programs leave it out then.
    let attributes = match info.is_empty() {
        true => Reader::new("the attributes", &[]),
        false => info.inner("the attributes", tag::constructed(0))?,
    };
    info.finish()?;

    // The key and its possession come first: what an unknown person wrote is not worth a look.
    let key = PublicKey::from_spki(public_key)?;
    check_possession(&key, algorithm.content, signature, signed.whole)?;
    let subject = read_subject(subject)?;
    let extensions = read_extensions(read_attributes(attributes)?)?;
    Ok(VettedCsr {
        public_key: public_key.to_vec(),
        key_kind: key.kind,
        subject,
        names: extensions.names,
        asked_extensions: extensions.asked,
    })
}

//------------ Possession ----------------------------------------------------

/// How the request was signed.
struct SignatureScheme {
    rsa: bool,
    edwards: bool,
    digest: Option<MessageDigest>,
    /// The salt's length, when the padding is PSS.
    pss_salt: Option<u16>,
}

/// `csr-digest` and `csr-possession`: the key named in the request signed exactly these bytes,
/// with a digest of the SHA-2 family.
fn check_possession(
    key: &PublicKey,
    algorithm: &[u8],
    signature: &[u8],
    signed: &[u8],
) -> Result<(), Refusal> {
    let scheme = read_scheme(algorithm)?;
    let is_rsa = matches!(key.kind, KeyKind::Rsa { .. });
    let is_edwards = key.kind == KeyKind::Ed25519;
    if scheme.rsa != is_rsa || scheme.edwards != is_edwards {
        return Err(Refusal::new(
            RefusalCode::CsrSignature,
            format!("the signature algorithm does not belong to the request's key ({})", key.kind),
        ));
    }
    match verify(key, &scheme, signature, signed) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Refusal::new(
            RefusalCode::CsrSignature,
            "the signature was not made by the request's own key over these bytes",
        )),
    }
}

fn verify(
    key: &PublicKey,
    scheme: &SignatureScheme,
    signature: &[u8],
    signed: &[u8],
) -> Result<bool, ErrorStack> {
    let mut verifier = match scheme.digest {
        Some(digest) => Verifier::new(digest, &key.key)?,
        None => Verifier::new_without_digest(&key.key)?,
    };
    if let (Some(salt), Some(digest)) = (scheme.pss_salt, scheme.digest) {
        verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
        verifier.set_rsa_mgf1_md(digest)?;
        verifier.set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt.into()))?;
    }
    verifier.verify_oneshot(signature, signed)
}

/// Reads an AlgorithmIdentifier; RFC 4055, RFC 5758, RFC 8410 say which parameters belong to it.
fn read_scheme(content: &[u8]) -> Result<SignatureScheme, Refusal> {
    let mut algorithm = Reader::new("the signature algorithm", content);
    let oid = algorithm.oid("the signature algorithm")?;
    let ecdsa = |digest| SignatureScheme {
        rsa: false,
        edwards: false,
        digest: Some(digest),
        pss_salt: None,
    };
    let scheme = match oid.as_str() {
        "1.2.840.113549.1.1.11" => rsa_pkcs1(&mut algorithm, MessageDigest::sha256())?,
        "1.2.840.113549.1.1.12" => rsa_pkcs1(&mut algorithm, MessageDigest::sha384())?,
        "1.2.840.113549.1.1.13" => rsa_pkcs1(&mut algorithm, MessageDigest::sha512())?,
        "1.2.840.113549.1.1.10" => rsa_pss(&mut algorithm)?,
        "1.2.840.10045.4.3.2" => ecdsa(MessageDigest::sha256()),
        "1.2.840.10045.4.3.3" => ecdsa(MessageDigest::sha384()),
        "1.2.840.10045.4.3.4" => ecdsa(MessageDigest::sha512()),
        "1.3.101.112" => {
            SignatureScheme { rsa: false, edwards: true, digest: None, pss_salt: None }
        }
        other => return Err(bad_digest(&format!("the request is signed with {}", spoken(other)))),
    };
    algorithm.finish()?;
    Ok(scheme)
}

fn rsa_pkcs1(
    parameters: &mut Reader<'_>,
    digest: MessageDigest,
) -> Result<SignatureScheme, Refusal> {
    read_null(parameters)?;
    Ok(SignatureScheme { rsa: true, edwards: false, digest: Some(digest), pss_salt: None })
}

/// RSASSA-PSS-params (RFC 4055 3.1). Its defaults are all SHA-1, so every field must be there.
fn rsa_pss(algorithm: &mut Reader<'_>) -> Result<SignatureScheme, Refusal> {
    const SHA1: &str = "RSA-PSS with SHA-1, which absent parameters mean";
    let mut parameters = algorithm.inner("the PSS parameters", tag::SEQUENCE)?;
    if !parameters.next_is(tag::constructed(0)) {
        return Err(bad_digest(SHA1));
    }
    let digest = read_digest(parameters.inner("the PSS digest", tag::constructed(0))?)?;
    if !parameters.next_is(tag::constructed(1)) {
        return Err(bad_digest(SHA1));
    }
    let mut mask = parameters.inner("the PSS mask", tag::constructed(1))?;
    let mut function = mask.inner("the PSS mask", tag::SEQUENCE)?;
    mask.finish()?;
    let is_mgf1 = function.oid("the PSS mask")? == "1.2.840.113549.1.1.8";
    if !is_mgf1 || read_digest(function)?.type_() != digest.type_() {
        return Err(bad_digest("RSA-PSS whose mask is not MGF1 with the signature's own digest"));
    }
    let mut salt = parameters.inner("the PSS salt length", tag::constructed(2))?;
    let pss_salt = salt.small_integer("the PSS salt length")?;
    salt.finish()?;
    parameters.finish()?; // the trailer field has one value, its default
    if pss_salt > SALT_MAX {
        return Err(malformed(format!("a PSS salt of {pss_salt} bytes")));
    }
    Ok(SignatureScheme {
        rsa: true,
        edwards: false,
        digest: Some(digest),
        pss_salt: Some(pss_salt),
    })
}

fn read_digest(mut outer: Reader<'_>) -> Result<MessageDigest, Refusal> {
    let mut algorithm = outer.inner("the digest", tag::SEQUENCE)?;
    outer.finish()?;
    let digest = match algorithm.oid("the digest")?.as_str() {
        "2.16.840.1.101.3.4.2.1" => MessageDigest::sha256(),
        "2.16.840.1.101.3.4.2.2" => MessageDigest::sha384(),
        "2.16.840.1.101.3.4.2.3" => MessageDigest::sha512(),
        other => return Err(bad_digest(&format!("RSA-PSS with {}", spoken(other)))),
    };
    read_null(&mut algorithm)?;
    algorithm.finish()?;
    Ok(digest)
}

/// RFC 4055 2.1: NULL is written, absence is accepted.
fn read_null(parameters: &mut Reader<'_>) -> Result<(), Refusal> {
    if parameters.is_empty() {
        return Ok(());
    }
    match parameters.element("the algorithm's parameters", tag::NULL)?.content {
        [] => Ok(()),
        _ => Err(malformed("the algorithm's NULL has content")),
    }
}

/// The names of the algorithms that old programs still use, so that the sentence helps.
fn spoken(oid: &str) -> String {
    let name = match oid {
        "1.2.840.113549.1.1.2" => "MD2",
        "1.2.840.113549.1.1.3" => "MD4",
        "1.2.840.113549.1.1.4" => "MD5",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" | "1.2.840.10045.4.1" | "1.3.14.3.2.26" => "SHA-1",
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.2.4" => "SHA-224",
        other => return format!("algorithm {other}"),
    };
    name.to_owned()
}

//------------ Subject -------------------------------------------------------

/// `subject-attributes`: known types, one per RDN, printable text, each type once but for those
/// that form a path (CA/B TLS BR 7.1.4.2: DC, street, OU).
fn read_subject(name: Element<'_>) -> Result<Subject, Refusal> {
    let mut seen = HashSet::new();
    let mut attributes = Vec::new();
    let mut rdns = Reader::new("the subject", name.content);
    while !rdns.is_empty() {
        let mut rdn = rdns.inner("an RDN of the subject", tag::SET)?;
        let mut attribute = rdn.inner("an attribute of the subject", tag::SEQUENCE)?;
        if !rdn.is_empty() {
            return Err(subject_rule("an RDN holds several attributes; give each its own RDN"));
        }
        let oid = attribute.oid("an attribute type of the subject")?;
        let value = attribute.any()?;
        attribute.finish()?;
        let kind = AttributeType::from_oid(&oid).ok_or_else(|| {
            subject_rule(format!("attribute {oid} is not accepted; leave it out"))
        })?;
        if !seen.insert(kind) && !may_repeat(kind) {
            return Err(subject_rule(format!("{} is there twice", kind.short_name())));
        }
        attributes.push(Attribute { kind, value: attribute_value(kind, &value)? });
    }
    let count = attributes.len();
    attributes.try_into().map_err(|_| subject_rule(format!("{count} attributes are too many")))
}

fn may_repeat(kind: AttributeType) -> bool {
    use AttributeType::{DomainComponent, OrganizationalUnitName, StreetAddress};
    matches!(kind, DomainComponent | OrganizationalUnitName | StreetAddress)
}

fn attribute_value(kind: AttributeType, value: &Element<'_>) -> Result<Text<256>, Refusal> {
    let name = kind.short_name();
    let text = text::of_string(value)
        .map_err(|error: TextError| subject_rule(format!("the value of {name} {error}")))?;
    Text::try_from(text).map_err(|error| subject_rule(format!("the value of {name} has {error}")))
}

//------------ Attributes and extensions -------------------------------------

/// The extensions that the request asks for.
struct AskedExtensions {
    names: List<GeneralName, NAMES_MAX>,
    asked: List<Text<192>, EXTENSIONS_MAX>,
}

/// PKCS #9 `extensionRequest` (RFC 2985 5.4.2), and Microsoft's older number for the same, which
/// OpenSSL honours too: nothing may hide in it.
const EXTENSION_REQUESTS: [&str; 2] = ["1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"];
const SUBJECT_ALT_NAME: &str = "2.5.29.17";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";

/// `csr-attributes`: well-formed, each once, at most one extension request; the content of others
/// (challenge passwords, Windows versions) is never looked at. Returns the Extensions, if any.
fn read_attributes(mut attributes: Reader<'_>) -> Result<Reader<'_>, Refusal> {
    let mut extensions = Reader::new("the extensions", &[]);
    let mut asked = false;
    let mut seen = HashSet::new();
    while !attributes.is_empty() {
        let mut attribute = attributes.inner("an attribute of the request", tag::SEQUENCE)?;
        let oid = attribute.oid("an attribute type of the request")?;
        let mut values = attribute.inner("the values of an attribute", tag::SET)?;
        attribute.finish()?;
        let value = values.any()?;
        if EXTENSION_REQUESTS.contains(&oid.as_str()) {
            values.finish()?;
            if asked {
                return Err(malformed("it has two extension requests"));
            }
            asked = true;
            let mut list = Reader::new("the extension request", value.whole);
            extensions = list.inner("the extension request", tag::SEQUENCE)?;
        } else {
            while !values.is_empty() {
                values.any()?;
            }
        }
        if !seen.insert(oid.clone()) {
            return Err(malformed(format!("attribute {oid} is there twice")));
        }
        if seen.len() > REQUEST_ATTRIBUTES_MAX {
            return Err(malformed(format!("more than {REQUEST_ATTRIBUTES_MAX} attributes")));
        }
    }
    Ok(extensions)
}

/// `csr-extensions`: each once; only the subject alternative names are used.
fn read_extensions(mut extensions: Reader<'_>) -> Result<AskedExtensions, Refusal> {
    let mut seen = HashSet::new();
    let mut asked = Vec::new();
    let mut names = List::empty();
    while !extensions.is_empty() {
        let mut extension = extensions.inner("an extension", tag::SEQUENCE)?;
        let oid = extension.oid("an extension's type")?;
        extension.default_false("an extension's critical flag")?;
        let value = extension.element("an extension's value", tag::OCTET_STRING)?.content;
        extension.finish()?;
        match oid.as_str() {
            SUBJECT_ALT_NAME => names = read_names(value)?,
            BASIC_CONSTRAINTS => refuse_ca(value)?,
            _ => {}
        }
        if !seen.insert(oid.clone()) {
            return Err(malformed(format!("extension {oid} is there twice")));
        }
        asked.push(Text::truncated(&oid));
    }
    let asked = asked
        .try_into()
        .map_err(|_| malformed(format!("more than {EXTENSIONS_MAX} extensions are asked for")))?;
    Ok(AskedExtensions { names, asked })
}

/// `csr-not-a-ca`
fn refuse_ca(value: &[u8]) -> Result<(), Refusal> {
    let mut outer = Reader::new("basicConstraints", value);
    let mut constraints = outer.inner("basicConstraints", tag::SEQUENCE)?;
    outer.finish()?;
    // CA:FALSE written out is not DER, but programs do it, and it asks for nothing.
    if constraints.next_is(tag::BOOLEAN) && constraints.boolean("basicConstraints")? {
        return Err(Refusal::new(
            RefusalCode::CsrAsksCa,
            "the request asks for basicConstraints CA:TRUE",
        ));
    }
    if !constraints.is_empty() {
        constraints.small_integer("the path length")?;
    }
    Ok(constraints.finish()?)
}

/// `csr-names`: dNSName, rfc822Name, uniformResourceIdentifier and iPAddress, each name once.
fn read_names(value: &[u8]) -> Result<List<GeneralName, NAMES_MAX>, Refusal> {
    let mut outer = Reader::new("subjectAltName", value);
    let mut list = outer.inner("subjectAltName", tag::SEQUENCE)?;
    outer.finish()?;
    if list.is_empty() {
        return Err(name_rule("subjectAltName is there but empty"));
    }
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    while !list.is_empty() {
        let name = read_name(&list.any()?)?;
        if !seen.insert(name.clone()) {
            return Err(name_rule(format!("{name} is there twice")));
        }
        names.push(name);
        if names.len() > NAMES_MAX {
            return Err(name_rule(format!("more than {NAMES_MAX} names")));
        }
    }
    names.try_into().map_err(|error| name_rule(format!("subjectAltName has {error}")))
}

fn read_name(element: &Element<'_>) -> Result<GeneralName, Refusal> {
    const RFC822_NAME: u8 = tag::primitive(1);
    const DNS_NAME: u8 = tag::primitive(2);
    const URI: u8 = tag::primitive(6);
    const IP_ADDRESS: u8 = tag::primitive(7);
    let prefix = match element.tag {
        RFC822_NAME => "email",
        DNS_NAME => "dns",
        URI => "uri",
        IP_ADDRESS => {
            return match (element.content.try_into(), element.content.try_into()) {
                (Ok(octets), _) => Ok(GeneralName::Ip4(octets)),
                (_, Ok(octets)) => Ok(GeneralName::Ip6(octets)),
                _ => Err(name_rule(format!("an IP address of {} bytes", element.content.len()))),
            };
        }
        other => return Err(name_rule(format!("a {} is not accepted", name_type(other)))),
    };
    let value = std::str::from_utf8(element.content)
        .map_err(|_| name_rule(format!("a {prefix} name is not ASCII")))?;
    format!("{prefix}:{value}").parse().map_err(|error| name_rule(format!("{error}")))
}

/// RFC 5280 4.2.1.6.
fn name_type(tag: u8) -> &'static str {
    match tag & 0x1f {
        0 => "name of type otherName",
        3 => "name of type x400Address",
        4 => "name of type directoryName",
        5 => "name of type ediPartyName",
        8 => "name of type registeredID",
        _ => "name of unknown type",
    }
}

//------------ Refusals ------------------------------------------------------

impl From<DerError> for Refusal {
    fn from(error: DerError) -> Self {
        malformed(error.to_string())
    }
}

fn malformed(text: impl AsRef<str>) -> Refusal {
    Refusal::new(RefusalCode::CsrMalformed, format!("not a PKCS #10 request: {}", text.as_ref()))
}

fn bad_digest(text: &str) -> Refusal {
    Refusal::new(RefusalCode::CsrDigest, format!("{text}; SHA-256, SHA-384 or SHA-512 is accepted"))
}

fn subject_rule(text: impl AsRef<str>) -> Refusal {
    Refusal::new(RefusalCode::SubjectRule, format!("the request's subject: {}", text.as_ref()))
}

fn name_rule(text: impl AsRef<str>) -> Refusal {
    Refusal::new(
        RefusalCode::NameRule,
        format!("the request's subject alternative names: {}", text.as_ref()),
    )
}

#[cfg(test)]
mod tests;
