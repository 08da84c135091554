//! The frontend's directory: what lies where, who may run on it, and how a sleeping carrier is
//! woken.
//!
//! ```text
//! DIR/frontend.sqlite   queue, inventory, pins: the truth
//! DIR/crl/NAME.crl      the verified CRL of each authority, DER; NAME.pem beside it
//! DIR/crl/partial/      transfers that go on after a cut
//! DIR/audit/            the copy of the signer's audit log
//! DIR/link/             by which keys this frontend and its signer know each other
//! DIR/run.lock          held by the one `frontend run`
//! DIR/wake.sock         a datagram here means that the queue has something new
//! ```
//! Nothing here reads or writes the queue.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{fs::DirBuilderExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, umask};

use crate::{
    link_key::LinkKeys,
    store::{Store, StoreError},
};

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A file or directory could not be made or opened.
    #[error("cannot {what} `{path}`; check that DIR exists, is mounted and belongs to you")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another `frontend run` works on this directory.
    #[error(
        "another `frontend run` works on `{path}`; stop it first, one directory has one carrier"
    )]
    Running {
        /// Which directory.
        path: PathBuf,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The directory with everything the frontend remembers.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Makes the directory, readable by its owner only, and an empty store in it.
    pub fn init(root: &Path) -> Result<Self, HomeError> {
        // What the store keeps are other people's names and addresses.
        umask(Mode::from_bits_truncate(0o077));
        let home = Self { root: root.to_owned() };
        for path in [home.root.clone(), home.crl_dir(), home.partial_dir()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|source| HomeError::Io { what: "make the directory", path, source })?;
        }
        Store::create(&home.store_path())?;
        Ok(home)
    }

    /// The directory at `root`; its store must be there.
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        umask(Mode::from_bits_truncate(0o077));
        let home = Self { root: root.to_owned() };
        if !home.store_path().exists() {
            return Err(StoreError::Missing { path: home.store_path() }.into());
        }
        Ok(home)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the store.
    pub fn store(&self) -> Result<Store, StoreError> {
        Store::open(&self.store_path())
    }

    fn store_path(&self) -> PathBuf {
        self.root.join("frontend.sqlite")
    }

    /// The keys of the cable.
    pub fn link_keys(&self) -> LinkKeys {
        LinkKeys::new(&self.root)
    }

    /// Where the verified CRLs are.
    pub fn crl_dir(&self) -> PathBuf {
        self.root.join("crl")
    }

    /// Where unfinished transfers are.
    pub fn partial_dir(&self) -> PathBuf {
        self.root.join("crl/partial")
    }

    /// Where the copy of the signer's audit log is.
    pub fn audit_dir(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// Becomes the one carrier of this directory, until the lock is dropped.
    pub fn lock(&self) -> Result<RunLock, HomeError> {
        let path = self.root.join("run.lock");
        let opened = File::options().create(true).append(true).open(&path);
        let file = opened.map_err(|source| HomeError::Io {
            what: "open the lock",
            path: path.clone(),
            source,
        })?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(HomeError::Running { path: self.root.clone() }),
            Err(TryLockError::Error(source)) => {
                Err(HomeError::Io { what: "take the lock", path, source })
            }
        }
    }

    /// Waits until no other command hands out what is here; until the lock is dropped, none does.
    /// What is handed out is read after this, so that nothing older comes over something newer.
    /// The lock is on the directory itself: a file of its own would be whoever's comes first.
    pub fn lock_exports(&self) -> Result<ExportLock, HomeError> {
        let opened = File::open(&self.root);
        let locked = opened.and_then(|file| file.lock().map(|()| ExportLock { _file: file }));
        let path = self.root.clone();
        locked.map_err(|source| HomeError::Io { what: "take the lock on", path, source })
    }

    /// The socket that others poke; only the holder of the lock may bind it.
    pub fn wake_socket(&self, _lock: &RunLock) -> Result<WakeSocket, HomeError> {
        let path = self.wake_path();
        let failed = |source| HomeError::Io { what: "bind the socket", path: path.clone(), source };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let socket = self.at_short_path(|short| UnixDatagram::bind(short)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(WakeSocket { socket, path: path.clone() })
    }

    /// Tells the carrier, if one runs, that the queue has something new.
    pub fn wake(&self) {
        // Nobody may be listening, or many wakes may wait already: the carrier looks by itself
        // now and then.
        let _ = self.at_short_path(|path| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.send_to(&[1], path)
        });
    }

    /// Whether a carrier runs on this directory now.
    pub fn is_running(&self) -> bool {
        self.at_short_path(|path| UnixDatagram::unbound()?.connect(path)).is_ok()
    }

    fn wake_path(&self) -> PathBuf {
        self.root.join(WAKE)
    }

    /// Calls `action` with a path of the wake socket that fits the 108 bytes of `sun_path`
    /// however deep the directory lies.
    fn at_short_path<T>(&self, action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let directory = File::open(&self.root)?;
        action(Path::new(&format!("/proc/self/fd/{}/{WAKE}", directory.as_raw_fd())))
    }
}

const WAKE: &str = "wake.sock";

/// Proof that this process is the directory's one carrier.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// Proof that this process is the one that hands out.
#[derive(Debug)]
pub struct ExportLock {
    _file: File,
}

/// Receives the pokes of [`Home::wake`].
#[derive(Debug)]
pub struct WakeSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl WakeSocket {
    /// Takes all pokes that wait; says whether there was one.
    pub fn drain(&self) -> bool {
        let mut poked = false;
        let mut octet = [0u8; 1];
        for _ in 0..DRAIN_MAX {
            if self.socket.recv(&mut octet).is_err() {
                break;
            }
            poked = true;
        }
        poked
    }
}

/// Pokes taken in one turn; the rest is taken in the next.
const DRAIN_MAX: usize = 1024;

impl AsFd for WakeSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for WakeSocket {
    fn drop(&mut self) {
        // A socket file that stays behind is removed by the next carrier.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_has_one_carrier_and_it_is_woken() {
        let dir = tempfile::tempdir().unwrap();
        // Deeper than sun_path allows.
        let root = dir.path().join("d".repeat(120));
        let home = Home::init(&root).unwrap();
        assert!(!home.is_running());
        home.wake();

        let lock = home.lock().unwrap();
        assert!(matches!(home.lock(), Err(HomeError::Running { .. })));
        let socket = home.wake_socket(&lock).unwrap();
        assert!(home.is_running() && !socket.drain());
        home.wake();
        home.wake();
        assert!(socket.drain() && !socket.drain());

        drop(socket);
        drop(lock);
        assert!(!home.is_running());
        home.lock().unwrap();
    }

    #[test]
    fn a_socket_left_by_a_killed_carrier_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(dir.path()).unwrap();
        let lock = home.lock().unwrap();
        std::mem::forget(home.wake_socket(&lock).unwrap());
        let socket = home.wake_socket(&lock).unwrap();
        home.wake();
        assert!(socket.drain());
    }

    #[test]
    fn a_directory_without_a_store_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Home::open(&dir.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("frontend init"), "{error}");
        Home::init(dir.path()).unwrap();
        assert!(matches!(Home::init(dir.path()), Err(HomeError::Store(StoreError::Exists { .. }))));
    }
}
