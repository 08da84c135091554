//! The way to the line: frames are made, counted, and handed out at the line's own speed.

use super::{KEEP_ALIVE, SILENCE, SILENCE_BYTES, noise::Noise};
use crate::{
    frame::{self, Check},
    time::{Duration, Instant},
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

/// Hands out bytes only a little ahead of the line, so that what is urgent later need not queue
/// behind them in a driver's buffer where no priority reaches.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes per second; `None` for a line without a limit.
    rate: Option<u32>,
    /// When the line will have carried all that was handed out.
    free_at: Instant,
    last_sent: Option<Instant>,
}

/// How far ahead of the line the next frame may be handed out: enough for a driver that wakes
/// late, little beside a segment's own time on the line.
const LEAD: Duration = Duration::from_millis(20);
/// After this long without a byte from us, whatever noise the line made stands before our frame.
const QUIET: Duration = Duration::from_millis(20);

impl Pace {
    pub(super) fn new(rate: Option<u32>, now: Instant) -> Self {
        // A rate of zero would never send a byte; one byte per second is the slowest line.
        Self { rate: rate.map(|rate| rate.max(1)), free_at: now, last_sent: None }
    }

    /// When the next frame may be handed out; `now` or earlier means at once.
    pub(super) fn opens_at(&self) -> Instant {
        self.free_at - LEAD
    }

    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.rate.is_none() || self.opens_at() <= now
    }

    /// Whether the line was silent, so that a frame needs a delimiter in front.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.last_sent.is_none_or(|sent| sent.max(self.free_at) + QUIET <= now)
    }

    /// Notes that `bytes` were handed out; returns when the line will have carried them.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize) -> Instant {
        self.free_at = self.free_at.max(now) + self.line_time(bytes);
        self.last_sent = Some(now);
        self.free_at
    }

    /// How long the line takes for `bytes`.
    pub(super) fn line_time(&self, bytes: usize) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / u64::from(rate))
    }

    /// After so long without a good frame the peer counts as gone.
    pub(super) fn silence(&self) -> Duration {
        SILENCE.max(self.line_time(SILENCE_BYTES))
    }

    /// How often to send an Ack at least.
    pub(super) fn keep_alive(&self) -> Duration {
        KEEP_ALIVE.max(self.silence() / SILENT_KEEP_ALIVES)
    }

    /// How many bytes the line carries in `time`.
    pub(super) fn line_bytes(&self, time: Duration) -> Option<usize> {
        let rate = u128::from(self.rate?);
        Some(usize::try_from(rate * time.as_micros() / 1_000_000).unwrap_or(usize::MAX))
    }
}

/// How many keep-alives fit into the silence after which the peer counts as gone.
const SILENT_KEEP_ALIVES: u32 = 5;

const _: () = assert!(SILENCE.as_millis() >= KEEP_ALIVE.as_millis() * SILENT_KEEP_ALIVES as u128);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_paced_line_is_never_more_than_a_frame_and_the_lead_ahead() {
        let mut now = Instant::ZERO;
        let mut pace = Pace::new(Some(1000), now);
        let mut sent = 0;
        for _ in 0..1000 {
            while pace.is_open(now) {
                let left_at = pace.sent(now, 100);
                sent += 100;
                assert!(left_at.saturating_since(now) <= LEAD + 100 * MS);
            }
            now = pace.opens_at();
        }
        let line_time = now.saturating_since(Instant::ZERO) + LEAD;
        assert_eq!(Duration::from_millis(sent), line_time);
    }

    #[test]
    fn a_slow_line_has_time_for_silence_and_no_other_line_waits_longer() {
        let silence = |rate| Pace::new(rate, Instant::ZERO).silence();
        let keep_alive = |rate| Pace::new(rate, Instant::ZERO).keep_alive();
        for rate in [None, Some(u32::MAX), Some(11_520), Some(120), Some(52)] {
            assert_eq!((silence(rate), keep_alive(rate)), (SILENCE, KEEP_ALIVE), "{rate:?}");
        }
        for rate in [Some(0), Some(1)] {
            assert_eq!(silence(rate), Duration::from_secs(SILENCE_BYTES as u64), "{rate:?}");
            assert_eq!(keep_alive(rate) * SILENT_KEEP_ALIVES, silence(rate), "{rate:?}");
        }
    }

    #[test]
    fn an_unpaced_line_is_always_open() {
        let mut pace = Pace::new(None, Instant::ZERO);
        assert!(pace.is_quiet(Instant::ZERO));
        pace.sent(Instant::ZERO, 1 << 30);
        assert!(pace.is_open(Instant::ZERO));
        assert!(!pace.is_quiet(Instant::ZERO));
        assert!(pace.is_quiet(Instant::ZERO + QUIET));
    }
}
