//! Bytes read as choices: what a list of operations is made of.
//!
//! At the end of the bytes every choice is the first one, so any bytes are a list of operations,
//! and cutting some off its end changes nothing before the cut.

/// What is left of the input.
#[derive(Clone, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// The next two bytes as a number.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        match bound {
            0..=256 => usize::from(self.byte()) % bound,
            _ => usize::from(self.word()) % bound,
        }
    }

    /// The next `count` bytes, or as many as there are.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_input_is_the_first_choice_for_ever() {
        let mut input = Input::new(&[7, 1, 2, 3, 4]);
        assert_eq!((input.byte(), input.word(), input.below(3)), (7, 0x0201, 0));
        assert_eq!(input.clone().take(9), [4]);
        assert_eq!(input.below(1000), 4);
        assert!(input.is_empty());
        assert_eq!((input.byte(), input.below(300), input.rest()), (0, 0, &[][..]));
    }
}
