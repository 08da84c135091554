//! Time hints for the operator: `timesync.json` and `timesync.sh`.
//!
//! Nothing here sets a clock. The script adds the time that passed since the hint, by the boot
//! clock, so it is right whenever it is run; it refuses after a reboot and when the hint is stale.
//! Only a person runs it, and compares with a watch first.

use std::{collections::VecDeque, path::PathBuf};

use protocol::message::TimeHint;
use serde::{Deserialize, Serialize};

use crate::{calendar::UnixTime, durable, fault::Fault};

/// The moment of an event by the three clocks that matter here.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The system clock, microseconds since 1970-01-01 UTC.
    pub unix_us: i64,
    /// The boot clock, microseconds since the machine started; suspended time counts.
    pub boot_us: i64,
}

impl Moment {
    /// The system clock in whole seconds.
    pub fn unix(self) -> UnixTime {
        UnixTime(self.unix_us.div_euclid(1_000_000))
    }
}

/// One hint as it arrived. // stored
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The frontend's clock at arrival, with half a round trip added.
    pub hint_unix_us: i64,
    /// The signer's system clock at arrival.
    pub signer_unix_us: i64,
    /// The signer's boot clock at arrival.
    pub boot_us: i64,
    /// The round trip that was halved.
    pub round_trip_us: u32,
    /// Whether the frontend's clock says it is synchronised.
    pub synchronised: bool,
}

/// What `timesync.json` holds. // stored
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The kernel's id of this boot: the boot clock means nothing after another.
    pub boot_id: String,
    /// How far the signer's clock is behind the hint; negative when it is ahead.
    pub offset_us: i64,
    /// The change of the offset over the kept samples, in parts per million.
    pub drift_ppm: Option<f64>,
    /// The newest hint.
    pub newest: Sample,
    /// The kept hints, oldest first.
    pub history: Vec<Sample>,
}

/// Keeps the hints and writes the two files.
#[derive(Debug)]
pub struct TimeSync {
    directory: PathBuf,
    boot_id: String,
    history: VecDeque<Sample>,
    newest: Option<Sample>,
    written_boot_us: Option<i64>,
}

/// Hints that are kept for the drift: at one an hour, three days.
const HISTORY_MAX: usize = 72;
/// The least time between two kept hints.
const HISTORY_STEP_US: i64 = 3_600_000_000;
/// The least time between two writes of the files.
const WRITE_STEP_US: i64 = 5_000_000;
/// A drift is named once the kept hints span ten minutes: before, the round trip blurs it.
const DRIFT_SPAN_US: i64 = 600_000_000;

impl TimeSync {
    /// Keeps hints for the machine's present boot in `directory`.
    pub fn new(directory: PathBuf, boot_id: String) -> Self {
        Self { directory, boot_id, history: VecDeque::new(), newest: None, written_boot_us: None }
    }

    /// Takes a hint in. The half round trip is the frontend's measure or, at first, the link's.
    pub fn take(
        &mut self,
        now: Moment,
        hint: TimeHint,
        link_round_trip_us: Option<u32>,
    ) -> Result<(), Fault> {
        let round_trip_us = hint.round_trip_us.or(link_round_trip_us).unwrap_or(0);
        let sample = Sample {
            hint_unix_us: hint.unix_us.saturating_add(i64::from(round_trip_us) / 2),
            signer_unix_us: now.unix_us,
            boot_us: now.boot_us,
            round_trip_us,
            synchronised: hint.synchronised,
        };
        let due = |last: &Sample| now.boot_us - last.boot_us >= HISTORY_STEP_US;
        if self.history.back().is_none_or(due) {
            if self.history.len() == HISTORY_MAX {
                self.history.pop_front();
            }
            self.history.push_back(sample.clone());
        }
        self.newest = Some(sample);
        if self.written_boot_us.is_none_or(|at| now.boot_us - at >= WRITE_STEP_US) {
            self.write()?;
            self.written_boot_us = Some(now.boot_us);
        }
        Ok(())
    }

    /// The present report, once a hint has arrived.
    pub fn report(&self) -> Option<Report> {
        let newest = self.newest.clone()?;
        Some(Report {
            boot_id: self.boot_id.clone(),
            offset_us: newest.hint_unix_us.saturating_sub(newest.signer_unix_us),
            drift_ppm: self.drift_ppm(&newest),
            history: self.history.iter().cloned().collect(),
            newest,
        })
    }

    /// The hint's progress against the boot clock's, which no operator sets.
    fn drift_ppm(&self, newest: &Sample) -> Option<f64> {
        let oldest = self.history.front()?;
        let boot_span = newest.boot_us - oldest.boot_us;
        if boot_span < DRIFT_SPAN_US {
            return None;
        }
        let hint_span = newest.hint_unix_us.saturating_sub(oldest.hint_unix_us);
        Some(hint_span.saturating_sub(boot_span) as f64 / boot_span as f64 * 1e6)
    }

    fn write(&self) -> Result<(), Fault> {
        let Some(report) = self.report() else { return Ok(()) };
        let json = serde_json::to_vec_pretty(&report)
            .map_err(|error| Fault::Internal(format!("timesync.json: {error}")))?;
        durable::replace_lazily(&self.directory.join("timesync.json"), &json, 0o644)?;
        durable::replace_lazily(
            &self.directory.join("timesync.sh"),
            script(&report).as_bytes(),
            0o755,
        )
    }
}

/// The script for the operator. POSIX sh with what any Debian has.
pub fn script(report: &Report) -> String {
    let hint_ms = report.newest.hint_unix_us.div_euclid(1_000);
    let boot_ms = report.newest.boot_us.div_euclid(1_000);
    let boot_id = &report.boot_id;
    let synchronised = if report.newest.synchronised { "yes" } else { "no" };
    include_str!("clock/timesync.sh")
        .replace("@HINT_MS@", &hint_ms.to_string())
        .replace("@BOOT_MS@", &boot_ms.to_string())
        .replace("@BOOT_ID@", boot_id)
        .replace("@SYNCHRONISED@", synchronised)
        .replace("@ROUND_TRIP_US@", &report.newest.round_trip_us.to_string())
}

#[cfg(test)]
mod tests;
