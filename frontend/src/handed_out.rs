//! Files that others read: certificates, CRLs, keyrings, where the person who asks wants them.
//!
//! A file is replaced as a whole, so that a web server never serves a part of it, and who may read
//! it stays its owner's choice. What a command hands out it has read while no other one of this
//! frontend hands out, so nothing new is overwritten by what is older. Nothing here takes away a
//! file of others.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::Path,
};

use crate::{
    durable::{self, Unfinished},
    error::{Failure, sentence},
    home::ExportLock,
};

/// Writes the file `path`: a new one for everybody to read, in place of an old one with its owner,
/// group and mode; through a link into what it leads to; and into what is no file, as a pipe.
pub fn write(_lock: &ExportLock, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = match fs::metadata(path) {
        Ok(there) if there.is_file() => {
            fs::canonicalize(path).and_then(|file| replace(&file, bytes, Some(&there)))
        }
        Ok(_) => fs::write(path, bytes),
        // A link that leads nowhere yet leads to what is made.
        Err(_) if path.is_symlink() => fs::write(path, bytes),
        Err(_) => replace(path, bytes, None),
    };
    written.map_err(|error| {
        let text = sentence(&error);
        Failure::Usage(format!(
            "cannot write `{}`: {text}; name another file, in a folder that can be written",
            path.display()
        ))
    })
}

fn replace(path: &Path, bytes: &[u8], there: Option<&fs::Metadata>) -> io::Result<()> {
    let mode = there.map_or(durable::PUBLIC, |there| there.permissions().mode() & 0o777);
    let replaced = Unfinished::create(path, MEANTIME, mode).and_then(|new| {
        if let Some(there) = there
            && fchown(new.file(), Some(there.uid()), Some(there.gid())).is_err()
        {
            // It would be another's file afterwards, and who reads it now perhaps could not.
            return Ok(None);
        }
        new.fill(bytes)?;
        new.put_in_place()?;
        durable::sync_directory(path).map(Some)
    });
    match replaced.map_err(|error| error.source)? {
        Some(()) => Ok(()),
        None => fs::write(path, bytes),
    }
}

/// Behind the name of a file while it is written: what others keep beside it has another, and what
/// a kill left is replaced by the next.
const MEANTIME: &str = "frontend-new";

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::symlink};

    use super::*;
    use crate::home::Home;

    #[test]
    fn everybody_may_read_a_new_file_and_one_that_is_there_keeps_its_mode_and_owner() {
        let dir = tempfile::tempdir().unwrap();
        // As in a frontend's process, whose files are its owner's.
        let home = Home::init(&dir.path().join("frontend")).unwrap();
        let lock = home.lock_exports().unwrap();
        let file = dir.path().join("issuing.crl");
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        write(&lock, &file, b"the first, and longer").unwrap();
        assert_eq!(mode(), 0o644);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        // As root it can be somebody else's, such as a web server's.
        let is_root = nix::unistd::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&file, Some(12), Some(34)).unwrap();
        }
        write(&lock, &file, b"the second").unwrap();
        assert_eq!((mode(), fs::read(&file).unwrap().as_slice()), (0o640, &b"the second"[..]));
        let there = fs::metadata(&file).unwrap();
        assert!(!is_root || (there.uid(), there.gid()) == (12, 34));
        // Whoever reads the one before goes on reading it; a link leads to the new one.
        let before = fs::File::open(&file).unwrap();
        let link = dir.path().join("link.crl");
        symlink(&file, &link).unwrap();
        write(&lock, &link, b"the third").unwrap();
        assert_eq!(io::read_to_string(before).unwrap(), "the second");
        assert_eq!(fs::read_to_string(&file).unwrap(), "the third");
        assert!(link.is_symlink());
        // One that leads nowhere yet leads to it from now on.
        let (nowhere, early) = (dir.path().join("later.crl"), dir.path().join("early.crl"));
        symlink(&nowhere, &early).unwrap();
        write(&lock, &early, b"the fourth").unwrap();
        assert_eq!(fs::read_to_string(&nowhere).unwrap(), "the fourth");
        assert!(early.is_symlink());
        // What is no file has no mode of ours.
        write(&lock, Path::new("/dev/null"), b"nowhere").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn what_others_keep_beside_it_stays_and_what_a_kill_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(&dir.path().join("frontend")).unwrap();
        let lock = home.lock_exports().unwrap();
        let file = dir.path().join("ring.pgp");
        let (theirs, left) =
            (dir.path().join("ring.pgp.new"), dir.path().join("ring.pgp.frontend-new"));
        fs::write(&theirs, b"theirs").unwrap();
        fs::write(&left, b"a part").unwrap();
        write(&lock, &file, b"whole").unwrap();
        assert_eq!(fs::read(&theirs).unwrap(), b"theirs");
        assert!(!left.exists());
    }
}
