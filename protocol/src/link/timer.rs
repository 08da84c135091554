//! A connection's timers: a named deadline each, and nothing else.

use crate::time::Instant;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Acknowledge what came, if no data went the other way meanwhile.
    Ack,
    /// Ask the peer what has arrived, as it acknowledges nothing.
    Probe,
    /// Show the peer that we live.
    KeepAlive,
    /// Declare the peer gone.
    Silence,
    /// Believe a stranger's hello, as the peer showed no life since.
    Doubt,
    /// Say hello again, as no good frame has shown that the peer heard the last one.
    Greet,
}

impl Timer {
    const ALL: [Self; 6] =
        [Self::Ack, Self::Probe, Self::KeepAlive, Self::Silence, Self::Doubt, Self::Greet];
}

/// At most one deadline per timer.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.0[timer as usize] = Some(deadline);
    }

    /// Sets the deadline unless one runs already.
    pub(super) fn start(&mut self, timer: Timer, deadline: Instant) {
        self.0[timer as usize].get_or_insert(deadline);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops one timer whose deadline has come, and names it.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let due = |timer: &Timer| self.0[*timer as usize].is_some_and(|deadline| deadline <= now);
        let timer = Timer::ALL.into_iter().find(due)?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timer_has_its_own_place() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }

    #[test]
    fn timers_expire_once_and_start_keeps_a_running_deadline() {
        let at = Instant::from_micros;
        let mut timers = Timers::default();
        timers.start(Timer::Ack, at(5));
        timers.start(Timer::Ack, at(9));
        timers.set(Timer::Silence, at(7));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.expire(at(4)), None);
        assert_eq!(timers.expire(at(6)), Some(Timer::Ack));
        assert_eq!(timers.expire(at(6)), None);
        assert_eq!(timers.expire(at(7)), Some(Timer::Silence));
        assert_eq!(timers.next(), None);
    }
}
