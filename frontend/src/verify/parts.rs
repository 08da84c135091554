//! The fields of a certificate and of a CSR, by our own reader.
//!
//! OpenSSL decodes the public key of every certificate and CSR that it parses, which costs more
//! than checking an RSA-4096 signature; here a key is bytes until somebody must use it. Nothing
//! here is believed: that is for who compares and verifies.

use openssl::x509::X509Name;
use protocol::message::Serial;

use crate::{
    der::{BIT_STRING, Element, Extension, INTEGER, NotDer, Reader, SEQUENCE, context, unix_time},
    names::{self, CsrNames, FlatName},
    signature::{self, Algorithm},
};

/// The fields of a certificate, as they lie.
pub(super) struct Certificate<'a> {
    /// What is signed.
    pub(super) tbs: &'a [u8],
    /// By which algorithm: what stands outside, the same as inside, if it is a believed one.
    pub(super) algorithm: Option<Algorithm>,
    /// The signature's octets.
    pub(super) signature: &'a [u8],
    /// The serial number.
    pub(super) serial: Serial,
    /// The issuer, DER.
    pub(super) issuer: &'a [u8],
    /// The first and the last second of validity, if they can be read.
    pub(super) validity: Option<(i64, i64)>,
    /// The subject.
    pub(super) subject: FlatName,
    /// The SubjectPublicKeyInfo, DER.
    pub(super) key: &'a [u8],
    /// The extensions.
    pub(super) extensions: Vec<Extension<'a>>,
}

impl<'a> Certificate<'a> {
    /// Reads exactly one certificate of version 3 (RFC 5280 4.1).
    pub(super) fn read(der: &'a [u8]) -> Result<Self, NotDer> {
        let mut outer = Reader::new(der);
        let whole = outer.expect(SEQUENCE, "a certificate")?;
        outer.finish("the end of the certificate")?;
        let mut parts = whole.reader();
        let tbs = parts.expect(SEQUENCE, "a TBS certificate")?;
        let algorithm = parts.expect(SEQUENCE, "a signature algorithm")?;
        let signature = parts.expect(BIT_STRING, "a signature")?;
        parts.finish("the end of the certificate's parts")?;

        let mut fields = tbs.reader();
        let version = fields.expect(context(0), "a version")?;
        if version.content != VERSION_3 {
            return Err(NotDer { expected: "version 3" });
        }
        let serial = fields.expect(INTEGER, "a serial number")?;
        let inner = fields.expect(SEQUENCE, "an algorithm")?;
        let issuer = fields.expect(SEQUENCE, "an issuer")?;
        let validity = fields.expect(SEQUENCE, "a validity")?;
        let subject = fields.expect(SEQUENCE, "a subject")?;
        let key = fields.expect(SEQUENCE, "a public key")?;
        // RFC 5280 4.1.1.2: the two must be the same.
        let same = inner.whole == algorithm.whole;
        Ok(Self {
            tbs: tbs.whole,
            algorithm: Algorithm::of_signed(der).filter(|_| same),
            signature: signature::bit_string(signature.content)?,
            serial: read_serial(serial)?,
            issuer: issuer.whole,
            validity: read_validity(validity).ok(),
            subject: read_name(subject)?,
            key: key.whole,
            extensions: names::certificate_extensions(der)?,
        })
    }
}

/// The SubjectPublicKeyInfo of a CSR, DER, and what it asks for by itself.
pub(super) fn csr(der: &[u8]) -> Result<(&[u8], CsrNames), NotDer> {
    let mut outer = Reader::new(der);
    let mut parts = outer.expect(SEQUENCE, "a CSR")?.reader();
    outer.finish("the end of the CSR")?;
    let mut fields = parts.expect(SEQUENCE, "a certification request info")?.reader();
    fields.expect(INTEGER, "a version")?;
    let subject = fields.expect(SEQUENCE, "a subject")?;
    let key = fields.expect(SEQUENCE, "a public key")?;
    let extensions = names::csr_extensions(der)?;
    let names = CsrNames {
        subject: read_name(subject)?,
        subject_alt_names: names::subject_alt_names(&extensions)?,
        asks_ca: names::is_ca(&extensions)?,
    };
    Ok((key.whole, names))
}

/// RFC 5280 4.1.2.2: positive, within 20 octets; X.690 8.3.2: no needless octet in front.
fn read_serial(element: Element<'_>) -> Result<Serial, NotDer> {
    let broken = NotDer { expected: "a positive serial number of at most 20 octets" };
    let magnitude = match element.content {
        [] => return Err(broken),
        [0, next, ..] if *next < 0x80 => return Err(broken),
        [first, ..] if *first >= 0x80 => return Err(broken),
        octets => octets.strip_prefix(&[0]).unwrap_or(octets),
    };
    Serial::from_magnitude(magnitude).map_err(|_| broken)
}

fn read_validity(element: Element<'_>) -> Result<(i64, i64), NotDer> {
    let mut times = element.reader();
    let not_before = unix_time(&times.any("notBefore")?)?;
    let not_after = unix_time(&times.any("notAfter")?)?;
    times.finish("the end of the validity")?;
    Ok((not_before, not_after))
}

fn read_name(element: Element<'_>) -> Result<FlatName, NotDer> {
    let name = X509Name::from_der(element.whole).map_err(|_| NotDer { expected: "a name" })?;
    names::flat_name(&name)
}

/// INTEGER 2.
const VERSION_3: [u8; 3] = [0x02, 0x01, 0x02];

#[cfg(test)]
mod tests {
    use openssl::x509::X509;

    use super::*;
    use crate::test_ca::{CertificateRecipe, CsrRecipe, TestCa, ec_key};

    #[test]
    fn what_is_read_is_what_openssl_reads() {
        let ca = TestCa::new("Root").issuing("Issuing");
        let key = ec_key();
        for serial in [1, 0x7f, 0x80, 0x1234] {
            let der = CertificateRecipe::new(&ca, &key)
                .subject(&[("C", "DE"), ("CN", "Jürgen")])
                .serial(serial)
                .build();
            let (ours, theirs) = (Certificate::read(&der).unwrap(), X509::from_der(&der).unwrap());
            let their_serial = theirs.serial_number().to_bn().unwrap().to_vec();
            assert_eq!(ours.serial, Serial::from_magnitude(&their_serial).unwrap());
            assert_eq!(ours.issuer, theirs.issuer_name().to_der().unwrap());
            assert_eq!(ours.subject, names::flat_name(theirs.subject_name()).unwrap());
            assert_eq!(ours.key, theirs.public_key().unwrap().public_key_to_der().unwrap());
            let times = (theirs.not_before(), theirs.not_after());
            let times = (signature::unix_time(times.0), signature::unix_time(times.1));
            assert_eq!(ours.validity, times.0.zip(times.1));
            for cut in 0..der.len() {
                assert!(Certificate::read(&der[..cut]).is_err(), "cut at {cut}");
            }
        }
        let request = CsrRecipe::new(&key, "from the csr").dns("csr.example").build();
        let der = request.to_der().unwrap();
        let (spki, found) = csr(&der).unwrap();
        assert_eq!(spki, request.public_key().unwrap().public_key_to_der().unwrap());
        assert_eq!(found, CsrNames::of(&request, &der).unwrap());
    }

    #[test]
    fn serials_that_are_not_positive_or_not_shortest_are_refused() {
        let element = |content| Element { tag: INTEGER, content, whole: content };
        assert!(read_serial(element(&[0x00, 0x80])).is_ok());
        for bad in [&[][..], &[0], &[0x80], &[0, 0x7f], &[0, 0, 0x80], &[1; 21]] {
            assert!(read_serial(element(bad)).is_err(), "{bad:?}");
        }
    }
}
