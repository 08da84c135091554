//! The one place that reads clocks and asks the system for randomness.
//!
//! Everything else gets a [`Now`] passed in, so that a run can be replayed. Nothing here sets a
//! clock.
#![expect(clippy::disallowed_methods, reason = "driver: reads clocks, makes request ids")]

use std::{
    fmt,
    path::Path,
    process::{Child, Command, Stdio},
    time::SystemTime,
};

use protocol::{
    message::RequestId,
    secure::Entropy,
    time::{Duration, Instant},
};

/// A moment on both clocks, as a driver read them or a simulation made them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, for everything that waits.
    pub instant: Instant,
    /// Microseconds since 1970-01-01 UTC, for people and for time hints.
    pub unix_us: i64,
    /// Whether the operating system says that its clock is synchronised.
    pub synchronised: bool,
}

impl Now {
    /// Seconds since 1970-01-01 UTC.
    pub fn unix_s(self) -> i64 {
        self.unix_us.div_euclid(1_000_000)
    }
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct Clock {
    origin: std::time::Instant,
    synchronised: bool,
    asked_at: Option<Instant>,
    question: Option<Child>,
}

impl Clock {
    /// A clock whose monotonic part starts now.
    pub fn start() -> Self {
        let origin = std::time::Instant::now();
        Self { origin, synchronised: false, asked_at: None, question: None }
    }

    /// This moment on the monotonic clock only.
    pub fn instant(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// This moment.
    pub fn now(&mut self) -> Now {
        let instant = self.instant();
        self.look_for_synchronisation(instant);
        Now { instant, unix_us: unix_us(), synchronised: self.synchronised }
    }

    /// Asks the system now and then whether NTP holds the clock, without ever waiting for it:
    /// systemd-timesyncd leaves a file, other daemons are known to `timedatectl`.
    fn look_for_synchronisation(&mut self, instant: Instant) {
        if let Some(child) = &mut self.question {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => {
                    let output = self.question.take().map(Child::wait_with_output);
                    self.synchronised =
                        matches!(output, Some(Ok(output)) if output.stdout.starts_with(b"yes"));
                }
            }
            return;
        }
        let due = self
            .asked_at
            .is_none_or(|asked| instant.saturating_since(asked) >= SYNCHRONISATION_PERIOD);
        if !due {
            return;
        }
        self.asked_at = Some(instant);
        if Path::new("/run/systemd/timesync/synchronized").exists() {
            self.synchronised = true;
            return;
        }
        self.question = Command::new("timedatectl")
            .args(["show", "--property=NTPSynchronized", "--value"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok();
        if self.question.is_none() {
            self.synchronised = false;
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Some(mut child) = self.question.take() {
            // The answer is of no use any more; whether the child can be killed does not matter.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether NTP holds the clock is asked this often; it changes on the scale of hours.
const SYNCHRONISATION_PERIOD: Duration = Duration::from_secs(600);

/// Microseconds since 1970-01-01 UTC.
pub fn unix_us() -> i64 {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

/// A new request id: UUID version 7.
pub fn new_request_id() -> RequestId {
    RequestId::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

/// A number that tells this run of the program from every other.
pub fn new_boot_id() -> u64 {
    uuid::Uuid::now_v7().as_u64_pair().1
}

/// The system's randomness, through libcrypto's generator, for the keys of the cable.
pub fn entropy() -> Entropy {
    Entropy::new(|bytes| {
        // Its generator was seeded at its first use. If it fails later, no key may be made.
        openssl::rand::rand_bytes(bytes).expect("libcrypto gives random bytes");
    })
}

/// Shows microseconds since 1970-01-01 UTC as `2026-11-22T01:43:05Z`.
#[derive(Clone, Copy, Debug)]
pub struct Utc(pub i64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1_000_000);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
    }
}

/// The Gregorian date of a count of days since 1970-01-01, by eras of 400 years that start on
/// 1 March, so that the leap day is an era year's last.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The count of days since 1970-01-01 of a Gregorian date; the inverse of the above.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_is_written_as_people_and_scripts_read_it() {
        assert_eq!(Utc(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Utc(951_782_400_000_000).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(Utc(2_524_607_999_000_000).to_string(), "2049-12-31T23:59:59Z");
        assert_eq!(Utc(-1).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn dates_survive_the_round_trip_across_leap_years() {
        for days in -200_000..200_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn request_ids_rise_with_time() {
        let ids: Vec<_> = (0..100).map(|_| new_request_id()).collect();
        assert!(ids.is_sorted() && ids[0] != ids[99]);
        assert_eq!(ids[0].to_string().as_bytes()[14], b'7');
    }
}
