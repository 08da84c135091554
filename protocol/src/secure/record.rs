//! Records on their way: cut into segments of any length, and put together again.
//!
//! A record is as long as its seal is cheap, a segment as short as the line is bad; so a record
//! goes in as many segments as it takes, and a segment may hold the end of one record and the
//! beginning of the next. There are two streams of records, so that what is urgent steps in
//! between two segments of a bulky record that is half sent; the first byte of each segment says
//! whose it is. What is in a record, and whether it is genuine, is not known here.

use crate::time::{Duration, Instant};

/// The most bytes in one record, before they are sealed.
pub const RECORD_MAX: usize = 16 * 1024;
/// The same on a paced line.
pub const RECORD_MAX_PACED: usize = 4096;
/// No line is so slow that its records are shorter: the seal would be more than 2 % of them.
pub const RECORD_LEAST: usize = 1024;
/// On a paced line a record takes the line about so long: the seal then is less than 1 % of it at
/// 115,200 baud, and a message waits no longer than that for the end of the record it is in.
pub const RECORD_TIME: Duration = Duration::from_millis(180);
/// What a record costs beside its content: its length and its tag.
pub const RECORD_OVERHEAD: usize = LENGTH_LEN + super::noise::TAG_LEN;
/// What a segment costs: the name of its stream.
pub const HEAD_LEN: usize = 1;

/// The length of a record's length.
pub(super) const LENGTH_LEN: usize = 2;
/// In a record's length: which of two keys it is sealed with.
const PARITY: u16 = 1 << 15;
/// The longest body of a record.
const BODY_MAX: usize = RECORD_MAX + super::noise::TAG_LEN;

const _: () = assert!(BODY_MAX < PARITY as usize);
const _: () = assert!(RECORD_LEAST <= RECORD_MAX_PACED && RECORD_MAX_PACED <= RECORD_MAX);
const _: () = assert!(RECORD_OVERHEAD * 50 < RECORD_LEAST);

/// How many bytes go into one record on a line of `line_rate` bytes per second.
pub fn record_max(line_rate: Option<u32>) -> usize {
    let Some(rate) = line_rate else { return RECORD_MAX };
    let bytes = u64::from(rate) * RECORD_TIME.as_millis() as u64 / 1000;
    usize::try_from(bytes).unwrap_or(usize::MAX).clamp(RECORD_LEAST, RECORD_MAX_PACED)
}

/// Which of the two rows of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Handshakes, and all lanes but the last.
    Urgent = 0,
    /// The lane of what is long and can wait.
    Bulk = 1,
}

impl Stream {
    /// How many there are.
    pub(super) const COUNT: usize = 2;

    /// The stream that a segment's first byte names.
    pub(super) fn of_head(head: u8) -> Option<Self> {
        [Self::Urgent, Self::Bulk].into_iter().find(|stream| *stream as u8 == head)
    }
}

/// Records of one stream that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// The parity of the last record in it.
    pub(super) parity: bool,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends a record whose body is `body`.
    pub(super) fn push(&mut self, parity: bool, body: &[u8]) {
        assert!(body.len() <= BODY_MAX, "records are bounded");
        let length = body.len() as u16 | if parity { PARITY } else { 0 };
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(body);
        self.parity = parity;
    }

    /// Takes at most `room` bytes, as a segment of `stream`.
    pub(super) fn segment(&mut self, stream: Stream, room: usize) -> Vec<u8> {
        let length = self.bytes.len().min(room);
        let mut segment = Vec::with_capacity(HEAD_LEN + length);
        segment.push(stream as u8);
        segment.extend(self.bytes.drain(..length));
        segment
    }
}

/// Whether `bytes` are one record, from its first byte to its last.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    claim(bytes).is_some_and(|(_, length)| bytes.len() == LENGTH_LEN + length)
}

/// Parity and length that the record claims which begins here, complete or not.
fn claim(bytes: &[u8]) -> Option<(bool, usize)> {
    let head = u16::from_le_bytes(*bytes.first_chunk::<LENGTH_LEN>()?);
    Some((head & PARITY != 0, usize::from(head & !PARITY)))
}

/// A record that is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) parity: bool,
    pub(super) body: Vec<u8>,
}

/// A record longer than any program sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overlong;

/// What came of one stream and is no complete record yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// When the first of them came.
    began: Option<Instant>,
}

impl Inbox {
    /// Memory grows with the bytes that came, not with the length that was claimed.
    pub(super) fn push(&mut self, now: Instant, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if !self.bytes.is_empty() {
            self.began.get_or_insert(now);
        }
    }

    /// How much of a record is here.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// When the record began that is not complete.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Time that was no fault of the record's sender does not count: it is as if it had begun so
    /// much later, but not after `now`.
    pub(super) fn postpone(&mut self, now: Instant, by: Duration) {
        self.began = self.began.map(|began| now.min(began + by));
    }

    /// Parity and length that the next record claims, complete or not.
    pub(super) fn claim(&self) -> Option<(bool, usize)> {
        claim(&self.bytes)
    }

    /// The next complete record. What is left began with the bytes that came last.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Record>, Overlong> {
        let Some((parity, length)) = self.claim() else { return Ok(None) };
        if length > BODY_MAX {
            return Err(Overlong);
        }
        let body = self.bytes.get(LENGTH_LEN..LENGTH_LEN + length).map(<[u8]>::to_vec);
        let Some(body) = body else { return Ok(None) };
        self.bytes.drain(..LENGTH_LEN + length);
        self.began = (!self.bytes.is_empty()).then_some(now);
        Ok(Some(Record { parity, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_length_survive_segments_of_every_length() {
        for room in [1, 2, 3, 15, 64, 690, 4096] {
            let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
            let lengths = [0, 1, 2, 17, 255, 256, 4096, BODY_MAX];
            for (i, length) in lengths.into_iter().enumerate() {
                outbox.push(i % 2 == 1, &vec![i as u8; length]);
            }
            let mut records = Vec::new();
            while !outbox.is_empty() {
                let segment = outbox.segment(Stream::Bulk, room);
                assert!(segment.len() <= HEAD_LEN + room);
                assert_eq!(Stream::of_head(segment[0]), Some(Stream::Bulk));
                inbox.push(Instant::ZERO, &segment[HEAD_LEN..]);
                while let Some(record) = inbox.next(Instant::ZERO).unwrap() {
                    records.push((record.parity, record.body.len()));
                }
            }
            let expected: Vec<_> =
                lengths.into_iter().enumerate().map(|(i, length)| (i % 2 == 1, length)).collect();
            assert_eq!(records, expected);
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing_and_past_the_bound_is_refused() {
        let mut inbox = Inbox::default();
        inbox.push(Instant::ZERO, &(BODY_MAX as u16).to_le_bytes());
        assert_eq!(inbox.next(Instant::ZERO), Ok(None));
        assert!(inbox.bytes.capacity() < 64);
        let mut inbox = Inbox::default();
        inbox.push(Instant::ZERO, &(BODY_MAX as u16 + 1).to_le_bytes());
        assert_eq!(inbox.next(Instant::ZERO), Err(Overlong));
    }

    #[test]
    fn records_fit_the_line_and_their_seal_stays_cheap() {
        assert_eq!(record_max(None), RECORD_MAX);
        assert_eq!(record_max(Some(u32::MAX)), RECORD_MAX_PACED);
        assert_eq!(record_max(Some(0)), RECORD_LEAST);
        let at_115200 = record_max(Some(11_520));
        assert!((100 * RECORD_OVERHEAD..=2100).contains(&at_115200), "{at_115200}");
    }
}
