//! Properties of persons.

use serde_json::json;

use super::building::{all, event, plain, property, property_of, user};
use super::{DAY, Table};
use crate::engine::{Event, NOW};

/// Which of the values that a person had counts, and when a value is one.
pub(super) fn values(table: &mut Table) {
    let plans = [
        user("a", json!({"plan": "pro"})),
        user("b", json!({"plan": "free"})),
    ];
    table.is(1, &plans, all(property("plan", "eq", "pro")), &["a"]);
    let pro_earlier = Event {
        time: NOW - 5 * DAY,
        ..user("a", json!({"plan": "pro"}))
    };
    let free_now = user("a", json!({"plan": "free"}));
    table.is(
        2,
        &[pro_earlier.clone(), free_now],
        all(property("plan", "eq", "pro")),
        &[],
    );
    table.is(
        3,
        &[pro_earlier, event("a", "y", 1.0)],
        all(property("plan", "eq", "pro")),
        &["a"],
    );
    let set = user("a", json!({"$set": {"plan": "pro"}}));
    table.is(
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
    table.is(5, &ages, all(property("age", "gte", "18")), &["a", "b"]);
    table.is(6, &ages, all(property("age", "lt", "100")), &["a", "b"]);
    let vips = [user("a", json!({"vip": true})), user("b", json!({"vip": "true"}))];
    table.is(7, &vips, all(property("vip", "eq", "true")), &["a", "b"]);
    let nothings = [
        user("a", json!({"n": ""})),
        plain("b"),
        user("c", json!({"n": null})),
        user("d", json!({"n": 0})),
    ];
    table.is(8, &nothings, all(property("n", "is_set", "")), &["d"]);
    table.is(
        9,
        &nothings,
        all(property("n", "is_not_set", "")),
        &["a", "b", "c"],
    );
}

/// Texts, lists, numbers, dates, nested properties and the country.
pub(super) fn operators(table: &mut Table) {
    let off = [
        user("a", json!({"n": "50%_off"})),
        user("b", json!({"n": "50 off"})),
    ];
    table.is(10, &off, all(property("n", "contains", "%_")), &["a"]);
    table.is(
        11,
        &[user("a", json!({"n": "ab"})), plain("b")],
        all(property("n", "neq", "ab")),
        &[],
    );
    let two = [user("a", json!({"n": "ab"})), user("b", json!({"n": "cd"}))];
    table.is(12, &two, all(property("n", "neq", "ab")), &["b"]);
    table.is(
        13,
        &[user("a", json!({"n": "ab"})), plain("b")],
        all(property_of("n", "not_in", json!(["ab"]))),
        &["b"],
    );
    let odd = r"it's \ {p}";
    table.is(
        14,
        &[user("a", json!({"n": odd}))],
        all(property("n", "eq", odd)),
        &["a"],
    );
    let numbers = [user("a", json!({"n": 5})), user("b", json!({"n": 10}))];
    table.is(
        15,
        &numbers,
        all(property_of("n", "between", json!([5, 9]))),
        &["a"],
    );
    let dates = [
        user("a", json!({"d": "2026-01-15"})),
        user("b", json!({"d": "soon"})),
    ];
    table.is(
        16,
        &dates,
        all(property("d", "is_date_before", "2026-02-01")),
        &["a"],
    );
    let late = user("a", json!({"d": "2026-01-15T23:00:00Z"}));
    table.is(
        17,
        &[late],
        all(property("d", "is_date_exact", "2026-01-15")),
        &["a"],
    );
    let address = user("a", json!({"address": {"city": "Bern"}}));
    table.is(
        18,
        &[address],
        all(property("user_properties.address.city", "eq", "Bern")),
        &["a"],
    );
    let swiss = Event {
        country: "CH".into(),
        ..event("a", "x", 2.0)
    };
    table.is(
        19,
        &[swiss, event("a", "y", 1.0)],
        all(property("country", "eq", "CH")),
        &["a"],
    );
}
