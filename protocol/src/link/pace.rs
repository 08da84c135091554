//! When the next frame may be handed out, and how long a line of this rate takes for what.
//!
//! Nothing here reads a clock or knows what a frame is.

use super::{KEEP_ALIVE, SILENCE, SILENCE_BYTES};
use crate::time::{Duration, Instant};

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
