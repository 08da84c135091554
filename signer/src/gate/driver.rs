//! Moves bytes between the cable, the intake and the vault; owns the gate's clocks.
//!
//! It never waits for one of them alone, and it ends when the vault is gone.
#![expect(clippy::disallowed_methods, reason = "driver: reads the clocks of the gate process")]

use std::{
    collections::VecDeque,
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use nix::poll::{PollFd, PollTimeout, poll};
use protocol::{
    bounded::Text,
    message::{Answer, Request},
    port::{Cable, CableEvent, PortSpec},
    session::{Event, SendError, Side},
    time::Instant,
};

use super::{Action, Gate, PENDING_MAX};
use crate::{
    call::{Call, Reply, Tagged},
    framing::{Framed, FramingError},
    intake::{Intake, worker::Job},
};

/// Answers that wait for room in their lane: one for each request in work.
const OUTBOX_MAX: usize = 2 * PENDING_MAX;

/// The gate process: standard input is the socket to the vault.
pub fn run(link: PortSpec) -> anyhow::Result<ExitCode> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let program = std::env::current_exe().context("cannot find the signer's own program")?;
    let mut boot_id = [0; 8];
    openssl::rand::rand_bytes(&mut boot_id)?;
    let vault = Framed::new(UnixStream::from(socket)).context("the socket to the vault")?;
    Driver {
        cable: Cable::open(link, Side::Signer, u64::from_be_bytes(boot_id)),
        intake: Intake::spawn(&program).context("cannot start the intake worker")?,
        vault,
        gate: Gate::default(),
        outbox: VecDeque::new(),
        calls: VecDeque::new(),
        jobs: VecDeque::new(),
        started: std::time::Instant::now(),
    }
    .run()
}

struct Driver {
    cable: Cable<Answer, Request>,
    intake: Intake<u64>,
    vault: Framed,
    gate: Gate,
    /// Answers that the session did not take yet.
    outbox: VecDeque<Answer>,
    /// Calls that the socket did not take yet.
    calls: VecDeque<Tagged<Call>>,
    /// Jobs that the intake did not take yet; the gate bounds them by [`PENDING_MAX`].
    jobs: VecDeque<(u64, Job)>,
    started: std::time::Instant,
}

impl Driver {
    fn run(mut self) -> anyhow::Result<ExitCode> {
        loop {
            self.wait()?;
            self.cable.turn();
            while let Some(event) = self.cable.poll_event() {
                self.on_cable(event);
            }
            self.turn_intake()?;
            while let Some((tag, outcome)) = self.intake.poll_verdict() {
                let action = self.gate.on_verdict(tag, outcome);
                self.act(action);
            }
            if !self.turn_vault()? {
                return Ok(ExitCode::SUCCESS);
            }
            // What the vault and the verdicts gave must not wait for the next wake-up.
            self.turn_intake()?;
            self.flush();
        }
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        let cable_in = self.cable.timeout();
        let intake_in = self.intake.poll_timeout().map(|at| at.saturating_since(now));
        let timeout = cable_in.into_iter().chain(intake_in).min();
        let timeout = match timeout {
            // Rounded up, so that a timer is due when we wake.
            Some(duration) => PollTimeout::try_from(duration + Duration::from_micros(999))
                .unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut fds = vec![PollFd::new(self.vault.fd(), self.vault.interest())];
        if let Some((fd, flags)) = self.cable.fd() {
            fds.push(PollFd::new(fd, flags));
        }
        if let Some((fd, flags)) = self.intake.fd() {
            fds.push(PollFd::new(fd, flags));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("cannot wait for the cable"),
        }
    }

    fn on_cable(&mut self, event: CableEvent<Request>) {
        match event {
            CableEvent::Opened => tracing::info!(link = %self.cable.spec(), "port open"),
            CableEvent::Lost { error } => {
                tracing::warn!(link = %self.cable.spec(), "port away: {error}");
                self.say_link(false, format!("port away: {error}"));
            }
            CableEvent::Session(Event::Up) => {
                tracing::info!("the frontend is there");
                self.say_link(true, "the frontend is there".into());
            }
            CableEvent::Session(Event::Down { reason }) => {
                tracing::warn!("the frontend is away: {reason}");
                self.gate.on_down();
                self.outbox.clear();
                self.jobs.clear();
                self.say_link(false, format!("the frontend is away: {reason}"));
            }
            CableEvent::Session(Event::Incompatible { theirs: (min, max) }) => {
                let text = format!(
                    "the frontend speaks protocol versions {min} to {max}, this signer {} to {}; \
                     upgrade the older one",
                    protocol::version::VERSION_MIN,
                    protocol::version::VERSION_CURRENT
                );
                tracing::error!("{text}");
                self.say_link(false, text);
            }
            CableEvent::Session(Event::Undecodable { lane, error }) => {
                tracing::warn!(?lane, %error, "bytes that are no message were dropped");
            }
            CableEvent::Session(Event::Message(request)) => {
                let round_trip = self.cable.round_trip();
                let round_trip_us =
                    round_trip.and_then(|time| u32::try_from(time.as_micros()).ok());
                let action = self.gate.on_request(request, round_trip_us);
                self.act(action);
            }
        }
    }

    fn say_link(&mut self, up: bool, text: String) {
        self.calls
            .push_back(Tagged { tag: 0, body: Call::Link { up, text: Text::truncated(&text) } });
    }

    fn act(&mut self, action: Option<Action>) {
        match action {
            None => {}
            Some(Action::Call(call)) => self.calls.push_back(call),
            Some(Action::Vet(tag, job)) => self.jobs.push_back((tag, job)),
            Some(Action::Answer(answer)) if self.outbox.len() < OUTBOX_MAX => {
                self.outbox.push_back(answer);
            }
            Some(Action::Answer(_)) => {
                tracing::warn!("the frontend takes no answers; one is dropped, it will ask again");
            }
        }
    }

    fn turn_intake(&mut self) -> anyhow::Result<()> {
        while self.intake.has_room() {
            let Some((tag, job)) = self.jobs.pop_front() else { break };
            if let Err(full) = self.intake.submit(tag, job) {
                self.jobs.push_front((full.tag, full.job));
                break;
            }
        }
        self.intake.turn(self.now()).context("CSRs and keys cannot be vetted")
    }

    /// Exchanges calls and replies; false when the vault is gone.
    fn turn_vault(&mut self) -> anyhow::Result<bool> {
        while let Some(call) = self.calls.front() {
            match self.vault.send(call) {
                Ok(()) => drop(self.calls.pop_front()),
                Err(FramingError::Full { .. }) => break,
                Err(FramingError::Closed | FramingError::CutOff { .. }) => return Ok(false),
                Err(error) => return Err(error).context("cannot call the vault"),
            }
        }
        match self.vault.turn() {
            Ok(()) => {}
            Err(FramingError::Closed | FramingError::CutOff { .. }) => return Ok(false),
            Err(FramingError::Socket(error)) => {
                tracing::info!(%error, "the vault is gone");
                return Ok(false);
            }
            Err(error) => return Err(error).context("cannot hear the vault"),
        }
        loop {
            match self.vault.recv::<Tagged<Reply>>() {
                Ok(Some(reply)) => {
                    let action = self.gate.on_reply(reply, unix_s());
                    self.act(action);
                }
                Ok(None) => return Ok(true),
                Err(FramingError::Closed | FramingError::CutOff { .. }) => return Ok(false),
                Err(error) => return Err(error).context("cannot hear the vault"),
            }
        }
    }

    /// Hands answers to the session, oldest first, as far as their lanes take them.
    fn flush(&mut self) {
        let mut kept = VecDeque::new();
        let mut sent = false;
        for answer in self.outbox.drain(..) {
            match self.cable.send(&answer) {
                Ok(()) => sent = true,
                Err(SendError::LaneFull { .. }) => kept.push_back(answer),
                Err(SendError::NotUp) => {} // the frontend asks again
                Err(error) => tracing::error!(%error, "an answer cannot be sent"),
            }
        }
        self.outbox = kept;
        if sent {
            self.cable.turn();
        }
    }

    fn now(&self) -> Instant {
        let micros = self.started.elapsed().as_micros();
        Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
