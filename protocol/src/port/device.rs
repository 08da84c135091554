//! Opens what a [`PortSpec`] names and moves bytes without ever waiting.
//!
//! A tty is set up by `serialport`, which knows every baud rate, and then opened a second time as
//! a plain file: reading and writing need a descriptor that does not block, and `serialport`
//! lends its own only as a number. The settings stay with the device while either is open.
//! Nothing here looks at the bytes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::TcpStream,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
    poll::PollFlags,
    sys::{
        socket::{self, AddressFamily, SockFlag, SockType, UnixAddr},
        termios::{FlushArg, tcflush},
    },
};

use super::{error::PortError, spec::PortSpec, usbnet::UsbNet, waiting::Waiting};
use crate::{
    link::Side,
    time::{Duration, Instant},
};

//------------ Stream --------------------------------------------------------

/// An open port.
#[derive(Debug)]
pub(super) enum Stream {
    Tty(Flock<File>),
    Socket(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Up to `buffer.len()` bytes; `None` when there are none now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        or_later(match self {
            Self::Tty(file) => (&**file).read(buffer),
            Self::Socket(socket) => socket.read(buffer),
            Self::Tcp(socket) => socket.read(buffer),
        })
    }

    /// How many bytes of `bytes` were taken; `None` when there is no room now.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        or_later(match self {
            Self::Tty(file) => (&**file).write(bytes),
            Self::Socket(socket) => socket.write(bytes),
            Self::Tcp(socket) => socket.write(bytes),
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tty(file) => file.as_fd(),
            Self::Socket(socket) => socket.as_fd(),
            Self::Tcp(socket) => socket.as_fd(),
        }
    }
}

pub(super) fn or_later(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

//------------ Source --------------------------------------------------------

/// Where streams come from, again and again.
#[derive(Debug)]
pub(super) struct Source {
    spec: PortSpec,
    side: Side,
    listener: Option<Listener>,
    usbnet: Option<UsbNet>,
    /// Whether a stream was handed out and is not gone.
    is_open: bool,
    /// Which device the open tty is.
    device: Option<u64>,
    /// When to look at what the path names.
    look_at: Instant,
}

/// How often it is looked whether the path of an open tty names another device by now.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Source {
    pub(super) fn new(spec: PortSpec, side: Side) -> Self {
        let usbnet = match &spec {
            PortSpec::UsbNet { interface, port } => Some(UsbNet::new(interface, *port, side)),
            _ => None,
        };
        let (listener, device, look_at) = (None, None, Instant::ZERO);
        Self { spec, side, listener, usbnet, is_open: false, device, look_at }
    }

    pub(super) fn spec(&self) -> &PortSpec {
        &self.spec
    }

    pub(super) fn path(&self) -> &Path {
        match &self.spec {
            PortSpec::Serial { path, .. }
            | PortSpec::Pty { path, .. }
            | PortSpec::Unix { path } => path,
            PortSpec::UsbNet { interface, .. } => Path::new(interface),
        }
    }

    /// Looks whether the port may stay open; after an error the stream must be dropped. Whoever
    /// else wants it is told that it is taken.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), PortError> {
        if let Some(usbnet) = &mut self.usbnet {
            return usbnet.check(now);
        }
        if !self.is_open {
            return Ok(());
        }
        if let Some(listener) = &mut self.listener {
            listener.receive_others();
            return Ok(());
        }
        if now < self.look_at {
            return Ok(());
        }
        self.look_at = now + LOOK_INTERVAL;
        // A path that names nothing at the moment says nothing of the device that is open.
        let named = fs::metadata(self.path()).ok().map(|metadata| metadata.rdev());
        match named.is_some() && self.device.is_some() && named != self.device {
            true => Err(PortError::Closed { path: self.path().to_owned() }),
            false => Ok(()),
        }
    }

    /// Whether a silent stream is given up for the next: on a network cable the other end may be
    /// gone without a word.
    pub(super) fn may_be_replaced(&self) -> bool {
        self.usbnet.is_some()
    }

    /// The stream that was handed out is gone.
    pub(super) fn closed(&mut self) {
        (self.is_open, self.device) = (false, None);
        if let Some(usbnet) = &mut self.usbnet {
            usbnet.closed();
        }
    }

    /// When [`Source::check`] and, without a stream, [`Source::open`] are due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.usbnet.as_ref()?.poll_timeout()
    }

    /// The next stream; `None` while a listener waits for the other end.
    pub(super) fn open(&mut self) -> Result<Option<Stream>, PortError> {
        let stream = match (&self.spec, self.side) {
            (PortSpec::Serial { path, baud }, _) => Some(open_tty(path, *baud)?),
            // The rate of a pty means nothing, but 0 would hang it up.
            (PortSpec::Pty { path, .. }, _) => Some(open_tty(path, 115_200)?),
            (PortSpec::Unix { path }, Side::Frontend) => Some(Stream::Socket(connect(path)?)),
            (PortSpec::Unix { path }, Side::Signer) => match &mut self.listener {
                Some(listener) => listener.accept()?,
                None => self.listener.insert(Listener::bind(path)?).accept()?,
            },
            (PortSpec::UsbNet { .. }, _) => match &mut self.usbnet {
                Some(usbnet) => usbnet.open()?.map(Stream::Tcp),
                None => None,
            },
        };
        self.is_open = stream.is_some();
        if let Some(Stream::Tty(file)) = &stream {
            self.device = file.metadata().ok().map(|metadata| metadata.rdev());
        }
        Ok(stream)
    }

    /// What to poll for the next stream, if it announces itself.
    pub(super) fn fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if let Some(usbnet) = &self.usbnet {
            return usbnet.fd();
        }
        self.listener.as_ref().map(|listener| (listener.socket.as_fd(), PollFlags::POLLIN))
    }
}

/// 8N1, raw, no flow control, input that waited there thrown away.
///
/// The device is locked with flock(2), as serial programs do, and not with TIOCEXCL: that mark
/// stays on a tty that anybody else holds open, so a killed program could not come back. What the
/// path names is found out once, at each opening anew: an adapter that was plugged in again has
/// the name that udev(7) gave it now, and both openings below mean the same one.
fn open_tty(path: &Path, baud: u32) -> Result<Stream, PortError> {
    let failed = |source: io::Error| PortError::Open { path: path.to_owned(), source };
    let device = fs::canonicalize(path).map_err(failed)?;
    let name = device.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    let settings = serialport::new(name, baud)
        .data_bits(serialport::DataBits::Eight)
        .parity(serialport::Parity::None)
        .stop_bits(serialport::StopBits::One)
        .flow_control(serialport::FlowControl::None)
        .exclusive(false)
        .open_native()
        .map_err(|error| busy_or(path, error))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits())
        .open(&device)
        .map_err(failed)?;
    // Its shared lock would stand in the way of ours.
    drop(settings);
    let file =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => PortError::Busy { path: path.to_owned() },
            errno => failed(errno.into()),
        })?;
    tcflush(&*file, FlushArg::TCIFLUSH).map_err(|errno| failed(errno.into()))?;
    Ok(Stream::Tty(file))
}

/// `serialport` reports a lock that is taken as an absent device.
fn busy_or(path: &Path, error: serialport::Error) -> PortError {
    let path = path.to_owned();
    if error.description.contains("lock") {
        return PortError::Busy { path };
    }
    PortError::Open { path, source: error.into() }
}

/// Does not wait for a listener that is too busy to accept, as `UnixStream::connect` would.
fn connect(path: &Path) -> Result<UnixStream, PortError> {
    let failed = |errno: Errno| match errno {
        Errno::EAGAIN => PortError::Busy { path: path.to_owned() },
        errno => PortError::Open { path: path.to_owned(), source: errno.into() },
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
    let address = UnixAddr::new(path).map_err(failed)?;
    socket::connect(fd.as_raw_fd(), &address).map_err(failed)?;
    Ok(fd.into())
}

/// A listening unix socket, removed when no longer needed.
#[derive(Debug)]
struct Listener {
    socket: UnixListener,
    path: PathBuf,
    waiting: Waiting<UnixStream>,
}

impl Listener {
    fn bind(path: &Path) -> Result<Self, PortError> {
        let failed = |source: io::Error| PortError::Open { path: path.to_owned(), source };
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                let text = "there is something that is no socket; move it away";
                return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, text)));
            }
            // Somebody answers: it is alive. Nobody does: a killed program left it.
            if matches!(connect(path), Ok(_) | Err(PortError::Busy { .. })) {
                return Err(PortError::Busy { path: path.to_owned() });
            }
            fs::remove_file(path).map_err(failed)?;
        }
        let socket = UnixListener::bind(path).map_err(failed)?;
        let listener = Self { socket, path: path.to_owned(), waiting: Waiting::new() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.socket.set_nonblocking(true).map_err(failed)?;
        Ok(listener)
    }

    /// Whoever has waited longest, or has just come.
    fn accept(&mut self) -> Result<Option<Stream>, PortError> {
        let next = match self.waiting.next() {
            Some(socket) => Some(socket),
            None => accept_next(&self.socket, &self.path)?,
        };
        Ok(next.map(Stream::Socket))
    }

    /// What fails here is no concern of the one that is connected.
    fn receive_others(&mut self) {
        let Self { socket, path, waiting } = self;
        waiting.receive(|| accept_next(socket, path).ok().flatten());
    }
}

fn accept_next(listener: &UnixListener, path: &Path) -> Result<Option<UnixStream>, PortError> {
    let failed = |source: io::Error| PortError::Failed { path: path.to_owned(), source };
    match listener.accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(true).map_err(failed)?;
            Ok(Some(socket))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // The other end gave up before we came to it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
