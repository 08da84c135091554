//! Reads a CRL (RFC 5280 5) in place and checks it against its authority.
//!
//! A list of a million entries is walked, not copied. [`verify`] makes a [`SignedCrl`], and only
//! [`SignedCrl::keeping`] makes a [`VerifiedCrl`] of it, which alone can be published.

use std::collections::HashSet;

use protocol::message::{CrlScope, Digest, Serial};

use crate::{
    catalogue::Authority,
    der::{
        self, BIT_STRING, INTEGER, NotDer, OBJECT_IDENTIFIER, Reader, SEQUENCE, context,
        context_primitive,
    },
    signature::{Algorithm, bit_string},
};

/// Why a CRL is not published. A retry helps only if the signer makes another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// The bytes are no CRL.
    #[error("the CRL cannot be parsed: {0}")]
    Unparsable(#[from] NotDer),
    /// The issuer's name is not the authority's subject, byte for byte.
    #[error("the CRL names another issuer")]
    Issuer,
    /// The signature was not made by the authority's key, or with a digest nobody believes.
    #[error("the CRL is not signed by the authority's key")]
    Signature,
    /// There is no CRL number, or one past 64 bits.
    #[error("the CRL has no CRL number that fits 64 bits")]
    NoNumber,
    /// A critical extension is unknown, so the list may not be what it seems.
    #[error("the CRL has a critical extension that is not known here")]
    CriticalExtension,
    /// It speaks for other certificates than was asked for: a delta CRL or a shard's where the
    /// full one was asked for, or the reverse.
    #[error("the CRL is {found}, and {expected} was asked for")]
    Scope {
        /// What was asked for.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// The distribution points of a shard never change, for certificates name them.
    #[error("the shard's CRL names other distribution points than certificates do: `{0}`")]
    Points(String),
    /// A revocation that the signer acknowledged is not in it (invariant I8).
    #[error(
        "the CRL lacks serial {0}, which the signer said it had revoked and which has not expired; \
         revoke it again, or find out what happened at the signer"
    )]
    Lacks(Serial),
    /// The number does not rise (invariant I7).
    #[error(
        "the CRL has number {got}, the one in place has {held}; if the signer was restored from a \
         backup, raise its crlnumber by hand as in hsm-docs/daily.md"
    )]
    NotRising {
        /// The number of the CRL in place.
        held: u64,
        /// The number of the new one.
        got: u64,
    },
    /// The number is not the one that was announced.
    #[error("the CRL has number {got} where {announced} was announced")]
    OtherNumber {
        /// The number that came with the pieces.
        announced: u64,
        /// The number in the CRL.
        got: u64,
    },
}

/// What a CRL says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its number (RFC 5280 5.2.3).
    pub number: u64,
    /// When it was made, seconds since 1970-01-01 UTC.
    pub this_update: i64,
    /// When the next one comes at the latest.
    pub next_update: Option<i64>,
    /// How many certificates it revokes.
    pub entries: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub digest: Digest,
    /// Of a delta CRL: the number of the full CRL that it changes (RFC 5280 5.2.4).
    pub base: Option<u64>,
    /// Of a shard's CRL: the URIs that certificates name it by (RFC 5280 5.2.5).
    pub points: Vec<String>,
}

/// A CRL taken apart, not checked.
struct Parts<'a> {
    tbs: &'a [u8],
    entries: Reader<'a>,
    algorithm: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    facts: Facts,
}

/// What the CRL in `bytes` says about itself; nothing is checked.
pub fn inspect(bytes: &[u8]) -> Result<Facts, CrlError> {
    decode(bytes).map(|parts| parts.facts)
}

/// The content octets of every serial number that the CRL in `bytes` lists; nothing is checked.
pub fn serials(bytes: &[u8]) -> Result<HashSet<&[u8]>, CrlError> {
    let mut entries = decode(bytes)?.entries;
    let mut serials = HashSet::new();
    while !entries.is_empty() {
        let mut entry = entries.expect(SEQUENCE, "a CRL entry")?.reader();
        serials.insert(entry.expect(INTEGER, "a revoked serial")?.content);
    }
    Ok(serials)
}

/// What is known of the CRL that shall come.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// For which certificates it was asked for.
    pub scope: CrlScope,
    /// The number that came with its pieces.
    pub announced: u64,
    /// The CRL in place, which it shall replace.
    pub held: Option<&'a Facts>,
    /// The distribution points of the authority's other shards.
    pub taken: &'a [String],
}

/// A CRL that the authority signed, of the right scope and with a number that rises.
#[derive(Debug)]
pub struct SignedCrl {
    bytes: Vec<u8>,
    facts: Facts,
}

impl SignedCrl {
    /// Its DER.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says about itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The CRL, if no serial is missing of which the signer said that it is revoked.
    pub fn keeping(self, missing: Option<Serial>) -> Result<VerifiedCrl, CrlError> {
        match missing {
            None => Ok(VerifiedCrl { bytes: self.bytes, facts: self.facts }),
            Some(serial) => Err(CrlError::Lacks(serial)),
        }
    }
}

/// A CRL that was checked against its authority and keeps what was promised.
#[derive(Debug)]
pub struct VerifiedCrl {
    bytes: Vec<u8>,
    facts: Facts,
}

impl VerifiedCrl {
    /// Its DER.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says about itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Checks issuer, signature, scope and number of the CRL in `bytes`.
pub fn verify(
    bytes: Vec<u8>,
    authority: &Authority,
    expected: &Expected<'_>,
) -> Result<SignedCrl, CrlError> {
    let parts = decode(&bytes)?;
    if parts.issuer != authority.subject() {
        return Err(CrlError::Issuer);
    }
    let algorithm = Algorithm::from_oid(parts.algorithm).ok_or(CrlError::Signature)?;
    if !algorithm.verify(authority.key(), parts.tbs, parts.signature) {
        return Err(CrlError::Signature);
    }
    let facts = parts.facts;
    check_scope(&facts, expected)?;
    let (announced, got) = (expected.announced, facts.number);
    if got != announced {
        return Err(CrlError::OtherNumber { announced, got });
    }
    if let Some(held) = expected.held.map(|held| held.number).filter(|held| got <= *held) {
        return Err(CrlError::NotRising { held, got });
    }
    Ok(SignedCrl { bytes, facts })
}

fn check_scope(facts: &Facts, expected: &Expected<'_>) -> Result<(), CrlError> {
    let found = match (facts.base, facts.points.is_empty()) {
        (None, true) => FULL,
        (None, false) => SHARD,
        (Some(_), _) => DELTA,
    };
    let wanted = match expected.scope {
        CrlScope::Full => FULL,
        CrlScope::Delta => DELTA,
        CrlScope::Shard(_) => SHARD,
    };
    if found != wanted {
        return Err(CrlError::Scope { expected: wanted, found });
    }
    let named = expected.held.iter().flat_map(|held| &held.points);
    let lost = named.into_iter().find(|point| !facts.points.contains(point));
    let taken = facts.points.iter().find(|point| expected.taken.contains(point));
    match lost.or(taken) {
        Some(point) => Err(CrlError::Points(point.clone())),
        None => Ok(()),
    }
}

const FULL: &str = "a full one";
const DELTA: &str = "a delta CRL";
const SHARD: &str = "a shard's";

fn decode(bytes: &[u8]) -> Result<Parts<'_>, CrlError> {
    let mut outer = Reader::new(bytes);
    let mut fields = outer.expect(SEQUENCE, "a CRL")?.reader();
    outer.finish("the end of the CRL")?;
    let tbs = fields.expect(SEQUENCE, "a TBS CRL")?;
    let outer_algorithm = fields.expect(SEQUENCE, "a signature algorithm")?;
    let signature = bit_string(fields.expect(BIT_STRING, "a signature")?.content)?;
    fields.finish("the end of the CRL after its signature")?;

    let mut list = tbs.reader();
    // RFC 5280 5.1.2.1: version 2, encoded as 1.
    if list.expect(INTEGER, "a CRL version")?.content != [1] {
        return Err(NotDer { expected: "a CRL of version 2" }.into());
    }
    let algorithm = list.expect(SEQUENCE, "a signature algorithm")?;
    // RFC 5280 5.1.1.2: the two must be the same.
    if algorithm.whole != outer_algorithm.whole {
        return Err(CrlError::Signature);
    }
    let oid = algorithm.reader().expect(OBJECT_IDENTIFIER, "an algorithm's identifier")?.content;
    let issuer = list.expect(SEQUENCE, "an issuer")?.whole;
    let this_update = der::unix_time(&list.any("thisUpdate")?)?;
    let next_update = match list.optional(der::UTC_TIME, "nextUpdate")? {
        Some(time) => Some(der::unix_time(&time)?),
        None => list
            .optional(der::GENERALIZED_TIME, "nextUpdate")?
            .map(|time| der::unix_time(&time))
            .transpose()?,
    };
    let entries = match list.optional(SEQUENCE, "the revoked certificates")? {
        None => Reader::new(&[]),
        Some(revoked) => revoked.reader(),
    };
    let extensions = list.expect(context(0), "CRL extensions")?;
    list.finish("the end of the TBS CRL")?;
    let extensions = extensions.reader().expect(SEQUENCE, "CRL extensions")?.reader();
    let Extensions { number, base, points } = read_extensions(extensions)?;
    let facts = Facts {
        number,
        this_update,
        next_update,
        entries: count_entries(entries)?,
        length: bytes.len() as u64,
        digest: Digest::of(bytes),
        base,
        points,
    };
    Ok(Parts { tbs: tbs.whole, entries, algorithm: oid, signature, issuer, facts })
}

fn count_entries(mut revoked: Reader<'_>) -> Result<u64, NotDer> {
    let mut count = 0;
    while !revoked.is_empty() {
        let mut entry = revoked.expect(SEQUENCE, "a CRL entry")?.reader();
        entry.expect(INTEGER, "a revoked serial")?;
        der::unix_time(&entry.any("a revocation date")?)?;
        entry.optional(SEQUENCE, "CRL entry extensions")?;
        entry.finish("the end of a CRL entry")?;
        count += 1;
    }
    Ok(count)
}

struct Extensions {
    number: u64,
    base: Option<u64>,
    points: Vec<String>,
}

fn read_extensions(extensions: Reader<'_>) -> Result<Extensions, CrlError> {
    let (mut number, mut base, mut points) = (None, None, Vec::new());
    for extension in der::extensions(extensions)? {
        let integer = || -> Result<Option<u64>, NotDer> {
            let value = Reader::new(extension.value).expect(INTEGER, "a CRL number")?;
            Ok(unsigned(value.content))
        };
        match extension.oid {
            CRL_NUMBER => number = integer()?,
            DELTA_CRL_INDICATOR => base = Some(integer()?.ok_or(CrlError::NoNumber)?),
            ISSUING_DISTRIBUTION_POINT => points = distribution_points(extension.value)?,
            AUTHORITY_KEY_IDENTIFIER => {}
            _ if extension.critical => return Err(CrlError::CriticalExtension),
            _ => {}
        }
    }
    Ok(Extensions { number: number.ok_or(CrlError::NoNumber)?, base, points })
}

/// The URIs of an issuing distribution point that says nothing else: no reasons, no kinds of
/// certificate, no other issuers.
fn distribution_points(value: &[u8]) -> Result<Vec<String>, CrlError> {
    let mut fields = Reader::new(value).expect(SEQUENCE, "an issuing distribution point")?.reader();
    let Some(point) = fields.optional(context(0), "a distribution point")? else {
        return Err(CrlError::CriticalExtension);
    };
    if !fields.is_empty() {
        return Err(CrlError::CriticalExtension);
    }
    let mut names = point.reader().expect(context(0), "a full name")?.reader();
    let mut points = Vec::new();
    while !names.is_empty() {
        let uri = names.expect(context_primitive(6), "a URI")?.content;
        let uri = std::str::from_utf8(uri).map_err(|_| NotDer { expected: "a URI" })?;
        points.push(uri.to_owned());
    }
    if points.is_empty() { Err(CrlError::CriticalExtension) } else { Ok(points) }
}

fn unsigned(content: &[u8]) -> Option<u64> {
    let magnitude = content.strip_prefix(&[0]).unwrap_or(content);
    let negative = content.first().is_none_or(|first| *first >= 0x80);
    if negative || magnitude.len() > 8 {
        return None;
    }
    Some(magnitude.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)))
}

/// 2.5.29.20
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
/// 2.5.29.27
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
/// 2.5.29.28
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
/// 2.5.29.35
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];

/// Whether a CRL lists this serial; bytes that are no CRL list nothing.
pub fn has(bytes: &[u8], serial: &Serial) -> bool {
    serials(bytes).is_ok_and(|serials| serials.contains(serial.as_octets()))
}

#[cfg(test)]
pub(crate) mod tests {
    use openssl::x509::X509Crl;

    use super::*;
    use crate::{catalogue::Catalogues, store::Store, test_ca::TestCa};

    pub(crate) fn authority(ca: &TestCa) -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("s")).unwrap();
        let catalogues = Catalogues(store.connection());
        catalogues.receive(&ca.catalogue("issuing"), 1).unwrap();
        catalogues.trusted().unwrap().authorities.into_values().next().unwrap()
    }

    /// What is expected of a full CRL.
    pub(crate) fn full(announced: u64, held: Option<&Facts>) -> Expected<'_> {
        Expected { scope: CrlScope::Full, announced, held, taken: &[] }
    }

    /// A full CRL that was checked.
    pub(crate) fn checked(bytes: Vec<u8>, authority: &Authority, number: u64) -> VerifiedCrl {
        verify(bytes, authority, &full(number, None)).unwrap().keeping(None).unwrap()
    }

    #[test]
    fn a_good_crl_is_what_openssl_reads_too() {
        let ca = TestCa::new("CA");
        let crl = ca.crl(7, &[1, 0x80, 0xffff_ffff_ffff]);
        let verified = verify(crl.clone(), &authority(&ca), &full(7, None)).unwrap();
        let facts = verified.facts();
        assert_eq!((facts.number, facts.entries), (7, 3));
        assert_eq!(facts.length, crl.len() as u64);
        let theirs = X509Crl::from_der(&crl).unwrap();
        assert!(theirs.verify(&ca.public_key()).unwrap());
        assert_eq!(theirs.get_revoked().unwrap().len(), 3);
        assert_eq!(crate::signature::unix_time(theirs.last_update()), Some(facts.this_update));
        assert_eq!(crate::signature::unix_time(theirs.next_update().unwrap()), facts.next_update);
    }

    #[test]
    fn another_key_another_issuer_and_a_number_that_does_not_rise_stay_out() {
        let ca = TestCa::new("CA");
        let authority = authority(&ca);
        let judge = |bytes: Vec<u8>, announced, held: Option<u64>| {
            let held = held.map(|number| inspect(&ca.crl(number, &[])).unwrap());
            verify(bytes, &authority, &full(announced, held.as_ref())).map(|_| ()).unwrap_err()
        };
        let namesake = TestCa::new("CA");
        assert_eq!(judge(namesake.crl(7, &[1]), 7, None), CrlError::Signature);
        let other = TestCa::new("Other");
        assert_eq!(judge(ca.crl_named(7, &[1], &other.subject()), 7, None), CrlError::Issuer);
        assert_eq!(judge(ca.crl(7, &[1]), 7, Some(7)), CrlError::NotRising { held: 7, got: 7 });
        assert_eq!(judge(ca.crl(7, &[1]), 7, Some(8)), CrlError::NotRising { held: 8, got: 7 });
        let announced = CrlError::OtherNumber { announced: 9, got: 7 };
        assert_eq!(judge(ca.crl(7, &[1]), 9, None), announced);
        assert!(matches!(judge(b"junk".to_vec(), 9, None), CrlError::Unparsable(_)));
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let ca = TestCa::new("CA");
        let authority = authority(&ca);
        let good = ca.crl(7, &[1, 2, 3]);
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x01;
            assert!(verify(bad, &authority, &full(7, None)).is_err(), "byte {index}");
            assert!(
                verify(good[..index].to_vec(), &authority, &full(7, None)).is_err(),
                "cut {index}"
            );
        }
    }
}
