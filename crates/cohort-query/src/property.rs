//! Where the engine finds a property's value, and what it is as text, number and time.

use crate::definition::{Property, PropertyTest};
use crate::pass::Pass;
use crate::{moment, number, test};

/// An event's place among others: by time, ties by id. One integer, as comparing tuples takes the engine three times as long;
/// signed, as times before 1970 are; the id is the lower 128 bits, the time stands above it and leaves 64 bits free.
pub(crate) const PLACE: &str =
    "(bitShiftLeft(toInt256(toUnixTimestamp64Milli(timestamp)), 128) + toUInt128(event_id))";

/// An escape of half a character, as clients write it that cut texts: with one in it the engine reads no key of a document.
/// Whole characters and other escapes are matched first, and kept.
const ESCAPES: &str =
    r"(\\\\[^u]|\\\\u[dD][89abAB]..\\\\u[dD][c-fC-F]..|\\\\u[dD][0-7]..|\\\\u[^dD]...)|\\\\u[dD][89a-fA-F]..";

/// A row's document, without halves of characters. Few have any.
fn document(column: &str, pass: &mut Pass<'_>) -> String {
    pass.column(format!(
        r"if(position({column}, '\\ud') > 0 OR position({column}, '\\uD') > 0, replaceRegexpAll({column}, '{ESCAPES}', '\\1'), {column})"
    ))
}

/// A property of each row: raw JSON, empty where there is none; a column's text.
fn raw(property: &Property, pass: &mut Pass<'_>) -> String {
    match property {
        Property::Column(name) => (*name).to_owned(),
        Property::Event(key) => of_event_itself(key, pass),
        Property::User(key) => of_user(key, pass),
        Property::Bare(key) => {
            let (own, of_user) = (of_event_itself(key, pass), of_user(key, pass));
            pass.column(format!("if({own} != '', {own}, {of_user})"))
        }
    }
}

fn of_event_itself(key: &str, pass: &mut Pass<'_>) -> String {
    let properties = document("properties", pass);
    look_up(&properties, key, pass)
}

/// A key of a JSON object: as it stands, else along its dots.
fn look_up(object: &str, key: &str, pass: &mut Pass<'_>) -> String {
    let exact = pass.parameters.text(key);
    let exact = pass.column(format!("JSONExtractRaw({object}, {exact})"));
    if !key.contains('.') {
        return exact;
    }
    let path: Vec<String> = key.split('.').map(|part| pass.parameters.text(part)).collect();
    let nested = pass.column(format!("JSONExtractRaw({object}, {})", path.join(", ")));
    pass.column(format!("if({exact} != '', {exact}, {nested})"))
}

/// What an event says of a person: `$unset` comes after sets, and a key at the root before one in `$set`.
fn of_user(key: &str, pass: &mut Pass<'_>) -> String {
    let user_properties = document("user_properties", pass);
    let root = look_up(&user_properties, key, pass);
    let set = pass.column(format!("JSONExtractRaw({user_properties}, '$set')"));
    let set = look_up(&set, key, pass);
    let removed = pass.column(format!(
        "JSONExtract({user_properties}, '$unset', 'Array(String)')"
    ));
    let mut names = vec![key.to_owned()];
    names.extend(key.split_once('.').map(|(first, _)| first.to_owned()));
    let names = pass.parameters.texts(&names);
    pass.column(format!(
        "multiIf(hasAny({removed}, {names}), 'null', {root} != '', {root}, {set})"
    ))
}

/// False only of rows that say nothing of a property: the raw value would be empty.
///
/// A key that a document has is part of its text as it stands, unless something in the text is escaped. The first part of
/// a key with dots is part of the whole key, and of what `$unset` would name.
pub(crate) fn may_carry(property: &Property, pass: &mut Pass<'_>) -> String {
    let mut in_document = |document: &str, key: &str| {
        let first = key.split_once('.').map_or(key, |(first, _)| first);
        let first = pass.parameters.text(first);
        format!(r"position({document}, {first}) > 0 OR position({document}, '\\') > 0")
    };
    match property {
        Property::Column(name) => format!("{name} != ''"),
        Property::Event(key) => format!("({})", in_document("properties", key)),
        Property::User(key) => format!("({})", in_document("user_properties", key)),
        Property::Bare(key) => {
            let (own, of_user) = (
                in_document("properties", key),
                in_document("user_properties", key),
            );
            format!("({own} OR {of_user})")
        }
    }
}

fn text_of(property: &Property, raw: &str) -> String {
    match property {
        Property::Column(_) => raw.to_owned(),
        _ => format!("if(startsWith({raw}, '\"'), JSONExtractString({raw}), if({raw} = 'null', '', {raw}))"),
    }
}

/// Whether a row's own value satisfies a test.
pub(crate) fn of_event(filter: &PropertyTest, pass: &mut Pass<'_>) -> String {
    let raw = raw(&filter.property, pass);
    let text = text_of(&filter.property, &raw);
    let text = if text == raw { raw } else { pass.column(text) };
    test::sql(&filter.test, &text, pass)
}

/// Whether a person's value, the newest that any event carries, satisfies a test.
pub(crate) fn of_person(condition: &PropertyTest, pass: &mut Pass<'_>) -> String {
    let raw = raw(&condition.property, pass);
    let newest = pass.aggregate(format!("argMaxIf({raw}, {PLACE}, {raw} != '')"));
    let text = text_of(&condition.property, &newest);
    let text = if text == newest {
        newest
    } else {
        pass.aggregate(text)
    };
    test::sql(&condition.test, &text, pass)
}

/// A row's value as a number, `NULL` where it has no numeric reading.
pub(crate) fn number_of_event(property: &Property, pass: &mut Pass<'_>) -> String {
    let raw = raw(property, pass);
    let text = text_of(property, &raw);
    let text = if text == raw { raw } else { pass.column(text) };
    pass.column(number_of(&text))
}

/// A text's number, or `NULL`.
pub(crate) fn number_of(text: &str) -> String {
    format!(
        "if(match({text}, '{}'), toFloat64OrNull({text}), NULL)",
        number::PATTERN
    )
}

/// A text's time in milliseconds, or `NULL`.
pub(crate) fn moment_of(text: &str) -> String {
    let (calendar, seconds, milliseconds) =
        (moment::CALENDAR, moment::UNIX_SECONDS, moment::UNIX_MILLISECONDS);
    format!(
        "multiIf(match({text}, '{calendar}'), toUnixTimestamp64Milli(parseDateTime64BestEffortOrNull({text}, 3, 'UTC')), \
         match({text}, '{seconds}'), toInt64OrNull({text}) * 1000, match({text}, '{milliseconds}'), toInt64OrNull({text}), NULL)"
    )
}
