//! The way to the line: frames are made, counted, and handed out at the line's own speed.

use super::{noise::Noise, pace::Pace};
use crate::{
    frame::{self, Check},
    time::Instant,
};

/// What the endpoint counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Bytes handed to the line.
    pub bytes_sent: u64,
    /// Bytes that came from the line.
    pub bytes_received: u64,
    /// Frames handed to the line.
    pub frames_sent: u64,
    /// Frames that came whole.
    pub frames_received: u64,
    /// Frames that COBS or the check refused: noise, bytes of an earlier connection, or somebody
    /// else's.
    pub frames_broken: u64,
    /// Runs without a delimiter that were longer than any frame.
    pub frames_oversized: u64,
    /// Frames of a connection that came while there was none.
    pub frames_stray: u64,
    /// Good frames whose content makes no sense.
    pub frames_malformed: u64,
    /// Hellos of our own side: the line is looped back, or a second one of us is on it.
    pub hellos_reflected: u64,
    /// Hellos of an incarnation that is over.
    pub hellos_stale: u64,
    /// How often the peer said that it talks with somebody else.
    pub busies_received: u64,
    /// Segments sent, each once.
    pub segments_sent: u64,
    /// Segments sent again.
    pub segments_repeated: u64,
    /// Pieces of lost segments sent, as the line had become too noisy for them as a whole.
    pub parts_sent: u64,
    /// Pieces of segments that came.
    pub parts_received: u64,
    /// Segments that came in order or ahead of a gap, as wholes or in their last part.
    pub segments_received: u64,
    /// Their bytes.
    pub payload_received: u64,
    /// Segments that came although they were here.
    pub segments_duplicate: u64,
    /// Segments dropped because the layer above is behind.
    pub segments_beyond_window: u64,
    /// How often nothing was acknowledged in time, so that the peer was asked.
    pub timeouts: u64,
    /// Connections that came up.
    pub connections: u64,
}

/// What every state of the endpoint needs to send a frame.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) pace: Pace,
    pub(super) noise: Noise,
    pub(super) counters: LinkCounters,
    /// Runs that were no frame at all, by the decoder's count: where bytes are lost, COBS refuses
    /// what is left.
    pub(super) unreadable: u64,
}

impl Line {
    pub(super) fn new(rate: Option<u32>, now: Instant) -> Self {
        let pace = Pace::new(rate, now);
        Self { noise: Noise::new(&pace), pace, counters: LinkCounters::default(), unreadable: 0 }
    }

    /// How much came that was not whole.
    pub(super) fn not_whole(&self) -> u64 {
        self.counters.frames_broken + self.unreadable
    }

    /// Appends the frame of `body` to `out`; returns when the line will have carried it.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        check: Check<'_>,
        prefix: &[u8],
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Instant {
        let start = out.len();
        if self.pace.is_quiet(now) {
            out.push(frame::DELIMITER);
        }
        frame::encode_with(check, prefix, body, out);
        let length = out.len() - start;
        self.counters.frames_sent += 1;
        self.counters.bytes_sent += length as u64;
        self.pace.sent(now, length)
    }
}
