//! Moves bytes between the cable, the intake and the vault.
//!
//! It never waits for one of them alone, and it ends when the vault is gone.
#![expect(clippy::disallowed_methods, reason = "driver: a random id for each boot of the gate")]

use std::{
    collections::VecDeque,
    fs::File,
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use nix::poll::PollFd;
use protocol::{
    bounded::Text,
    message::{Answer, Message as _, Request},
    port::{Cable, CableEvent, PortSpec},
    secure::{Entropy, Pairing, PublicKey, SecretKey},
    session::{Event, SendError, Side},
};

use super::{
    Action, Gate, PENDING_MAX,
    pump::{self, Clock},
};
use crate::{
    call::{Call, Reply, Tagged},
    framing::{Framed, FramingError},
    intake::{Intake, worker::Job},
};

/// Bytes of answers that wait for room in their lanes, beyond which none is fetched from the vault.
/// One answer may pass it, and what the intake refused meanwhile costs no answer yet.
const OUTBOX_BYTES_MAX: usize = 512 * 1024;
/// What an answer costs while it waits, beside its bytes.
const OUTBOX_EACH: usize = 128;

/// The gate process: standard input is the socket to the vault, standard output the open file with
/// the secret of the link, which the vault opened and never reads.
pub fn run(link: PortSpec, peer: PublicKey, entropy: Entropy) -> anyhow::Result<ExitCode> {
    let pairing = Pairing { secret: take_secret()?, peer };
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let program = std::env::current_exe().context("cannot find the signer's own program")?;
    let mut boot_id = [0; 8];
    openssl::rand::rand_bytes(&mut boot_id)?;
    let vault = Framed::new(UnixStream::from(socket)).context("the socket to the vault")?;
    Driver {
        cable: Cable::open(link, Side::Signer, u64::from_be_bytes(boot_id), pairing, entropy),
        intake: Intake::spawn(&program).context("cannot start the intake worker")?,
        vault,
        gate: Gate::default(),
        outbox: Outbox::default(),
        calls: VecDeque::new(),
        jobs: VecDeque::new(),
        clock: Clock::start(),
        left: Left::default(),
    }
    .run()
}

/// Reads the secret and closes its file, so that nothing that this process starts has it.
fn take_secret() -> anyhow::Result<SecretKey> {
    let standard_output = std::io::stdout();
    let file = File::from(standard_output.as_fd().try_clone_to_owned().context("the link's key")?);
    let nowhere = File::options().write(true).open("/dev/null").context("cannot open /dev/null")?;
    nix::unistd::dup2_stdout(&nowhere).context("cannot close the link's key")?;
    Ok(crate::link_key::read_secret(file, Path::new("link/secret"))?)
}

struct Driver {
    cable: Cable<Answer, Request>,
    intake: Intake<u64>,
    vault: Framed,
    gate: Gate,
    /// Answers that the session did not take yet.
    outbox: Outbox,
    /// Calls that the socket did not take yet.
    calls: VecDeque<Tagged<Call>>,
    /// Jobs that the intake did not take yet; the gate bounds them by [`PENDING_MAX`].
    jobs: VecDeque<(u64, Job)>,
    clock: Clock,
    /// Whether events of the cable, or replies of the vault, were left for want of room.
    left: Left,
}

#[derive(Clone, Copy, Default)]
struct Left {
    events: bool,
    replies: bool,
}

impl Driver {
    fn run(mut self) -> anyhow::Result<ExitCode> {
        loop {
            self.wait()?;
            self.cable.turn();
            self.left.events = !self.take_events();
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
        let now = self.clock.now();
        let cable_in = self.cable.timeout();
        let intake_in = self.intake.poll_timeout().map(|at| at.saturating_since(now));
        // Nothing rings for what was left; it is fetched as soon as there is room again.
        let fetch =
            self.left.events && self.has_room() || self.left.replies && self.outbox.has_room();
        let fetch_in = fetch.then_some(Duration::ZERO);
        let timeout = cable_in.into_iter().chain(intake_in).chain(fetch_in).min();
        let mut fds = vec![PollFd::new(self.vault.fd(), self.vault.interest())];
        if let Some((fd, flags)) = self.cable.fd() {
            fds.push(PollFd::new(fd, flags));
        }
        if let Some((fd, flags)) = self.intake.fd() {
            fds.push(PollFd::new(fd, flags));
        }
        pump::wait(&mut fds, timeout).context("cannot wait for the cable")
    }

    /// Whether more is to be taken from the cable: not while requests or answers pile up, since a
    /// frontend that asks and does not listen must not fill the memory.
    fn has_room(&self) -> bool {
        self.gate.has_room() && self.calls.len() < PENDING_MAX && self.outbox.has_room()
    }

    /// Takes what the cable has; false if some of it was left for want of room.
    fn take_events(&mut self) -> bool {
        while self.has_room() {
            let Some(event) = self.cable.poll_event() else { return true };
            self.on_cable(event);
        }
        false
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
            CableEvent::Session(Event::Refused { failure }) => {
                tracing::error!("no session with a frontend: {failure}");
                self.say_link(false, format!("no session with a frontend: {failure}"));
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
            CableEvent::Session(Event::Occupied) => {
                let text = "another signer already talks to this frontend; this one waits until \
                            that one is gone: stop one of the two";
                tracing::error!("{text}");
                self.say_link(false, text.into());
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
            Some(Action::Answer(answer)) => self.outbox.push(answer),
        }
    }

    fn turn_intake(&mut self) -> anyhow::Result<()> {
        pump::turn_intake(&mut self.intake, &mut self.jobs, self.clock.now())
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
        // What is not fetched waits at the vault, which then takes no more calls.
        self.left.replies = true;
        while self.outbox.has_room() {
            match self.vault.recv::<Tagged<Reply>>() {
                Ok(Some(reply)) => {
                    let action = self.gate.on_reply(reply, pump::unix_s());
                    self.act(action);
                }
                Ok(None) => {
                    self.left.replies = false;
                    break;
                }
                Err(FramingError::Closed | FramingError::CutOff { .. }) => return Ok(false),
                Err(error) => return Err(error).context("cannot hear the vault"),
            }
        }
        Ok(true)
    }

    /// Hands answers to the session, oldest first, as far as their lanes take them.
    fn flush(&mut self) {
        let mut sent = false;
        for answer in self.outbox.take() {
            match self.cable.send(&answer) {
                Ok(()) => sent = true,
                Err(SendError::LaneFull { .. }) => self.outbox.push(answer),
                Err(SendError::NotUp) => {} // the frontend asks again
                Err(error) => tracing::error!(%error, "an answer cannot be sent"),
            }
        }
        if sent {
            self.cable.turn();
        }
    }
}

/// Answers that the session did not take yet, oldest first.
#[derive(Default)]
struct Outbox {
    answers: VecDeque<Answer>,
    bytes: usize,
}

impl Outbox {
    fn has_room(&self) -> bool {
        self.bytes < OUTBOX_BYTES_MAX
    }

    fn push(&mut self, answer: Answer) {
        // What the vault sent has an encoding.
        let length = answer.to_bytes().map_or(0, |bytes| bytes.len());
        self.bytes += length + OUTBOX_EACH;
        self.answers.push_back(answer);
    }

    fn take(&mut self) -> VecDeque<Answer> {
        self.bytes = 0;
        std::mem::take(&mut self.answers)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
