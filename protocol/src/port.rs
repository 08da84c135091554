//! A session on a port: the only I/O and the only clock of this crate.
//!
//! A [`Cable`] reads and writes a serial line, an interface of its own, a pty or a unix socket
//! without ever waiting, and opens it again after it was unplugged. A port that is away is to the
//! session what a cut cable is: silence. It never looks into a message and never decides what to
//! send.
#![expect(clippy::disallowed_methods, reason = "driver: owns the monotonic clock of a port")]

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    time,
};

use nix::{errno::Errno, poll::PollFlags};

use crate::{
    link::EndpointConfig,
    message::Message,
    secure::{Entropy, Pairing},
    session::{Counters, Event, SendError, Session, SessionConfig, Side},
    time::{Duration, Instant},
};

mod device;
mod error;
mod spec;
#[cfg(test)]
mod tests;
mod usbnet;
mod waiting;

use device::{Source, Stream};
pub use error::PortError;
pub use spec::{NotAPortSpec, PortSpec};
pub use usbnet::InterfaceFault;

/// A session on a port.
///
/// Wait until [`fd`](Self::fd) is ready or [`timeout`](Self::timeout) is over, call
/// [`turn`](Self::turn), and take all events with [`poll_event`](Self::poll_event); after
/// [`send`](Self::send) call `turn` as well.
pub struct Cable<Out: Message, In: Message> {
    session: Session<Out, In>,
    source: Source,
    stream: Option<Stream>,
    /// When to try the port again; of no meaning while it is open.
    retry_at: Instant,
    /// When the port was opened or gave bytes last.
    heard_at: Instant,
    /// What the port did not take yet.
    unsent: Vec<u8>,
    /// What was said when the port went away; it is said once.
    told: Option<String>,
    events: VecDeque<CableEvent<In>>,
    started: time::Instant,
}

/// What happens on a cable.
#[derive(Debug)]
pub enum CableEvent<In> {
    /// The port is open; whether anybody answers, the session will say.
    Opened,
    /// The port is away. It is tried again until it is back, and nothing is said of each trial.
    Lost {
        /// Why.
        error: PortError,
    },
    /// What the session says.
    Session(Event<In>),
}

/// How long a port that is away is left alone.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// While the port takes no bytes, a session that has more is looked at this often; the port's
/// readiness comes first.
const BLOCKED_PAUSE: Duration = Duration::from_millis(5);
/// The most bytes read at once: four times what a tty holds.
const READ_MAX: usize = 16 * 1024;
/// The most reads in a turn, so that a sender without pause cannot keep the turn for itself.
const READS_MAX: usize = 16;
/// On a connection that another one may replace: so long nothing is heard, and it is dead. A peer
/// says hello twice a second.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// The most events about the port that wait; the oldest say nothing new.
const EVENTS_MAX: usize = 16;

impl<Out: Message, In: Message> Cable<Out, In> {
    /// A session with this boot id on this port, which need not be there yet, for this pairing.
    pub fn open(
        spec: PortSpec,
        side: Side,
        boot_id: u64,
        pairing: Pairing,
        entropy: Entropy,
    ) -> Self {
        let link = EndpointConfig { side, boot_id, line_rate: spec.line_rate() };
        let config = SessionConfig { link, pairing, entropy };
        let mut cable = Self {
            session: Session::new(config, Instant::ZERO),
            source: Source::new(spec, side),
            stream: None,
            retry_at: Instant::ZERO,
            heard_at: Instant::ZERO,
            unsent: Vec::new(),
            told: None,
            events: VecDeque::new(),
            started: time::Instant::now(),
        };
        cable.turn();
        cable
    }

    /// What to poll for now.
    pub fn fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.stream {
            Some(stream) if self.unsent.is_empty() => Some((stream.as_fd(), PollFlags::POLLIN)),
            Some(stream) => Some((stream.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)),
            None => self.source.fd(),
        }
    }

    /// How long until the session or the port wants a turn.
    pub fn timeout(&self) -> Option<Duration> {
        let now = self.now();
        let mut session_at = self.session.poll_timeout();
        if !self.unsent.is_empty() {
            session_at = session_at.map(|at| at.max(now + BLOCKED_PAUSE));
        }
        let announces_itself = self.stream.is_some() || self.source.fd().is_some();
        let retry_at = (!announces_itself).then_some(self.retry_at);
        let source_at = self.source.poll_timeout();
        let at = session_at.into_iter().chain(retry_at).chain(source_at).min()?;
        Some(at.saturating_since(now))
    }

    /// Reads what is there, runs what is due, writes what the port takes. Never waits.
    pub fn turn(&mut self) {
        let now = self.now();
        if let Err(error) = self.source.check(now) {
            self.lose(now, error);
        }
        if self.stream.is_some() && self.is_dead(now) {
            self.lose_closed(now);
        }
        if self.stream.is_none() {
            self.open_port(now);
        }
        self.read(now);
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        self.write(now);
    }

    /// Hands a message to the session.
    pub fn send(&mut self, message: &Out) -> Result<(), SendError> {
        self.session.send(self.now(), message)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<CableEvent<In>> {
        let of_port = self.events.pop_front();
        of_port.or_else(|| self.session.poll_event().map(CableEvent::Session))
    }

    /// Whether the other end answers.
    pub fn is_up(&self) -> bool {
        self.session.is_up()
    }

    /// How long a segment and its acknowledgement take.
    pub fn round_trip(&self) -> Option<Duration> {
        self.session.round_trip()
    }

    /// What the session counted.
    pub fn counters(&self) -> Counters {
        self.session.counters()
    }

    /// The port.
    pub fn spec(&self) -> &PortSpec {
        self.source.spec()
    }

    fn open_port(&mut self, now: Instant) {
        let waits_for_nobody = self.source.fd().is_none();
        if waits_for_nobody && now < self.retry_at {
            return;
        }
        match self.source.open() {
            Ok(Some(stream)) => {
                self.stream = Some(stream);
                self.heard_at = now;
                self.told = None;
                self.tell(CableEvent::Opened);
            }
            Ok(None) => {}
            Err(error) => self.lose(now, error),
        }
    }

    /// Whether nobody speaks on a connection for which another may wait.
    fn is_dead(&self, now: Instant) -> bool {
        self.source.may_be_replaced()
            && !self.session.is_up()
            && now.saturating_since(self.heard_at) >= SILENT_MAX
    }

    fn read(&mut self, now: Instant) {
        let mut buffer = [0; READ_MAX];
        for _ in 0..READS_MAX {
            let Some(stream) = &mut self.stream else { return };
            match stream.read(&mut buffer) {
                Ok(Some(0)) => return self.lose_closed(now),
                Ok(Some(count)) => {
                    self.heard_at = now;
                    self.session.handle_bytes(now, &buffer[..count]);
                }
                Ok(None) => return,
                Err(error) => return self.lose_failed(now, error),
            }
        }
    }

    fn write(&mut self, now: Instant) {
        loop {
            if self.unsent.is_empty() {
                let Some(bytes) = self.session.poll_transmit(now) else { return };
                self.unsent = bytes;
            }
            let Some(stream) = &mut self.stream else {
                // Nobody is there to take it, as on a cable that is cut.
                self.unsent.clear();
                continue;
            };
            match stream.write(&self.unsent) {
                Ok(None | Some(0)) => return,
                Ok(Some(count)) => drop(self.unsent.drain(..count)),
                Err(error) => self.lose_failed(now, error),
            }
        }
    }

    fn lose_closed(&mut self, now: Instant) {
        let path = self.source.path().to_owned();
        self.lose(now, PortError::Closed { path });
    }

    fn lose_failed(&mut self, now: Instant, source: io::Error) {
        let path = self.source.path().to_owned();
        // How the kernel reports an end that is gone: EIO is a pty without its master or a tty
        // that hung up, ENODEV and ENXIO an adapter that was pulled.
        let is_closed = matches!(
            source.raw_os_error().map(Errno::from_raw),
            Some(
                Errno::EIO
                    | Errno::ENODEV
                    | Errno::ENXIO
                    | Errno::EPIPE
                    | Errno::ECONNRESET
                    // The other end of a network cable is silent, or the interface is gone.
                    | Errno::ETIMEDOUT
                    | Errno::EHOSTUNREACH
                    | Errno::ENETUNREACH
                    | Errno::ENETDOWN
            )
        );
        let error = match is_closed {
            true => PortError::Closed { path },
            false => PortError::Failed { path, source },
        };
        self.lose(now, error);
    }

    fn lose(&mut self, now: Instant, error: PortError) {
        self.stream = None;
        self.source.closed();
        self.unsent.clear();
        self.retry_at = now + RETRY_AFTER;
        // An operator must hear of an interface that is refused, also after it was unplugged.
        let refused = matches!(error, PortError::Interface { .. });
        let text = error.to_string();
        if self.told.as_ref().is_none_or(|told| refused && *told != text) {
            self.told = Some(text);
            self.tell(CableEvent::Lost { error });
        }
    }

    fn tell(&mut self, event: CableEvent<In>) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.started.elapsed()
    }
}
