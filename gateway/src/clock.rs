//! The only place that asks what time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time: for durations and deadlines.
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall time in nanoseconds since 1970: for ids, records and expiry.
#[inline]
pub fn unix_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Wall time in whole seconds since 1970.
pub fn unix_seconds() -> i64 {
    i64::try_from(unix_nanos() / 1_000_000_000).unwrap_or(i64::MAX)
}

/// Wall time in microseconds since 1970.
pub fn unix_micros() -> i64 {
    i64::try_from(unix_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// `2026-11-22T19:20:21.123456789Z` of a wall time in nanoseconds since 1970.
pub fn rfc3339(unix_nanos: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_nanos))
        .map_or_else(|_| String::new(), |time| format!("{time:.9}"))
}

/// The same from microseconds.
pub fn rfc3339_micros(unix_micros: i64) -> String {
    jiff::Timestamp::from_microsecond(unix_micros)
        .map_or_else(|_| String::new(), |time| format!("{time:.6}"))
}

/// A time as `date` says it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub type HttpDate = [u8; 29];

/// The time now.
pub fn http_date() -> HttpDate {
    http_date_of(unix_seconds())
}

/// A wall time in seconds since 1970.
pub fn http_date_of(unix_seconds: i64) -> HttpDate {
    let time = jiff::Timestamp::from_second(unix_seconds).unwrap_or_default();
    let text = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    text.as_bytes().try_into().unwrap_or(*b"Thu, 01 Jan 1970 00:00:00 GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_http_wants_them() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_709_164_799, "Wed, 28 Feb 2024 23:59:59 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&http_date_of(seconds)).unwrap(), text);
        }
    }
}
