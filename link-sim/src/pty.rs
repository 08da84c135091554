//! Two pty devices joined by two wires on real time, for programs that open a serial port.
//!
//! A pty ignores its speed, so the pace is kept here: bytes are read from a writer only as fast
//! as the line would take them, and the writer blocks as at a real port. It keeps both slave ends
//! open itself, so a program that closes its end does not end the line. It never looks at what
//! the bytes mean.
#![expect(clippy::disallowed_methods, reason = "driver: joins devices on real time")]

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
    time,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, ppoll},
    pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
        time::TimeSpec,
    },
    unistd,
};
use protocol::time::{Duration, Instant};

use crate::{
    random::Random,
    wire::{Wire, WireConfig, WireCounters},
};

/// The two devices and the cable between them.
pub struct PtyPair {
    a: Device,
    b: Device,
    a_to_b: Direction,
    b_to_a: Direction,
    started: time::Instant,
}

/// Why the line cannot be laid or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum PtyError {
    /// The system gives no pty.
    #[error("cannot make a pty ({0}); see that /dev/pts is mounted")]
    Open(#[source] io::Error),
    /// The stable name cannot be made.
    #[error("cannot make the link {}: {source}; choose another path", path.display())]
    Link {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A device or the signals fail while the line runs.
    #[error("the line broke: {0}")]
    Broken(#[source] io::Error),
}

/// What happened in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectionCounters {
    /// What the wire counted.
    pub wire: WireCounters,
    /// Bytes that arrived while the reader's buffer was full.
    pub overrun: u64,
}

impl PtyPair {
    /// Makes the devices, joins them by two wires of this kind, and gives them the names in
    /// `links` if there are any.
    pub fn open(
        config: &WireConfig,
        seed: u64,
        links: Option<[PathBuf; 2]>,
    ) -> Result<Self, PtyError> {
        let [link_a, link_b] = links.map_or([None, None], |links| links.map(Some));
        let mut random = Random::new(seed);
        Ok(Self {
            a: Device::open(link_a)?,
            b: Device::open(link_b)?,
            a_to_b: Direction::new(config, random.next_u64()),
            b_to_a: Direction::new(config, random.next_u64()),
            started: time::Instant::now(),
        })
    }

    /// The two names to open.
    pub fn paths(&self) -> [&Path; 2] {
        [self.a.path(), self.b.path()]
    }

    /// Carries bytes until a signal says stop; other signals take the cable out and put it in.
    pub fn run(&mut self, signals: &Signals) -> Result<(), PtyError> {
        loop {
            self.wait(signals).map_err(|errno| PtyError::Broken(errno.into()))?;
            while let Some(command) = signals.next().map_err(PtyError::Broken)? {
                let now = self.now();
                match command {
                    Command::Cut => self.wires().for_each(|wire| wire.cut(now)),
                    Command::Restore => self.wires().for_each(|wire| wire.restore(now)),
                    Command::Stop => return Ok(()),
                }
            }
            self.carry().map_err(|errno| PtyError::Broken(errno.into()))?;
        }
    }

    /// What happened so far, from A to B and from B to A.
    pub fn counters(&self) -> [DirectionCounters; 2] {
        [self.a_to_b.counters(), self.b_to_a.counters()]
    }

    fn carry(&mut self) -> Result<(), Errno> {
        let now = self.now();
        self.a_to_b.carry(now, &self.a.master, &self.b.master)?;
        self.b_to_a.carry(now, &self.b.master, &self.a.master)
    }

    /// Sleeps until there is something to carry or to obey.
    fn wait(&self, signals: &Signals) -> Result<(), Errno> {
        let now = self.now();
        let ends = [
            (&self.a.master, self.a_to_b.reads(now), self.b_to_a.is_blocked()),
            (&self.b.master, self.b_to_a.reads(now), self.a_to_b.is_blocked()),
        ];
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        for (master, reads, blocked) in ends {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, reads);
            flags.set(PollFlags::POLLOUT, blocked);
            if !flags.is_empty() {
                fds.push(PollFd::new(master.as_fd(), flags));
            }
        }
        let wake_at = [self.a_to_b.wake_at(now), self.b_to_a.wake_at(now)];
        let wake_at = wake_at.into_iter().flatten().min();
        let timeout = wake_at.map(|at| TimeSpec::from_duration(at.saturating_since(now)));
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn wires(&mut self) -> impl Iterator<Item = &mut Wire> {
        [&mut self.a_to_b.wire, &mut self.b_to_a.wire].into_iter()
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.started.elapsed()
    }
}

//------------ One direction -------------------------------------------------

/// Moves bytes from one master through a wire to the other master.
struct Direction {
    wire: Wire,
    paced: bool,
    /// Arrived, but the reader's buffer was full; only on a line without a limit.
    blocked: Vec<u8>,
    overrun: u64,
}

/// How much line time is read ahead of the line: longer than a wake-up is late, so that the line
/// never runs dry, and short against a frame.
const READ_AHEAD: Duration = Duration::from_millis(4);
/// How long a burst's first byte may wait for more: it bounds the wake-ups to 500 a second.
const BATCH: Duration = Duration::from_millis(2);
/// The most bytes read at once.
const READ_MAX: usize = 64 * 1024;
/// The most bytes under way; only latency on a line without a limit comes near it.
const FLYING_MAX: usize = 1024 * 1024;

impl Direction {
    fn new(config: &WireConfig, seed: u64) -> Self {
        Self {
            wire: Wire::new(config.clone(), seed),
            paced: config.bytes_per_second.is_some_and(|rate| rate > 0),
            blocked: Vec::new(),
            overrun: 0,
        }
    }

    fn carry(&mut self, now: Instant, from: &PtyMaster, to: &PtyMaster) -> Result<(), Errno> {
        if self.reads(now) {
            let room = self.wire.room(now, READ_AHEAD).clamp(1, READ_MAX);
            let mut buffer = vec![0; room];
            let count = would_block_is_zero(unistd::read(from, &mut buffer))?;
            self.wire.push(now, &buffer[..count]);
        }
        if self.deliver_at().is_some_and(|at| at <= now) || self.is_blocked() {
            let mut bytes = std::mem::take(&mut self.blocked);
            bytes.extend(self.wire.poll(now).unwrap_or_default());
            self.deliver(&bytes, to)?;
        }
        Ok(())
    }

    /// A paced line goes on whether or not anybody listens; one without a limit waits.
    fn deliver(&mut self, mut bytes: &[u8], to: &PtyMaster) -> Result<(), Errno> {
        while !bytes.is_empty() {
            let count = would_block_is_zero(unistd::write(to, bytes))?;
            if count == 0 {
                break;
            }
            bytes = &bytes[count..];
        }
        if self.paced {
            self.overrun += bytes.len() as u64;
        } else {
            self.blocked = bytes.to_vec();
        }
        Ok(())
    }

    fn reads(&self, now: Instant) -> bool {
        !self.is_blocked() && self.wire.flying() < FLYING_MAX && self.read_at() <= now
    }

    fn is_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// When half of what was read ahead is used up.
    fn read_at(&self) -> Instant {
        self.wire.free_at() - READ_AHEAD / 2
    }

    fn deliver_at(&self) -> Option<Instant> {
        self.wire.poll_batch_timeout(BATCH)
    }

    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let read_at = Some(self.read_at()).filter(|at| *at > now);
        // What is blocked waits for room at the reader, not for a time.
        let deliver_at = self.deliver_at().filter(|_| !self.is_blocked());
        [read_at, deliver_at].into_iter().flatten().min()
    }

    fn counters(&self) -> DirectionCounters {
        DirectionCounters { wire: self.wire.counters(), overrun: self.overrun }
    }
}

fn would_block_is_zero(result: Result<usize, Errno>) -> Result<usize, Errno> {
    match result {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        result => result,
    }
}

//------------ Devices -------------------------------------------------------

/// A pty in raw mode, with a stable name if wanted.
struct Device {
    master: PtyMaster,
    path: PathBuf,
    link: Option<Link>,
    /// Open, so that the device outlives the programs that use it.
    _slave: File,
}

impl Device {
    fn open(link: Option<PathBuf>) -> Result<Self, PtyError> {
        let (master, path, slave) = Self::open_pty().map_err(PtyError::Open)?;
        let link = match link {
            Some(at) => {
                let made = Link::replace(at.clone(), &path);
                Some(made.map_err(|source| PtyError::Link { path: at, source })?)
            }
            None => None,
        };
        Ok(Self { master, path, link, _slave: slave })
    }

    fn open_pty() -> Result<(PtyMaster, PathBuf, File), io::Error> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = PathBuf::from(ptsname_r(&master)?);
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(&path)?;
        let mut settings = tcgetattr(&slave)?;
        cfmakeraw(&mut settings);
        tcsetattr(&slave, SetArg::TCSANOW, &settings)?;
        Ok((master, path, slave))
    }

    fn path(&self) -> &Path {
        self.link.as_ref().map_or(&self.path, |link| &link.path)
    }
}

/// A symbolic link to a device, removed when it is no longer needed.
struct Link {
    path: PathBuf,
    target: PathBuf,
}

impl Link {
    /// Replaces an older link in one step, so that no reader finds nothing there.
    fn replace(path: PathBuf, target: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_symlink()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a link"));
        }
        let mut new = path.clone().into_os_string();
        new.push(format!(".new-{}", std::process::id()));
        symlink(target, &new)?;
        fs::rename(&new, &path)?;
        Ok(Self { path, target: target.to_owned() })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A later line may have taken the name over; then it is not ours to remove.
        if fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

//------------ Signals -------------------------------------------------------

/// The signals that steer a running line, taken as events.
pub struct Signals(SignalFd);

enum Command {
    Cut,
    Restore,
    Stop,
}

impl Signals {
    /// Takes over SIGUSR1 (cable out), SIGUSR2 (cable in), SIGINT, SIGTERM and SIGHUP (stop) of
    /// this process. Call it before any other thread starts.
    pub fn take_over() -> Result<Self, PtyError> {
        let mut set = SigSet::empty();
        let signals =
            [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        signals.into_iter().for_each(|signal| set.add(signal));
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        set.thread_block()
            .and_then(|()| SignalFd::with_flags(&set, flags))
            .map(Self)
            .map_err(|errno| PtyError::Broken(errno.into()))
    }

    fn next(&self) -> io::Result<Option<Command>> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        Ok(Some(match i32::try_from(info.ssi_signo).map(Signal::try_from) {
            Ok(Ok(Signal::SIGUSR1)) => Command::Cut,
            Ok(Ok(Signal::SIGUSR2)) => Command::Restore,
            _ => Command::Stop,
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
