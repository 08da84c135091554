//! Small seeded changes to an input, for runs without a fuzzer.
//!
//! It knows nothing of what is reached: it only makes sure that each target meets thousands of
//! damaged inputs wherever the tests run, and the same ones each time.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// The changes that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `base` with one to eight changes, some of them pieces of `other`, no longer than
    /// `length_max`.
    pub fn mutate(&mut self, base: &[u8], other: &[u8], length_max: usize) -> Vec<u8> {
        let mut bytes = base.to_vec();
        for _ in 0..1 + self.below(8) {
            self.change(&mut bytes, other);
        }
        bytes.truncate(length_max);
        bytes
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let wide = u128::from(mixed ^ (mixed >> 31)) * bound as u128;
        (wide >> 64) as usize
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(64) + 1);
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = EDGES[self.below(EDGES.len())],
            2 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            3 => drop(bytes.drain(at..end)),
            4 => {
                let count = 1 + self.below(16);
                let new: Vec<u8> = (0..count).map(|_| self.below(256) as u8).collect();
                bytes.splice(at..at, new);
            }
            5 => {
                let copy = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            6 => {
                let from = self.below(other.len() + 1);
                let to = from + self.below((other.len() - from).min(256) + 1);
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                // A length field of two, four or eight bytes.
                let width = 2 << self.below(3);
                let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, number[..width].iter().copied());
            }
        }
    }
}

/// Bytes at which lengths, tags and signs change their meaning.
const EDGES: [u8; 12] = [0, 1, 0x1f, 0x30, 0x7f, 0x80, 0x81, 0x84, 0xfa, 0xfb, 0xfd, 0xff];
/// Lengths that a careless reader believes.
const NUMBERS: [u64; 8] = [0, 1, 0x7fff, 0xffff, 1 << 24, 0x7fff_ffff, u32::MAX as u64, u64::MAX];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_changes_and_another_one_others() {
        let base: Vec<u8> = (0..200).collect();
        let draw = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..100).map(|_| mutator.mutate(&base, b"other", 150)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|bytes| bytes.len() <= 150));
        assert!(draw(7).iter().filter(|bytes| **bytes != base[..150]).count() > 90);
    }
}
