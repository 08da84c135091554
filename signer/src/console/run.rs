//! `signer run`: the vault's loop, with the gate as its child.
//!
//! It waits for the gate, the vault's bell, a signal and the clock at the same time, so it sleeps
//! only when nothing can be done. The gate may crash: it is started again, and the frontend asks
//! again. The vault may not: a fault ends it with one sentence, and the next start finishes what
//! was open.

use std::{collections::VecDeque, ffi::OsStr, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    Failure, LogForm, RunArguments, boot_id,
    gate::{self, Running},
    now, system_random,
};
use crate::{
    call::{Call, Reply, Tagged},
    framing::FramingError,
    link_key,
    vault::{Settings, Vault},
};

/// How often the vault looks for what is due by time alone.
const TICK: Duration = Duration::from_secs(1);

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

/// The gate process, and what it does not take yet.
struct Gate {
    process: Running,
    replies: VecDeque<Tagged<Reply>>,
}

impl Gate {
    /// Starts the gate, which alone learns the link's secret: this process only opens its file.
    fn start(store: &Path, arguments: &RunArguments, log: LogForm) -> Result<Self, Failure> {
        let peer = link_key::paired(store)?;
        let secret = link_key::open_secret(store)?;
        let (link, peer) = (arguments.link.to_string(), peer.to_string());
        let words = ["gate", "--link", &link, "--peer", &peer].map(OsStr::new);
        let user = arguments.gate_user.as_deref();
        let process = gate::start(&words, secret, user, log)?;
        Ok(Self { process, replies: VecDeque::new() })
    }

    /// Reads up to `room` calls; none while the gate does not take its replies, or they would
    /// pile up here.
    fn calls(&mut self, room: usize) -> Result<Vec<Tagged<Call>>, FramingError> {
        match self.replies.is_empty() {
            true => self.process.framed.turn()?,
            false => self.send()?,
        }
        let mut calls = Vec::new();
        if !self.replies.is_empty() {
            return Ok(calls);
        }
        while calls.len() < room {
            match self.process.framed.recv::<Tagged<Call>>()? {
                Some(call) => calls.push(call),
                None => break,
            }
        }
        Ok(calls)
    }

    fn send(&mut self) -> Result<(), FramingError> {
        while let Some(reply) = self.replies.front() {
            match self.process.framed.send(reply) {
                Ok(()) => drop(self.replies.pop_front()),
                Err(FramingError::Full { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        self.process.framed.turn()
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
            let framed = &gate.process.framed;
            fds.push(PollFd::new(framed.fd(), framed.interest()));
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
    use std::{os::unix::net::UnixStream, process::Command};

    use protocol::message::{Answer, SignerStatus};

    use super::*;
    use crate::{framing::Framed, vault::BATCH_MAX};

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
        let process = Running { child, framed: Framed::new(ours).unwrap() };
        let mut gate = Gate { process, replies: VecDeque::new() };
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
