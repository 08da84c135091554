//! Seconds since 1970 and the calendar forms that X.509 and openssl's index use.
//!
//! Nothing here reads a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Seconds in a day; X.509 knows no leap seconds.
pub const DAY_S: i64 = 86_400;

/// Seconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixTime(pub i64);

/// A point in time in the Gregorian calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// For example 2026.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
}

impl UnixTime {
    /// The time in the calendar.
    pub fn civil(self) -> Civil {
        // Days to date after H. Hinnant, "chrono-compatible low-level date algorithms".
        let (days, seconds) = (self.0.div_euclid(DAY_S), self.0.rem_euclid(DAY_S));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            hour: seconds / 3_600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// The time of a calendar date; the fields are taken as they are.
    pub fn from_civil(
        year: i64,
        month: i64,
        day: i64,
        hour: i64,
        minute: i64,
        second: i64,
    ) -> Self {
        let shifted_year = if month <= 2 { year - 1 } else { year };
        let era = shifted_year.div_euclid(400);
        let year_of_era = shifted_year.rem_euclid(400);
        let shifted_month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        Self(days * DAY_S + hour * 3_600 + minute * 60 + second)
    }

    /// The start of the day written `YYYY-MM-DD`.
    pub fn from_date(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
        };
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        let time = Self::from_civil(year, month, day, 0, 0, 0);
        let civil = time.civil();
        let real = (civil.year, civil.month, civil.day) == (year, month, day);
        (parts.next().is_none() && real).then_some(time)
    }

    /// The time in an index line: `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
    pub fn from_index(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('Z')?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = match digits.len() {
            // RFC 5280 4.1.2.5.1: two digits from 50 on mean 19YY.
            12 => {
                let year: i64 = digits[..2].parse().ok()?;
                (if year >= 50 { 1900 + year } else { 2000 + year }, &digits[2..])
            }
            14 => (digits[..4].parse().ok()?, &digits[4..]),
            _ => return None,
        };
        let field = |index: usize| rest[2 * index..2 * index + 2].parse::<i64>().ok();
        let time = Self::from_civil(year, field(0)?, field(1)?, field(2)?, field(3)?, field(4)?);
        (time.civil().month == field(0)? && time.civil().second == field(4)?).then_some(time)
    }

    /// The time as an index line has it, in the form RFC 5280 uses for it.
    pub fn index_form(self) -> String {
        let civil = self.civil();
        if (1950..2050).contains(&civil.year) { civil.utc_time() } else { civil.generalized_time() }
    }
}

/// RFC 3339, for people and JSON.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second } = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl Civil {
    /// `YYMMDDHHMMSSZ`
    pub fn utc_time(&self) -> String {
        format!("{:02}{}", self.year.rem_euclid(100), self.after_year())
    }

    /// `YYYYMMDDHHMMSSZ`
    pub fn generalized_time(&self) -> String {
        format!("{:04}{}", self.year, self.after_year())
    }

    fn after_year(&self) -> String {
        let Self { month, day, hour, minute, second, .. } = self;
        format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_agrees_with_openssl_and_inverts() {
        let origin = openssl::asn1::Asn1Time::from_unix(0).unwrap();
        for year in 1951..2110 {
            for (month, day) in [(1, 1), (2, 28), (2, 29), (3, 1), (12, 31)] {
                if day == 29 && (year % 4 != 0 || year % 100 == 0 && year % 400 != 0) {
                    continue;
                }
                let time = UnixTime::from_civil(year, month, day, 23, 59, 58);
                let text = time.civil().generalized_time();
                let oracle = openssl::asn1::Asn1Time::from_str(&text).unwrap();
                let difference = origin.diff(&oracle).unwrap();
                let seconds = i64::from(difference.days) * DAY_S + i64::from(difference.secs);
                assert_eq!(time.0, seconds, "{text}");
                assert_eq!(UnixTime::from_index(&text), Some(time));
            }
        }
    }

    #[test]
    fn both_index_forms_are_read_and_nonsense_is_not() {
        let time = UnixTime::from_civil(2026, 11, 22, 1, 2, 3);
        assert_eq!(time.index_form(), "261122010203Z");
        assert_eq!(UnixTime::from_index("261122010203Z"), Some(time));
        assert_eq!(UnixTime::from_index("20261122010203Z"), Some(time));
        assert_eq!(UnixTime::from_index("500101000000Z").unwrap().civil().year, 1950);
        for bad in ["", "Z", "2611220102Z", "261122010203", "26112201020xZ", "261322010203Z"] {
            assert_eq!(UnixTime::from_index(bad), None, "{bad}");
        }
        assert_eq!(UnixTime::from_date("2027-02-29"), None);
        assert_eq!(UnixTime::from_date("2027-03-15").unwrap().to_string(), "2027-03-15T00:00:00Z");
    }
}
