//! Event times as UTC milliseconds. The forms that are read are listed in docs/contract.md, "Event times".

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The first millisecond after the last valid event time: 2105-02-06T00:00:00Z.
///
/// Rows of `events` expire by `toDateTime(timestamp) + INTERVAL 365 DAY`, computed in 32 bits of seconds. After
/// 2105-02-07T06:28:15.999Z the sum wraps around to 1970 and the engine drops the row at once. The limit is more than a day
/// before that, so that the server's time zone does not matter.
const END: i64 = 4_263_321_600_000;
const _: () = assert!((END - 1) / 1000 + (365 + 1) * 86_400 <= u32::MAX as i64);

/// Parses an event time to milliseconds since 1970; finer digits are cut off.
///
/// Accepted: ISO 8601 with or without fraction, with `T` or a space, or a date alone; after it nothing, `Z`, `UTC`, `GMT`
/// (all mean UTC) or an offset (`+02:00`, `+0200`, `+02`), also after spaces. Unix seconds (9 or 10 digits, with or without
/// fraction) and Unix milliseconds (12 or 13 digits). White space around the time is ignored. `None` for any other text,
/// and for a time outside of [`is_kept`].
///
/// ClickHouse's best-effort parser reads the same time from all of these, with two exceptions. It does not take twelve
/// digits, nor white space after a number. And it takes month 0 for January, day 0 for the first, and second 60 for the
/// next minute; here months and days start at 1, and second 60 is read as 59.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let ms = canonical(text.as_bytes())
        .or_else(|| unix(text))
        .or_else(|| iso(text))?;
    is_kept(ms).then_some(ms)
}

/// The event time of an entry without one: the milliseconds of its id, if an event may have that time.
pub fn of_entry(id_ms: u64) -> Option<i64> {
    i64::try_from(id_ms).ok().filter(|ms| is_kept(*ms))
}

/// Whether an event may have this time: the table keeps its row until it has expired as intended.
fn is_kept(ms: i64) -> bool {
    (0..END).contains(&ms)
}

/// Parses `2026-01-15T10:30:00.123Z`, the form that ingest writes, without the cost of a general parser.
fn canonical(text: &[u8]) -> Option<i64> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        mo1,
        mo2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        mi1,
        mi2,
        b':',
        s1,
        s2,
        b'.',
        f1,
        f2,
        f3,
        b'Z',
    ] = *text
    else {
        return None;
    };
    let year = number(&[y1, y2, y3, y4])?;
    let (month, day) = (number(&[mo1, mo2])?, number(&[d1, d2])?);
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[mi1, mi2])?, number(&[s1, s2])?);
    let milli = number(&[f1, f2, f3])?;
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    Some((((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000 + milli)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the date (proleptic Gregorian; years counted from March so that the leap day comes last).
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

fn unix(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(w, f)| (w, Some(f)));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) {
        return None;
    }
    match (whole.len(), fraction) {
        (9 | 10, None) => Some(whole.parse::<i64>().ok()? * 1000),
        (9 | 10, Some(f)) if digits(f) => {
            let milli = number(&[f.as_bytes(), b"00"].concat()[..3])?;
            Some(whole.parse::<i64>().ok()? * 1000 + milli)
        }
        (12 | 13, None) => whole.parse().ok(),
        _ => None,
    }
}

fn iso(text: &str) -> Option<i64> {
    // A time starts with a digit: words such as `now`, durations and signed years are refused.
    if !text.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    if let Some((local, offset_s)) = split_zone(text)
        && is_local(local)
        && let Ok(local) = local.parse::<DateTime>()
    {
        return Some(milliseconds(local)? - offset_s * 1000);
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(instant) => i64::try_from(instant.as_nanosecond().div_euclid(1_000_000)).ok(),
        Err(_) if is_local(text) => milliseconds(text.parse().ok()?),
        Err(_) => None,
    }
}

/// Whether no zone follows the date. The library ignores a zone when it parses a local time.
fn is_local(text: &str) -> bool {
    let after_date = text.get("20260115".len()..);
    after_date.is_some_and(|rest| !rest.contains(['+', '-', 'Z', 'z', '[']))
}

/// The milliseconds of a local time, taken for UTC.
fn milliseconds(local: DateTime) -> Option<i64> {
    let instant = local.to_zoned(TimeZone::UTC).ok()?.timestamp();
    i64::try_from(instant.as_nanosecond().div_euclid(1_000_000)).ok()
}

/// Splits a time into its local part, without trailing spaces, and its zone in seconds east of UTC.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    for utc in ["Z", "UTC", "GMT"] {
        if let Some(local) = text.strip_suffix(utc) {
            return Some((local.trim_end_matches(' '), 0));
        }
    }
    // Signs within the shortest date belong to no offset.
    let at = text.rfind(['+', '-']).filter(|at| *at >= "20260115".len())?;
    let (local, offset) = text.split_at(at);
    let (hours, minutes) = match offset.as_bytes()[1..] {
        [h1, h2] => (number(&[h1, h2])?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (number(&[h1, h2])?, number(&[m1, m2])?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let east = (hours * 60 + minutes) * 60;
    let east = if offset.starts_with('-') { -east } else { east };
    Some((local.trim_end_matches(' '), east))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_forms_that_can_occur() {
        let expected = Some(1_768_473_000_123);
        for text in [
            "2026-01-15T10:30:00.123Z",
            "2026-01-15T12:30:00.123+02:00",
            "2026-01-15 10:30:00.123",
            "2026-01-15T10:30:00.123456Z",
            "1768473000123",
            "1768473000.123",
            " 2026-01-15T10:30:00.123Z ",
            "2026-01-15 12:30:00.123 +02:00",
            "2026-01-15 12:30:00.123 +0200",
            "2026-01-15T08:00:00.123  -0230",
            "2026-01-15 12:30:00.123+02",
            "2026-01-15 10:30:00.123 Z",
            "2026-01-15 10:30:00.123 UTC",
            "2026-01-15T10:30:00.1239999GMT",
            "2026-01-15t10:30:00,123z",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse("2026-01-15 10:30:00"), Some(1_768_473_000_000));
        assert_eq!(parse("2026-01-15"), Some(1_768_435_200_000));
        assert_eq!(parse("1768473000"), Some(1_768_473_000_000));
        assert_eq!(parse("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(parse("2105-02-05T23:59:59.999Z"), Some(END - 1));
        assert_eq!(parse("4263321599.999"), Some(END - 1));
    }

    #[test]
    fn refuses_what_is_no_time_or_outside_the_column() {
        for text in [
            "",
            "soon",
            "99999",
            "1969-12-31T23:59:59.999Z",
            "1969-12-31T23:59:59.9999Z",
            "1970-01-01 01:59:59 +02:00",
            "2105-02-06T00:00:00.000Z",
            "2105-02-05T23:59:59.999-00:01",
            "4263321600",
            "4263321600000",
            "2300-01-01T00:00:00Z",
            "2026-01-15T10:30:00 +",
            "2026-01-15T10:30:00 + 02:00",
            "2026-01-15T10:30:00 +2:00",
            "2026-01-15T10:30:00 +24:00",
            "2026-01-15T10:30:00 +02:60",
            "2026-01-15T10:30:00 CET",
            "2026-01-15T10:30:00+02 Z",
            "2026-01-15T10:30:00+09-00",
            "2026-01-15T10:30:00[Europe/Berlin]",
            "2026-01-15T10:30:00Z+02:00",
            "Z",
            "UTC",
            "2026-02-30T00:00:00.000Z",
            "2026-13-01",
            "-1",
            "1e12",
            "99999999999999999999",
            "now",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_entry_without_a_time_has_that_of_its_id_where_the_table_keeps_it() {
        let end = END.cast_unsigned();
        assert_eq!((of_entry(0), of_entry(end - 1)), (Some(0), Some(END - 1)));
        for id_ms in [end, 1 << 62, 1 << 63, u64::MAX] {
            assert_eq!(of_entry(id_ms), None, "{id_ms}");
        }
    }

    #[test]
    fn the_short_way_agrees_with_the_library_on_every_day() {
        for day in (0..END / 86_400_000).step_by(7) {
            let ms = day * 86_400_000 + 3_723_004;
            let text = format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap());
            assert_eq!(canonical(text.as_bytes()), Some(ms), "{text}");
        }
    }
}
