//! The worked examples: who is a member of what, as a table.

use std::collections::{BTreeMap, BTreeSet};

use cohort_query::{Definition, Reference, compile};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine::{Engine, Event, NOW, person};

const DAY: i64 = 86_400_000;

/// The cohorts that examples refer to.
const DYNAMIC: Uuid = Uuid::from_u128(0xd);
const STATIC: Uuid = Uuid::from_u128(0x5);

struct Example {
    number: u32,
    events: Vec<Event>,
    definition: Value,
    members: &'static [&'static str],
}

/// An event of a person so many days ago.
fn event(who: &str, name: &str, days_ago: f64) -> Event {
    Event {
        id: Uuid::now_v7(),
        distinct_id: who.to_owned(),
        person: person(who),
        name: name.to_owned(),
        time: NOW - (days_ago * DAY as f64) as i64,
        properties: "{}".into(),
        user_properties: "{}".into(),
        country: String::new(),
    }
}

/// `x` one day ago with user properties.
fn user(who: &str, properties: Value) -> Event {
    Event {
        user_properties: properties.to_string(),
        ..event(who, "x", 1.0)
    }
}

fn with(event: Event, properties: Value) -> Event {
    Event {
        properties: properties.to_string(),
        ..event
    }
}

fn all(condition: Value) -> Value {
    json!({"type": "AND", "values": [condition]})
}

fn property(name: &str, operator: &str, value: &str) -> Value {
    json!({"type": "person_property", "property": name, "operator": operator, "value": value})
}

fn property_of(name: &str, operator: &str, values: Value) -> Value {
    json!({"type": "person_property", "property": name, "operator": operator, "values": values})
}

fn count(name: &str, operator: &str, count: f64, days: u32) -> Value {
    json!({"type": "event", "event_name": name, "count_operator": operator, "count": count, "time_window_days": days})
}

fn aggregate(function: &str, operator: &str, value: f64) -> Value {
    let mut condition = count("buy", operator, value, 30);
    condition["aggregation_type"] = json!(function);
    condition["aggregation_property"] = json!("amount");
    condition
}

fn sequence(kind: &str, names: [&str; 2], days: u32) -> Value {
    let steps = names.map(|name| json!({"event_name": name}));
    json!({"type": kind, "steps": steps, "time_window_days": days})
}

fn cohort(id: Uuid, negated: bool) -> Value {
    json!({"type": "cohort", "cohort_id": id, "negated": negated})
}

fn any_time(name: &str, days: u32) -> Value {
    json!({"event_name": name, "time_window_days": days})
}

fn typed(kind: &str, mut condition: Value) -> Value {
    condition["type"] = json!(kind);
    condition
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut is = |number: u32, events: &[Event], definition: Value, members: &'static [&'static str]| {
        examples.push(Example {
            number,
            events: events.to_vec(),
            definition,
            members,
        });
    };
    let plain = |who: &str| event(who, "x", 1.0);

    let plans = [
        user("a", json!({"plan": "pro"})),
        user("b", json!({"plan": "free"})),
    ];
    is(1, &plans, all(property("plan", "eq", "pro")), &["a"]);
    let pro_earlier = Event {
        time: NOW - 5 * DAY,
        ..user("a", json!({"plan": "pro"}))
    };
    let free_now = user("a", json!({"plan": "free"}));
    is(
        2,
        &[pro_earlier.clone(), free_now],
        all(property("plan", "eq", "pro")),
        &[],
    );
    is(
        3,
        &[pro_earlier, event("a", "y", 1.0)],
        all(property("plan", "eq", "pro")),
        &["a"],
    );
    let set = user("a", json!({"$set": {"plan": "pro"}}));
    is(
        4,
        &[set],
        all(property("user_properties.plan", "eq", "pro")),
        &["a"],
    );
    let ages = [
        user("a", json!({"age": 30})),
        user("b", json!({"age": "30"})),
        user("c", json!({"age": "old"})),
    ];
    is(5, &ages, all(property("age", "gte", "18")), &["a", "b"]);
    is(6, &ages, all(property("age", "lt", "100")), &["a", "b"]);
    let vips = [user("a", json!({"vip": true})), user("b", json!({"vip": "true"}))];
    is(7, &vips, all(property("vip", "eq", "true")), &["a", "b"]);
    let nothings = [
        user("a", json!({"n": ""})),
        plain("b"),
        user("c", json!({"n": null})),
        user("d", json!({"n": 0})),
    ];
    is(8, &nothings, all(property("n", "is_set", "")), &["d"]);
    is(
        9,
        &nothings,
        all(property("n", "is_not_set", "")),
        &["a", "b", "c"],
    );
    let off = [
        user("a", json!({"n": "50%_off"})),
        user("b", json!({"n": "50 off"})),
    ];
    is(10, &off, all(property("n", "contains", "%_")), &["a"]);
    is(
        11,
        &[user("a", json!({"n": "ab"})), plain("b")],
        all(property("n", "neq", "ab")),
        &[],
    );
    let two = [user("a", json!({"n": "ab"})), user("b", json!({"n": "cd"}))];
    is(12, &two, all(property("n", "neq", "ab")), &["b"]);
    is(
        13,
        &[user("a", json!({"n": "ab"})), plain("b")],
        all(property_of("n", "not_in", json!(["ab"]))),
        &["b"],
    );
    let odd = r"it's \ {p}";
    is(
        14,
        &[user("a", json!({"n": odd}))],
        all(property("n", "eq", odd)),
        &["a"],
    );
    let numbers = [user("a", json!({"n": 5})), user("b", json!({"n": 10}))];
    is(
        15,
        &numbers,
        all(property_of("n", "between", json!([5, 9]))),
        &["a"],
    );
    let dates = [
        user("a", json!({"d": "2026-01-15"})),
        user("b", json!({"d": "soon"})),
    ];
    is(
        16,
        &dates,
        all(property("d", "is_date_before", "2026-02-01")),
        &["a"],
    );
    let late = user("a", json!({"d": "2026-01-15T23:00:00Z"}));
    is(
        17,
        &[late],
        all(property("d", "is_date_exact", "2026-01-15")),
        &["a"],
    );
    let address = user("a", json!({"address": {"city": "Bern"}}));
    is(
        18,
        &[address],
        all(property("user_properties.address.city", "eq", "Bern")),
        &["a"],
    );
    let swiss = Event {
        country: "CH".into(),
        ..event("a", "x", 2.0)
    };
    is(
        19,
        &[swiss, event("a", "y", 1.0)],
        all(property("country", "eq", "CH")),
        &["a"],
    );

    let buys = [
        event("a", "buy", 1.0),
        event("a", "buy", 2.0),
        event("a", "buy", 3.0),
        event("b", "buy", 1.0),
    ];
    is(20, &buys, all(count("buy", "gte", 3.0, 30)), &["a"]);
    let buys = [event("a", "buy", 1.0), event("a", "buy", 40.0)];
    is(21, &buys, all(count("buy", "gte", 2.0, 30)), &[]);
    is(
        22,
        &[event("a", "buy", 1.0), plain("b")],
        all(count("buy", "eq", 0.0, 30)),
        &["b"],
    );
    let away = [event("a", "buy", 40.0), event("b", "x", 400.0)];
    is(23, &away, all(count("buy", "lte", 0.0, 30)), &["a", "b"]);
    let buy = |who: &str, days: f64, amount: Value| with(event(who, "buy", days), json!({"amount": amount}));
    let amounts = [
        buy("a", 1.0, json!(10)),
        buy("a", 2.0, json!("20.5")),
        buy("a", 3.0, json!("n/a")),
    ];
    is(24, &amounts, all(aggregate("sum", "gte", 30.5)), &["a"]);
    is(
        25,
        &[buy("a", 1.0, json!("n/a"))],
        all(aggregate("min", "lte", 5.0)),
        &[],
    );
    let two = [buy("a", 1.0, json!(10)), buy("a", 2.0, json!(20))];
    is(26, &two, all(aggregate("median", "eq", 15.0)), &["a"]);
    let shirt = |who: &str, days: f64, color: &str, size: u32| {
        with(event(who, "buy", days), json!({"c": color, "s": size}))
    };
    let shirts = [
        shirt("a", 1.0, "red", 1),
        shirt("b", 1.0, "red", 2),
        shirt("b", 2.0, "blue", 1),
    ];
    let mut red_and_small = count("buy", "gte", 1.0, 30);
    let filter = |name: &str, value: &str| json!({"property": name, "operator": "eq", "value": value});
    red_and_small["event_filters"] = json!([filter("c", "red"), filter("s", "1")]);
    is(27, &shirts, all(red_and_small), &["a"]);
    is(
        28,
        &[event("a", "buy", -1.0)],
        all(count("buy", "gte", 1.0, 30)),
        &[],
    );
    let firsts = [
        event("a", "buy", 2.0),
        event("b", "buy", 40.0),
        event("b", "buy", 2.0),
    ];
    is(
        29,
        &firsts,
        all(typed("first_time_event", any_time("buy", 30))),
        &["a"],
    );
    let not = [event("a", "buy", 2.0), plain("b"), event("c", "x", 90.0)];
    is(
        30,
        &not,
        all(typed("not_performed_event", any_time("buy", 30))),
        &["b", "c"],
    );

    let ways = [
        event("a", "A", 2.0),
        event("a", "B", 1.0),
        event("b", "B", 2.0),
        event("b", "A", 1.0),
    ];
    is(31, &ways, all(sequence("event_sequence", ["A", "B"], 7)), &["a"]);
    let at = |who: &str, name: &str, ms: i64| Event {
        time: NOW - DAY + ms,
        ..event(who, name, 1.0)
    };
    let quick = [
        at("a", "A", 100),
        at("a", "B", 200),
        at("b", "B", 100),
        at("b", "A", 200),
    ];
    is(32, &quick, all(sequence("event_sequence", ["A", "B"], 7)), &["a"]);
    let twice = [event("a", "A", 2.0), event("b", "A", 2.0), event("b", "A", 1.0)];
    is(33, &twice, all(sequence("event_sequence", ["A", "A"], 7)), &["b"]);
    let old = [event("a", "A", 9.0), event("a", "B", 1.0)];
    is(34, &old, all(sequence("event_sequence", ["A", "B"], 7)), &[]);
    let some = [
        event("a", "A", 2.0),
        event("a", "B", 1.0),
        plain("b"),
        event("c", "x", 30.0),
    ];
    is(
        35,
        &some,
        all(sequence("not_performed_event_sequence", ["A", "B"], 7)),
        &["b", "c"],
    );
    let mut opens = vec![
        event("a", "open", 1.0),
        event("a", "open", 2.0),
        event("a", "open", 3.0),
    ];
    opens.extend((0..3).map(|_| event("b", "open", 1.0)));
    let regularly = json!({"type": "performed_regularly", "event_name": "open", "period_type": "day",
        "total_periods": 7, "min_periods": 3, "time_window_days": 7});
    is(36, &opens, all(regularly), &["a"]);
    let plays = [
        event("a", "play", 50.0),
        event("b", "play", 50.0),
        event("b", "play", 3.0),
        event("c", "play", 200.0),
    ];
    let stopped = json!({"type": "stopped_performing", "event_name": "play", "recent_window_days": 30,
        "historical_window_days": 90});
    is(37, &plays, all(stopped), &["a"]);
    let plays = [
        event("a", "play", 60.0),
        event("a", "play", 1.0),
        event("b", "play", 60.0),
        event("b", "play", 20.0),
        event("b", "play", 1.0),
        event("c", "play", 1.0),
    ];
    let restarted = json!({"type": "restarted_performing", "event_name": "play", "recent_window_days": 7,
        "gap_window_days": 30, "historical_window_days": 90});
    is(38, &plays, all(restarted), &["a"]);

    let both = [plain("a"), plain("b")];
    is(39, &both, all(cohort(DYNAMIC, false)), &["a"]);
    is(39, &both, all(cohort(DYNAMIC, true)), &["b"]);
    is(40, &both, all(cohort(STATIC, false)), &["b"]);
    let or = json!({"type": "OR", "values": [property("plan", "eq", "pro"), count("buy", "gte", 1.0, 30)]});
    is(
        41,
        &[user("a", json!({"plan": "pro"})), event("b", "buy", 1.0)],
        or,
        &["a", "b"],
    );
    let and = json!({"type": "AND", "values": [property("plan", "eq", "pro"), count("buy", "gte", 1.0, 30)]});
    let buyers = [
        user("a", json!({"plan": "pro"})),
        event("a", "buy", 1.0),
        event("b", "buy", 1.0),
    ];
    is(42, &buyers, and, &["a"]);
    let plan =
        json!({"type": "OR", "values": [property("plan", "eq", "pro"), property("plan", "eq", "free")]});
    let nested = json!({"type": "AND", "values": [plan, property("age", "is_set", "")]});
    let with_c = [&buyers[..], &[user("c", json!({"plan": "free", "age": 20}))]].concat();
    is(43, &with_c, nested, &["c"]);
    // The row says who it was then, the override who that is now.
    let merged = Event {
        person: person("n"),
        distinct_id: "merged".into(),
        ..event("n", "buy", 2.0)
    };
    is(
        44,
        &[merged, event("u", "$identify", 1.0)],
        all(count("buy", "gte", 1.0, 30)),
        &["u"],
    );
    is(45, &both, json!({"type": "AND", "values": []}), &[]);
    examples
}

#[tokio::test]
async fn every_worked_example_has_its_members() {
    let engine = Engine::start().await;
    let examples = examples();
    let numbers: BTreeSet<u32> = examples.iter().map(|example| example.number).collect();
    assert_eq!(numbers, (1..=45).collect());
    let mut sent = BTreeMap::new();
    for (index, example) in examples.iter().enumerate() {
        let project = Uuid::from_u128(index as u128 + 1);
        engine.add(project, &example.events).await;
        for (table, cohort, who, version) in [
            ("cohort_members", DYNAMIC, "b", ", 6"),
            ("cohort_members", DYNAMIC, "a", ", 7"),
            ("person_static_cohort", STATIC, "b", ""),
        ] {
            let columns = "project_id, cohort_id, person_id";
            let columns = if version.is_empty() {
                columns.to_owned()
            } else {
                format!("{columns}, version")
            };
            let row = format!("'{project}', '{cohort}', '{}'{version}", person(who));
            engine
                .run(&format!("INSERT INTO {table} ({columns}) VALUES ({row})"))
                .await;
        }
        let row = format!("'{project}', 'merged', '{}', 1", person("u"));
        engine
            .run(&format!(
                "INSERT INTO person_distinct_id_overrides VALUES ({row})"
            ))
            .await;
        sent.insert(index, project);
    }
    engine.run("SYSTEM RELOAD DICTIONARY person_overrides_dict").await;
    let mut wrong = Vec::new();
    for (index, example) in examples.iter().enumerate() {
        let definition = Definition::parse(&example.definition).unwrap();
        let query = compile(&definition, sent[&index], NOW, &|id| match id {
            DYNAMIC => Reference::Dynamic { version: 7 },
            STATIC => Reference::Static,
            _ => Reference::Missing,
        });
        let members = engine.members_of(&query).await;
        let expected: BTreeSet<Uuid> = example.members.iter().map(|name| person(name)).collect();
        if members != expected {
            let names: Vec<&str> = ["a", "b", "c", "d", "n", "u"]
                .into_iter()
                .filter(|name| members.contains(&person(name)))
                .collect();
            wrong.push(format!(
                "{}: {names:?} instead of {:?}",
                example.number, example.members
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
