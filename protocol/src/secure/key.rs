//! The static keys of the two ends: how they are made, kept in files, and read aloud.
//!
//! A secret is never printed and is wiped when dropped. A public key has a text that a person
//! carries from one machine to the other, with a checksum that catches a slip of the finger, and a
//! fingerprint that two persons compare on the telephone. No file is opened here.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex},
};

use openssl::{
    pkey::{Id, PKey},
    sha::sha256,
};
use zeroize::Zeroizing;

/// Length of a key, secret or public.
pub const KEY_LEN: usize = 32;

/// The first line of a secret's file; the number is that of the form.
const SECRET_HEADING: &str = "isolated signer link secret 1";
/// What the checksum of a key's text is taken over, before the key.
const CHECKSUM_CONTEXT: &[u8] = b"isolated signer link key text 1";
/// What a fingerprint is taken over, before the key.
const FINGERPRINT_CONTEXT: &[u8] = b"isolated signer link fingerprint 1";
/// With 24 bits one slip of the finger in 16 million goes through, and the fingerprint finds it.
const CHECKSUM_LEN: usize = 3;
/// Letters and digits that are not mistaken for each other (Crockford's base 32).
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Letters of a key's text: five bits each.
const TEXT_LETTERS: usize = (KEY_LEN + CHECKSUM_LEN) * 8 / 5;
/// Letters between two hyphens.
const TEXT_GROUP: usize = 4;
/// Groups of five digits in a fingerprint: 83 bits.
const FINGERPRINT_GROUPS: usize = 5;
/// Bytes that each group is made of, so that the remainder by 100,000 favours nothing.
const FINGERPRINT_GROUP_LEN: usize = 6;

const _: () = assert!((KEY_LEN + CHECKSUM_LEN) * 8 == TEXT_LETTERS * 5);
const _: () = assert!(TEXT_LETTERS.is_multiple_of(TEXT_GROUP));
const _: () = assert!(FINGERPRINT_GROUPS * FINGERPRINT_GROUP_LEN <= 32);

//------------ Entropy -------------------------------------------------------

/// Randomness, passed in: a driver gives the system's, a simulation one that it can replay.
#[derive(Clone)]
pub struct Entropy(Arc<Mutex<Fill>>);

type Fill = dyn FnMut(&mut [u8]) + Send;

impl Entropy {
    /// Randomness from `fill`, which fills what it is given. Clones share it.
    pub fn new(fill: impl FnMut(&mut [u8]) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(fill)))
    }

    /// The same bytes for the same seed, for tests and simulators: whoever knows the seed knows
    /// every key that follows from it.
    pub fn seeded(seed: u64) -> Self {
        let mut counter = 0u64;
        Self::new(move |out| {
            for chunk in out.chunks_mut(KEY_LEN) {
                let mut input = *b"seeded entropy: 0000000000000000";
                input[16..24].copy_from_slice(&seed.to_be_bytes());
                input[24..].copy_from_slice(&counter.to_be_bytes());
                counter += 1;
                chunk.copy_from_slice(&sha256(&input)[..chunk.len()]);
            }
        })
    }

    /// Fills `out`.
    pub fn fill(&self, out: &mut [u8]) {
        // A source that panicked once gives bytes as good as before.
        let mut fill = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        fill(out);
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

//------------ SecretKey -----------------------------------------------------

/// An end's own static key (X25519).
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; KEY_LEN]>);

impl SecretKey {
    /// A new key.
    pub fn generate(entropy: &Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        entropy.fill(&mut *bytes);
        Self(bytes)
    }

    /// The key that the other end is to be given.
    pub fn public(&self) -> PublicKey {
        let raw = PKey::private_key_from_raw_bytes(&*self.0, Id::X25519)
            .and_then(|key| key.raw_public_key())
            .ok()
            .and_then(|raw| raw.try_into().ok());
        // Any 32 bytes are an X25519 key, and every libcrypto that this links to does X25519.
        PublicKey(raw.expect("libcrypto does X25519"))
    }

    /// The text of the file that keeps it, for nobody else's eyes.
    pub fn to_file(&self) -> Zeroizing<String> {
        let mut text =
            Zeroizing::new(String::with_capacity(SECRET_HEADING.len() + 2 * KEY_LEN + 2));
        text.push_str(SECRET_HEADING);
        text.push('\n');
        for byte in self.0.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from(LETTERS[usize::from(digit)]));
            }
        }
        text.push('\n');
        text
    }

    /// Reads what [`to_file`](Self::to_file) wrote.
    pub fn from_file(text: &str) -> Result<Self, NotASecret> {
        let mut lines = text.lines();
        let (heading, digits) = (lines.next(), lines.next().unwrap_or_default().as_bytes());
        if heading != Some(SECRET_HEADING) || lines.next().is_some() || digits.len() != 2 * KEY_LEN
        {
            return Err(NotASecret);
        }
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let [high, low] = [hexadecimal(pair[0])?, hexadecimal(pair[1])?];
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

fn hexadecimal(digit: u8) -> Result<u8, NotASecret> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NotASecret),
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// A file that holds no link secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a link secret as this program writes it")]
pub struct NotASecret;

//------------ PublicKey -----------------------------------------------------

/// The static key by which one end knows the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; KEY_LEN]);

impl PublicKey {
    /// What two persons read to each other to be sure that they mean the same key.
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = sha256(&[FINGERPRINT_CONTEXT, &self.0].concat());
        let mut groups = digest.chunks_exact(FINGERPRINT_GROUP_LEN).map(|bytes| {
            let number = bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            (number % 100_000) as u32
        });
        Fingerprint(std::array::from_fn(|_| groups.next().unwrap_or_default()))
    }

    fn checksum(&self) -> [u8; CHECKSUM_LEN] {
        let digest = sha256(&[CHECKSUM_CONTEXT, &self.0].concat());
        std::array::from_fn(|i| digest[i])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.0[..], &self.checksum()].concat();
        for letter in 0..TEXT_LETTERS {
            if letter > 0 && letter.is_multiple_of(TEXT_GROUP) {
                f.write_str("-")?;
            }
            let value = (0..5).fold(0, |value, bit| {
                let at = letter * 5 + bit;
                value << 1 | bytes[at / 8] >> (7 - at % 8) & 1
            });
            write!(f, "{}", char::from(LETTERS[usize::from(value)]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = NotAKey;

    /// Takes capitals, spaces for hyphens, and what is easily mistaken: o for 0, i and l for 1.
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let mut bytes = [0; KEY_LEN + CHECKSUM_LEN];
        let mut letters = 0;
        for letter in text.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            let plain = match letter.to_ascii_lowercase() {
                'o' => '0',
                'i' | 'l' => '1',
                plain => plain,
            };
            let value = LETTERS.iter().position(|known| char::from(*known) == plain);
            let value = value.ok_or(NotAKey::Letter { letter, place: letters + 1 })?;
            for bit in 0..5 {
                let at = letters * 5 + bit;
                if let Some(byte) = bytes.get_mut(at / 8) {
                    *byte |= ((value >> (4 - bit) & 1) as u8) << (7 - at % 8);
                }
            }
            letters += 1;
        }
        if letters != TEXT_LETTERS {
            return Err(NotAKey::Length { found: letters });
        }
        let (key, checksum) = bytes.split_at(KEY_LEN);
        let key = Self(std::array::from_fn(|i| key[i]));
        if key.checksum() == *checksum { Ok(key) } else { Err(NotAKey::Checksum) }
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    /// A character that no key has.
    #[error("no key has a {letter:?}, which stands at place {place}; look at that group again")]
    Letter {
        /// Which.
        letter: char,
        /// Where, counting letters from 1.
        place: usize,
    },
    /// Too many letters, or too few.
    #[error(
        "a key has 56 letters in 14 groups, this has {found}; a group is missing or twice there"
    )]
    Length {
        /// How many.
        found: usize,
    },
    /// A slip of the finger.
    #[error("the key's checksum is wrong: a letter is mistyped; compare it group by group")]
    Checksum,
}

/// Groups of digits that stand for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u32; FINGERPRINT_GROUPS]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, group) in self.0.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{group:05}")?;
        }
        Ok(())
    }
}

//------------ Pairing -------------------------------------------------------

/// What an end needs to know its peer, and to be known by it.
#[derive(Clone, Debug)]
pub struct Pairing {
    /// Our own key.
    pub secret: SecretKey,
    /// The peer's.
    pub peer: PublicKey,
}

impl Pairing {
    /// The frontend's and the signer's half of a pairing that follows from `seed`, for tests and
    /// simulators.
    pub fn both(seed: u64) -> (Self, Self) {
        let entropy = Entropy::seeded(seed);
        let [frontend, signer] = [SecretKey::generate(&entropy), SecretKey::generate(&entropy)];
        let peers = (signer.public(), frontend.public());
        (Self { secret: frontend, peer: peers.0 }, Self { secret: signer, peer: peers.1 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u64) -> PublicKey {
        SecretKey::generate(&Entropy::seeded(seed)).public()
    }

    #[test]
    fn a_key_s_text_has_groups_that_can_be_typed() {
        let text = key(1).to_string();
        assert_eq!(text.len(), 56 + 13);
        assert!(text.split('-').all(|group| group.len() == 4), "{text}");
        assert_eq!(text.parse(), Ok(key(1)));
        let sloppy = format!("  {}\n", text.to_uppercase().replace('-', " ").replace('0', "o"));
        assert_eq!(sloppy.parse(), Ok(key(1)));
    }

    #[test]
    fn every_slip_of_the_finger_is_one_sentence() {
        let text = key(2).to_string();
        let mut refused = 0;
        for at in (0..text.len()).filter(|at| at % 5 != 4) {
            for letter in "0123456789abcdefghjkmnpqrstvwxyz".chars() {
                let mut typed: Vec<char> = text.chars().collect();
                if typed[at] != letter {
                    typed[at] = letter;
                    let typed: String = typed.into_iter().collect();
                    assert_eq!(typed.parse::<PublicKey>(), Err(NotAKey::Checksum), "{typed}");
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 56 * 31);
        assert_eq!(text[..64].parse::<PublicKey>(), Err(NotAKey::Length { found: 52 }));
        assert_eq!(format!("{text}-0").parse::<PublicKey>(), Err(NotAKey::Length { found: 57 }));
        assert_eq!("".parse::<PublicKey>(), Err(NotAKey::Length { found: 0 }));
        let letter = NotAKey::Letter { letter: 'u', place: 2 };
        assert_eq!("0u".parse::<PublicKey>(), Err(letter));
        let swapped = format!("{}{}{}", &text[5..10], &text[..5], &text[10..]);
        assert_eq!(swapped.parse::<PublicKey>(), Err(NotAKey::Checksum));
    }

    #[test]
    fn a_fingerprint_is_five_groups_of_digits_and_tells_keys_apart() {
        let fingerprint = key(3).fingerprint().to_string();
        assert_eq!(fingerprint.len(), 5 * 5 + 4);
        assert!(fingerprint.split(' ').all(|group| group.parse::<u32>().is_ok()));
        assert_ne!(key(3).fingerprint(), key(4).fingerprint());
    }

    #[test]
    fn a_secret_survives_its_file_and_never_shows_itself() {
        let secret = SecretKey::generate(&Entropy::seeded(5));
        let text = secret.to_file();
        let back = SecretKey::from_file(&text).unwrap();
        assert_eq!(back.bytes(), secret.bytes());
        let pairing = Pairing { peer: key(6), secret };
        assert!(format!("{pairing:?}").starts_with("Pairing { secret: SecretKey(..), peer: "));
        let damaged = [&text[..text.len() - 2], &text[1..], "", &format!("{}{}", *text, *text)];
        for damaged in damaged {
            assert_eq!(SecretKey::from_file(damaged).unwrap_err(), NotASecret);
        }
    }

    #[test]
    fn the_public_key_is_that_of_rfc_7748() {
        let bytes = |hex: &str| -> [u8; 32] {
            std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..][..2], 16).unwrap())
        };
        let alice = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        let secret = SecretKey(Zeroizing::new(alice));
        assert_eq!(secret.public(), PublicKey(bytes(public)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<PublicKey>();
            let _ = SecretKey::from_file(&text);
        }

        #[test]
        fn every_key_survives_its_text(bytes: [u8; KEY_LEN]) {
            prop_assert_eq!(PublicKey(bytes).to_string().parse(), Ok(PublicKey(bytes)));
        }
    }
}
