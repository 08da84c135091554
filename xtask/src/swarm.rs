//! The swarm: both whole programs on virtual time, seed after seed.
//!
//! Nothing here judges: `link-sim swarm` does, and prints the line that replays what it found.

use anyhow::Result;

use crate::workspace::{Profile, Workspace};

/// What every change has to pass, with the build that the tests have anyway: an optimised one is
/// no faster, since the time goes to SQLite, libcrypto, zstd and the kernel.
const CI: [&str; 5] = ["swarm", "--seeds", "5000", "--operations", "300"];

/// Optimised, with the options that `link-sim swarm` has.
pub(crate) fn run(workspace: &Workspace, rest: &[&str]) -> Result<()> {
    workspace.build_programs(Profile::Release)?;
    let arguments: Vec<&str> = ["swarm"].iter().chain(rest).copied().collect();
    workspace.run_program(Profile::Release, "link-sim", &arguments)
}

/// The part of it that belongs to every change.
pub(crate) fn ci(workspace: &Workspace) -> Result<()> {
    workspace.run_program(Profile::Dev, "link-sim", &CI)
}
