//! What the oracle reads in a certificate that was released.
//!
//! The key stays bytes: OpenSSL decodes it in every certificate that it parses, which would cost
//! the swarm more than all its rules. That a certificate is well formed, and its signature right,
//! the frontend sees before it stores it.

use frontend::der::{
    INTEGER, NotDer, Reader, SEQUENCE, context, context_primitive, extensions, unix_time,
};
use protocol::message::Digest;

/// The fields that rules are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The content octets of its serial number.
    pub(crate) serial: Vec<u8>,
    /// The first second of its validity.
    pub(crate) not_before: i64,
    /// The last one.
    pub(crate) not_after: i64,
    /// The shard that it names.
    pub(crate) shard: Option<u16>,
    /// Of all that is signed.
    pub(crate) tbs: Digest,
}

impl Certificate {
    /// Reads the fields of RFC 5280 4.1 in their order.
    pub(crate) fn read(der: &[u8]) -> Result<Self, NotDer> {
        let whole = Reader::new(der).expect(SEQUENCE, "a certificate")?;
        let tbs = whole.reader().expect(SEQUENCE, "a TBS certificate")?;
        let mut fields = tbs.reader();
        fields.expect(context(0), "a version")?;
        let serial = fields.expect(INTEGER, "a serial number")?.content.to_vec();
        fields.expect(SEQUENCE, "an algorithm")?;
        fields.expect(SEQUENCE, "an issuer")?;
        let mut validity = fields.expect(SEQUENCE, "a validity")?.reader();
        let not_before = unix_time(&validity.any("a first second")?)?;
        let not_after = unix_time(&validity.any("a last second")?)?;
        fields.expect(SEQUENCE, "a subject")?;
        fields.expect(SEQUENCE, "a public key")?;
        let list = fields.expect(context(3), "extensions")?;
        let list = list.reader().expect(SEQUENCE, "a list of extensions")?;
        let extensions = extensions(list.reader())?;
        let points = extensions.iter().find(|one| one.oid == DISTRIBUTION_POINTS);
        let shard = points.map(|points| shard_named(points.value)).transpose()?.flatten();
        Ok(Self { serial, not_before, not_after, shard, tbs: Digest::of(tbs.content) })
    }
}

/// The shard in the first of these distribution points, `http://…/shard-2.crl`.
fn shard_named(points: &[u8]) -> Result<Option<u16>, NotDer> {
    let points = Reader::new(points).expect(SEQUENCE, "distribution points")?;
    let point = points.reader().expect(SEQUENCE, "a distribution point")?;
    let name = point.reader().expect(context(0), "a distribution point's name")?;
    let names = name.reader().expect(context(0), "a full name")?;
    let uri = names.reader().expect(context_primitive(6), "an address")?;
    let uri = std::str::from_utf8(uri.content).ok();
    let number = uri.and_then(|uri| uri.rsplit_once("/shard-")?.1.strip_suffix(".crl"));
    Ok(number.and_then(|number| number.parse().ok()))
}

/// id-ce-cRLDistributionPoints, 2.5.29.31.
const DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 0x1f];

#[cfg(test)]
mod tests {
    use openssl::x509::X509;

    use super::{super::material::AUTHORITIES, *};

    #[test]
    fn the_fields_are_those_that_openssl_reads() {
        let pem = AUTHORITIES[1].certificate;
        let theirs = X509::from_pem(pem.as_bytes()).unwrap();
        let ours = Certificate::read(&theirs.to_der().unwrap()).unwrap();
        assert_eq!(ours.serial, theirs.serial_number().to_bn().unwrap().to_vec());
        let at = |time| signer::authority::asn1_time(time).unwrap().0;
        assert_eq!(ours.not_before, at(theirs.not_before()));
        assert_eq!(ours.not_after, at(theirs.not_after()));
        assert_eq!(ours.shard, None);
    }

    #[test]
    fn the_shard_is_the_one_in_the_address() {
        let uri = b"http://crl.example.org/shard-2.crl";
        let wrap = |tag: u8, content: &[u8]| {
            [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
        };
        let names = wrap(0xa0, &wrap(0xa0, &wrap(0x86, uri)));
        let points = wrap(SEQUENCE, &wrap(SEQUENCE, &names));
        assert_eq!(shard_named(&points), Ok(Some(2)));
        assert!(shard_named(&points[..points.len() - 1]).is_err());
    }
}
