//! SQL that reads a text as a number or as a time.

use crate::{moment, number};

/// The number that a text is, or `NULL`.
pub(crate) fn number_of(text: &str) -> String {
    format!(
        "if(match({text}, '{}'), toFloat64OrNull({text}), NULL)",
        number::PATTERN
    )
}

/// The time that a text is, in milliseconds since 1970, or `NULL`.
pub(crate) fn moment_of(text: &str) -> String {
    let (calendar, seconds, milliseconds) =
        (moment::CALENDAR, moment::UNIX_SECONDS, moment::UNIX_MILLISECONDS);
    format!(
        "multiIf(match({text}, '{calendar}'), toUnixTimestamp64Milli(parseDateTime64BestEffortOrNull({text}, 3, 'UTC')), \
         match({text}, '{seconds}'), toInt64OrNull({text}) * 1000, match({text}, '{milliseconds}'), toInt64OrNull({text}), NULL)"
    )
}
