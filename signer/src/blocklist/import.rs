//! Builds the store's list: what is there and what is added, all at once or not at all.

use std::path::{Path, PathBuf};

use super::{Blocklist, Entries, Source, list, path, read_source};
use crate::{
    durable::{self, Lock},
    fault::Fault,
};

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The files that were read.
    pub sources: Vec<Source>,
    /// How many keys are listed now that were not before.
    pub added: u64,
    /// How many keys are listed now.
    pub entries: u64,
}

/// Adds the published lists in `files` to the list of `store`. Importing a file again changes
/// nothing; a damaged one leaves everything as it was.
pub fn import(store: &Path, files: &[PathBuf]) -> Result<Imported, Fault> {
    let path = path(store);
    durable::directory(&store.join("blocklist"), 0o755)?;
    // Two imports at once would lose one of them.
    let _lock = Lock::wait(&store.join("blocklist/lock"))?;
    let mut entries = Entries::default();
    let read: Vec<Source> =
        files.iter().map(|file| read_source(file, &mut entries)).collect::<Result<_, _>>()?;
    let loaded = Blocklist::open(store)?;
    let mut sources = loaded.sources().to_vec();
    if let Some((_, list)) = &loaded.loaded {
        let (tails, heads) = list.read_all()?;
        entries.tails.extend(tails);
        entries.heads.extend(heads);
    }
    entries.sort();
    for source in &read {
        if !sources.iter().any(|known| known.sha256 == source.sha256) {
            sources.push(source.clone());
        }
    }
    list::write(&path, &entries.tails, &entries.heads, &sources)?;
    let count = (entries.tails.len() + entries.heads.len()) as u64;
    Ok(Imported { sources: read, added: count.saturating_sub(loaded.entries()), entries: count })
}
