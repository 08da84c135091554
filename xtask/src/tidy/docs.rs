//! Checks on documents: that what they name is there.

use std::collections::BTreeSet;

use super::{Finding, tree::File, tree::Tree};

/// A path in backticks or in a link leads somewhere.
pub(crate) fn paths_exist(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.documents() {
        for (number, line) in file.lines() {
            let named = code_spans(line).into_iter().filter(|span| is_path_of_ours(tree, span));
            for path in named.flat_map(alternatives) {
                // A document beside a crate may name the crate's own folders.
                let near = resolve(&file.path, &path);
                if !exists(tree, path.trim_end_matches('/')) && !exists(tree, &near) {
                    findings.push(Finding::new(&file.path, number, format!("no `{path}` here")));
                }
            }
            for target in link_targets(line) {
                if !exists(tree, &resolve(&file.path, target)) {
                    let text = format!("the link leads nowhere: {target}");
                    findings.push(Finding::new(&file.path, number, text));
                }
            }
        }
    }
    findings
}

/// A test that a document names is there.
pub(crate) fn tests_exist(tree: &Tree) -> Vec<Finding> {
    let known: BTreeSet<&str> = tree
        .rust()
        .flat_map(File::lines)
        .filter_map(|(_, line)| line.trim_start().strip_prefix("fn ")?.split('(').next())
        .collect();
    // A key of a program's JSON may be as long as a fact.
    let is_key = |name: &str| {
        let quoted = format!("\"{name}\"");
        tree.rust().any(|file| file.text.contains(&quoted))
    };
    let mut findings = Vec::new();
    for file in tree.documents() {
        for (number, line) in file.lines() {
            // Facts are long names; shorter ones may be anything.
            let names = code_spans(line).into_iter().filter(|span| {
                let words = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                span.matches('_').count() >= 4 && span.chars().all(words)
            });
            for name in names.filter(|name| !known.contains(name) && !is_key(name)) {
                findings.push(Finding::new(&file.path, number, format!("no test `{name}`")));
            }
        }
    }
    findings
}

/// Every table of refusal codes lists all of the code's, and no other.
pub(crate) fn refusal_codes(tree: &Tree) -> Vec<Finding> {
    let Some(messages) = tree.file(MESSAGES) else {
        return vec![Finding::new(MESSAGES, 0, "is missing")];
    };
    let codes = codes_in_source(&messages.text);
    if codes.is_empty() {
        return vec![Finding::new(MESSAGES, 0, "holds no table of refusal codes")];
    }
    let mut findings = Vec::new();
    let mut tables = 0;
    for file in tree.documents() {
        for (number, named) in tables_of_codes(file, &codes) {
            tables += 1;
            for code in codes.difference(&named) {
                let text = format!("the table lacks the refusal code `{code}`");
                findings.push(Finding::new(&file.path, number, text));
            }
            for code in named.difference(&codes) {
                let text = format!("no refusal code is called `{code}`");
                findings.push(Finding::new(&file.path, number, text));
            }
        }
    }
    if tables == 0 {
        findings.push(Finding::new("hsm-docs", 0, "no page explains the refusal codes"));
    }
    findings
}

/// Every page of a decision is in the operators' list of them.
pub(crate) fn decisions_listed(tree: &Tree) -> Vec<Finding> {
    let pages = tree.documents().filter(|file| file.path.starts_with(DECISIONS));
    let Some(list) = tree.file(DECISIONS_LIST) else {
        return pages.map(|file| Finding::new(&file.path, 0, "has no list to be in")).collect();
    };
    let linked: BTreeSet<String> = list
        .lines()
        .filter(|(_, line)| line.starts_with('|'))
        .flat_map(|(_, line)| link_targets(line))
        .map(|target| resolve(DECISIONS_LIST, target))
        .collect();
    pages
        .filter(|file| !linked.contains(&file.path))
        .map(|file| Finding::new(DECISIONS_LIST, 0, format!("no row for {}", file.path)))
        .collect()
}

/// Every file of stories is in the list that says what is proven.
pub(crate) fn stories_listed(tree: &Tree) -> Vec<Finding> {
    let stories = tree.rust().filter(|file| {
        let name = file.path.strip_prefix(STORIES);
        name.is_some_and(|name| !name.contains('/'))
    });
    let named: BTreeSet<String> = tree
        .file(STORIES_LIST)
        .into_iter()
        .flat_map(File::lines)
        .filter(|(_, line)| line.starts_with('|'))
        .flat_map(|(_, line)| code_spans(line))
        .flat_map(alternatives)
        .collect();
    stories
        .filter(|file| !named.contains(&file.path))
        .map(|file| Finding::new(STORIES_LIST, 0, format!("no row for {}", file.path)))
        .collect()
}

/// What is done next has a place to be told to operators.
pub(crate) fn changelog(tree: &Tree) -> Vec<Finding> {
    let has_place = |file: &File| {
        file.text.lines().any(|line| line.starts_with("## ") && line.contains("Unreleased"))
    };
    match tree.file("CHANGELOG.md") {
        Some(file) if has_place(file) => Vec::new(),
        _ => vec![Finding::new("CHANGELOG.md", 0, "has no section `## Unreleased`")],
    }
}

/// What stands between single backticks.
pub(super) fn code_spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// Whether a code span names a path that begins in one of the workspace's folders.
fn is_path_of_ours(tree: &Tree, span: &str) -> bool {
    let Some((first, rest)) = span.split_once('/') else {
        return ROOT_FILES.contains(&span);
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./{},".contains(c);
    let is_folder = tree.paths.iter().any(|path| path == first);
    is_folder && span.chars().all(plain) && !rest.starts_with('/')
}

/// `a/{b,c}.rs` means `a/b.rs` and `a/c.rs`.
fn alternatives(span: &str) -> Vec<String> {
    let Some((before, rest)) = span.split_once('{') else {
        return vec![span.to_owned()];
    };
    let Some((inner, after)) = rest.split_once('}') else {
        return vec![span.to_owned()];
    };
    inner.split(',').flat_map(|word| alternatives(&format!("{before}{word}{after}"))).collect()
}

/// The targets of markdown links that stay inside the tree.
fn link_targets(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or(""))
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// The tree's path of a link in the document `from`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn exists(tree: &Tree, path: &str) -> bool {
    tree.paths.iter().any(|known| known == path)
}

/// The public names in `RefusalCode::TABLE`.
fn codes_in_source(text: &str) -> BTreeSet<&str> {
    let Some((_, after)) = text.split_once("impl RefusalCode") else {
        return BTreeSet::new();
    };
    let table = after.split("];").next().unwrap_or("");
    table.split("Self::").skip(1).filter_map(|row| row.split('"').nth(1)).collect()
}

/// The tables of a document whose first column holds refusal codes, with their first lines.
fn tables_of_codes<'a>(file: &'a File, codes: &BTreeSet<&str>) -> Vec<(usize, BTreeSet<&'a str>)> {
    let mut tables = Vec::new();
    let mut table: Option<(usize, BTreeSet<&str>)> = None;
    let mut is_of_ids = false;
    let end = (usize::MAX, "");
    for (number, line) in file.lines().chain([end]) {
        if !line.starts_with('|') {
            tables.extend(table.take());
            is_of_ids = false;
            continue;
        }
        let first_cell = line.split('|').nth(1).unwrap_or("");
        let (_, named) = table.get_or_insert((number, BTreeSet::new()));
        // The ids of controls are often the codes of their refusals.
        is_of_ids |= first_cell.trim() == "id";
        if !is_of_ids {
            named.extend(code_spans(first_cell));
        }
    }
    // A table that merely mentions a code or two is about something else.
    tables.retain(|(_, named)| named.intersection(codes).count() >= TABLE_ROWS_MIN);
    tables
}

/// Files at the root that documents name without a folder.
const ROOT_FILES: [&str; 7] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "clippy.toml",
    "deny.toml",
];
/// Where the refusal codes are written down for the programs.
const MESSAGES: &str = "protocol/src/message/refusal.rs";
/// Where the pages of the decisions are.
const DECISIONS: &str = "hsm-docs/decisions/";
/// The page that lists them.
const DECISIONS_LIST: &str = "hsm-docs/README.md";
/// Where the stories of the real programs are.
const STORIES: &str = "tests/tests/";
/// The page that lists them.
const STORIES_LIST: &str = "tests/README.md";
/// From this many known codes on, a table claims to list them.
const TABLE_ROWS_MIN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: &str = "impl RefusalCode {\n    const TABLE: [X; 6] = [\n\
        (Self::A, \"a-one\", \"do\"),\n(\n    Self::B,\n    \"b-two\",\n    \"do\",\n),\n\
        (Self::C, \"c\", \"do\"), (Self::D, \"d\", \"do\"), (Self::E, \"e\", \"do\"),\n\
        (Self::F, \"f\", \"do\"),\n    ];\n}\n";

    fn page(codes: &str) -> String {
        let rows = codes.split(' ').map(|code| format!("| `{code}` | why |\n"));
        format!("# Page\n\n| code | meaning |\n|---|---|\n{}\nEnd.\n", rows.collect::<String>())
    }

    #[test]
    fn a_path_that_is_gone_is_found() {
        let tree = |text: &str| Tree::of(&[("hsm-docs/a.md", text), ("signer/src/main.rs", "")]);
        let found = |text: &str| paths_exist(&tree(text)).len();
        assert_eq!(found("see `signer/src/main.rs` and `signer/src/`"), 0);
        assert_eq!(found("see `signer/src/gone.rs`"), 1);
        assert_eq!(found("see `signer/src/{main,gone}.rs`"), 1);
        assert_eq!(found("run `signer run` or `elsewhere/x`"), 0);
        assert_eq!(found("[main](../signer/src/main.rs) [web](https://example.org/x)"), 0);
        assert_eq!(found("[main](../signer/src/gone.rs)"), 1);
        assert_eq!(found("see `README.md`"), 1);
        let near = [("a/SPEC.md", "see `tests/x`"), ("a/tests/x", ""), ("tests/y", "")];
        assert_eq!(paths_exist(&Tree::of(&near)), []);
    }

    #[test]
    fn a_test_that_is_gone_is_found() {
        let judge = |text: &str| {
            let source = "    fn a_fact_that_is_proven() {\n\"a_key_of_some_numbers\": 1,";
            tests_exist(&Tree::of(&[("a.md", text), ("a/src/lib.rs", source)])).len()
        };
        assert_eq!(judge("see `a_fact_that_is_proven` and `crl_number`"), 0);
        assert_eq!(judge("read `a_key_of_some_numbers`"), 0);
        assert_eq!(judge("read `a_key_of_other_numbers`"), 1);
        assert_eq!(judge("see `a_fact_that_is_not_proven`"), 1);
    }

    #[test]
    fn a_table_that_lacks_a_code_or_invents_one_is_found() {
        let judge = |text: &str| {
            refusal_codes(&Tree::of(&[(MESSAGES, CODES), ("hsm-docs/refusals.md", text)]))
        };
        assert_eq!(judge(&page("a-one b-two c d e f")), []);
        assert_eq!(judge(&page("a-one b-two c d e")).len(), 1);
        assert_eq!(judge(&page("a-one b-two c d e f g")).len(), 1);
        assert_eq!(judge("no table").len(), 1);
        assert_eq!(judge(&page("a-one")).len(), 1);
    }

    #[test]
    fn a_decision_that_the_list_lacks_is_found() {
        let judge = |list: &str| {
            let page = "hsm-docs/decisions/0001-a.md";
            decisions_listed(&Tree::of(&[(DECISIONS_LIST, list), (page, "# A\n")]))
        };
        assert_eq!(judge("| [0001](decisions/0001-a.md) | a |\n"), []);
        assert_eq!(judge("| [0002](decisions/0002-b.md) | b |\n").len(), 1);
        assert_eq!(judge("See [a](decisions/0001-a.md).\n").len(), 1, "no row of the list");
        assert_eq!(decisions_listed(&Tree::of(&[("hsm-docs/decisions/0001-a.md", "")])).len(), 1);
    }

    #[test]
    fn a_story_that_the_list_lacks_is_found() {
        let judge = |list: &str| {
            let files = [(STORIES_LIST, list), ("tests/tests/a.rs", ""), ("tests/tests/b.rs", "")];
            stories_listed(&Tree::of(&files)).len()
        };
        assert_eq!(judge("| a | b | `tests/tests/a.rs` |\n| c | d | `tests/tests/b.rs` |\n"), 0);
        assert_eq!(judge("| a | b | `tests/tests/{a,b}.rs` |\n"), 0);
        assert_eq!(judge("| a | b | `tests/tests/a.rs` |\nSee `tests/tests/b.rs`.\n"), 1);
        assert_eq!(judge(""), 2);
        let rooms = [(STORIES_LIST, ""), ("tests/tests/a/room.rs", ""), ("tests/src/a.rs", "")];
        assert_eq!(stories_listed(&Tree::of(&rooms)), []);
    }

    #[test]
    fn a_changelog_without_a_place_for_the_next_change_is_found() {
        let judge = |text: &str| changelog(&Tree::of(&[("CHANGELOG.md", text)])).is_empty();
        assert!(judge("# Changelog\n\n## Unreleased\n"));
        assert!(judge("## [Unreleased]\n"));
        assert!(!judge("# Changelog\n\n## 1.0\n"));
    }
}
