//! Events and definitions that are likely to meet.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::engine::{Event, NOW, person};

/// Stands for half of a character, which no text can hold but JSON can.
const HALF: char = '\u{e000}';
/// What becomes of it in a document.
pub(crate) const ESCAPED_HALF: &str = "\\ud83d";

/// Begins a text that is written as a number: one that `Value` would not keep as it is.
const NUMBER: char = '\u{e001}';

const DAY: i64 = 86_400_000;

/// `cohort_members` has members at this version, and others before and after it.
pub(crate) const DYNAMIC: Uuid = Uuid::from_u128(0xd);
pub(crate) const STATIC: Uuid = Uuid::from_u128(0x5);
pub(crate) const MISSING: Uuid = Uuid::from_u128(0xa);

/// Distinct ids per world.
const IDS: u8 = 5;
/// Which of the distinct ids have an override, as bits: there are this many worlds.
pub(crate) const WORLDS: u8 = 32;

pub(crate) fn distinct_id(world: u8, n: u8) -> String {
    format!("world {world}: {n}")
}

pub(crate) fn person_of(n: u8) -> Uuid {
    person(&format!("p{n}"))
}

/// Whom the distinct ids of a world belong to by overrides.
pub(crate) fn overrides(world: u8) -> BTreeMap<String, Uuid> {
    let some = (0..IDS).filter(|n| world >> n & 1 == 1);
    some.map(|n| (distinct_id(world, n), person_of((n + 1) % IDS)))
        .collect()
}

const TEXTS: [&str; 22] = [
    "pro",
    "free",
    "",
    "5",
    "10",
    "9.5",
    "-1",
    "true",
    "null",
    "2026-01-15",
    "2026-02-01T10:00:00Z",
    "2026-01-15 23:30:00",
    "1768518000",
    "50%_off",
    "it's \\ {p}",
    "é",
    "😀",
    "cut\u{e000}",
    "a\nb",
    "[1]",
    "18446744073709551616",
    "\u{e001}18446744073709551616",
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => select(&TEXTS[..]).prop_map(Value::from),
        3 => select(&[5.0, 5.5, 9.5, -1.25, 100.0][..]).prop_map(Value::from),
        3 => (-3i64..12).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!([1, "x"])),
        1 => (0i64..7).prop_map(|n| json!({"b": n})),
        1 => select(&TEXTS[..]).prop_map(|text| json!({"b": {"c": text}})),
    ]
}

fn key() -> impl Strategy<Value = String> {
    select(&["plan", "n", "a", "a.b", "a.b.c", "it's \"k\" \\"][..]).prop_map(str::to_owned)
}

fn object(most: usize) -> impl Strategy<Value = Map<String, Value>> {
    let members = prop::collection::vec((key(), value()), 0..=most);
    let huge = prop::option::weighted(0.1, select(&["1e999", "-1e400", "[-9223372036854775809]"][..]));
    (members, huge).prop_map(|(members, huge)| {
        let huge = huge.map(|number| ("huge".to_owned(), Value::from(format!("{NUMBER}{number}"))));
        members.into_iter().chain(huge).collect()
    })
}

fn user_properties() -> impl Strategy<Value = Value> {
    let unset = prop::collection::vec(key(), 0..2);
    (
        object(2),
        prop::option::of(object(2)),
        prop::option::of(object(2)),
        prop::option::weighted(0.2, unset),
    )
        .prop_map(|(mut root, set, once, unset)| {
            if let Some(set) = set {
                root.insert("$set".into(), set.into());
            }
            if let Some(once) = once {
                root.insert("$set_once".into(), once.into());
            }
            if let Some(unset) = unset {
                root.insert("$unset".into(), unset.into());
            }
            root.into()
        })
}

fn name() -> impl Strategy<Value = String> {
    select(&["x", "y", "z"][..]).prop_map(str::to_owned)
}

/// Some days ago, often at the very edge of a window; sometimes later than now.
fn time() -> impl Strategy<Value = i64> {
    let edge = select(&[0, 0, 1, -1, 100, -3_600_000, 40_000_000][..]);
    (-1i64..=13, edge).prop_map(|(days, edge)| NOW - days * DAY + edge)
}

/// As clients write it: some escape what is not ASCII.
fn written(document: &Value) -> String {
    let text = document.to_string();
    let mark = format!("\"{NUMBER}");
    let mut pieces = text.split(&mark);
    let first = pieces.next().unwrap().to_owned();
    let numbers = pieces.map(|piece| piece.replacen('"', "", 1));
    std::iter::once(first)
        .chain(numbers)
        .collect::<String>()
        .replace(HALF, ESCAPED_HALF)
        .replace('😀', r"\ud83d\ude00")
}

fn event(world: u8) -> impl Strategy<Value = Event> {
    let id = (0u64..4, any::<u64>()).prop_map(|(high, low)| Uuid::from_u64_pair(high << 62, low));
    let country = select(&["", "", "CH", "DE"][..]);
    (id, 0..IDS, name(), time(), object(2), user_properties(), country).prop_map(
        move |(id, who, name, time, properties, user_properties, country)| Event {
            id,
            distinct_id: distinct_id(world, who),
            person: person_of(who),
            name,
            time,
            properties: written(&Value::Object(properties)),
            user_properties: written(&user_properties),
            country: country.to_owned(),
        },
    )
}

/// A world's events, and how many of them are there a second time.
pub(crate) fn history() -> impl Strategy<Value = (u8, Vec<Event>, usize)> {
    (0..WORLDS).prop_flat_map(|world| {
        let events = prop::collection::vec(event(world), 1..25);
        (Just(world), events, prop_oneof![Just(0usize), 0usize..5])
    })
}

fn property() -> impl Strategy<Value = String> {
    let prefix = select(&["", "", "properties.", "user_properties."][..]);
    prop_oneof![
        5 => (prefix, key()).prop_map(|(prefix, key)| format!("{prefix}{key}")),
        1 => Just("country".to_owned()),
    ]
}

fn test() -> impl Strategy<Value = Value> {
    let text = || select([&TEXTS[..], &["CH", "p", "1", "cut"]].concat()).prop_map(str::to_owned);
    let number = || select(&["5", "5.5", "-1", "0", "10", "1e1", "100"][..]).prop_map(str::to_owned);
    let date = || {
        let dates = [
            "2026-01-15",
            "2026-02-01",
            "2026-01-15T23:00:00+01:00",
            "1768518000000",
            "never",
            "",
        ];
        select(dates.to_vec()).prop_map(str::to_owned)
    };
    let pattern =
        || select(&["^p", "^$", "[0-9]+", "r.*e|o", "a.b", "(?i)PRO", "é"][..]).prop_map(str::to_owned);
    let with_value = |operators: &'static [&'static str], value: BoxedStrategy<String>| {
        (select(operators), value)
            .prop_map(|(operator, value)| json!({"operator": operator, "value": value}))
            .boxed()
    };
    let test = prop_oneof![
        4 => with_value(&["eq", "neq", "contains", "not_contains"], text().boxed()),
        3 => with_value(&["gt", "lt", "gte", "lte"], number().boxed()),
        2 => with_value(&["is_date_before", "is_date_after", "is_date_exact"], date().boxed()),
        2 => with_value(&["regex", "not_regex"], pattern().boxed()),
        2 => (select(&["is_set", "is_not_set"][..])).prop_map(|operator| json!({"operator": operator})),
        3 => (
            select(&["contains_multi", "not_contains_multi", "in", "not_in"][..]),
            prop::collection::vec(text(), 0..3)
        ).prop_map(|(operator, values)| json!({"operator": operator, "values": values})),
        2 => (select(&["between", "not_between"][..]), number(), number())
            .prop_map(|(operator, low, high)| json!({"operator": operator, "values": [low, high]})),
    ];
    (property(), test).prop_map(|(property, mut test)| {
        test["property"] = property.into();
        test
    })
}

fn event_match() -> impl Strategy<Value = Value> {
    let filters = prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(test(), 1..3)];
    (name(), filters).prop_map(|(name, filters)| json!({"event_name": name, "event_filters": filters}))
}

fn days() -> impl Strategy<Value = i64> {
    1i64..13
}

fn condition() -> impl Strategy<Value = Value> {
    let of = |kind: &'static str, mut condition: Value, fields: Value| {
        condition["type"] = kind.into();
        for (name, value) in fields.as_object().unwrap() {
            condition[name] = value.clone();
        }
        condition
    };
    let functions = [
        "count", "sum", "avg", "min", "max", "median", "p75", "p90", "p95", "p99",
    ];
    let kinds = select(&["first_time_event", "not_performed_event"][..]);
    let steps = prop::collection::vec(event_match(), 1..4);
    prop_oneof![
        4 => test().prop_map(move |test| of("person_property", test, json!({}))),
        3 => (event_match(), days(), select(&["gte", "lte", "eq"][..]), 0i64..4).prop_map(
            move |(event, days, operator, count)| of("event", event, json!({"time_window_days": days,
                "count_operator": operator, "count": count}))),
        3 => (event_match(), days(), select(&["gte", "lte", "eq"][..]), select(functions.to_vec()), property(),
            select(&[5.0, 5.5, 9.5, 0.0, 14.5, 7.25][..])).prop_map(
            move |(event, days, operator, function, property, count)| of("event", event, json!({
                "time_window_days": days, "count_operator": operator, "count": count, "aggregation_type": function,
                "aggregation_property": property}))),
        2 => (kinds, event_match(), days()).prop_map(
            move |(kind, event, days)| of(kind, event, json!({"time_window_days": days}))),
        3 => (steps, days(), any::<bool>()).prop_map(move |(steps, days, negated)| of(
            if negated { "not_performed_event_sequence" } else { "event_sequence" }, json!({}),
            json!({"steps": steps, "time_window_days": days}))),
        2 => (event_match(), days(), select(&["day", "week", "month"][..]), 1i64..4).prop_map(
            move |(event, days, period, least)| of("performed_regularly", event, json!({"time_window_days": days,
                "period_type": period, "total_periods": 5, "min_periods": least}))),
        1 => (event_match(), 1i64..6, 1i64..8).prop_map(move |(event, recent, more)| of("stopped_performing", event,
            json!({"recent_window_days": recent, "historical_window_days": recent + more}))),
        1 => (event_match(), 1i64..4, 1i64..5, 1i64..6).prop_map(move |(event, recent, gap, more)| of(
            "restarted_performing", event, json!({"recent_window_days": recent, "gap_window_days": gap,
                "historical_window_days": recent + gap + more}))),
        2 => (select(&[DYNAMIC, STATIC, MISSING][..]), any::<bool>()).prop_map(
            |(id, negated)| json!({"type": "cohort", "cohort_id": id, "negated": negated})),
    ]
}

pub(crate) fn definition() -> impl Strategy<Value = Value> {
    let group = |parts: BoxedStrategy<Vec<Value>>| {
        (select(&["AND", "OR"][..]), parts)
            .prop_map(|(kind, parts)| json!({"type": kind, "values": parts}))
            .boxed()
    };
    let flat = group(prop::collection::vec(condition(), 0..4).boxed());
    let nested =
        group(prop::collection::vec(prop_oneof![2 => condition().boxed(), 1 => flat.clone()], 1..4).boxed());
    let deep = group(prop::collection::vec(prop_oneof![condition().boxed(), nested.clone()], 1..3).boxed());
    let single = group(condition().prop_map(|condition| vec![condition]).boxed());
    prop_oneof![3 => single, 2 => flat, 2 => nested, 1 => deep]
}
