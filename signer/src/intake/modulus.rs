//! RSA moduli that anybody can factor: small factors, ROCA's structure, close primes.
//!
//! Asked for every key, so the three share what they can and the sum stays at some ten
//! microseconds for 2048 bits. Whether a key is long enough is not decided here.

use std::{fmt, sync::LazyLock};

use openssl::{
    bn::{BigNum, BigNumContext, BigNumRef},
    error::ErrorStack,
};

/// CA/B TLS BR 6.1.6: the modulus has no factor smaller than this.
const FACTOR_MIN: u32 = 752;
/// CA/B TLS BR 6.1.1.3: rounds of Fermat's method against close primes.
const FERMAT_ROUNDS: u32 = 100;
/// CVE-2017-15361: both primes of a broken key are `k * M + (65537^a mod M)`.
const ROCA_GENERATOR: u32 = 65537;
/// `M` of every key length is a multiple of all primes up to this, which the published test looks
/// at; of 100 million other keys it takes one for broken.
const ROCA_PRIME_MAX: u32 = 167;

/// Why a modulus is no secret's keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It has this factor.
    SmallFactor(u32),
    /// It has the structure that Infineon's library gave it.
    Roca,
    /// It is the product of two primes close to each other, or of equal ones.
    ClosePrimes,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SmallFactor(factor) => write!(f, "the RSA modulus has the factor {factor}"),
            Self::Roca => f.write_str(
                "the RSA modulus was made by a faulty Infineon library (ROCA, CVE-2017-15361)",
            ),
            Self::ClosePrimes => f.write_str("the RSA modulus is the product of two close primes"),
        }
    }
}

/// What makes `modulus` easy to factor, if anything we know does.
pub(crate) fn flaw(modulus: &BigNumRef) -> Result<Option<Flaw>, ErrorStack> {
    if let Some(flaw) = flaw_of_residues(modulus)? {
        return Ok(Some(flaw));
    }
    Ok(has_close_primes(modulus)?.then_some(Flaw::ClosePrimes))
}

//------------ Small factors and ROCA ----------------------------------------

/// A prime below [`FACTOR_MIN`].
struct SmallPrime {
    number: u32,
    /// Bit `r` is set if a modulus of ROCA's may have the residue `r`; none where the published
    /// test does not look.
    roca: Option<[u64; 3]>,
}

/// Primes whose product fits a word: one division of the large number serves them all.
struct Batch {
    product: u32,
    primes: Vec<SmallPrime>,
}

static BATCHES: LazyLock<Vec<Batch>> = LazyLock::new(|| {
    let mut batches: Vec<Batch> = Vec::new();
    for number in (2..FACTOR_MIN).filter(|n| (2..*n).all(|divisor| n % divisor != 0)) {
        let prime = SmallPrime { number, roca: roca_residues(number) };
        let last = batches.last_mut();
        match last.and_then(|last| Some((last.product.checked_mul(number)?, last))) {
            Some((product, last)) => {
                last.product = product;
                last.primes.push(prime);
            }
            None => batches.push(Batch { product: number, primes: vec![prime] }),
        }
    }
    batches
});

/// The powers of the generator modulo `prime`: both factors of a broken modulus are among them,
/// so their product is too.
fn roca_residues(prime: u32) -> Option<[u64; 3]> {
    if prime > ROCA_PRIME_MAX {
        return None;
    }
    let mut residues = [0; 3];
    let mut power = 1_u32;
    for _ in 1..prime {
        residues[power as usize / 64] |= 1 << (power % 64);
        power = power * ROCA_GENERATOR % prime; // below 168 * 65537
    }
    Some(residues)
}

/// Controls `rsa-small-factor` and `rsa-roca`.
fn flaw_of_residues(modulus: &BigNumRef) -> Result<Option<Flaw>, ErrorStack> {
    let mut is_roca = true;
    for batch in BATCHES.iter() {
        let rest = modulus.mod_word(batch.product)?;
        for prime in &batch.primes {
            // The rest is smaller than the product, a u32.
            let residue = rest as u32 % prime.number;
            if residue == 0 {
                return Ok(Some(Flaw::SmallFactor(prime.number)));
            }
            if let Some(residues) = prime.roca {
                is_roca &= residues[residue as usize / 64] >> (residue % 64) & 1 == 1;
            }
        }
    }
    Ok(is_roca.then_some(Flaw::Roca))
}

//------------ Close primes --------------------------------------------------

/// Control `rsa-close-primes`, by Fermat's method: if the primes are close, `a² - n` is a square
/// for an `a` just above `√n`. Nearly all candidates are ruled out by residues, which are small
/// numbers from one round to the next.
fn has_close_primes(modulus: &BigNumRef) -> Result<bool, ErrorStack> {
    let mut context = BigNumContext::new()?;
    let mut root = square_root(modulus, &mut context)?;
    let mut rest = BigNum::new()?;
    rest.sqr(&root, &mut context)?;
    if rest.ucmp(modulus).is_lt() {
        root.add_word(1)?;
        rest.sqr(&root, &mut context)?;
    }
    let mut difference = BigNum::new()?;
    difference.checked_sub(&rest, modulus)?;
    let mut sieves =
        [Sieve::new(&SIEVE, &difference, &root)?, Sieve::new(&FINER, &difference, &root)?];
    for _ in 0..FERMAT_ROUNDS {
        if sieves.iter().all(Sieve::lets_pass) {
            rest.sqr(&root, &mut context)?;
            difference.checked_sub(&rest, modulus)?;
            let side = square_root(&difference, &mut context)?;
            rest.sqr(&side, &mut context)?;
            if rest == difference {
                return Ok(true);
            }
        }
        sieves.iter_mut().for_each(Sieve::advance);
        root.add_word(1)?;
    }
    Ok(false)
}

/// Moduli that are prime to each other, each at most 64, and which residues are squares: 1 of 400
/// numbers passes the first, 1 of 50 the second.
static SIEVE: LazyLock<Vec<Squares>> = LazyLock::new(|| squares(&[64, 5, 7, 9, 11, 13, 17, 19]));
static FINER: LazyLock<Vec<Squares>> = LazyLock::new(|| squares(&[23, 29, 31, 37, 41, 43]));

/// Bit `r` of the mask is set if `r` is a square modulo the modulus.
struct Squares {
    modulus: u32,
    mask: u64,
}

fn squares(moduli: &[u32]) -> Vec<Squares> {
    let mask = |modulus| (0..modulus).fold(0, |mask, root| mask | 1 << (root * root % modulus));
    moduli.iter().map(|modulus| Squares { modulus: *modulus, mask: mask(*modulus) }).collect()
}

/// The difference `a² - n` of each round by its residue.
struct Sieve {
    squares: &'static [Squares],
    product: u64,
    residue: u64,
    step: u64,
}

impl Sieve {
    fn new(
        squares: &'static [Squares],
        difference: &BigNumRef,
        root: &BigNumRef,
    ) -> Result<Self, ErrorStack> {
        let product: u32 = squares.iter().map(|part| part.modulus).product();
        let residue = difference.mod_word(product)?;
        let step = 2 * root.mod_word(product)? + 1;
        Ok(Self { squares, product: product.into(), residue, step })
    }

    fn lets_pass(&self) -> bool {
        let is_square =
            |part: &Squares| part.mask >> (self.residue % u64::from(part.modulus)) & 1 == 1;
        self.squares.iter().all(is_square)
    }

    /// `(a + 1)² - n = (a² - n) + (2a + 1)`, and the step itself grows by 2.
    fn advance(&mut self) {
        self.residue = (self.residue + self.step) % self.product;
        self.step += 2;
    }
}

/// Newton's rounds that suffice for [`super::key::RSA_BITS_MAX`]: the first guess has 26 right
/// bits, and each round doubles them.
const NEWTON_ROUNDS: u32 = 12;
const _: () = assert!((26 << (NEWTON_ROUNDS - 2)) > super::key::RSA_BITS_MAX / 2);

/// The integer part of the square root, by Newton's method from above.
fn square_root(number: &BigNumRef, context: &mut BigNumContext) -> Result<BigNum, ErrorStack> {
    let mut root = first_guess(number)?;
    for _ in 0..NEWTON_ROUNDS {
        if root.num_bits() == 0 {
            break; // of zero
        }
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

/// The root of the highest bits, rounded up: never below the root of the whole.
fn first_guess(number: &BigNumRef) -> Result<BigNum, ErrorStack> {
    let half = (number.num_bits() - 52).max(0) / 2;
    let mut high = BigNum::new()?;
    high.rshift(number, 2 * half)?;
    // At most 53 bits are left.
    let high = high.to_vec().iter().fold(0, |sum, octet| 256 * sum + u64::from(*octet));
    let top = BigNum::from_slice(&(high.isqrt() + 1).to_be_bytes())?;
    let mut guess = BigNum::new()?;
    guess.lshift(&top, half)?;
    Ok(guess)
}

#[cfg(test)]
mod tests;
