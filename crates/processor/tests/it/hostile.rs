//! Every kind of bad input, each with the outcome that the contract demands. All cases go into one stream together, so
//! that each is also the neighbour of all others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use qurvo_processor::event::id;
use sample_events::{Expect, HOSTILE_FILE, HostileCase, PROJECTS, load_hostile};
use serde_json::Value;
use stream_reply::StreamId;
use uuid::Uuid;

use crate::samples::fixture;
use crate::support::{REJECTED, STREAM, World, entries};

async fn add(world: &World, case: &HostileCase) -> StreamId {
    let mut command = redis::cmd("XADD");
    command.arg(STREAM).arg("*");
    let mut fields = case.fields();
    if fields.is_empty() {
        // Redis has no entry without fields; one that means nothing comes closest.
        fields.push((b"unknown".to_vec(), Vec::new()));
    }
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    let id: String = command.query_async(&mut world.redis.clone()).await.unwrap();
    id.parse().unwrap()
}

/// Rejected entries: stream id to reason and data.
async fn rejected(world: &World) -> BTreeMap<String, (String, String)> {
    let entries = entries(world, REJECTED).await;
    let text = |entry: &redis::streams::StreamId, field: &str| entry.get::<String>(field).unwrap();
    entries
        .iter()
        .map(|e| (text(e, "stream_id"), (text(e, "reason"), text(e, "data"))))
        .collect()
}

#[tokio::test]
async fn every_hostile_entry_has_its_outcome_and_hurts_no_other() {
    let cases = load_hostile(fixture(HOSTILE_FILE)).unwrap();
    assert!(cases.len() > 100, "{} cases", cases.len());
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{}', 'hostile')",
            PROJECTS[0].id
        ))
        .await;
    let mut sent = Vec::new();
    for case in &cases {
        sent.push((add(&world, case).await, case));
    }
    let good = world.event("good neighbour", &[]).await;
    let mut worker = world.worker("w1", &[]);
    world.settled(Duration::from_mins(1)).await;
    worker.terminate();
    assert!(
        worker.ended(Duration::from_secs(20)).await.success(),
        "{}",
        worker.log()
    );

    let rejected = rejected(&world).await;
    let mut wrong = Vec::new();
    let mut rows = 1;
    for (id, case) in &sent {
        let reject = rejected.get(&id.to_string());
        rows += usize::from(reject.is_none());
        wrong.extend(faults(&world, *id, case, reject).await);
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    assert_eq!(
        world
            .ch(&format!("SELECT count() FROM events WHERE event_id = '{good}'"))
            .await,
        "1"
    );
    let stored: usize = world
        .ch("SELECT uniqExact(event_id) FROM events")
        .await
        .parse()
        .unwrap();
    assert!(stored <= rows, "{stored} rows of {rows} that may be there");
    assert_eq!(
        world
            .pg(&format!(
                "SELECT event_name FROM event_definitions WHERE project_id = '{}'",
                PROJECTS[0].id
            ))
            .await
            .into_iter()
            .collect::<BTreeSet<_>>(),
        event_definitions(&cases)
    );
}

/// Names of the events that land, as the catalogue has them. One with too many properties has a name of its own.
fn event_definitions(cases: &[HostileCase]) -> BTreeSet<String> {
    cases
        .iter()
        .filter(|case| matches!(case.expect, Expect::Lands { .. }) && !case.case.ends_with("10001-keys"))
        .filter_map(|case| Some(case.field("event_name")?.replace('\0', "")))
        .filter(|name| name.chars().count() <= 200)
        .collect()
}

/// What is wrong with a case's outcome.
async fn faults(
    world: &World,
    id: StreamId,
    case: &HostileCase,
    reject: Option<&(String, String)>,
) -> Vec<String> {
    match (&case.expect, reject) {
        (Expect::Rejected { reason }, Some((code, data)))
            if code == reason && serde_json::from_str::<Value>(data).is_ok() =>
        {
            Vec::new()
        }
        (Expect::Rejected { reason }, found) => {
            vec![format!(
                "{}: rejected as {reason} expected, found {found:?}",
                case.case
            )]
        }
        (Expect::Lands { .. }, Some((reason, _))) => {
            vec![format!("{}: should land, rejected as {reason}", case.case)]
        }
        (
            Expect::Lands {
                may_expire,
                warning,
                person_properties,
                ..
            },
            None,
        ) => {
            let Some(row) = row_of(world, id, case).await else {
                let missing = format!("{}: no row", case.case);
                return Some(missing).filter(|_| !may_expire).into_iter().collect();
            };
            let mut faults = column_faults(case, &row);
            faults.extend(warning_fault(world, case, warning.as_deref()).await);
            if let Some(expected) = person_properties {
                faults.extend(person_fault(world, case, &row, expected).await);
            }
            faults
        }
    }
}

/// The row of a case's event, by columns.
async fn row_of(world: &World, id: StreamId, case: &HostileCase) -> Option<BTreeMap<String, Value>> {
    let given = case.field("event_id").filter(|text| !text.is_empty());
    let event_id = given.map_or_else(
        || id::derived_event(STREAM, id),
        |text| text.parse::<Uuid>().unwrap(),
    );
    let text = world
        .ch(&format!(
            "SELECT * FROM events WHERE event_id = '{event_id}' LIMIT 1 FORMAT JSONEachRow"
        ))
        .await;
    (!text.is_empty()).then(|| serde_json::from_str(&text).unwrap())
}

fn column_faults(case: &HostileCase, row: &BTreeMap<String, Value>) -> Vec<String> {
    let mut faults = Vec::new();
    for (column, expected) in case.row() {
        let expected = match column.as_str() {
            "timestamp" => expected.replace('T', " ").trim_end_matches('Z').to_owned(),
            _ => expected,
        };
        let found = row[&column]
            .as_str()
            .map_or_else(|| row[&column].to_string(), str::to_owned);
        if found != expected {
            let cut = |text: &str| text.chars().take(120).collect::<String>();
            faults.push(format!(
                "{}: {column} is {:?}, expected {:?}",
                case.case,
                cut(&found),
                cut(&expected)
            ));
        }
    }
    faults
}

async fn warning_fault(world: &World, case: &HostileCase, expected: Option<&str>) -> Option<String> {
    let distinct_id = case.field("distinct_id").unwrap_or_default();
    if distinct_id.len() >= 900 {
        return None;
    }
    let needle = serde_json::to_string(&distinct_id)
        .unwrap()
        .replace('\\', "\\\\")
        .replace('\'', "\\'");
    let told = world
        .ch(&format!(
            "SELECT DISTINCT type FROM ingestion_warnings
             WHERE type IN ('malformed_properties', 'illegal_anonymous_id')
               AND position(details, '\"distinct_id\":' || '{needle}') > 0"
        ))
        .await;
    (told != expected.unwrap_or_default())
        .then(|| format!("{}: warned {told:?}, expected {expected:?}", case.case))
}

async fn person_fault(
    world: &World,
    case: &HostileCase,
    row: &BTreeMap<String, Value>,
    expected: &BTreeMap<String, String>,
) -> Option<String> {
    let person = row["person_id"].as_str().unwrap();
    let sql = format!(
        "SELECT json_object_agg(key, value::text) FROM persons, jsonb_each(properties) WHERE id = '{person}'"
    );
    let found: BTreeMap<String, String> = world
        .pg(&sql)
        .await
        .first()
        .filter(|text| *text != "NULL")
        .map(|text| serde_json::from_str(text).unwrap())
        .unwrap_or_default();
    (found != *expected).then(|| format!("{}: properties {found:?}, expected {expected:?}", case.case))
}
