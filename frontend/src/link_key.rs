//! The files by which this frontend and its signer know each other on the cable.
//!
//! ```text
//! DIR/link/secret   our own key, for its owner's eyes only
//! DIR/link/peer     the signer's public key; absent while this frontend is not paired
//! ```
//! `frontend init` makes the secret, `frontend pair` the rest. Nothing that comes over the cable
//! reaches this room.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use protocol::secure::{Entropy, NotAKey, NotASecret, Pairing, PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::durable::{self, NotWritten};

/// Why the keys of the cable cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkKeyError {
    /// Nobody told this frontend which signer is its own.
    #[error(
        "this frontend is not paired, so it talks to nobody: type the key that `signer pair \
         --show` prints with `frontend pair --peer KEY`"
    )]
    NotPaired,
    /// A file could not be read or written.
    #[error("cannot {what} `{path}`; check that DIR exists, is mounted and belongs to you")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The secret is damaged.
    #[error("`{path}` is damaged; if there is no backup, remove it and pair anew")]
    Secret {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: NotASecret,
    },
    /// The signer's key is damaged.
    #[error("`{path}` is damaged; pair anew with `frontend pair --peer KEY --replace`")]
    Peer {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: NotAKey,
    },
}

impl From<NotWritten> for LinkKeyError {
    fn from(NotWritten { what, path, source }: NotWritten) -> Self {
        Self::Io { what, path, source }
    }
}

/// The keys of the cable in a frontend's directory.
#[derive(Clone, Debug)]
pub struct LinkKeys {
    directory: PathBuf,
}

impl LinkKeys {
    /// Those in the frontend's directory `root`.
    pub fn new(root: &Path) -> Self {
        Self { directory: root.join("link") }
    }

    /// This frontend's own key; makes one where there is none, as in a directory of an earlier
    /// version.
    pub fn own(&self, entropy: &Entropy) -> Result<SecretKey, LinkKeyError> {
        match self.secret()? {
            Some(secret) => Ok(secret),
            None => {
                let secret = SecretKey::generate(entropy);
                self.replace(&self.secret_path(), secret.to_file().as_bytes())?;
                Ok(secret)
            }
        }
    }

    /// The signer's key, if this frontend is paired.
    pub fn peer(&self) -> Result<Option<PublicKey>, LinkKeyError> {
        let path = self.peer_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LinkKeyError::Io { what: "read", path, source }),
        };
        text.parse().map(Some).map_err(|source| LinkKeyError::Peer { path, source })
    }

    /// Pairs this frontend with the signer of this key, whomever it was paired with.
    pub fn set_peer(&self, key: &PublicKey) -> Result<(), LinkKeyError> {
        self.replace(&self.peer_path(), format!("{key}\n").as_bytes())
    }

    /// Both halves.
    pub fn pairing(&self) -> Result<Pairing, LinkKeyError> {
        let peer = self.peer()?.ok_or(LinkKeyError::NotPaired)?;
        let secret = self.secret()?.ok_or(LinkKeyError::NotPaired)?;
        Ok(Pairing { secret, peer })
    }

    /// Changes whenever one of the files does.
    pub fn stamp(&self) -> [Option<(u64, i64, i64)>; 2] {
        [self.secret_path(), self.peer_path()].map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec()))
        })
    }

    fn secret_path(&self) -> PathBuf {
        self.directory.join("secret")
    }

    fn peer_path(&self) -> PathBuf {
        self.directory.join("peer")
    }

    fn secret(&self) -> Result<Option<SecretKey>, LinkKeyError> {
        let path = self.secret_path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LinkKeyError::Io { what: "open", path, source }),
        };
        // In one piece, so that no half of it stays behind in memory.
        let mut text = Zeroizing::new(String::with_capacity(FILE_MAX as usize));
        if let Err(source) = file.take(FILE_MAX).read_to_string(&mut text) {
            return Err(LinkKeyError::Io { what: "read", path, source });
        }
        SecretKey::from_file(&text)
            .map(Some)
            .map_err(|source| LinkKeyError::Secret { path, source })
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), LinkKeyError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(|source| LinkKeyError::Io {
            what: "make the directory",
            path: self.directory.clone(),
            source,
        })?;
        Ok(durable::replace(path, bytes, durable::PRIVATE)?)
    }
}

/// More than any key file holds.
const FILE_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let keys = LinkKeys::new(dir.path());
        let first = keys.own(&Entropy::seeded(1)).unwrap().public();
        assert_eq!(keys.own(&Entropy::seeded(2)).unwrap().public(), first);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keys.secret_path()), mode(&keys.directory)), (0o600, 0o700));
    }

    #[test]
    fn an_unpaired_frontend_says_what_to_do_and_a_paired_one_has_both_halves() {
        let dir = tempfile::tempdir().unwrap();
        let keys = LinkKeys::new(dir.path());
        for _ in 0..2 {
            assert!(matches!(keys.pairing(), Err(LinkKeyError::NotPaired)));
            keys.own(&Entropy::seeded(1)).unwrap();
        }
        let before = keys.stamp();
        let signer = SecretKey::generate(&Entropy::seeded(2)).public();
        keys.set_peer(&signer).unwrap();
        assert_ne!(keys.stamp(), before);
        assert_eq!(keys.pairing().unwrap().peer, signer);
    }

    #[test]
    fn a_damaged_file_is_told_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let keys = LinkKeys::new(dir.path());
        keys.own(&Entropy::seeded(1)).unwrap();
        fs::write(keys.secret_path(), "x").unwrap();
        fs::write(keys.peer_path(), "x").unwrap();
        assert!(matches!(keys.own(&Entropy::seeded(1)), Err(LinkKeyError::Secret { .. })));
        assert!(matches!(keys.pairing(), Err(LinkKeyError::Peer { .. })));
    }
}
