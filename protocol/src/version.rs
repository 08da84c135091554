//! Protocol versions.
//!
//! Every Hello names the range of versions its sender speaks; both sides then use the highest
//! version in both ranges, and if there is none both say so and keep asking slowly. The Hello
//! itself keeps its place and meaning in all versions: later ones may only append fields, which
//! older ones ignore.
//!
//! Policy: a release speaks [`VERSION_CURRENT`] and the version before it, so that the two sides
//! can be upgraded one after the other, in either order.
//!
//! Version 1 is frozen: its golden bytes (`tests/golden/v1`: every message, every kind of frame and
//! of patch, a handshake with sealed records) never change, and a test holds their digest. Whatever
//! changes a byte on the wire, or what a byte means, is a new version: raise [`VERSION_CURRENT`],
//! give it golden bytes of its own, and let [`VERSION_MIN`] follow one behind. What a sender may
//! choose, such as the length of a segment, how it packs or when it acknowledges, may change without
//! one, as long as every receiver of version 1 understands it.

/// The oldest version that this release speaks.
pub const VERSION_MIN: u8 = 1;
/// The newest version that this release speaks.
pub const VERSION_CURRENT: u8 = 1;

const _: () = assert!(VERSION_MIN <= VERSION_CURRENT);
const _: () = assert!(VERSION_CURRENT < VERSION_MIN + 2);

/// The highest version in both ranges.
pub fn agree(ours: (u8, u8), theirs: (u8, u8)) -> Option<u8> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_wins_and_no_overlap_is_none() {
        assert_eq!(agree((1, 1), (1, 1)), Some(1));
        assert_eq!(agree((1, 2), (2, 3)), Some(2));
        assert_eq!(agree((2, 3), (1, 2)), Some(2));
        assert_eq!(agree((1, 1), (2, 3)), None);
        assert_eq!(agree((3, 4), (1, 2)), None);
        // A range that is upside down overlaps with nothing.
        assert_eq!(agree((1, 1), (2, 1)), None);
    }
}
