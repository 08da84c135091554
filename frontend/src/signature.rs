//! Which signature algorithms are believed, and checking one over bytes of any length.
//!
//! The bytes are hashed as they lie; nothing is copied. MD5 and SHA-1 are not in the table, so
//! nothing signed with them is ever believed.

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    hash::MessageDigest,
    pkey::{Id, PKeyRef, Public},
    sign::Verifier,
};

use crate::{der::NotDer, names};

/// A signature algorithm that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS #1 version 1.5, with SHA-256, SHA-384 or SHA-512.
    Rsa(u16),
    /// ECDSA with SHA-256, SHA-384 or SHA-512.
    Ecdsa(u16),
    /// Ed25519.
    Ed25519,
}

impl Algorithm {
    /// The algorithm with this identifier (content octets).
    pub fn from_oid(oid: &[u8]) -> Option<Self> {
        TABLE.iter().find(|row| row.0 == oid).map(|row| row.1)
    }

    /// The algorithm that signed a DER certificate or CRL, if it is one that is believed.
    pub fn of_signed(signed: &[u8]) -> Option<Self> {
        names::signature_algorithm(signed).ok().and_then(Self::from_oid)
    }

    /// Whether `signature` over `bytes` was made by `key`'s holder.
    pub fn verify(self, key: &PKeyRef<Public>, bytes: &[u8], signature: &[u8]) -> bool {
        let (id, digest) = match self {
            Self::Rsa(bits) => (Id::RSA, digest(bits)),
            Self::Ecdsa(bits) => (Id::EC, digest(bits)),
            Self::Ed25519 => (Id::ED25519, None),
        };
        if key.id() != id {
            return false;
        }
        let verified = match digest {
            Some(digest) => Verifier::new(digest, key).and_then(|mut verifier| {
                verifier.update(bytes)?;
                verifier.verify(signature)
            }),
            None => Verifier::new_without_digest(key)
                .and_then(|mut verifier| verifier.verify_oneshot(signature, bytes)),
        };
        verified.unwrap_or(false)
    }
}

fn digest(bits: u16) -> Option<MessageDigest> {
    match bits {
        256 => Some(MessageDigest::sha256()),
        384 => Some(MessageDigest::sha384()),
        512 => Some(MessageDigest::sha512()),
        _ => None,
    }
}

/// RFC 4055, RFC 5758, RFC 8410, as DER content octets.
const TABLE: [(&[u8], Algorithm); 7] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], Algorithm::Rsa(256)),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], Algorithm::Rsa(384)),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], Algorithm::Rsa(512)),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], Algorithm::Ecdsa(256)),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], Algorithm::Ecdsa(384)),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], Algorithm::Ecdsa(512)),
    (&[0x2b, 0x65, 0x70], Algorithm::Ed25519),
];

/// Seconds since 1970-01-01 UTC of openssl's time.
pub fn unix_time(time: &Asn1TimeRef) -> Option<i64> {
    let difference = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(difference.days) * 86_400 + i64::from(difference.secs))
}

/// The octets of a BIT STRING whose bits are whole octets.
pub fn bit_string(content: &[u8]) -> Result<&[u8], NotDer> {
    match content {
        [0, octets @ ..] => Ok(octets),
        _ => Err(NotDer { expected: "a bit string of whole octets" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_ca::{TestCa, ec_key};

    #[test]
    fn a_signature_counts_only_with_its_key_its_bytes_and_its_algorithm() {
        let ca = TestCa::new("CA");
        let der = ca.der();
        let algorithm = Algorithm::of_signed(&der).unwrap();
        assert_eq!(algorithm, Algorithm::Ecdsa(256));
        let mut parts = crate::der::Reader::new(&der).any("certificate").unwrap().reader();
        let tbs = parts.any("tbs").unwrap().whole;
        parts.any("algorithm").unwrap();
        let signature = bit_string(parts.any("signature").unwrap().content).unwrap();
        let key = ca.public_key();
        assert!(algorithm.verify(&key, tbs, signature));
        assert!(!algorithm.verify(&key, &tbs[1..], signature));
        assert!(!algorithm.verify(&key, tbs, &signature[1..]));
        assert!(!Algorithm::Ecdsa(384).verify(&key, tbs, signature));
        assert!(!Algorithm::Rsa(256).verify(&key, tbs, signature));
        let other = PKeyPublic::of(&ec_key());
        assert!(!algorithm.verify(&other.0, tbs, signature));
        // sha1WithRSAEncryption
        assert_eq!(
            Algorithm::from_oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05]),
            None
        );
    }

    struct PKeyPublic(openssl::pkey::PKey<Public>);

    impl PKeyPublic {
        fn of(key: &openssl::pkey::PKey<openssl::pkey::Private>) -> Self {
            let der = key.public_key_to_der().unwrap();
            Self(openssl::pkey::PKey::public_key_from_der(&der).unwrap())
        }
    }
}
