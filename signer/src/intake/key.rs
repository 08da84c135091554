//! Public keys: which kind, and strong enough to be certified at all.
//!
//! The worker asks for the key of a CSR, and the vault asks again for the key it is about to put
//! into a certificate, so nothing here may trust its caller. Which kinds a profile takes is the
//! profile's business. Every control has its id, an accept test and a reject test.

use std::{fmt, sync::LazyLock};

use openssl::{
    bn::{BigNum, BigNumContext, BigNumRef},
    ec::{EcGroup, EcKey, EcPoint},
    error::ErrorStack,
    nid::Nid,
    pkey::{Id, PKey, Public},
    rsa::{Rsa, RsaRef},
};
use protocol::message::RefusalCode;
use serde::{Deserialize, Serialize};

use crate::{
    intake::der::{Reader, tag},
    refusal::Refusal,
};

/// CA/B TLS BR 6.1.5: at least 2048 bits, a multiple of 8.
pub(super) const RSA_BITS_MIN: u32 = 2048;
/// OpenSSL verifies no signature past this modulus (`OPENSSL_RSA_MAX_MODULUS_BITS`).
pub(super) const RSA_BITS_MAX: u32 = 16384;
/// CA/B TLS BR 6.1.6: the exponent is odd, 2^16 + 1 or more and below 2^256.
const RSA_EXPONENT_MIN: u32 = 65537;
const RSA_EXPONENT_BITS_MAX: i32 = 256;
/// CA/B TLS BR 6.1.6: the modulus has no factor smaller than this.
const RSA_FACTOR_MIN: u32 = 752;
/// CA/B TLS BR 6.1.1.3: rounds of Fermat's method against close primes.
const FERMAT_ROUNDS: u32 = 100;
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
        let curve = CURVES.iter().find(|curve| curve.oid == name).ok_or_else(|| {
            weak(format!("curve {name} is not accepted; use P-256, P-384 or P-521"))
        })?;
        // `ec-point`: uncompressed and on the curve. The cofactor of these curves is 1, so no
        // check of the order is left to do (SP 800-56A 5.6.2.3.4).
        if bits.first() != Some(&0x04) || bits.len() != 1 + 2 * curve.coordinate_len {
            return Err(weak("the public key is not an uncompressed point of its curve"));
        }
        let group = EcGroup::from_curve_name(curve.nid).map_err(ours)?;
        let mut context = BigNumContext::new().map_err(ours)?;
        let key = EcPoint::from_bytes(&group, bits, &mut context)
            .and_then(|point| EcKey::from_public_key(&group, &point))
            .map_err(|_| weak("the public key is not a point of its curve"))?;
        Ok(Self { key: PKey::from_ec_key(key).map_err(ours)?, kind: curve.kind })
    }
}

const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
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
    if let Some(flaw) = modulus_flaw(key.n()).map_err(ours)? {
        return Err(weak(format!("{flaw}: the key is broken")));
    }
    Ok(KeyKind::Rsa { bits })
}

/// What makes an RSA modulus easy to factor, if anything we know does.
pub(super) fn modulus_flaw(modulus: &BigNumRef) -> Result<Option<String>, ErrorStack> {
    // `rsa-small-factor`
    if let Some(factor) = small_factor(modulus)? {
        return Ok(Some(format!("the RSA modulus has the factor {factor}")));
    }
    // `rsa-close-primes`
    if has_close_primes(modulus)? {
        return Ok(Some("the RSA modulus is the product of two close primes".to_owned()));
    }
    Ok(None)
}

/// The primes below [`RSA_FACTOR_MIN`], in batches whose product fits a word: one division of the
/// large number for each batch.
static PRIMES: LazyLock<Vec<(u32, Vec<u32>)>> = LazyLock::new(|| {
    let mut batches = Vec::new();
    let (mut product, mut batch): (u32, Vec<u32>) = (1, Vec::new());
    for prime in (2..RSA_FACTOR_MIN).filter(|n| (2..*n).all(|divisor| n % divisor != 0)) {
        match product.checked_mul(prime) {
            Some(larger) => product = larger,
            None => {
                batches.push((product, std::mem::take(&mut batch)));
                product = prime;
            }
        }
        batch.push(prime);
    }
    batches.push((product, batch));
    batches
});

fn small_factor(modulus: &BigNumRef) -> Result<Option<u32>, ErrorStack> {
    for (product, batch) in PRIMES.iter() {
        let rest = modulus.mod_word(*product)?;
        if let Some(factor) = batch.iter().find(|prime| rest % u64::from(**prime) == 0) {
            return Ok(Some(*factor));
        }
    }
    Ok(None)
}

/// Fermat's method: if the primes are close, `a² - n` is a square for an `a` just above `√n`.
fn has_close_primes(modulus: &BigNumRef) -> Result<bool, ErrorStack> {
    let mut context = BigNumContext::new()?;
    let mut root = square_root(modulus, &mut context)?;
    let mut square = BigNum::new()?;
    square.sqr(&root, &mut context)?;
    if square.ucmp(modulus).is_lt() {
        root.add_word(1)?;
        square.sqr(&root, &mut context)?;
    }
    let mut rest = BigNum::new()?;
    rest.checked_sub(&square, modulus)?;
    // (a + 1)² - n = (a² - n) + (2a + 1), and the step itself grows by 2.
    let mut step = BigNum::new()?;
    step.lshift1(&root)?;
    step.add_word(1)?;
    let mut next = BigNum::new()?;
    for _ in 0..FERMAT_ROUNDS {
        if may_be_square(&rest)? {
            let candidate = square_root(&rest, &mut context)?;
            square.sqr(&candidate, &mut context)?;
            if square == rest {
                return Ok(true);
            }
        }
        next.checked_add(&rest, &step)?;
        std::mem::swap(&mut rest, &mut next);
        step.add_word(2)?;
    }
    Ok(false)
}

/// The integer part of the square root, by Newton's method from above.
fn square_root(number: &BigNumRef, context: &mut BigNumContext) -> Result<BigNum, ErrorStack> {
    let mut root = BigNum::new()?;
    if number.num_bits() == 0 {
        return Ok(root);
    }
    root.set_bit((number.num_bits() + 1) / 2)?;
    // The error at least halves each round, so this many rounds always suffice.
    for _ in 0..=number.num_bits() {
        let mut quotient = BigNum::new()?;
        quotient.checked_div(number, &root, context)?;
        let mut sum = BigNum::new()?;
        sum.checked_add(&quotient, &root)?;
        let mut next = BigNum::new()?;
        next.rshift1(&sum)?;
        if !next.ucmp(&root).is_lt() {
            break;
        }
        root = next;
    }
    Ok(root)
}

/// Rules out 99.8 of 100 numbers that are no squares, by their residues.
fn may_be_square(number: &BigNumRef) -> Result<bool, ErrorStack> {
    /// Bit `r` is set if `r` is a square modulo `modulus`, which is at most 64.
    const fn squares(modulus: u64) -> u64 {
        let (mut mask, mut root) = (0, 0);
        while root < modulus {
            mask |= 1 << (root * root % modulus);
            root += 1;
        }
        mask
    }
    const MODULI: [u64; 8] = [5, 7, 9, 11, 13, 17, 19, 23];
    const PRODUCT: u32 = 5 * 7 * 9 * 11 * 13 * 17 * 19 * 23;
    const SQUARES: [u64; 8] = {
        let mut squares_of = [0; 8];
        let mut index = 0;
        while index < 8 {
            squares_of[index] = squares(MODULI[index]);
            index += 1;
        }
        squares_of
    };
    if squares(64) >> number.mod_word(64)? & 1 == 0 {
        return Ok(false);
    }
    let rest = number.mod_word(PRODUCT)?;
    Ok(MODULI.iter().zip(SQUARES).all(|(modulus, squares)| squares >> (rest % modulus) & 1 == 1))
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

    fn number(decimal: &str) -> BigNum {
        BigNum::from_dec_str(decimal).unwrap()
    }

    fn rsa_spki(n: BigNum, e: BigNum) -> Vec<u8> {
        let rsa = Rsa::from_public_components(n, e).unwrap();
        PKey::from_rsa(rsa).unwrap().public_key_to_der().unwrap()
    }

    fn prime(bits: i32) -> BigNum {
        let mut prime = BigNum::new().unwrap();
        prime.generate_prime(bits, false, None, None).unwrap();
        prime
    }

    fn product(a: &BigNumRef, b: &BigNumRef) -> BigNum {
        let mut product = BigNum::new().unwrap();
        product.checked_mul(a, b, &mut BigNumContext::new().unwrap()).unwrap();
        product
    }

    fn next_prime(after: &BigNumRef) -> BigNum {
        let mut candidate = after.to_owned().unwrap();
        let mut context = BigNumContext::new().unwrap();
        loop {
            candidate.add_word(2).unwrap();
            if candidate.is_prime(20, &mut context).unwrap() {
                return candidate;
            }
        }
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

    #[test]
    fn rsa_small_factor_finds_every_prime_below_752_and_no_larger_one() {
        let cofactor = prime(512);
        let primes = (2..=757u32).filter(|n| (2..*n).all(|d| n % d != 0));
        for factor in primes {
            let found = small_factor(&product(&number(&factor.to_string()), &cofactor)).unwrap();
            assert_eq!(found, Some(factor).filter(|factor| *factor < RSA_FACTOR_MIN));
        }
        // The prime's two highest bits are set, so the product has exactly 2048 bits.
        let n = product(&number("3"), &prime(2046));
        let text = refused(&rsa_spki(n, number("65537")));
        assert!(text.contains("factor 3:"), "{text}");
    }

    #[test]
    fn rsa_close_primes_are_found_and_distant_ones_are_not() {
        let p = prime(1024);
        let n = product(&p, &next_prime(&p));
        assert!(refused(&rsa_spki(n, number("65537"))).contains("close primes"));
        assert!(refused(&rsa_spki(product(&p, &p), number("65537"))).contains("close primes"));
        assert!(!has_close_primes(&product(&p, &prime(1024))).unwrap());
    }

    #[test]
    fn fermat_finds_a_square_in_its_last_round_and_not_after_it() {
        // n = a² - b² with a = ⌈√n⌉ + k needs k + 1 rounds; b² ≈ 2ak.
        let mut context = BigNumContext::new().unwrap();
        let a = number("1000000000000000000000000000000");
        for (rounds, found) in [(FERMAT_ROUNDS, true), (FERMAT_ROUNDS + 1, false)] {
            // The largest b that still leaves the root `rounds - 1` below a.
            let mut bound = product(&a, &number(&(2 * (rounds - 1) + 1).to_string()));
            bound.sub_word(rounds * rounds).unwrap();
            let b = square_root(&bound, &mut context).unwrap();
            let mut n = BigNum::new().unwrap();
            n.checked_sub(&product(&a, &a), &product(&b, &b)).unwrap();
            let root = square_root(&n, &mut context).unwrap();
            let mut needed = BigNum::new().unwrap();
            needed.checked_sub(&a, &root).unwrap();
            assert_eq!(needed, number(&rounds.to_string()), "rounds as constructed");
            assert_eq!(has_close_primes(&n).unwrap(), found, "{rounds} rounds");
        }
    }

    #[test]
    fn square_root_is_exact_on_small_numbers() {
        let mut context = BigNumContext::new().unwrap();
        for n in 0..5000u32 {
            let root = square_root(&BigNum::from_u32(n).unwrap(), &mut context).unwrap();
            assert_eq!(root, BigNum::from_u32(n.isqrt()).unwrap(), "{n}");
            if n.isqrt().pow(2) == n {
                assert!(may_be_square(&BigNum::from_u32(n).unwrap()).unwrap());
            }
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
        refused(&vec![0x30; SPKI_MAX + 1]);
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
