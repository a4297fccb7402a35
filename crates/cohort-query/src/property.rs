//! SQL that finds the value of a property, in an event or of a person, and gives it as text or number.

use crate::definition::{Property, PropertyPredicate};
use crate::pass::Pass;
use crate::reading::number_of;
use crate::{document, predicate};

/// An event's place among others: by time, then by id. One integer, because comparing tuples takes the engine three times
/// as long; signed, because times before 1970 are negative. The id is the lower 128 bits, the time the bits above it; the
/// upper 64 bits stay free.
pub(crate) const PLACE: &str =
    "(bitShiftLeft(toInt256(toUnixTimestamp64Milli(timestamp)), 128) + toUInt128(event_id))";

/// Marks an `$unset` in a person's history. No JSON value looks like it.
const REMOVED: &str = "'-'";

/// A property of each row: its raw JSON, empty where there is none, or the text of a column.
fn raw(property: &Property, pass: &mut Pass<'_>) -> String {
    let raw = match property {
        Property::Column(name) => return (*name).to_owned(),
        Property::Event(key) => of_event_itself(key, pass),
        Property::User(key) => of_user(key, "'null'", pass),
        Property::Bare(key) => {
            let (own, of_user) = (of_event_itself(key, pass), of_user(key, "'null'", pass));
            pass.column(format!("if({own} != '', {own}, {of_user})"))
        }
    };
    pass.column(document::as_written(&raw))
}

fn of_event_itself(key: &str, pass: &mut Pass<'_>) -> String {
    let properties = pass.document("properties");
    look_up(&properties, None, key, pass)
}

/// The raw value of a key in a document, or in an object inside it: of the whole key, else along its dots.
///
/// Few documents have the inner object, so the engine parses only those that may.
fn look_up(document: &str, inside: Option<&str>, key: &str, pass: &mut Pass<'_>) -> String {
    let mut extract = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|key| pass.parameters.text(key)).collect();
        let keys = keys.join(", ");
        pass.column(match inside {
            None => format!("JSONExtractRaw({document}, {keys})"),
            Some(object) => format!(
                "if({}, JSONExtractRaw({document}, '{object}', {keys}), '')",
                may_hold(object)
            ),
        })
    };
    let exact = extract(&[key]);
    if !key.contains('.') {
        return exact;
    }
    let nested = extract(&key.split('.').collect::<Vec<_>>());
    pass.column(format!("if({exact} != '', {exact}, {nested})"))
}

/// What an event sets a person's property to: an `$unset` comes after the sets, and a key at the root wins over one in
/// `$set`.
fn of_user(key: &str, removed: &str, pass: &mut Pass<'_>) -> String {
    let document = pass.document("user_properties");
    let root = look_up(&document, None, key, pass);
    let set = look_up(&document, Some("$set"), key, pass);
    let mut names = vec![key.to_owned()];
    names.extend(key.split_once('.').map(|(first, _)| first.to_owned()));
    let names = pass.parameters.texts(&names);
    let unset = pass.column(format!(
        "if({}, hasAny(JSONExtract({document}, '$unset', 'Array(String)'), {names}), 0)",
        may_hold("$unset")
    ));
    pass.column(format!(
        "multiIf({unset}, {removed}, {root} != '', {root}, {set})"
    ))
}

/// False only for rows whose `user_properties` cannot have this key.
fn may_hold(key: &str) -> String {
    format!(r"position(user_properties, '{key}') > 0 OR position(user_properties, '\\') > 0")
}

/// False only for rows that cannot carry the property: its raw value would be empty.
///
/// A document that has a key contains the key's text, unless something in the document is escaped. The first part of a key
/// with dots is contained in the whole key, and in what an `$unset` would name.
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

/// Whether the value in a row satisfies a predicate.
pub(crate) fn of_event(filter: &PropertyPredicate, pass: &mut Pass<'_>) -> String {
    let raw = raw(&filter.property, pass);
    let text = text_of(&filter.property, &raw);
    let text = if text == raw { raw } else { pass.column(text) };
    predicate::sql(&filter.predicate, &text, pass)
}

/// Whether the value of a person satisfies a predicate.
pub(crate) fn of_person(condition: &PropertyPredicate, pass: &mut Pass<'_>) -> String {
    let value = match &condition.property {
        Property::User(key) => set_or_set_once(key, pass),
        property => {
            let raw = raw(property, pass);
            newest(&raw, pass)
        }
    };
    let text = text_of(&condition.property, &value);
    let text = if text == value {
        value
    } else {
        pass.aggregate(text)
    };
    predicate::sql(&condition.predicate, &text, pass)
}

/// The value in the newest event that carries one.
fn newest(raw: &str, pass: &mut Pass<'_>) -> String {
    pass.aggregate(format!("argMaxIf({raw}, {PLACE}, {raw} != '')"))
}

/// The newest set value; where there is none since the newest `$unset`, the oldest `$set_once` since then.
///
/// For the second case only the set-onces and unsets of events that set nothing are gathered. Most persons have few or none
/// of them for a key.
fn set_or_set_once(key: &str, pass: &mut Pass<'_>) -> String {
    let set = of_user(key, REMOVED, pass);
    let document = pass.document("user_properties");
    let once = look_up(&document, Some("$set_once"), key, pass);
    let once = pass.column(format!(
        "multiIf({set} = {REMOVED}, {REMOVED}, {set} = '', {once}, '')"
    ));
    let newest = newest(&set, pass);
    let onces = pass.aggregate(format!(
        "arraySort(groupArrayIf(({PLACE}, {once}), {once} != '')).2"
    ));
    let value = pass.aggregate(format!(
        "if({newest} IN ('', {REMOVED}), {onces}[arrayLastIndex(once -> once = {REMOVED}, {onces}) + 1], {newest})"
    ));
    pass.aggregate(document::as_written(&value))
}

/// The value in a row as a number, `NULL` where it is none.
pub(crate) fn number_of_event(property: &Property, pass: &mut Pass<'_>) -> String {
    let raw = raw(property, pass);
    let text = text_of(property, &raw);
    let text = if text == raw { raw } else { pass.column(text) };
    pass.column(number_of(&text))
}
