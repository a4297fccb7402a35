//! The words of a definition: what may stand where, for errors that say so, and members that nothing reads. What the parser
//! understands is in `parse`; tests hold the two against each other.

use serde_json::{Map, Value};

/// How alike two words have to be for one to be meant by the other, from 0 to 1.
const ALIKE: f64 = 0.8;
/// Longest unknown word that is repeated, in characters: room is left for the known ones.
const REPEATED: usize = 40;

/// Types of groups.
pub(crate) const GROUPS: [&str; 2] = ["AND", "OR"];
/// Operators of properties.
pub(crate) const OPERATORS: [&str; 21] = [
    "eq",
    "neq",
    "contains",
    "not_contains",
    "contains_multi",
    "not_contains_multi",
    "is_set",
    "is_not_set",
    "gt",
    "lt",
    "gte",
    "lte",
    "between",
    "not_between",
    "regex",
    "not_regex",
    "in",
    "not_in",
    "is_date_before",
    "is_date_after",
    "is_date_exact",
];
/// Operators of `count_operator`.
pub(crate) const COUNT_OPERATORS: [&str; 3] = ["gte", "lte", "eq"];
/// Kinds of `aggregation_type`.
pub(crate) const AGGREGATIONS: [&str; 10] = [
    "count", "sum", "avg", "min", "max", "median", "p75", "p90", "p95", "p99",
];
/// Kinds of `period_type`.
pub(crate) const PERIODS: [&str; 3] = ["day", "week", "month"];

const GROUP: &[&str] = &["type", "values"];
const FILTER: &[&str] = &["property", "operator", "value", "values"];
const STEP: &[&str] = &["event_name", "event_filters"];
const IN_WINDOW: &[&str] = &["type", "event_name", "event_filters", "time_window_days"];
const SEQUENCE: &[&str] = &["type", "steps", "time_window_days"];

/// Types of conditions, each with its members.
const CONDITIONS: [(&str, &[&str]); 10] = [
    (
        "person_property",
        &["type", "property", "operator", "value", "values"],
    ),
    (
        "event",
        &[
            "type",
            "event_name",
            "event_filters",
            "time_window_days",
            "count_operator",
            "count",
            "aggregation_type",
            "aggregation_property",
        ],
    ),
    ("cohort", &["type", "cohort_id", "negated"]),
    ("first_time_event", IN_WINDOW),
    ("not_performed_event", IN_WINDOW),
    ("event_sequence", SEQUENCE),
    ("not_performed_event_sequence", SEQUENCE),
    (
        "performed_regularly",
        &[
            "type",
            "event_name",
            "event_filters",
            "time_window_days",
            "period_type",
            "total_periods",
            "min_periods",
        ],
    ),
    (
        "stopped_performing",
        &[
            "type",
            "event_name",
            "event_filters",
            "recent_window_days",
            "historical_window_days",
        ],
    ),
    (
        "restarted_performing",
        &[
            "type",
            "event_name",
            "event_filters",
            "recent_window_days",
            "gap_window_days",
            "historical_window_days",
        ],
    ),
];

/// Types of what stands in a group: groups, then conditions.
pub(crate) fn types() -> Vec<&'static str> {
    let conditions = CONDITIONS.iter().map(|(name, _)| *name);
    GROUPS.into_iter().chain(conditions).collect()
}

/// What is wrong with a word that is none of those known at its place.
pub(crate) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let shown: String = word.chars().take(REPEATED).collect();
    let meant =
        nearest(word, known).map_or_else(String::new, |nearest| format!(" (did you mean {nearest:?}?)"));
    format!(
        "unknown {what} {shown:?}{meant}, expected one of {}",
        known.join(", ")
    )
}

fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |known: &&str| strsim::jaro_winkler(word, known);
    let nearest = known
        .iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(nearest) >= ALIKE).then_some(*nearest)
}

/// A member of a definition that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownMember {
    /// Its place, such as `values[2].cuont`.
    pub path: String,
    /// The member that may be meant, if one is alike.
    pub nearest: Option<&'static str>,
}

/// The members of a definition, right or wrong, that mean nothing at their place: they are ignored.
pub fn unknown_members(definition: &Value) -> Vec<UnknownMember> {
    let mut found = Vec::new();
    node(definition, "", &mut found);
    found
}

fn node(value: &Value, path: &str, found: &mut Vec<UnknownMember>) {
    let Some(object) = value.as_object() else {
        return;
    };
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    if GROUPS.contains(&kind) {
        members(object, path, GROUP, found);
        each(object, path, "values", found, node);
    } else if let Some((_, known)) = CONDITIONS.iter().find(|(name, _)| *name == kind) {
        members(object, path, known, found);
        if known.contains(&"event_filters") {
            each(object, path, "event_filters", found, filter);
        }
        if known.contains(&"steps") {
            each(object, path, "steps", found, step);
        }
    }
}

fn filter(value: &Value, path: &str, found: &mut Vec<UnknownMember>) {
    if let Some(object) = value.as_object() {
        members(object, path, FILTER, found);
    }
}

fn step(value: &Value, path: &str, found: &mut Vec<UnknownMember>) {
    if let Some(object) = value.as_object() {
        members(object, path, STEP, found);
        each(object, path, "event_filters", found, filter);
    }
}

fn members(
    object: &Map<String, Value>,
    path: &str,
    known: &'static [&'static str],
    found: &mut Vec<UnknownMember>,
) {
    let unknown = object.keys().filter(|name| !known.contains(&name.as_str()));
    found.extend(unknown.map(|name| UnknownMember {
        path: join(path, name),
        nearest: nearest(name, known),
    }));
}

/// Calls `look` with each element of an array of an object.
fn each(
    object: &Map<String, Value>,
    path: &str,
    name: &str,
    found: &mut Vec<UnknownMember>,
    look: fn(&Value, &str, &mut Vec<UnknownMember>),
) {
    let elements = object.get(name).and_then(Value::as_array);
    for (index, element) in elements.into_iter().flatten().enumerate() {
        look(element, &format!("{}[{index}]", join(path, name)), found);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(definition: &Value) -> Vec<(String, Option<&'static str>)> {
        let found = unknown_members(definition).into_iter();
        found.map(|member| (member.path, member.nearest)).collect()
    }

    #[test]
    fn members_that_mean_nothing_are_found_wherever_they_stand() {
        let filter = json!({"property": "a", "operator": "eq", "vlaue": "b"});
        let definition = json!({"type": "AND", "valeus": [], "values": [
            {"type": "event", "event_name": "x", "cuont": 2, "event_filters": [filter]},
            {"type": "OR", "values": [{"type": "event_sequence", "steps": [{"event": "x", "event_filters": [filter]}]}]},
            {"type": "cohort", "colour": "red"},
            {"type": "dance", "whatever": 1},
            7,
        ]});
        let expected = [
            ("valeus", Some("values")),
            ("values[0].cuont", Some("count")),
            ("values[0].event_filters[0].vlaue", Some("value")),
            ("values[1].values[0].steps[0].event", Some("event_name")),
            (
                "values[1].values[0].steps[0].event_filters[0].vlaue",
                Some("value"),
            ),
            ("values[2].colour", None),
        ];
        let expected = expected.map(|(path, nearest)| (path.to_owned(), nearest));
        assert_eq!(found(&definition), expected);
        assert_eq!(found(&json!([])), []);
    }

    #[test]
    fn every_member_that_is_known_is_one_that_the_parser_reads() {
        let parser = include_str!("parse/mod.rs");
        let of_conditions = CONDITIONS.iter().flat_map(|(_, members)| *members);
        let members: Vec<&str> = of_conditions
            .chain(GROUP)
            .chain(FILTER)
            .chain(STEP)
            .copied()
            .collect();
        assert!(members.len() > 40);
        for member in members {
            assert!(parser.contains(&format!("\"{member}\"")), "{member}");
        }
    }

    #[test]
    fn an_unknown_word_is_told_with_the_nearest_and_all_that_are_known() {
        assert_eq!(
            unknown("period", "days", &PERIODS),
            r#"unknown period "days" (did you mean "day"?), expected one of day, week, month"#
        );
        assert_eq!(
            unknown("operator", "=", &COUNT_OPERATORS),
            r#"unknown operator "=", expected one of gte, lte, eq"#
        );
        let long = unknown("operator", &"x".repeat(1_000), &OPERATORS);
        assert!(long.len() < 400 && long.ends_with("is_date_exact"), "{long}");
    }
}
