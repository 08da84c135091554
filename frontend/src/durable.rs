//! Files that survive a pulled plug: a path written here holds either the old content or the new
//! one, never a part.
//!
//! What is new is written beside its place, synced, and renamed. A mode is set as it is said,
//! whatever mask the process has. Nothing here knows what a file is for.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// For its owner's eyes only.
pub const PRIVATE: u32 = 0o600;
/// For everybody to read.
pub const PUBLIC: u32 = 0o644;

/// A file could not be written: a full or broken disk, or no right to.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{path}`: {source}")]
pub struct NotWritten {
    /// What was tried.
    pub what: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl NotWritten {
    fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { what, path, source }
    }
}

/// Replaces the file `path` by `bytes`; both are on disk when it returns.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), NotWritten> {
    let new = Unfinished::create(path, "new", mode)?;
    new.fill(bytes)?;
    new.put_in_place()?;
    sync_directory(path)
}

/// A file that is being written: under another name until it is whole, gone if it never is.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    beside: PathBuf,
    file: File,
    in_place: bool,
}

impl Unfinished {
    /// Begins what shall be the file `path`, under that name with `.extension` behind it.
    pub fn create(path: &Path, extension: &str, mode: u32) -> Result<Self, NotWritten> {
        let beside = path.with_added_extension(extension);
        // What lies there may be a link that somebody put on a medium: what is made is new.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(NotWritten::at("remove", &beside)(error));
            }
            _ => {}
        }
        let mut options = File::options();
        let opened = options.read(true).write(true).create_new(true).mode(mode).open(&beside);
        let file = opened.map_err(NotWritten::at("make", &beside))?;
        // From here on it is removed if anything fails.
        let new = Self { path: path.to_owned(), beside, file, in_place: false };
        match new.file.set_permissions(Permissions::from_mode(mode)) {
            // A medium without owners and modes has none to set.
            Err(error) if error.kind() != ErrorKind::PermissionDenied => {
                Err(NotWritten::at("set the mode of", &new.beside)(error))
            }
            _ => Ok(new),
        }
    }

    /// The open file. Who writes to it himself syncs it as well.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes all of it, and waits for the disk.
    pub fn fill(&self, bytes: &[u8]) -> Result<(), NotWritten> {
        let mut file = &self.file;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(NotWritten::at("write", &self.beside))
    }

    /// Gives it its name, over what had that name before. [`sync_directory`] makes that durable.
    pub fn put_in_place(mut self) -> Result<(), NotWritten> {
        fs::rename(&self.beside, &self.path)
            .map_err(NotWritten::at("rename into place", &self.path))?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.in_place {
            // A medium that was pulled out has nothing to remove.
            let _ = fs::remove_file(&self.beside);
        }
    }
}

/// Makes the names in the directory of `path` durable.
pub fn sync_directory(path: &Path) -> Result<(), NotWritten> {
    let directory = directory_of(path);
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(NotWritten::at("sync", directory))
}

/// The directory that the file `path` is in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_with_the_mode_that_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"first", PRIVATE).unwrap();
        assert_eq!(mode(&path), 0o600);
        // Left by a kill, open to everybody: nothing secret may be written into that.
        let beside = dir.path().join("file.new");
        fs::write(&beside, b"half of something longer").unwrap();
        fs::set_permissions(&beside, Permissions::from_mode(0o666)).unwrap();
        replace(&path, b"second", PRIVATE).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"second"[..], 0o600));
        replace(&path, b"third", PUBLIC).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"third"[..], 0o644));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no work file");
    }

    #[test]
    fn what_fails_leaves_the_old_content_and_no_work_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"old", PRIVATE).unwrap();
        let new = Unfinished::create(&path, "new", PRIVATE).unwrap();
        new.fill(b"new").unwrap();
        drop(new);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let folder = dir.path().join("folder");
        fs::create_dir_all(folder.join("inside")).unwrap();
        let error = replace(&folder, b"new", PRIVATE).unwrap_err();
        assert_eq!((error.what, &error.path), ("rename into place", &folder));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no work file");
    }

    #[test]
    fn a_link_that_lies_beside_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("file"), dir.path().join("precious"));
        fs::write(&precious, b"precious").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("file.new")).unwrap();
        replace(&path, b"new", PRIVATE).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert!(!path.is_symlink());
    }
}
