//! Chance that replays: SplitMix64 (Steele, Lea, Flood 2014, the constants of java.util's
//! SplittableRandom), seeded by one number.
//!
//! Good enough to place faults and small enough to read. Never use it for a key.

/// A stream of random numbers that depends on its seed alone.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream for another purpose, unlike this one.
    pub fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// 8 random bits.
    pub fn byte(&mut self) -> u8 {
        (self.next_u64() >> 56) as u8
    }

    /// A number below `bound`, which is not zero. The bias is below 2^-32 for what is asked here.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// How many trials fail before the first that succeeds with `probability`: one draw stands
    /// for all of them (geometric distribution).
    pub fn failures_before_success(&mut self, probability: f64) -> u64 {
        if probability <= 0.0 {
            return u64::MAX;
        }
        if probability >= 1.0 {
            return 0;
        }
        // 1 - unit() lies in (0, 1], so the logarithm is finite; the cast saturates.
        ((1.0 - self.unit()).ln() / (-probability).ln_1p()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_numbers_are_those_of_the_reference_implementation() {
        // Vigna's splitmix64.c with x = 1234567.
        let mut random = Random::new(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn geometric_skips_have_the_right_mean() {
        let mut random = Random::new(7);
        let total: u64 = (0..100_000).map(|_| random.failures_before_success(0.01)).sum();
        let mean = total as f64 / 100_000.0;
        assert!((mean - 99.0).abs() < 2.0, "{mean}");
        assert_eq!(random.failures_before_success(1.0), 0);
        assert_eq!(random.failures_before_success(0.0), u64::MAX);
    }

    #[test]
    fn bounded_numbers_stay_below_their_bound_and_reach_it() {
        let mut random = Random::new(1);
        let mut seen = [false; 7];
        for _ in 0..1_000 {
            seen[random.below(7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
    }
}
