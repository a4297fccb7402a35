//! What `check` finds in services that answer: settings, rights, schema.

use serde_json::Value;

use crate::lying::{About, Answer, Liar, Lie};
use crate::support::metrics::address;
use crate::support::{SOON, World, ask, eventually};

const OPERATIONS: &str = include_str!("../../../../docs/operations.md");

/// The rights in Redis that the page asks for, behind the user's name.
fn documented_rights() -> Vec<&'static str> {
    let line = OPERATIONS
        .lines()
        .find(|line| line.starts_with("ACL SETUSER processor "));
    line.unwrap().split(' ').skip(3).collect()
}

/// `check`'s findings that are not fine: what, its state, and the detail.
fn findings(world: &World, environment: &[(&str, &str)]) -> Vec<(String, String, String)> {
    let output = world.output(&["check", "--json"], environment);
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    // No country is known in tests.
    let odd = all
        .iter()
        .filter(|finding| finding["state"] != "ok" && finding["what"] != "GeoIP");
    let odd: Vec<_> = odd
        .map(|finding| {
            (
                text(finding, "what"),
                text(finding, "state"),
                text(finding, "detail"),
            )
        })
        .collect();
    let is_wrong = odd.iter().any(|(_, state, _)| state == "wrong");
    assert_eq!(output.status.code(), Some(i32::from(is_wrong)), "{odd:?}");
    odd
}

fn one(world: &World, environment: &[(&str, &str)]) -> (String, String, String) {
    let mut found = findings(world, environment);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[tokio::test]
async fn rights_in_redis_that_are_missing_are_named_and_those_of_the_page_are_enough() {
    let world = World::start().await;
    let port = world.stack.redis().unwrap().port();
    let user = async |name: &str, rights: &[&str]| {
        let mut set = vec!["SETUSER", name, "on", ">hunter2"];
        set.extend(rights);
        ask::<()>(&world, "ACL", &set).await;
        format!("redis://{name}:hunter2@127.0.0.1:{port}")
    };
    let reader = user("reader", &["~*", "+@read", "+@connection"]).await;
    let found = findings(&world, &[("REDIS_URL", &reader)]);
    let states: Vec<_> = found
        .iter()
        .map(|(what, state, _)| (what.as_str(), state.as_str()))
        .collect();
    assert_eq!(
        states,
        [("Redis", "warning"), ("Redis rights", "wrong")],
        "{found:?}"
    );
    let rights: Vec<&str> = documented_rights()
        .into_iter()
        .filter(|right| !right.starts_with('>'))
        .collect();
    let least = user("least", &rights).await;
    assert_eq!(findings(&world, &[("REDIS_URL", &least)]), []);
    for (without, named) in [
        (vec!["-xack"], "run XACK"),
        (vec!["-xautoclaim", "-eval"], "EVAL, XAUTOCLAIM"),
        (vec!["resetkeys", "~processor:*", "~events:*"], "dlq:replay:lock"),
    ] {
        let fewer = user(
            "fewer",
            &[&["reset"], &rights[..], &["on", ">hunter2"], &without[..]].concat(),
        )
        .await;
        let (what, state, detail) = one(&world, &[("REDIS_URL", &fewer)]);
        assert_eq!((what.as_str(), state.as_str()), ("Redis rights", "wrong"));
        assert!(
            detail.contains(named) && detail.contains("ACL SETUSER"),
            "{detail}"
        );
    }
    // Looking changes nothing.
    let keys: Vec<String> = ask(&world, "KEYS", &["*"]).await;
    let left: Vec<&String> = keys.iter().filter(|key| *key != "processor:probe").collect();
    assert!(left.is_empty(), "{left:?}");

    let worker = world.worker("w1", &[("REDIS_URL", &least)]);
    let mut sent = world.load(300, 20).await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    sent.extend(world.load(100, 20).await);
    eventually("letters are set aside", SOON, async || {
        world.length("events:dlq").await > Some(0)
    })
    .await;
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    let log = worker.log();
    assert!(!log.contains("NOPERM") && !log.contains("permissions"), "{log}");
}

#[tokio::test]
async fn a_redis_that_throws_events_away_or_keeps_them_in_memory_only_is_told() {
    let world = World::start().await;
    assert_eq!(findings(&world, &[]), []);
    let set = async |name: &str, value: &str| ask::<()>(&world, "CONFIG", &["SET", name, value]).await;
    set("maxmemory-policy", "allkeys-lru").await;
    let (what, state, detail) = one(&world, &[]);
    assert_eq!((what.as_str(), state.as_str()), ("Redis eviction", "wrong"));
    assert!(
        detail.contains("allkeys-lru") && detail.contains("noeviction"),
        "{detail}"
    );
    set("maxmemory-policy", "noeviction").await;
    set("appendonly", "no").await;
    let (what, state, detail) = one(&world, &[]);
    assert_eq!((what.as_str(), state.as_str()), ("Redis persistence", "warning"));
    assert!(detail.contains("appendonly"), "{detail}");
}

#[tokio::test]
async fn a_postgres_that_takes_no_writes_or_has_no_projects_is_told() {
    let world = World::start().await;
    world
        .pg("ALTER DATABASE qurvo_analytics SET default_transaction_read_only = on")
        .await;
    let (what, state, detail) = one(&world, &[]);
    assert_eq!((what.as_str(), state.as_str()), ("PostgreSQL", "wrong"));
    assert!(
        detail.contains("read-only") && detail.contains("qurvo_analytics"),
        "{detail}"
    );
    world
        .pg("SET transaction_read_only = off; ALTER DATABASE qurvo_analytics RESET default_transaction_read_only")
        .await;
    world.pg("DELETE FROM projects").await;
    let (what, state, detail) = one(&world, &[]);
    assert_eq!((what.as_str(), state.as_str()), ("projects", "warning"));
    assert!(detail.contains("is DATABASE_URL the right database"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_in_clickhouse_that_are_missing_are_named() {
    let world = World::start().await;
    let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
    let through = [("CLICKHOUSE_URL", liar.url.as_str())];
    assert_eq!(findings(&world, &through), []);
    let denied = || Answer::refusal(497, "qurvo: Not enough privileges. (ACCESS_DENIED)");
    for (statement, what, state, named) in [
        (
            "INSERT INTO cohort_members",
            "ClickHouse rights",
            "wrong",
            "INSERT ON cohort_members",
        ),
        (
            "SELECT 1 FROM system.processes",
            "ClickHouse system",
            "wrong",
            "SELECT ON system.processes",
        ),
        (
            "SELECT 1 FROM system.parts",
            "ClickHouse system",
            "warning",
            "SELECT ON system.parts",
        ),
        ("dictHas", "ClickHouse schema", "wrong", "dictGet"),
    ] {
        liar.tell(Lie::about(About::Statements(statement), denied()));
        let (found, as_state, detail) = one(&world, &through);
        assert_eq!((found.as_str(), as_state.as_str()), (what, state), "{detail}");
        assert!(detail.contains(named), "{detail}");
        liar.stop_lying();
    }
    // What the engine answers to somebody who may not.
    let Answer::Says { status, headers, .. } = Answer::wrote(0) else {
        panic!("an answer is given");
    };
    let no = Answer::Says {
        status,
        headers,
        body: "\u{1}\u{6}result\u{5}UInt8\0".into(),
    };
    liar.tell(Lie::about(About::Statements("CHECK GRANT ALTER DELETE"), no));
    let (found, state, detail) = one(&world, &through);
    assert_eq!((found.as_str(), state.as_str()), ("ClickHouse rights", "wrong"));
    assert!(
        detail.contains("missing: ALTER DELETE ON cohort_members"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_port_that_a_running_instance_has_is_a_warning() {
    let world = World::start().await;
    let address = address();
    let listens = [("METRICS_LISTEN", address.as_str())];
    assert_eq!(findings(&world, &listens), []);
    let worker = world.worker("w1", &listens);
    eventually("it serves", SOON, async || worker.is_beating()).await;
    let (what, state, detail) = one(&world, &listens);
    assert_eq!((what.as_str(), state.as_str()), ("metrics", "warning"));
    assert!(detail.contains(&address), "{detail}");
}
