//! The source and its documents judged by themselves: what a reviewer would else count by hand.
//!
//! A check is a function from the tree to findings, and each is tested with a tree it takes and
//! one it does not. Nothing here changes a file.

use std::fmt;

use anyhow::Result;

use crate::workspace::{Failed, Profile, Workspace, say};

mod commands;
mod docs;
mod source;
mod tree;

use tree::Tree;

/// Something that a person must change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// 1 for the first line; 0 when the whole file is meant.
    line: usize,
    text: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// A check with the fact that it upholds.
type Check = (&'static str, fn(&Tree) -> Vec<Finding>);

/// The checks that need the tree alone.
const CHECKS: [Check; 15] = [
    ("every Rust file opens with what it is for", source::opens_with_its_purpose),
    ("no file is past 900 lines", source::file_length),
    ("nothing is left undone or skipped", source::nothing_undone),
    ("no test waits by sleeping", source::no_sleep_in_tests),
    ("no path of a machine is written down", source::no_machine_path),
    ("every word belongs to the product", source::product_words),
    ("secrets are laid open only where listed", source::secrets_laid_open),
    ("every dependency has its reason", source::dependencies_have_reasons),
    ("every crate takes the workspace's lints", source::crates_take_the_lints),
    ("every path in the documents exists", docs::paths_exist),
    ("every test in the documents exists", docs::tests_exist),
    ("the documents' refusal codes are the code's", docs::refusal_codes),
    ("every decision is in the list of decisions", docs::decisions_listed),
    ("every story is in the list of stories", docs::stories_listed),
    ("the changelog has a place for what comes next", docs::changelog),
];

/// Runs every check; fails when one of them found something.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(&workspace.root)?;
    let mut count = 0;
    let mut report = |fact: &str, findings: Vec<Finding>| {
        if !findings.is_empty() {
            eprintln!("not so: {fact}");
        }
        for finding in &findings {
            eprintln!("  {finding}");
        }
        count += findings.len();
    };
    for (fact, check) in CHECKS {
        report(fact, check(&tree));
    }
    let help = |words: &[&str]| {
        let (program, rest) = words.split_first()?;
        commands::help(&workspace.program(Profile::Dev, program), rest)
    };
    report("every command in the documents exists", commands::exist(&tree, &help));
    for note in source::long_files(&tree) {
        say("tidy", &format!("worth a second look: {note}"));
    }
    if count > 0 {
        eprintln!("tidy: {count} findings");
        return Err(Failed(1).into());
    }
    say("tidy", &format!("{} facts hold in {} files", CHECKS.len() + 1, tree.files.len()));
    Ok(())
}
