//! Public keys: which kind, and strong enough to be certified at all.
//!
//! The worker asks for the key of a CSR, and the vault asks again for the key it is about to put
//! into a certificate, so nothing here may trust its caller. Which kinds a profile takes is the
//! profile's business. Every control has its id, an accept test and a reject test.

use std::{fmt, sync::LazyLock};

use openssl::{
    bn::{BigNum, BigNumContext},
    ec::{EcGroup, EcKey, EcPoint},
    error::ErrorStack,
    nid::Nid,
    pkey::{Id, PKey, Public},
    rsa::{Rsa, RsaRef},
};
use protocol::message::RefusalCode;
use serde::{Deserialize, Serialize};

use crate::{
    intake::{
        der::{Reader, tag},
        modulus,
    },
    refusal::Refusal,
};

/// CA/B TLS BR 6.1.5: at least 2048 bits, a multiple of 8.
pub(crate) const RSA_BITS_MIN: u32 = 2048;
/// OpenSSL verifies no signature past this modulus (`OPENSSL_RSA_MAX_MODULUS_BITS`).
pub(crate) const RSA_BITS_MAX: u32 = 16384;
/// CA/B TLS BR 6.1.6: the exponent is odd, 2^16 + 1 or more and below 2^256.
const RSA_EXPONENT_MIN: u32 = 65537;
const RSA_EXPONENT_BITS_MAX: i32 = 256;
/// A SubjectPublicKeyInfo of an RSA-16384 key has 2,086 bytes.
const SPKI_MAX: usize = 4096;

/// The kind of a public key. // stored
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyKind {
    /// RSA with a modulus of so many bits.
    Rsa {
        /// The modulus' length.
        bits: u32,
    },
    /// NIST P-256, secp256r1.
    EcP256,
    /// NIST P-384, secp384r1.
    EcP384,
    /// NIST P-521, secp521r1.
    EcP521,
    /// Ed25519 (RFC 8410).
    Ed25519,
}

impl KeyKind {
    /// The kind of the key in `spki`, a SubjectPublicKeyInfo in DER, if it is strong.
    pub fn of_spki(spki: &[u8]) -> Result<Self, Refusal> {
        Ok(PublicKey::from_spki(spki)?.kind)
    }
}

/// The form that profiles and `--key` use.
impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa { bits } => write!(f, "rsa:{bits}"),
            Self::EcP256 => f.write_str("ec:P-256"),
            Self::EcP384 => f.write_str("ec:P-384"),
            Self::EcP521 => f.write_str("ec:P-521"),
            Self::Ed25519 => f.write_str("ed25519"),
        }
    }
}

/// A public key that passed every control below.
#[derive(Debug)]
pub(super) struct PublicKey {
    pub(super) key: PKey<Public>,
    pub(super) kind: KeyKind,
}

impl PublicKey {
    /// Parses `spki`. The structure is read by our own strict reader, so each key has exactly one
    /// encoding here (`key-canonical`: what we sign later is byte for byte what was proven), and
    /// OpenSSL's general decoders, which also take ten times as long, see none of it.
    pub(super) fn from_spki(spki: &[u8]) -> Result<Self, Refusal> {
        if spki.len() > SPKI_MAX {
            return Err(weak(format!("the public key has {} bytes, past any use", spki.len())));
        }
        let mut outer = Reader::new("the public key", spki);
        let mut info = outer.inner("the public key", tag::SEQUENCE)?;
        outer.finish()?;
        let mut algorithm = info.inner("the key's algorithm", tag::SEQUENCE)?;
        let bits = info.bit_string("the key's bits")?;
        info.finish()?;
        let key = match algorithm.oid("the key's algorithm")?.as_str() {
            RSA_ENCRYPTION => {
                // RFC 3279 2.3.1: the parameters are NULL.
                if !algorithm.element("the key's parameters", tag::NULL)?.content.is_empty() {
                    return Err(weak("the key's parameters are not NULL"));
                }
                Self::rsa(bits)?
            }
            EC_PUBLIC_KEY => Self::ec(&mut algorithm, bits)?,
            ED25519 => {
                let key = PKey::public_key_from_raw_bytes(bits, Id::ED25519)
                    .map_err(|_| weak("the public key is no Ed25519 key"))?;
                Self { key, kind: KeyKind::Ed25519 }
            }
            other => {
                return Err(weak(format!(
                    "keys of algorithm {other} are not accepted; use RSA, P-256, P-384, P-521 or \
                     Ed25519"
                )));
            }
        };
        algorithm.finish()?;
        Ok(key)
    }

    /// RSAPublicKey (RFC 8017 A.1.1).
    fn rsa(bits: &[u8]) -> Result<Self, Refusal> {
        let mut outer = Reader::new("the RSA key", bits);
        let mut numbers = outer.inner("the RSA key", tag::SEQUENCE)?;
        outer.finish()?;
        let modulus = numbers.positive_integer("the RSA modulus")?;
        let exponent = numbers.positive_integer("the RSA exponent")?;
        numbers.finish()?;
        let number = |magnitude| BigNum::from_slice(magnitude).map_err(ours);
        let rsa = Rsa::from_public_components(number(modulus)?, number(exponent)?).map_err(ours)?;
        let kind = check_rsa(&rsa)?;
        Ok(Self { key: PKey::from_rsa(rsa).map_err(ours)?, kind })
    }

    /// ECPoint with namedCurve (RFC 5480 2.1.1, 2.2).
    fn ec(algorithm: &mut Reader<'_>, bits: &[u8]) -> Result<Self, Refusal> {
        // `ec-curve`
        if !algorithm.next_is(tag::OID) {
            let text = "the curve has explicit parameters; name P-256, P-384 or P-521 instead";
            return Err(weak(text));
        }
        let name = algorithm.oid("the key's curve")?;
        let known = CURVES.iter().zip(GROUPS.iter()).find(|(curve, _)| curve.oid == name);
        let (curve, group) = known.ok_or_else(|| {
            weak(format!("curve {name} is not accepted; use P-256, P-384 or P-521"))
        })?;
        // `ec-point`: uncompressed and on the curve. The cofactor of these curves is 1, so no
        // check of the order is left to do (SP 800-56A 5.6.2.3.4).
        if bits.first() != Some(&0x04) || bits.len() != 1 + 2 * curve.coordinate_len {
            return Err(weak("the public key is not an uncompressed point of its curve"));
        }
        let group = group.as_ref().ok_or_else(|| weak("OpenSSL does not know the key's curve"))?;
        let mut context = BigNumContext::new().map_err(ours)?;
        let key = EcPoint::from_bytes(group, bits, &mut context)
            .and_then(|point| EcKey::from_public_key(group, &point))
            .map_err(|_| weak("the public key is not a point of its curve"))?;
        Ok(Self { key: PKey::from_ec_key(key).map_err(ours)?, kind: curve.kind })
    }
}

pub(crate) const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
pub(crate) const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";

/// A named curve of RFC 5480 2.1.1.1.
struct Curve {
    nid: Nid,
    oid: &'static str,
    coordinate_len: usize,
    kind: KeyKind,
}

const CURVES: [Curve; 3] = [
    Curve {
        nid: Nid::X9_62_PRIME256V1,
        oid: "1.2.840.10045.3.1.7",
        coordinate_len: 32,
        kind: KeyKind::EcP256,
    },
    Curve { nid: Nid::SECP384R1, oid: "1.3.132.0.34", coordinate_len: 48, kind: KeyKind::EcP384 },
    Curve { nid: Nid::SECP521R1, oid: "1.3.132.0.35", coordinate_len: 66, kind: KeyKind::EcP521 },
];

/// The curves' parameters: OpenSSL takes longer to make them than to read a point.
static GROUPS: LazyLock<[Option<EcGroup>; CURVES.len()]> =
    LazyLock::new(|| CURVES.map(|curve| EcGroup::from_curve_name(curve.nid).ok()));

fn check_rsa(key: &RsaRef<Public>) -> Result<KeyKind, Refusal> {
    let bits = u32::try_from(key.n().num_bits()).unwrap_or(u32::MAX);
    // `rsa-size`
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) || bits % 8 != 0 {
        return Err(weak(format!(
            "RSA of {bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} in steps of 8 are accepted"
        )));
    }
    // `rsa-exponent`
    let least = BigNum::from_u32(RSA_EXPONENT_MIN).map_err(ours)?;
    let exponent = key.e();
    if !exponent.is_odd() || *exponent < *least || exponent.num_bits() > RSA_EXPONENT_BITS_MAX {
        return Err(weak("the RSA exponent is not odd, at least 65537 and below 2^256"));
    }
    // `rsa-small-factor`, `rsa-roca`, `rsa-close-primes`
    if let Some(flaw) = modulus::flaw(key.n()).map_err(ours)? {
        return Err(weak(format!("{flaw}: the key is broken")));
    }
    Ok(KeyKind::Rsa { bits })
}

fn weak(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::KeyWeak, text)
}

/// OpenSSL failed on numbers that it had accepted before; the key is the only input.
fn ours(error: ErrorStack) -> Refusal {
    weak(format!("the public key could not be checked: {error}"))
}

#[cfg(test)]
mod tests {
    use openssl::ec::Asn1Flag;

    use super::*;
    use crate::intake::crafting::{number, prime, product};

    fn rsa_spki(n: BigNum, e: BigNum) -> Vec<u8> {
        let rsa = Rsa::from_public_components(n, e).unwrap();
        PKey::from_rsa(rsa).unwrap().public_key_to_der().unwrap()
    }

    fn refused(spki: &[u8]) -> String {
        let refusal = KeyKind::of_spki(spki).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::KeyWeak, "{refusal}");
        refusal.text
    }

    #[test]
    fn strong_keys_of_each_kind_are_recognised() {
        let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let kind = KeyKind::of_spki(&rsa.public_key_to_der().unwrap()).unwrap();
        assert_eq!(kind, KeyKind::Rsa { bits: 2048 });
        for curve in CURVES {
            let group = EcGroup::from_curve_name(curve.nid).unwrap();
            let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
            assert_eq!(KeyKind::of_spki(&key.public_key_to_der().unwrap()).unwrap(), curve.kind);
        }
        let ed25519 = PKey::generate_ed25519().unwrap().public_key_to_der().unwrap();
        assert_eq!(KeyKind::of_spki(&ed25519).unwrap(), KeyKind::Ed25519);
    }

    #[test]
    fn rsa_size_refuses_short_odd_sized_and_endless_moduli() {
        for bits in [1024, 2040, 2047, 2049, 16392] {
            let mut modulus = BigNum::new().unwrap();
            modulus.set_bit(bits - 1).unwrap();
            modulus.add_word(1).unwrap();
            let text = refused(&rsa_spki(modulus, number("65537")));
            assert!(text.contains(&format!("RSA of {bits} bits")), "{text}");
        }
    }

    #[test]
    fn rsa_exponent_refuses_small_even_and_endless_exponents() {
        let n = product(&prime(1024), &prime(1024));
        let n = || n.to_owned().unwrap();
        let mut endless = BigNum::new().unwrap();
        endless.set_bit(256).unwrap();
        endless.add_word(1).unwrap();
        for e in [number("3"), number("65535"), number("65538"), endless] {
            assert!(refused(&rsa_spki(n(), e)).contains("exponent"));
        }
        let mut largest = BigNum::new().unwrap();
        largest.set_bit(255).unwrap();
        largest.add_word(1).unwrap();
        for e in [number("65537"), number("65539"), largest] {
            assert!(KeyKind::of_spki(&rsa_spki(n(), e)).is_ok());
        }
    }

    fn p256(flag: Asn1Flag) -> Vec<u8> {
        let mut group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        group.set_asn1_flag(flag);
        let key = EcKey::generate(&group).unwrap();
        PKey::from_ec_key(key).unwrap().public_key_to_der().unwrap()
    }

    #[test]
    fn ec_point_off_the_curve_compressed_or_at_infinity_is_refused() {
        let good = p256(Asn1Flag::NAMED_CURVE);
        assert!(KeyKind::of_spki(&good).is_ok());
        let mut off = good.clone();
        *off.last_mut().unwrap() ^= 1;
        assert!(refused(&off).contains("point of its curve"));

        // The same point in SEC 1's other forms; OpenSSL's decoder takes the first two.
        let (algorithm, point) = (&good[2..23], &good[26..]);
        let odd = point[64] & 1;
        let form = |octets: &[u8]| {
            let length = u8::try_from(octets.len()).unwrap();
            [&[0x30, 24 + length], algorithm, &[0x03, 1 + length, 0], octets].concat()
        };
        assert_eq!(form(point), good);
        let compressed = form(&[&[2 + odd], &point[1..33]].concat());
        let hybrid = form(&[&[6 + odd], &point[1..]].concat());
        let infinity = form(&[0]);
        assert!(PKey::public_key_from_der(&compressed).is_ok());
        assert!(PKey::public_key_from_der(&hybrid).is_ok());
        for other in [compressed, hybrid, infinity] {
            assert!(refused(&other).contains("uncompressed"));
        }
    }

    #[test]
    fn ec_curve_refuses_other_curves_and_explicit_parameters() {
        let group = EcGroup::from_curve_name(Nid::SECP256K1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        assert!(refused(&key.public_key_to_der().unwrap()).contains("curve 1.3.132.0.10"));
        let explicit = p256(Asn1Flag::EXPLICIT_CURVE);
        assert!(refused(&explicit).contains("explicit"));
    }

    #[test]
    fn key_algorithm_refuses_what_is_no_signature_key() {
        let x25519 = PKey::generate_x25519().unwrap().public_key_to_der().unwrap();
        assert!(refused(&x25519).contains("1.3.101.110"));
        let dsa = openssl::dsa::Dsa::generate(1024).unwrap();
        let dsa = PKey::from_dsa(dsa).unwrap().public_key_to_der().unwrap();
        assert!(refused(&dsa).contains("1.2.840.10040.4.1"));
    }

    #[test]
    fn key_canonical_takes_one_encoding_of_each_key_and_it_is_openssls() {
        let rsa = rsa_spki(product(&prime(1024), &prime(1024)), number("65537"));
        let ec = p256(Asn1Flag::NAMED_CURVE);
        let ed25519 = PKey::generate_ed25519().unwrap().public_key_to_der().unwrap();
        for good in [rsa, ec, ed25519] {
            let parsed = PublicKey::from_spki(&good).unwrap();
            assert_eq!(parsed.key.public_key_to_der().unwrap(), good);
            for cut in 0..good.len() {
                assert!(KeyKind::of_spki(&good[..cut]).is_err(), "cut {cut}");
            }
            for at in 0..good.len() {
                for bit in 0..8 {
                    let mut flipped = good.clone();
                    flipped[at] ^= 1 << bit;
                    // Another key, perhaps a fine one; but never another form of one.
                    if let Ok(parsed) = PublicKey::from_spki(&flipped) {
                        assert_eq!(parsed.key.public_key_to_der().unwrap(), flipped, "byte {at}");
                    }
                }
            }
            let trailing = [&good[..], &[0]].concat();
            assert!(KeyKind::of_spki(&trailing).is_err());
        }
        assert!(refused(&vec![0x30; SPKI_MAX + 1]).contains("past any use"));
        // Of the very size it is read, and found to be no DER.
        let refusal = KeyKind::of_spki(&vec![0x30; SPKI_MAX]).unwrap_err();
        assert!(!refusal.text.contains("past any use"), "{refusal}");
    }

    #[test]
    fn kinds_are_written_as_profiles_and_commands_write_them() {
        let kinds = [
            KeyKind::Rsa { bits: 3072 },
            KeyKind::EcP256,
            KeyKind::EcP384,
            KeyKind::EcP521,
            KeyKind::Ed25519,
        ];
        let written = ["rsa:3072", "ec:P-256", "ec:P-384", "ec:P-521", "ed25519"];
        assert_eq!(kinds.map(|kind| kind.to_string()), written);
    }

    #[test]
    fn key_canonical_refuses_padded_numbers_and_odd_parameters() {
        let good = rsa_spki(product(&prime(1024), &prime(1024)), number("65537"));
        let null = good.windows(2).position(|pair| pair == [0x05, 0x00]).unwrap();
        let mut other = good.clone();
        other[null] = 0x04;
        assert!(KeyKind::of_spki(&other).is_err());
        // The exponent with a needless zero in front; every length around it one more.
        let mut padded = good.clone();
        let exponent = padded.len() - 5;
        assert_eq!(padded[exponent..], [0x02, 0x03, 1, 0, 1]);
        padded.splice(exponent.., [0x02, 0x04, 0, 1, 0, 1]);
        for at in [3, null + 2 + 3, null + 2 + 8] {
            padded[at] += 1;
        }
        assert!(openssl::pkey::PKey::public_key_from_der(&padded).is_ok(), "OpenSSL takes it");
        assert!(KeyKind::of_spki(&padded).is_err());
    }
}
