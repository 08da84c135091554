//! Time hints: when the next one is due, and what the last answer says about the two clocks.
//!
//! A hint goes with every batch of requests and at least every ten seconds, whatever the queue
//! does, so that the signer's picture stays fresh. Nothing here sets a clock.

use std::collections::VecDeque;

use protocol::{
    message::TimeHint,
    time::{Duration, Instant},
};
use serde::{Deserialize, Serialize};

use crate::clock::Now;

/// One hint and its answer. // stored
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The frontend's clock when the answer came, microseconds since 1970-01-01 UTC.
    pub frontend_us: i64,
    /// The signer's clock when it answered.
    pub signer_us: i64,
    /// How far the signer's clock is ahead, taking the answer to have been under way for half of
    /// the round trip.
    pub offset_us: i64,
    /// How long the answer took.
    pub round_trip_us: u64,
    /// Whether the frontend's clock said that it is synchronised.
    pub synchronised: bool,
}

/// The hints of the present connection.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Sent and not answered, oldest first: answers come in the same order.
    waiting: VecDeque<Instant>,
    sent_at: Option<Instant>,
    round_trip: Option<Duration>,
}

impl Hints {
    pub(crate) fn handle_up(&mut self) {
        self.waiting.clear();
        self.sent_at = None;
    }

    /// Whether one is due now; `batch` says that requests are about to be sent.
    pub(crate) fn is_due(&self, now: Instant, batch: bool) -> bool {
        let fresh =
            self.waiting.iter().filter(|at| now.saturating_since(**at) < ANSWER_PATIENCE).count();
        if fresh >= WAITING_MAX || self.waiting.len() >= UNANSWERED_MAX {
            return false;
        }
        let pause = if batch { BATCH_PAUSE } else { PERIOD };
        self.sent_at.is_none_or(|at| now.saturating_since(at) >= pause)
    }

    pub(crate) fn make(&mut self, now: Now) -> TimeHint {
        self.waiting.push_back(now.instant);
        self.sent_at = Some(now.instant);
        let round_trip_us =
            self.round_trip.map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        TimeHint { unix_us: now.unix_us, round_trip_us, synchronised: now.synchronised }
    }

    pub(crate) fn handle_unsent(&mut self) {
        self.waiting.pop_back();
        self.sent_at = None;
    }

    /// What the answer says; nothing if no hint waits for one.
    pub(crate) fn handle_taken(&mut self, now: Now, signer_us: i64) -> Option<Exchange> {
        let round_trip = now.instant.saturating_since(self.waiting.pop_front()?);
        self.round_trip = Some(round_trip);
        let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        let half = i64::try_from(round_trip_us / 2).unwrap_or(i64::MAX);
        let answered_us = now.unix_us.saturating_sub(half);
        Some(Exchange {
            frontend_us: now.unix_us,
            signer_us,
            offset_us: signer_us.saturating_sub(answered_us),
            round_trip_us,
            synchronised: now.synchronised,
        })
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let due = self.sent_at.map_or(Instant::ZERO, |at| at + PERIOD);
        match self.waiting.len() {
            UNANSWERED_MAX.. => Instant::from_micros(u64::MAX),
            count @ WAITING_MAX.. => due.max(self.waiting[count - WAITING_MAX] + ANSWER_PATIENCE),
            _ => due,
        }
    }
}

/// Without requests a hint goes this often.
const PERIOD: Duration = Duration::from_secs(10);
/// With requests at most this often: a batch a second has its hint, and 20 bytes a second are
/// nothing to the line.
const BATCH_PAUSE: Duration = Duration::from_secs(1);
/// More hints under way only age on a slow line.
const WAITING_MAX: usize = 2;
/// After this an answer is not waited for any more, but still counted in its order.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// A signer that never answers gets no more hints in this connection.
const UNANSWERED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Now {
        let unix_us = 1_000_000_000_000_000 + i64::try_from(micros).unwrap();
        Now { instant: Instant::from_micros(micros), unix_us, synchronised: true }
    }

    #[test]
    fn the_offset_counts_half_of_the_round_trip() {
        let mut hints = Hints::default();
        let first = hints.make(at(0));
        assert_eq!(first.round_trip_us, None);
        let signer_us = at(100_000).unix_us - 5_000_000;
        let exchange = hints.handle_taken(at(200_000), signer_us).unwrap();
        assert_eq!(exchange.offset_us, -5_000_000);
        assert_eq!(exchange.round_trip_us, 200_000);
        assert_eq!(hints.make(at(300_000)).round_trip_us, Some(200_000));
        assert!(hints.handle_taken(at(400_000), 0).is_some());
        assert_eq!(hints.handle_taken(at(500_000), 0), None, "nobody asked");
    }

    #[test]
    fn a_signer_that_does_not_answer_is_not_flooded() {
        let mut hints = Hints::default();
        let mut sent = 0;
        for second in 0..100_000 {
            let now = at(second * 1_000_000);
            if hints.is_due(now.instant, true) {
                hints.make(now);
                sent += 1;
            }
        }
        assert_eq!(sent, UNANSWERED_MAX);
    }
}
