//! Opens what a [`PortSpec`] names and moves bytes without ever waiting.
//!
//! A tty is set up by `serialport`, which knows every baud rate, and then opened a second time as
//! a plain file: reading and writing need a descriptor that does not block, and `serialport`
//! lends its own only as a number. The settings stay with the device while either is open.
//! Nothing here looks at the bytes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{
            fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
    sys::{
        socket::{self, AddressFamily, SockFlag, SockType, UnixAddr},
        termios::{FlushArg, tcflush},
    },
};

use super::spec::PortSpec;
use crate::link::Side;

/// Why a port gives no bytes. All of it passes when the cable or the other program is back.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The device or socket cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another program has the device or listens on the socket.
    #[error("{} is in use by another program: stop that one", path.display())]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// The other program closed its end, or the device is gone.
    #[error("{} was closed at the other end or unplugged", path.display())]
    Closed {
        /// Which.
        path: PathBuf,
    },
    /// The device failed.
    #[error("{} failed: {source}", path.display())]
    Failed {
        /// Which.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}

//------------ Stream --------------------------------------------------------

/// An open port.
#[derive(Debug)]
pub(super) enum Stream {
    Tty(Flock<File>),
    Socket(UnixStream),
}

impl Stream {
    /// Up to `buffer.len()` bytes; `None` when there are none now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        or_later(match self {
            Self::Tty(file) => (&**file).read(buffer),
            Self::Socket(socket) => socket.read(buffer),
        })
    }

    /// How many bytes of `bytes` were taken; `None` when there is no room now.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        or_later(match self {
            Self::Tty(file) => (&**file).write(bytes),
            Self::Socket(socket) => socket.write(bytes),
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tty(file) => file.as_fd(),
            Self::Socket(socket) => socket.as_fd(),
        }
    }
}

fn or_later(result: io::Result<usize>) -> io::Result<Option<usize>> {
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
}

impl Source {
    pub(super) fn new(spec: PortSpec, side: Side) -> Self {
        Self { spec, side, listener: None }
    }

    pub(super) fn spec(&self) -> &PortSpec {
        &self.spec
    }

    pub(super) fn path(&self) -> &Path {
        match &self.spec {
            PortSpec::Serial { path, .. }
            | PortSpec::Pty { path, .. }
            | PortSpec::Unix { path } => path,
        }
    }

    /// The next stream; `None` while a listener waits for the other end.
    pub(super) fn open(&mut self) -> Result<Option<Stream>, PortError> {
        match (&self.spec, self.side) {
            (PortSpec::Serial { path, baud }, _) => open_tty(path, *baud).map(Some),
            // The rate of a pty means nothing, but 0 would hang it up.
            (PortSpec::Pty { path, .. }, _) => open_tty(path, 115_200).map(Some),
            (PortSpec::Unix { path }, Side::Frontend) => Ok(Some(Stream::Socket(connect(path)?))),
            (PortSpec::Unix { path }, Side::Signer) => match &self.listener {
                Some(listener) => listener.accept(),
                None => self.listener.insert(Listener::bind(path)?).accept(),
            },
        }
    }

    /// What to poll for the next stream, if it announces itself.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(|listener| listener.socket.as_fd())
    }
}

/// 8N1, raw, no flow control, input that waited there thrown away.
///
/// The device is locked with flock(2), as serial programs do, and not with TIOCEXCL: that mark
/// stays on a tty that anybody else holds open, so a killed program could not come back.
fn open_tty(path: &Path, baud: u32) -> Result<Stream, PortError> {
    let failed = |source: io::Error| PortError::Open { path: path.to_owned(), source };
    let name = path.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
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
        .open(path)
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
        let listener = Self { socket, path: path.to_owned() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.socket.set_nonblocking(true).map_err(failed)?;
        Ok(listener)
    }

    fn accept(&self) -> Result<Option<Stream>, PortError> {
        let failed = |source: io::Error| PortError::Failed { path: self.path.clone(), source };
        match self.socket.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true).map_err(failed)?;
                Ok(Some(Stream::Socket(socket)))
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
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
