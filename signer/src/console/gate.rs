//! Starts the process that opens what strangers wrote: as another user, with none of ours.
//!
//! It gets a socket, one file and two variables of the environment, and no descriptor besides.

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt as _},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use nix::unistd::User;

use super::{Failure, LogForm};
use crate::{fault::Fault, framing::Framed};

/// What the gate keeps of the environment: its log level and where the journal is.
const LOG_VARIABLES: [&str; 2] = ["SIGNER_LOG", "JOURNAL_STREAM"];

/// The process, and the socket to it.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) framed: Framed,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It holds nothing that needs a gentle end; without this it would linger as a zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts this program with `words`, as `user` if one is named: its standard input is the socket
/// to it, its standard output is `file`.
pub(super) fn start(
    words: &[&OsStr],
    file: impl Into<Stdio>,
    user: Option<&str>,
    log: LogForm,
) -> Result<Running, Failure> {
    let (ours, theirs) = UnixStream::pair().context("cannot make a socket for the gate")?;
    let program = std::env::current_exe().context("cannot find the signer's own program")?;
    let form = match log {
        LogForm::Text => "text",
        LogForm::Json => "json",
    };
    let mut command = Command::new(program);
    command.args(["--log", form]).args(words);
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(file);
    // Whatever our environment holds is not the gate's, but for where it logs.
    command.env_clear();
    for name in LOG_VARIABLES {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    if let Some(name) = user {
        let user = User::from_name(name).context("cannot look up the gate's user")?;
        let user = user.ok_or_else(|| {
            Fault::Configuration(format!("--gate-user: there is no user {name} here"))
        })?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let framed = Framed::new(ours).context("cannot use the gate's socket")?;
    let child = command.spawn().context("cannot start the gate")?;
    Ok(Running { child, framed })
}
