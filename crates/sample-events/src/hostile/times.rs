//! Times in every accepted form, and what is no time at all.

use super::builder::case;
use super::bytes::{repeat, text};
use super::case::HostileCase;

/// All cases of this kind.
pub(crate) fn cases() -> Vec<HostileCase> {
    [accepted(), bounds(), refused()].concat()
}

const MIDNIGHT: &str = "2100-01-01T00:00:00.000Z";
const WITH_MILLISECONDS: &str = "2100-01-01T00:00:00.123Z";

/// A form, a time in it, and the time of the row.
const ACCEPTED: [(&str, &str, &str); 19] = [
    ("milliseconds", "2100-01-01T00:00:00.123Z", WITH_MILLISECONDS),
    ("seconds", "2100-01-01T00:00:00Z", MIDNIGHT),
    ("tenths", "2100-01-01T00:00:00.1Z", "2100-01-01T00:00:00.100Z"),
    ("microseconds", "2100-01-01T00:00:00.123456Z", WITH_MILLISECONDS),
    ("nanoseconds", "2100-01-01T00:00:00.123456789Z", WITH_MILLISECONDS),
    ("offset-east", "2100-01-01T05:30:00.123+05:30", WITH_MILLISECONDS),
    ("offset-west", "2099-12-31T16:00:00.000-08:00", MIDNIGHT),
    ("offset-zero", "2100-01-01T00:00:00.123+00:00", WITH_MILLISECONDS),
    (
        "blank-before-offset",
        "2100-01-01 02:00:00.123 +02:00",
        WITH_MILLISECONDS,
    ),
    (
        "blank-before-basic-offset",
        "2100-01-01 02:00:00.123 +0200",
        WITH_MILLISECONDS,
    ),
    ("offset-of-hours", "2099-12-31T19:00:00.123-05", WITH_MILLISECONDS),
    ("utc-by-name", "2100-01-01 00:00:00.123 UTC", WITH_MILLISECONDS),
    ("no-zone", "2100-01-01T00:00:00.123", WITH_MILLISECONDS),
    ("space", "2100-01-01 00:00:00", MIDNIGHT),
    (
        "space-and-milliseconds",
        "2100-01-01 00:00:00.123",
        WITH_MILLISECONDS,
    ),
    ("unix-seconds", "4102444800", MIDNIGHT),
    ("unix-milliseconds", "4102444800123", WITH_MILLISECONDS),
    ("leap-day", "2104-02-29T12:00:00.000Z", "2104-02-29T12:00:00.000Z"),
    (
        "last-millisecond-of-a-day",
        "2100-02-28T23:59:59.999Z",
        "2100-02-28T23:59:59.999Z",
    ),
];

fn accepted() -> Vec<HostileCase> {
    let mut cases: Vec<_> = ACCEPTED
        .into_iter()
        .map(|(name, given, row)| {
            case(&format!("time-{name}"))
                .with("timestamp", given)
                .column("timestamp", row)
                .lands()
        })
        .collect();
    cases.push(
        case("time-cut-not-rounded")
            .with("timestamp", "2100-01-01T00:00:00.1239999Z")
            .column("timestamp", WITH_MILLISECONDS)
            .note("what is finer than a millisecond is cut off")
            .lands(),
    );
    cases.push(
        case("time-surrounded-by-spaces")
            .with("timestamp", " 2100-01-01T00:00:00.123Z\n")
            .column("timestamp", WITH_MILLISECONDS)
            .note("surrounding white space does no harm")
            .lands(),
    );
    cases.push(
        case("time-date-alone")
            .with("timestamp", "2100-01-01")
            .column("timestamp", MIDNIGHT)
            .note("a date is ISO 8601 and begins at midnight")
            .lands(),
    );
    cases.push(
        case("time-leap-second")
            .with("timestamp", "2016-12-31T23:59:60.000Z")
            .may_expire()
            .note("there was one; which neighbouring second the row has is left open")
            .lands(),
    );
    let entry_time = "the time is the entry id's milliseconds: the same on every delivery";
    cases.push(case("time-empty").with("timestamp", "").note(entry_time).lands());
    cases.push(
        case("time-missing")
            .without(&["timestamp"])
            .note(entry_time)
            .lands(),
    );
    cases.push(
        case("time-and-event-id-missing")
            .without(&["timestamp", "event_id"])
            .note(entry_time)
            .lands(),
    );
    cases
}

fn bounds() -> Vec<HostileCase> {
    let mut cases = Vec::new();
    for (name, at) in [
        ("first", "1970-01-01T00:00:00.000Z"),
        ("last", "2105-02-05T23:59:59.999Z"),
    ] {
        let builder = case(&format!("time-{name}-possible")).kept("timestamp", at);
        cases.push(if at.starts_with("1970") {
            let note = "far outside the year that rows live";
            builder.may_expire().note(note).lands()
        } else {
            builder
                .note("after it the arithmetic of the rows' expiry ends")
                .lands()
        });
    }
    for (name, at) in [
        ("just-before-1970", "1969-12-31T23:59:59.999Z"),
        ("before-1970-by-offset", "1970-01-01T00:00:00.000+01:00"),
        ("year-1900", "1900-01-01T00:00:00.000Z"),
        ("year-0", "0000-01-01T00:00:00.000Z"),
        ("just-after-the-last", "2105-02-06T00:00:00.000Z"),
        ("after-the-last-by-offset", "2105-02-05T23:59:59.999-01:00"),
        ("whose-expiry-wraps", "2105-02-07T06:28:16.000Z"),
        ("year-2261", "2261-12-31T23:59:59.999Z"),
        ("year-2300", "2300-01-01T00:00:00.000Z"),
        ("year-9999", "9999-12-31T23:59:59.999Z"),
        ("year-99999", "99999-01-01T00:00:00.000Z"),
        ("year-with-sign", "+010000-01-01T00:00:00.000Z"),
        ("year-negative", "-000001-01-01T00:00:00.000Z"),
        ("unix-seconds-after-the-last", "4263321600"),
        ("unix-milliseconds-of-2286", "9999999999999"),
        ("unix-beyond-64-bits", "99999999999999999999"),
        ("unix-negative", "-1000"),
    ] {
        cases.push(
            case(&format!("time-{name}"))
                .with("timestamp", at)
                .rejected("invalid_timestamp"),
        );
    }
    cases
}

fn refused() -> Vec<HostileCase> {
    let mut cases: Vec<_> = [
        ("word", "soon"),
        ("now", "now"),
        ("null", "null"),
        ("not-a-number", "NaN"),
        ("infinity", "Infinity"),
        ("invalid-date", "Invalid Date"),
        ("exponent", "1.7e12"),
        ("hexadecimal", "0x18f0c2a4b00"),
        ("thirtieth-of-february", "2100-02-30T00:00:00.000Z"),
        ("no-leap-day-in-2100", "2100-02-29T00:00:00.000Z"),
        ("thirteenth-month", "2100-13-01T00:00:00.000Z"),
        ("month-zero", "2100-00-01T00:00:00.000Z"),
        ("day-zero", "2100-01-00T00:00:00.000Z"),
        ("hour-25", "2100-01-01T25:00:00.000Z"),
        ("minute-60", "2100-01-01T00:60:00.000Z"),
        ("second-61", "2100-01-01T00:00:61.000Z"),
        ("clock-alone", "12:30:00"),
        ("duration", "P1DT2H"),
        ("trailing-text", "2100-01-01T00:00:00.000Z tomorrow"),
        ("two-times", "2100-01-01T00:00:00.000Z2100-01-01T00:00:00.000Z"),
        ("unknown-zone", "2100-01-01T00:00:00.000Q9"),
        ("sql", "2100-01-01'); DROP TABLE events; --"),
        ("nul", "2100-01-01T00:00:00.000Z\0"),
        ("arabic-digits", "٢١٠٠-٠١-٠١T٠٠:٠٠:٠٠.٠٠٠Z"),
        ("full-width-digits", "２１００-01-01T00:00:00.000Z"),
        ("emoji", "🕛"),
    ]
    .into_iter()
    .map(|(name, at)| {
        case(&format!("time-{name}"))
            .with("timestamp", at)
            .rejected("invalid_timestamp")
    })
    .collect();
    let endless = vec![text("2100-01-01T00:00:00."), repeat("0", 100_000), text("x")];
    cases.push(
        case("time-endless")
            .with("timestamp", endless)
            .rejected("invalid_timestamp"),
    );
    cases.push(
        case("time-blank")
            .with("timestamp", "   ")
            .note("white space is neither empty nor a time")
            .rejected("invalid_timestamp"),
    );
    cases
}
