//! The files by which this signer and its frontend know each other on the cable.
//!
//! ```text
//! STORE/link/secret   our own key, for its owner's eyes only
//! STORE/link/peer     the frontend's public key; absent while this signer is not paired
//! ```
//! `signer init` makes the secret, `signer pair` the rest. In a running signer the gate alone
//! knows the secret: the vault opens the file for it and never reads it, see [`open_secret`]. No
//! command of the link reaches this room.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use protocol::secure::{Entropy, Pairing, PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::{durable, fault::Fault};

/// What a person is to do with a signer that is not paired.
const NOT_PAIRED: &str = "this signer is not paired, so it talks to nobody: type the key that \
                          `frontend pair --show` prints with `signer pair --peer KEY`";
/// More than any key file holds.
const FILE_MAX: u64 = 4096;

fn directory(store: &Path) -> PathBuf {
    store.join("link")
}

fn secret_path(store: &Path) -> PathBuf {
    directory(store).join("secret")
}

fn peer_path(store: &Path) -> PathBuf {
    directory(store).join("peer")
}

/// This signer's own key; makes one where there is none, as in a store of an earlier version.
pub fn own(store: &Path, entropy: &Entropy) -> Result<SecretKey, Fault> {
    let path = secret_path(store);
    match File::open(&path) {
        Ok(file) => read_secret(file, &path),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            durable::directory(&directory(store), 0o700)?;
            let secret = SecretKey::generate(entropy);
            durable::replace(&path, secret.to_file().as_bytes(), 0o600)?;
            durable::sync_directory(&directory(store))?;
            Ok(secret)
        }
        Err(error) => Err(Fault::disk("open", path)(error)),
    }
}

/// The secret's file, to be read by another process.
pub fn open_secret(store: &Path) -> Result<File, Fault> {
    let path = secret_path(store);
    File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Fault::Configuration(NOT_PAIRED.into()),
        _ => Fault::disk("open", path)(error),
    })
}

/// Reads the secret from its open file.
pub fn read_secret(file: File, path: &Path) -> Result<SecretKey, Fault> {
    // In one piece, so that no half of it stays behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(FILE_MAX as usize));
    file.take(FILE_MAX).read_to_string(&mut text).map_err(Fault::disk("read", path))?;
    SecretKey::from_file(&text).map_err(|error| Fault::Damaged {
        what: path.display().to_string(),
        why: format!("{error}; if there is no backup, remove it and pair anew"),
    })
}

/// The frontend's key, if this signer is paired.
pub fn peer(store: &Path) -> Result<Option<PublicKey>, Fault> {
    let path = peer_path(store);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::disk("read", path)(error)),
    };
    text.parse().map(Some).map_err(|error| Fault::Damaged {
        what: path.display().to_string(),
        why: format!("{error}; pair anew with `signer pair --peer KEY --replace`"),
    })
}

/// The frontend's key; without one, what to do.
pub fn paired(store: &Path) -> Result<PublicKey, Fault> {
    peer(store)?.ok_or_else(|| Fault::Configuration(NOT_PAIRED.into()))
}

/// Pairs this signer with the frontend of this key, whomever it was paired with.
pub fn set_peer(store: &Path, key: &PublicKey) -> Result<(), Fault> {
    durable::directory(&directory(store), 0o700)?;
    durable::replace(&peer_path(store), format!("{key}\n").as_bytes(), 0o644)
}

/// Both halves, for a command at the console that seals or opens a file.
pub fn pairing(store: &Path) -> Result<Pairing, Fault> {
    let peer = paired(store)?;
    let secret = read_secret(open_secret(store)?, &secret_path(store))?;
    Ok(Pairing { secret, peer })
}

/// Changes whenever one of the files does. Nothing of what they hold is read.
pub fn stamp(store: &Path) -> [Option<(u64, i64, i64)>; 2] {
    [secret_path(store), peer_path(store)].map(|path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.mtime(), found.mtime_nsec()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_secret_is_made_once_and_for_its_owner_only() {
        let store = tempfile::tempdir().unwrap();
        let first = own(store.path(), &Entropy::seeded(1)).unwrap().public();
        let second = own(store.path(), &Entropy::seeded(2)).unwrap().public();
        assert_eq!(first, second);
        assert_eq!(mode(&secret_path(store.path())), 0o600);
        assert_eq!(mode(&directory(store.path())), 0o700);
    }

    #[test]
    fn an_unpaired_signer_says_what_to_do_and_a_paired_one_has_both_halves() {
        let store = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let error = pairing(store.path()).unwrap_err();
            assert!(error.is_configuration() && error.to_string().contains("frontend pair --show"));
            own(store.path(), &Entropy::seeded(1)).unwrap();
        }
        let before = stamp(store.path());
        let frontend = SecretKey::generate(&Entropy::seeded(2)).public();
        set_peer(store.path(), &frontend).unwrap();
        assert_ne!(stamp(store.path()), before);
        assert_eq!(pairing(store.path()).unwrap().peer, frontend);
    }

    #[test]
    fn a_damaged_file_is_a_fault_that_says_what_to_do() {
        let store = tempfile::tempdir().unwrap();
        own(store.path(), &Entropy::seeded(1)).unwrap();
        std::fs::write(secret_path(store.path()), "x").unwrap();
        let error = own(store.path(), &Entropy::seeded(1)).unwrap_err().to_string();
        assert!(error.contains("link/secret is damaged"), "{error}");
        std::fs::write(peer_path(store.path()), "x").unwrap();
        let error = peer(store.path()).unwrap_err().to_string();
        assert!(error.contains("--replace"), "{error}");
    }
}
