//! How often, how much and whether at all.

use serde_json::{Value, json};

use super::Table;
use super::building::{aggregate, all, any_time, count, event, plain, typed, with};

/// Counts in a window of time.
pub(super) fn counts(table: &mut Table) {
    let buys = [
        event("a", "buy", 1.0),
        event("a", "buy", 2.0),
        event("a", "buy", 3.0),
        event("b", "buy", 1.0),
    ];
    table.is(20, &buys, all(count("buy", "gte", 3.0, 30)), &["a"]);
    let buys = [event("a", "buy", 1.0), event("a", "buy", 40.0)];
    table.is(21, &buys, all(count("buy", "gte", 2.0, 30)), &[]);
    table.is(
        22,
        &[event("a", "buy", 1.0), plain("b")],
        all(count("buy", "eq", 0.0, 30)),
        &["b"],
    );
    let away = [event("a", "buy", 40.0), event("b", "x", 400.0)];
    table.is(23, &away, all(count("buy", "lte", 0.0, 30)), &["a", "b"]);
}

/// Aggregates, filters, first times and never.
pub(super) fn aggregates(table: &mut Table) {
    let buy = |who: &str, days: f64, amount: Value| with(event(who, "buy", days), json!({"amount": amount}));
    let amounts = [
        buy("a", 1.0, json!(10)),
        buy("a", 2.0, json!("20.5")),
        buy("a", 3.0, json!("n/a")),
    ];
    table.is(24, &amounts, all(aggregate("sum", "gte", 30.5)), &["a"]);
    table.is(
        25,
        &[buy("a", 1.0, json!("n/a"))],
        all(aggregate("min", "lte", 5.0)),
        &[],
    );
    let two = [buy("a", 1.0, json!(10)), buy("a", 2.0, json!(20))];
    table.is(26, &two, all(aggregate("median", "eq", 15.0)), &["a"]);
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
    table.is(27, &shirts, all(red_and_small), &["a"]);
    table.is(
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
    table.is(
        29,
        &firsts,
        all(typed("first_time_event", any_time("buy", 30))),
        &["a"],
    );
    let not = [event("a", "buy", 2.0), plain("b"), event("c", "x", 90.0)];
    table.is(
        30,
        &not,
        all(typed("not_performed_event", any_time("buy", 30))),
        &["b", "c"],
    );
}
