//! The names in certificates and CSRs, as plain values that can be compared.
//!
//! A subject is compared by attribute and text, not by string type: PrintableString and
//! UTF8String of the same characters are the same name here. Nothing here decides whether a name
//! is allowed.

use openssl::x509::{X509NameRef, X509ReqRef};
use protocol::{bounded::Text, message::GeneralName};

use crate::der::{
    self, BIT_STRING, BOOLEAN, Extension, INTEGER, NotDer, OBJECT_IDENTIFIER, Reader, SEQUENCE,
    SET, UTF8_STRING, context, context_primitive,
};

/// A subject's attributes in order: openssl's short name and the value as UTF-8.
pub type FlatName = Vec<(String, String)>;

/// The attributes of an X.509 name.
pub fn flat_name(name: &X509NameRef) -> Result<FlatName, NotDer> {
    let not_text = NotDer { expected: "a name with text values" };
    name.entries()
        .map(|entry| {
            let kind = entry.object().nid().short_name().map_err(|_| not_text)?;
            let value = entry.data().to_string().map_err(|_| not_text)?;
            // An unknown attribute is told apart by its dotted identifier.
            let kind = if kind == "UNDEF" { entry.object().to_string() } else { kind.to_owned() };
            Ok((kind, value))
        })
        .collect()
}

/// `name` in openssl's form with slashes, for people.
pub fn show(name: &FlatName) -> String {
    name.iter().map(|(kind, value)| format!("/{kind}={}", value.replace('/', "\\/"))).collect()
}

/// The extensions of a DER certificate.
pub fn certificate_extensions(certificate: &[u8]) -> Result<Vec<Extension<'_>>, NotDer> {
    let whole = Reader::new(certificate).expect(SEQUENCE, "a certificate")?;
    let mut fields = whole.reader().expect(SEQUENCE, "a TBS certificate")?.reader();
    fields.optional(context(0), "a version")?;
    fields.expect(INTEGER, "a serial number")?;
    for part in ["an algorithm", "an issuer", "a validity", "a subject", "a public key"] {
        fields.expect(SEQUENCE, part)?;
    }
    fields.optional(context_primitive(1), "an issuer's unique id")?;
    fields.optional(context_primitive(2), "a subject's unique id")?;
    match fields.optional(context(3), "extensions")? {
        None => Ok(Vec::new()),
        Some(tagged) => {
            der::extensions(tagged.reader().expect(SEQUENCE, "a list of extensions")?.reader())
        }
    }
}

/// The extensions that a DER CSR asks for (RFC 2985 5.4.2).
pub fn csr_extensions(csr: &[u8]) -> Result<Vec<Extension<'_>>, NotDer> {
    let whole = Reader::new(csr).expect(SEQUENCE, "a CSR")?;
    let mut fields = whole.reader().expect(SEQUENCE, "a certification request info")?.reader();
    fields.expect(INTEGER, "a version")?;
    fields.expect(SEQUENCE, "a subject")?;
    fields.expect(SEQUENCE, "a public key")?;
    let Some(attributes) = fields.optional(context(0), "attributes")? else {
        return Ok(Vec::new());
    };
    let mut attributes = attributes.reader();
    let mut found = Vec::new();
    while !attributes.is_empty() {
        let mut attribute = attributes.expect(SEQUENCE, "an attribute")?.reader();
        let oid = attribute.expect(OBJECT_IDENTIFIER, "an attribute's identifier")?.content;
        let values = attribute.expect(SET, "an attribute's values")?;
        if oid == EXTENSION_REQUEST {
            let list = values.reader().expect(SEQUENCE, "a list of extensions")?;
            found.extend(der::extensions(list.reader())?);
        }
    }
    Ok(found)
}

/// The subject alternative names among `extensions`; `None` if there is no such extension.
pub fn subject_alt_names(extensions: &[Extension<'_>]) -> Result<Option<Vec<GeneralName>>, NotDer> {
    let Some(extension) = extensions.iter().find(|e| e.oid == SUBJECT_ALT_NAME) else {
        return Ok(None);
    };
    let mut outer = Reader::new(extension.value);
    let mut names = outer.expect(SEQUENCE, "subject alternative names")?.reader();
    outer.finish("the end of the subject alternative names")?;
    let mut found = Vec::new();
    while !names.is_empty() {
        let name = names.any("a subject alternative name")?;
        found.push(general_name(name.tag, name.content)?);
    }
    Ok(Some(found))
}

fn general_name(tag: u8, content: &[u8]) -> Result<GeneralName, NotDer> {
    fn text<const N: usize>(content: &[u8]) -> Result<Text<N>, NotDer> {
        let broken = NotDer { expected: "a subject alternative name in ASCII" };
        let ascii = std::str::from_utf8(content).ok().filter(|text| text.is_ascii());
        Text::try_from(ascii.ok_or(broken)?).map_err(|_| broken)
    }

    match tag {
        0xa0 => Ok(GeneralName::Xmpp(text(xmpp_address(content)?)?)),
        0x81 => Ok(GeneralName::Email(text(content)?)),
        0x82 => Ok(GeneralName::Dns(text(&content.to_ascii_lowercase())?)),
        0x86 => Ok(GeneralName::Uri(text(content)?)),
        0x87 => match (content.try_into(), content.try_into()) {
            (Ok(octets), _) => Ok(GeneralName::Ip4(octets)),
            (_, Ok(octets)) => Ok(GeneralName::Ip6(octets)),
            _ => Err(NotDer { expected: "an IP address of 4 or 16 octets" }),
        },
        _ => Err(NotDer {
            expected: "a subject alternative name of type dns, ip, email, uri or xmpp",
        }),
    }
}

/// The address in an otherName (RFC 5280 4.2.1.6), which must be XMPP's (RFC 6120 13.7.1.4).
fn xmpp_address(content: &[u8]) -> Result<&[u8], NotDer> {
    let mut fields = Reader::new(content);
    let kind = fields.expect(OBJECT_IDENTIFIER, "an otherName's type")?;
    if kind.content != XMPP_ADDRESS {
        return Err(NotDer { expected: "an otherName of type xmpp" });
    }
    let mut value = fields.expect(context(0), "an otherName's value")?.reader();
    fields.finish("the end of an otherName")?;
    let address = value.expect(UTF8_STRING, "an XMPP address in UTF-8")?;
    value.finish("the end of an XMPP address")?;
    Ok(address.content)
}

/// Whether `extensions` say CA:TRUE.
pub fn is_ca(extensions: &[Extension<'_>]) -> Result<bool, NotDer> {
    let Some(extension) = extensions.iter().find(|e| e.oid == BASIC_CONSTRAINTS) else {
        return Ok(false);
    };
    let constraints = Reader::new(extension.value).expect(SEQUENCE, "basic constraints")?;
    match constraints.reader().optional(BOOLEAN, "the CA flag")? {
        None => Ok(false),
        Some(flag) => Ok(flag.content != [0]),
    }
}

/// The content octets of the identifier of the algorithm that signed a DER certificate, CSR or
/// CRL.
pub fn signature_algorithm(signed: &[u8]) -> Result<&[u8], NotDer> {
    let mut fields = Reader::new(signed).expect(SEQUENCE, "a signed object")?.reader();
    fields.expect(SEQUENCE, "what is signed")?;
    let algorithm = fields.expect(SEQUENCE, "a signature algorithm")?;
    fields.expect(BIT_STRING, "a signature")?;
    Ok(algorithm.reader().expect(OBJECT_IDENTIFIER, "an algorithm's identifier")?.content)
}

/// What a CSR asks for by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrNames {
    /// Its subject.
    pub subject: FlatName,
    /// Its subject alternative names; `None` if it asks for none.
    pub subject_alt_names: Option<Vec<GeneralName>>,
    /// Whether it asks to be a CA.
    pub asks_ca: bool,
}

impl CsrNames {
    /// The names in `csr`, whose DER is `bytes`.
    pub fn of(csr: &X509ReqRef, bytes: &[u8]) -> Result<Self, NotDer> {
        let extensions = csr_extensions(bytes)?;
        Ok(Self {
            subject: flat_name(csr.subject_name())?,
            subject_alt_names: subject_alt_names(&extensions)?,
            asks_ca: is_ca(&extensions)?,
        })
    }
}

/// 1.2.840.113549.1.9.14
const EXTENSION_REQUEST: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// 2.5.29.17
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
/// 2.5.29.19
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
/// 1.3.6.1.5.5.7.8.5
const XMPP_ADDRESS: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x05];

#[cfg(test)]
mod tests {
    use super::*;

    /// GeneralNames with one otherName of this type and these value octets.
    fn other_name(kind: &[u8], value: &[u8]) -> Vec<u8> {
        let tlv = |tag: u8, content: &[u8]| {
            let length = u8::try_from(content.len()).unwrap();
            assert!(length < 0x80);
            [&[tag, length], content].concat()
        };
        let inner = [tlv(OBJECT_IDENTIFIER, kind), tlv(context(0), value)].concat();
        tlv(SEQUENCE, &tlv(context(0), &inner))
    }

    fn read(value: &[u8]) -> Result<Option<Vec<GeneralName>>, NotDer> {
        subject_alt_names(&[Extension { oid: &SUBJECT_ALT_NAME, critical: false, value }])
    }

    #[test]
    fn an_xmpp_address_is_read_from_its_other_name_and_no_other_is() {
        let address = b"\x0c\x09me@im.org";
        let good = other_name(&XMPP_ADDRESS, address);
        assert_eq!(read(&good).unwrap(), Some(vec!["xmpp:me@im.org".parse().unwrap()]));
        // A user principal name, an IA5String, something behind it, and a control character.
        let upn = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03];
        assert!(read(&other_name(&upn, address)).is_err());
        assert!(read(&other_name(&XMPP_ADDRESS, b"\x16\x09me@im.org")).is_err());
        assert!(read(&other_name(&XMPP_ADDRESS, b"\x0c\x09me@im.org\x05\x00")).is_err());
        assert!(read(&other_name(&XMPP_ADDRESS, "\x0c\x0am\u{e9}@im.org".as_bytes())).is_err());
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
    }
}
