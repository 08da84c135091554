//! Reads the CRLs that lie about in an old tree: whose, how new, which number, which serials.
//!
//! A CRL of a real CA has hundreds of thousands of entries: it is walked where it lies, one file
//! in memory at a time, never made into a tree. Nothing here judges an entry.

use std::path::Path;

use openssl::{
    asn1::Asn1Object,
    hash::MessageDigest,
    pkey::{PKeyRef, Public},
    sign::Verifier,
};

use crate::{calendar::UnixTime, fault::Fault};

/// The longest CRL that is read: ten times that of the largest community CA.
const CRL_MAX: u64 = 128 << 20;

/// The head of a CRL.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// The issuer's name, DER.
    pub(crate) issuer: Vec<u8>,
    /// When it was signed.
    pub(crate) this_update: UnixTime,
    /// When the next one was promised.
    pub(crate) next_update: Option<UnixTime>,
    /// Its number, where it has one; big-endian, without sign.
    pub(crate) number: Option<Vec<u8>>,
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// The serial's magnitude, without leading zero octets.
    pub(crate) serial: &'a [u8],
    /// When it was revoked.
    pub(crate) at: UnixTime,
}

/// A file that is no CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotACrl(pub(crate) &'static str);

/// A CRL in memory.
pub(crate) struct Crl {
    der: Vec<u8>,
    head: Head,
    tbs: std::ops::Range<usize>,
    revoked: std::ops::Range<usize>,
    digest: Option<MessageDigest>,
    signature: std::ops::Range<usize>,
}

impl Crl {
    /// Reads a CRL, PEM or DER.
    pub(crate) fn load(path: &Path) -> Result<Result<Self, NotACrl>, Fault> {
        let length = std::fs::metadata(path).map_err(Fault::disk("read", path))?.len();
        if length > CRL_MAX {
            return Ok(Err(NotACrl("it is longer than 128 MiB")));
        }
        let bytes = crate::durable::read(path)?;
        let der = match bytes.starts_with(b"-----BEGIN") {
            true => match openssl::x509::X509Crl::from_pem(&bytes) {
                Ok(crl) => crl.to_der()?,
                Err(_) => return Ok(Err(NotACrl("it holds no CRL in PEM"))),
            },
            false => bytes,
        };
        Ok(Self::walk(der))
    }

    fn walk(der: Vec<u8>) -> Result<Self, NotACrl> {
        let cut = NotACrl("it is no CRL in DER, or it is cut");
        let read = || -> Option<_> {
            let mut outer = Walker { der: &der, at: 0, end: der.len() };
            let list = outer.next(SEQUENCE)?;
            if outer.at != der.len() {
                return None;
            }
            let mut list = list.inside(&der);
            let tbs = list.next(SEQUENCE)?;
            let algorithm = list.next(SEQUENCE)?;
            let signature = list.next(BIT_STRING)?;
            let mut fields = tbs.inside(&der);
            fields.optional(INTEGER); // the version, absent in version 1
            fields.next(SEQUENCE)?;
            let issuer = fields.next(SEQUENCE)?;
            let this_update = fields.time()?;
            let next_update = fields.time();
            let revoked = fields.optional(SEQUENCE).map_or(0..0, |list| list.content.clone());
            let number = fields.optional(EXTENSIONS).and_then(|list| crl_number(&der, &list));
            Some((
                Head { issuer: der[issuer.whole].to_vec(), this_update, next_update, number },
                tbs.whole,
                revoked,
                digest_of(&der[algorithm.content]),
                // The first octet of a BIT STRING counts the unused bits.
                signature.content.start + 1..signature.content.end,
            ))
        };
        let (head, tbs, revoked, digest, signature) = read().ok_or(cut)?;
        if signature.is_empty() {
            return Err(NotACrl("its signature is empty"));
        }
        Ok(Self { der, head, tbs, revoked, digest, signature })
    }

    /// What it says of itself.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Whether this key signed it.
    pub(crate) fn is_signed_by(&self, key: &PKeyRef<Public>) -> bool {
        let Some(digest) = self.digest else { return false };
        Verifier::new(digest, key)
            .and_then(|mut verifier| {
                let signature = &self.der[self.signature.clone()];
                verifier.verify_oneshot(signature, &self.der[self.tbs.clone()])
            })
            .unwrap_or(false)
    }

    /// Visits every entry; answers whether all could be read.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(Entry<'_>)) -> bool {
        let mut list = Walker { der: &self.der, at: self.revoked.start, end: self.revoked.end };
        while list.at < list.end {
            let Some(entry) = list.next(SEQUENCE) else { return false };
            let mut entry = entry.inside(&self.der);
            let serial = entry.next(INTEGER).map(|serial| magnitude(&self.der[serial.content]));
            let (Some(serial), Some(at)) = (serial, entry.time()) else { return false };
            visit(Entry { serial, at });
        }
        true
    }
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`
const EXTENSIONS: u8 = 0xa0;

/// The content octets of the object 2.5.29.20, cRLNumber.
const CRL_NUMBER: [u8; 3] = [0x55, 0x1d, 0x14];

/// An element by its places in the file.
#[derive(Clone)]
struct Element {
    content: std::ops::Range<usize>,
    whole: std::ops::Range<usize>,
}

impl Element {
    fn inside<'a>(&self, der: &'a [u8]) -> Walker<'a> {
        Walker { der, at: self.content.start, end: self.content.end }
    }
}

/// Steps over elements. Lengths of four octets: a CRL may be longer than 16 MiB.
struct Walker<'a> {
    der: &'a [u8],
    at: usize,
    end: usize,
}

impl Walker<'_> {
    /// The next element, if it has this tag and ends within this structure.
    fn next(&mut self, tag: u8) -> Option<Element> {
        let octets = self.der.get(self.at..self.end)?;
        let (&found, &first) = (octets.first()?, octets.get(1)?);
        if found != tag {
            return None;
        }
        let (header, length) = match first {
            0..=0x7f => (2, usize::from(first)),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let octets = octets.get(2..2 + count)?;
                (2 + count, octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet)))
            }
            _ => return None,
        };
        let start = self.at;
        let content = start + header..(start + header).checked_add(length)?;
        if content.end > self.end {
            return None;
        }
        self.at = content.end;
        Some(Element { whole: start..content.end, content })
    }

    fn optional(&mut self, tag: u8) -> Option<Element> {
        self.next(tag)
    }

    fn time(&mut self) -> Option<UnixTime> {
        let element = self.next(UTC_TIME).or_else(|| self.next(GENERALIZED_TIME))?;
        UnixTime::from_index(std::str::from_utf8(&self.der[element.content]).ok()?)
    }
}

fn crl_number(der: &[u8], extensions: &Element) -> Option<Vec<u8>> {
    let mut list = extensions.inside(der).next(SEQUENCE)?.inside(der);
    while let Some(extension) = list.next(SEQUENCE) {
        let mut fields = extension.inside(der);
        let object = fields.next(OBJECT)?;
        fields.optional(0x01); // critical
        let value = fields.next(OCTET_STRING)?;
        if der[object.content] == CRL_NUMBER {
            let number = value.inside(der).next(INTEGER)?;
            return Some(magnitude(&der[number.content]).to_vec());
        }
    }
    None
}

/// An integer's octets without leading zeros; a negative one is as large as its octets say.
fn magnitude(content: &[u8]) -> &[u8] {
    let start = content.iter().position(|octet| *octet != 0).unwrap_or(content.len());
    &content[start..]
}

/// The digest of a signature algorithm, by the content of its AlgorithmIdentifier.
fn digest_of(algorithm: &[u8]) -> Option<MessageDigest> {
    let mut walker = Walker { der: algorithm, at: 0, end: algorithm.len() };
    let object = walker.next(OBJECT)?;
    let text = dotted(&algorithm[object.content])?;
    let nid = Asn1Object::from_str(&text).ok()?.nid();
    MessageDigest::from_nid(nid.signature_algorithms()?.digest)
}

fn dotted(content: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut arc: u32 = 0;
    for octet in content {
        arc = arc.checked_mul(128)? | u32::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            match (text.is_empty(), arc) {
                (true, 0..80) => text = format!("{}.{}", arc / 40, arc % 40),
                (true, _) => text = format!("2.{}", arc - 80),
                (false, _) => text.push_str(&format!(".{arc}")),
            }
            arc = 0;
        }
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        authority::crl as ours,
        keys::{CaKey, CaKeyKind},
        ledger::Revocation,
        tbs::Issuer,
    };

    fn crl(entries: u32) -> (Vec<u8>, openssl::pkey::PKey<Public>) {
        let key = CaKey::generate(CaKeyKind::P256).unwrap();
        let issuer = Issuer {
            name: crate::name::to_der(&crate::name::parse("/CN=Test").unwrap()),
            key_identifier: vec![1; 20],
            signature_algorithm: key.signature_algorithm(),
            crl_shards: 0,
        };
        let mut list = ours::Entries::default();
        for number in 1..=entries {
            let revocation = Revocation {
                serial: number.to_be_bytes().to_vec(),
                at: UnixTime(1_700_000_000 + i64::from(number)),
                reason: Some("superseded".into()),
                not_after: UnixTime(1_900_000_000),
                profile: String::new(),
                shard: None,
            };
            let (entry, mark) = ours::encoded(&revocation, revocation.not_after, 0);
            list.push_encoded(&entry, mark);
        }
        let times = (UnixTime(1_800_000_000), UnixTime(1_800_086_400));
        let kind = ours::Kind::Full { fresh: &[] };
        let unsigned = ours::certificate_list(&issuer, 0x1_0000, times, &kind, &list, |_| true);
        let signature = key.sign(unsigned.der()).unwrap();
        let der = unsigned.signed(&issuer.signature_algorithm, &signature);
        let public = openssl::pkey::PKey::public_key_from_der(&key.public_key().unwrap()).unwrap();
        (der, public)
    }

    #[test]
    fn head_entries_and_signature_are_read() {
        let (der, key) = crl(300);
        let read = Crl::walk(der.clone()).unwrap();
        assert_eq!(read.head().number.as_deref(), Some(&[1, 0, 0][..]));
        assert_eq!(read.head().this_update, UnixTime(1_800_000_000));
        assert_eq!(read.head().next_update, Some(UnixTime(1_800_086_400)));
        let mut seen = Vec::new();
        assert!(read.for_each(|entry| seen.push((entry.serial.to_vec(), entry.at.0))));
        assert_eq!(seen.len(), 300);
        assert_eq!(seen[255], (vec![1, 0], 1_700_000_256));
        assert!(read.is_signed_by(&key));
        let (_, stranger) = crl(0);
        assert!(!read.is_signed_by(&stranger));

        let (empty, _) = crl(0);
        let read = Crl::walk(empty).unwrap();
        assert!(read.for_each(|_| panic!("there is none")));
    }

    // AD-14
    #[test]
    fn cut_crl_is_never_read() {
        let (der, _) = crl(3);
        for cut in 0..der.len() {
            assert!(Crl::walk(der[..cut].to_vec()).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn bent_crl_never_panics(at in 0..400usize, byte in any::<u8>()) {
            let (mut der, key) = crl(3);
            let at = at % der.len();
            der[at] = byte;
            if let Ok(read) = Crl::walk(der) {
                read.for_each(|_| ());
                read.is_signed_by(&key);
            }
        }
    }
}
