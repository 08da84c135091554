//! The CRL files: the verified ones that are published, and the unfinished transfers.
//!
//! `DIR/crl/NAME.crl` and `NAME.pem` change only by rename, and only to a [`VerifiedCrl`]; beside
//! the full CRL `NAME.delta.crl` and `NAME.shard-07.crl`, where the signer makes them.
//! Nothing in `partial/` is ever published as it is.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use protocol::{codec, message::Digest};
use serde::{Deserialize, Serialize};

use crate::{
    crl::{
        CRL_MAX, CrlName,
        list::{self, Facts, VerifiedCrl},
    },
    durable::{self, NotWritten, Unfinished},
    home::Home,
    pem,
};

/// A file of the mirror could not be read or written: a full or broken disk.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{path}`; check the disk and the rights on DIR/crl")]
pub struct MirrorError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl From<NotWritten> for MirrorError {
    fn from(NotWritten { what, path, source }: NotWritten) -> Self {
        Self { what, path, source }
    }
}

/// The directory of CRLs.
#[derive(Debug)]
pub struct Mirror {
    directory: PathBuf,
    partial: PathBuf,
    held: BTreeMap<CrlName, Option<Facts>>,
}

/// What is being transferred: all of a piece's header but its place. // stored
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The CRL's number.
    pub crl_number: u64,
    /// The CRL's digest.
    pub crl_digest: Digest,
    /// The CRL's length.
    pub crl_length: u64,
    /// The packed bytes' digest: the name of the transfer.
    pub packed_digest: Digest,
    /// The packed bytes' length.
    pub packed_length: u64,
    /// Against which CRL it is packed, as far as we asked.
    pub have: Option<Digest>,
}

impl Mirror {
    /// The mirror in `home`.
    pub fn new(home: &Home) -> Self {
        let held = BTreeMap::new();
        Self { directory: home.crl_dir(), partial: home.partial_dir(), held }
    }

    /// The CRL in place, DER, if there is one.
    pub fn read(&self, name: impl Into<CrlName>) -> Result<Option<Vec<u8>>, MirrorError> {
        read_if_there(&self.crl_path(name))
    }

    /// What the CRL in place says about itself. One that cannot be parsed counts as none, so
    /// that the next one repairs it.
    pub fn held(&mut self, name: impl Into<CrlName>) -> Result<Option<Facts>, MirrorError> {
        let name = name.into();
        if let Some(known) = self.held.get(&name) {
            return Ok(known.clone());
        }
        let facts = self.read(&name)?.and_then(|bytes| list::inspect(&bytes).ok());
        self.held.insert(name.clone(), facts.clone());
        Ok(facts)
    }

    /// Publishes `crl`: written beside the old one, on disk, then renamed over it.
    pub fn install(&mut self, name: &CrlName, crl: &VerifiedCrl) -> Result<(), MirrorError> {
        let text = pem::write("X509 CRL", crl.bytes());
        let files = [(self.crl_path(name), crl.bytes()), (self.pem_path(name), text.as_bytes())];
        let mut written = Vec::new();
        for (path, bytes) in &files {
            let new = Unfinished::create(path, "new", durable::PRIVATE)?;
            new.fill(bytes)?;
            written.push(new);
        }
        for new in written {
            new.put_in_place()?;
        }
        durable::sync_directory(&files[0].0)?;
        self.held.insert(name.clone(), Some(crl.facts().clone()));
        Ok(())
    }

    /// Writes `NAME.pem` anew if it is not the text of `NAME.crl`: a kill can fall between the
    /// two renames.
    pub fn repair(&self, name: &CrlName) -> Result<(), MirrorError> {
        let Some(der) = self.read(name)? else { return Ok(()) };
        let text = pem::write("X509 CRL", &der);
        let path = self.pem_path(name);
        if read_if_there(&path)?.as_deref() == Some(text.as_bytes()) {
            return Ok(());
        }
        Ok(durable::replace(&path, text.as_bytes(), durable::PRIVATE)?)
    }

    /// Where the published CRL is.
    pub fn crl_path(&self, name: impl Into<CrlName>) -> PathBuf {
        let name = name.into();
        self.directory.join(format!("{name}.crl"))
    }

    fn pem_path(&self, name: &CrlName) -> PathBuf {
        self.directory.join(format!("{name}.pem"))
    }

    //--- Unfinished transfers

    /// The unfinished transfer of `name` and how many bytes of it are there.
    pub fn unfinished(&self, name: &CrlName) -> Result<Option<(Transfer, u64)>, MirrorError> {
        let Some(head) = read_if_there(&self.head_path(name))? else { return Ok(None) };
        let Ok(transfer) = codec::decode::<Transfer, HEAD_MAX>(&head) else { return Ok(None) };
        let length = match fs::metadata(self.part_path(name)) {
            Ok(metadata) => metadata.len(),
            Err(_) => return Ok(None),
        };
        let sane = length <= transfer.packed_length && transfer.packed_length <= CRL_MAX;
        Ok(sane.then_some((transfer, length)))
    }

    /// Starts a transfer from nothing.
    pub fn begin(&self, name: &CrlName, transfer: &Transfer) -> Result<(), MirrorError> {
        self.discard(name)?;
        let part = self.part_path(name);
        File::create(&part).map_err(failed("make", &part))?;
        let head = self.head_path(name);
        // A transfer has fixed-size fields only; it always has an encoding.
        let bytes = codec::encode(transfer).unwrap_or_default();
        fs::write(&head, bytes).map_err(failed("write", &head))
    }

    /// Adds the next bytes. They need not survive a power cut: the digest tells.
    pub fn append(&self, name: &CrlName, bytes: &[u8]) -> Result<(), MirrorError> {
        let path = self.part_path(name);
        let file = File::options().append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(bytes));
        written.map_err(failed("write", &path))
    }

    /// All bytes of the transfer so far.
    pub fn packed(&self, name: &CrlName) -> Result<Vec<u8>, MirrorError> {
        let path = self.part_path(name);
        fs::read(&path).map_err(failed("read", &path))
    }

    /// Forgets the transfer.
    pub fn discard(&self, name: &CrlName) -> Result<(), MirrorError> {
        for path in [self.head_path(name), self.part_path(name)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn head_path(&self, name: &CrlName) -> PathBuf {
        self.partial.join(format!("{name}.head"))
    }

    fn part_path(&self, name: &CrlName) -> PathBuf {
        self.partial.join(format!("{name}.part"))
    }
}

/// Two digests, two numbers of 10 bytes at most each, and an option.
const HEAD_MAX: usize = 256;

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MirrorError {
    let path = path.to_owned();
    move |source| MirrorError { what, path, source }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, MirrorError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crl::list::tests::{authority, checked},
        test_ca::TestCa,
    };

    #[test]
    fn the_published_pair_is_one_crl_also_after_a_kill_between_the_renames() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(dir.path()).unwrap();
        let ca = TestCa::new("CA");
        let authority = authority(&ca);
        let name = CrlName::from(&"issuing".parse::<protocol::message::Name>().unwrap());
        let mut mirror = Mirror::new(&home);
        assert_eq!(mirror.held(&name).unwrap(), None);
        let first = checked(ca.crl(1, &[]), &authority, 1);
        mirror.install(&name, &first).unwrap();
        let old_pem = fs::read(mirror.pem_path(&name)).unwrap();
        let second = checked(ca.crl(2, &[5]), &authority, 2);
        mirror.install(&name, &second).unwrap();

        fs::write(mirror.pem_path(&name), &old_pem).unwrap();
        let mut mirror = Mirror::new(&home);
        mirror.repair(&name).unwrap();
        assert_eq!(mirror.held(&name).unwrap().unwrap().number, 2);
        let text = fs::read(mirror.pem_path(&name)).unwrap();
        assert_eq!(pem::only_block(&text, &["X509 CRL"]).unwrap(), second.bytes());
        let files = fs::read_dir(home.crl_dir()).unwrap().count();
        assert_eq!(files, 3, "two files and partial/, no work file");
    }

    #[test]
    fn a_damaged_file_in_place_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(dir.path()).unwrap();
        let name = CrlName::from(&"issuing".parse::<protocol::message::Name>().unwrap());
        let mut mirror = Mirror::new(&home);
        fs::write(mirror.crl_path(&name), b"rotten").unwrap();
        assert_eq!(mirror.held(&name).unwrap(), None);
    }
}
