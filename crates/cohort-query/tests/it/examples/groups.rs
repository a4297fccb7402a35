//! References to cohorts, groups of conditions, and merged persons.

use serde_json::json;

use super::building::{all, cohort, count, event, plain, property, user};
use super::{DYNAMIC, STATIC, Table};
use crate::engine::{Event, person};

/// Members of other cohorts, AND and OR.
pub(super) fn examples(table: &mut Table) {
    let both = [plain("a"), plain("b")];
    table.is(39, &both, all(cohort(DYNAMIC, false)), &["a"]);
    table.is(39, &both, all(cohort(DYNAMIC, true)), &["b"]);
    table.is(40, &both, all(cohort(STATIC, false)), &["b"]);
    let or = json!({"type": "OR", "values": [property("plan", "eq", "pro"), count("buy", "gte", 1.0, 30)]});
    table.is(
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
    table.is(42, &buyers, and, &["a"]);
    let plan =
        json!({"type": "OR", "values": [property("plan", "eq", "pro"), property("plan", "eq", "free")]});
    let nested = json!({"type": "AND", "values": [plan, property("age", "is_set", "")]});
    let with_c = [&buyers[..], &[user("c", json!({"plan": "free", "age": 20}))]].concat();
    table.is(43, &with_c, nested, &["c"]);
    // The row says who it was then, the override who that is now.
    let merged = Event {
        person: person("n"),
        distinct_id: "merged".into(),
        ..event("n", "buy", 2.0)
    };
    table.is(
        44,
        &[merged, event("u", "$identify", 1.0)],
        all(count("buy", "gte", 1.0, 30)),
        &["u"],
    );
    table.is(45, &both, json!({"type": "AND", "values": []}), &[]);
}
