//! Files that others read: certificates, CRLs, keyrings, where the person who asks wants them.
//!
//! A file is replaced as a whole, so that a web server never serves a part of it, and who may read
//! it stays its owner's choice. What a command hands out it has read while no other one of this
//! frontend hands out, so nothing new is overwritten by what is older. Nothing here takes away a
//! file of others.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use crate::{
    durable::{self, Unfinished},
    error::{Failure, sentence},
    home::ExportLock,
};

/// Writes the file `path`: a new one for everybody to read, in place of an old one with its mode,
/// owner and group; through a link into what it leads to; and into what is no file, as a pipe.
/// Where owner and group cannot be kept, only a file that everybody may read is replaced.
pub fn write(lock: ExportLock, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = match fs::metadata(path) {
        Ok(there) if there.is_file() => {
            fs::canonicalize(path).and_then(|file| replace(&file, bytes, Some(&there)))
        }
        Ok(_) => {
            // Nothing older can stand in it later, and who reads it may take all day.
            drop(lock);
            fs::write(path, bytes)
        }
        Err(_) => end_of(path).and_then(|file| replace(&file, bytes, None)),
    };
    written.map_err(|error| {
        let text = sentence(&error);
        Failure::Usage(format!(
            "cannot write `{}`: {text}; name another file, in a folder that can be written",
            path.display()
        ))
    })
}

/// Where the links of `path` lead, of which the last leads nowhere yet.
fn end_of(path: &Path) -> io::Result<PathBuf> {
    let mut end = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&end) {
            Ok(to) => end = durable::directory_of(&end).join(to),
            Err(_) => return Ok(end),
        }
    }
    Err(io::Error::other("it leads from link to link"))
}

fn replace(path: &Path, bytes: &[u8], there: Option<&fs::Metadata>) -> io::Result<()> {
    let mode = there.map_or(durable::PUBLIC, |there| there.permissions().mode() & 0o777);
    let new = Unfinished::create(path, MEANTIME, mode).map_err(|error| error.source)?;
    if let Some(there) = there
        && fchown(new.file(), Some(there.uid()), Some(there.gid())).is_err()
        && mode & 0o004 == 0
    {
        let (owner, group) = (there.uid(), there.gid());
        return Err(io::Error::other(format!(
            "it is for user {owner} and group {group} alone, and a new one cannot be made theirs"
        )));
    }
    let written = new.fill(bytes).and_then(|()| new.put_in_place());
    written.and_then(|()| durable::sync_directory(path)).map_err(|error| error.source)
}

/// As many as Linux follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Behind the name of a file while it is written: what others keep beside it has another, and what
/// a kill left is replaced by the next.
const MEANTIME: &str = "frontend-new";

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::symlink};

    use nix::unistd::{Uid, setfsuid};

    use super::*;
    use crate::home::Home;

    #[test]
    fn everybody_may_read_a_new_file_and_one_that_is_there_keeps_its_mode_and_owner() {
        let dir = tempfile::tempdir().unwrap();
        // As in a frontend's process, whose files are its owner's.
        let home = Home::init(&dir.path().join("frontend")).unwrap();
        let lock = || home.lock_exports().unwrap();
        let file = dir.path().join("issuing.crl");
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        write(lock(), &file, b"the first, and longer").unwrap();
        assert_eq!(mode(), 0o644);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        // As root it can be somebody else's, such as a web server's.
        let is_root = nix::unistd::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&file, Some(12), Some(34)).unwrap();
        }
        write(lock(), &file, b"the second").unwrap();
        assert_eq!((mode(), fs::read(&file).unwrap().as_slice()), (0o640, &b"the second"[..]));
        let there = fs::metadata(&file).unwrap();
        assert!(!is_root || (there.uid(), there.gid()) == (12, 34));
        // Whoever reads the one before goes on reading it; a link leads to the new one.
        let before = fs::File::open(&file).unwrap();
        let link = dir.path().join("link.crl");
        symlink(&file, &link).unwrap();
        write(lock(), &link, b"the third").unwrap();
        assert_eq!(io::read_to_string(before).unwrap(), "the second");
        assert_eq!(fs::read_to_string(&file).unwrap(), "the third");
        assert!(link.is_symlink());
        // One that leads nowhere yet leads to it from now on.
        let (nowhere, early) = (dir.path().join("later.crl"), dir.path().join("early.crl"));
        symlink(&nowhere, &early).unwrap();
        write(lock(), &early, b"the fourth").unwrap();
        assert_eq!(fs::read_to_string(&nowhere).unwrap(), "the fourth");
        assert_eq!(fs::metadata(&nowhere).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(early.is_symlink());
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        symlink(&here, &there).unwrap();
        symlink(&there, &here).unwrap();
        assert!(write(lock(), &here, b"in a circle").is_err());
        assert!(here.is_symlink() && there.is_symlink());
        // What is no file has no mode of ours.
        write(lock(), Path::new("/dev/null"), b"nowhere").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_file_that_not_everybody_may_read_is_left_alone_where_its_owner_cannot_be_kept() {
        if !nix::unistd::geteuid().is_root() {
            return; // nobody else can make a file of another owner
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let home = Home::init(&dir.path().join("frontend")).unwrap();
        let file = dir.path().join("ring.pgp");
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::chown(&file, Some(12), Some(34)).unwrap();
        let write_as_nobody = |mode| {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let lock = home.lock_exports().unwrap();
            std::thread::scope(|scope| {
                let nobody = scope.spawn(|| {
                    // Of this thread alone.
                    setfsuid(Uid::from_raw(65_534));
                    write(lock, &file, b"new").map_err(|failure| failure.to_string())
                });
                nobody.join().unwrap()
            })
        };
        let refused = write_as_nobody(0o640).unwrap_err();
        assert!(refused.contains("user 12 and group 34 alone"), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert!(!dir.path().join("ring.pgp.frontend-new").exists());
        write_as_nobody(0o644).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().uid(), 65_534);
    }

    #[test]
    fn what_others_keep_beside_it_stays_and_what_a_kill_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(&dir.path().join("frontend")).unwrap();
        let lock = || home.lock_exports().unwrap();
        let file = dir.path().join("ring.pgp");
        let (theirs, left) =
            (dir.path().join("ring.pgp.new"), dir.path().join("ring.pgp.frontend-new"));
        fs::write(&theirs, b"theirs").unwrap();
        fs::write(&left, b"a part").unwrap();
        write(lock(), &file, b"whole").unwrap();
        assert_eq!(fs::read(&theirs).unwrap(), b"theirs");
        assert!(!left.exists());
    }
}
