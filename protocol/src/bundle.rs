//! Bundles: what the cable would carry, as a file on a medium.
//!
//! A bundle holds messages of one direction, sealed for the paired peer. [`Writer`] makes one and
//! [`Reader`] takes one apart, record by record, so neither needs more memory than a record and a
//! message. A reader exists only of a bundle that was read once from end to end and is whole,
//! undamaged and from the peer: whoever acts on a bundle never finds its second half missing.
//!
//! It reads and writes what the caller opened, and knows nothing of bundles before this one: who
//! keeps the numbers refuses what is old. // stored

use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};

use openssl::sha::Sha256;

use crate::{
    link::Side,
    message::{Digest, MESSAGE_MAX},
    secure::{
        Entropy, Failure, Opener, Pairing, SEALED_HANDSHAKE_LEN, SEALED_OVERHEAD,
        SEALED_RECORD_MAX, Sealer,
    },
};

/// What a bundle says in the clear. It is bound to what is sealed, so it cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Who wrote it.
    pub from: Side,
    /// Its number: the writer never uses one twice and never a lower one.
    pub number: u64,
    /// Of answers: the bundle that they answer. Of requests: the last bundle of answers that the
    /// frontend took in; 0 before the first.
    pub answers: u64,
}

/// Why a file is not taken as a bundle. Nothing of it was acted on.
#[derive(Debug, thiserror::Error)]
pub enum BadBundle {
    /// The medium could not be read.
    #[error("it cannot be read: {0}; try again, then another medium")]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("it is no bundle; name a file that `bundle export` or `bundle answer` wrote")]
    Foreign,
    /// Another version of the program wrote it.
    #[error("it has version {0}, and this program knows version {VERSION}; upgrade the older side")]
    Version(u8),
    /// The medium was full, or was pulled out too early.
    #[error(
        "it was cut off: it has {actual} bytes of {expected}; write it again on a medium with room, \
         and unmount that before you pull it out"
    )]
    CutOff {
        /// What it says.
        expected: u64,
        /// What is there.
        actual: u64,
    },
    /// It is larger than any bundle.
    #[error("it has {0} bytes, and a bundle has at most {BUNDLE_MAX}")]
    TooLarge(u64),
    /// Some byte is another.
    #[error("it is damaged: its checksum is wrong; copy it again, or write it again")]
    Damaged,
    /// Requests where answers are expected, or the reverse.
    #[error("it holds {found}, and {wanted} are expected; take the other file")]
    Direction {
        /// What it holds.
        found: &'static str,
        /// What is expected.
        wanted: &'static str,
    },
    /// It was sealed for or by somebody else.
    #[error(
        "it was sealed under another pairing; compare fingerprints with `signer pair --show` and \
         `frontend pair --show`"
    )]
    OtherPairing,
    /// Its checksum is right, but the paired peer did not seal it so.
    #[error(
        "it does not open: the paired side did not write it so; find out who had the medium in \
         hand"
    )]
    Forged,
    /// The peer sealed what no correct program seals.
    #[error("it opens and makes no sense: {0}; report it")]
    Malformed(&'static str),
}

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The medium did not take it.
    #[error("it cannot be written: {0}; take a medium with room")]
    Io(#[from] io::Error),
    /// The bundle has as much as it may have.
    #[error("a bundle has at most {BUNDLE_MAX} bytes")]
    Full,
    /// The cryptography failed.
    #[error("it cannot be sealed: {0}")]
    Unsealable(#[from] Failure),
}

/// The longest bundle: half of the smallest sticks that are sold, and forty large CRLs.
pub const BUNDLE_MAX: u64 = 256 << 20;
/// The version of the layout below.
pub const VERSION: u8 = 1;
/// The first bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"ISBUNDLE";
/// The most that is sealed at once; the file is read and written in pieces of this size.
pub const PIECE_LEN: usize = 16 * 1024;

const _: () = assert!(PIECE_LEN <= SEALED_RECORD_MAX);

/// Magic, version, direction, number, answered number, pairing: what is bound to the sealed part.
const BOUND_LEN: usize = 8 + 1 + 1 + 8 + 8 + PAIRING_LEN;
/// And the length of the file, and the SHA-256 of all behind the header.
const HEADER_LEN: usize = BOUND_LEN + 8 + 32;
/// So much of the SHA-256 of both public keys names a pairing.
const PAIRING_LEN: usize = 8;
/// In front of each record.
const LENGTH_LEN: usize = 4;
/// In front of each message.
const MESSAGE_LENGTH_LEN: usize = 4;
/// The first byte of a record's content: more follow.
const MORE: u8 = 0;
/// The first byte of the last record's content.
const LAST: u8 = 1;

impl Head {
    /// The bytes that are bound to the sealed part.
    fn bound(&self, pairing: [u8; PAIRING_LEN]) -> [u8; BOUND_LEN] {
        let mut bytes = [0; BOUND_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = VERSION;
        bytes[9] = direction(self.from);
        bytes[10..18].copy_from_slice(&self.number.to_le_bytes());
        bytes[18..26].copy_from_slice(&self.answers.to_le_bytes());
        bytes[26..].copy_from_slice(&pairing);
        bytes
    }
}

fn direction(from: Side) -> u8 {
    match from {
        Side::Frontend => 1,
        Side::Signer => 2,
    }
}

fn contents(from: Side) -> &'static str {
    match from {
        Side::Frontend => "requests",
        Side::Signer => "answers",
    }
}

/// The same name at both ends: the SHA-256 of the frontend's public key and the signer's.
fn pairing_name(pairing: &Pairing, our: Side) -> [u8; PAIRING_LEN] {
    let own = pairing.secret.public();
    let (frontend, signer) = match our {
        Side::Frontend => (&own, &pairing.peer),
        Side::Signer => (&pairing.peer, &own),
    };
    let digest = Digest::of(&[frontend.0, signer.0].concat());
    digest.as_bytes().first_chunk().copied().unwrap_or_default() // 32 are more than 8
}

//------------ Writer --------------------------------------------------------

/// A bundle that is being written. It is none before [`Writer::finish`].
pub struct Writer<W> {
    file: W,
    bound: [u8; BOUND_LEN],
    sealer: Sealer,
    /// The content of the next record, its first byte included.
    content: Vec<u8>,
    hash: Sha256,
    length: u64,
}

/// A bundle that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// How many bytes the file has.
    pub length: u64,
    /// The SHA-256 of all behind its header.
    pub digest: Digest,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a bundle in an empty file.
    pub fn begin(
        mut file: W,
        head: &Head,
        pairing: &Pairing,
        entropy: &Entropy,
    ) -> Result<Self, BundleError> {
        let bound = head.bound(pairing_name(pairing, head.from));
        let (sealer, handshake) = Sealer::new(pairing, entropy, &bound)?;
        file.write_all(&[0; HEADER_LEN])?;
        let length = HEADER_LEN as u64;
        let mut writer =
            Self { file, bound, sealer, content: vec![MORE], hash: Sha256::new(), length };
        writer.put(&handshake)?;
        Ok(writer)
    }

    /// Whether a message of `length` bytes fits.
    pub fn has_room(&self, length: usize) -> bool {
        let records = (self.content.len() + MESSAGE_LENGTH_LEN + length) / (PIECE_LEN - 1) + 1;
        let sealed = records * (PIECE_LEN + SEALED_OVERHEAD + LENGTH_LEN);
        self.length.saturating_add(sealed as u64) <= BUNDLE_MAX
    }

    /// Adds the encoding of a message.
    pub fn add(&mut self, message: &[u8]) -> Result<(), BundleError> {
        if !self.has_room(message.len()) {
            return Err(BundleError::Full);
        }
        let length = u32::try_from(message.len()).map_err(|_| BundleError::Full)?;
        self.content.extend_from_slice(&length.to_le_bytes());
        self.content.extend_from_slice(message);
        while self.content.len() > PIECE_LEN {
            let rest = self.content.split_off(PIECE_LEN);
            self.seal()?;
            self.content.extend_from_slice(&rest);
        }
        Ok(())
    }

    /// Writes the end and the header. The caller syncs the file.
    pub fn finish(mut self) -> Result<(W, Written), BundleError> {
        self.content[0] = LAST;
        self.seal()?;
        let digest = Digest::from_bytes(self.hash.finish());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&self.bound)?;
        self.file.write_all(&self.length.to_le_bytes())?;
        self.file.write_all(digest.as_bytes())?;
        self.file.flush()?;
        Ok((self.file, Written { length: self.length, digest }))
    }

    fn seal(&mut self) -> Result<(), BundleError> {
        let sealed = self.sealer.seal(&self.content)?;
        self.content.clear();
        self.content.push(MORE);
        let length = u32::try_from(sealed.len()).map_err(|_| BundleError::Full)?;
        self.put(&length.to_le_bytes())?;
        self.put(&sealed)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl<W> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({} bytes)", self.length)
    }
}

//------------ Reader --------------------------------------------------------

/// A whole bundle from the peer, of which the messages are taken one by one.
pub struct Reader<R> {
    file: R,
    head: Head,
    digest: Digest,
    messages: u64,
    opener: Opener,
    /// What was opened and not given out.
    content: Vec<u8>,
    ended: bool,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the file from end to end, and opens it if all of it is right. `our` is the reader's
    /// side.
    pub fn open(mut file: R, pairing: &Pairing, our: Side) -> Result<Self, BadBundle> {
        let header = Header::read(&mut file)?;
        let head = header.check(pairing, our)?;
        header.check_bytes(&mut file)?;
        let opener = header.opener(&mut file, pairing)?;
        let (digest, content) = (header.digest, Vec::new());
        let mut reader = Self { file, head, digest, messages: 0, opener, content, ended: false };
        // Everything is opened once before anything is given out.
        while reader.next_message()?.is_some() {
            reader.messages += 1;
        }
        reader.opener = header.opener(&mut reader.file, pairing)?;
        reader.ended = false;
        Ok(reader)
    }
}

impl<R: Read> Reader<R> {
    /// What it says of itself.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The SHA-256 of all behind its header: the same file has the same.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many messages it holds.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The encoding of the next message.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, BadBundle> {
        loop {
            if let Some(announced) = self.content.first_chunk::<MESSAGE_LENGTH_LEN>() {
                let length = usize::try_from(u32::from_le_bytes(*announced)).unwrap_or(usize::MAX);
                if length > MESSAGE_MAX {
                    return Err(BadBundle::Malformed("a message is too long"));
                }
                let end = MESSAGE_LENGTH_LEN + length;
                if self.content.len() >= end {
                    let message = self.content[MESSAGE_LENGTH_LEN..end].to_vec();
                    self.content.drain(..end);
                    return Ok(Some(message));
                }
            }
            match (self.ended, self.content.is_empty()) {
                (true, true) => return Ok(None),
                (true, false) => return Err(BadBundle::Malformed("its last message is cut off")),
                (false, _) => self.open_record()?,
            }
        }
    }

    fn open_record(&mut self) -> Result<(), BadBundle> {
        let mut length = [0; LENGTH_LEN];
        self.read(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if !(SEALED_OVERHEAD + 1..=SEALED_OVERHEAD + PIECE_LEN).contains(&length) {
            return Err(BadBundle::Forged);
        }
        let mut sealed = vec![0; length];
        self.read(&mut sealed)?;
        let content = self.opener.open(&sealed).map_err(|_| BadBundle::Forged)?;
        match content.split_first() {
            Some((&MORE, rest)) => self.content.extend_from_slice(rest),
            Some((&LAST, rest)) => {
                self.content.extend_from_slice(rest);
                self.ended = true;
                // The length in the header was checked; here it is whether the records fill it.
                if self.file.read(&mut [0])? != 0 {
                    return Err(BadBundle::Forged);
                }
            }
            _ => return Err(BadBundle::Malformed("a record is of no known kind")),
        }
        Ok(())
    }

    /// The file was whole when it was checked: an end within a record is somebody's doing.
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), BadBundle> {
        self.file.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => BadBundle::Forged,
            _ => BadBundle::Io(error),
        })
    }
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({:?}, {} messages)", self.head, self.messages)
    }
}

/// The clear part of a file, as it claims to be.
struct Header {
    bound: [u8; BOUND_LEN],
    length: u64,
    digest: Digest,
}

impl Header {
    fn read(file: &mut (impl Read + Seek)) -> Result<Self, BadBundle> {
        let actual = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        file.take(HEADER_LEN as u64).read_to_end(&mut bytes)?;
        // An interrupted writer leaves a header of zeros, or less than one.
        if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())])
            && bytes.iter().any(|byte| *byte != 0)
        {
            return Err(BadBundle::Foreign);
        }
        let Ok(bytes) = <[u8; HEADER_LEN]>::try_from(bytes) else {
            return Err(BadBundle::CutOff { expected: HEADER_LEN as u64, actual });
        };
        let header = Self::parse(&bytes);
        if bytes == [0; HEADER_LEN] {
            return Err(BadBundle::CutOff { expected: actual.max(HEADER_LEN as u64), actual: 0 });
        }
        match header.bound[8] {
            VERSION => {}
            other => return Err(BadBundle::Version(other)),
        }
        if header.length > BUNDLE_MAX || actual > BUNDLE_MAX {
            return Err(BadBundle::TooLarge(header.length.max(actual)));
        }
        if actual < header.length {
            return Err(BadBundle::CutOff { expected: header.length, actual });
        }
        Ok(header)
    }

    fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let part = |at: usize| bytes[at..].first_chunk().copied().unwrap_or_default();
        let mut bound = [0; BOUND_LEN];
        bound.copy_from_slice(&bytes[..BOUND_LEN]);
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[BOUND_LEN + 8..]);
        Self {
            bound,
            length: u64::from_le_bytes(part(BOUND_LEN)),
            digest: Digest::from_bytes(digest),
        }
    }

    /// Whether it is for the reader and from its peer, as far as it claims.
    fn check(&self, pairing: &Pairing, our: Side) -> Result<Head, BadBundle> {
        let wanted = match our {
            Side::Frontend => Side::Signer,
            Side::Signer => Side::Frontend,
        };
        let from = match self.bound[9] {
            1 => Side::Frontend,
            2 => Side::Signer,
            _ => return Err(BadBundle::Damaged),
        };
        if from != wanted {
            let (found, wanted) = (contents(from), contents(wanted));
            return Err(BadBundle::Direction { found, wanted });
        }
        if self.bound[26..] != pairing_name(pairing, our) {
            return Err(BadBundle::OtherPairing);
        }
        let number = |at: usize| {
            u64::from_le_bytes(self.bound[at..].first_chunk().copied().unwrap_or_default())
        };
        Ok(Head { from, number: number(10), answers: number(18) })
    }

    /// Whether the bytes behind it are those that were written.
    fn check_bytes(&self, file: &mut (impl Read + Seek)) -> Result<(), BadBundle> {
        file.seek(SeekFrom::Start(HEADER_LEN as u64))?;
        let (mut hash, mut length) = (Sha256::new(), HEADER_LEN as u64);
        let mut piece = vec![0; PIECE_LEN];
        loop {
            let count = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            hash.update(&piece[..count]);
            length += count as u64;
            if length > BUNDLE_MAX {
                return Err(BadBundle::TooLarge(length));
            }
        }
        if length != self.length || Digest::from_bytes(hash.finish()) != self.digest {
            return Err(BadBundle::Damaged);
        }
        Ok(())
    }

    /// Goes to the first record.
    fn opener(
        &self,
        file: &mut (impl Read + Seek),
        pairing: &Pairing,
    ) -> Result<Opener, BadBundle> {
        file.seek(SeekFrom::Start(HEADER_LEN as u64))?;
        let mut handshake = [0; SEALED_HANDSHAKE_LEN];
        file.read_exact(&mut handshake).map_err(|_| BadBundle::Forged)?;
        Opener::new(pairing, &self.bound, &handshake).map_err(|_| BadBundle::Forged)
    }
}

#[cfg(test)]
mod tests;
