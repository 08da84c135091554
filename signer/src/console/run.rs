//! `signer run`: the vault's loop, with the gate as its child.
//!
//! It waits for the gate, the vault's bell, a signal and the clock at the same time, so it sleeps
//! only when nothing can be done. The gate may crash: it is started again, and the frontend asks
//! again. The vault may not: a fault ends it with one sentence, and the next start finishes what
//! was open.

use std::{
    collections::VecDeque,
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::User,
};

use super::{Failure, LogForm, RunArguments, boot_id, now, system_random};
use crate::{
    call::{Call, Reply, Tagged},
    fault::Fault,
    framing::{Framed, FramingError},
    link_key,
    vault::{Settings, Vault},
};

/// How often the vault looks for what is due by time alone.
const TICK: Duration = Duration::from_secs(1);

/// What the gate keeps of the environment: its log level and where the journal is.
pub(super) const LOG_VARIABLES: [&str; 2] = ["SIGNER_LOG", "JOURNAL_STREAM"];

/// The pause before a gate that ended is started again.
const GATE_PAUSE_US: i64 = 1_000_000;

/// Runs until a signal or a fault.
pub(super) fn vault(
    store: &Path,
    arguments: &RunArguments,
    log: LogForm,
) -> Result<ExitCode, Failure> {
    // Before the passphrase is asked for: an unpaired signer talks to nobody.
    link_key::paired(store)?;
    let settings = Settings {
        directory: store.to_owned(),
        passphrase: arguments.passphrase.read()?,
        boot_id: boot_id()?,
    };
    // Before the vault: its threads inherit what is blocked, else a signal would end one of them
    // and the process with it.
    let signals = stop_signals()?;
    let vault = Vault::open(settings, system_random(), now()?)?;
    let stamp = link_key::stamp(store);
    let gate = Gate::start(store, arguments, log)?;
    tracing::info!(store = %store.display(), link = %arguments.link, "signer runs");
    Loop { vault, gate: Some(gate), gate_at_us: 0, stamp, signals, store, arguments, log }.run()
}

fn stop_signals() -> Result<SignalFd, Failure> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGHUP); // the terminal was closed
    mask.thread_block().context("cannot block signals")?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    Ok(SignalFd::with_flags(&mask, flags).context("cannot listen for signals")?)
}

/// The gate process and the socket to it.
struct Gate {
    child: Child,
    framed: Framed,
    replies: VecDeque<Tagged<Reply>>,
}

impl Gate {
    /// Starts the gate, which alone learns the link's secret: this process only opens its file.
    fn start(store: &Path, arguments: &RunArguments, log: LogForm) -> Result<Self, Failure> {
        let peer = link_key::paired(store)?;
        let secret = link_key::open_secret(store)?;
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket for the gate")?;
        let program = std::env::current_exe().context("cannot find the signer's own program")?;
        let mut command = Command::new(program);
        let form = match log {
            LogForm::Text => "text",
            LogForm::Json => "json",
        };
        command.args(["--log", form, "gate", "--link", &arguments.link.to_string()]);
        command.args(["--peer", &peer.to_string()]);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(secret));
        // Whatever our environment holds is not the gate's, but for where it logs.
        command.env_clear();
        for name in LOG_VARIABLES {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        if let Some(name) = &arguments.gate_user {
            let user = User::from_name(name).context("cannot look up the gate's user")?;
            let user = user.ok_or_else(|| {
                Fault::Configuration(format!("--gate-user: there is no user {name} here"))
            })?;
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let child = command.spawn().context("cannot start the gate")?;
        let framed = Framed::new(ours).context("cannot use the gate's socket")?;
        Ok(Self { child, framed, replies: VecDeque::new() })
    }

    /// Reads up to `room` calls; none while the gate does not take its replies, or they would
    /// pile up here.
    fn calls(&mut self, room: usize) -> Result<Vec<Tagged<Call>>, FramingError> {
        match self.replies.is_empty() {
            true => self.framed.turn()?,
            false => self.send()?,
        }
        let mut calls = Vec::new();
        if !self.replies.is_empty() {
            return Ok(calls);
        }
        while calls.len() < room {
            match self.framed.recv::<Tagged<Call>>()? {
                Some(call) => calls.push(call),
                None => break,
            }
        }
        Ok(calls)
    }

    fn send(&mut self) -> Result<(), FramingError> {
        while let Some(reply) = self.replies.front() {
            match self.framed.send(reply) {
                Ok(()) => drop(self.replies.pop_front()),
                Err(FramingError::Full { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        self.framed.turn()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It holds nothing that needs a gentle end; without this it would linger as a zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Loop<'a> {
    vault: Vault,
    gate: Option<Gate>,
    gate_at_us: i64,
    /// The link's key files when the gate was started.
    stamp: [Option<(u64, i64, i64)>; 2],
    signals: SignalFd,
    store: &'a Path,
    arguments: &'a RunArguments,
    log: LogForm,
}

impl Loop<'_> {
    fn run(mut self) -> Result<ExitCode, Failure> {
        let mut tick_at_us = 0;
        let mut more = false;
        loop {
            self.wait(if more { Duration::ZERO } else { TICK })?;
            if let Some(signal) = self.signals.read_signal().context("cannot read signals")? {
                tracing::info!(signal = signal.ssi_signo, "stopping");
                // What is being signed is recorded; the frontend asks for the answers again.
                self.gate = None;
                self.vault.handle(now()?, Vec::new())?;
                self.vault.settle_files(now()?)?;
                return Ok(ExitCode::SUCCESS);
            }
            more = self.serve()?;
            let moment = now()?;
            if moment.boot_us >= tick_at_us {
                self.vault.tick(moment)?;
                self.look_at_pairing();
                tick_at_us = moment.boot_us + i64::try_from(TICK.as_micros()).unwrap_or(i64::MAX);
            }
        }
    }

    fn wait(&mut self, longest: Duration) -> Result<(), Failure> {
        let timeout = PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(std::os::fd::AsFd::as_fd(&self.signals), PollFlags::POLLIN)];
        if let Some(gate) = &self.gate {
            fds.push(PollFd::new(gate.framed.fd(), gate.framed.interest()));
        }
        fds.extend(self.vault.bell().map(|bell| PollFd::new(bell, PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Failure::Process(errno.into())),
        }
    }

    /// One turn with the calls that came; answers whether more may wait. A gate that calls without
    /// end keeps the vault neither from a signal nor from a CRL that is due.
    fn serve(&mut self) -> Result<bool, Failure> {
        if self.gate.is_none() && now()?.boot_us >= self.gate_at_us {
            self.gate = Some(Gate::start(self.store, self.arguments, self.log)?);
        }
        let room = self.vault.room();
        let Some(gate) = &mut self.gate else {
            // Without a gate there is nobody to tell, but what is signed is recorded.
            self.vault.turn(now()?, Vec::new())?;
            return Ok(false);
        };
        let calls = match gate.calls(room) {
            Ok(calls) => calls,
            Err(error) => return self.gate_ended(&error),
        };
        let more = !calls.is_empty() && calls.len() == room;
        gate.replies.extend(self.vault.turn(now()?, calls)?);
        match gate.send() {
            Ok(()) => Ok(more),
            Err(error) => self.gate_ended(&error),
        }
    }

    /// `signer pair` changed with whom we are paired: a gate with the new keys takes over. Nothing
    /// is lost, the frontend asks again.
    fn look_at_pairing(&mut self) {
        let stamp = link_key::stamp(self.store);
        if stamp != self.stamp && stamp.iter().all(Option::is_some) {
            tracing::info!("the pairing changed; the gate starts anew");
            self.stamp = stamp;
            self.gate = None;
            self.vault.forget_callers();
            self.gate_at_us = 0;
        }
    }

    /// The gate crashed, was killed, or sent nonsense: none of its bytes count any more.
    fn gate_ended(&mut self, error: &FramingError) -> Result<bool, Failure> {
        tracing::error!("the gate ended: {error}; starting another");
        self.gate = None;
        self.vault.forget_callers();
        self.gate_at_us = now()?.boot_us + GATE_PAUSE_US;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use protocol::message::{Answer, SignerStatus};

    use super::*;
    use crate::vault::BATCH_MAX;

    #[test]
    fn the_vault_hands_the_secret_over_unread() {
        // This process knows where the secret is and opens its file; whatever reads or holds a
        // secret is not named here.
        let program = include_str!("run.rs").split("#[cfg(test)]").next().unwrap();
        assert!(program.contains("link_key::open_secret(store)"));
        for word in ["SecretKey", "Pairing", "link_key::own", "read_secret", "link_key::pairing"] {
            assert!(!program.contains(word), "{word}");
        }
    }

    #[test]
    fn gate_that_reads_no_reply_is_asked_for_no_more_calls() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new("true").spawn().unwrap();
        let mut gate = Gate { child, framed: Framed::new(ours).unwrap(), replies: VecDeque::new() };
        let mut captured = Framed::new(theirs).unwrap();
        let mut served = 0;
        // It calls as fast as it can and never receives.
        for _ in 0..10_000 {
            let _ = captured.send(&Tagged { tag: 1, body: Call::Status });
            let _ = captured.turn();
            gate.send().unwrap();
            let calls = gate.calls(BATCH_MAX).unwrap();
            served += calls.len();
            gate.replies.extend(calls.iter().map(|call| {
                let status = SignerStatus {
                    version: protocol::bounded::Text::truncated("1"),
                    uptime_s: 0,
                    issued: 0,
                    held: 0,
                    warnings: vec![protocol::bounded::Text::truncated(&"w".repeat(200)); 16]
                        .try_into()
                        .unwrap(),
                };
                Tagged { tag: call.tag, body: Reply::Answer(Answer::Status(status)) }
            }));
            assert!(gate.replies.len() <= BATCH_MAX);
        }
        assert!(served > BATCH_MAX && served < 10_000, "{served}");
    }
}
