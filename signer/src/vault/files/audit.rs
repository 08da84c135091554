//! The audit log's segment files, which follow the ledger's audit table.
//!
//! They are appended to with every batch and synced about once a second; up to where is noted in
//! the ledger then. Whatever stands behind that note after a crash is written again.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

use crate::{
    durable::{self, Lock},
    fault::Fault,
    ledger::Ledger,
};

/// Audit entries in one segment file.
const SEGMENT_ENTRIES: u64 = 100_000;

/// How we left the segment files.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The newest entry that is written, in which file, and that file's length.
    last: Option<(u64, PathBuf, u64)>,
    unsynced: BTreeSet<PathBuf>,
}

impl Left {
    /// Appends new audit entries to the segment files of a store.
    pub(super) fn follow(&mut self, store: &Path, ledger: &Ledger) -> Result<(), Fault> {
        // The console writes beside a running vault.
        let _lock = Lock::wait(&store.join("audit.lock"))?;
        let noted = ledger.audit_files_at()?;
        let is_as_left = |(number, path, length): &(u64, PathBuf, u64)| {
            *number >= noted && std::fs::metadata(path).is_ok_and(|now| now.len() == *length)
        };
        let ours = self.last.take().filter(is_as_left);
        let done = ours.as_ref().map_or(noted, |(number, ..)| *number);
        let mut segments: Vec<(PathBuf, String)> = Vec::new();
        let mut last = done;
        ledger.for_each_audit_line(done, |number, line, _| {
            let path = segment_path(store, number);
            match segments.last_mut() {
                Some((open, text)) if *open == path => {
                    text.push_str(line);
                    text.push('\n');
                }
                _ => segments.push((path, format!("{line}\n"))),
            }
            last = number;
            Ok(())
        })?;
        if segments.is_empty() {
            self.last = ours;
            return Ok(());
        }
        let mut open = ours.map(|(_, path, _)| path);
        for (path, text) in segments {
            if open.as_ref() != Some(&path) {
                cut_behind(&path, done)?;
            }
            durable::append(&path, text.as_bytes(), 0o600)?;
            self.unsynced.insert(path.clone());
            open = Some(path);
        }
        let path = segment_path(store, last);
        let length = std::fs::metadata(&path).map_err(Fault::disk("read", &path))?.len();
        self.last = Some((last, path, length));
        Ok(())
    }

    /// Waits for the disk, then notes how far the files are.
    pub(super) fn sync(&mut self, ledger: &mut Ledger) -> Result<(), Fault> {
        let Some((last, ..)) = self.last.as_ref().filter(|_| !self.unsynced.is_empty()) else {
            return Ok(());
        };
        for path in &self.unsynced {
            File::open(path)
                .and_then(|file| file.sync_data())
                .map_err(Fault::disk("sync", path))?;
        }
        let time = ledger.time_floor()?;
        // Another may have noted more.
        let last = ledger.audit_files_at()?.max(*last);
        let tx = ledger.begin(time)?;
        tx.set_audit_files_at(last)?;
        tx.commit()?;
        self.unsynced.clear();
        Ok(())
    }
}

/// Appends new audit entries to the segment files of a store, and waits for the disk.
pub(crate) fn follow(store: &Path, ledger: &mut Ledger) -> Result<(), Fault> {
    let mut left = Left::default();
    left.follow(store, ledger)?;
    left.sync(ledger)
}

/// The segment file of an audit entry, named by its first entry's number.
pub(super) fn segment_path(store: &Path, number: u64) -> PathBuf {
    let first = (number - 1) / SEGMENT_ENTRIES * SEGMENT_ENTRIES + 1;
    store.join(format!("audit/{first:010}.log"))
}

/// Cuts what a crash left behind entry `done`.
fn cut_behind(path: &Path, done: u64) -> Result<(), Fault> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(Fault::disk("open", path))?;
    let kept = kept_length(path, done)?;
    let length = file.metadata().map_err(Fault::disk("read", path))?.len();
    if kept < length {
        file.set_len(kept).map_err(Fault::disk("cut", path))?;
    }
    Ok(())
}

/// How much of a segment holds entries up to `done`. The tail is read from its end, since only
/// an append that a crash interrupted can be behind it.
fn kept_length(path: &Path, done: u64) -> Result<u64, Fault> {
    use std::io::{Read, Seek, SeekFrom};
    // One batch's entries and then some; doubled until an entry up to `done` is in it.
    let mut tail_length = 1 << 16;
    let mut file = std::fs::File::open(path).map_err(Fault::disk("open", path))?;
    let length = file.metadata().map_err(Fault::disk("read", path))?.len();
    let number_of = |line: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(line).ok()?;
        value["n"].as_u64()
    };
    loop {
        let start = length.saturating_sub(tail_length);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_to_end(&mut tail))
            .map_err(Fault::disk("read", path))?;
        let mut end = tail.len();
        while end > 0 {
            let whole = tail[end - 1] == b'\n';
            let body = &tail[..end - usize::from(whole)];
            let line_start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if whole && number_of(&body[line_start..]).is_some_and(|number| number <= done) {
                return Ok(start + end as u64);
            }
            end = line_start;
        }
        if start == 0 {
            return Ok(0);
        }
        tail_length *= 2;
    }
}
