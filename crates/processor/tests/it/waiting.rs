//! A start while a store is away, or cannot be used as it is: what is said, where, and that it goes on when that is mended.

use serde_json::{Value, json};

use crate::support::metrics::{address, scrape};
use crate::support::{SOON, Worker, World, eventually};

const OPERATIONS: &str = include_str!("../../../../docs/operations.md");

/// What the page says a user of PostgreSQL needs.
fn grants() -> Vec<&'static str> {
    let block = OPERATIONS.split("```sql\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    block
        .split_inclusive(';')
        .map(str::trim)
        .filter(|grant| !grant.is_empty())
        .collect()
}

async fn metric(address: &str, name: &str, value: &str) -> bool {
    let line = format!("\nqurvo_processor_{name} {value}\n");
    scrape(address).await.contains(&line)
}

fn instances(world: &World) -> Value {
    let output = world.output(&["status", "--json"], &[]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["instances"].clone()
}

async fn says(worker: &Worker, level: &str, texts: &[&str]) {
    eventually(&format!("the log says {texts:?}"), SOON, async || {
        let log = worker.log();
        log.lines()
            .any(|line| line.contains(level) && texts.iter().all(|text| line.contains(text)))
    })
    .await;
}

#[tokio::test]
async fn a_start_during_an_outage_is_seen_from_the_first_second_everywhere() {
    let world = World::start().await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let address = address();
    let mut worker = world.worker("w1", &[("METRICS_LISTEN", &address)]);
    eventually("numbers are there although nothing has begun", SOON, async || {
        scrape(&address).await.contains("qurvo_processor_held_events")
    })
    .await;
    eventually("they say that it waits, and for what", SOON, async || {
        metric(&address, "state{state=\"waiting\"}", "1").await
            && metric(&address, "store_away{store=\"clickhouse\"}", "1").await
    })
    .await;
    assert!(metric(&address, "store_away{store=\"redis\"}", "0").await);
    assert!(metric(&address, "store_needs_operator{store=\"clickhouse\"}", "0").await);
    says(
        &worker,
        "WARN",
        &[
            "nothing is read yet: stores are waited for",
            "\"waits_for\":\"ClickHouse\"",
        ],
    )
    .await;
    says(&worker, "WARN", &["\"store is away\"", "ClickHouse"]).await;
    eventually("its report says so", SOON, async || {
        let instance = &instances(&world)[0];
        instance["name"] == "w1"
            && instance["state"] == "waiting"
            && instance["stores_away"] == json!(["ClickHouse"])
            && instance["needs_operator"] == json!({})
    })
    .await;
    assert!(worker.is_running());
    world.stack.clickhouse().unwrap().start().await.unwrap();
    eventually("it serves", SOON, async || {
        worker.is_beating() && metric(&address, "state{state=\"serving\"}", "1").await
    })
    .await;
    assert!(metric(&address, "store_away{store=\"clickhouse\"}", "0").await);
    let event = world.event("d", &[]).await;
    world.settled(SOON).await;
    world.holds_exactly(&[event].into()).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
}

#[tokio::test]
async fn a_missing_right_is_an_operators_to_give_and_the_start_goes_on_when_it_is_given() {
    let world = World::start().await;
    let role = "CREATE ROLE processor LOGIN PASSWORD 'hunter2'";
    world.pg(role).await;
    let (withheld, given): (Vec<_>, Vec<_>) = grants()
        .into_iter()
        .partition(|grant| grant.starts_with("GRANT INSERT, UPDATE"));
    assert_eq!((withheld.len(), given.len()), (1, 4));
    world.pg(&given.concat()).await;
    let url = world.stack.database_url().unwrap();
    let (_, server) = url.split_once('@').unwrap();
    let url = format!("postgresql://processor:hunter2@{server}");
    let address = address();
    let as_role = [("DATABASE_URL", url.as_str()), ("METRICS_LISTEN", &address)];
    let mut worker = world.worker("w1", &as_role);
    let told = ["an operator has to act", "INSERT, UPDATE on persons", "GRANT"];
    says(&worker, "ERROR", &told).await;
    assert!(metric(&address, "store_needs_operator{store=\"postgresql\"}", "1").await);
    eventually("its report says what to do", SOON, async || {
        let advice = instances(&world)[0]["needs_operator"]["PostgreSQL"].clone();
        advice.as_str().is_some_and(|advice| advice.contains("GRANT"))
    })
    .await;
    let (fine, text) = world.check(&as_role[..1]);
    assert!(!fine && text.contains("INSERT, UPDATE on persons"), "{text}");
    assert!(worker.is_running());

    world.pg(&withheld.concat()).await;
    eventually("it serves", SOON, async || worker.is_beating()).await;
    let (fine, text) = world.check(&as_role[..1]);
    assert!(fine, "{text}");
    // What the page grants is enough for what the worker does.
    world.load(500, 20).await;
    world.identify("user-1", "somebody").await;
    world.identify("user-1", "somebody-else").await;
    world.settled(SOON).await;
    let log = worker.log();
    let refused: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("permission denied"))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(!log.contains("hunter2"));
}

#[tokio::test]
async fn a_wrong_password_a_missing_database_and_a_missing_column_are_told_with_what_to_do() {
    let world = World::start().await;
    let url = world.stack.database_url().unwrap();
    let (_, server) = url.split_once('@').unwrap();
    let (host, _) = server.split_once('/').unwrap();
    world.pg("CREATE ROLE processor LOGIN PASSWORD 'hunter2'").await;
    let wrong = format!("postgresql://processor:wrong@{server}");
    let nowhere = format!("postgresql://qurvo:qurvo_secret@{host}/nowhere");
    for (name, variable, value, texts) in [
        (
            "w1",
            "DATABASE_URL",
            wrong.as_str(),
            ["DATABASE_URL", "pg_hba.conf"],
        ),
        ("w2", "DATABASE_URL", &nowhere, ["nowhere", "database's name"]),
        (
            "w3",
            "CLICKHOUSE_PASSWORD",
            "wrong",
            ["CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD"],
        ),
    ] {
        let mut worker = world.worker(name, &[(variable, value)]);
        says(&worker, "ERROR", &["an operator has to act", texts[0], texts[1]]).await;
        assert!(worker.is_running(), "{}", worker.log());
    }
    world
        .pg("ALTER TABLE persons RENAME COLUMN property_versions TO hidden")
        .await;
    let worker = world.worker("w4", &[]);
    says(
        &worker,
        "ERROR",
        &["property_versions", "qurvo-processor migrate"],
    )
    .await;
    world
        .pg("ALTER TABLE persons RENAME COLUMN hidden TO property_versions")
        .await;
    eventually("it serves", SOON, async || worker.is_beating()).await;
}
