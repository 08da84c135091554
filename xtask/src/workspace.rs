//! Where the workspace and its build products lie, and how its tools are started.
//!
//! Every build takes the whole workspace, so that features resolve alike and nothing is built
//! twice.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

/// A command failed and has said so itself; only its exit code is left to pass on.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) u8);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Failed {}

/// Which build of the programs is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Unoptimised, with optimised dependencies: tests and the demo.
    Dev,
    /// Optimised: measurements.
    Release,
}

/// The checked-out tree.
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// The folder of the build products.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo where the workspace around this package lies.
    pub(crate) fn find() -> Result<Self> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cargo does not start; is Rust installed?")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: run this inside the workspace");
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let folder = |key: &str| {
            metadata[key]
                .as_str()
                .map(PathBuf::from)
                .ok_or_else(|| anyhow!("`cargo metadata` names no {key}"))
        };
        Ok(Self { root: folder("workspace_root")?, target: folder("target_directory")? })
    }

    /// A cargo command in the workspace.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo());
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// Builds every program of the workspace.
    pub(crate) fn build_programs(&self, profile: Profile) -> Result<()> {
        let mut arguments = vec!["build", "--workspace", "--bins"];
        if profile == Profile::Release {
            arguments.push("--release");
        }
        say("build", "the programs (the first time takes minutes)");
        succeed(&mut self.cargo(&arguments))
    }

    /// Builds programs and tests alike, with the features that the test runner will ask for.
    pub(crate) fn build_everything(&self) -> Result<()> {
        say("build", "programs and tests (the first time takes minutes)");
        succeed(&mut self.cargo(&["build", "--workspace", "--all-targets"]))
    }

    /// Where a built program lies.
    pub(crate) fn program(&self, profile: Profile, name: &str) -> PathBuf {
        let folder = match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        };
        self.target.join(folder).join(name)
    }

    /// Runs a built program with the terminal as its own.
    pub(crate) fn run_program(&self, profile: Profile, name: &str, rest: &[&str]) -> Result<()> {
        let mut command = Command::new(self.program(profile, name));
        // In the field nobody pays for the backtraces of errors that are answers.
        succeed(command.args(rest).current_dir(&self.root).env_remove("RUST_BACKTRACE"))
    }
}

/// Runs a command that speaks for itself.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} does not start", named(command)))?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(Failed(code).into())
}

/// Whether a program of this name is in the search path.
pub(crate) fn in_path(name: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(name).is_file())
}

/// One plain progress line.
pub(crate) fn say(what: &str, text: &str) {
    eprintln!("{what:>8}  {text}");
}

/// The cargo that runs us, so that a toolchain chosen for one command holds for all.
fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn named(command: &Command) -> String {
    Path::new(command.get_program()).display().to_string()
}
