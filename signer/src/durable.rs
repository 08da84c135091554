//! Files that survive a pulled plug: whole-file replacement, appends, and one lock per store.
//!
//! A path written here holds either the old content or the new one, never a part.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

use crate::fault::Fault;

/// Replaces `path` by `bytes`: temporary file, fsync, rename, fsync of the directory.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    // Past the buffer: a key must not stay behind in it.
    replace_with(path, mode, |buffered| {
        let mut file: &File = buffered.get_ref();
        file.write_all(bytes)
    })
}

/// Like [`replace`], with the content streamed by `write`.
pub fn replace_with(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut io::BufWriter<&File>) -> io::Result<()>,
) -> Result<(), Fault> {
    let temporary = temporary_name(path);
    let written = (|| {
        let file = create(&temporary, mode)?;
        let mut buffered = io::BufWriter::with_capacity(1 << 16, &file);
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    crash_point("go on after writing", path)?;
    if written.is_err() {
        // The half-written file is of no use to anybody; that it may not go is said by the error.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(Fault::disk("write", path))?;
    sync_directory(path)
}

/// Replaces `path` without waiting for the disk: for copies that the ledger can write again.
pub fn replace_lazily(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let temporary = temporary_name(path);
    crash_point("write", path)?;
    create(&temporary, mode)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(Fault::disk("write", path))?;
    crash_point("rename", &temporary)?;
    fs::rename(&temporary, path).map_err(Fault::disk("write", path))
}

/// Writes a file that only the ledger's copy makes whole again: in place and without waiting. A
/// crash can leave a part of it, which whoever uses this must find.
pub fn write_lazily(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    crash_point("write", path)?;
    let mut file = create(path, mode).map_err(Fault::disk("write", path))?;
    crash_point("write all of", path)?;
    file.write_all(bytes).map_err(Fault::disk("write", path))
}

/// Gives the file `original` a second name in place of what `path` was, without copying; where the
/// disk knows no second names, a copy. Not synced.
pub fn link_lazily(original: &Path, path: &Path, mode: u32) -> Result<(), Fault> {
    let temporary = temporary_name(path);
    crash_point("link", path)?;
    let forget = || match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let linked = forget().and_then(|()| fs::hard_link(original, &temporary));
    if linked.is_err() {
        return replace_lazily(path, &read(original)?, mode);
    }
    // A rename between two names of one file does nothing, so the temporary one may be left.
    fs::rename(&temporary, path).and_then(|()| forget()).map_err(Fault::disk("link", path))
}

/// Adds `bytes` at the end of `path`, not synced.
pub fn append(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)
        .map_err(Fault::disk("open", path))?;
    // In two halves for the tests' sake: a pulled plug or a full disk leaves a part.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    crash_point("append to", path)?;
    file.write_all(first).map_err(Fault::disk("append to", path))?;
    crash_point("append all to", path)?;
    file.write_all(second).map_err(Fault::disk("append to", path))
}

/// Where a pulled plug could part what was written from what was not. Does nothing in the
/// program; a test or the simulator can have its process "die" here.
#[cfg(not(any(test, feature = "power-cuts")))]
pub(crate) fn crash_point(_: &'static str, _: impl AsRef<Path>) -> Result<(), Fault> {
    Ok(())
}

#[cfg(any(test, feature = "power-cuts"))]
pub(crate) use crash::crash_point;

/// Lets a test end all work at the nth crash point of its thread.
#[cfg(any(test, feature = "power-cuts"))]
pub mod crash {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static HAPPENED: Cell<bool> = const { Cell::new(false) };
    }

    /// Passes `points` crash points, then fails at each until called with `None`.
    pub fn after(points: Option<u32>) {
        LEFT.set(points);
        HAPPENED.set(false);
    }

    /// How many points will still be passed.
    pub fn left() -> Option<u32> {
        LEFT.get()
    }

    /// Whether a point has failed since [`after`].
    pub fn happened() -> bool {
        HAPPENED.get()
    }

    pub(crate) fn crash_point(action: &'static str, path: impl AsRef<Path>) -> Result<(), Fault> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => {
                HAPPENED.set(true);
                Err(Fault::disk(action, path.as_ref())(io::Error::other("power cut")))
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Makes the names in `path`'s directory durable.
pub fn sync_directory(path: &Path) -> Result<(), Fault> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Fault::disk("sync", directory))
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    fs::read(path).map_err(Fault::disk("read", path))
}

/// Reads a whole text file.
pub fn read_text(path: &Path) -> Result<String, Fault> {
    fs::read_to_string(path).map_err(Fault::disk("read", path))
}

/// Creates a directory if it is not there, with this mode.
pub fn directory(path: &Path, mode: u32) -> Result<(), Fault> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(Fault::disk("create", path)),
    }
}

/// An exclusive lock on a file, given back when dropped or when the process ends. It is one of
/// fcntl(2)'s of the open file: unlike flock(2)'s, others can ask for it without taking it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock now, or answers `None` if another process has it.
    pub fn try_take(path: &Path) -> Result<Option<Self>, Fault> {
        let file = Self::open(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&WHOLE_FILE)) {
            Ok(_) => Ok(Some(Self { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(Fault::disk("lock", path)(errno.into())),
        }
    }

    /// Waits for the lock: for holders that keep it for milliseconds.
    pub fn wait(path: &Path) -> Result<Self, Fault> {
        let file = Self::open(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLKW(&WHOLE_FILE)) {
            Ok(_) => Ok(Self { _file: file }),
            Err(errno) => Err(Fault::disk("lock", path)(errno.into())),
        }
    }

    /// Whether anybody has the lock. Who wants to take it at this moment is not hindered.
    pub fn is_taken(path: &Path) -> Result<bool, Fault> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(Fault::disk("open", path))?,
        };
        let mut found = WHOLE_FILE;
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found))
            .map_err(|errno| Fault::disk("look at the lock", path)(errno.into()))?;
        Ok(found.l_type != libc::F_UNLCK as libc::c_short)
    }

    fn open(path: &Path) -> Result<File, Fault> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(path).map_err(Fault::disk("open", path))
    }
}

const WHOLE_FILE: libc::flock = libc::flock {
    l_type: libc::F_WRLCK as libc::c_short,
    l_whence: libc::SEEK_SET as libc::c_short,
    l_start: 0,
    l_len: 0,
    l_pid: 0,
};

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[test]
    fn failed_replacement_leaves_the_old_content() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("serial");
        replace(&path, b"01\n", 0o600).unwrap();
        let failed = replace_with(&path, 0o600, |file| {
            file.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(failed.unwrap_err().to_string().contains("serial"));
        assert_eq!(read(&path).unwrap(), b"01\n");
        assert_eq!(
            fs::read_dir(scratch.path()).unwrap().count(),
            1,
            "no half-written file is left"
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn lock_is_exclusive_until_dropped() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let held = Lock::try_take(&path).unwrap();
        assert!(held.is_some());
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }

    // Else `signer status` at the wrong moment keeps a signer from starting.
    #[test]
    fn asking_who_has_a_lock_keeps_nobody_from_taking_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        assert!(!Lock::is_taken(&path).unwrap(), "nobody had it yet");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    Lock::is_taken(&path).unwrap();
                }
            });
            let kept_out = (0..2000).filter(|_| Lock::try_take(&path).unwrap().is_none()).count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(kept_out, 0);
        });
        let held = Lock::try_take(&path).unwrap();
        assert!(Lock::is_taken(&path).unwrap());
        drop(held);
        assert!(!Lock::is_taken(&path).unwrap());
    }
}
