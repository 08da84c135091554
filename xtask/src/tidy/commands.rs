//! Checks every command that the documents tell people to type against `--help`.

use std::{path::Path, process::Command};

use super::{Finding, docs::code_spans, tree::Tree};

/// The programs that people are told to run.
const PROGRAMS: [&str; 3] = ["frontend", "link-sim", "signer"];

/// Asks a program, with subcommands, for its help text.
type Help<'a> = &'a dyn Fn(&[&str]) -> Option<String>;

/// Every subcommand and option in a code span or code block is known to its program.
pub(crate) fn exist(tree: &Tree, help: Help<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.documents() {
        let mut in_block = false;
        for (number, line) in file.lines() {
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
                continue;
            }
            // What a reader should see is what a program prints, not what a person types.
            let typed = line.split("should see").next().unwrap_or(line);
            let spans = if in_block { vec![line] } else { code_spans(typed) };
            for text in spans.into_iter().flat_map(commands_in) {
                if let Err(problem) = known(text, help) {
                    findings.push(Finding::new(&file.path, number, format!("{problem}: {text}")));
                }
            }
        }
    }
    findings
}

/// What `program words --help` prints; nothing when it fails.
pub(crate) fn help(program: &Path, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).arg("--help").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The parts of a line that begin with one of our programs, after a prompt or another command.
fn commands_in(line: &str) -> Vec<&str> {
    let line = line.split(" # ").next().unwrap_or(line);
    // `store check|rebuild` is one command; a pipe has spaces around it.
    line.split(" | ").flat_map(|part| part.split(" && ")).filter_map(begin_of_command).collect()
}

fn begin_of_command(text: &str) -> Option<&str> {
    let mut rest = text.trim();
    for prompt in ["$ ", "# ", "sudo "] {
        rest = rest.strip_prefix(prompt).unwrap_or(rest);
    }
    let (first, after) = rest.split_once(' ')?;
    (PROGRAMS.contains(&first) && !after.trim().is_empty()).then_some(rest)
}

/// Walks down the subcommands that `text` names, then looks for its options.
fn known(text: &str, help: Help<'_>) -> Result<(), String> {
    let mut path: Vec<&str> = Vec::new();
    let mut node = String::new();
    let mut subcommands: Vec<String> = Vec::new();
    for (index, word) in text.split_whitespace().enumerate() {
        let word = word.trim_matches(|c| "[](){}.,:…".contains(c));
        if index == 0 || subcommands.iter().any(|name| name == word) {
            path.push(word);
            node = help(&path).ok_or_else(|| format!("`{} --help` fails", path.join(" ")))?;
            subcommands = subcommands_in(&node);
        } else if !subcommands.is_empty() && is_word(word) {
            // `check|rebuild`: each of them, and nothing can follow.
            let unknown =
                word.split('|').find(|name| !subcommands.iter().any(|known| known == name));
            match unknown {
                Some(name) => return Err(format!("`{}` has no command `{name}`", path.join(" "))),
                None => return Ok(()),
            }
        } else {
            for option in word.split('|').filter(|option| option.starts_with("--")) {
                let option = option.split('=').next().unwrap_or(option);
                if !options_in(&node).any(|known| known == option) {
                    return Err(format!("`{}` has no option `{option}`", path.join(" ")));
                }
            }
        }
    }
    Ok(())
}

/// A word as subcommands are: not an option, a placeholder or a value.
fn is_word(word: &str) -> bool {
    !word.is_empty()
        && word.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '|')
        && !word.starts_with('-')
}

/// The names in the section `Commands:` of a help text.
fn subcommands_in(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        // Deeper lines continue a description.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn options_in(help: &str) -> impl Iterator<Item = &str> {
    help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.starts_with("--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(words: &[&str]) -> Option<String> {
        match words {
            ["signer"] => Some("Commands:\n  run    Starts\n  store  Looks after\n         files\n\nOptions:\n      --dir <DIR>\n".into()),
            ["signer", "run"] => Some("Options:\n      --link <SPEC>\n      --dir <DIR>\n".into()),
            ["signer", "store"] => Some("Commands:\n  check\n  rebuild\n".into()),
            ["signer", "store", _] => Some("Options:\n      --json\n".into()),
            _ => None,
        }
    }

    fn judge(text: &str) -> usize {
        exist(&Tree::of(&[("hsm-docs/a.md", text)]), &fake).len()
    }

    #[test]
    fn a_command_or_option_that_does_not_exist_is_found() {
        assert_eq!(judge("run `signer run --link pty:x` first"), 0);
        assert_eq!(judge("run `signer walk` first"), 1);
        assert_eq!(judge("run `signer run --lnk pty:x` first"), 1);
        assert_eq!(judge("`signer store check --json`, `signer store check|rebuild`"), 0);
        assert_eq!(judge("`signer store check|forget`"), 1);
    }

    #[test]
    fn commands_are_found_in_blocks_and_behind_prompts() {
        assert_eq!(judge("```\n$ sudo signer walk\n```"), 1);
        assert_eq!(judge("```\nsigner run --link pty:x  # starts it\n```"), 0);
        assert_eq!(judge("```\ncat a | signer walk\n```"), 1);
        assert_eq!(judge("You should see `signer runs`."), 0);
        assert_eq!(judge("prose about the signer walk, not code"), 0);
        assert_eq!(judge("`signer run [--link SPEC] [--dir DIR]`"), 0);
    }
}
