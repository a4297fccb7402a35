//! What comes in beside the events: connections, clocks, rows and reports that others write.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::support::metrics::address;
use crate::support::{BIN, PROJECT, SOON, STATUS, STATUS_JSON, World, eventually};

/// A process that ends with the test.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _already_waited_for = self.0.wait();
    }
}

/// Files that a process has open.
fn open_files(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.0.id())).map_or(0, Iterator::count)
}

fn scrape(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.starts_with("HTTP/1.1 200").then_some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_to_the_metrics_never_keep_the_worker_from_its_stores() {
    const FILES: u64 = 128;
    let world = World::start().await;
    let address = address();
    let mut command = std::process::Command::new("sh");
    let log = std::fs::File::create(world.path("limited.log")).unwrap();
    command
        .args(["-c", &format!("ulimit -n {FILES}; exec \"$0\" run"), BIN])
        .env_clear()
        .envs(world.stack.env())
        .env("HEARTBEAT_PATH", world.path("limited.heartbeat"))
        .env("PROCESSOR_FLUSH_INTERVAL_MS", "300")
        .env("METRICS_LISTEN", &address)
        .stdout(std::process::Stdio::null())
        .stderr(log);
    let process = Process(command.spawn().unwrap());
    let first = world.event("d", &[]).await;
    world.settled(SOON).await;
    eventually("the metrics are there", SOON, async || scrape(&address).is_some()).await;

    let idle: Vec<TcpStream> = (0..400)
        .filter_map(|n| {
            let place = address.parse().unwrap();
            let mut stream = TcpStream::connect_timeout(&place, Duration::from_secs(2)).ok()?;
            // Some say nothing, some begin a request and go no further.
            if n % 2 == 0 {
                let _closed_already = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
            }
            Some(stream)
        })
        .collect();
    assert!(idle.len() > 100, "{} connections", idle.len());
    eventually("somebody else is still answered", SOON, async || {
        scrape(&address).is_some()
    })
    .await;
    let opened = open_files(&process);
    assert!(opened < 100, "{opened} files are open");

    // Every store cuts its connections once.
    let service = world.stack.postgres().unwrap();
    service.stop().await.unwrap();
    service.start().await.unwrap();
    let service = world.stack.clickhouse().unwrap();
    service.stop().await.unwrap();
    service.start().await.unwrap();
    let mut redis = world.redis.clone();
    let _killed: u64 = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .query_async(&mut redis)
        .await
        .unwrap();
    let second = world.event("another", &[]).await;
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&[first, second].into()).await;
    // Nobody has let go of a connection meanwhile: the worker has, of each.
    for mut stream in idle {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

#[tokio::test]
async fn a_connection_that_asks_again_and_again_is_answered_until_it_is_closed() {
    let world = World::start().await;
    let address = address();
    let worker = world.worker("w1", &[("METRICS_LISTEN", &address)]);
    eventually("the worker works", SOON, async || worker.is_beating()).await;
    for _ in 0..100 {
        assert!(scrape(&address).is_some_and(|text| text.contains("qurvo_processor_held_events")));
    }
}

#[tokio::test]
async fn a_name_that_was_last_seen_in_the_future_is_corrected_by_the_databases_clock() {
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO event_definitions (project_id, event_name, last_seen_at)
             VALUES ('{PROJECT}', 'e', now() + interval '400 days');
             INSERT INTO property_definitions (project_id, property_name, property_type, value_type, last_seen_at)
             VALUES ('{PROJECT}', 'properties.p', 'event', 'String', now() + interval '400 days');
             INSERT INTO event_properties (project_id, event_name, property_name, property_type, last_seen_at)
             VALUES ('{PROJECT}', 'e', 'properties.p', 'event', now() + interval '400 days')"
        ))
        .await;
    let _worker = world.worker("w1", &[]);
    let more = [("event_name", "e"), ("properties", r#"{"p":"x","q":"y"}"#)];
    world.event("d", &more).await;
    world.settled(SOON).await;
    for table in ["event_definitions", "property_definitions", "event_properties"] {
        eventually(table, SOON, async || {
            let wrong = world
                .pg(&format!(
                    "SELECT count(*) FROM {table} WHERE NOT (last_seen_at <= now()
                         AND last_seen_at = date_trunc('hour', last_seen_at)
                         AND last_seen_at > now() - interval '2 hours')"
                ))
                .await;
            wrong == ["0"]
        })
        .await;
    }
}

#[tokio::test]
async fn a_report_of_another_version_is_shown_as_one() {
    let world = World::start().await;
    let mut redis = world.redis.clone();
    for (name, report) in [
        ("newer", r#"{"at":1,"roles":"all","reading":{"state":"on"}}"#),
        ("odd", "no JSON"),
    ] {
        let _new: u64 = redis::cmd("HSET")
            .arg(&["processor:instances", name, report])
            .query_async(&mut redis)
            .await
            .unwrap();
    }
    let output = world.output(&STATUS_JSON, &[]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{status}");
    let instances = status["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 2, "{status}");
    for instance in instances {
        assert_eq!(instance["readable"], false, "{status}");
    }
    assert!(instances[0]["silent_for_s"].as_u64() > Some(1000), "{status}");
    assert!(instances[1]["silent_for_s"].is_null(), "{status}");
    let (fine, text) = world.run(&STATUS, &[]);
    assert!(
        fine && text.contains("newer") && text.contains("reports in a form this version does not know"),
        "{text}"
    );
}

#[tokio::test]
async fn odd_values_in_a_cohorts_row_are_its_own_trouble() {
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name) VALUES ('{PROJECT}', 'a@b.example', '', '')"
        ))
        .await;
    let definition = r#"{"type":"AND","values":[{"type":"person_property","property":"plan","operator":"eq","value":"pro"}]}"#;
    let fine = [
        "plain",
        "infinity",
        "-infinity",
        "failed at infinity",
        "changed at infinity",
    ];
    let odd = ["null", "negative", "highest"];
    let id = |n: usize| Uuid::from_u128(n as u128 + 1);
    for (n, name) in fine.iter().chain(&odd).enumerate() {
        world
            .pg(&format!(
                "INSERT INTO cohorts (id, project_id, created_by, name, definition)
                 VALUES ('{}', '{PROJECT}', '{PROJECT}', '{name}', '{definition}')",
                id(n)
            ))
            .await;
    }
    world
        .pg("UPDATE cohorts SET membership_computed_at = 'infinity' WHERE name = 'infinity';
             UPDATE cohorts SET membership_computed_at = '-infinity' WHERE name = '-infinity';
             UPDATE cohorts SET last_error_at = 'infinity', errors_calculating = 3 WHERE name = 'failed at infinity';
             UPDATE cohorts SET updated_at = 'infinity' WHERE name = 'changed at infinity';
             UPDATE cohorts SET definition = 'null' WHERE name = 'null';
             UPDATE cohorts SET errors_calculating = -5, membership_version = -7 WHERE name = 'negative';
             UPDATE cohorts SET errors_calculating = 9223372036854775807, membership_version = 9223372036854775807
             WHERE name = 'highest'")
        .await;
    let listed = world.run(&["cohorts", "list"], &[]);
    assert!(listed.0, "{}", listed.1);
    let (_, text) = world.run(&["cohorts", "recompute"], &[]);
    let shown = world
        .pg(
            "SELECT name FROM cohorts WHERE membership_version BETWEEN 1 AND 9000000000000000000
             AND isfinite(membership_computed_at) ORDER BY id",
        )
        .await;
    assert_eq!(shown, [&fine[..], &["negative"]].concat(), "{text}");
    let failed = world
        .pg("SELECT name FROM cohorts WHERE last_error_message IS NOT NULL ORDER BY id")
        .await;
    assert_eq!(failed, ["null", "highest"], "{text}");
    let (fine, text) = world.run(&STATUS, &[]);
    assert!(fine, "{text}");
}
