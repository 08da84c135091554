//! The two forms in which lists of weak keys are published.
//!
//! | form | content |
//! |---|---|
//! | `openssl-blacklist` | a line of 20 hexadecimal digits a key, and `#` comments |
//! | badkeys' `blocklist.dat` | sorted records of 16 octets: 15 of a SHA-256, 1 list number |
//!
//! Damaged input is said with file and line, and nothing of it is used.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use openssl::sha::Sha256;

use super::{
    Source,
    list::{HeadRecord, TailRecord},
    marks::{HEAD_LEN, TAIL_LEN},
};
use crate::fault::Fault;

/// The most keys of one form: 16 million, and 256 MiB while they are sorted. The published lists
/// together have a tenth of that.
const ENTRIES_MAX: usize = 1 << 24;
/// A record of badkeys' form.
const RECORD_LEN: usize = size_of::<HeadRecord>();
/// A comment longer than this, with its line end, is none.
const LINE_MAX: usize = 4096;
/// How much of a file is looked at to tell its form.
const LOOK_LEN: usize = 4096;

/// What lists hold, in memory.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub(super) tails: Vec<TailRecord>,
    pub(super) heads: Vec<HeadRecord>,
}

impl Entries {
    /// Puts the records in order, each once.
    pub(crate) fn sort(&mut self) {
        self.tails.sort_unstable();
        self.tails.dedup();
        // A key may be on two lists of badkeys; the lower number is kept.
        self.heads.sort_unstable();
        self.heads.dedup_by(|second, first| second[..HEAD_LEN] == first[..HEAD_LEN]);
    }

    /// Adds one key.
    pub(crate) fn add(&mut self, marks: &super::Marks) {
        let mut record = HeadRecord::default();
        record[..HEAD_LEN].copy_from_slice(&marks.head);
        self.heads.push(record);
    }

    /// Whether a key is among them; they must be sorted.
    pub(crate) fn contain(&self, marks: &super::Marks) -> bool {
        let by_tail = marks.tail.is_some_and(|tail| self.tails.binary_search(&tail).is_ok());
        let by_head =
            self.heads.binary_search_by(|record| record[..HEAD_LEN].cmp(&marks.head)).is_ok();
        by_tail || by_head
    }
}

/// Adds the records of the published list at `path` to `entries`.
pub(crate) fn read(path: &Path, entries: &mut Entries) -> Result<Source, Fault> {
    let file = File::open(path).map_err(Fault::disk("open", path))?;
    let mut input =
        Input { reader: BufReader::with_capacity(1 << 16, file), digest: Sha256::new() };
    let look = input.look().map_err(Fault::disk("read", path))?;
    let broken = |why: &str| Fault::Configuration(format!("{}: {why}", path.display()));
    if look.starts_with(b"\xfd7zXZ\0") || look.starts_with(b"\x1f\x8b") {
        return Err(broken("the file is compressed; unpack it with xz -d or gunzip first"));
    }
    let is_text = is_text(look);
    let before = entries.tails.len() + entries.heads.len();
    let (format, read) = match is_text {
        true => ("openssl-blacklist", read_text(&mut input, &mut entries.tails)),
        false => ("badkeys", read_records(&mut input, &mut entries.heads)),
    };
    match read {
        Ok(()) => {}
        Err(SourceError::Io(error)) => return Err(Fault::disk("read", path)(error)),
        Err(SourceError::Content(why)) => {
            return Err(broken(&format!("{why}; nothing was imported, fetch the file again")));
        }
    }
    let count = entries.tails.len() + entries.heads.len() - before;
    if count == 0 {
        return Err(broken("the file lists no key; nothing was imported, fetch the file again"));
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let sha256 = protocol::message::Digest::from_bytes(input.digest.finish()).to_string();
    Ok(Source { name, sha256, format: format.to_owned(), entries: count as u64 })
}

enum SourceError {
    Io(io::Error),
    Content(String),
}

impl From<io::Error> for SourceError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A file, hashed while it is read.
struct Input {
    reader: BufReader<File>,
    digest: Sha256,
}

impl Input {
    /// The first octets, still to be read.
    fn look(&mut self) -> io::Result<&[u8]> {
        let buffer = self.reader.fill_buf()?;
        Ok(&buffer[..buffer.len().min(LOOK_LEN)])
    }

    /// The next line with its end; empty at the end of the file.
    fn line(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        line.clear();
        self.reader.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', line)?;
        self.digest.update(line);
        Ok(())
    }

    /// The next record; shorter at the end of the file.
    fn record(&mut self, record: &mut Vec<u8>) -> io::Result<()> {
        record.clear();
        self.reader.by_ref().take(RECORD_LEN as u64).read_to_end(record)?;
        self.digest.update(record);
        Ok(())
    }
}

/// Hashes are text by a third, text is text but for damage.
fn is_text(look: &[u8]) -> bool {
    let text = look.iter().filter(|octet| matches!(octet, b' '..=b'~' | b'\n' | b'\r' | b'\t'));
    text.count() * 10 > look.len() * 9
}

fn read_text(input: &mut Input, tails: &mut Vec<TailRecord>) -> Result<(), SourceError> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        input.line(&mut line)?;
        if line.is_empty() {
            break;
        }
        let text = line.trim_ascii_end();
        if text.is_empty() || (text.starts_with(b"#") && line.len() <= LINE_MAX) {
            continue;
        }
        let tail = tail_of(text).ok_or_else(|| {
            SourceError::Content(format!(
                "line {number} is neither a comment nor {} hexadecimal digits",
                2 * TAIL_LEN
            ))
        })?;
        push(tails, tail)?;
    }
    Ok(())
}

fn tail_of(text: &[u8]) -> Option<TailRecord> {
    let (pairs, rest) = text.as_chunks::<2>();
    let digit =
        |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let octets: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(16 * digit(*high)? + digit(*low)?)).collect();
    match rest {
        [] => octets?.try_into().ok(),
        _ => None,
    }
}

fn read_records(input: &mut Input, heads: &mut Vec<HeadRecord>) -> Result<(), SourceError> {
    let mut octets = Vec::new();
    let mut last = [0; HEAD_LEN];
    for number in 1_u64.. {
        input.record(&mut octets)?;
        let record: HeadRecord = match octets.as_slice().try_into() {
            Ok(record) => record,
            Err(_) if octets.is_empty() => break,
            Err(_) => {
                return Err(SourceError::Content(format!(
                    "record {number} (badkeys' form, {RECORD_LEN} octets each) ends after {}",
                    octets.len()
                )));
            }
        };
        let [hash @ .., _] = record;
        if hash < last {
            return Err(SourceError::Content(format!(
                "it is no openssl-blacklist, and as badkeys' blocklist.dat record {number} is out \
                 of order"
            )));
        }
        last = hash;
        push(heads, record)?;
    }
    Ok(())
}

fn push<T>(records: &mut Vec<T>, record: T) -> Result<(), SourceError> {
    if records.len() == ENTRIES_MAX {
        return Err(SourceError::Content(format!("more than {ENTRIES_MAX} keys are listed")));
    }
    records.push(record);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_is_told_by_nine_tenths_of_the_beginning() {
        assert!(is_text(b"0123456789"));
        assert!(is_text(b"#\t comment\r\n with one \0 in it"));
        assert!(!is_text(b"123456789\0"));
        assert!(!is_text(b""));
    }
}
