//! The files of the workspace, read once.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context, Result};

/// Every text file that belongs to the project.
pub(crate) struct Tree {
    /// In order of their paths.
    pub(crate) files: Vec<File>,
    /// Every path, those of folders and of binary files too.
    pub(crate) paths: Vec<String>,
}

/// One text file.
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// The lines with their numbers, 1 for the first.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn is_document(&self) -> bool {
        self.path.ends_with(".md")
    }
}

impl Tree {
    /// Reads everything below `root` but build products and version control.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { files: Vec::new(), paths: Vec::new() };
        tree.add(root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    pub(crate) fn documents(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_document())
    }

    fn add(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if NOT_OURS.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            self.paths.push(path.clone());
            if entry.file_type()?.is_dir() {
                self.add(&entry.path(), &format!("{path}/"))?;
                continue;
            }
            match fs::read_to_string(entry.path()) {
                Ok(text) => self.files.push(File { path, text }),
                // Golden bytes and keys are no text.
                Err(error) if error.kind() == ErrorKind::InvalidData => {}
                // Gone since the folder was read: an editor's swap file.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path),
            }
        }
        Ok(())
    }
}

/// Folders that hold nothing of the project's own.
const NOT_OURS: [&str; 3] = [".git", "target", "node_modules"];

#[cfg(test)]
impl Tree {
    /// A tree with these files and the folders above them.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut paths = Vec::new();
        for (path, _) in files {
            for (index, _) in path.match_indices('/') {
                paths.push(path[..index].to_owned());
            }
            paths.push((*path).to_owned());
        }
        let file =
            |(path, text): &(&str, &str)| File { path: (*path).into(), text: (*text).into() };
        Self { files: files.iter().map(file).collect(), paths }
    }
}
