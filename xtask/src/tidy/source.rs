//! Checks on source files: their shape, and what must not stand in them.
//!
//! The words looked for are written in two halves, so that this file does not find itself.

use super::{Finding, tree::File, tree::Tree};

/// `//!` first: what this room does, and what it must never do.
pub(crate) fn opens_with_its_purpose(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| Finding::new(&file.path, 1, "does not open with `//!`"))
        .collect()
}

/// A file past 900 lines is more than one room.
pub(crate) fn file_length(tree: &Tree) -> Vec<Finding> {
    let too_long = |file: &&File| file.text.lines().count() > LINES_MAX;
    tree.rust()
        .filter(too_long)
        .map(|file| {
            let lines = file.text.lines().count();
            Finding::new(&file.path, 0, format!("{lines} lines; cut it into rooms"))
        })
        .collect()
}

/// Files past 600 lines, for a person to think about.
pub(crate) fn long_files(tree: &Tree) -> Vec<String> {
    tree.rust()
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| (LINES_SECOND_LOOK + 1..=LINES_MAX).contains(lines))
        .map(|(file, lines)| format!("{} has {lines} lines", file.path))
        .collect()
}

/// No test is switched off, and no place waits for somebody to finish it.
pub(crate) fn nothing_undone(tree: &Tree) -> Vec<Finding> {
    find(tree.rust(), |line| UNDONE.into_iter().find(|word| line.contains(word)))
}

/// A test waits for an event with a deadline, never for time to pass.
pub(crate) fn no_sleep_in_tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        // A benchmark proves nothing, and has to let pauses pass that the programs keep.
        let is_bench = file.path.starts_with("tests/src/bin/bench/");
        let is_test = file.path.starts_with("tests/") || file.path.contains("/tests/");
        let is_test = is_test && !is_bench;
        let mut in_test = is_test;
        for (number, line) in file.lines() {
            in_test |= line.starts_with("#[cfg(test)]");
            if in_test && SLEEPS.into_iter().any(|word| line.contains(word)) {
                findings.push(Finding::new(&file.path, number, "sleeps; wait for an event"));
            }
        }
    }
    findings
}

/// What works only in one person's home works nowhere else.
pub(crate) fn no_machine_path(tree: &Tree) -> Vec<Finding> {
    find(tree.files.iter(), |line| {
        MACHINE_PATHS.into_iter().find(|path| {
            line.match_indices(path).any(|(at, _)| {
                // `authorities/root/` and `$DIR/root/` are paths of the product.
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "_-.})>/".contains(c))
            })
        })
    })
}

/// The product speaks of itself, not of the workplace that it was made in.
pub(crate) fn product_words(tree: &Tree) -> Vec<Finding> {
    find(tree.files.iter(), |line| {
        let line = line.to_lowercase();
        WORKPLACE_WORDS.into_iter().find(|word| {
            line.match_indices(word).any(|(at, _)| {
                let before = &line[..at];
                let after = &line[at + word.len()..];
                let whole = !before.ends_with(|c: char| c.is_alphanumeric())
                    && !after.starts_with(|c: char| c.is_alphanumeric());
                whole && !before.ends_with("gpg-") && !before.ends_with("user-")
            })
        })
    })
}

/// A secret's bytes are reached by one method; the files that call it are few, and listed here.
pub(crate) fn secrets_laid_open(tree: &Tree) -> Vec<Finding> {
    find(tree.rust().filter(|file| !MAY_LAY_OPEN.contains(&file.path.as_str())), |line| {
        LAY_OPEN.into_iter().find(|word| line.contains(word))
    })
}

/// The workspace's table says of each dependency what it is for.
pub(crate) fn dependencies_have_reasons(tree: &Tree) -> Vec<Finding> {
    let Some(manifest) = tree.file("Cargo.toml") else {
        return vec![Finding::new("Cargo.toml", 0, "is missing")];
    };
    let mut findings = Vec::new();
    let mut in_table = false;
    for (number, line) in manifest.lines() {
        if line.starts_with('[') {
            in_table = line == "[workspace.dependencies]";
            continue;
        }
        let is_dependency = in_table && line.contains('=') && !line.starts_with('#');
        if !is_dependency || line.contains("path = ") {
            continue;
        }
        let reason = line.rsplit_once(" # ").map_or("", |(_, reason)| reason);
        if reason.split_whitespace().count() < 2 {
            findings.push(Finding::new(&manifest.path, number, "a dependency without a reason"));
        }
    }
    for file in tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        for (number, line) in file.lines() {
            if line.contains("version = \"") && !line.contains("path = ") {
                let text = "versions belong in the workspace's table, with their reason";
                findings.push(Finding::new(&file.path, number, text));
            }
        }
    }
    findings
}

/// `unsafe` is forbidden and documentation asked for in one place.
pub(crate) fn crates_take_the_lints(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"))
        .filter(|file| !file.text.contains("[lints]\nworkspace = true"))
        .map(|file| Finding::new(&file.path, 0, "does not say `[lints] workspace = true`"))
        .collect()
}

/// Every line in which `search` finds a word.
fn find<'a>(
    files: impl Iterator<Item = &'a File>,
    search: impl Fn(&str) -> Option<&'static str>,
) -> Vec<Finding> {
    files
        .flat_map(|file| file.lines().map(move |(number, line)| (file, number, line)))
        .filter_map(|(file, number, line)| {
            let word = search(line)?;
            Some(Finding::new(&file.path, number, format!("`{word}` in: {}", line.trim())))
        })
        .collect()
}

/// More than this is more than one room.
const LINES_MAX: usize = 900;
/// More than this asks for a second look.
const LINES_SECOND_LOOK: usize = 600;

const UNDONE: [&str; 5] = [
    concat!("#[ign", "ore"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
];
const SLEEPS: [&str; 3] = [concat!("sle", "ep("), concat!("\"sle", "ep"), concat!("usle", "ep")];
const MACHINE_PATHS: [&str; 3] =
    [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")];
const WORKPLACE_WORDS: [&str; 6] = [
    concat!("sha", "red/"),
    concat!("the iss", "ue on"),
    concat!("this iss", "ue"),
    concat!("hel", "per"),
    concat!("hel", "pers"),
    concat!("ag", "ent"),
];
const LAY_OPEN: [&str; 2] = [concat!(".exp", "ose("), concat!(".expose_", "secret(")];

/// Where keys and passphrases are handed to the libraries that use them.
const MAY_LAY_OPEN: [&str; 2] = ["signer/src/keys.rs", "signer/src/openpgp/key.rs"];

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(check: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> bool {
        check(&Tree::of(&[(path, text)])).is_empty()
    }

    #[test]
    fn a_file_that_opens_with_code_is_found() {
        assert!(accepts(opens_with_its_purpose, "a/src/lib.rs", "//! A room.\n"));
        assert!(!accepts(opens_with_its_purpose, "a/src/lib.rs", "use std::fmt;\n"));
        assert!(accepts(opens_with_its_purpose, "a/notes.txt", "free\n"));
    }

    #[test]
    fn the_line_past_the_limit_is_found() {
        assert!(accepts(file_length, "a.rs", &"\n".repeat(LINES_MAX)));
        assert!(!accepts(file_length, "a.rs", &"\n".repeat(LINES_MAX + 1)));
        let long = Tree::of(&[("a.rs", &"\n".repeat(LINES_SECOND_LOOK + 1))]);
        assert_eq!(long_files(&long), ["a.rs has 601 lines"]);
    }

    #[test]
    fn skipped_tests_and_open_ends_are_found() {
        for word in UNDONE {
            assert!(!accepts(nothing_undone, "a.rs", &format!("  {word}")), "{word}");
        }
        assert!(accepts(nothing_undone, "a.rs", "fn done() {}"));
    }

    #[test]
    fn a_sleep_is_found_in_tests_and_only_there() {
        let sleep = format!("thread::{}1)", SLEEPS[0]);
        assert!(!accepts(no_sleep_in_tests, "tests/tests/a.rs", &sleep));
        assert!(!accepts(no_sleep_in_tests, "a/src/b.rs", &format!("#[cfg(test)]\n{sleep}")));
        assert!(accepts(no_sleep_in_tests, "a/src/b.rs", &sleep));
        assert!(accepts(no_sleep_in_tests, "tests/src/bin/bench/a.rs", &sleep));
    }

    #[test]
    fn paths_of_a_machine_are_found_and_the_products_are_not() {
        for path in MACHINE_PATHS {
            assert!(!accepts(no_machine_path, "a.md", &format!("see {path}x")), "{path}");
            assert!(!accepts(no_machine_path, "a.md", &format!("\"{path}x\"")), "{path}");
        }
        assert!(accepts(
            no_machine_path,
            "a.md",
            &format!("authorities{}ca.crt", MACHINE_PATHS[0])
        ));
    }

    #[test]
    fn words_of_the_workplace_are_found_and_like_words_are_not() {
        for word in WORKPLACE_WORDS {
            assert!(!accepts(product_words, "a.rs", &format!("// the {word} says")), "{word}");
        }
        let daemon = format!("gpg-{} is a program", WORKPLACE_WORDS[5]);
        assert!(accepts(product_words, "a.rs", &daemon));
        assert!(accepts(product_words, "a.rs", "a reagent"));
    }

    #[test]
    fn laying_a_secret_open_is_found_outside_the_listed_files() {
        let line = format!("key{})", LAY_OPEN[0]);
        assert!(!accepts(secrets_laid_open, "signer/src/gate.rs", &line));
        assert!(accepts(secrets_laid_open, MAY_LAY_OPEN[0], &line));
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let table =
            |line: &str| format!("[workspace.dependencies]\n{line}\n[profile.dev]\nx = 1\n");
        let judge = |text: &str| accepts(dependencies_have_reasons, "Cargo.toml", text);
        assert!(judge(&table("crc = \"3\" # CRC-32C of frames; another would replace it")));
        assert!(judge(&table("own = { path = \"own\" }")));
        assert!(!judge(&table("crc = \"3\"")));
        assert!(!judge(&table("crc = \"3\" # crc")));
    }

    #[test]
    fn a_version_outside_the_workspace_table_is_found() {
        let root = ("Cargo.toml", "");
        let tree = Tree::of(&[root, ("a/Cargo.toml", "crc = { version = \"3\" }")]);
        assert_eq!(dependencies_have_reasons(&tree).len(), 1);
        let tree = Tree::of(&[root, ("a/Cargo.toml", "version.workspace = true")]);
        assert!(dependencies_have_reasons(&tree).is_empty());
    }

    #[test]
    fn a_crate_with_lints_of_its_own_is_found() {
        let takes = "[lints]\nworkspace = true\n";
        assert!(accepts(crates_take_the_lints, "a/Cargo.toml", takes));
        assert!(!accepts(crates_take_the_lints, "a/Cargo.toml", "[lints]\nrust = {}\n"));
    }
}
