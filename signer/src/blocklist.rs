//! Keys that must never be certified: published lists of weak keys, and which of them a key is on.
//!
//! The store holds one compact file, made by `signer blocklist import`; it is searched on disk, so
//! memory does not grow with it. What an operator blocks by hand is in the ledger. This room
//! answers whether a key is listed; it never decides what becomes of a request, and never writes
//! but in `import`.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use protocol::message::Digest;

use crate::fault::Fault;

mod import;
mod keyfile;
mod list;
mod marks;
mod source;
#[cfg(test)]
mod tests;

pub use import::{Imported, import};
pub use keyfile::public_keys;
pub use list::Source;
pub use marks::Marks;
pub(crate) use marks::{rsa_modulus, spki_of_certificate};
pub(crate) use source::{Entries, read as read_source};

/// The list of weak keys of a store, if one was imported.
#[derive(Debug)]
pub struct Blocklist {
    path: PathBuf,
    loaded: Option<(Stamp, list::List)>,
}

/// On which list a key was found, in words for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// In an `openssl-blacklist` file.
    OpenSslBlacklist,
    /// In a blocklist of badkeys, under its list number.
    BadKeys(u8),
}

impl std::fmt::Display for Hit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OpenSslBlacklist => f.write_str("in a published openssl-blacklist"),
            Self::BadKeys(list) => write!(f, "in the published blocklist of badkeys (list {list})"),
        }
    }
}

/// What tells one file from the one that replaced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Blocklist {
    /// Opens the list of the store in `store`; that none is there is no fault.
    pub fn open(store: &Path) -> Result<Self, Fault> {
        let mut blocklist = Self { path: path(store), loaded: None };
        blocklist.refresh()?;
        Ok(blocklist)
    }

    /// Takes notice of a list that was imported or taken away meanwhile: one look at the file.
    pub fn refresh(&mut self) -> Result<(), Fault> {
        let stamp = match std::fs::metadata(&self.path) {
            Ok(metadata) => Some(Stamp {
                inode: metadata.ino(),
                length: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Fault::disk("look at", &self.path)(error)),
        };
        if stamp == self.loaded.as_ref().map(|(stamp, _)| *stamp) {
            return Ok(());
        }
        self.loaded = None;
        if let Some(stamp) = stamp {
            let list = list::List::open(&self.path)?;
            tracing::info!(entries = list.entries(), "list of weak keys loaded");
            self.loaded = Some((stamp, list));
        }
        Ok(())
    }

    /// Whether a list is there.
    pub fn is_loaded(&self) -> bool {
        self.loaded.is_some()
    }

    /// How many keys are listed.
    pub fn entries(&self) -> u64 {
        self.loaded.as_ref().map_or(0, |(_, list)| list.entries())
    }

    /// From which files the list was made.
    pub fn sources(&self) -> &[Source] {
        self.loaded.as_ref().map_or(&[], |(_, list)| list.sources())
    }

    /// On which list a key is, if on any.
    pub fn find(&self, marks: &Marks) -> Result<Option<Hit>, Fault> {
        let Some((_, list)) = &self.loaded else { return Ok(None) };
        list.find(marks).map_err(Fault::disk("read", &self.path))
    }

    /// Reads the whole list and compares it with its own checksum.
    pub fn verify(&self) -> Result<(), Fault> {
        self.loaded.as_ref().map_or(Ok(()), |(_, list)| list.verify())
    }
}

/// The sentence where no list is loaded, for `signer status`, `blocklist show` and the search for
/// weak keys.
pub const NOT_LOADED: &str = "no list of weak keys is loaded: keys with the Debian fault are not \
                              noticed; load one with `signer blocklist import`";

/// The list's file in a store.
pub fn path(store: &Path) -> PathBuf {
    store.join("blocklist/weak-keys.list")
}

/// The name of a key in the operator's table: SHA-256 of its SubjectPublicKeyInfo.
pub fn fingerprint(spki: &[u8]) -> Digest {
    Digest::of(spki)
}
