//! The files of the copy: whole verified entries, byte for byte as the signer has them.
//!
//! ```text
//! DIR/audit/1/0000000001.log   entries 1 to 100,000, one a line
//! DIR/audit/1/partial          what has come of the next entry, if it came in part
//! DIR/audit/2/                 the second book: begun where the signer's log had become another
//! ```
//! Entries are only ever added behind what is there. How far the copy goes is remembered in the
//! store, so that a file that was cut shows as well.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use protocol::message::Digest;
use serde::{Deserialize, Serialize};

use super::chain::{ChainError, End};
use crate::{
    durable::{self, NotWritten},
    home::Home,
};

/// Why the copy cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A file failed. Trying again may help.
    #[error("cannot {what} `{path}`: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is stored is not what was stored.
    #[error("`{path}` is damaged: {error}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: ChainError,
    },
    /// A file ends before what is remembered.
    #[error("`{path}` ends at entry {found}, entry {expected} was stored")]
    Short {
        /// Which file.
        path: PathBuf,
        /// Where it ends.
        found: u64,
        /// Where it should end.
        expected: u64,
    },
}

impl From<NotWritten> for CopyError {
    fn from(NotWritten { what, path, source }: NotWritten) -> Self {
        Self::Io { what, path, source }
    }
}

/// What the frontend remembers of the signer's log. // stored
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The copies, oldest first; the last one goes on. Never empty.
    pub books: Vec<Book>,
    /// What the signer said last of its log.
    pub heard: Option<Heard>,
}

/// One unbroken run of entries. // stored
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The entry before its first; it stands in an earlier book, if it is not 0.
    pub base: u64,
    /// That entry's hash.
    pub base_head: Digest,
    /// Its last entry.
    pub last: u64,
    /// That entry's hash.
    pub head: Digest,
    /// The length of the file that the last entry is in.
    pub length: u64,
    /// When it was begun, microseconds since 1970-01-01 UTC.
    pub since_us: i64,
    /// Why it was begun, for a person; none for the first.
    pub why: Option<String>,
}

/// What the signer said of its log. // stored
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The number of its last entry.
    pub last: u64,
    /// That entry's hash.
    pub head: Digest,
    /// When, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

impl Memory {
    /// Nothing came yet.
    pub fn new(now_us: i64) -> Self {
        Self { books: vec![Book::new(End::ORIGIN, now_us, None)], heard: None }
    }

    /// The book that goes on.
    pub fn book(&self) -> &Book {
        self.books.last().expect("a memory is made with one book and only gets more")
    }

    /// The number of the book that goes on, from 1, and the book.
    pub(super) fn current(&mut self) -> (usize, &mut Book) {
        let number = self.books.len();
        (number, self.books.last_mut().expect("a memory is made with one book and only gets more"))
    }
}

impl Book {
    pub(super) fn new(base: End, since_us: i64, why: Option<String>) -> Self {
        let End { last, head } = base;
        Self { base: last, base_head: head, last, head, length: 0, since_us, why }
    }

    /// Where it ends.
    pub fn end(&self) -> End {
        End { last: self.last, head: self.head }
    }

    fn base(&self) -> End {
        End { last: self.base, head: self.base_head }
    }
}

/// The directory of the copy.
#[derive(Clone, Debug)]
pub struct LogCopy {
    directory: PathBuf,
}

impl LogCopy {
    /// The copy in `home`.
    pub fn new(home: &Home) -> Self {
        Self { directory: home.audit_dir() }
    }

    /// Where a book is.
    pub fn book_dir(&self, book: usize) -> PathBuf {
        self.directory.join(book.to_string())
    }

    /// The file of an entry, named by the first entry that the signer has in the like file.
    fn segment_path(&self, book: usize, number: u64) -> PathBuf {
        self.book_dir(book).join(format!("{:010}.log", segment_first(number)))
    }

    //--- Writing

    /// Adds whole entries, each with its line feed, that were checked to follow `book`; on disk
    /// when it returns. `end` is where they end.
    pub(super) fn append(
        &self,
        number: usize,
        book: &mut Book,
        lines: &[u8],
        end: End,
    ) -> Result<(), CopyError> {
        let directory = self.book_dir(number);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(failed("make the directory", &directory))?;
        let (mut at, mut rest) = (book.clone(), lines);
        while !rest.is_empty() {
            let first = at.last + 1;
            let room = segment_first(first) + SEGMENT_ENTRIES - first;
            let here = take_lines(rest, room);
            let path = self.segment_path(number, first);
            // A file that is begun has nothing yet that counts.
            let length = if at.length == 0 || starts_segment(first) { 0 } else { at.length };
            write_at(&path, length, here)?;
            at.length = length + here.len() as u64;
            at.last += here.iter().filter(|byte| **byte == b'\n').count() as u64;
            if length == 0 {
                durable::sync_directory(&path)?;
            }
            rest = &rest[here.len()..];
        }
        *book = Book { last: end.last, head: end.head, ..at };
        Ok(())
    }

    /// What has come of the entry behind the last.
    pub(super) fn partial(&self, book: usize) -> Result<Vec<u8>, CopyError> {
        let path = self.partial_path(book);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
            Err(error) => Err(failed("read", &path)(error)),
            Ok(file) => {
                let read = file.take(ENTRY_MAX as u64).read_to_end(&mut bytes);
                read.map_err(failed("read", &path))?;
                Ok(bytes)
            }
        }
    }

    /// Keeps what has come of the entry behind the last. It need not survive a power cut.
    pub(super) fn keep_partial(&self, book: usize, bytes: &[u8]) -> Result<(), CopyError> {
        let path = self.partial_path(book);
        if !bytes.is_empty() {
            let directory = self.book_dir(book);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(failed("make the directory", &directory))?;
            return fs::write(&path, bytes).map_err(failed("write", &path));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn partial_path(&self, book: usize) -> PathBuf {
        self.book_dir(book).join("partial")
    }

    /// After a start: entries that were written and not yet remembered are remembered, half a
    /// line behind them is cut. Fails if something that was remembered is gone.
    pub(super) fn recover(&self, number: usize, book: &mut Book) -> Result<(), CopyError> {
        if book.last > book.base {
            let path = self.segment_path(number, book.last);
            let length = length_of(&path)?;
            if length < book.length {
                let (found, expected) = (book.base.max(segment_first(book.last) - 1), book.last);
                return Err(CopyError::Short { path, found, expected });
            }
        }
        loop {
            let next = book.last + 1;
            let path = self.segment_path(number, next);
            let kept = if book.length == 0 || starts_segment(next) { 0 } else { book.length };
            let length = length_of(&path)?;
            if length <= kept {
                return Ok(());
            }
            let mut file = File::options()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(failed("open", &path))?;
            file.seek(SeekFrom::Start(kept)).map_err(failed("read", &path))?;
            let (mut end, mut good) = (book.end(), kept);
            let mut reader = BufReader::new(&file);
            while let Some(line) = next_line(&mut reader, &path)? {
                if segment_first(end.last + 1) != segment_first(next)
                    || !line.ends_with(b"\n")
                    || end.follow(&line[..line.len() - 1]).is_err()
                {
                    break;
                }
                good += line.len() as u64;
            }
            if good < length {
                file.set_len(good).map_err(failed("cut", &path))?;
            }
            if good == kept {
                return Ok(());
            }
            file.sync_data().map_err(failed("sync", &path))?;
            *book = Book { last: end.last, head: end.head, length: good, ..book.clone() };
        }
    }

    //--- Reading

    /// The hash of entry `number` in the newest line of books.
    pub(super) fn hash_of(
        &self,
        memory: &Memory,
        number: u64,
    ) -> Result<Option<Digest>, CopyError> {
        for (index, book) in memory.books.iter().enumerate().rev() {
            if number == book.base {
                return Ok(Some(book.base_head));
            }
            if number > book.base {
                if number == book.last {
                    return Ok(Some(book.head));
                }
                let line = self.line(index + 1, book, number)?;
                return Ok(line.map(|line| Digest::of(&line)));
            }
        }
        Ok(None)
    }

    fn line(&self, number: usize, book: &Book, entry: u64) -> Result<Option<Vec<u8>>, CopyError> {
        if entry > book.last {
            return Ok(None);
        }
        let first = segment_first(entry).max(book.base + 1);
        let path = self.segment_path(number, entry);
        let mut reader = BufReader::new(File::open(&path).map_err(failed("open", &path))?);
        for _ in first..entry {
            next_line(&mut reader, &path)?;
        }
        let line = next_line(&mut reader, &path)?;
        Ok(line.map(|mut line| {
            line.truncate(line.len() - usize::from(line.ends_with(b"\n")));
            line
        }))
    }

    /// Reads the entries of a book from `from` up to `to`, checks that each follows the one before
    /// and that the last is the remembered one, and hands each to `visit` with its line feed.
    pub fn read(
        &self,
        number: usize,
        book: &Book,
        (from, to): (u64, u64),
        mut visit: impl FnMut(&[u8]) -> Result<(), CopyError>,
    ) -> Result<End, CopyError> {
        let mut end = book.base();
        while end.last < book.last.min(to) {
            let next = end.last + 1;
            let path = self.segment_path(number, next);
            let mut reader = BufReader::new(File::open(&path).map_err(failed("open", &path))?);
            let stop = (segment_first(next) + SEGMENT_ENTRIES - 1).min(book.last).min(to);
            while end.last < stop {
                let line = next_line(&mut reader, &path)?.filter(|line| line.ends_with(b"\n"));
                let Some(line) = line else {
                    let (found, expected) = (end.last, book.last);
                    return Err(CopyError::Short { path, found, expected });
                };
                let followed = end.follow(&line[..line.len() - 1]);
                followed.map_err(|error| CopyError::Damaged { path: path.clone(), error })?;
                if end.last >= from {
                    visit(&line)?;
                }
            }
        }
        if end.last == book.last && end.head != book.head {
            let path = self.segment_path(number, book.last.max(1));
            return Err(CopyError::Damaged { path, error: ChainError::Head { number: end.last } });
        }
        Ok(end)
    }
}

/// The first entry of the file that `number` is in.
fn segment_first(number: u64) -> u64 {
    number.saturating_sub(1) / SEGMENT_ENTRIES * SEGMENT_ENTRIES + 1
}

fn starts_segment(number: u64) -> bool {
    segment_first(number) == number
}

/// The first `count` lines, or all if there are fewer.
fn take_lines(bytes: &[u8], count: u64) -> &[u8] {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let end = ends.map(|(at, _)| at + 1).nth(count.saturating_sub(1)).unwrap_or(bytes.len());
    &bytes[..end]
}

/// The next line with its line feed, if the file did not end before it.
fn next_line(reader: &mut impl BufRead, path: &Path) -> Result<Option<Vec<u8>>, CopyError> {
    let mut line = Vec::new();
    let read = reader.take(ENTRY_MAX as u64).read_until(b'\n', &mut line);
    read.map_err(failed("read", path))?;
    Ok((!line.is_empty()).then_some(line))
}

/// Writes `bytes` behind the first `length` bytes, and waits for the disk.
fn write_at(path: &Path, length: u64, bytes: &[u8]) -> Result<(), CopyError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let mut file = file.map_err(failed("open", path))?;
    let written = (|| {
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        file.write_all(bytes)?;
        file.sync_data()
    })();
    written.map_err(failed("write", path))
}

fn length_of(path: &Path) -> Result<u64, CopyError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.to_owned();
    move |source| CopyError::Io { what, path, source }
}

/// Entries in one file, as at the signer.
const SEGMENT_ENTRIES: u64 = 100_000;
/// The longest entry: the certification of 128 user IDs has under 200 KiB.
pub(super) const ENTRY_MAX: usize = 1 << 20;
