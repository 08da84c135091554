//! One number from which a test's accidents follow, so that a failure can be told in one line.

use std::env;

/// A small generator (SplitMix64) with a number that a person can paste.
#[derive(Debug)]
pub struct Seed {
    start: u64,
    state: u64,
}

impl Seed {
    /// The number in the environment's `TEST_SEED`, else `default`.
    pub fn from_environment(default: u64) -> Self {
        let given = env::var("TEST_SEED")
            .ok()
            .and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
        Self::new(given.unwrap_or(default))
    }

    /// A generator that starts here.
    pub fn new(start: u64) -> Self {
        Self { start, state: start }
    }

    /// The line that replays the test of this name.
    pub fn replay(&self, test: &str) -> String {
        format!("replay with: TEST_SEED={:#x} cargo xtask test {test}", self.start)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_accidents() {
        let (mut one, mut two) = (Seed::new(7), Seed::new(7));
        let draw = |seed: &mut Seed| (0..100).map(|_| seed.below(1000)).collect::<Vec<_>>();
        let drawn = draw(&mut one);
        assert_eq!(drawn, draw(&mut two));
        assert!(drawn.iter().any(|number| *number != drawn[0]));
        assert!(one.replay("x").contains("TEST_SEED=0x7"));
    }
}
