//! Writes a Web Key Directory: each file beside the old one and then renamed over it, so that a
//! web server never serves half a file.
//!
//! What is handed out is for everybody to read, whatever mask the process has: files of mode 0644,
//! new folders of mode 0755. It takes away only what an earlier export wrote, by its own list;
//! files of others stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    durable::{self, NotWritten},
    error::Failure,
};

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
/// `is_ours` may take away: an export of one domain leaves those of another alone. Where another
/// put a file that is planned, nothing is written; an empty one only has to be there. While another
/// export works there, this one waits.
pub fn directory(
    root: &Path,
    plan: &Plan,
    is_ours: impl Fn(&Path) -> bool,
) -> Result<Published, Failure> {
    // Two at once would each write a list without the new files of the other.
    let _locked = lock(root)?;
    let list_path = root.join(LIST);
    let earlier = read_list(&list_path)?;
    let mut published = Published::default();
    let (mut ours, mut missing) = (BTreeSet::new(), Vec::new());
    for (path, bytes) in plan {
        let there = match fs::read(root.join(path)) {
            Ok(there) if there == *bytes => {
                published.kept += 1;
                // The same key under the same name is an export's, even if the list was lost. An
                // empty file is anybody's: it is ours only if we wrote it.
                if !bytes.is_empty() || earlier.contains(path) {
                    ours.insert(path.clone());
                }
                continue;
            }
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        match there && !earlier.contains(path) {
            true if bytes.is_empty() => published.kept += 1,
            true => return Err(foreign(&root.join(path))),
            false => {
                ours.insert(path.clone());
                missing.push((path, bytes));
            }
        }
    }
    // First of all: what a stop in the middle leaves behind is found again and taken away.
    if !ours.is_subset(&earlier) {
        write_list(&list_path, earlier.union(&ours))?;
    }
    for (path, bytes) in missing {
        write(&root.join(path), bytes, durable::PUBLIC)?;
        published.written += 1;
    }
    let (gone, others): (BTreeSet<_>, BTreeSet<_>) =
        earlier.into_iter().filter(|path| !ours.contains(path)).partition(|path| is_ours(path));
    for path in gone {
        let path = root.join(path);
        match fs::remove_file(&path) {
            Ok(()) => published.removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove", &path, &error)),
        }
    }
    write_list(&list_path, ours.union(&others))?;
    Ok(published)
}

/// Makes the folder and keeps other exports out of it until the file is dropped. It is the folder
/// that is locked: the list is replaced by each export, and a file for the lock alone would be
/// handed out with the rest.
fn lock(root: &Path) -> Result<File, Failure> {
    make_folder(root).map_err(|error| failed("make", root, &error))?;
    let locked = File::open(root).and_then(|folder| folder.lock().map(|()| folder));
    locked.map_err(|error| failed("lock", root, &error))
}

fn foreign(path: &Path) -> Failure {
    Failure::Usage(format!(
        "`{}` is there, and no export wrote it; move it away or name another folder; nothing was \
         written",
        path.display()
    ))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    make_folder_of(path)?;
    durable::replace(path, bytes, mode)
        .map_err(|NotWritten { what, path, source }| failed(what, &path, &source))
}

/// Makes the folder that the file `path` shall be in.
pub fn make_folder_of(path: &Path) -> Result<(), Failure> {
    let folder = durable::directory_of(path);
    make_folder(folder).map_err(|error| failed("make", folder, &error))
}

/// Makes the folder and those above it where they are missing. What is there stays as it is: who
/// made it knows who may read it.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    make_folder(durable::directory_of(path))?;
    match DirBuilder::new().mode(FOLDER).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        // A folder may have the group of the one above it handed down: that bit stays.
        Ok(()) => {
            let mode = fs::metadata(path)?.permissions().mode() | FOLDER;
            fs::set_permissions(path, Permissions::from_mode(mode))
        }
    }
}

fn write_list<'p>(list: &Path, paths: impl Iterator<Item = &'p PathBuf>) -> Result<(), Failure> {
    let lines: Vec<String> = paths.map(|path| format!("{}\n", path.display())).collect();
    write(list, lines.concat().as_bytes(), durable::PRIVATE)
}

/// The paths that an earlier export listed, those that lead out of the root left out.
fn read_list(path: &Path) -> Result<BTreeSet<PathBuf>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
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
/// Everybody may list and enter a folder that is handed out.
const FOLDER: u32 = 0o755;

#[cfg(test)]
mod tests {
    use std::thread;

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
    fn a_file_of_another_is_neither_overwritten_nor_taken_away_later() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("web");
        directory(&root, &plan(&[("a/x", b"1")]), |_| true).unwrap();
        for (name, bytes) in [("a/policy", &b"mailbox-only"[..]), ("a/y", b"theirs")] {
            fs::write(root.join(name), bytes).unwrap();
        }
        fs::create_dir(root.join("b")).unwrap();
        fs::write(root.join("b/policy"), b"").unwrap();
        // The policy only has to be there; a key of another's stops the whole export.
        let with_policies = plan(&[("a/x", b"2"), ("a/policy", b""), ("b/policy", b"")]);
        let done = directory(&root, &with_policies, |_| true).unwrap();
        assert_eq!(done, Published { written: 1, kept: 2, removed: 0 });
        let error = directory(&root, &plan(&[("a/x", b"3"), ("a/y", b"ours")]), |_| true);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("a/y") && text.contains("move it away"), "{text}");
        assert_eq!(fs::read(root.join("a/x")).unwrap(), b"2", "nothing was written");
        directory(&root, &Plan::new(), |_| true).unwrap();
        assert_eq!(fs::read(root.join("a/policy")).unwrap(), b"mailbox-only");
        assert_eq!(fs::read(root.join("b/policy")).unwrap(), b"", "like one of ours");
        assert_eq!(fs::read(root.join("a/y")).unwrap(), b"theirs");
        assert!(!root.join("a/x").exists());
    }

    #[test]
    fn two_exports_at_once_forget_nothing_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("web");
        // Each round has a new file, so that each of the two writes the list in each.
        let export = |domain: &str| {
            for round in 0..ROUNDS {
                let name = format!("{domain}/{round}");
                let plan = plan(&[(&name, domain.as_bytes())]);
                let done = directory(&root, &plan, |path| path.starts_with(domain));
                let expected = Published { written: 1, kept: 0, removed: usize::from(round > 0) };
                assert_eq!(done.unwrap(), expected, "{name}");
            }
        };
        thread::scope(|scope| {
            for domain in ["a", "b"] {
                scope.spawn(move || export(domain));
            }
        });
        let last = ["a", "b"].map(|domain| PathBuf::from(format!("{domain}/{}", ROUNDS - 1)));
        assert_eq!(read_list(&root.join(LIST)).unwrap(), last.into());
    }

    /// Far more than are needed until two exports without a lock meet.
    const ROUNDS: usize = 50;

    #[test]
    fn what_a_stopped_export_wrote_is_taken_away_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("web");
        directory(&root, &plan(&[("a/x", b"1")]), |_| true).unwrap();
        // A folder stands where the work file of the second would be.
        fs::create_dir_all(root.join("b/z.new")).unwrap();
        let both = plan(&[("a/y", b"2"), ("b/z", b"3")]);
        assert!(directory(&root, &both, |_| true).is_err());
        assert!(root.join("a/y").exists(), "the first was written");
        let done = directory(&root, &plan(&[("a/x", b"1")]), |_| true).unwrap();
        assert_eq!(done, Published { written: 0, kept: 1, removed: 1 });
        assert!(!root.join("a/y").exists());
    }

    #[test]
    fn everybody_may_read_what_is_handed_out_and_nobody_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("srv/web");
        // As in a frontend's process, whose files are its owner's.
        let home = crate::home::Home::init(&dir.path().join("frontend")).unwrap();
        assert_eq!(mode(home.root()), 0o700);
        directory(&root, &plan(&[("a/b/x", b"1")]), |_| true).unwrap();
        for folder in ["", "a", "a/b"] {
            assert_eq!(mode(&root.join(folder)), 0o755, "{folder}");
        }
        assert_eq!((mode(&root.join("a/b/x")), mode(&root.join(LIST))), (0o644, 0o600));
        // A folder that is there belongs to who made it.
        fs::set_permissions(root.join("a"), Permissions::from_mode(0o750)).unwrap();
        directory(&root, &plan(&[("a/b/x", b"2"), ("a/c/y", b"3")]), |_| true).unwrap();
        assert_eq!((mode(&root.join("a")), mode(&root.join("a/c"))), (0o750, 0o755));
        assert_eq!(mode(&root.join("a/b/x")), 0o644);
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
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
