//! Replays: late, beside others, again after a crash, and stopped while a store fails.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::support::letters::{QUICK, event_data, letter, rows};
use crate::support::{QUEUE, REJECTED, SOON, STATUS, STREAM, Worker, World, ask, entries, eventually};

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
        ("LOG_LEVEL", "info,qurvo_processor::replay=debug"),
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
        let (_, status) = world.run(&STATUS, &[]);
        assert!(status.contains("circuit"), "{status}");
        eventually("its time is over", SOON, async || !open().await).await;
    }
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(Duration::from_mins(1)).await;
    assert_eq!(rows(&world, id).await, "1");
    let left: u64 = ask(&world, "EXISTS", &["dlq:replay:circuit", "dlq:replay:failures"]).await;
    assert_eq!(left, 0, "a success clears both");
}
