//! What a frame's body can be, byte for byte. `SPEC.md` has the same tables.
//!
//! Parsing looks at lengths and ranges only; whether a packet fits the conversation is the
//! endpoint's question. All numbers are little-endian. Segments are numbered without end, and only
//! the low eight bits of a number travel; the check runs over all of it, so a frame of the past is a
//! broken frame and never a segment of today.

use super::{SEGMENT_MAX, SEGMENT_SLOW, WINDOW};
use crate::frame::{self, Check};

/// Which end of the cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The networked side: asks.
    Frontend,
    /// The isolated side: signs.
    Signer,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Frontend => Self::Signer,
            Self::Signer => Self::Frontend,
        }
    }

    /// How it is written. // on the wire
    pub(crate) const fn code(self) -> u8 {
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

/// How the prefix of a connection's frames from `sender` to `receiver` begins.
pub(super) fn identity(sender: Nonce, receiver: Nonce) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(2 * Nonce::LEN);
    sender.put(&mut prefix);
    receiver.put(&mut prefix);
    prefix
}

/// The prefix of a Hello, in every version of the protocol.
pub const HELLO_PREFIX: &[u8] = b"isolated signer hello";

/// First byte of a body.
const KIND_HELLO: u8 = 1;
/// First byte of a body, in its low bits.
const KIND_DATA: u8 = 2;
/// First byte of a body.
const KIND_ACK: u8 = 3;
/// First byte of a body: an Ack that wants a Report back at once.
const KIND_PROBE: u8 = 4;
/// First byte of a body: an Ack that says which Probe it answers.
const KIND_REPORT: u8 = 5;
/// First byte of a body, in its low bits: a piece of a segment that was lost as a whole.
const KIND_PART: u8 = 6;
/// First byte of a body: somebody else has the peer.
const KIND_BUSY: u8 = 7;

/// The kinds of frame, for the specification's table.
pub const KINDS: [(&str, u8); 7] = [
    ("Hello", KIND_HELLO),
    ("Data", KIND_DATA),
    ("Ack", KIND_ACK),
    ("Probe", KIND_PROBE),
    ("Report", KIND_REPORT),
    ("Part", KIND_PART),
    ("Busy", KIND_BUSY),
];

/// Which bits of a first byte are the kind; in Data and Part the others are the bitmap's length.
const KIND_BITS: u32 = 3;
const KIND_MASK: u8 = (1 << KIND_BITS) - 1;

/// What a frame claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Hello,
    Busy,
    /// A frame of a connection.
    Packet,
    /// Of a later version, or noise: its prefix cannot be known, so neither whether it is whole.
    Unknown,
}

impl Claim {
    pub(super) fn of(sealed: &frame::Sealed) -> Self {
        match sealed.claimed_kind() {
            KIND_HELLO => Self::Hello,
            KIND_BUSY => Self::Busy,
            head if (KIND_DATA..=KIND_PART).contains(&(head & KIND_MASK)) => Self::Packet,
            _ => Self::Unknown,
        }
    }
}

//------------ Hello and Busy ------------------------------------------------

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
        // Every receiver takes segments of that length.
        let takes_some = usize::from(segment_max) >= SEGMENT_SLOW && window > 0;
        let sane = kind == KIND_HELLO && takes_some;
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

/// Tells who greets that somebody else is connected. // on the wire
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) side: Side,
    /// Whom it is for; `None` for whoever is at the other end.
    pub(super) receiver: Option<Nonce>,
}

impl Busy {
    pub(super) const LEN: usize = 1 + 1 + Nonce::LEN;

    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = vec![KIND_BUSY, self.side.code()];
        self.receiver.unwrap_or(NOBODY).put(&mut out);
        debug_assert_eq!(out.len(), Self::LEN);
        out
    }

    /// Later versions may append fields, which this one ignores.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut input = body;
        let [kind, side] = take(&mut input)?;
        let side = [Side::Frontend, Side::Signer].into_iter().find(|s| s.code() == side)?;
        let receiver = Some(Nonce::take(&mut input)?).filter(|receiver| *receiver != NOBODY);
        (kind == KIND_BUSY).then_some(Self { side, receiver })
    }
}

//------------ Packets -------------------------------------------------------

/// The header of a Data frame without a bitmap: head, `seq`, `ack`.
pub(super) const DATA_HEADER_LEN: usize = 3;
/// The longest bitmap.
pub(super) const BITMAP_MAX: usize = WINDOW / 8;
/// Parts begin at multiples of this, so that a receiver can keep count of them.
pub(super) const PART_UNIT: usize = 16;
/// What the header of a Part has more than that of Data: where it begins, and the whole length.
const PART_FIELDS_LEN: usize = 4;

const _: () = assert!(BITMAP_MAX <= (u8::MAX >> KIND_BITS) as usize);
const _: () =
    assert!(frame::BODY_MAX >= DATA_HEADER_LEN + BITMAP_MAX + PART_FIELDS_LEN + SEGMENT_MAX);
const _: () = assert!(frame::BODY_MAX >= Hello::LEN && frame::BODY_MAX >= Busy::LEN);

/// A frame of a connection. Each tells all that has arrived. // on the wire
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// The sender has all segments before this one and has passed them on.
    pub(super) ack: u64,
    /// Bit `i` of byte `i / 8`, least significant first: segment `ack + i` is here. Trailing zero
    /// bytes are left out.
    pub(super) bitmap: Vec<u8>,
    pub(super) content: Content<'a>,
}

/// What a packet is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// To carry a segment.
    Data { seq: u64, payload: &'a [u8] },
    /// To carry a piece of a segment of `total` bytes, from `offset`.
    Part { seq: u64, offset: u16, total: u16, payload: &'a [u8] },
    /// To tell what has arrived, or that its sender lives.
    Ack,
    /// To ask for a report under this stamp.
    Probe(u16),
    /// To answer the probe with this stamp.
    Report(u16),
}

/// The numbers that a packet's low bits are close to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near {
    /// The first segment that the receiver has not passed on: a sender is at most a window
    /// before or after it.
    pub(super) incoming: u64,
    /// The first segment of the receiver's own that is not acknowledged: an acknowledgement is
    /// at most a window after it.
    pub(super) outgoing: u64,
}

/// A frame that was looked into.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened<'a> {
    Packet(Packet<'a>),
    /// It is whole and the content makes no sense.
    Malformed,
    /// Noise, or another connection's, or of the past.
    Broken,
}

impl<'a> Packet<'a> {
    /// The prefix and the body of its frame.
    pub(super) fn encode(&self, identity: &[u8]) -> (Vec<u8>, Vec<u8>) {
        debug_assert!(self.bitmap.len() <= BITMAP_MAX, "the window bounds the bitmap");
        let mut body = Vec::with_capacity(DATA_HEADER_LEN + self.bitmap.len() + PART_FIELDS_LEN);
        let head = |kind| kind | (self.bitmap.len() as u8) << KIND_BITS;
        let seq = match self.content {
            Content::Data { seq, payload } => {
                body.extend([head(KIND_DATA), seq as u8, self.ack as u8]);
                body.extend_from_slice(&self.bitmap);
                body.extend_from_slice(payload);
                Some(seq)
            }
            Content::Part { seq, offset, total, payload } => {
                body.extend([head(KIND_PART), seq as u8, self.ack as u8]);
                body.extend_from_slice(&self.bitmap);
                body.extend_from_slice(&offset.to_le_bytes());
                body.extend_from_slice(&total.to_le_bytes());
                body.extend_from_slice(payload);
                Some(seq)
            }
            Content::Ack => {
                body.extend([KIND_ACK, self.ack as u8]);
                body.extend_from_slice(&self.bitmap);
                None
            }
            Content::Probe(stamp) | Content::Report(stamp) => {
                let is_probe = matches!(self.content, Content::Probe(_));
                body.extend([if is_probe { KIND_PROBE } else { KIND_REPORT }, self.ack as u8]);
                body.extend_from_slice(&stamp.to_le_bytes());
                body.extend_from_slice(&self.bitmap);
                None
            }
        };
        (prefix(identity, seq, self.ack), body)
    }

    /// The number of the segment that it carries, or carries a piece of.
    pub(super) fn seq(&self) -> Option<u64> {
        match self.content {
            Content::Data { seq, .. } | Content::Part { seq, .. } => Some(seq),
            Content::Ack | Content::Probe(_) | Content::Report(_) => None,
        }
    }

    /// Completes the numbers that `sealed` claims, checks it with them, and parses.
    pub(super) fn open(
        sealed: &'a frame::Sealed,
        check: Check<'_>,
        identity: &[u8],
        near: Near,
    ) -> Opened<'a> {
        let mut claimed = sealed.claimed();
        let Some([head]) = take(&mut claimed) else { return Opened::Broken };
        let numbered = matches!(head & KIND_MASK, KIND_DATA | KIND_PART);
        let seq = if numbered { take(&mut claimed).map(|[low]| low) } else { None };
        let seq = seq.map(|low| expand(near.incoming, low.into(), u8::BITS));
        let ack = take(&mut claimed).map(|[low]| low);
        // Half a window is subtracted as the numbers lie to one side of it.
        let middle = near.outgoing + WINDOW as u64 / 2;
        let ack = ack.and_then(|low| expand(middle, low.into(), u8::BITS));
        let (Some(ack), None | Some(Some(_))) = (ack, seq) else { return Opened::Broken };
        let seq = seq.flatten();
        if sealed.open_with(check, &prefix(identity, seq, ack)).is_none() {
            return Opened::Broken;
        }
        match Self::parse(head, seq, ack, claimed) {
            Some(packet) => Opened::Packet(packet),
            None => Opened::Malformed,
        }
    }

    /// `rest` is what follows the numbers.
    fn parse(head: u8, seq: Option<u64>, ack: u64, mut rest: &'a [u8]) -> Option<Self> {
        let bitmap_len = usize::from(head >> KIND_BITS);
        let content = match (head & KIND_MASK, seq) {
            (KIND_DATA, Some(seq)) => {
                let bitmap = take_bitmap(&mut rest, bitmap_len)?;
                let sane = (1..=SEGMENT_MAX).contains(&rest.len());
                let content = Content::Data { seq, payload: rest };
                return sane.then_some(Self { ack, bitmap, content });
            }
            (KIND_PART, Some(seq)) => {
                let bitmap = take_bitmap(&mut rest, bitmap_len)?;
                let offset = u16::from_le_bytes(take(&mut rest)?);
                let total = u16::from_le_bytes(take(&mut rest)?);
                let (start, whole) = (usize::from(offset), usize::from(total));
                let end = start + rest.len();
                // A part is of whole units, but for the last one, which ends the segment.
                let sane = whole <= SEGMENT_MAX
                    && !rest.is_empty()
                    && end <= whole
                    && start.is_multiple_of(PART_UNIT)
                    && (end == whole || end.is_multiple_of(PART_UNIT));
                let content = Content::Part { seq, offset, total, payload: rest };
                return sane.then_some(Self { ack, bitmap, content });
            }
            (KIND_ACK, None) => Content::Ack,
            (KIND_PROBE, None) => Content::Probe(u16::from_le_bytes(take(&mut rest)?)),
            (KIND_REPORT, None) => Content::Report(u16::from_le_bytes(take(&mut rest)?)),
            _ => return None,
        };
        let sane = bitmap_len == 0 && rest.len() <= BITMAP_MAX;
        sane.then(|| Self { ack, bitmap: rest.to_vec(), content })
    }
}

/// What the check runs over before the body: the connection, and the numbers in full.
fn prefix(identity: &[u8], seq: Option<u64>, ack: u64) -> Vec<u8> {
    let numbers = seq.into_iter().chain([ack]).flat_map(u64::to_le_bytes);
    identity.iter().copied().chain(numbers).collect()
}

fn take_bitmap(rest: &mut &[u8], length: usize) -> Option<Vec<u8>> {
    let (bitmap, after) = rest.split_at_checked(length).filter(|_| length <= BITMAP_MAX)?;
    *rest = after;
    Some(bitmap.to_vec())
}

/// The number closest to `near` whose low `bits` bits are `low`; the lower one of two.
pub(super) fn expand(near: u64, low: u64, bits: u32) -> Option<u64> {
    let unused = u64::BITS - bits;
    let distance = (low.wrapping_sub(near) << unused) as i64 >> unused;
    near.checked_add_signed(distance)
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: &[u8] = b"four and twenty bytes...";
    const NEAR: Near = Near { incoming: 1000, outgoing: 500 };

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

    fn contents() -> [Content<'static>; 7] {
        [
            Content::Data { seq: 1000, payload: b"segment" },
            Content::Data { seq: 1127, payload: &[9; SEGMENT_MAX] },
            Content::Part { seq: 872, offset: 32, total: 4096, payload: &[7; 48] },
            Content::Part { seq: 1001, offset: 48, total: 50, payload: b"zz" },
            Content::Ack,
            Content::Probe(0xabcd),
            Content::Report(7),
        ]
    }

    fn sealed(prefix: &[u8], body: &[u8]) -> frame::Sealed {
        let mut wire = Vec::new();
        frame::encode(prefix, body, &mut wire);
        frame::Decoder::default().next(&mut &wire[..]).unwrap()
    }

    #[test]
    fn packets_survive_the_round_trip_with_their_numbers_in_full() {
        for content in contents() {
            for bitmap in [vec![], vec![0b10], vec![0, 0x80], vec![0xff; BITMAP_MAX]] {
                for ack in [436, 500, 563, 628] {
                    let packet = Packet { ack, bitmap: bitmap.clone(), content };
                    let (prefix, body) = packet.encode(IDENTITY);
                    let sealed = sealed(&prefix, &body);
                    assert_eq!(Claim::of(&sealed), Claim::Packet);
                    assert_eq!(
                        Packet::open(&sealed, Check::Crc, IDENTITY, NEAR),
                        Opened::Packet(packet)
                    );
                }
            }
        }
    }

    #[test]
    fn a_frame_of_another_connection_or_of_the_past_is_broken() {
        for content in contents() {
            let packet = Packet { ack: 500, bitmap: vec![], content };
            let (prefix, body) = packet.encode(IDENTITY);
            let sealed = sealed(&prefix, &body);
            let other = b"four and twenty bytes,,,";
            assert_eq!(Packet::open(&sealed, Check::Crc, other, NEAR), Opened::Broken);
            // The same bytes when the connection is 256 segments further.
            let later = Near { incoming: 1256, outgoing: 756 };
            assert_eq!(Packet::open(&sealed, Check::Crc, IDENTITY, later), Opened::Broken);
        }
    }

    #[test]
    fn numbers_expand_to_the_closest() {
        assert_eq!(expand(0, 5, 8), Some(5));
        assert_eq!(expand(0, 0xff, 8), None);
        assert_eq!(expand(250, 2, 8), Some(258));
        assert_eq!(expand(258, 0xfa, 8), Some(250));
        assert_eq!(expand(1000, (1000 + 127) & 0xff, 8), Some(1127));
        assert_eq!(expand(1000, (1000 - 128) & 0xff, 8), Some(872));
        assert_eq!(expand(65_534, 2, 16), Some(65_538));
        assert_eq!(expand(1 << 40, 0, 16), Some(1 << 40));
        assert_eq!(expand(u64::MAX, 3, 8), None);
    }

    #[test]
    fn hellos_survive_the_round_trip_also_those_of_later_versions() {
        for echo in [hello().echo, None] {
            let hello = Hello { echo, ..hello() };
            let mut body = hello.encode();
            assert_eq!(body.len(), Hello::LEN);
            assert_eq!(Hello::parse(&body), Some(hello));
            body.extend_from_slice(b"fields of version 3");
            assert_eq!(Hello::parse(&body), Some(hello));
        }
        for receiver in [hello().echo, None] {
            let busy = Busy { side: Side::Signer, receiver };
            let mut body = busy.encode();
            assert_eq!(Busy::parse(&body), Some(busy));
            body.push(1);
            assert_eq!(Busy::parse(&body), Some(busy));
        }
    }

    #[test]
    fn every_truncation_of_a_header_is_refused() {
        let body = hello().encode();
        for cut in 0..body.len() {
            assert_eq!(Hello::parse(&body[..cut]), None, "hello cut at {cut}");
        }
        let body = Busy { side: Side::Signer, receiver: None }.encode();
        for cut in 0..body.len() {
            assert_eq!(Busy::parse(&body[..cut]), None, "busy cut at {cut}");
        }
        // With a CRC that is right for the numbers that are still there.
        for (content, least) in [
            (Content::Data { seq: 1000, payload: b"x" }, 6),
            (Content::Part { seq: 1000, offset: 0, total: 1, payload: b"x" }, 10),
            (Content::Ack, 2),
            (Content::Probe(1), 4),
            (Content::Report(1), 4),
        ] {
            let (prefix, body) = Packet { ack: 500, bitmap: vec![1, 1], content }.encode(IDENTITY);
            for cut in 1..least {
                let sealed = sealed(&prefix, &body[..cut]);
                let opened = Packet::open(&sealed, Check::Crc, IDENTITY, NEAR);
                let taken = matches!(opened, Opened::Packet(_));
                assert!(!taken, "{content:?} cut at {cut}: {opened:?}");
            }
            let sealed = sealed(&prefix, &body[..least]);
            let opened = Packet::open(&sealed, Check::Crc, IDENTITY, NEAR);
            assert!(matches!(opened, Opened::Packet(_)), "{content:?}: {opened:?}");
        }
    }

    #[test]
    fn what_is_past_its_bounds_is_refused() {
        let part = |offset, total, payload| Content::Part { seq: 1000, offset, total, payload };
        for content in [
            Content::Data { seq: 1000, payload: b"" },
            Content::Data { seq: 1000, payload: &[0; SEGMENT_MAX + 1] },
            part(8, 64, &[0; 16]),
            part(16, 64, &[0; 17]),
            part(48, 64, &[0; 17]),
            part(64, 64, b""),
            part(0, 0, b""),
            part(4096, 4112, &[0; 16]),
            part(u16::MAX, u16::MAX, b"x"),
        ] {
            let (prefix, body) = Packet { ack: 500, bitmap: vec![], content }.encode(IDENTITY);
            let sealed = sealed(&prefix, &body);
            let opened = Packet::open(&sealed, Check::Crc, IDENTITY, NEAR);
            assert_eq!(opened, Opened::Malformed, "{content:?}");
        }
        let mut prefix = IDENTITY.to_vec();
        prefix.extend_from_slice(&500u64.to_le_bytes());
        let low = 500u64 as u8;
        for kind in [KIND_ACK, KIND_PROBE, KIND_REPORT] {
            // A bitmap that is too long, and bits that belong to Data.
            let long = [&[kind, low, 0, 0][..], &[0xff; BITMAP_MAX + 1]].concat();
            let bits = [kind | 1 << KIND_BITS, low, 0, 0, 1];
            for body in [&long[..], &bits] {
                let sealed = sealed(&prefix, body);
                assert_eq!(Packet::open(&sealed, Check::Crc, IDENTITY, NEAR), Opened::Malformed);
            }
        }
        assert_eq!(Hello::parse(&Hello { window: 0, ..hello() }.encode()), None);
        assert_eq!(Hello::parse(&Hello { segment_max: 63, ..hello() }.encode()), None);
    }
}
