//! By what the published lists know a key.
//!
//! Each list hashes another part of the key. Nothing here checks whether a key is any good; a key
//! of a kind that no list knows has no marks.

use openssl::sha;

use crate::intake::{
    der::{DerError, Reader, tag},
    key::{EC_PUBLIC_KEY, RSA_ENCRYPTION},
};

/// The end of a SHA-1 as in an `openssl-blacklist` file: its last 20 hexadecimal digits.
pub(crate) const TAIL_LEN: usize = 10;
/// The beginning of a SHA-256 as in badkeys' blocklist.
pub(crate) const HEAD_LEN: usize = 15;

/// What a key is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Of an RSA key: the end of the SHA-1 of the line `Modulus=HEX`.
    pub(crate) tail: Option<[u8; TAIL_LEN]>,
    /// The beginning of the SHA-256 of the RSA modulus, the x coordinate or the raw key.
    pub(crate) head: [u8; HEAD_LEN],
}

impl Marks {
    /// The marks of the key in `spki`, a SubjectPublicKeyInfo in DER.
    pub fn of_spki(spki: &[u8]) -> Option<Self> {
        Self::read(spki).ok()
    }

    fn read(spki: &[u8]) -> Result<Self, DerError> {
        let (algorithm, bits) = parts(spki)?;
        Ok(match algorithm.as_str() {
            RSA_ENCRYPTION => {
                let modulus = modulus(bits)?;
                Self { tail: Some(tail(modulus)), head: head(modulus) }
            }
            // The octet that says the point's form, then x, then perhaps y of the same length.
            EC_PUBLIC_KEY => {
                let coordinates = bits.get(1..).unwrap_or_default();
                let x_len = match bits.first() {
                    Some(2 | 3) => coordinates.len(),
                    _ => coordinates.len() / 2,
                };
                Self { tail: None, head: head(&coordinates[..x_len]) }
            }
            _ => Self { tail: None, head: head(bits) },
        })
    }
}

/// The SHA-1 of what `openssl rsa -noout -modulus` prints, without its first half.
fn tail(modulus: &[u8]) -> [u8; TAIL_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut line = b"Modulus=".to_vec();
    let nibbles = modulus.iter().flat_map(|octet| [octet >> 4, octet & 0x0f]);
    let nibbles = nibbles.skip_while(|nibble| *nibble == 0);
    line.extend(nibbles.map(|nibble| DIGITS[usize::from(nibble)]));
    line.push(b'\n');
    let digest = sha::sha1(&line);
    let (_, tail) = digest.split_last_chunk().expect("a SHA-1 has 20 octets");
    *tail
}

/// badkeys takes the number in as few octets as it needs.
fn head(number: &[u8]) -> [u8; HEAD_LEN] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    let digest = sha::sha256(&number[zeros..]);
    let (head, _) = digest.split_first_chunk().expect("a SHA-256 has 32 octets");
    *head
}

/// The modulus of an RSA key, big-endian; nothing for other kinds.
pub(crate) fn rsa_modulus(spki: &[u8]) -> Option<&[u8]> {
    let (algorithm, bits) = parts(spki).ok()?;
    (algorithm == RSA_ENCRYPTION).then(|| modulus(bits).ok()).flatten()
}

/// The algorithm and the bits of a SubjectPublicKeyInfo.
fn parts(spki: &[u8]) -> Result<(String, &[u8]), DerError> {
    let mut outer = Reader::new("the public key", spki);
    let mut info = outer.inner("the public key", tag::SEQUENCE)?;
    let mut algorithm = info.inner("the key's algorithm", tag::SEQUENCE)?;
    Ok((algorithm.oid("the key's algorithm")?, info.bit_string("the key's bits")?))
}

fn modulus(bits: &[u8]) -> Result<&[u8], DerError> {
    let mut numbers = Reader::new("the RSA key", bits).inner("the RSA key", tag::SEQUENCE)?;
    numbers.positive_integer("the RSA modulus")
}

/// The SubjectPublicKeyInfo in a certificate, as it stands there (RFC 5280 4.1).
pub(crate) fn spki_of_certificate(der: &[u8]) -> Option<&[u8]> {
    let mut certificate = Reader::new("the certificate", der).inner("it", tag::SEQUENCE).ok()?;
    let mut fields = certificate.inner("the TBS certificate", tag::SEQUENCE).ok()?;
    if fields.next_is(tag::constructed(0)) {
        fields.any().ok()?; // the version
    }
    fields.element("the serial number", tag::INTEGER).ok()?;
    for what in ["the signature algorithm", "the issuer", "the validity", "the subject"] {
        fields.element(what, tag::SEQUENCE).ok()?;
    }
    Some(fields.element("the public key", tag::SEQUENCE).ok()?.whole)
}
