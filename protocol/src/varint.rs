//! Unsigned LEB128, the length prefix of chunks and patch containers.
//!
//! Seven bits per byte, least significant first, the top bit set on all bytes but the last. At
//! most [`LEN_MAX`] bytes; nothing is read past the end and nothing is allocated.

/// A u64 has 64 bits, so its encoding has at most 10 bytes.
pub(crate) const LEN_MAX: usize = 10;

/// Appends `value` to `out`.
pub(crate) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a value off the front of `input`; `None` if it is cut short, longer than needed or does
/// not fit in 64 bits.
pub(crate) fn take(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, byte) in input.iter().take(LEN_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * index as u32;
        value |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            // One value, one encoding: a last byte of zero says nothing.
            if *byte == 0 && index > 0 {
                return None;
            }
            *input = &input[index + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_at_every_edge_survive_and_truncations_do_not() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in edges.chain([u64::MAX]) {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            assert!(bytes.len() <= LEN_MAX);
            for cut in 0..bytes.len() {
                assert_eq!(take(&mut &bytes[..cut]), None);
            }
            let mut input = &bytes[..];
            assert_eq!(take(&mut input), Some(value));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn padded_and_overlong_encodings_are_refused() {
        assert_eq!(take(&mut &[0x85, 0x00][..]), None);
        assert_eq!(take(&mut &[0xff; 11][..]), None);
        let mut too_big = vec![0xff; 9];
        too_big.push(0x02);
        assert_eq!(take(&mut &too_big[..]), None);
    }
}
