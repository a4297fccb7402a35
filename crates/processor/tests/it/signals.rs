//! What the process does when it is told to stop, or told something else.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{BIN, SOON, World, eventually};

/// What that may take on a machine under load; a drain without PostgreSQL takes longer.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(5);
const STOPS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

#[tokio::test]
async fn every_signal_that_asks_to_stop_drains() {
    let world = World::start().await;
    let mut sent = std::collections::BTreeSet::new();
    for (signal, name) in STOPS.into_iter().zip(["w1", "w2", "w3", "w4"]) {
        let mut worker = world.worker(name, &[]);
        eventually("the worker works", SOON, async || worker.is_beating()).await;
        sent.extend(world.load(2_000, 20).await);
        worker.signal(signal);
        assert_eq!(worker.ended(SOON).await.code(), Some(0), "{signal}");
        let log = worker.log();
        assert!(log.contains("stopped: everything held was settled"), "{log}");
    }
    let _successor = world.worker("w5", &[]);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn a_second_signal_of_whatever_kind_ends_the_process_at_once() {
    let world = World::start().await;
    for (n, name) in ["w1", "w2", "w3", "w4"].into_iter().enumerate() {
        let mut worker = world.worker(name, &[("PROCESSOR_CLAIM_IDLE_MS", "600000")]);
        eventually("the worker works", SOON, async || worker.is_beating()).await;
        let blocker = world.pg_client().await;
        blocker.batch_execute("BEGIN; LOCK TABLE persons").await.unwrap();
        let before = world.unsettled().await.unwrap();
        world.load(50, 10).await;
        eventually("entries are held", SOON, async || {
            world.unsettled().await >= Some(before + 50)
        })
        .await;
        worker.signal(STOPS[n]);
        eventually("the drain begins", SOON, async || {
            worker.log().contains("draining")
        })
        .await;
        worker.signal(STOPS[(n + 1) % STOPS.len()]);
        let status = worker.ended(AT_ONCE).await;
        assert_eq!(status.code(), Some(1), "{}", STOPS[n]);
        assert!(worker.log().contains("second signal"), "{}", worker.log());
    }
}

#[tokio::test]
async fn signals_that_mean_nothing_here_change_nothing() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    eventually("the worker works", SOON, async || worker.is_beating()).await;
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE, Signal::SIGXFSZ] {
        worker.signal(signal);
        let sent = world.event("somebody", &[]).await;
        eventually(&format!("events land after {signal}"), SOON, async || {
            assert!(worker.is_running(), "{signal} has ended it");
            let sql = format!("SELECT count() FROM events WHERE event_id = '{sent}'");
            world.ch(&sql).await == "1"
        })
        .await;
    }
    worker.terminate();
    assert_eq!(worker.ended(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_signal_while_stores_are_away_at_the_start_ends_the_process_promptly() {
    let world = World::start().await;
    for signal in STOPS {
        let away = [("CLICKHOUSE_URL", "http://127.0.0.1:1"), ("LOG_LEVEL", "debug")];
        let mut worker = world.worker("w1", &away);
        eventually("the store is missed", SOON, async || {
            worker.log().contains("ClickHouse")
        })
        .await;
        worker.signal(signal);
        let status = worker.ended(AT_ONCE).await;
        assert_eq!(status.code(), Some(0), "{signal}: {}", worker.log());
    }
}

#[tokio::test]
async fn a_worker_that_was_started_to_outlive_its_terminal_does() {
    let world = World::start().await;
    let script = "trap '' HUP; exec \"$0\" run 2>\"$1\"";
    let log = world.path("log");
    let mut command = world.program("sh", &["-c", script, BIN, log.to_str().unwrap()], &[]);
    let mut worker = world.spawn("w1", &mut command);
    eventually("the worker lives", SOON, async || worker.lives()).await;
    worker.signal(Signal::SIGHUP);
    let sent = world.load(100, 10).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    worker.terminate();
    assert_eq!(worker.ended(SOON).await.code(), Some(0));
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("draining what is held").count(), 1, "{said}");
}
