//! What a frame's body can be, byte for byte. `SPEC.md` has the same tables.
//!
//! Parsing looks at lengths and ranges only; whether a packet fits the conversation is the
//! endpoint's question. All numbers are little-endian.

use super::{SEGMENT_MAX, WINDOW};

/// Which end of the cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The networked side: asks.
    Frontend,
    /// The isolated side: signs.
    Signer,
}

impl Side {
    const fn code(self) -> u8 {
        match self {
            Self::Frontend => 1,
            Self::Signer => 2,
        }
    }
}

/// The name of one attempt of one process to connect: no two attempts share it. // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce {
    /// Random, once per start of the process.
    pub boot_id: u64,
    /// Counts the process's attempts.
    pub incarnation: u32,
}

impl Nonce {
    /// Encoded length.
    pub const LEN: usize = 12;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.boot_id.to_le_bytes());
        out.extend_from_slice(&self.incarnation.to_le_bytes());
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            boot_id: u64::from_le_bytes(take(input)?),
            incarnation: u32::from_le_bytes(take(input)?),
        })
    }
}

/// The prefix of a connection's frames from `sender` to `receiver`.
pub(super) fn identity(sender: Nonce, receiver: Nonce) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(2 * Nonce::LEN);
    sender.put(&mut prefix);
    receiver.put(&mut prefix);
    prefix
}

/// The prefix of a Hello, in every version of the protocol.
pub const HELLO_PREFIX: &[u8] = b"isolated signer hello";

/// First byte of a body.
pub(super) const KIND_HELLO: u8 = 1;
/// First byte of a body.
pub(super) const KIND_DATA: u8 = 2;
/// First byte of a body.
pub(super) const KIND_ACK: u8 = 3;
/// First byte of a body: an Ack that wants a Report back at once.
pub(super) const KIND_PROBE: u8 = 4;
/// First byte of a body: an Ack that says which Probe it answers.
pub(super) const KIND_REPORT: u8 = 5;

/// The kinds of frame, for the specification's table.
pub const KINDS: [(&str, u8); 5] = [
    ("Hello", KIND_HELLO),
    ("Data", KIND_DATA),
    ("Ack", KIND_ACK),
    ("Probe", KIND_PROBE),
    ("Report", KIND_REPORT),
];

/// Hello flag: the sender could not undo a patch; send it nothing that needs a reference.
const FLAG_PLAIN: u8 = 1;

/// Opens a connection. // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) side: Side,
    /// The oldest and the newest version that the sender speaks.
    pub(super) versions: (u8, u8),
    /// The sender wants no patch that needs a reference.
    pub(super) plain: bool,
    pub(super) nonce: Nonce,
    /// The receiver's nonce as the sender last heard it.
    pub(super) echo: Option<Nonce>,
    /// The longest segment that the sender takes.
    pub(super) segment_max: u16,
    /// How many segments past the acknowledged ones the sender keeps.
    pub(super) window: u16,
}

impl Hello {
    pub(super) const LEN: usize = 1 + 1 + 2 + 1 + 2 * Nonce::LEN + 2 + 2;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![KIND_HELLO, self.side.code(), self.versions.0, self.versions.1];
        out.push(if self.plain { FLAG_PLAIN } else { 0 });
        self.nonce.put(&mut out);
        self.echo.unwrap_or(NOBODY).put(&mut out);
        out.extend_from_slice(&self.segment_max.to_le_bytes());
        out.extend_from_slice(&self.window.to_le_bytes());
        debug_assert_eq!(out.len(), Self::LEN);
        out
    }

    /// Later versions may append fields, which this one ignores.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut input = body;
        let [kind, side, oldest, newest, flags] = take(&mut input)?;
        let side = [Side::Frontend, Side::Signer].into_iter().find(|s| s.code() == side)?;
        let nonce = Nonce::take(&mut input)?;
        let echo = Some(Nonce::take(&mut input)?).filter(|echo| *echo != NOBODY);
        let segment_max = u16::from_le_bytes(take(&mut input)?);
        let window = u16::from_le_bytes(take(&mut input)?);
        let sane = kind == KIND_HELLO && segment_max >= SEGMENT_MIN && window > 0;
        sane.then_some(Self {
            side,
            versions: (oldest, newest),
            plain: flags & FLAG_PLAIN != 0,
            nonce,
            echo,
            segment_max,
            window,
        })
    }
}

/// The echo of a sender that heard nobody yet; incarnations start at 1, so it is nobody's nonce.
const NOBODY: Nonce = Nonce { boot_id: 0, incarnation: 0 };

/// Every receiver takes segments of this length.
pub(super) const SEGMENT_MIN: u16 = 64;

/// A segment. // on the wire
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Data<'a> {
    pub(super) seq: u16,
    pub(super) ack: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> Data<'a> {
    pub(super) const HEADER_LEN: usize = 5;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::HEADER_LEN + self.payload.len());
        out.push(KIND_DATA);
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.ack.to_le_bytes());
        out.extend_from_slice(self.payload);
        out
    }

    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut input = body;
        let [kind] = take(&mut input)?;
        let seq = u16::from_le_bytes(take(&mut input)?);
        let ack = u16::from_le_bytes(take(&mut input)?);
        let sane = kind == KIND_DATA && !input.is_empty() && input.len() <= SEGMENT_MAX;
        sane.then_some(Self { seq, ack, payload: input })
    }
}

/// What has arrived. // on the wire
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) purpose: Purpose,
    /// The next segment that is missing.
    pub(super) ack: u16,
    /// Bit `i` of byte `i / 8`, least significant first: segment `ack + 1 + i` is here. Trailing
    /// zero bytes are left out.
    pub(super) bitmap: Vec<u8>,
}

/// What an Ack is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To tell what has arrived, or that its sender lives.
    Ack,
    /// To ask for a report under this stamp.
    Probe(u16),
    /// To answer the probe with this stamp.
    Report(u16),
}

impl Ack {
    pub(super) const LEN_MAX: usize = 1 + 2 + 2 + WINDOW / 8;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN_MAX);
        let (kind, stamp) = match self.purpose {
            Purpose::Ack => (KIND_ACK, None),
            Purpose::Probe(stamp) => (KIND_PROBE, Some(stamp)),
            Purpose::Report(stamp) => (KIND_REPORT, Some(stamp)),
        };
        out.push(kind);
        out.extend(stamp.into_iter().flat_map(u16::to_le_bytes));
        out.extend_from_slice(&self.ack.to_le_bytes());
        out.extend_from_slice(&self.bitmap);
        out
    }

    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut input = body;
        let [kind] = take(&mut input)?;
        let purpose = match kind {
            KIND_ACK => Purpose::Ack,
            KIND_PROBE => Purpose::Probe(u16::from_le_bytes(take(&mut input)?)),
            KIND_REPORT => Purpose::Report(u16::from_le_bytes(take(&mut input)?)),
            _ => return None,
        };
        let ack = u16::from_le_bytes(take(&mut input)?);
        let sane = input.len() <= WINDOW / 8;
        sane.then(|| Self { purpose, ack, bitmap: input.to_vec() })
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            side: Side::Signer,
            versions: (1, 3),
            plain: true,
            nonce: Nonce { boot_id: 0x0102_0304_0506_0708, incarnation: 9 },
            echo: Some(Nonce { boot_id: 7, incarnation: 1 }),
            segment_max: 4096,
            window: 128,
        }
    }

    #[test]
    fn packets_survive_the_round_trip() {
        for echo in [hello().echo, None] {
            let hello = Hello { echo, ..hello() };
            assert_eq!(hello.encode().len(), Hello::LEN);
            assert_eq!(Hello::parse(&hello.encode()), Some(hello));
        }
        let data = Data { seq: 0xfffe, ack: 3, payload: b"segment" };
        assert_eq!(Data::parse(&data.encode()), Some(data));
        for purpose in [Purpose::Ack, Purpose::Probe(0xabcd), Purpose::Report(7)] {
            let ack = Ack { purpose, ack: 0x1234, bitmap: vec![0, 0x80] };
            assert!(ack.encode().len() <= Ack::LEN_MAX);
            assert_eq!(Ack::parse(&ack.encode()), Some(ack));
        }
    }

    #[test]
    fn a_later_version_s_longer_hello_is_understood() {
        let mut body = hello().encode();
        body.extend_from_slice(b"fields of version 3");
        assert_eq!(Hello::parse(&body), Some(hello()));
    }

    #[test]
    fn every_truncation_of_a_header_is_refused() {
        let body = hello().encode();
        for cut in 0..body.len() {
            assert_eq!(Hello::parse(&body[..cut]), None, "hello cut at {cut}");
        }
        let body = Data { seq: 1, ack: 2, payload: b"x" }.encode();
        for cut in 0..body.len() {
            assert_eq!(Data::parse(&body[..cut]), None, "data cut at {cut}");
        }
        for purpose in [Purpose::Ack, Purpose::Probe(1), Purpose::Report(1)] {
            let body = Ack { purpose, ack: 1, bitmap: vec![] }.encode();
            for cut in 0..body.len() {
                assert_eq!(Ack::parse(&body[..cut]), None, "{purpose:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn lengths_past_the_bounds_are_refused() {
        let payload = vec![0; SEGMENT_MAX + 1];
        assert_eq!(Data::parse(&Data { seq: 0, ack: 0, payload: &payload }.encode()), None);
        let bitmap = vec![0xff; WINDOW / 8 + 1];
        for purpose in [Purpose::Ack, Purpose::Probe(1), Purpose::Report(1)] {
            let ack = Ack { purpose, ack: 0, bitmap: bitmap.clone() };
            assert_eq!(Ack::parse(&ack.encode()), None);
        }
        assert_eq!(Hello::parse(&Hello { window: 0, ..hello() }.encode()), None);
        assert_eq!(Hello::parse(&Hello { segment_max: 63, ..hello() }.encode()), None);
    }
}
