//! Times in property values: ISO 8601, `YYYY-MM-DD[ hh:mm[:ss]]`, Unix seconds or milliseconds. Definitions are read here,
//! values of events by the engine, both by the same patterns, so that both accept the same texts.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex_lite::Regex;

/// A day, perhaps with a time and an offset. Without an offset it is a time in UTC.
pub(crate) const CALENDAR: &str = "^((?:19|2[0-2])[0-9]{2}-[0-9]{2}-[0-9]{2})(?:[ T]((?:[01][0-9]|2[0-3]):[0-5][0-9])\
    (:[0-5][0-9](?:[.][0-9]{1,9})?)?(Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?)?$";
/// A Unix time in seconds.
pub(crate) const UNIX_SECONDS: &str = "^[0-9]{9,10}$";
/// A Unix time in milliseconds.
pub(crate) const UNIX_MILLISECONDS: &str = "^[0-9]{12,13}$";

#[expect(clippy::expect_used, reason = "the pattern is fixed, and tested")]
static CALENDAR_REGEX: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(CALENDAR).expect("the pattern is fixed"));

const DAY_MS: i64 = 86_400_000;

/// Reads a time as milliseconds since 1970.
pub(crate) fn parse(text: &str) -> Option<i64> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        return match text.len() {
            9..=10 => Some(number * 1000),
            12..=13 => Some(number),
            _ => None,
        };
    }
    let parts = CALENDAR_REGEX.captures(text)?;
    let part = |index: usize, default: &'static str| parts.get(index).map_or(default, |part| part.as_str());
    let (day, minute, second, offset) = (part(1, ""), part(2, "00:00"), part(3, ":00"), part(4, "Z"));
    let time = format!("{day}T{minute}{second}{offset}");
    time.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// The first and the last millisecond of the UTC day that a moment is in.
pub(crate) fn day_of(moment: i64) -> (i64, i64) {
    let start = moment.div_euclid(DAY_MS) * DAY_MS;
    (start, start + DAY_MS - 1)
}

/// The moment that is earlier by this number of days of 24 hours.
pub(crate) fn days_before(moment: i64, days: u32) -> i64 {
    moment - i64::from(days) * DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_times_offsets_and_unix_times_are_read() {
        let same = [
            "2026-01-15T23:00:00Z",
            "2026-01-15 23:00:00",
            "2026-01-15 23:00",
            "2026-01-16T01:00:00.000+02:00",
            "1768518000",
            "1768518000000",
        ];
        for text in same {
            assert_eq!(parse(text), Some(1_768_518_000_000), "{text}");
        }
        assert_eq!(parse("2026-01-15"), Some(1_768_435_200_000));
        assert_eq!(parse("1970-01-01T00:00:00.123456Z"), Some(123));
    }

    #[test]
    fn everything_else_is_no_time() {
        for text in [
            "",
            "soon",
            "2026",
            "2026-02-30",
            "2026-01-15T25:00:00Z",
            "2026-01-15T23:00:60Z",
            "2026-01-15x",
            "15.01.2026",
            "2026-1-5",
            "1800-01-01",
            "2400-01-01",
            "12345678",
            "12345678901",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
