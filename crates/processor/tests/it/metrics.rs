//! The numbers that Prometheus reads.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::metrics::{address, number, scrape};
use crate::support::{PROJECT, SOON, Worker, World, eventually};

async fn say(address: &str, limit: Duration, numbers: &[(&str, f64)]) {
    let mut last = String::new();
    eventually(&format!("{numbers:?}"), limit, async || {
        last = scrape(address).await;
        numbers
            .iter()
            .all(|(name, value)| number(&last, name) == Some(*value))
    })
    .await;
}

/// Sockets that a process listens on.
fn listening(worker: &Worker) -> usize {
    let process = format!("/proc/{}", worker.pid());
    let sockets: BTreeSet<String> = std::fs::read_dir(format!("{process}/fd"))
        .unwrap()
        .filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok())
        .filter_map(|target| {
            let name = target.to_str()?.strip_prefix("socket:[")?;
            Some(name.strip_suffix(']')?.to_owned())
        })
        .collect();
    let lines = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("{process}/net/{table}")));
    let lines: String = lines.into_iter().map(Result::unwrap_or_default).collect();
    let listens = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|inode| sockets.contains(*inode))
    };
    lines.lines().filter(listens).count()
}

/// While ClickHouse is away and when it is back, behind 102 entries of which two are kept as rejects.
async fn tell_of_an_outage(world: &World, address: &str) {
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.event("d0", &[]).await;
    say(
        address,
        SOON,
        &[
            ("reading_paused", 1.0),
            (
                r#"dead_letters_added_total{reason="clickhouse_unavailable"}"#,
                1.0,
            ),
            // Asked of Redis now and then only.
            ("dead_letters", 1.0),
            (r#"stream_entries{stream="events:incoming"}"#, 103.0),
            (r#"stream_lag_entries{stream="events:incoming"}"#, 0.0),
            ("rejected_entries", 2.0),
            ("replay_circuit_open", 0.0),
        ],
    )
    .await;
    let text = scrape(address).await;
    assert!(
        number(&text, r#"attempts_failed_total{loop="land",store="clickhouse"}"#) >= Some(3.0),
        "{text}"
    );
    world.stack.clickhouse().unwrap().start().await.unwrap();
    say(
        address,
        Duration::from_mins(1),
        &[("reading_paused", 0.0), ("dead_letters_replayed_total", 1.0)],
    )
    .await;
}

#[tokio::test]
async fn numbers_match_what_was_sent_and_tell_of_an_outage() {
    let world = World::start().await;
    let address = address();
    let mut worker = world.worker("w1", &[("METRICS_LISTEN", &address), ("REJECTED_MAXLEN", "2")]);
    for n in 0..97 {
        world.event(&format!("d{n}"), &[]).await;
    }
    for _ in 0..2 {
        world
            .add(&[("project_id", PROJECT), ("event_name", "without a person")])
            .await;
    }
    let unknown = "22222222-2222-2222-2222-222222222222";
    world
        .add(&[("project_id", unknown), ("event_name", "e"), ("distinct_id", "d")])
        .await;
    say(
        &address,
        SOON,
        &[
            ("events_settled_total", 97.0),
            ("batch_events_sum", 97.0),
            (r#"events_rejected_total{reason="missing_fields"}"#, 2.0),
            (r#"events_rejected_total{reason="unknown_project"}"#, 1.0),
            ("rejected_evicted_total", 1.0),
            ("reading_paused", 0.0),
            ("held_events", 0.0),
            ("held_bytes", 0.0),
        ],
    )
    .await;
    let text = scrape(&address).await;
    for (store, operation) in [
        ("postgresql", "resolving persons"),
        ("clickhouse", "inserting events"),
        ("redis", "acknowledging"),
    ] {
        let name =
            format!(r#"store_operation_duration_seconds_count{{operation="{operation}",store="{store}"}}"#);
        assert!(number(&text, &name) >= Some(1.0), "{store}: {text}");
    }
    assert_eq!(listening(&worker), 1);
    let elsewhere = reqwest::get(format!("http://{address}/other")).await.unwrap();
    assert_eq!(elsewhere.status().as_u16(), 404);

    world.identify("user", "d1").await;
    world.identify("another", "d1").await;
    say(
        &address,
        SOON,
        &[
            (r#"merges_total{outcome="done"}"#, 1.0),
            (r#"merges_total{outcome="refused"}"#, 1.0),
            ("held_events", 0.0),
        ],
    )
    .await;

    // Merges are counted when PostgreSQL has them; their events are to have landed too.
    world.settled(SOON).await;
    tell_of_an_outage(&world, &address).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
}

#[tokio::test]
async fn there_is_no_socket_unless_asked_for_and_an_address_that_is_taken_is_said_at_once() {
    let world = World::start().await;
    let worker = world.worker("w1", &[]);
    eventually("the worker works", SOON, async || worker.is_beating()).await;
    assert_eq!(listening(&worker), 0);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken
        .local_addr()
        .map(|address| (taken, address.to_string()))
        .unwrap();
    let output = world.output(&["run"], &[("METRICS_LISTEN", &taken.1)]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && said.contains("METRICS_LISTEN"),
        "{said}"
    );
}
