//! The measured round trip, and how long patience with an answer lasts.

use super::PATIENCE_MAX;
use crate::time::Duration;

/// The round trip, from the moment a segment has left the line until its acknowledgement (RFC
/// 6298, with the serialisation taken out because the line's speed is known).
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    least: Option<Duration>,
}

impl RoundTrip {
    pub(super) fn sample(&mut self, sample: Duration) {
        self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(sample);
            self.variation = sample / 2;
            return;
        };
        self.variation = self.variation * 3 / 4 + smoothed.abs_diff(sample) / 4;
        self.smoothed = Some(smoothed * 7 / 8 + sample / 8);
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The shortest round trip seen: what cable and drivers take when nothing is in the way.
    pub(super) fn least(&self) -> Option<Duration> {
        self.least
    }

    /// How long an acknowledgement may reasonably take: [`PATIENCE_MAX`] before the first
    /// measurement, as RFC 6298 2.1 says, and whatever was measured, never longer.
    pub(super) fn patience(&self) -> Duration {
        self.smoothed.map_or(PATIENCE_MAX, |smoothed| {
            PATIENCE_MAX.min(smoothed + (self.variation * 4).max(GRANULARITY))
        })
    }
}

/// Timers of the systems at both ends are about this exact.
const GRANULARITY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn patience_follows_the_measured_round_trip() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.patience(), PATIENCE_MAX);
        for _ in 0..100 {
            round_trip.sample(40 * MS);
        }
        assert!(round_trip.patience() < 55 * MS, "{:?}", round_trip.patience());
        round_trip.sample(400 * MS);
        assert!(round_trip.patience() > 200 * MS);
        assert_eq!(round_trip.least(), Some(40 * MS));
        // However long one took, the line is asked again within the second.
        round_trip.sample(Duration::from_micros(u64::MAX));
        assert_eq!(round_trip.patience(), PATIENCE_MAX);
    }
}
