//! The compact file of listed keys: written once, then searched where it lies.
//!
//! A header with checksums, then two runs of sorted records of fixed length, one for each way of
//! hashing. A lookup reads a few records at their places and never the file; nothing here maps
//! memory, and no length in the file sizes an allocation but within a bound.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use openssl::sha::Sha256;
use serde::{Deserialize, Serialize};

use super::{
    Hit, Marks,
    marks::{HEAD_LEN, TAIL_LEN},
};
use crate::{durable, fault::Fault};

// stored: a change of anything below is a new version.
//
// | octets | content |
// |---|---|
// | 8 | magic |
// | 4 | version, big-endian like every number here |
// | 4 | length of the sources |
// | 1024 | how many tails have a first octet of at most 0, 1, .. 255 |
// | 1024 | the same of the heads |
// | 32 | SHA-256 of all records |
// | .. | the sources, JSON |
// | 32 | SHA-256 of all above |
// | .. | tails of 10 octets, sorted, then heads of 15 octets with the list number, sorted |
const MAGIC: &[u8; 8] = b"WEAKKEYS";
const VERSION: u32 = 1;
const FANOUT_LEN: usize = 256;
const FIXED_LEN: usize = 8 + 4 + 4 + 2 * 4 * FANOUT_LEN + DIGEST_LEN;
const DIGEST_LEN: usize = 32;
/// The sources of a hundred imports fit a hundredth of this.
pub(super) const SOURCES_MAX: usize = 1_048_576;

/// A record of a tail is the tail.
pub(super) type TailRecord = [u8; TAIL_LEN];
/// A record of a head ends with badkeys' number of the list it was on.
pub(super) type HeadRecord = [u8; HEAD_LEN + 1];

/// Records read at once in a search: a page of the disk.
const BLOCK_RECORDS: u64 = 256;

/// A file that the list was made from. // stored
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name, without the directories.
    pub name: String,
    /// Its SHA-256.
    pub sha256: String,
    /// `openssl-blacklist` or `badkeys`.
    pub format: String,
    /// How many keys it lists.
    pub entries: u64,
}

/// An open list.
#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    file: File,
    tails: Section,
    heads: Section,
    records_digest: [u8; DIGEST_LEN],
    sources: Vec<Source>,
}

impl List {
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path).map_err(Fault::disk("open", path))?;
        let header = Header::read(&file).map_err(Fault::disk("read", path))?;
        let header = header.ok_or_else(|| damaged(path, "its header"))?;
        let records_at = (FIXED_LEN + header.sources.len() + DIGEST_LEN) as u64;
        let tails = Section::new(records_at, TAIL_LEN, header.tails);
        let heads = Section::new(tails.end(), HEAD_LEN + 1, header.heads);
        let length = file.metadata().map_err(Fault::disk("look at", path))?.len();
        if length != heads.end() {
            return Err(damaged(path, "its length"));
        }
        let sources =
            serde_json::from_slice(&header.sources).map_err(|_| damaged(path, "its sources"))?;
        let records_digest = header.records_digest;
        Ok(Self { path: path.to_owned(), file, tails, heads, records_digest, sources })
    }

    pub(super) fn entries(&self) -> u64 {
        self.tails.count() + self.heads.count()
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(super) fn find(&self, marks: &Marks) -> io::Result<Option<Hit>> {
        if let Some(tail) = marks.tail
            && self.tails.find(&self.file, &tail)?.is_some()
        {
            return Ok(Some(Hit::OpenSslBlacklist));
        }
        let record = self.heads.find(&self.file, &marks.head)?;
        Ok(record.map(|record| Hit::BadKeys(record[HEAD_LEN])))
    }

    /// Reads every record; says whether they are those that were written.
    pub(super) fn verify(&self) -> Result<(), Fault> {
        let mut digest = Sha256::new();
        for section in [&self.tails, &self.heads] {
            let read = section.for_each_block(&self.file, |block| digest.update(block));
            read.map_err(Fault::disk("read", &self.path))?;
        }
        match digest.finish() == self.records_digest {
            true => Ok(()),
            false => Err(damaged(&self.path, "a record")),
        }
    }

    /// All records, to be merged with others.
    pub(super) fn read_all(&self) -> Result<(Vec<TailRecord>, Vec<HeadRecord>), Fault> {
        self.verify()?;
        let tails = self.tails.read_all(&self.file).map_err(Fault::disk("read", &self.path))?;
        let heads = self.heads.read_all(&self.file).map_err(Fault::disk("read", &self.path))?;
        Ok((tails, heads))
    }
}

fn damaged(path: &Path, what: &str) -> Fault {
    Fault::Configuration(format!(
        "{} is damaged ({what} is not as it was written); remove it and import the published lists \
         again with `signer blocklist import`",
        path.display()
    ))
}

struct Header {
    tails: [u32; FANOUT_LEN],
    heads: [u32; FANOUT_LEN],
    records_digest: [u8; DIGEST_LEN],
    sources: Vec<u8>,
}

impl Header {
    /// Nothing if it is not as it was written.
    fn read(file: &File) -> io::Result<Option<Self>> {
        let mut fixed = Vec::new();
        Read::take(file, FIXED_LEN as u64).read_to_end(&mut fixed)?;
        let Some((numbers, records_digest)) = fixed.split_last_chunk::<DIGEST_LEN>() else {
            return Ok(None);
        };
        let Some((magic, numbers)) = numbers.split_first_chunk() else { return Ok(None) };
        let mut numbers = numbers.as_chunks().0.iter().map(|octets| u32::from_be_bytes(*octets));
        if magic != MAGIC || numbers.next() != Some(VERSION) {
            return Ok(None);
        }
        let sources_len = numbers.next().unwrap_or(0);
        let mut fanout = || std::array::from_fn(|_| numbers.next().unwrap_or(0));
        let (tails, heads) = (fanout(), fanout());
        // However long the sources claim to be: what is not there is not read.
        let mut rest = Vec::new();
        Read::take(file, u64::from(sources_len) + DIGEST_LEN as u64).read_to_end(&mut rest)?;
        let Some((sources, digest)) = rest.split_last_chunk::<DIGEST_LEN>() else {
            return Ok(None);
        };
        let mut expected = Sha256::new();
        expected.update(&fixed);
        expected.update(sources);
        if expected.finish() != *digest {
            return Ok(None);
        }
        let (records_digest, sources) = (*records_digest, sources.to_vec());
        Ok(Some(Self { tails, heads, records_digest, sources }))
    }
}

/// Sorted records of one length.
#[derive(Debug)]
struct Section {
    offset: u64,
    width: usize,
    /// How many records have a first octet of at most the index.
    fanout: [u32; FANOUT_LEN],
}

impl Section {
    fn new(offset: u64, width: usize, fanout: [u32; FANOUT_LEN]) -> Self {
        Self { offset, width, fanout }
    }

    fn count(&self) -> u64 {
        self.fanout[FANOUT_LEN - 1].into()
    }

    fn end(&self) -> u64 {
        self.at(self.count())
    }

    fn at(&self, index: u64) -> u64 {
        self.offset + index * self.width as u64
    }

    /// The record that begins with `key`, from a file.
    fn find(&self, file: &File, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.search(key, |block, at| file.read_exact_at(block, at))
    }

    /// Hashes are spread evenly, so the first block is read where the key ought to be, and is
    /// nearly always the right one; then it goes on by halves.
    fn search(
        &self,
        key: &[u8],
        mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
    ) -> io::Result<Option<Vec<u8>>> {
        let first = usize::from(key[0]);
        let mut low = first.checked_sub(1).map_or(0, |before| u64::from(self.fanout[before]));
        let mut high = u64::from(self.fanout[first]);
        let within = u64::from(u16::from_be_bytes([key[1], key[2]]));
        let mut guess = low + (high.saturating_sub(low) * within) / 65_536;
        let mut block = Vec::new();
        while low < high {
            let from = guess.saturating_sub(BLOCK_RECORDS / 2).max(low);
            let to = high.min(from + BLOCK_RECORDS);
            block.resize((to - from) as usize * self.width, 0);
            read(&mut block, self.at(from))?;
            let mut records = block.chunks_exact(self.width);
            match records.clone().position(|record| record[..key.len()] >= *key) {
                None => low = to,
                Some(place) => {
                    let record = records.nth(place).filter(|record| record.starts_with(key));
                    // Behind a smaller record of the same block, it could be nowhere else.
                    if record.is_some() || place > 0 {
                        return Ok(record.map(<[u8]>::to_vec));
                    }
                    high = from;
                }
            }
            guess = low + high.saturating_sub(low) / 2;
        }
        Ok(None)
    }

    fn read_all<const WIDTH: usize>(&self, file: &File) -> io::Result<Vec<[u8; WIDTH]>> {
        let mut records = Vec::new();
        self.for_each_block(file, |block| records.extend_from_slice(block.as_chunks().0))?;
        Ok(records)
    }

    fn for_each_block(&self, file: &File, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        let mut block = Vec::new();
        for index in (0..self.count()).step_by(BLOCK_RECORDS as usize) {
            let count = BLOCK_RECORDS.min(self.count() - index);
            block.resize(count as usize * self.width, 0);
            file.read_exact_at(&mut block, self.at(index))?;
            visit(&block);
        }
        Ok(())
    }
}

/// Writes a list in place of the one at `path`; the records must be sorted, each once.
pub(super) fn write(
    path: &Path,
    tails: &[TailRecord],
    heads: &[HeadRecord],
    sources: &[Source],
) -> Result<(), Fault> {
    debug_assert!(tails.is_sorted() && heads.is_sorted(), "a search needs an order");
    let sources = serde_json::to_vec(sources)
        .map_err(|error| Fault::Internal(format!("the sources of a list: {error}")))?;
    if sources.len() > SOURCES_MAX {
        return Err(Fault::Configuration(
            "the list was made from more files than it can name; remove it and import fewer, \
             larger files"
                .into(),
        ));
    }
    let mut records_digest = Sha256::new();
    records_digest.update(tails.as_flattened());
    records_digest.update(heads.as_flattened());
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_be_bytes());
    header.extend_from_slice(&(sources.len() as u32).to_be_bytes());
    for count in fanout(tails).into_iter().chain(fanout(heads)) {
        header.extend_from_slice(&count.to_be_bytes());
    }
    header.extend_from_slice(&records_digest.finish());
    header.extend_from_slice(&sources);
    let digest = openssl::sha::sha256(&header);
    header.extend_from_slice(&digest);
    durable::replace_with(path, 0o644, |file| {
        file.write_all(&header)?;
        file.write_all(tails.as_flattened())?;
        file.write_all(heads.as_flattened())
    })
}

fn fanout<const WIDTH: usize>(records: &[[u8; WIDTH]]) -> [u32; FANOUT_LEN] {
    let mut counts = [0; FANOUT_LEN];
    for record in records {
        counts[usize::from(record[0])] += 1;
    }
    let mut sum = 0;
    counts.map(|count: u32| {
        sum += count;
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for a key among records that are computed, and counts the reads.
    fn reads(
        section: &Section,
        key: TailRecord,
        record: impl Fn(u64) -> TailRecord,
    ) -> (bool, u32) {
        let mut count = 0;
        let found = section.search(&key, |block, at| {
            count += 1;
            for (place, octets) in block.as_chunks_mut::<TAIL_LEN>().0.iter_mut().enumerate() {
                *octets = record((at - section.offset) / TAIL_LEN as u64 + place as u64);
            }
            Ok(())
        });
        let found = found.unwrap();
        assert!(found.as_deref().is_none_or(|found| found == key));
        (found.is_some(), count)
    }

    fn spread(index: u64, step: u64) -> TailRecord {
        let mut record = TailRecord::default();
        record[..8].copy_from_slice(&(index * step).to_be_bytes());
        record
    }

    #[test]
    fn key_is_found_in_one_read_where_hashes_are_spread_evenly() {
        const STEP: u64 = 1 << 42; // 4,194,304 records
        let fanout = std::array::from_fn(|first| (first as u32 + 1) << 14);
        let section = Section::new(4_711, TAIL_LEN, fanout);
        assert_eq!(section.end(), 4_711 + (1 << 22) * 10);
        for index in (0..1 << 22).step_by(3_001) {
            let key = spread(index, STEP);
            assert_eq!(reads(&section, key, |index| spread(index, STEP)), (true, 1), "{index}");
            let mut other = key;
            other[9] = 1;
            let (found, count) = reads(&section, other, |index| spread(index, STEP));
            assert!(!found && count <= 2, "{index}");
        }
    }

    #[test]
    fn key_is_found_by_halves_where_hashes_are_not_spread() {
        // 65,536 records that differ in the last octets alone.
        let record = |index: u64| {
            let mut record = [7; TAIL_LEN];
            record[6..].copy_from_slice(&(2 * index as u32).to_be_bytes());
            record
        };
        let fanout = std::array::from_fn(|first| if first < 7 { 0 } else { 65_536 });
        let section = Section::new(0, TAIL_LEN, fanout);
        let mut most = 0;
        for index in (0..65_536).chain([65_535]).step_by(61) {
            let (found, count) = reads(&section, record(index), record);
            assert!(found, "{index}");
            most = most.max(count);
            let mut between = record(index);
            between[9] += 1;
            assert!(!reads(&section, between, record).0, "{index}");
        }
        // The guess, then 65,536 records down to a block of 256.
        assert!(most <= 10, "{most}");
        for outside in [[7; TAIL_LEN], [6; TAIL_LEN], [8; TAIL_LEN], [0; TAIL_LEN]] {
            assert!(!reads(&section, outside, record).0);
        }
    }
}
