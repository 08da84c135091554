//! Values over a local stream socket between two of the signer's own processes: gate and vault,
//! gate and intake worker.
//!
//! A frame is a length (`u32`, big-endian) and that many bytes of one [`protocol::codec`] value.
//! Nothing here blocks, waits or decides: the owner polls [`Framed::fd`] for
//! [`Framed::interest`], calls [`Framed::turn`], then drains [`Framed::recv`]. The peer may be a
//! broken or captured process, so no length it claims sizes an allocation, and what it does not
//! read is never queued past [`OUTGOING_MAX`].

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use nix::poll::PollFlags;
use protocol::{
    codec::{self, CodecError},
    message::MESSAGE_MAX,
};
use serde::{Serialize, de::DeserializeOwned};

/// The longest value in one frame: a message of the cable and what the gate adds to it.
pub const FRAME_MAX: usize = 2 * MESSAGE_MAX;
/// The most bytes waiting for a peer that does not read.
pub const OUTGOING_MAX: usize = 4 * FRAME_MAX;

/// The codec counts a length or a tag as the eight bytes that it has in memory, not as the one
/// that it has on the socket.
const DECODED_MAX: usize = 4 * FRAME_MAX;
const HEADER_LEN: usize = 4;
const READ_LEN: usize = 16 * 1024;

const _: () = assert!(HEADER_LEN + FRAME_MAX <= OUTGOING_MAX);
const _: () = assert!(FRAME_MAX <= u32::MAX as usize);

/// Why a frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum FramingError {
    /// The peer closed the socket or died; between two frames. A retry cannot help.
    #[error("the other process closed the socket")]
    Closed,
    /// The peer closed the socket or died in the middle of a frame. A retry cannot help.
    #[error("the other process closed the socket after {have} bytes of a frame")]
    CutOff {
        /// How many bytes of the frame had come.
        have: usize,
    },
    /// The peer claims a frame past the limit; nothing after it can be trusted.
    #[error("the other process announced a frame of {claimed} bytes, at most {FRAME_MAX} allowed")]
    TooLong {
        /// The claimed length.
        claimed: usize,
    },
    /// The peer does not read; try again after a [`Framed::turn`] that made room.
    #[error("the other process does not read: {waiting} bytes are waiting for it")]
    Full {
        /// How many bytes wait.
        waiting: usize,
    },
    /// A frame does not hold the expected value. The frames after it are still in step.
    #[error("the other process sent no valid value: {0}")]
    Value(#[from] CodecError),
    /// The socket itself failed.
    #[error("the socket to the other process failed: {0}")]
    Socket(#[from] io::Error),
}

/// One end of a stream socket that carries frames.
#[derive(Debug)]
pub struct Framed {
    stream: UnixStream,
    incoming: Vec<u8>,
    /// How many bytes at the front of `incoming` were received by the owner already.
    taken: usize,
    outgoing: Vec<u8>,
    open: bool,
}

impl Framed {
    /// Takes over `stream` and makes it non-blocking.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, incoming: Vec::new(), taken: 0, outgoing: Vec::new(), open: true })
    }

    /// The descriptor to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What to poll for. Empty only when the peer is gone, or when whole frames wait to be
    /// received and nothing is to be written.
    pub fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, self.open && self.wants_read());
        flags.set(PollFlags::POLLOUT, self.wants_write());
        flags
    }

    /// Whether bytes wait to be written.
    pub fn wants_write(&self) -> bool {
        self.open && !self.outgoing.is_empty()
    }

    /// Whether a value of any permitted length can be sent now.
    pub fn has_room(&self) -> bool {
        self.outgoing.len() + HEADER_LEN + FRAME_MAX <= OUTGOING_MAX
    }

    /// Whether the peer may still send; frames that came before its end can be received after it.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Reads and writes what is possible without waiting. A peer that is gone is no error here:
    /// [`Framed::recv`] tells it once every complete frame has been received.
    pub fn turn(&mut self) -> Result<(), FramingError> {
        self.read_available()?;
        self.write_possible()
    }

    /// Queues `value`; call [`Framed::turn`] to move it.
    pub fn send<T: Serialize>(&mut self, value: &T) -> Result<(), FramingError> {
        let body = codec::encode(value)?;
        if body.len() > FRAME_MAX {
            return Err(FramingError::TooLong { claimed: body.len() });
        }
        let waiting = self.outgoing.len();
        if waiting + HEADER_LEN + body.len() > OUTGOING_MAX {
            return Err(FramingError::Full { waiting });
        }
        let length = u32::try_from(body.len()).expect("FRAME_MAX fits u32, asserted above");
        self.outgoing.extend_from_slice(&length.to_be_bytes());
        self.outgoing.extend_from_slice(&body);
        Ok(())
    }

    /// The next value, if a whole frame has come.
    pub fn recv<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FramingError> {
        let Some(length) = self.announced() else {
            return self.incomplete();
        };
        if length > FRAME_MAX {
            // Out of step for good: drop the rest and treat the peer as gone.
            self.close();
            self.take(self.unread().len());
            return Err(FramingError::TooLong { claimed: length });
        }
        let end = HEADER_LEN + length;
        if self.unread().len() < end {
            return self.incomplete();
        }
        let value = codec::decode::<T, DECODED_MAX>(&self.unread()[HEADER_LEN..end]);
        self.take(end);
        Ok(Some(value?))
    }

    fn unread(&self) -> &[u8] {
        &self.incoming[self.taken..]
    }

    fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.incoming.len() {
            self.incoming = Vec::new(); // nothing is held while idle
            self.taken = 0;
        }
    }

    fn announced(&self) -> Option<usize> {
        let header = self.unread().first_chunk::<HEADER_LEN>()?;
        usize::try_from(u32::from_be_bytes(*header)).ok()
    }

    fn incomplete<T>(&self) -> Result<Option<T>, FramingError> {
        match (self.open, self.unread().len()) {
            (true, _) => Ok(None),
            (false, 0) => Err(FramingError::Closed),
            (false, have) => Err(FramingError::CutOff { have }),
        }
    }

    /// One frame of the longest kind is the most that is read ahead; the rest waits in the
    /// kernel, which makes the peer wait.
    fn wants_read(&self) -> bool {
        self.unread().len() < HEADER_LEN + FRAME_MAX
    }

    fn read_available(&mut self) -> Result<(), FramingError> {
        let mut buffer = [0; READ_LEN];
        self.incoming.drain(..self.taken);
        self.taken = 0;
        while self.open && self.wants_read() {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.close(),
                Ok(count) => self.incoming.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.closed_by(error)?,
            }
        }
        Ok(())
    }

    fn write_possible(&mut self) -> Result<(), FramingError> {
        let mut sent = 0;
        while self.open && sent < self.outgoing.len() {
            match self.stream.write(&self.outgoing[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Its last frames may still lie in the kernel; fetch them before the end.
                    self.read_available()?;
                    self.closed_by(error)?;
                }
            }
        }
        self.outgoing.drain(..sent.min(self.outgoing.len()));
        if self.outgoing.is_empty() {
            self.outgoing = Vec::new();
        }
        Ok(())
    }

    /// A peer that died shows as one of these errors; any other is the socket's own fault.
    fn closed_by(&mut self, error: io::Error) -> Result<(), FramingError> {
        self.close();
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error.into()),
        }
    }

    fn close(&mut self) {
        self.open = false;
        self.outgoing = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Framed, Framed) {
        let (left, right) = UnixStream::pair().unwrap();
        (Framed::new(left).unwrap(), Framed::new(right).unwrap())
    }

    fn raw_pair() -> (UnixStream, Framed) {
        let (left, right) = UnixStream::pair().unwrap();
        (left, Framed::new(right).unwrap())
    }

    #[test]
    fn values_arrive_in_order_and_nothing_is_held_when_idle() {
        let (mut left, mut right) = pair();
        for number in 0..100u32 {
            left.send(&(number, vec![7u8; 1000])).unwrap();
        }
        let mut next = 0;
        while next < 100 {
            left.turn().unwrap();
            right.turn().unwrap();
            while let Some((number, bytes)) = right.recv::<(u32, Vec<u8>)>().unwrap() {
                assert_eq!((number, bytes.len()), (next, 1000));
                next += 1;
            }
        }
        assert!(!left.wants_write());
        assert_eq!(left.outgoing.capacity() + right.incoming.capacity(), 0);
    }

    #[test]
    fn longest_frame_passes_and_a_longer_one_is_not_sent() {
        let (mut left, mut right) = pair();
        // A string of this length has a five-byte length marker in front.
        let longest = "x".repeat(FRAME_MAX - 5);
        left.send(&longest).unwrap();
        assert!(matches!(left.send(&format!("{longest}x")), Err(FramingError::TooLong { .. })));
        let received = loop {
            left.turn().unwrap();
            right.turn().unwrap();
            if let Some(text) = right.recv::<String>().unwrap() {
                break text;
            }
        };
        assert_eq!(received, longest);
    }

    #[test]
    fn claimed_length_past_the_limit_ends_the_peer_without_allocation() {
        let (mut peer, mut framed) = raw_pair();
        peer.write_all(&u32::MAX.to_be_bytes()).unwrap();
        framed.turn().unwrap();
        assert!(matches!(framed.recv::<String>(), Err(FramingError::TooLong { .. })));
        assert!(matches!(framed.recv::<String>(), Err(FramingError::Closed)));
        assert_eq!(framed.incoming.capacity(), 0);
        assert!(framed.interest().is_empty());
    }

    #[test]
    fn peer_that_sends_without_end_is_read_one_frame_ahead() {
        let (peer, mut framed) = raw_pair();
        peer.set_nonblocking(true).unwrap();
        for _ in 0..1000 {
            let _ = (&peer).write(&[0; 65536]);
            framed.turn().unwrap();
        }
        assert!(framed.incoming.len() < HEADER_LEN + FRAME_MAX + READ_LEN);
        assert!(!framed.interest().contains(PollFlags::POLLIN));
    }

    #[test]
    fn peer_that_does_not_read_is_refused_more_at_the_bound() {
        let (mut left, _right) = pair();
        let value = vec![0u8; FRAME_MAX / 2];
        let refused = loop {
            match left.send(&value) {
                Ok(()) => left.turn().unwrap(),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, FramingError::Full { .. }), "{refused}");
        assert!(left.outgoing.len() <= OUTGOING_MAX && !left.has_room() && left.wants_write());
    }

    #[test]
    fn frames_sent_before_the_end_are_received_and_a_cut_is_told() {
        let (mut peer, mut framed) = raw_pair();
        let body = codec::encode(&String::from("last words")).unwrap();
        peer.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
        peer.write_all(&body).unwrap();
        peer.write_all(&[0, 0, 0]).unwrap();
        drop(peer);
        framed.turn().unwrap();
        assert_eq!(framed.recv::<String>().unwrap().unwrap(), "last words");
        assert!(matches!(framed.recv::<String>(), Err(FramingError::CutOff { have: 3 })));
    }

    #[test]
    fn answer_of_a_peer_that_dies_before_reading_is_not_lost_to_a_broken_pipe() {
        let (mut peer, mut framed) = raw_pair();
        framed.send(&"first").unwrap();
        framed.turn().unwrap();
        framed.send(&"second").unwrap();
        let body = codec::encode(&5u8).unwrap();
        peer.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
        peer.write_all(&body).unwrap();
        drop(peer);
        framed.turn().unwrap();
        assert_eq!(framed.recv::<u8>().unwrap(), Some(5));
        assert!(matches!(framed.recv::<u8>(), Err(FramingError::Closed)));
    }

    #[test]
    fn frame_without_a_valid_value_does_not_put_the_next_out_of_step() {
        let (mut left, mut right) = pair();
        left.send(&String::from("not a number")).unwrap();
        left.send(&9u8).unwrap();
        left.turn().unwrap();
        right.turn().unwrap();
        assert!(matches!(right.recv::<u8>(), Err(FramingError::Value(_))));
        assert_eq!(right.recv::<u8>().unwrap(), Some(9));
    }
}
