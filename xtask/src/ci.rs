//! The tests, and everything else that is checked before a change is taken.
//!
//! Cheap checks come first and the tests last, so that the runner's closing lines end the output.
#![expect(clippy::disallowed_methods, reason = "driver: says how long a step took")]

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    setup, swarm, tidy,
    workspace::{Failed, Profile, Workspace, in_path, say, succeed},
};

/// All checks, one door for people and machines.
pub(crate) fn ci(workspace: &Workspace) -> Result<()> {
    setup::machine()?;
    setup::judges(workspace)?;
    setup::say_what_needs_root();
    let cargo = |arguments: &[&str]| succeed(&mut workspace.cargo(arguments));
    step("lock", || {
        // Fails when Cargo.lock does not fit the manifests, before anything could rewrite it.
        succeed(
            workspace
                .cargo(&["metadata", "--locked", "--format-version", "1"])
                .stdout(Stdio::null()),
        )
    })?;
    step("fmt", || cargo(&["fmt", "--all", "--check"]))?;
    step("clippy", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
    })?;
    step("doc", || {
        let mut doc =
            workspace.cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
        succeed(doc.env("RUSTDOCFLAGS", "-Dwarnings"))
    })?;
    step("deny", || deny(workspace))?;
    step("build", || workspace.build_everything())?;
    step("tidy", || tidy::run(workspace))?;
    step("demo", || workspace.run_program(Profile::Dev, "demo", &[]))?;
    step("swarm", || swarm::ci(workspace))?;
    run_tests(workspace, &[])
}

/// The tests; `rest` goes to the runner.
pub(crate) fn test(workspace: &Workspace, rest: &[&str]) -> Result<()> {
    setup::say_what_needs_root();
    workspace.build_everything()?;
    run_tests(workspace, rest)
}

/// The test runner ends the output: after it, nothing is printed.
fn run_tests(workspace: &Workspace, rest: &[&str]) -> Result<()> {
    if rest.is_empty() {
        // First, and alone: nextest knows no documentation tests, and an empty list of them should
        // not be the last that is read.
        step("doctest", || succeed(&mut workspace.cargo(&["test", "--workspace", "--doc"])))?;
    }
    let runner = match in_path("cargo-nextest") {
        true => ["nextest", "run", "--workspace", "--all-targets"],
        false => ["test", "--workspace", "--all-targets", "--no-fail-fast"],
    };
    say("test", &format!("cargo {}", runner[0]));
    succeed(workspace.cargo(&runner).args(rest))
}

/// Licences, bans and sources are judged offline; advisories need a database from elsewhere.
fn deny(workspace: &Workspace) -> Result<()> {
    setup::cargo_deny()?;
    let deny = ["deny", "--workspace", "check", "--hide-inclusion-graph"];
    succeed(workspace.cargo(&deny).args(["licenses", "bans", "sources"]))?;
    advisories(workspace.cargo(&deny).arg("advisories"))
}

fn advisories(check: &mut Command) -> Result<()> {
    let output = check.output().context("cargo-deny does not start")?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        say("deny", "advisories: none apply");
        return Ok(());
    }
    if is_unreachable(&words) {
        say("deny", "advisories: NOT CHECKED, the advisory database cannot be reached from here");
        return Ok(());
    }
    eprint!("{words}");
    Err(Failed(1).into())
}

/// Whether cargo-deny failed for want of its database, and not because of what is in it.
fn is_unreachable(words: &str) -> bool {
    words.contains("failed to fetch advisory database")
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    say(name, "...");
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    match &result {
        Ok(()) => say(name, &format!("ok ({seconds:.1} s)")),
        Err(_) => say(name, &format!("FAILED ({seconds:.1} s)")),
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advisory_that_applies_is_not_taken_for_an_unreachable_database() {
        assert!(!is_unreachable("error[vulnerability]: something is broken\nadvisories FAILED"));
        assert!(is_unreachable("[ERROR] failed to fetch advisory database https://example.org"));
    }
}
