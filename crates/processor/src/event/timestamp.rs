//! Event times: what ClickHouse's best-effort parser takes and can occur here, as UTC milliseconds.

/// First millisecond after the last year the column and the clients agree on (2262-01-01).
const END: i64 = 9_214_646_400_000;

/// Parses an event time to milliseconds since 1970.
///
/// Accepted: ISO 8601 with or without fraction and offset (none means UTC), with `T` or a space, a date alone, Unix
/// seconds (9 or 10 digits, with or without fraction) and Unix milliseconds (12 or 13 digits). `None` when it is none
/// of these or lies outside 1970…2261.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let ms = canonical(text.as_bytes())
        .or_else(|| unix(text))
        .or_else(|| iso(text))?;
    (0..END).contains(&ms).then_some(ms)
}

/// `2026-01-15T10:30:00.123Z`, the form ingest writes, without a general parser's cost.
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
    // Only a date may follow the sign and digits of a year: keeps words such as `now` and durations away.
    if !text.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let local = text.parse::<jiff::civil::DateTime>().ok()?;
    Some(
        local
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_millisecond(),
    )
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
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse("2026-01-15 10:30:00"), Some(1_768_473_000_000));
        assert_eq!(parse("2026-01-15"), Some(1_768_435_200_000));
        assert_eq!(parse("1768473000"), Some(1_768_473_000_000));
        assert_eq!(parse("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(parse("2261-12-31T23:59:59.999Z"), Some(END - 1));
    }

    #[test]
    fn refuses_what_is_no_time_or_outside_the_column() {
        for text in [
            "",
            "soon",
            "99999",
            "1969-12-31T23:59:59.999Z",
            "2262-01-01T00:00:00.000Z",
            "2300-01-01T00:00:00Z",
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
    fn the_short_way_agrees_with_the_library_on_every_day() {
        for day in (0..106_000).step_by(7) {
            let ms = day * 86_400_000 + 3_723_004;
            let text = format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap());
            assert_eq!(canonical(text.as_bytes()), Some(ms), "{text}");
        }
    }
}
