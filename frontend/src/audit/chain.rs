//! What makes one entry follow another: its number, and the hash of the entry before it.

use protocol::message::Digest;
use serde::Deserialize;

/// The hash before the first entry.
pub const ORIGIN: Digest = Digest::from_bytes([0; 32]);

/// Why an entry does not belong where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The bytes are no entry.
    #[error("entry {number} cannot be read: {why}")]
    Unreadable {
        /// Which entry it should be.
        number: u64,
        /// What the parser said.
        why: String,
    },
    /// Another entry stands there.
    #[error("entry {found} stands where entry {expected} belongs")]
    Number {
        /// Which entry it should be.
        expected: u64,
        /// Which it says it is.
        found: u64,
    },
    /// It builds on another entry than the one before it.
    #[error("entry {number} does not build on the entry before it")]
    Previous {
        /// Which entry.
        number: u64,
    },
    /// The last entry's hash is another than the one that was announced or remembered.
    #[error("entry {number} is not the one that was announced")]
    Head {
        /// Which entry.
        number: u64,
    },
}

/// Checks that `line`, without its line feed, is entry `number` and builds on the entry with the
/// hash `previous`; gives its own hash.
pub fn verify(line: &[u8], number: u64, previous: Digest) -> Result<Digest, ChainError> {
    #[derive(Deserialize)]
    struct Line {
        n: u64,
        previous: String,
    }
    let entry: Line = serde_json::from_slice(line)
        .map_err(|error| ChainError::Unreadable { number, why: error.to_string() })?;
    if entry.n != number {
        return Err(ChainError::Number { expected: number, found: entry.n });
    }
    if entry.previous != previous.to_string() {
        return Err(ChainError::Previous { number });
    }
    Ok(Digest::of(line))
}

/// The end of a run of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The number of the last entry.
    pub last: u64,
    /// Its hash.
    pub head: Digest,
}

impl End {
    /// Before the first entry.
    pub const ORIGIN: Self = Self { last: 0, head: ORIGIN };

    /// Follows `line` as the next entry.
    pub fn follow(&mut self, line: &[u8]) -> Result<(), ChainError> {
        let number = self.last.saturating_add(1);
        self.head = verify(line, number, self.head)?;
        self.last = number;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Entries as a signer writes them.
    pub(crate) fn lines(end: End, count: u64, what: &str) -> (Vec<String>, End) {
        let (mut end, mut lines) = (end, Vec::new());
        for number in end.last + 1..=end.last + count {
            let line = format!(
                r#"{{"n":{number},"at":"2026-11-22T08:00:00Z","event":"refused","text":"{what}","previous":"{}"}}"#,
                end.head
            );
            end.follow(line.as_bytes()).unwrap();
            lines.push(line);
        }
        (lines, end)
    }

    fn followed(lines: &[String]) -> Result<End, ChainError> {
        let mut end = End::ORIGIN;
        lines.iter().try_for_each(|line| end.follow(line.as_bytes())).map(|()| end)
    }

    #[test]
    fn no_entry_can_be_changed_left_out_or_moved() {
        let (good, end) = lines(End::ORIGIN, 4, "x");
        assert_eq!(followed(&good), Ok(end));
        for number in 0..3 {
            let mut changed = good.clone();
            changed[number] = changed[number].replace("\"x\"", "\"y\"");
            let next = number as u64 + 2;
            assert_eq!(followed(&changed), Err(ChainError::Previous { number: next }));
            let mut removed = good.clone();
            removed.remove(number);
            assert!(matches!(followed(&removed), Err(ChainError::Number { .. })));
            let mut swapped = good.clone();
            swapped.swap(number, number + 1);
            assert!(matches!(followed(&swapped), Err(ChainError::Number { .. })));
        }
        for cut in 0..good[0].len() {
            let cut = vec![good[0][..cut].to_owned()];
            assert!(matches!(followed(&cut), Err(ChainError::Unreadable { number: 1, .. })));
        }
    }
}
