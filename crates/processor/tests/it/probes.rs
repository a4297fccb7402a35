//! What a probe says of an instance, by what stands in its heartbeat alone.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{SOON, Worker, World, eventually};

/// Exit code and line of `probe`, asked about one instance.
fn probe(world: &World, name: &str, question: &str) -> (i32, String) {
    let heartbeat = world.path(&format!("{name}.heartbeat"));
    probe_at(world, name, heartbeat.to_str().unwrap(), question)
}

fn probe_at(world: &World, name: &str, heartbeat: &str, question: &str) -> (i32, String) {
    let environment = [
        ("PROCESSOR_CONSUMER_NAME", name),
        ("HEARTBEAT_PATH", heartbeat),
        ("HEARTBEAT_STALE_MS", "5000"),
        // A probe asks no store and needs none.
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("DATABASE_URL", "nonsense"),
    ];
    let began = Instant::now();
    let output = world.output(&["probe", question], &environment);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text:?} {:?}", output.stderr);
    (output.status.code().unwrap(), text)
}

fn codes(world: &World, name: &str) -> [i32; 3] {
    ["started", "live", "ready"].map(|question| probe(world, name, question).0)
}

async fn serves(world: &World, worker: &Worker, name: &str) {
    eventually("it serves", SOON, async || {
        worker.is_beating() && codes(world, name) == [0, 0, 0]
    })
    .await;
}

fn note(world: &World, name: &str) -> Option<Value> {
    let path = world.path(&format!("{name}.heartbeat.json"));
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[tokio::test]
async fn a_probe_says_whether_an_instance_has_started_lives_and_is_ready_and_why_not() {
    let world = World::start().await;
    let (code, said) = probe(&world, "w1", "live");
    assert!(code == 1 && said.contains("no heartbeat"), "{said}");
    let mut worker = world.worker("w1", &[]);
    serves(&world, &worker, "w1").await;
    let (_, said) = probe(&world, "w1", "ready");
    assert!(said.starts_with("serving for"), "{said}");

    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.load(10, 2).await;
    eventually("it is not ready any more", SOON, async || {
        codes(&world, "w1") == [0, 0, 1]
    })
    .await;
    let (_, said) = probe(&world, "w1", "ready");
    assert!(
        said.starts_with("no: paused for") && said.contains("ClickHouse is away (ClickHouse: "),
        "{said}"
    );
    world.stack.clickhouse().unwrap().start().await.unwrap();
    eventually("it is ready again", SOON, async || {
        codes(&world, "w1") == [0, 0, 0]
    })
    .await;

    worker.terminate();
    assert!(worker.ended(SOON).await.success(), "{}", worker.log());
    assert_eq!(codes(&world, "w1"), [1, 1, 1]);
    assert!(note(&world, "w1").is_none(), "it goes with the heartbeat");
}

#[tokio::test]
async fn an_instance_that_waits_at_its_start_lives_and_has_not_started() {
    let world = World::start().await;
    world.stack.postgres().unwrap().stop().await.unwrap();
    let worker = world.worker("w1", &[]);
    eventually("it waits", SOON, async || {
        note(&world, "w1")
            .is_some_and(|note| note["state"] == "waiting" && note["stores"][0]["error"].is_string())
    })
    .await;
    assert_eq!(codes(&world, "w1"), [1, 0, 1]);
    let (_, said) = probe(&world, "w1", "started");
    assert!(
        said.starts_with("no: waiting for") && said.contains("PostgreSQL is away"),
        "{said}"
    );
    world.stack.postgres().unwrap().start().await.unwrap();
    serves(&world, &worker, "w1").await;
}

#[tokio::test]
async fn a_process_that_stands_still_or_has_been_killed_is_not_alive() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    serves(&world, &worker, "w1").await;
    worker.signal(Signal::SIGSTOP);
    // The heartbeat may be as old as two intervals and HEARTBEAT_STALE_MS.
    eventually("it is not alive", SOON, async || {
        let (code, said) = probe(&world, "w1", "live");
        code == 1 && said.contains("heartbeat") && said.contains("s old, more than 5 s")
    })
    .await;
    assert_eq!(codes(&world, "w1"), [0, 1, 1]);
    worker.signal(Signal::SIGCONT);
    serves(&world, &worker, "w1").await;
    worker.kill();
    let (code, said) = probe(&world, "w1", "live");
    assert!(code == 1 && said.contains("has ended"), "{said}");
    // Its successor takes the file over at once.
    let worker = world.worker("w1", &[]);
    serves(&world, &worker, "w1").await;
}

#[tokio::test]
async fn two_instances_with_one_heartbeat_are_found_out_and_neither_touches_the_others() {
    let world = World::start().await;
    let shared = world.path("w1.heartbeat");
    let mut first = world.worker("w1", &[]);
    serves(&world, &first, "w1").await;
    let mut second = world.worker_at("w2", shared.clone(), &[]);
    eventually("the second one says so", SOON, async || {
        second.log().lines().any(|line| {
            line.contains("ERROR")
                && line.contains("the heartbeat file is another living instance's")
                && line.contains("set HEARTBEAT_PATH")
                && line.contains(&format!("\"pid\":{}", first.pid()))
        })
    })
    .await;
    eventually("it works all the same", SOON, async || second.is_beating()).await;
    let (code, said) = probe_at(&world, "w2", shared.to_str().unwrap(), "live");
    assert!(code == 1 && said.contains("is the heartbeat of w1"), "{said}");
    assert_eq!(codes(&world, "w1"), [0, 0, 0]);
    let owner = || note(&world, "w1").map(|note| note["consumer"].clone());
    assert_eq!(owner(), Some("w1".into()));
    let (fine, text) = world.run(
        &["check"],
        &[
            ("HEARTBEAT_PATH", shared.to_str().unwrap()),
            ("PROCESSOR_CONSUMER_NAME", "w3"),
        ],
    );
    assert!(fine && text.contains("is the heartbeat of w1"), "{text}");

    // The second one's end takes nothing away.
    second.terminate();
    assert!(second.ended(SOON).await.success(), "{}", second.log());
    assert!(shared.exists() && owner() == Some("w1".into()));
    // One that is left takes the file over.
    let third = world.worker_at("w3", shared.clone(), &[]);
    eventually("it runs", SOON, async || {
        third.log().contains("every store has answered")
    })
    .await;
    first.terminate();
    assert!(first.ended(SOON).await.success(), "{}", first.log());
    eventually("the file is its own", SOON, async || {
        shared.exists() && owner() == Some("w3".into())
    })
    .await;
}
