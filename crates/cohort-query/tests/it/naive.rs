//! What the contract says, taken literally: a definition is read as JSON and looked up event by event, person by person.
//! Shares nothing with the compiler.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::engine::{Event, NOW};
use crate::generated::ESCAPED_HALF;

const DAY: i64 = 86_400_000;

/// Everything there is.
pub(crate) struct World {
    /// Each event once, up to now, oldest first; ties by id.
    events: Vec<Seen>,
    /// Cohorts by id; `None` when there is no such cohort.
    cohorts: BTreeMap<Uuid, BTreeSet<Uuid>>,
}

/// Members as they are written.
type Object = BTreeMap<String, Box<RawValue>>;

/// What an event says of a property of its person.
enum Said {
    Set(String),
    SetOnce(String),
    Unset,
}

struct Seen {
    person: Uuid,
    name: String,
    time: i64,
    country: String,
    properties: Object,
    user_properties: Object,
}

impl World {
    pub(crate) fn new(
        events: &[Event],
        overrides: &BTreeMap<String, Uuid>,
        cohorts: BTreeMap<Uuid, BTreeSet<Uuid>>,
    ) -> Self {
        let mut once: BTreeMap<(i64, Uuid), &Event> = BTreeMap::new();
        for event in events.iter().filter(|event| event.time <= NOW) {
            once.insert((event.time, event.id), event);
        }
        let object = |text: &str| serde_json::from_str(&without_halves(text)).unwrap_or_default();
        let seen = once.into_values().map(|event| Seen {
            person: overrides.get(&event.distinct_id).copied().unwrap_or(event.person),
            name: event.name.clone(),
            time: event.time,
            country: event.country.clone(),
            properties: object(&event.properties),
            user_properties: object(&event.user_properties),
        });
        Self {
            events: seen.collect(),
            cohorts,
        }
    }

    fn known(&self) -> BTreeSet<Uuid> {
        self.events.iter().map(|event| event.person).collect()
    }

    /// Who is in a group or satisfies a condition.
    pub(crate) fn members(&self, node: &Value) -> BTreeSet<Uuid> {
        let kind = node["type"].as_str().unwrap();
        let parts = || {
            node["values"]
                .as_array()
                .unwrap()
                .iter()
                .map(|part| self.members(part))
        };
        match kind {
            "AND" => parts().reduce(|one, two| &one & &two).unwrap_or_default(),
            "OR" => parts().reduce(|one, two| &one | &two).unwrap_or_default(),
            "cohort" => {
                let id = node["cohort_id"].as_str().unwrap().parse().unwrap();
                let members = self.cohorts.get(&id).cloned().unwrap_or_default();
                if node["negated"] == true {
                    &self.known() - &members
                } else {
                    members
                }
            }
            _ => self
                .known()
                .into_iter()
                .filter(|person| self.is_member(*person, kind, node))
                .collect(),
        }
    }

    fn is_member(&self, person: Uuid, kind: &str, condition: &Value) -> bool {
        let days = |field: &str| condition[field].as_i64().unwrap() * DAY;
        let of_person = || self.events.iter().filter(move |event| event.person == person);
        let matching = || {
            of_person()
                .filter(|event| event.matches(condition))
                .collect::<Vec<_>>()
        };
        let within = |from: i64, until: i64| {
            let mut matching = matching();
            matching.retain(|event| event.time >= from && event.time < until);
            matching
        };
        let window = || within(NOW - days("time_window_days"), NOW + 1);
        match kind {
            "person_property" => has_property(of_person(), condition),
            "event" => is_counted(&window(), condition),
            "first_time_event" => {
                let first = matching().first().map(|event| event.time);
                first.is_some_and(|time| time >= NOW - days("time_window_days"))
            }
            "not_performed_event" => window().is_empty(),
            "event_sequence" | "not_performed_event_sequence" => {
                let mut steps = condition["steps"].as_array().unwrap().iter().peekable();
                for event in of_person().filter(|event| event.time >= NOW - days("time_window_days")) {
                    steps.next_if(|step| event.matches(step));
                }
                (steps.peek().is_none()) == (kind == "event_sequence")
            }
            "performed_regularly" => is_regular(&window(), condition),
            "stopped_performing" => {
                let (recent, historical) = (
                    NOW - days("recent_window_days"),
                    NOW - days("historical_window_days"),
                );
                !within(historical, recent).is_empty() && within(recent, NOW + 1).is_empty()
            }
            "restarted_performing" => {
                let recent = NOW - days("recent_window_days");
                let gap = recent - days("gap_window_days");
                let historical = NOW - days("historical_window_days");
                !within(historical, gap).is_empty()
                    && within(gap, recent).is_empty()
                    && !within(recent, NOW + 1).is_empty()
            }
            other => panic!("the naive reading knows no condition {other:?}"),
        }
    }
}

/// Whether the newest of what events say of a person's property passes the test.
fn has_property<'a>(events: impl Iterator<Item = &'a Seen>, condition: &Value) -> bool {
    let name = condition["property"].as_str().unwrap();
    let mut value = None;
    for event in events {
        match event.says_of_person(name) {
            Some(Said::Set(text)) => value = Some(text),
            Some(Said::SetOnce(text)) => value = value.or(Some(text)),
            Some(Said::Unset) => value = None,
            None => {}
        }
    }
    holds(condition, &value.unwrap_or_default())
}

/// Whether the count, or the aggregate, of a person's events is as wanted.
fn is_counted(events: &[&Seen], condition: &Value) -> bool {
    let number = match condition.get("aggregation_type").and_then(Value::as_str) {
        None | Some("count") => events.len() as f64,
        Some(function) => {
            let property = condition["aggregation_property"].as_str().unwrap();
            let numbers = events.iter().filter_map(|event| number(&event.own(property)));
            match aggregate(function, numbers.collect()) {
                Some(number) => number,
                None => return false,
            }
        }
    };
    let count = condition["count"].as_f64().unwrap();
    match condition["count_operator"].as_str().unwrap() {
        "gte" => number >= count,
        "lte" => number <= count,
        _ => number == count,
    }
}

/// Whether a person's events fall into enough days, weeks or months.
fn is_regular(events: &[&Seen], condition: &Value) -> bool {
    let period = |event: &&Seen| {
        let day = jiff::Timestamp::from_millisecond(event.time).unwrap();
        let date = day.to_zoned(jiff::tz::TimeZone::UTC).date();
        match condition["period_type"].as_str().unwrap() {
            "day" => date,
            "week" => date.iso_week_date().first_of_week().unwrap().date(),
            _ => date.first_of_month(),
        }
    };
    let periods: BTreeSet<_> = events.iter().map(period).collect();
    periods.len() as i64 >= condition["min_periods"].as_i64().unwrap()
}

impl Seen {
    fn matches(&self, condition: &Value) -> bool {
        let filters = condition.get("event_filters").and_then(Value::as_array);
        self.name == condition["event_name"].as_str().unwrap()
            && filters.into_iter().flatten().all(|filter| {
                let name = filter["property"].as_str().unwrap();
                holds(filter, &self.own(name))
            })
    }

    /// The text of this event's own value; empty when there is none.
    fn own(&self, name: &str) -> String {
        if name == "country" {
            return self.country.clone();
        }
        if let Some(key) = name.strip_prefix("properties.") {
            return find(&self.properties, key).map_or_else(String::new, |value| text(&value));
        }
        let said = || match self.says_of_person(name) {
            Some(Said::Set(text)) => text,
            _ => String::new(),
        };
        if name.starts_with("user_properties.") {
            return said();
        }
        find(&self.properties, name).map_or_else(said, |value| text(&value))
    }

    /// What it says of the person's property, if anything. An `$unset` comes last, and a key is set once where nothing sets it.
    fn says_of_person(&self, name: &str) -> Option<Said> {
        if name == "country" {
            return Some(Said::Set(self.country.clone())).filter(|_| !self.country.is_empty());
        }
        if let Some(key) = name.strip_prefix("properties.") {
            return find(&self.properties, key).map(|value| Said::Set(text(&value)));
        }
        let key = name.strip_prefix("user_properties.").unwrap_or(name);
        let first = key.split('.').next().unwrap();
        let unset: Vec<String> = inner(&self.user_properties, "$unset").unwrap_or_default();
        if unset.iter().any(|name| name == key || name == first) {
            return Some(Said::Unset);
        }
        let within = |object: &str| find(&inner(&self.user_properties, object)?, key);
        if let Some(value) = find(&self.user_properties, key).or_else(|| within("$set")) {
            return Some(Said::Set(text(&value)));
        }
        within("$set_once").map(|value| Said::SetOnce(text(&value)))
    }
}

/// A member, if it is of the right kind.
fn inner<T: serde::de::DeserializeOwned>(object: &Object, key: &str) -> Option<T> {
    serde_json::from_str(object.get(key)?.get()).ok()
}

/// Half of a character counts for nothing, the other half follows it where it is a whole one.
fn without_halves(document: &str) -> String {
    document.replace(r"\ud83d\ude00", "😀").replace(ESCAPED_HALF, "")
}

fn find(object: &Object, key: &str) -> Option<Box<RawValue>> {
    if let Some(value) = object.get(key) {
        return Some(value.clone());
    }
    let (first, rest) = key.split_once('.')?;
    let mut value = object.get(first)?.clone();
    for part in rest.split('.') {
        let mut object: Object = serde_json::from_str(value.get()).ok()?;
        value = object.remove(part)?;
    }
    Some(value)
}

fn text(value: &RawValue) -> String {
    let written = value.get();
    let fraction = written.contains(['.', 'e', 'E']);
    match written.as_bytes()[0] {
        b'n' => String::new(),
        b'"' => serde_json::from_str(written).unwrap(),
        b'-' | b'0'..=b'9' if fraction => match written.parse::<f64>().unwrap() {
            float if float.is_finite() => float.to_string(),
            _ => written.to_owned(),
        },
        _ => written.to_owned(),
    }
}

fn number(text: &str) -> Option<f64> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if is_plain { text.parse().ok() } else { None }
}

fn time(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return match text.len() {
            9 | 10 => Some(number * 1000),
            12 | 13 => Some(number),
            _ => None,
        };
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(
        civil
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_millisecond(),
    )
}

fn holds(test: &Value, text: &str) -> bool {
    // Numbers and booleans are taken as their JSON text.
    let said = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let value = || said(&test["value"]);
    let values = || test["values"].as_array().unwrap().iter().map(said);
    let is_set = !text.is_empty();
    let compared =
        |with: fn(f64, f64) -> bool| number(text).is_some_and(|n| with(n, number(&value()).unwrap()));
    let between = || {
        let mut bounds = values().map(|bound| number(&bound).unwrap());
        let (low, high) = (bounds.next().unwrap(), bounds.next().unwrap());
        number(text).map(|n| low <= n && n <= high)
    };
    let dated = |with: fn(i64, i64) -> bool| {
        time(text)
            .zip(time(&value()))
            .is_some_and(|(t, limit)| with(t, limit))
    };
    match test["operator"].as_str().unwrap() {
        "eq" => is_set && text == value(),
        "neq" => is_set && text != value(),
        "contains" => is_set && text.contains(&value()),
        "not_contains" => is_set && !text.contains(&value()),
        "contains_multi" => is_set && values().any(|part| text.contains(&part)),
        "not_contains_multi" => !is_set || !values().any(|part| text.contains(&part)),
        "is_set" => is_set,
        "is_not_set" => !is_set,
        "gt" => compared(|n, limit| n > limit),
        "lt" => compared(|n, limit| n < limit),
        "gte" => compared(|n, limit| n >= limit),
        "lte" => compared(|n, limit| n <= limit),
        "between" => between() == Some(true),
        "not_between" => between() == Some(false),
        "regex" => is_set && regex_lite::Regex::new(&value()).unwrap().is_match(text),
        "not_regex" => !is_set || !regex_lite::Regex::new(&value()).unwrap().is_match(text),
        "in" => is_set && values().any(|value| value == text),
        "not_in" => !is_set || !values().any(|value| value == text),
        "is_date_before" => dated(|t, limit| t < limit),
        "is_date_after" => dated(|t, limit| t > limit),
        "is_date_exact" => dated(|t, day| t.div_euclid(DAY) == day.div_euclid(DAY)),
        other => panic!("{other}"),
    }
}

fn aggregate(function: &str, mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let (first, last) = (numbers.first()?, numbers.last()?);
    let quantile = |level: f64| {
        let place = level * (numbers.len() - 1) as f64;
        let below = place.floor() as usize;
        let above = (below + 1).min(numbers.len() - 1);
        numbers[below] + (place - place.floor()) * (numbers[above] - numbers[below])
    };
    Some(match function {
        "sum" => numbers.iter().sum(),
        "avg" => numbers.iter().sum::<f64>() / numbers.len() as f64,
        "min" => *first,
        "max" => *last,
        "median" => quantile(0.5),
        "p75" => quantile(0.75),
        "p90" => quantile(0.9),
        "p95" => quantile(0.95),
        "p99" => quantile(0.99),
        other => panic!("{other}"),
    })
}
