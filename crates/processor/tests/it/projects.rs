//! Projects that do not exist, and databases that are not the right ones.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::support::metrics::{address, scrape};
use crate::support::{PROJECT, SOON, STATUS_JSON, STREAM, World, eventually};

/// Events of made-up projects, each of another one, with some of ours among them.
async fn flood(world: &World, made_up: usize, good: usize) -> BTreeSet<Uuid> {
    let mut sent = BTreeSet::new();
    let every = made_up / good;
    let mut pipeline = redis::pipe();
    for n in 0..made_up {
        let mut add = |project: Uuid, event: Uuid| {
            let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
            command.arg("project_id").arg(project.to_string());
            command.arg("event_id").arg(event.to_string());
            command
                .arg("event_name")
                .arg("e")
                .arg("distinct_id")
                .arg("d")
                .ignore();
        };
        add(Uuid::new_v4(), Uuid::new_v4());
        if n % every == 0 && sent.len() < good {
            let event = Uuid::new_v4();
            sent.insert(event);
            add(PROJECT.parse().unwrap(), event);
        }
        if n % 500 == 499 || n == made_up - 1 {
            let mut redis = world.redis.clone();
            pipeline.query_async::<()>(&mut redis).await.unwrap();
            pipeline.clear();
        }
    }
    sent
}

#[tokio::test]
async fn a_flood_of_made_up_projects_costs_an_existing_one_no_event() {
    let world = World::start().await;
    let sent = flood(&world, 10_500, 300).await;
    let _worker = world.worker("w1", &[]);
    world.settled(Duration::from_mins(2)).await;
    let rejected = world.length("events:rejected").await;
    world.holds_exactly(&sent).await;
    assert_eq!(rejected, Some(10_500));
}

#[tokio::test]
async fn without_any_project_events_wait_and_everybody_says_so_until_there_is_one() {
    const NONE: &str = "no project exists";
    let world = World::start().await;
    world.pg("DELETE FROM projects").await;
    let address = address();
    let worker = world.worker("w1", &[("METRICS_LISTEN", &address)]);
    let mut sent = world.load(700, 20).await;
    eventually("reading is paused, and metrics say why", SOON, async || {
        let text = scrape(&address).await;
        text.contains("\nqurvo_processor_reading_paused 1\n")
            && text.contains("\nqurvo_processor_no_project_exists 1\n")
    })
    .await;
    // Events that come later wait in the stream.
    sent.extend(world.load(300, 20).await);
    let (fine, text) = world.check(&[]);
    assert!(fine && text.contains("warning") && text.contains(NONE), "{text}");
    let output = world.output(&STATUS_JSON, &[]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(status["errors"].to_string().contains(NONE), "{status}");
    assert!(worker.log().contains(NONE), "{}", worker.log());
    // The gate looks several times whether PostgreSQL takes work again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.length("events:rejected").await, Some(0));
    assert!(
        world.length("events:dlq").await <= Some(700),
        "the later ones wait"
    );
    assert_eq!(world.ch("SELECT count() FROM events").await, "0");
    assert!(
        scrape(&address)
            .await
            .contains("\nqurvo_processor_reading_paused 1\n")
    );

    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{PROJECT}', 'back')"
        ))
        .await;
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
    assert!(
        scrape(&address)
            .await
            .contains("\nqurvo_processor_no_project_exists 0\n"),
        "{}",
        scrape(&address).await
    );
    let (fine, text) = world.check(&[]);
    assert!(fine, "{text}");
}

#[tokio::test]
async fn a_project_that_is_created_under_way_is_known_at_its_first_event() {
    let world = World::start().await;
    let late = Uuid::new_v4().to_string();
    let _worker = world.worker("w1", &[]);
    let event = |name: &'static str| {
        let late = late.clone();
        let world = &world;
        async move {
            world
                .add(&[("project_id", &late), ("event_name", name), ("distinct_id", "d")])
                .await
        }
    };
    event("too early").await;
    eventually("it is rejected", SOON, async || {
        world.length("events:rejected").await == Some(1)
    })
    .await;
    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{late}', 'late')"
        ))
        .await;
    event("in time").await;
    world.settled(SOON).await;
    assert_eq!(world.ch("SELECT event_name FROM events").await, "in time");
}

#[tokio::test]
async fn whoever_looks_is_told_which_servers_and_databases_are_meant_and_no_password() {
    let world = World::start().await;
    let host_port = |url: &str| {
        let after = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
        let after = after.split_once("://").map_or(after, |(_, rest)| rest);
        after.split('/').next().unwrap().to_owned()
    };
    let places = [
        format!("{}/0", host_port(&world.stack.redis_url().unwrap())),
        format!("{}/", host_port(&world.stack.database_url().unwrap())),
        format!(
            "{}/qurvo_analytics",
            host_port(&world.stack.clickhouse_url().unwrap())
        ),
    ];
    let worker = world.worker("w1", &[]);
    eventually("the worker works", SOON, async || worker.is_beating()).await;
    let log = worker.log();
    let first = log.lines().next().unwrap().to_owned();
    let said = [
        ("the first line of the log", first),
        ("check", world.run(&["check", "--json"], &[]).1),
        ("status", world.run(&STATUS_JSON, &[]).1),
    ];
    for (what, text) in &said {
        for place in &places {
            assert!(text.contains(place), "{what} does not name {place}: {text}");
        }
        assert!(!text.contains("qurvo_secret"), "{what}: {text}");
    }

    let elsewhere = [
        ("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/there"),
        ("REDIS_URL", "redis://u:hunter3@127.0.0.1:3/4"),
    ];
    let (_, text) = world.run(&STATUS_JSON, &elsewhere);
    assert!(
        text.contains("127.0.0.1:1/there") && text.contains("127.0.0.1:3/4"),
        "{text}"
    );
    assert!(!text.contains("hunter"), "{text}");
}

#[tokio::test]
async fn a_project_is_added_with_one_command_as_often_as_one_likes() {
    let world = World::start().await;
    let output = |arguments: &[&str]| {
        let output = world.output(&[&["projects"], arguments].concat(), &[]);
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code().unwrap(), out, err)
    };
    let (code, out, err) = output(&["add", "Newcomer"]);
    let id: Uuid = out.trim_end().parse().unwrap();
    assert_eq!(
        (code, out, err),
        (0, format!("{id}\n"), String::new()),
        "the id and nothing else"
    );
    let text = id.to_string();
    for (name, told) in [
        ("Newcomer", "is called \"Newcomer\""),
        ("Another", "is called \"Newcomer\": nothing was changed"),
    ] {
        let (code, out, err) = output(&["add", name, "--id", &text]);
        assert_eq!((code, out), (0, format!("{id}\n")));
        assert!(err.contains("exists already") && err.contains(told), "{err}");
    }
    let long = "x".repeat(101);
    for wrong in ["", " ", &long] {
        let (code, _, err) = output(&["add", wrong]);
        assert!(code == 2 && err.contains("1 to 100 characters"), "{err}");
    }
    let (code, list, _) = output(&["list"]);
    assert!(
        code == 0 && list.contains(&text) && list.contains("Newcomer") && list.contains("2 projects"),
        "{list}"
    );
    let _worker = world.worker("w1", &[]);
    world
        .add(&[
            ("project_id", &text),
            ("event_name", "hello"),
            ("distinct_id", "user-1"),
        ])
        .await;
    world.settled(SOON).await;
    assert_eq!(world.ch("SELECT project_id FROM events").await, text);
}
