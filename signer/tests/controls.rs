//! The list of controls for reviewers, `hsm-docs/controls.md`, against the comments in the code
//! that say where each one is checked.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected is")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The first word of a control's id.
const FAMILIES: [&str; 14] = [
    "blocklist",
    "ca",
    "common",
    "csr",
    "ec",
    "key",
    "name",
    "names",
    "openpgp",
    "pair",
    "rsa",
    "spkac",
    "subject",
    "text",
];

/// Ids without a family, or of one whose words stand for other things too.
const SINGLE: [&str; 3] = ["lint", "validity-date-table", "validity-issuer"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The texts of every file of the program, without those of its tests.
fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            sources(&path, texts);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            texts.push(fs::read_to_string(&path).unwrap());
        }
    }
}

fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_id(span: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let family = span.split_once('-').is_some_and(|(first, _)| FAMILIES.contains(&first));
    SINGLE.contains(&span) || family && span.chars().all(letters)
}

#[test]
fn every_control_of_the_code_has_its_row_and_every_row_its_control() {
    let mut texts = Vec::new();
    sources(&root().join("src"), &mut texts);
    let comments = texts.iter().flat_map(|text| text.lines()).map(str::trim_start);
    let comments = comments.filter(|line| line.starts_with("//"));
    let in_code: BTreeSet<&str> = comments.flat_map(spans).filter(|span| is_id(span)).collect();

    let page = fs::read_to_string(root().join("../hsm-docs/controls.md")).unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let ids: Vec<&str> = cells.flat_map(spans).collect();
    let in_page: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), in_page.len(), "a control has two rows");
    assert!(in_code.len() > 60, "the ids were not found: {in_code:?}");
    let no_row: Vec<_> = in_code.difference(&in_page).collect();
    let no_control: Vec<_> = in_page.difference(&in_code).collect();
    assert!(no_row.is_empty() && no_control.is_empty(), "{no_row:?}, {no_control:?}");
}
