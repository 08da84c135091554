//! What `index.txt` was when we left it: length, time, inode, and a hash of every byte.
//!
//! While the first three are the same nobody wrote it, and nothing is read. When they differ, the
//! hash tells whether all that we left is still in front: then only what follows is new. The hash
//! can be carried on from its own value, so an append costs no second look at a large index.

use std::{fmt, fs::Metadata, os::unix::fs::MetadataExt};

/// How the index was left. // stored
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    mtime_s: i64,
    mtime_ns: i64,
    inode: u64,
    hash: Option<Hash>,
}

impl Stamp {
    /// Of a file that was just written or read, with the hash of all its bytes.
    pub fn of(metadata: &Metadata, hash: Hash) -> Self {
        Self {
            length: metadata.len(),
            mtime_s: metadata.mtime(),
            mtime_ns: metadata.mtime_nsec(),
            inode: metadata.ino(),
            hash: Some(hash),
        }
    }

    /// Of no file at all: whatever is there is looked at line by line.
    pub fn unknown() -> Self {
        Self { length: 0, mtime_s: 0, mtime_ns: 0, inode: 0, hash: None }
    }

    /// The stamp that was noted as `text`; an older program's has no hash.
    pub fn read(text: &str) -> Self {
        let parse = || {
            let mut parts = text.split(':');
            let length = parts.next()?.parse().ok()?;
            let (seconds, nanoseconds) = parts.next()?.split_once('.')?;
            let inode = parts.next()?.parse().ok()?;
            let hash = u64::from_str_radix(parts.next()?, 16).ok()?;
            Some(Self {
                length,
                mtime_s: seconds.parse().ok()?,
                mtime_ns: nanoseconds.parse().ok()?,
                inode,
                hash: Some(Hash(hash)),
            })
        };
        parse().unwrap_or_else(Self::unknown)
    }

    /// Whether nobody wrote the file since.
    pub fn is_of(&self, metadata: &Metadata) -> bool {
        self.hash.is_some()
            && self.length == metadata.len()
            && (self.mtime_s, self.mtime_ns) == (metadata.mtime(), metadata.mtime_nsec())
            && self.inode == metadata.ino()
    }

    /// How long the file was.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Which file it was.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The hash of its bytes.
    pub fn hash(&self) -> Option<Hash> {
        self.hash
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, mtime_s, mtime_ns, inode, hash } = self;
        match hash {
            Some(Hash(hash)) => {
                write!(f, "{length}:{mtime_s}.{mtime_ns:09}:{inode}:{hash:016x}")
            }
            None => Ok(()),
        }
    }
}

/// FNV-1a of 64 bits. It guards against accidents, not against those who may write the index:
/// whatever they want to say, they can say in a line. // stored
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Hash {
    /// Of no bytes.
    pub const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// The hash of what it is of, and then `bytes`.
    #[must_use]
    pub fn then(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv_and_goes_on_from_anywhere() {
        // Test vectors of the FNV specification.
        assert_eq!(Hash::EMPTY.then(b"a"), Hash(0xaf63_dc4c_8601_ec8c));
        assert_eq!(Hash::EMPTY.then(b"foobar"), Hash(0x8594_4171_f739_67e8));
        for cut in 0..=6 {
            let (first, second) = b"foobar".split_at(cut);
            assert_eq!(Hash::EMPTY.then(first).then(second), Hash::EMPTY.then(b"foobar"));
        }
    }

    #[test]
    fn stamp_is_read_back_and_anything_else_is_unknown() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("index.txt");
        std::fs::write(&path, b"foobar").unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        let stamp = Stamp::of(&metadata, Hash::EMPTY.then(b"foobar"));
        assert!(stamp.is_of(&metadata));
        assert_eq!(Stamp::read(&stamp.to_string()), stamp);
        for old in ["", "absent", "6:1790000000.000000001", "x:1.2:3:4", "6:1.2:3:zz"] {
            assert_eq!(Stamp::read(old), Stamp::unknown());
            assert!(!Stamp::read(old).is_of(&metadata));
        }
        assert_eq!(Stamp::unknown().to_string(), "");
        std::fs::write(&path, b"foobaz and more").unwrap();
        assert!(!stamp.is_of(&std::fs::metadata(&path).unwrap()));
    }
}
