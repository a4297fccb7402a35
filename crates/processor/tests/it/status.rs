//! What `status` says of the stream, the instances and the stores.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{PROJECT, SOON, STATUS, STATUS_JSON, World, ask, eventually};

/// What `status --json` says, whether or not it found everything.
fn status(world: &World, environment: &[(&str, &str)]) -> Value {
    let output = world.output(&STATUS_JSON, environment);
    serde_json::from_slice(&output.stdout).unwrap()
}
#[tokio::test]
async fn status_counts_what_waits_and_shows_the_rest_when_a_store_is_away() {
    let world = World::start().await;
    world.load(250, 5).await;
    let (ok, text) = world.run(&STATUS_JSON, &[]);
    let status: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(status["streams"][0]["length"], 250);
    let verdict = json!({"state": "wrong", "answer": "nobody reads",
                         "because": "no living instance consumes; 250 unread, 0 pending"});
    assert_eq!(
        (ok, &status["verdict"]),
        (false, &verdict),
        "events wait, and nobody reads them"
    );
    let (ok, text) = world.run(
        &STATUS_JSON,
        &[("DATABASE_URL", "postgresql://u:p@127.0.0.1:1/x")],
    );
    assert!(!ok);
    let status: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(status["streams"][0]["length"], 250);
    assert_eq!(status["streams"][0]["lag"], 250, "no worker has made a group yet");
    let unknown = [
        "unpublished_overrides",
        "stale_cohorts",
        "cohorts",
        "failing_cohorts",
    ];
    assert_eq!(status["unknown"], json!(unknown));
    assert!(
        status["errors"][0].as_str().unwrap().contains("PostgreSQL"),
        "{text}"
    );
}

#[tokio::test]
async fn status_shows_that_reading_is_paused_and_for_which_store_until_it_is_back() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    world.load(500, 5).await;
    world.settled(SOON).await;
    eventually("the worker reports", SOON, async || {
        status(&world, &[])["instances"][0]["reading"] == "on"
    })
    .await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.load(500, 5).await;
    eventually("the pause is shown", SOON, async || {
        status(&world, &[])["instances"][0]["reading"] == "paused"
    })
    .await;
    let paused = status(&world, &[]);
    let instance = &paused["instances"][0];
    assert_eq!(
        (&instance["name"], &instance["stores_away"], &instance["roles"]),
        (
            &json!("w1"),
            &json!(["ClickHouse"]),
            &json!(["consume", "dlq", "cohorts"])
        )
    );
    assert!(
        instance["paused_for_s"].is_u64() && instance["silent_for_s"].as_u64() < Some(15),
        "{instance}"
    );
    assert_eq!(instance["cohorts"], Value::Null);
    assert_eq!(instance["version"], env!("CARGO_PKG_VERSION"));
    let stores = paused["stores"].as_array().unwrap();
    let answers: Vec<_> = stores
        .iter()
        .map(|s| (s["name"].as_str().unwrap(), s["reachable"] == true))
        .collect();
    assert_eq!(
        answers,
        [("Redis", true), ("PostgreSQL", true), ("ClickHouse", false)]
    );
    assert!(
        stores[2]["error"].as_str().unwrap().contains("ClickHouse"),
        "{stores:?}"
    );
    let (ok, table) = world.run(&STATUS, &[]);
    assert!(
        !ok && table.contains("paused for") && table.contains("does not answer"),
        "{table}"
    );
    world.stack.clickhouse().unwrap().start().await.unwrap();
    eventually("reading goes on", Duration::from_mins(1), async || {
        let now = status(&world, &[]);
        now["instances"][0]["reading"] == "on" && now["instances"][0]["stores_away"] == json!([])
    })
    .await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let ended = &status(&world, &[])["instances"][0];
    assert_eq!(
        (&ended["name"], &ended["life"], &ended["ended"]),
        (
            &json!("w1"),
            &json!("ended"),
            &json!({"left_pending": 0, "failed": false})
        ),
        "an instance takes leave"
    );
    let (ok, table) = world.run(&STATUS, &[]);
    assert!(ok && table.contains(" ago: all settled"), "{table}");
}

#[tokio::test]
async fn status_tells_silent_instances_the_circuit_and_locks_that_never_end() {
    let world = World::start().await;
    let quiet = status(&world, &[]);
    assert_eq!(
        quiet["circuit"],
        json!({"state": "closed", "seconds_left": null, "failures": 0})
    );
    assert_eq!((&quiet["locks"], &quiet["instances"]), (&json!({}), &json!([])));
    let (seconds, _): (u64, u64) = ask(&world, "TIME", &[]).await;
    let report = |age_s: u64| {
        json!({
            "at": (seconds - age_s) * 1000, "roles": ["consume"], "reading": "on", "paused_for_s": null,
            "stores_away": [], "held_events": 0, "held_bytes": 0, "version": "0", "cohorts": null,
        })
        .to_string()
    };
    let (silent, forgotten) = (report(120), report(3_700));
    ask::<()>(
        &world,
        "HSET",
        &["processor:instances", "silent", &silent, "forgotten", &forgotten],
    )
    .await;
    ask::<()>(&world, "SET", &["dlq:replay:circuit", "1", "PX", "100000"]).await;
    ask::<()>(&world, "SET", &["dlq:replay:failures", "4"]).await;
    ask::<()>(&world, "SET", &["cohort_membership:lock", "x"]).await;
    ask::<()>(&world, "SET", &["dlq:replay:lock", "y", "EX", "100"]).await;
    let now = status(&world, &[]);
    assert_eq!(
        (&now["circuit"]["state"], &now["circuit"]["failures"]),
        (&json!("open"), &json!(4))
    );
    assert!(now["circuit"]["seconds_left"].as_u64() > Some(80), "{now}");
    assert_eq!(
        now["locks"]["cohort_membership:lock"],
        Value::Null,
        "held without end"
    );
    assert!(
        now["locks"]["dlq:replay:lock"].as_u64() > Some(80) && now["locks"].as_object().unwrap().len() == 2,
        "{now}"
    );
    let (ok, table) = world.run(&STATUS, &[]);
    assert!(!ok, "the last instance has died: {table}");
    for shown in [
        "dead: silent for 2 min",
        "! silent is dead, or cut off from Redis: its log says why",
        "no expiry",
        "failures in a row: 4",
        "open, ",
    ] {
        assert!(table.contains(shown), "{shown}: {table}");
    }
    let _worker = world.worker("w1", &[]);
    eventually("the worker reports and the forgotten go", SOON, async || {
        let now = status(&world, &[]);
        let names: Vec<_> = now["instances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["name"].clone())
            .collect();
        names == ["silent", "w1"]
    })
    .await;
}

#[tokio::test]
async fn status_calls_a_cohort_stale_by_the_configured_age() {
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name)
             VALUES ('{PROJECT}', 'a@b.example', '', '');
             INSERT INTO cohorts (id, project_id, created_by, name, definition, membership_computed_at)
             VALUES (gen_random_uuid(), '{PROJECT}', '{PROJECT}', 'c', '{{}}', now() - interval '10 minutes')"
        ))
        .await;
    assert_eq!(status(&world, &[])["stale_cohorts"], 0);
    assert_eq!(
        status(&world, &[("COHORT_STALE_MINUTES", "5")])["stale_cohorts"],
        1
    );
}

#[tokio::test]
async fn status_tells_how_far_a_run_over_cohorts_is() {
    let world = World::start().await;
    let definition = r#"{"type":"AND","values":[]}"#;
    world
        .pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name) VALUES ('{PROJECT}', 'a@b.example', '', '');
             INSERT INTO cohorts (project_id, created_by, name, definition)
             SELECT '{PROJECT}', '{PROJECT}', 'cohort ' || n, '{definition}' FROM generate_series(1, 3) AS n"
        ))
        .await;
    // One of them cannot be marked for a while.
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; SELECT FROM cohorts WHERE name = 'cohort 2' FOR UPDATE")
        .await
        .unwrap();
    let _worker = world.worker(
        "w1",
        &[("PROCESSOR_ROLES", "cohorts"), ("COHORT_INITIAL_DELAY_MS", "100")],
    );
    let progress = || status(&world, &[])["instances"][0]["cohorts"].clone();
    eventually("two of three are done", SOON, async || {
        let now = progress();
        now["total"] == 3 && now["done"] == 2 && now["failed"] == 0
    })
    .await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    eventually("the run is over", SOON, async || progress().is_null()).await;
}

#[tokio::test]
async fn a_status_takes_no_longer_than_its_own_limit_and_calls_unknown_what_it_could_not_read() {
    let world = World::start().await;
    world.load(50, 5).await;
    let engine = world.stack.clickhouse().unwrap();
    engine.pause().await.unwrap();
    let began = std::time::Instant::now();
    let output = world.output(&["status", "--json"], &[]);
    // Two seconds for the store that stands still; the rest is for a busy machine. A worker would wait for 30.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let now: Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = "ClickHouse: looking at it: no answer within 2 s";
    assert!(now["errors"].as_array().unwrap().contains(&json!(error)), "{now}");
    let output = world.output(&["status", "--json", "--limit", "15"], &[]);
    engine.resume().await.unwrap();
    let now: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(now["unknown"], json!(["last_row"]), "{now}");
    assert_eq!(
        (&now["last_row"], &now["streams"][0]["length"]),
        (&Value::Null, &json!(50))
    );
    assert_eq!(now["stores"][2]["reachable"], false, "{now}");
    assert!(now["at"].as_str().unwrap().ends_with('Z'), "{now}");
    let now = status(&world, &[]);
    assert_eq!(
        (&now["unknown"], &now["last_row"]),
        (&json!([]), &Value::Null),
        "there is no row, and that is known"
    );
}

#[tokio::test]
async fn an_instance_that_is_killed_is_dead_whatever_it_said_last_and_without_waiting_for_its_reports() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    let life = |now: &Value| now["instances"][0]["life"].clone();
    eventually("the worker reports how it works", SOON, async || {
        let now = status(&world, &[]);
        life(&now) == "alive" && !now["instances"][0]["work"].is_null()
    })
    .await;
    worker.kill();
    eventually("it is missed", Duration::from_mins(1), async || {
        life(&status(&world, &[])) == "dead"
    })
    .await;
    let now = status(&world, &[]);
    let instance = &now["instances"][0];
    assert_eq!(
        (&instance["reading"], &instance["ended"]),
        (&json!("on"), &Value::Null)
    );
    let (ok, table) = world.run(&STATUS, &[]);
    assert!(
        !ok && table.contains("dead: silent for") && table.contains("nobody reads"),
        "{table}"
    );
}

#[tokio::test]
async fn an_instance_says_how_it_works() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world.load(2_000, 50).await;
    eventually("its work is told", SOON, async || {
        let work = status(&world, &[])["instances"][0]["work"].clone();
        let is_share = |stage: &str| {
            work["shares"][stage]
                .as_f64()
                .is_some_and(|share| (0.0..=1.0).contains(&share))
        };
        work["settled"] == 2_000
            && ["full", "decode", "identity", "land", "acknowledge"]
                .into_iter()
                .all(is_share)
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_refuses_the_password_of_status_is_not_said_to_be_away() {
    let world = World::start().await;
    let port = world.stack.redis().unwrap().port();
    let url = format!("redis://nobody:wrong@127.0.0.1:{port}");
    let (ok, text) = world.run(&["status"], &[("REDIS_URL", &url)]);
    assert!(!ok, "{text}");
    for said in [
        "nobody knows: Redis refuses this command: the streams are as they were",
        "Password authentication failed",
        "set user and password in REDIS_URL",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!text.contains("does not answer"), "{text}");
}
