//! One TCP connection over an interface that is a cable and nothing else.
//!
//! The signer listens on the interface's link-local address and says so twice a second in a datagram
//! to all nodes of the wire, whose content never changes. Who comes while somebody is connected is
//! told that the place is taken, and waits. The frontend takes the first such datagram's sender for the signer and connects. That is all the
//! finding there is: who lies on the wire can make the frontend connect to a stranger, and then
//! the session's handshake fails, as with any stranger.
//!
//! Every socket is bound to the interface (SO_BINDTODEVICE). The interface is looked at before
//! each step and every second; one that leads anywhere else closes everything. The signer never
//! reads a datagram. Nothing here looks at the bytes of the connection, sets an address or asks a
//! name server.

use std::{
    ffi::OsString,
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    poll::PollFlags,
    sys::socket::{
        self, AddressFamily, Backlog, SetSockOpt, SockFlag, SockType, SockaddrIn6, sockopt,
    },
};

use super::{error::PortError, waiting::Waiting};
use crate::{
    link::Side,
    time::{Duration, Instant},
};

mod interface;

use interface::Interface;
pub use interface::InterfaceFault;

/// Where connections over one interface come from, again and again.
#[derive(Debug)]
pub(super) struct UsbNet {
    name: String,
    port: u16,
    side: Side,
    /// The time of the last [`UsbNet::check`].
    now: Instant,
    looked_at: Instant,
    state: State,
}

/// | state | event | next |
/// |---|---|---|
/// | closed | the interface is a cable | listening (signer), searching (frontend) |
/// | listening | somebody connects | connected |
/// | searching | the signer's announcement | connecting |
/// | connecting | the connection stands | connected |
/// | connecting | refused, or too late | closed |
/// | any | the interface is no cable any more, or another one | closed |
#[derive(Debug)]
enum State {
    Closed,
    Listening {
        on: Interface,
        door: Door,
    },
    Searching {
        on: Interface,
        ears: UdpSocket,
    },
    Connecting {
        on: Interface,
        stream: TcpStream,
        since: Instant,
    },
    Connected {
        on: Interface,
        /// The signer's.
        door: Option<Door>,
    },
}

/// Where frontends come in.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    announced_at: Option<Instant>,
    waiting: Waiting<TcpStream>,
}

/// What the signer says on the wire.
const ANNOUNCEMENT: &[u8] = b"the isolated signer listens here";
/// How often it says so.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(500);
/// How often the interface is looked at: a route that appears is found within this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A peer on the same wire answers within milliseconds, or is not there.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Bytes that the other end's kernel does not take for so long: it is dead. The link says
/// something every two seconds, so a dead end is found within this and a keep-alive.
const UNTAKEN_MAX_MS: u32 = 10_000;
/// Datagrams read in one turn; more are noise.
const DATAGRAMS_MAX: usize = 16;

impl UsbNet {
    pub(super) fn new(name: &str, port: u16, side: Side) -> Self {
        let (now, looked_at) = (Instant::ZERO, Instant::ZERO);
        Self { name: name.to_owned(), port, side, now, looked_at, state: State::Closed }
    }

    /// Takes the time, and looks at the interface when that is due. After an error nothing is
    /// open, and a connection that was handed out must be dropped.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), PortError> {
        self.now = now;
        if let State::Connected { on, door: Some(door) } = &mut self.state
            && door.announce(now, *on, &self.name, self.port)
        {
            // What fails here is no concern of the one that is connected.
            door.waiting.receive(|| accept(&door.listener, *on).ok().flatten());
        }
        if now.saturating_since(self.looked_at) < LOOK_EVERY {
            return Ok(());
        }
        match self.state.interface() {
            None => Ok(()),
            Some(on) => self.look_again(on),
        }
    }

    /// The next connection; `None` while the other end is waited for.
    pub(super) fn open(&mut self) -> Result<Option<TcpStream>, PortError> {
        let result = self.advance();
        if result.is_err() {
            self.state = State::Closed;
        }
        result
    }

    /// What to poll for the next connection, if it announces itself.
    pub(super) fn fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.state {
            State::Listening { door, .. } => Some((door.listener.as_fd(), PollFlags::POLLIN)),
            State::Searching { ears, .. } => Some((ears.as_fd(), PollFlags::POLLIN)),
            State::Connecting { stream, .. } => Some((stream.as_fd(), PollFlags::POLLOUT)),
            State::Closed | State::Connected { .. } => None,
        }
    }

    /// When to call [`UsbNet::check`] and, without a connection, [`UsbNet::open`] at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let look = self.looked_at + LOOK_EVERY;
        match &self.state {
            State::Closed => None,
            State::Listening { door, .. } | State::Connected { door: Some(door), .. } => {
                Some(door.announced_at.map_or(self.now, |at| at + ANNOUNCE_EVERY).min(look))
            }
            State::Connecting { since, .. } => Some((*since + CONNECT_MAX).min(look)),
            State::Searching { .. } | State::Connected { door: None, .. } => Some(look),
        }
    }

    /// The connection that was handed out is gone.
    pub(super) fn closed(&mut self) {
        // Whoever waits at the door comes next.
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Connected { on, door: Some(door) } => State::Listening { on, door },
            _ => State::Closed,
        };
    }

    fn advance(&mut self) -> Result<Option<TcpStream>, PortError> {
        loop {
            match std::mem::replace(&mut self.state, State::Closed) {
                State::Closed => {
                    let on = self.look()?;
                    self.state = self.prepare(on).map_err(|error| self.failed(error))?;
                }
                State::Listening { on, mut door } => {
                    door.announce(self.now, on, &self.name, self.port);
                    let next = match door.waiting.next() {
                        Some(stream) => Some(stream),
                        None => accept(&door.listener, on).map_err(|error| self.failed(error))?,
                    };
                    let Some(stream) = next else {
                        self.state = State::Listening { on, door };
                        return Ok(None);
                    };
                    return self.hand_out(on, stream, Some(door));
                }
                State::Searching { on, ears } => {
                    let Some(signer) = self.hear(&ears, on)? else {
                        self.state = State::Searching { on, ears };
                        return Ok(None);
                    };
                    let stream = self.connect(signer, on).map_err(|error| self.failed(error))?;
                    self.state = State::Connecting { on, stream, since: self.now };
                }
                State::Connecting { on, stream, since } => {
                    if let Some(error) = stream.take_error().map_err(|error| self.failed(error))? {
                        return Err(self.failed(error));
                    }
                    if stream.peer_addr().is_ok() {
                        return self.hand_out(on, stream, None);
                    }
                    if self.now.saturating_since(since) >= CONNECT_MAX {
                        return Err(self.failed(io::ErrorKind::TimedOut.into()));
                    }
                    self.state = State::Connecting { on, stream, since };
                    return Ok(None);
                }
                connected @ State::Connected { .. } => {
                    self.state = connected;
                    return Ok(None);
                }
            }
        }
    }

    /// The last look before bytes flow.
    fn hand_out(
        &mut self,
        on: Interface,
        stream: TcpStream,
        door: Option<Door>,
    ) -> Result<Option<TcpStream>, PortError> {
        self.look_again(on)?;
        let failed = |error| self.failed(error);
        // The session says when a frame is whole; waiting for more would only delay it.
        stream.set_nodelay(true).map_err(failed)?;
        set(&stream, sockopt::TcpUserTimeout, &UNTAKEN_MAX_MS).map_err(failed)?;
        self.state = State::Connected { on, door };
        Ok(Some(stream))
    }

    fn look(&mut self) -> Result<Interface, PortError> {
        self.looked_at = self.now;
        let refused = |fault| PortError::Interface { interface: self.name.clone(), fault };
        Interface::look(&self.name).map_err(refused)
    }

    /// The interface must still be the one on which everything was opened.
    fn look_again(&mut self, on: Interface) -> Result<(), PortError> {
        let result = match self.look() {
            Ok(now) if now == on => return Ok(()),
            Ok(_) => Err(PortError::Closed { path: self.name.clone().into() }),
            Err(error) => Err(error),
        };
        self.state = State::Closed;
        result
    }

    fn prepare(&self, on: Interface) -> io::Result<State> {
        let port = self.port;
        match self.side {
            Side::Signer => {
                let fd = bound(&self.name, SockType::Stream, on.address, on.index, port)?;
                // One more may wait while one is connected.
                socket::listen(&fd, Backlog::new(1)?)?;
                let (listener, waiting) = (TcpListener::from(fd), Waiting::new());
                Ok(State::Listening { on, door: Door { listener, announced_at: None, waiting } })
            }
            Side::Frontend => {
                let everybody = Ipv6Addr::UNSPECIFIED;
                let ears = bound(&self.name, SockType::Datagram, everybody, 0, port)?;
                Ok(State::Searching { on, ears: UdpSocket::from(ears) })
            }
        }
    }

    /// The sender of an announcement, if one came over this interface.
    fn hear(&self, ears: &UdpSocket, on: Interface) -> Result<Option<Ipv6Addr>, PortError> {
        let mut datagram = [0; ANNOUNCEMENT.len() + 1];
        for _ in 0..DATAGRAMS_MAX {
            match ears.recv_from(&mut datagram) {
                Ok((length, SocketAddr::V6(from)))
                    if datagram[..length] == *ANNOUNCEMENT
                        && from.ip().is_unicast_link_local()
                        && from.scope_id() == on.index =>
                {
                    return Ok(Some(*from.ip()));
                }
                Ok(_) => {} // somebody else's
                Err(error) if is_for_later(&error) => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(None)
    }

    fn connect(&self, signer: Ipv6Addr, on: Interface) -> io::Result<TcpStream> {
        let fd = bound(&self.name, SockType::Stream, on.address, on.index, 0)?;
        let address = SockaddrIn6::from(SocketAddrV6::new(signer, self.port, 0, on.index));
        match socket::connect(fd.as_raw_fd(), &address) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn failed(&self, source: io::Error) -> PortError {
        PortError::Open { path: self.name.clone().into(), source }
    }
}

impl State {
    fn interface(&self) -> Option<Interface> {
        match self {
            Self::Closed => None,
            Self::Listening { on, .. }
            | Self::Searching { on, .. }
            | Self::Connecting { on, .. }
            | Self::Connected { on, .. } => Some(*on),
        }
    }
}

impl Door {
    /// Says that the signer is here, if that is due; whether it was. The socket lives for this one
    /// datagram: nobody else's is waited for.
    fn announce(&mut self, now: Instant, on: Interface, name: &str, port: u16) -> bool {
        if self.announced_at.is_some_and(|at| now.saturating_since(at) < ANNOUNCE_EVERY) {
            return false;
        }
        self.announced_at = Some(now);
        let everybody = SocketAddrV6::new(ALL_NODES, port, 0, on.index);
        // A wire that takes nothing now is announced on again; one that is gone is found by a look.
        let _ = bound(name, SockType::Datagram, on.address, on.index, 0)
            .and_then(|beacon| UdpSocket::from(beacon).send_to(ANNOUNCEMENT, everybody));
        true
    }
}

/// Who has come from this wire; it does not block.
fn accept(listener: &TcpListener, on: Interface) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, SocketAddr::V6(from)))
            if from.ip().is_unicast_link_local() && from.scope_id() == on.index =>
        {
            stream.set_nonblocking(true)?;
            Ok(Some(stream))
        }
        Ok(_) => Ok(None),
        Err(error) if is_for_later(&error) => Ok(None),
        // The other end gave up before we came to it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
        Err(error) => Err(error),
    }
}

/// A socket that speaks over the interface called `name` only.
fn bound(
    name: &str,
    kind: SockType,
    address: Ipv6Addr,
    index: u32,
    port: u16,
) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Inet6, kind, flags, None)?;
    set(&fd, sockopt::BindToDevice, &OsString::from(name))?;
    set(&fd, sockopt::Ipv6V6Only, &true)?;
    if kind == SockType::Stream {
        // What an earlier run left in TIME_WAIT is no obstacle.
        set(&fd, sockopt::ReuseAddr, &true)?;
    }
    let address = SockaddrIn6::from(SocketAddrV6::new(address, port, 0, index));
    socket::bind(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

fn set<O: SetSockOpt>(fd: &impl AsFd, option: O, value: &O::Val) -> io::Result<()> {
    Ok(socket::setsockopt(fd, option, value)?)
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// ff02::1, every node of the wire (RFC 4291 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PortSpec;

    #[test]
    fn ports_and_announcement_are_those_of_the_specification() {
        let spec = include_str!("../../SPEC.md");
        let Ok(PortSpec::UsbNet { port, .. }) = "usbnet:usb0".parse() else { panic!("a port") };
        let said = |words: String| assert!(spec.contains(&words), "SPEC.md lacks: {words}");
        said(format!("The signer listens on TCP port {port}."));
        said(format!("every {} ms, from its address", ANNOUNCE_EVERY.as_millis()));
        let length = ANNOUNCEMENT.len();
        said(format!("a datagram to UDP port {port} of {ALL_NODES} with these {length} bytes"));
        said(format!("for \"{}\"", String::from_utf8_lossy(ANNOUNCEMENT)));
        let rows = ANNOUNCEMENT.chunks(16).map(|row| {
            let row: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            row.join(" ") + "\n"
        });
        said(rows.collect());
        said(format!("The frontend receives at UDP port {port}."));
        said(format!("and connects to TCP port {port} there"));
    }
}
