//! What both drivers of the gate do alike: read its clocks, wait, hand jobs to the intake.
//!
//! Nothing here knows where requests come from or where answers go.
#![expect(clippy::disallowed_methods, reason = "driver: reads the clocks of the gate process")]

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    poll::{PollFd, PollTimeout, poll},
};
use protocol::time::Instant;

use crate::intake::{Intake, worker::Job};

/// The time since this process began its work.
pub(super) struct Clock(std::time::Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(super) fn now(&self) -> Instant {
        let micros = self.0.elapsed().as_micros();
        Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// The time of day, by which OpenPGP keys are judged.
pub(super) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Waits until one of `fds` is ready or the time is over; without a time only for `fds`.
pub(super) fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<(), Errno> {
    let timeout = match timeout {
        // Rounded up, so that a timer is due when we wake.
        Some(duration) => {
            PollTimeout::try_from(duration + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
        }
        None => PollTimeout::NONE,
    };
    match poll(fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Hands over as many jobs as the intake takes, oldest first, and lets it work.
pub(super) fn turn_intake(
    intake: &mut Intake<u64>,
    jobs: &mut VecDeque<(u64, Job)>,
    now: Instant,
) -> anyhow::Result<()> {
    while intake.has_room() {
        let Some((tag, job)) = jobs.pop_front() else { break };
        if let Err(full) = intake.submit(tag, job) {
            jobs.push_front((full.tag, full.job));
            break;
        }
    }
    intake.turn(now).context("CSRs and keys cannot be vetted")
}
