//! Dead letters: nothing is lost, nothing blocks, everything can be explained.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use uuid::Uuid;

use crate::support::{PROJECT, SOON, STREAM, Worker, World, eventually};

pub(crate) const QUEUE: &str = "events:dlq";
pub(crate) const REJECTED: &str = "events:rejected";
pub(crate) const QUICK: (&str, &str) = ("DLQ_REPLAY_INTERVAL_MS", "500");

pub(crate) async fn entries(world: &World, stream: &str) -> Vec<redis::streams::StreamId> {
    let range: redis::streams::StreamRangeReply = redis::cmd("XRANGE")
        .arg(stream)
        .arg("-")
        .arg("+")
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    range.ids
}

pub(crate) async fn ask<T: redis::FromRedisValue>(world: &World, command: &str, arguments: &[&str]) -> T {
    redis::cmd(command)
        .arg(arguments)
        .query_async(&mut world.redis.clone())
        .await
        .unwrap()
}

/// A letter as the predecessor wrote it.
pub(crate) async fn letter(world: &World, data: &str) -> String {
    ask(world, "XADD", &[QUEUE, "*", "data", data]).await
}

pub(crate) fn event_data(id: Uuid, who: &str, more: &str) -> String {
    format!(
        r#"{{"event_id":"{id}","project_id":"{PROJECT}","event_name":"old","event_type":"track","distinct_id":"{who}",
            "person_id":"99999999-9999-4999-8999-999999999999","screen_width":1080,"screen_height":null,"region":"",
            "timestamp":"2026-11-01T10:00:00.000Z"{more}}}"#
    )
}

pub(crate) async fn rows(world: &World, id: Uuid) -> String {
    world
        .ch(&format!("SELECT count() FROM events WHERE event_id = '{id}'"))
        .await
}

#[tokio::test]
async fn what_a_store_does_not_take_is_set_aside_explained_and_replayed_when_it_is_back() {
    let world = World::start().await;
    let worker = world.worker("w1", &[]);
    world.event("d", &[]).await;
    world.settled(SOON).await;
    let person = world.persons_of("d").await[0].unwrap().to_string();
    let columns = world
        .ch("SELECT name FROM system.columns WHERE table = 'events' AND database = currentDatabase() AND name != 'ingested_at'")
        .await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let id = world
        .event(
            "d",
            &[
                ("properties", r#"{"n":1.50}"#),
                ("screen_width", "1080"),
                ("user_agent", "agent"),
            ],
        )
        .await;
    eventually("it is set aside", SOON, async || {
        world.length(QUEUE).await == Some(1)
    })
    .await;
    eventually("it is acknowledged", SOON, async || {
        world.unsettled().await == Some(0)
    })
    .await;
    let entry = &entries(&world, QUEUE).await[0];
    let text = |name: &str| entry.get::<String>(name).unwrap();
    assert_eq!(
        (text("reason"), text("attempts"), text("consumer"), text("stream")),
        (
            "clickhouse_unavailable".into(),
            "3".into(),
            "w1".into(),
            STREAM.into()
        )
    );
    assert!(text("error").contains("ClickHouse") && text("failed_at").ends_with('Z'));
    assert!(text("stream_id").contains('-'));
    let data: Value = serde_json::from_str(&text("data")).unwrap();
    assert_eq!(data["event_id"], id.to_string());
    assert_eq!(data["properties"], r#"{"n":1.50}"#);
    assert_eq!(data["screen_width"], 1080);
    assert_eq!(data["person_id"], person, "its readers need not ask anybody");
    for column in columns.lines() {
        assert!(!data[column].is_null(), "{column} is missing in {data}");
    }
    assert!(data["timestamp"].as_str().unwrap().ends_with('Z'));

    // While the store is away nothing more is read, and each change of state is said once.
    for _ in 0..10 {
        world.event("d", &[]).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        world.length(QUEUE).await,
        Some(1),
        "the stream is not poured through a closed door"
    );
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    assert_eq!(rows(&world, id).await, "1");
    assert_eq!(
        world.ch("SELECT count(), uniqExact(event_id) FROM events").await,
        "12\t12"
    );
    for said in [
        "store is away",
        "set aside as dead letters",
        "reading pauses",
        "reading goes on",
        "dead letters replayed",
    ] {
        assert_eq!(worker.log().matches(said).count(), 1, "{said}: {}", worker.log());
    }
}

#[tokio::test]
async fn sixty_seconds_without_clickhouse_under_load_and_with_a_full_queue_lose_nothing() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[("DLQ_MAXLEN", "300")]);
    let mut sent = world.load(2_000, 100).await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    for _ in 0..300 {
        let id = Uuid::new_v4();
        letter(&world, &event_data(id, "d", "")).await;
        sent.insert(id);
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_mins(1) {
        sent.extend(world.load(500, 100).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(
            world.length(QUEUE).await,
            Some(300),
            "a full queue takes nothing and loses nothing"
        );
    }
    assert!(worker.log().contains("queue is full"), "{}", worker.log());
    world.stack.clickhouse().unwrap().start().await.unwrap();
    let back = Instant::now();
    world.settled(Duration::from_mins(2)).await;
    assert!(worker.is_running(), "{}", worker.log());
    assert!(
        back.elapsed() < Duration::from_mins(1),
        "caught up after {:?}",
        back.elapsed()
    );
    println!("{} events, caught up after {:?}", sent.len(), back.elapsed());
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn without_postgres_nothing_lands_half_done_and_everything_lands_afterwards() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world.event("known", &[]).await;
    world.settled(SOON).await;
    world.stack.postgres().unwrap().stop().await.unwrap();
    let set = [("user_properties", r#"{"plan":"pro"}"#)];
    let id = world.event("somebody new", &set).await;
    eventually("it is set aside", SOON, async || {
        world.length(QUEUE).await == Some(1)
    })
    .await;
    assert_eq!(rows(&world, id).await, "0");
    let reason: String = entries(&world, QUEUE).await[0].get("reason").unwrap();
    assert_eq!(reason, "postgresql_unavailable");
    world.stack.postgres().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    assert_eq!(rows(&world, id).await, "1");
    assert_eq!(
        world
            .pg("SELECT properties::text FROM persons WHERE properties <> '{}'")
            .await,
        [r#"{"plan": "pro"}"#]
    );
}

#[tokio::test]
async fn an_old_set_that_is_replayed_after_a_newer_one_changes_nothing() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    let at = |second: u32| format!("2026-11-01T10:00:{second:02}.000Z");
    world.event("d", &[]).await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let old = [
        ("timestamp", &*at(1)),
        ("event_name", "old"),
        ("user_properties", r#"{"plan":"free","tmp":1}"#),
    ];
    let id = world.event("d", &old).await;
    eventually("it is set aside", SOON, async || {
        world.length(QUEUE).await == Some(1)
    })
    .await;
    worker.kill();
    let copy: String = entries(&world, QUEUE).await[0].get("data").unwrap();
    world.stack.clickhouse().unwrap().start().await.unwrap();
    // Nobody replays while the newer events land.
    let consume = [("PROCESSOR_ROLES", "consume")];
    let mut worker = world.worker("w2", &consume);
    world
        .event(
            "d",
            &[("timestamp", &at(2)), ("user_properties", r#"{"plan":"pro"}"#)],
        )
        .await;
    world
        .event(
            "d",
            &[
                ("timestamp", &at(3)),
                ("user_properties", r#"{"$unset":["tmp"]}"#),
            ],
        )
        .await;
    world.identify("u1", "d").await;
    eventually("the newer ones land", SOON, async || {
        world.unsettled().await == Some(0)
    })
    .await;
    worker.kill();
    let _replayer = world.worker("w3", &[("PROCESSOR_ROLES", "dlq"), QUICK]);
    world.settled(SOON).await;
    letter(&world, &copy).await;
    world.settled(SOON).await;
    assert_eq!(
        world.pg("SELECT properties::text FROM persons").await,
        [r#"{"plan": "pro"}"#]
    );
    assert_eq!(rows(&world, id).await, "1", "one row, also after its copy");
    let u1 = world.persons_of("u1").await;
    assert_eq!(world.persons_of("d").await, u1);
    let person = world
        .ch(&format!("SELECT person_id FROM events WHERE event_id = '{id}'"))
        .await;
    assert_eq!(person, u1[0].unwrap().to_string());
    eventually("its name is recorded", SOON, async || {
        world
            .pg("SELECT event_name FROM event_definitions WHERE event_name = 'old'")
            .await
            == ["old"]
    })
    .await;
}

#[tokio::test]
async fn letters_that_hold_no_event_are_parked_and_block_nobody() {
    let world = World::start().await;
    let (first, last) = (Uuid::new_v4(), Uuid::new_v4());
    letter(&world, &event_data(first, "a", r#","country":"NL""#)).await;
    letter(&world, r#"{"broken"#).await;
    letter(&world, r#"{"event_name":"no project"}"#).await;
    let _id: String = ask(&world, "XADD", &[QUEUE, "*", "something", "else"]).await;
    letter(&world, &event_data(last, "b", r#","unknown":{"a":1}"#)).await;
    let _worker = world.worker("w1", &[QUICK]);
    world.settled(SOON).await;
    assert_eq!(
        (rows(&world, first).await, rows(&world, last).await),
        ("1".into(), "1".into())
    );
    let parked = entries(&world, REJECTED).await;
    let kept: Vec<String> = parked.iter().map(|entry| entry.get("data").unwrap()).collect();
    assert!(
        kept.contains(&r#"{"something":"else"}"#.to_owned()) && kept.contains(&r#"{"broken"#.to_owned()),
        "nothing of them is lost: {kept:?}"
    );
    let reasons: BTreeSet<String> = parked.iter().map(|entry| entry.get("reason").unwrap()).collect();
    assert_eq!(parked.len(), 3);
    assert_eq!(
        reasons,
        ["missing_fields", "unreadable_dead_letter"]
            .map(str::to_owned)
            .into()
    );
    assert_eq!(
        world
            .ch("SELECT screen_width, screen_height, timestamp, country FROM events WHERE distinct_id = 'a'")
            .await,
        "1080\t0\t2026-11-01 10:00:00.000\tNL"
    );
    assert_ne!(
        world.persons_of("a").await[0],
        Some(Uuid::from_u128(0x9999_9999_9999_4999_8999_9999_9999_9999)),
        "who it was is found out anew"
    );
}

#[tokio::test]
async fn a_crash_between_the_letters_and_their_acknowledgement_shows_nowhere() {
    let world = World::start().await;
    let mut sent = BTreeSet::new();
    for _ in 0..300 {
        sent.insert(world.event("d", &[("user_properties", r#"{"a":1}"#)]).await);
    }
    let _: () = ask(&world, "XGROUP", &["CREATE", STREAM, "processor-group", "0"]).await;
    let of_the_dead = [
        "GROUP",
        "processor-group",
        "w0",
        "COUNT",
        "1000",
        "STREAMS",
        STREAM,
        ">",
    ];
    let _taken: redis::Value = ask(&world, "XREADGROUP", &of_the_dead).await;
    for entry in entries(&world, STREAM).await {
        let ms = entry.id.split('-').next().unwrap().parse().unwrap();
        let at = jiff::Timestamp::from_millisecond(ms).unwrap();
        let id: Uuid = entry.get::<String>("event_id").unwrap().parse().unwrap();
        let data = event_data(id, "d", r#","user_properties":"{\"a\":1}""#)
            .replace("\"old\"", "\"test\"")
            .replace("2026-11-01T10:00:00.000Z", &format!("{at:.3}"));
        let fields = ["*", "data", &data, "stream", STREAM, "stream_id", &entry.id];
        let _id: String = ask(&world, "XADD", &[&[QUEUE][..], &fields].concat()).await;
    }
    // Its successor takes its entries up at once, and others replay the letters.
    let workers = ["w0", "w1", "w2"].map(|name| world.worker(name, &[QUICK, ("DLQ_REPLAY_BATCH", "7")]));
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    drop(workers);
}

#[tokio::test]
async fn of_several_instances_one_replays_and_none_while_a_stranger_holds_the_lock() {
    let world = World::start().await;
    let ids: Vec<Uuid> = (0..500).map(|_| Uuid::new_v4()).collect();
    for id in &ids {
        letter(&world, &event_data(*id, "d", "")).await;
    }
    let _: () = ask(&world, "SET", &["dlq:replay:lock", "a stranger"]).await;
    let workers = [
        world.worker("w1", &[QUICK]),
        world.worker("w2", &[QUICK]),
        world.worker("w3", &[QUICK]),
    ];
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.length(QUEUE).await, Some(500));
    let holder: String = ask(&world, "GET", &["dlq:replay:lock"]).await;
    assert_eq!(holder, "a stranger");
    let _: u64 = ask(&world, "DEL", &["dlq:replay:lock"]).await;
    world.settled(SOON).await;
    world.holds_exactly(&ids.into_iter().collect()).await;
    eventually("the lock is released", SOON, async || {
        !ask::<bool>(&world, "EXISTS", &["dlq:replay:lock"]).await
    })
    .await;
    let replayed = |log: String| -> u64 {
        let lines: Vec<serde_json::Value> = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &serde_json::Value| line["message"] == "dead letters replayed")
            .collect();
        lines.iter().filter_map(|line| line["replayed"].as_u64()).sum()
    };
    let all: u64 = workers.iter().map(|worker| replayed(worker.log())).sum();
    assert_eq!(all, 500, "each letter was replayed by one of them");
}

#[tokio::test]
async fn failures_open_the_circuit_for_all_and_one_try_after_its_time_decides() {
    let world = World::start().await;
    let settings = [
        QUICK,
        ("PROCESSOR_ROLES", "dlq"),
        ("DLQ_CIRCUIT_THRESHOLD", "3"),
        ("DLQ_CIRCUIT_RESET_MS", "6000"),
        ("LOG_LEVEL", "info,qurvo_processor::dead_letter=debug"),
    ];
    let workers = ["w1", "w2", "w3"].map(|name| world.worker(name, &settings));
    eventually("they run", SOON, async || workers.iter().all(Worker::is_beating)).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let id = Uuid::new_v4();
    letter(&world, &event_data(id, "d", "")).await;
    let open = async || ask::<bool>(&world, "EXISTS", &["dlq:replay:circuit"]).await;
    let failures = || -> usize {
        let failed = |worker: &Worker| worker.log().matches("a store failed while replaying").count();
        workers.iter().map(failed).sum()
    };
    for (tries, why) in [
        (3, "the threshold is for all together"),
        (4, "one try after its time"),
        (5, "and again"),
    ] {
        eventually("the circuit is open", Duration::from_mins(1), open).await;
        let left: i64 = ask(&world, "PTTL", &["dlq:replay:circuit"]).await;
        assert!((4_000..=6_000).contains(&left), "a whole period: {left}");
        eventually("it is logged", SOON, async || failures() >= tries).await;
        assert_eq!(failures(), tries, "{why}");
        let (_, status) = world.run(&["status"], &[]);
        assert!(status.contains("circuit"), "{status}");
        eventually("its time is over", SOON, async || !open().await).await;
    }
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(Duration::from_mins(1)).await;
    assert_eq!(rows(&world, id).await, "1");
    let left: u64 = ask(&world, "EXISTS", &["dlq:replay:circuit", "dlq:replay:failures"]).await;
    assert_eq!(left, 0, "a success clears both");
}

#[tokio::test]
async fn only_the_rows_that_the_engine_refuses_are_set_aside_found_in_few_inserts() {
    let world = World::start().await;
    world
        .ch("ALTER TABLE events ADD CONSTRAINT no_poison CHECK event_name != 'poison'")
        .await;
    for (poison, most_inserts) in [(1, 25), (10, 170), (100, 900)] {
        let worker = world.worker(
            &format!("w{poison}"),
            &[("LOG_LEVEL", "info,qurvo_processor::warehouse=debug")],
        );
        let before = world.length(REJECTED).await.unwrap();
        let mut pipeline = redis::pipe();
        let mut fine = Vec::new();
        for n in 0..1000 {
            let id = Uuid::new_v4().to_string();
            let name = if n % (1000 / poison) == 7 % (1000 / poison) {
                "poison"
            } else {
                "fine"
            };
            if name == "fine" {
                fine.push(id.clone());
            }
            let fields = [
                ("event_id", id.as_str()),
                ("project_id", PROJECT),
                ("distinct_id", "d"),
                ("event_name", name),
            ];
            pipeline.cmd("XADD").arg(STREAM).arg("*").arg(&fields).ignore();
        }
        pipeline
            .query_async::<()>(&mut world.redis.clone())
            .await
            .unwrap();
        world.settled(Duration::from_mins(2)).await;
        let rejected = entries(&world, REJECTED).await;
        let mine = &rejected[before as usize..];
        assert_eq!(mine.len(), poison);
        for entry in mine {
            let (reason, error): (String, String) =
                (entry.get("reason").unwrap(), entry.get("error").unwrap());
            assert!(
                reason == "refused_by_warehouse" && error.contains("no_poison"),
                "{reason}: {error}"
            );
        }
        let landed = format!(
            "SELECT count() FROM events WHERE event_id IN ('{}')",
            fine.join("','")
        );
        assert_eq!(world.ch(&landed).await, fine.len().to_string());
        let inserts = worker.log().matches("rows not taken").count();
        let taken = worker.log().matches("rows inserted").count();
        assert!(
            (poison..=most_inserts).contains(&inserts) && inserts + taken <= 2 * most_inserts,
            "{inserts} refused inserts and {taken} others for {poison} rows"
        );
        println!("{poison} of 1000 refused: {inserts} refused inserts, {taken} others");
    }
    assert_eq!(world.length(QUEUE).await, Some(0));
}

#[tokio::test]
async fn a_million_rejected_events_in_a_row_hold_up_nothing() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[("REJECTED_MAXLEN", "5000")]);
    for _ in 0..100 {
        let mut pipeline = redis::pipe();
        for _ in 0..10_000 {
            pipeline
                .cmd("XADD")
                .arg(STREAM)
                .arg("*")
                .arg("project_id")
                .arg("x")
                .arg("event_name")
                .arg("y")
                .ignore();
        }
        pipeline
            .query_async::<()>(&mut world.redis.clone())
            .await
            .unwrap();
    }
    let id = world.event("d", &[]).await;
    eventually("the good one lands", Duration::from_mins(2), async || {
        rows(&world, id).await == "1"
    })
    .await;
    world.settled(SOON).await;
    assert_eq!(world.length(REJECTED).await, Some(5_000));
    assert_eq!(world.length(QUEUE).await, Some(0));
    assert!(worker.is_running() && !worker.log().contains("reading pauses"));
}

#[tokio::test]
async fn operators_list_show_replay_and_purge() {
    let world = World::start().await;
    let ids: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
    let mut letters = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let name = if n == 3 { "\"other\"" } else { "\"old\"" };
        letters.push(letter(&world, &event_data(*id, "d", "").replace("\"old\"", name)).await);
    }
    let run = |arguments: &[&str]| world.run(arguments, &[]);
    let (ok, text) = run(&["dlq", "list", "--event", "old"]);
    assert!(
        ok && text.contains("3 of 3 in events:dlq") && text.contains(&letters[0]),
        "{text}"
    );
    let (ok, text) = run(&["dlq", "list", "--json", "--limit", "2"]);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        ok && lines.len() == 2 && lines[0]["data"]["event_id"] == ids[0].to_string(),
        "{text}"
    );
    for (filter, count) in [
        (vec!["--project", PROJECT], 4),
        (vec!["--project", "22222222-2222-2222-2222-222222222222"], 0),
        (vec!["--reason", "clickhouse_unavailable"], 0),
        (vec!["--older-than", "1h"], 0),
        (vec!["--older-than", "0s"], 4),
        (vec!["--id", &letters[1], "--id", &letters[2]], 2),
    ] {
        let (ok, text) = run(&[vec!["dlq", "replay", "--dry-run"], filter].concat());
        assert!(
            ok && text.contains(&format!("{count} would be replayed")),
            "{text}"
        );
    }
    let (ok, text) = run(&["dlq", "show", &letters[0]]);
    assert!(ok && text.contains(&ids[0].to_string()), "{text}");
    let (ok, text) = run(&["dlq", "show", "1-1"]);
    assert!(!ok && text.contains("1-1 is not in events:dlq"), "{text}");

    let (ok, text) = run(&["dlq", "purge", "--id", &letters[2], "--dry-run"]);
    assert!(ok && text.contains("1 would be removed"), "{text}");
    let (ok, text) = run(&["dlq", "purge", "--id", &letters[2]]);
    assert!(ok && text.contains("1 of 1 removed"), "{text}");
    let (ok, text) = run(&["dlq", "replay", "--event", "other"]);
    assert!(
        ok && text.contains("1 of 1 left the queue, 0 of them are rejected"),
        "{text}"
    );
    let (ok, text) = run(&["dlq", "replay", "--id", &letters[0]]);
    assert!(ok, "{text}");
    let landed: Vec<String> = [
        rows(&world, ids[0]).await,
        rows(&world, ids[1]).await,
        rows(&world, ids[3]).await,
    ]
    .into();
    assert_eq!(landed, ["1", "0", "1"]);
    assert_eq!(world.length(QUEUE).await, Some(1));

    // A rejected event is replayed on request only, once its project exists.
    let project = "22222222-2222-2222-2222-222222222222";
    let mut worker = world.worker("w1", &[QUICK]);
    world
        .add(&[
            ("project_id", project),
            ("distinct_id", "d"),
            ("event_name", "early"),
        ])
        .await;
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let (ok, text) = run(&["dlq", "list", "--rejected", "--reason", "unknown_project"]);
    assert!(ok && text.contains("1 of 1 in events:rejected"), "{text}");
    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{project}', 'late')"
        ))
        .await;
    let (ok, text) = run(&["dlq", "replay", "--rejected", "--project", project]);
    assert!(ok && text.contains("1 of 1 left the queue"), "{text}");
    assert_eq!(
        world
            .ch("SELECT count() FROM events WHERE event_name = 'early'")
            .await,
        "1"
    );
    assert_eq!(world.length(REJECTED).await, Some(0));
}

#[tokio::test]
async fn rejects_that_redis_does_not_take_yet_leave_every_row_with_its_own_person() {
    let world = World::start().await;
    world
        .ch("ALTER TABLE events ADD CONSTRAINT no_poison CHECK event_name != 'poison'")
        .await;
    let worker = world.worker("w1", &[]);
    world.event("first", &[]).await;
    world.settled(SOON).await;
    worker.signal(nix::sys::signal::Signal::SIGSTOP);
    world.event("poisoned", &[("event_name", "poison")]).await;
    for n in 0..20 {
        world.event(&format!("d{n}"), &[]).await;
    }
    // Redis is full: it goes on handing out entries and takes none.
    ask::<()>(&world, "CONFIG", &["SET", "maxmemory", "1"]).await;
    worker.signal(nix::sys::signal::Signal::SIGCONT);
    let landed = "SELECT count() FROM events";
    eventually("the rows land", SOON, async || world.ch(landed).await == "21").await;
    eventually("Redis refuses the reject", SOON, async || {
        worker.log().contains("store is away")
    })
    .await;
    assert_ne!(
        world.unsettled().await,
        Some(0),
        "nothing is acknowledged before its reject is kept"
    );
    ask::<()>(&world, "CONFIG", &["SET", "maxmemory", "0"]).await;
    world.settled(SOON).await;
    assert_eq!(world.length(REJECTED).await, Some(1));
    assert_eq!(world.ch(landed).await, "21");
    let wrong = world
        .ch("SELECT uniqExact(person_id) = uniqExact(distinct_id) FROM events")
        .await;
    assert_eq!(wrong, "1", "each distinct id has one person, and no two the same");
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}
