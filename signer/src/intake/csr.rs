//! One PKCS #10 request (RFC 2986) in DER becomes a [`VettedCsr`]; so does an SPKAC, next door.
//!
//! The structure is read by our own strict reader, the key and the signature by OpenSSL. Nothing
//! is repaired: what is not exactly right is refused with a sentence. No profile is applied here.
//! Every control has its id in a comment, an accept test and a reject test.

use std::collections::HashSet;

use protocol::{
    bounded::{List, Text},
    message::{Attribute, AttributeType, CSR_MAX, GeneralName, NAMES_MAX, RefusalCode, Subject},
};
use serde::{Deserialize, Serialize};

pub use crate::intake::key::KeyKind;
use crate::{
    intake::{
        der::{Element, Reader, tag},
        key::PublicKey,
        possession,
        text::{self, TextError},
    },
    refusal::Refusal,
};

/// Extensions that one request may ask for; the richest seen in practice has 9.
pub const EXTENSIONS_MAX: usize = 32;
/// Attributes of one request; Windows adds 4.
const REQUEST_ATTRIBUTES_MAX: usize = 16;

/// A request whose signer holds the key it names. Only [`vet`] makes one, and
/// [`spkac::vet`](super::spkac::vet).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VettedCsr {
    public_key: Vec<u8>,
    key_kind: KeyKind,
    subject: Subject,
    names: List<GeneralName, NAMES_MAX>,
    asked_extensions: List<Text<192>, EXTENSIONS_MAX>,
}

impl VettedCsr {
    /// A key alone: the names come from elsewhere.
    pub(super) fn of_key(public_key: &[u8], key: &PublicKey) -> Self {
        Self {
            public_key: public_key.to_vec(),
            key_kind: key.kind,
            subject: Subject::empty(),
            names: List::empty(),
            asked_extensions: List::empty(),
        }
    }

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
    possession::check(&key, algorithm.content, signature, signed.whole)?;
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

/// `csr-names`: dNSName, rfc822Name, uniformResourceIdentifier, iPAddress and XMPP addresses, each
/// name once. Names that mean the same in other letters are the profile's to compare.
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
    const OTHER_NAME: u8 = tag::constructed(0);
    const RFC822_NAME: u8 = tag::primitive(1);
    const DNS_NAME: u8 = tag::primitive(2);
    const URI: u8 = tag::primitive(6);
    const IP_ADDRESS: u8 = tag::primitive(7);
    let prefix = match element.tag {
        RFC822_NAME => "email",
        DNS_NAME => "dns",
        URI => "uri",
        OTHER_NAME => return read_other_name(element.content),
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

/// An XMPP address (RFC 6120 13.7.1.4) is the one otherName that can be asked for.
fn read_other_name(content: &[u8]) -> Result<GeneralName, Refusal> {
    const XMPP_ADDRESS: &str = "1.3.6.1.5.5.7.8.5";
    let mut fields = Reader::new("an otherName", content);
    let kind = fields.oid("an otherName's type")?;
    let mut value = fields.inner("an otherName's value", tag::constructed(0))?;
    fields.finish()?;
    if kind != XMPP_ADDRESS {
        return Err(name_rule(format!("an otherName of type {kind} is not accepted")));
    }
    let address = value.element("an XMPP address", tag::UTF8_STRING)?.content;
    value.finish()?;
    let address =
        std::str::from_utf8(address).map_err(|_| name_rule("an XMPP address is not UTF-8"))?;
    format!("xmpp:{address}").parse().map_err(|error| name_rule(format!("{error}")))
}

/// RFC 5280 4.2.1.6.
fn name_type(tag: u8) -> &'static str {
    match tag & 0x1f {
        3 => "name of type x400Address",
        4 => "name of type directoryName",
        5 => "name of type ediPartyName",
        8 => "name of type registeredID",
        _ => "name of unknown type",
    }
}

//------------ Refusals ------------------------------------------------------

fn malformed(text: impl AsRef<str>) -> Refusal {
    Refusal::new(RefusalCode::CsrMalformed, format!("not a PKCS #10 request: {}", text.as_ref()))
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
