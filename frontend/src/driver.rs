//! Joins the carrier with the cable, the clock, the wake socket and the signals of this process.
//!
//! One thread, one `ppoll`, no decision of its own: what is sent and believed, the carrier says.

use std::os::fd::{AsFd, BorrowedFd};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        time::TimeSpec,
    },
};
use protocol::{
    message::{Answer, Request},
    port::{Cable, CableEvent, PortSpec},
    secure::Pairing,
    session::{Event, SendError, Side},
    time::{Duration, Instant},
};
use serde::{Deserialize, Serialize};

use crate::{
    audit::copy::LogCopy,
    carrier::{Carrier, Work},
    clock::{self, Clock, Now},
    crl::mirror::Mirror,
    error::{Failure, sentence},
    home::{Home, WakeSocket},
    link_key::LinkKeys,
    progress::Progress,
    queue::Queue,
    store::{Alarms, Notes},
};

/// How long a carrier works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until it is told to stop.
    Stopped,
    /// Until there is nothing to do.
    Idle {
        /// How long to wait for a link that was never up. One that was up and broke is waited
        /// for longer: a cable is plugged in again.
        link_wait: Duration,
    },
}

/// The state of the link as `frontend status` shows it. // stored
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Whether the other end answers.
    pub up: bool,
    /// Since when, microseconds since 1970-01-01 UTC.
    pub since_us: i64,
    /// The cable.
    pub spec: String,
    /// The link's own round trip when it was last noted, microseconds.
    pub round_trip_us: Option<u64>,
}

/// The note with the [`LinkState`], and the scope of the link's alarm.
pub const LINK: &str = "link";

/// Carries requests and answers between the store in `home` and the cable `spec`.
pub fn run(home: &Home, spec: PortSpec, until: Until) -> Result<(), Failure> {
    let keys = home.link_keys();
    let (stamp, pairing) = (keys.stamp(), keys.pairing()?);
    let lock = home.lock()?;
    let wake = home.wake_socket(&lock)?;
    let signals = stop_signals()?;
    let carrier = Carrier::new(home.store()?, Mirror::new(home), LogCopy::new(home))?;
    let mut clock = Clock::start();
    let now = clock.now();
    let name = spec.to_string();
    tracing::info!(link = name, dir = %home.root().display(), "carrier started");
    let mut driver = Driver {
        data_version: carrier.store().data_version()?,
        cable: open_cable(spec, pairing),
        keys,
        stamp,
        carrier,
        clock,
        wake,
        signals,
        looked_at: now.instant,
        up: false,
        was_up: false,
        changed_at: now.instant,
        idle_since: None,
        progress: matches!(until, Until::Idle { .. }).then(|| Progress::start(now.instant)),
        shown_at: None,
        finished_before: 0,
        name,
    };
    driver.finished_before = driver.finished()?;
    driver.note_link(now, false)?;
    let result = driver.work(until);
    if let Some(progress) = &driver.progress {
        progress.finish();
    }
    let now = driver.clock.now();
    driver.note_link(now, false)?;
    tracing::info!(link = driver.name, "carrier stopped");
    result
}

fn open_cable(spec: PortSpec, pairing: Pairing) -> Cable<Request, Answer> {
    Cable::open(spec, Side::Frontend, clock::new_boot_id(), pairing, clock::entropy())
}

fn stop_signals() -> Result<SignalFd, Failure> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    let failed = |error| Failure::Away(format!("cannot listen for signals: {error}; try again"));
    set.thread_block().map_err(failed)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(failed)
}

struct Driver {
    cable: Cable<Request, Answer>,
    keys: LinkKeys,
    /// What the key files were like when the cable was opened.
    stamp: [Option<(u64, i64, i64)>; 2],
    carrier: Carrier,
    clock: Clock,
    wake: WakeSocket,
    signals: SignalFd,
    data_version: i64,
    looked_at: Instant,
    up: bool,
    was_up: bool,
    /// When the link went up or down last.
    changed_at: Instant,
    idle_since: Option<Instant>,
    progress: Option<Progress>,
    shown_at: Option<Instant>,
    finished_before: u64,
    name: String,
}

impl Driver {
    fn work(&mut self, until: Until) -> Result<(), Failure> {
        loop {
            self.cable.turn();
            let now = self.clock.now();
            self.take_events(now)?;
            self.look_at_queue(now)?;
            self.carrier.handle_timeout(now)?;
            self.send(now)?;
            if let Until::Idle { link_wait } = until
                && self.is_over(now, link_wait)?
            {
                return Ok(());
            }
            if self.wait(now)? {
                let unfinished = self.carrier.work(now) != Work::Idle;
                return match until {
                    // A script that asked for everything must not believe that it got it.
                    Until::Idle { .. } if unfinished => Err(Failure::Waiting(
                        "told to stop before the queue was empty; nothing is lost, run it again"
                            .to_owned(),
                    )),
                    _ => Ok(()),
                };
            }
        }
    }

    /// Hands everything that the cable has to the carrier; answers in a row share a transaction.
    fn take_events(&mut self, now: Now) -> Result<(), Failure> {
        let mut answers = Vec::new();
        while let Some(event) = self.cable.poll_event() {
            if let CableEvent::Session(Event::Message(answer)) = event {
                answers.push(answer);
                if answers.len() >= BATCH_MAX {
                    self.carrier.handle_answers(now, std::mem::take(&mut answers))?;
                }
                continue;
            }
            self.carrier.handle_answers(now, std::mem::take(&mut answers))?;
            self.take_news(now, event)?;
        }
        if !answers.is_empty() {
            self.carrier.handle_answers(now, answers)?;
        }
        Ok(())
    }

    fn take_news(&mut self, now: Now, event: CableEvent<Answer>) -> Result<(), Failure> {
        let link = &self.name;
        match event {
            CableEvent::Opened => tracing::info!(link, "port open"),
            CableEvent::Lost { error } => {
                let text = sentence(&error);
                tracing::warn!(link, error = text, "port away, tried again until it is back");
                let text = format!("{text}; check the cable, it is tried again until it is back");
                self.alarm(now, &text)?;
            }
            CableEvent::Session(Event::Up) => {
                tracing::info!(link, "link up");
                self.carrier.handle_up(now)?;
                self.note_link(now, true)?;
                Alarms(self.carrier.store().connection()).clear(LINK)?;
            }
            CableEvent::Session(Event::Down { reason }) => {
                tracing::warn!(link, "link down: {reason}");
                self.carrier.handle_down();
                self.note_link(now, false)?;
            }
            CableEvent::Session(Event::Refused { failure }) => {
                let text = format!("no session with a signer: {failure}");
                tracing::error!(link, text);
                self.alarm(now, &text)?;
            }
            CableEvent::Session(Event::Incompatible { theirs }) => {
                let text = format!(
                    "the signer speaks versions {} to {} of the protocol, none of ours; upgrade \
                     the older side",
                    theirs.0, theirs.1
                );
                tracing::error!(link, text);
                self.alarm(now, &text)?;
            }
            CableEvent::Session(Event::Occupied) => {
                let text = "another frontend already talks to this signer; this one waits until \
                            that one is gone: stop one of the two";
                tracing::warn!(link, text);
                self.alarm(now, text)?;
            }
            CableEvent::Session(Event::Undecodable { lane, error }) => {
                tracing::warn!(link, ?lane, %error, "dropped bytes that are no answer");
            }
            CableEvent::Session(Event::Message(_)) => {
                unreachable!("messages are taken in `take_events`")
            }
        }
        Ok(())
    }

    fn look_at_queue(&mut self, now: Now) -> Result<(), Failure> {
        let poked = self.wake.drain();
        // Somebody who could not poke is noticed a little later.
        if poked || now.instant.saturating_since(self.looked_at) >= LOOK_PERIOD {
            self.looked_at = now.instant;
            self.look_at_pairing(now)?;
            let data_version = self.carrier.store().data_version()?;
            if data_version != self.data_version {
                self.data_version = data_version;
                self.carrier.handle_queue_changed(now)?;
            }
        }
        Ok(())
    }

    /// `frontend pair` changed with whom we are paired: the cable is opened anew. Nothing is lost,
    /// what was not answered is asked again.
    fn look_at_pairing(&mut self, now: Now) -> Result<(), Failure> {
        let stamp = self.keys.stamp();
        if stamp == self.stamp {
            return Ok(());
        }
        self.stamp = stamp;
        match self.keys.pairing() {
            Ok(pairing) => {
                tracing::info!(peer = %pairing.peer.fingerprint(), "the pairing changed");
                let spec = self.cable.spec().clone();
                self.cable = open_cable(spec, pairing);
                self.carrier.handle_down();
                self.note_link(now, false)
            }
            Err(error) => {
                let text = format!("{}; the old pairing goes on", sentence(&error));
                tracing::error!("{text}");
                self.alarm(now, &text)
            }
        }
    }

    fn send(&mut self, now: Now) -> Result<(), Failure> {
        let mut sent = false;
        while let Some(request) = self.carrier.poll_send(now)? {
            match self.cable.send(&request) {
                Ok(()) => sent = true,
                Err(SendError::LaneFull { .. } | SendError::NotUp) => {
                    self.carrier.handle_unsent(now, request);
                }
                Err(error @ (SendError::TooLong { .. } | SendError::Unencodable(_))) => {
                    self.carrier.handle_unsendable(now, &request, &sentence(&error))?;
                }
            }
        }
        if sent {
            self.cable.turn();
        }
        Ok(())
    }

    /// Whether there is nothing more to do; an error if there is, but it cannot be done now.
    fn is_over(&mut self, now: Now, link_wait: Duration) -> Result<bool, Failure> {
        self.show_progress(now)?;
        let patience = if self.was_up { link_wait.max(BROKEN_LINK_WAIT) } else { link_wait };
        if !self.up && now.instant.saturating_since(self.changed_at) >= patience {
            let (link, seconds) = (&self.name, patience.as_secs());
            return Err(Failure::Away(format!(
                "nobody answered on `{link}` for {seconds} s; check the cable and that `signer \
                 run` runs, nothing in the queue is lost"
            )));
        }
        let work = self.carrier.work(now);
        if work == Work::Busy {
            self.idle_since = None;
            return Ok(false);
        }
        let since = *self.idle_since.get_or_insert(now.instant);
        if now.instant.saturating_since(since) < LINGER {
            return Ok(false);
        }
        match work {
            Work::Doubtful => Err(Failure::Waiting(
                "some answers failed their checks and were not stored; `frontend status` says \
                 which and why"
                    .to_owned(),
            )),
            Work::Idle | Work::Busy => Ok(true),
        }
    }

    fn show_progress(&mut self, now: Now) -> Result<(), Failure> {
        if self.progress.is_none()
            || self.shown_at.is_some_and(|at| now.instant.saturating_since(at) < SHOW_PERIOD)
        {
            return Ok(());
        }
        self.shown_at = Some(now.instant);
        let waiting = Queue(self.carrier.store().connection()).waiting()?;
        let done = self.finished()?.saturating_sub(self.finished_before);
        let text = match (self.up, self.carrier.work(now)) {
            (false, _) => "the link is down",
            (true, Work::Busy) if waiting == 0 => "fetching CRLs",
            (true, Work::Busy) => "working",
            (true, Work::Idle) => "nothing left to do",
            (true, Work::Doubtful) => "the rest failed its checks",
        };
        if let Some(progress) = &mut self.progress {
            progress.show(now.instant, done, done + waiting, text);
        }
        Ok(())
    }

    fn finished(&self) -> Result<u64, Failure> {
        let counts = Queue(self.carrier.store().connection()).counts()?;
        Ok(counts.iter().filter(|row| row.0.is_final()).map(|row| row.1).sum())
    }

    /// Waits for the cable, the queue, a signal or a timer; says whether to stop.
    fn wait(&mut self, now: Now) -> Result<bool, Failure> {
        let instant = self.clock.instant();
        let carrier = self.carrier.poll_timeout().map(|at| at.saturating_since(instant));
        let look = (self.looked_at + LOOK_PERIOD).saturating_since(instant);
        let linger = self.idle_since.map(|at| (at + LINGER).saturating_since(instant));
        let cable = self.cable.timeout();
        let timeout = [carrier, cable, linger].into_iter().flatten().fold(look, Duration::min);

        let mut fds = vec![poll_in(self.wake.as_fd()), poll_in(self.signals.as_fd())];
        if let Some((fd, flags)) = self.cable.fd() {
            fds.push(PollFd::new(fd, flags));
        }
        match ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                return Err(Failure::Away(format!(
                    "cannot wait for the cable: {error}; try again"
                )));
            }
        }
        let signal = self.signals.read_signal().ok().flatten();
        if let Some(signal) = signal {
            let up_s = now.instant.as_micros() / 1_000_000;
            tracing::info!(signal = signal.ssi_signo, up_s, "told to stop");
        }
        Ok(signal.is_some())
    }

    fn note_link(&mut self, now: Now, up: bool) -> Result<(), Failure> {
        (self.up, self.changed_at) = (up, now.instant);
        self.was_up |= up;
        let round_trip = self.cable.round_trip();
        let round_trip_us =
            round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let spec = self.name.clone();
        let state = LinkState { up, since_us: now.unix_us, spec, round_trip_us };
        Ok(Notes(self.carrier.store().connection()).write(LINK, &state)?)
    }

    fn alarm(&self, now: Now, text: &str) -> Result<(), Failure> {
        Ok(Alarms(self.carrier.store().connection()).raise(LINK, text, now.unix_us)?)
    }
}

fn poll_in(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

/// Waits for up to `timeout` without doing anything.
pub fn pause(timeout: Duration) {
    // An interrupted pause is only shorter.
    let _ = ppoll(&mut [], Some(TimeSpec::from_duration(timeout)), None);
}

/// Answers stored in one transaction: one sync of the disk for all that came while the last
/// sync ran.
const BATCH_MAX: usize = 64;
/// The queue is looked at this often even if nobody pokes.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// With `--until-idle`, a link that broke may be away for this long.
const BROKEN_LINK_WAIT: Duration = Duration::from_secs(300);
/// Progress is counted at most this often: counting a large store takes milliseconds.
const SHOW_PERIOD: Duration = Duration::from_millis(250);
/// Before `--until-idle` ends, the last acknowledgements get this long to leave.
const LINGER: Duration = Duration::from_millis(300);
