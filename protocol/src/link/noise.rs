//! How noisy the line is, and so how long a segment should be.
//!
//! A long segment pays its frame seldom but is lost more often. This room weighs the two from
//! what became of the segments that were sent; it never decides when anything is sent.

use super::{
    SEGMENT_LEAST, SEGMENT_LEAST_TIME, SEGMENT_MAX, SEGMENT_SLOW, SEGMENT_TIME, pace::Pace, packet,
};
use crate::time::Duration;

/// What a segment's frame costs beside the segment: its header with a byte of the bitmap, the
/// CRC, the byte of COBS and the delimiter.
pub(super) const OVERHEAD: usize = packet::DATA_HEADER_LEN + 1 + crate::frame::CRC_LEN + 2;

/// A segment is never cut shorter than this for noise: it is the best length at a bit error in
/// ten bytes, and every frame of such a line is a matter of luck.
pub const SEGMENT_MIN: usize = 16;

/// A length that is within this part of the best one costs less than half a percent: nothing is
/// changed for it, so that the length rests while the estimate wavers.
const REST: usize = 8;

/// When losses were heard of so often and of nothing that arrived, what was clean before is over:
/// each further time half of it is forgotten. All that a cut lost is heard of at once.
const STREAK: u32 = 4;

/// Losses are counted in so many parts, as old ones fade.
const WHOLE: u64 = 1 << 20;

/// What became of transmissions that were not known to have arrived or to be lost before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fates {
    /// Bytes on the line of those that arrived and those that were lost.
    pub(super) bytes: u64,
    /// How many were lost.
    pub(super) losses: u64,
    /// Whether any arrived.
    pub(super) any_arrived: bool,
}

impl Fates {
    /// Notes a transmission of a segment of `length` bytes.
    pub(super) fn note(&mut self, length: usize, lost: bool) {
        self.bytes += (length + OVERHEAD) as u64;
        self.losses += u64::from(lost);
        self.any_arrived |= !lost;
    }
}

/// The estimate; it outlives connections, as the line does.
#[derive(Debug)]
pub(super) struct Noise {
    /// The longest segment this line should carry, however clean.
    longest: usize,
    /// Recent bytes on the line, and how many times `WHOLE` of the segments among them were lost.
    bytes: u64,
    losses: u64,
    /// How often losses were heard of since something arrived.
    streak: u32,
    length: usize,
}

impl Noise {
    /// No loss was seen, and a quarter of what counts as recent is believed to have been clean:
    /// the first losses then shorten segments soon, and a single one says little.
    pub(super) fn new(pace: &Pace) -> Self {
        let longest = longest(pace);
        let mut noise = Self { longest, bytes: 0, losses: 0, streak: 0, length: longest };
        noise.bytes = noise.memory() / 4;
        noise
    }

    /// The longest segment this line should carry, however clean.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// How long a segment should be now.
    pub(super) fn segment_length(&self) -> usize {
        self.length
    }

    /// Learns from what became of some transmissions.
    pub(super) fn learn(&mut self, fates: Fates) {
        self.bytes += fates.bytes;
        self.losses += fates.losses * WHOLE;
        self.streak = match fates.any_arrived {
            true => 0,
            false => self.streak.saturating_add(u32::from(fates.losses > 0)),
        };
        if self.streak >= STREAK {
            self.bytes /= 2;
        }
        let memory = self.memory();
        if self.bytes > memory {
            let losses = u128::from(self.losses) * u128::from(memory) / u128::from(self.bytes);
            self.losses = u64::try_from(losses).unwrap_or(u64::MAX);
            self.bytes = memory;
        }
        let best = self.best();
        let is_last = best == self.longest || best == SEGMENT_MIN;
        if is_last || best.abs_diff(self.length) > self.length / REST {
            self.length = best;
        }
    }

    /// How many bytes count as recent: one loss among them is what [`Self::longest`] bears.
    fn memory(&self) -> u64 {
        let longest = self.longest as u64;
        longest * (longest + OVERHEAD as u64) / OVERHEAD as u64
    }

    /// The length `l` with the best `l / (l + overhead) · exp(-(l + overhead) / clean)`, where
    /// `clean` is how many bytes pass between two losses: `l² + l · overhead = overhead · clean`.
    fn best(&self) -> usize {
        let overhead = OVERHEAD as u128;
        let clean = u128::from(self.bytes) * u128::from(WHOLE) / u128::from(self.losses.max(1));
        let root = (overhead * overhead + 4 * overhead * clean).isqrt();
        let best = usize::try_from((root - overhead) / 2).unwrap_or(usize::MAX);
        best.clamp(SEGMENT_MIN.min(self.longest), self.longest)
    }
}

/// What the line carries with its frame in [`SEGMENT_TIME`], within the bounds for slow lines.
fn longest(pace: &Pace) -> usize {
    let within = |time: Duration| pace.line_bytes(time).unwrap_or(SEGMENT_MAX);
    let least = within(SEGMENT_LEAST_TIME).clamp(SEGMENT_SLOW, SEGMENT_LEAST);
    let framed = pace.line_bytes(SEGMENT_TIME).map(|bytes| bytes.saturating_sub(OVERHEAD));
    framed.unwrap_or(SEGMENT_MAX).clamp(least, SEGMENT_MAX)
}

const _: () = assert!(SEGMENT_MIN <= SEGMENT_SLOW && SEGMENT_SLOW <= SEGMENT_LEAST);
const _: () = assert!(SEGMENT_LEAST <= SEGMENT_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    fn noise(rate: Option<u32>) -> Noise {
        Noise::new(&Pace::new(rate, Instant::ZERO))
    }

    /// Sends `bytes` over a line on which a loss comes after every `clean` bytes.
    fn carry(noise: &mut Noise, bytes: usize, clean: usize) {
        let (mut carried, mut since) = (0, 0);
        while carried < bytes {
            let length = noise.segment_length();
            let frame = length + OVERHEAD;
            carried += frame;
            since += frame;
            let mut fates = Fates::default();
            fates.note(length, since >= clean);
            since %= clean.max(1);
            noise.learn(fates);
        }
    }

    #[test]
    fn a_clean_line_has_the_longest_segments_its_speed_allows() {
        for (rate, longest) in [
            (None, 4096),
            (Some(1), 64),
            (Some(100), 100),
            (Some(11_520), 727),
            (Some(u32::MAX), 4096),
        ] {
            let mut noise = noise(rate);
            assert_eq!(noise.segment_length(), longest, "{rate:?}");
            carry(&mut noise, 1_000_000, usize::MAX);
            assert_eq!(noise.segment_length(), longest, "{rate:?}");
        }
    }

    #[test]
    fn the_length_is_near_the_best_one_whatever_the_error_rate() {
        for clean in [20, 125, 1_250, 12_500, 125_000] {
            let mut noise = noise(Some(11_520));
            carry(&mut noise, 400_000, clean);
            // The best length by trying all.
            let goodput = |length: usize| {
                let (payload, frame) = (length as f64, (length + OVERHEAD) as f64);
                payload / frame * (-frame / clean as f64).exp()
            };
            let best = (SEGMENT_MIN..=noise.longest()).map(goodput).fold(0.0, f64::max);
            let chosen = goodput(noise.segment_length());
            assert!(chosen > best * 0.97, "{clean}: {} gives {chosen}", noise.segment_length());
        }
    }

    #[test]
    fn noise_that_begins_shortens_segments_within_seconds_and_noise_that_ends_is_forgotten() {
        let mut noise = noise(Some(11_520));
        carry(&mut noise, 1_000_000, usize::MAX);
        carry(&mut noise, 3 * 11_520, 1_250);
        assert!(noise.segment_length() < 250, "{}", noise.segment_length());
        carry(&mut noise, 60 * 11_520, usize::MAX);
        assert_eq!(noise.segment_length(), 727);
    }

    #[test]
    fn a_cut_that_loses_all_that_was_on_its_way_costs_little() {
        let mut noise = noise(Some(11_520));
        carry(&mut noise, 1_000_000, usize::MAX);
        let mut fates = Fates::default();
        (0..7).for_each(|_| fates.note(727, true));
        noise.learn(fates);
        assert!(noise.segment_length() > 200, "{}", noise.segment_length());
    }

    #[test]
    fn a_few_segments_of_which_none_arrives_are_enough_to_shorten_them() {
        let mut noise = noise(Some(11_520));
        carry(&mut noise, 1_000_000, usize::MAX);
        for _ in 0..16 {
            let mut fates = Fates::default();
            fates.note(noise.segment_length().min(60), true);
            noise.learn(fates);
        }
        assert_eq!(noise.segment_length(), SEGMENT_MIN);
    }

    #[test]
    fn the_length_rests_while_losses_come_at_a_steady_rate() {
        let mut noise = noise(Some(11_520));
        carry(&mut noise, 400_000, 1_250);
        let mut changes = 0;
        for _ in 0..1_000 {
            let before = noise.segment_length();
            carry(&mut noise, 100, 1_250);
            changes += usize::from(noise.segment_length() != before);
        }
        assert!(changes < 20, "{changes}");
    }

    #[test]
    fn only_losses_lead_to_the_shortest_segments_and_no_further() {
        for rate in [None, Some(1), Some(11_520)] {
            let mut noise = noise(rate);
            for _ in 0..100_000 {
                let mut fates = Fates::default();
                fates.note(noise.segment_length(), true);
                noise.learn(fates);
            }
            assert_eq!(noise.segment_length(), SEGMENT_MIN);
        }
    }
}
