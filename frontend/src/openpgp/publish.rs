//! Writes a Web Key Directory: each file beside the old one and then renamed over it, so that a
//! web server never serves half a file.
//!
//! It takes away only what an earlier export wrote, by its own list; files of others stay.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::error::Failure;

/// What a directory shall hold: paths below its root, and bytes.
pub type Plan = BTreeMap<PathBuf, Vec<u8>>;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Files that are new or changed.
    pub written: usize,
    /// Files that were right already.
    pub kept: usize,
    /// Files of an earlier export that are gone.
    pub removed: usize,
}

/// Makes the directory `root` hold `plan`, beside what others put there. Only entries that
/// `is_ours` may take away: an export of one domain leaves those of another alone.
pub fn directory(
    root: &Path,
    plan: &Plan,
    is_ours: impl Fn(&Path) -> bool,
) -> Result<Published, Failure> {
    let list_path = root.join(LIST);
    let earlier = read_list(&list_path)?;
    let mut published = Published::default();
    for (path, bytes) in plan {
        let path = root.join(path);
        if fs::read(&path).is_ok_and(|there| there == *bytes) {
            published.kept += 1;
            continue;
        }
        file(&path, bytes)?;
        published.written += 1;
    }
    let (gone, others): (Vec<_>, Vec<_>) =
        earlier.into_iter().filter(|path| !plan.contains_key(path)).partition(|path| is_ours(path));
    for path in gone {
        let path = root.join(path);
        match fs::remove_file(&path) {
            Ok(()) => published.removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove", &path, &error)),
        }
    }
    // Last: what is listed was written.
    let mut listed: Vec<String> =
        plan.keys().chain(&others).map(|path| format!("{}\n", path.display())).collect();
    listed.sort();
    file(&list_path, listed.concat().as_bytes())?;
    Ok(published)
}

/// Writes `bytes` as the file `path`: beside it first, on disk, then renamed.
pub fn file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(|error| failed("make", folder, &error))?;
    let beside = path.with_added_extension("new");
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| failed("write", &beside, &error))?;
    fs::rename(&beside, path).map_err(|error| failed("rename into place", path, &error))?;
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed("sync", folder, &error))
}

/// The paths that an earlier export listed, those that lead out of the root left out.
fn read_list(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", path, &error)),
    };
    let inside = |path: &PathBuf| {
        path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
    };
    Ok(text.lines().map(PathBuf::from).filter(inside).collect())
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::Away(format!("cannot {what} `{path}`: {error}; check the disk and its permissions"))
}

/// The list of what was written, in the directory's root.
const LIST: &str = ".frontend-export";

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(files: &[(&str, &[u8])]) -> Plan {
        files.iter().map(|(path, bytes)| (PathBuf::from(path), bytes.to_vec())).collect()
    }

    #[test]
    fn what_is_no_longer_exported_goes_and_what_others_wrote_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("web");
        let done =
            directory(&root, &plan(&[("a/x", b"1"), ("a/y", b"2"), ("b/z", b"3")]), |_| true);
        assert_eq!(done.unwrap(), Published { written: 3, kept: 0, removed: 0 });
        fs::write(root.join("a/foreign"), b"f").unwrap();

        let only_a = |path: &Path| path.starts_with("a");
        let done = directory(&root, &plan(&[("a/x", b"1"), ("a/n", b"4")]), only_a).unwrap();
        assert_eq!(done, Published { written: 1, kept: 1, removed: 1 });
        assert!(!root.join("a/y").exists() && root.join("a/foreign").exists());
        assert_eq!(fs::read(root.join("b/z")).unwrap(), b"3", "of another domain");

        let done = directory(&root, &Plan::new(), |_| true).unwrap();
        assert_eq!(done.removed, 3);
        assert!(root.join("a/foreign").exists());
        let left = fs::read_dir(root.join("a")).unwrap().count();
        assert_eq!(left, 1, "no work file");
    }

    #[test]
    fn a_list_that_was_tampered_with_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("web");
        fs::create_dir(&root).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, b"v").unwrap();
        let text = format!("../victim\n{}\n", victim.display());
        fs::write(root.join(LIST), text).unwrap();
        directory(&root, &Plan::new(), |_| true).unwrap();
        assert!(victim.exists());
    }
}
