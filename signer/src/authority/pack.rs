//! One pack: many old copies of `newcerts/` in a single compressed file, found by serial.
//!
//! ```text
//! skippable frame   what the file is
//! zstd frame        a block: some hundred files, one after the other, byte for byte
//! ...
//! skippable frame   the index: the blocks with their digests, the files sorted by serial
//! skippable frame   the footer: how many of both, where, and the digest of the index
//! ```
//!
//! All integers are little-endian. // stored
//!
//! It is a zstd file like any other: `zstd -dc 000001.pack` prints every copy, without this
//! program. A lookup reads the footer, some entries and one block; nothing loads it whole. This
//! room writes a pack once and never changes one.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use protocol::message::{Digest, Serial};

use crate::{durable, fault::Fault};

#[cfg(test)]
mod tests;

/// The most files in one pack: what a crash can leave half done, and what a check holds in memory.
pub const FILES_MAX: usize = 1 << 16;

/// The most files in one block: what a lookup decompresses, about a millisecond.
const BLOCK_FILES: usize = 256;

/// A block that has as many bytes is full.
const BLOCK_FULL: usize = 1 << 20;

/// The longest file that goes into a pack; with openssl's text in front a copy has about ten
/// thousand bytes.
pub const FILE_MAX: usize = 1 << 20;

/// The longest block, decompressed: one that was almost full when the longest file came.
const BLOCK_MAX: usize = BLOCK_FULL + FILE_MAX;

/// Base64 of signatures does not get smaller with more effort.
const LEVEL: i32 = 6;

/// RFC 8878 3.1.2: decompressors skip frames with these magic numbers.
const SKIPPABLE: [u32; 3] = [0x184D_2A50, 0x184D_2A51, 0x184D_2A52];
const TITLE: &[u8; 16] = b"signer pack 1\n\0\0";
const FRAME_HEADER_LEN: usize = 8;
const BLOCK_LEN: usize = 48;
const ENTRY_LEN: usize = 36;
/// The longest serial, RFC 5280 4.1.2.2.
const SERIAL_LEN: usize = 20;
const FOOTER_LEN: usize = 72;
/// How much of the SHA-256 of serial and content is kept with an entry, and of the footer with it.
const CHECK_LEN: usize = 4;
const FOOTER_CHECK_LEN: usize = 16;

const _: () = assert!(ENTRY_LEN == SERIAL_LEN + 3 * 4 + CHECK_LEN);
const _: () = assert!(FOOTER_LEN == 2 * 8 + 2 * 4 + 32 + FOOTER_CHECK_LEN);
const _: () = assert!(BLOCK_LEN == 8 + 2 * 4 + 32);

/// Where a block lies, and its digest.
#[derive(Clone, Copy, Debug)]
struct Block {
    offset: u64,
    packed: u32,
    length: u32,
    digest: Digest,
}

/// Where a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    serial: [u8; SERIAL_LEN],
    block: u32,
    offset: u32,
    length: u32,
    check: [u8; CHECK_LEN],
}

/// A pack that is being written.
pub struct Writer<'a> {
    out: &'a mut dyn Write,
    offset: u64,
    through: i64,
    block: Vec<u8>,
    in_block: usize,
    blocks: Vec<Block>,
    entries: Vec<Entry>,
}

/// Writes a pack with the files that `fill` adds, and waits until it is on disk. Without files
/// there is no pack. Answers how many there are.
pub fn write(
    path: &Path,
    fill: impl FnOnce(&mut Writer<'_>) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    let mut fault = None;
    let mut count = 0;
    let written = durable::replace_with(path, 0o644, |out| {
        let mut writer = Writer {
            out,
            offset: 0,
            through: 0,
            block: Vec::new(),
            in_block: 0,
            blocks: Vec::new(),
            entries: Vec::new(),
        };
        let all = || -> Result<usize, Fault> {
            writer.frame(SKIPPABLE[0], TITLE).map_err(Fault::disk("write", path))?;
            fill(&mut writer)?;
            durable::crash_point("write the index of", path)?;
            writer.finish().map_err(Fault::disk("write", path))
        };
        match all() {
            Ok(0) => Err(io::Error::other("there is nothing to pack")),
            Ok(files) => {
                count = files;
                Ok(())
            }
            Err(error) => {
                fault = Some(error);
                Err(io::Error::other("the pack could not be filled"))
            }
        }
    });
    match (fault, written) {
        (Some(fault), _) => Err(fault),
        (None, Err(_)) if count == 0 => Ok(0),
        (None, written) => written.map(|()| count),
    }
}

impl Writer<'_> {
    /// How many files it has.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Says that everything up to this number of the ledger is in this pack or those before.
    pub fn through(&mut self, seq: i64) {
        self.through = seq;
    }

    /// Adds a file; at most [`FILES_MAX`] of at most [`FILE_MAX`] bytes.
    pub fn add(&mut self, serial: &Serial, bytes: &[u8]) -> io::Result<()> {
        assert!(bytes.len() <= FILE_MAX && self.entries.len() < FILES_MAX, "the caller counts");
        self.entries.push(Entry {
            serial: key(serial),
            block: narrow(self.blocks.len())?,
            offset: narrow(self.block.len())?,
            length: narrow(bytes.len())?,
            check: check(&key(serial), bytes),
        });
        self.block.extend_from_slice(bytes);
        self.in_block += 1;
        if self.in_block == BLOCK_FILES || self.block.len() >= BLOCK_FULL {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        let packed = compressor.compress(&self.block)?;
        self.blocks.push(Block {
            offset: self.offset,
            packed: narrow(packed.len())?,
            length: narrow(self.block.len())?,
            digest: Digest::of(&packed),
        });
        self.block.clear();
        self.in_block = 0;
        self.put(&packed)
    }

    fn finish(&mut self) -> io::Result<usize> {
        self.flush()?;
        self.entries.sort_unstable();
        let mut index =
            Vec::with_capacity(self.blocks.len() * BLOCK_LEN + self.entries.len() * ENTRY_LEN);
        for block in &self.blocks {
            index.extend_from_slice(&block.offset.to_le_bytes());
            index.extend_from_slice(&block.packed.to_le_bytes());
            index.extend_from_slice(&block.length.to_le_bytes());
            index.extend_from_slice(block.digest.as_bytes());
        }
        for entry in &self.entries {
            index.extend_from_slice(&entry.serial);
            for number in [entry.block, entry.offset, entry.length] {
                index.extend_from_slice(&number.to_le_bytes());
            }
            index.extend_from_slice(&entry.check);
        }
        let mut footer = Vec::with_capacity(FOOTER_LEN);
        footer.extend_from_slice(&self.offset.to_le_bytes());
        footer.extend_from_slice(&self.through.to_le_bytes());
        footer.extend_from_slice(&narrow(self.blocks.len())?.to_le_bytes());
        footer.extend_from_slice(&narrow(self.entries.len())?.to_le_bytes());
        footer.extend_from_slice(Digest::of(&index).as_bytes());
        let check = Digest::of(&footer);
        footer.extend_from_slice(&check.as_bytes()[..FOOTER_CHECK_LEN]);
        self.frame(SKIPPABLE[1], &index)?;
        self.frame(SKIPPABLE[2], &footer)?;
        Ok(self.entries.len())
    }

    /// Writes a frame that decompressors skip.
    fn frame(&mut self, magic: u32, content: &[u8]) -> io::Result<()> {
        self.put(&frame_header(magic, content.len()))?;
        self.put(content)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// A pack that can be read.
pub struct Pack {
    path: PathBuf,
    file: File,
    index_at: u64,
    index_digest: Digest,
    through: i64,
    blocks: usize,
    entries: usize,
    /// The lowest and the highest serial.
    range: Option<([u8; SERIAL_LEN], [u8; SERIAL_LEN])>,
    /// The block that was read last: the next lookup is often in it too.
    last: Option<(u32, Vec<u8>)>,
}

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pack({}, {} files)", self.path.display(), self.entries)
    }
}

impl Pack {
    /// Opens a pack and reads its footer.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path).map_err(Fault::disk("read", path))?;
        let length = file.metadata().map_err(Fault::disk("read", path))?.len();
        let mut pack = Self {
            path: path.to_owned(),
            file,
            index_at: 0,
            index_digest: Digest::of(b""),
            through: 0,
            blocks: 0,
            entries: 0,
            range: None,
            last: None,
        };
        let title_len = (FRAME_HEADER_LEN + TITLE.len()) as u64;
        let tail_len = (FRAME_HEADER_LEN + FOOTER_LEN) as u64;
        if length < title_len + tail_len {
            return Err(pack.damaged("it is cut"));
        }
        let title = [&frame_header(SKIPPABLE[0], TITLE.len())[..], TITLE].concat();
        if pack.read(0, title.len())? != title {
            return Err(pack.damaged("it does not begin as a pack does"));
        }
        let tail = pack.read(length - tail_len, tail_len as usize)?;
        let (header, footer) = tail.split_at(FRAME_HEADER_LEN);
        let (counts, check) = footer.split_at(FOOTER_LEN - FOOTER_CHECK_LEN);
        if header != frame_header(SKIPPABLE[2], FOOTER_LEN)
            || Digest::of(counts).as_bytes()[..check.len()] != *check
        {
            return Err(pack.damaged("its footer is broken"));
        }
        pack.index_at = u64_at(counts, 0);
        pack.through = u64_at(counts, 8).cast_signed();
        pack.blocks = u32_at(counts, 16) as usize;
        pack.entries = u32_at(counts, 20) as usize;
        pack.index_digest = Digest::from_bytes(counts[24..].try_into().expect("32 of 56 octets"));
        let index_len = (pack.blocks * BLOCK_LEN + pack.entries * ENTRY_LEN) as u64;
        if pack.entries == 0
            || pack.entries > FILES_MAX
            || pack.blocks > pack.entries
            || pack.index_at.saturating_add(FRAME_HEADER_LEN as u64 + index_len + tail_len)
                != length
        {
            return Err(pack.damaged("its footer does not fit its length"));
        }
        pack.range = Some((pack.entry(0)?.serial, pack.entry(pack.entries - 1)?.serial));
        Ok(pack)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many files it has.
    pub fn count(&self) -> usize {
        self.entries
    }

    /// Everything up to this number of the ledger is in this pack or those before.
    pub fn through(&self) -> i64 {
        self.through
    }

    /// The file with this serial.
    pub fn find(&mut self, serial: &Serial) -> Result<Option<Vec<u8>>, Fault> {
        let wanted = key(serial);
        if self.range.is_none_or(|(first, last)| wanted < first || last < wanted) {
            return Ok(None);
        }
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            match entry.serial.cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.content(&entry).map(Some),
            }
        }
        Ok(None)
    }

    /// Reads all of it, in the order in which it was written. A block that is broken does not
    /// hide the others: `visit` gets the fault in the place of its files.
    pub fn for_each(
        &mut self,
        mut visit: impl FnMut(&Serial, Result<&[u8], Fault>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut entries =
            (0..self.entries).map(|at| self.entry(at)).collect::<Result<Vec<_>, _>>()?;
        entries.sort_unstable_by_key(|entry| (entry.block, entry.offset));
        for entry in entries {
            let serial = Serial::from_magnitude(&entry.serial)
                .map_err(|_| self.damaged("an entry has no serial"))?;
            match self.content(&entry) {
                Ok(content) => visit(&serial, Ok(&content))?,
                Err(fault) => visit(&serial, Err(fault))?,
            }
        }
        Ok(())
    }

    /// Reads everything once and compares every digest and every place.
    pub fn check(&mut self) -> Result<(), Fault> {
        let index = self.read(
            self.index_at,
            FRAME_HEADER_LEN + self.blocks * BLOCK_LEN + self.entries * ENTRY_LEN,
        )?;
        let (header, index) = index.split_at(FRAME_HEADER_LEN);
        if header != frame_header(SKIPPABLE[1], index.len())
            || Digest::of(index) != self.index_digest
        {
            return Err(self.damaged("its index is broken"));
        }
        let mut next = (FRAME_HEADER_LEN + TITLE.len()) as u64;
        for number in 0..self.blocks {
            let block = self.block(number as u32)?;
            if block.offset != next {
                return Err(self.damaged("its blocks do not follow each other"));
            }
            next += u64::from(block.packed);
        }
        if next != self.index_at {
            return Err(self.damaged("its index does not follow its blocks"));
        }
        let mut before: Option<Entry> = None;
        for at in 0..self.entries {
            let entry = self.entry(at)?;
            if before.is_some_and(|before| before.serial >= entry.serial) {
                return Err(self.damaged("its index is out of order"));
            }
            before = Some(entry);
        }
        self.for_each(|_, content| content.map(drop))
    }

    fn content(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        if self.last.as_ref().is_none_or(|(number, _)| *number != entry.block) {
            let block = self.block(entry.block)?;
            let whole = self.read_block(&block, entry.block)?;
            self.last = Some((entry.block, whole));
        }
        let whole = self.last.as_ref().map(|(_, whole)| whole.as_slice()).unwrap_or_default();
        let from = entry.offset as usize;
        let content = whole.get(from..from.saturating_add(entry.length as usize));
        let right = content.filter(|content| check(&entry.serial, content) == entry.check);
        Ok(right.ok_or_else(|| self.damaged("an entry does not fit its block"))?.to_vec())
    }

    fn read_block(&self, block: &Block, number: u32) -> Result<Vec<u8>, Fault> {
        let (packed, length) = (block.packed as usize, block.length as usize);
        let end = block.offset.saturating_add(u64::from(block.packed));
        if length > BLOCK_MAX || end > self.index_at {
            return Err(self.broken_block(number));
        }
        let packed = self.read(block.offset, packed)?;
        if Digest::of(&packed) != block.digest {
            return Err(self.broken_block(number));
        }
        let whole = zstd::bulk::decompress(&packed, length);
        whole.ok().filter(|whole| whole.len() == length).ok_or_else(|| self.broken_block(number))
    }

    fn block(&self, number: u32) -> Result<Block, Fault> {
        if number as usize >= self.blocks {
            return Err(self.damaged("an entry names no block"));
        }
        let at = self.index_at + (FRAME_HEADER_LEN + number as usize * BLOCK_LEN) as u64;
        let bytes = self.read(at, BLOCK_LEN)?;
        Ok(Block {
            offset: u64_at(&bytes, 0),
            packed: u32_at(&bytes, 8),
            length: u32_at(&bytes, 12),
            digest: Digest::from_bytes(bytes[16..48].try_into().expect("32 of 48 octets")),
        })
    }

    fn entry(&self, at: usize) -> Result<Entry, Fault> {
        let skipped = FRAME_HEADER_LEN + self.blocks * BLOCK_LEN + at * ENTRY_LEN;
        let bytes = self.read(self.index_at + skipped as u64, ENTRY_LEN)?;
        Ok(Entry {
            serial: bytes[..SERIAL_LEN].try_into().expect("20 of 36 octets"),
            block: u32_at(&bytes, 20),
            offset: u32_at(&bytes, 24),
            length: u32_at(&bytes, 28),
            check: bytes[32..].try_into().expect("4 of 36 octets"),
        })
    }

    fn read(&self, at: u64, length: usize) -> Result<Vec<u8>, Fault> {
        // Lengths come from a footer that fits the file, or are checked against it.
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).map_err(Fault::disk("read", &self.path))?;
        Ok(bytes)
    }

    fn broken_block(&self, number: u32) -> Fault {
        self.damaged(&format!("its block {number} is broken"))
    }

    fn damaged(&self, why: &str) -> Fault {
        Fault::Damaged { what: self.path.display().to_string(), why: why.to_owned() }
    }
}

/// A serial as the index has it: its magnitude, with zero octets in front.
fn key(serial: &Serial) -> [u8; SERIAL_LEN] {
    let octets = serial.as_octets();
    let mut key = [0; SERIAL_LEN];
    key[SERIAL_LEN - octets.len()..].copy_from_slice(octets);
    key
}

/// What an entry keeps of its file, so that a lookup never answers with other bytes.
fn check(serial: &[u8; SERIAL_LEN], content: &[u8]) -> [u8; CHECK_LEN] {
    let digest = Digest::of(&[&serial[..], content].concat());
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&digest.as_bytes()[..CHECK_LEN]);
    check
}

fn frame_header(magic: u32, length: usize) -> [u8; FRAME_HEADER_LEN] {
    let mut header = [0; FRAME_HEADER_LEN];
    header[..4].copy_from_slice(&magic.to_le_bytes());
    // Every frame of ours is bounded far below 4 GiB: an index by FILES_MAX.
    header[4..].copy_from_slice(&(length as u32).to_le_bytes());
    header
}

fn narrow(number: usize) -> io::Result<u32> {
    u32::try_from(number).map_err(|_| io::Error::other("a pack is too large"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 octets"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 octets"))
}
