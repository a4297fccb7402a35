//! PostgreSQL's word reaches the others, whoever else wrote to the stores: after traffic an audit finds nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use uuid::Uuid;

use crate::holding::Holding;
use crate::lying::{About, Answer, Liar, Lie};
use crate::support::{PROJECT, SOON, World, ask, eventually};

/// What a worker remembers of persons is looked up again after a second.
pub(crate) const CHECKS: (&str, &str) = ("PROCESSOR_PERSON_CHECK_SECONDS", "1");
/// Somebody whom no store has heard of.
pub(crate) const NOBODY: &str = "00000000-0000-0000-0000-00000000dead";
const SWEEP_LOCK: &str = "processor:sweep:lock";

/// Events of these ids are sent until an audit finds nothing.
pub(crate) async fn agree_after_traffic(world: &World, ids: &[&str], limit: Duration) -> BTreeSet<Uuid> {
    let (mut sent, mut said) = (BTreeSet::new(), String::new());
    let agreed = tokio::time::timeout(limit * 2, async {
        loop {
            for id in ids {
                sent.insert(world.event(id, &[]).await);
            }
            world.settled(limit).await;
            let (ok, text) = world.run(&["person", "audit"], &[]);
            said = text;
            if ok {
                break;
            }
        }
    });
    assert!(agreed.await.is_ok(), "{said}");
    for id in ids {
        let mapped = format!("SELECT count(*) FROM person_distinct_ids WHERE distinct_id = '{id}'");
        assert_eq!(world.pg(&mapped).await, ["1"], "{id} has a mapping");
    }
    sent
}

async fn delete_person_of(world: &World, id: &str) {
    world
        .pg(&format!(
            "DELETE FROM persons WHERE id = (SELECT person_id FROM person_distinct_ids WHERE distinct_id = '{id}')"
        ))
        .await;
}

/// Deletes as the platform does: begun again when PostgreSQL ends it for a deadlock.
pub(crate) async fn delete_some(world: &World, how_many: usize) {
    let client = world.pg_client().await;
    let some = format!(
        "DELETE FROM persons WHERE id IN (SELECT id FROM persons ORDER BY random() LIMIT {how_many})"
    );
    eventually("persons are deleted", SOON, async || {
        client.batch_execute(&some).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_person_that_the_platform_deletes_is_made_again_in_all_stores() {
    for instances in [1, 2] {
        let world = World::start().await;
        let workers: Vec<_> = (0..instances)
            .map(|n| world.worker(&format!("w{n}"), &[CHECKS]))
            .collect();
        let mut sent: BTreeSet<Uuid> = BTreeSet::new();
        for id in ["k", "u"] {
            for _each_instance in 0..instances * 3 {
                sent.insert(world.event(id, &[]).await);
                world.settled(SOON).await;
            }
        }
        sent.insert(world.identify("u", "k").await);
        world.settled(SOON).await;
        delete_person_of(&world, "u").await;
        sent.extend(agree_after_traffic(&world, &["k", "u"], SOON).await);
        world.holds_exactly(&sent).await;
        // Once more, and the merged id comes back first.
        sent.insert(world.identify("u", "k").await);
        world.settled(SOON).await;
        delete_person_of(&world, "u").await;
        sent.insert(world.event("k", &[("user_properties", r#"{"a":1}"#)]).await);
        sent.extend(agree_after_traffic(&world, &["k", "u"], SOON).await);
        world.holds_exactly(&sent).await;
        drop(workers);
    }
}

#[tokio::test]
async fn persons_deleted_under_load_end_in_an_audit_without_findings() {
    const PERSONS: usize = 30;
    let world = World::start().await;
    let small = [
        CHECKS,
        ("PROCESSOR_BATCH_SIZE", "100"),
        ("PROCESSOR_READ_COUNT", "100"),
    ];
    let _workers = [world.worker("w1", &small), world.worker("w2", &small)];
    let mut sent = BTreeSet::new();
    for round in 0..16 {
        sent.extend(world.load(300, PERSONS).await);
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..300))).await;
        delete_some(&world, 8).await;
        if round % 4 == 3 {
            // Made for quiet hours; it does no harm in others.
            let (_, text) = world.run(&["person", "audit", "--repair"], &[]);
            assert!(text.contains("compared"), "{text}");
        }
    }
    world.settled(Duration::from_mins(1)).await;
    // The merged ids come back before those that they were merged into.
    delete_some(&world, usize::MAX >> 1).await;
    let ids: Vec<String> = ["anon", "user"]
        .iter()
        .flat_map(|kind| (0..PERSONS).map(move |n| format!("{kind}-{n}")))
        .collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    sent.extend(agree_after_traffic(&world, &ids, Duration::from_mins(1)).await);
    world.holds_exactly(&sent).await;
    assert_eq!(world.length("events:rejected").await, Some(0));
}

#[tokio::test]
async fn a_project_that_the_platform_deletes_takes_nothing_of_the_others_with_it() {
    let other = "22222222-2222-2222-2222-222222222222";
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{other}', 'other')"
        ))
        .await;
    let _worker = world.worker("w1", &[CHECKS]);
    let in_other = async |id: &str| {
        let event_id = Uuid::new_v4().to_string();
        let fields = [
            ("event_id", event_id.as_str()),
            ("project_id", other),
            ("distinct_id", id),
            ("event_name", "test"),
        ];
        world.add(&fields).await;
    };
    for id in ["k", "u"] {
        world.event(id, &[]).await;
        in_other(id).await;
    }
    world.identify("u", "k").await;
    world.settled(SOON).await;
    world
        .pg(&format!("DELETE FROM projects WHERE id = '{other}'"))
        .await;
    eventually("events of the project are refused", SOON, async || {
        in_other("k").await;
        world.event("k", &[]).await;
        world.settled(SOON).await;
        world.length("events:rejected").await > Some(0)
    })
    .await;
    agree_after_traffic(&world, &["k", "u"], SOON).await;
    let of_other = format!("SELECT count(*) FROM person_distinct_ids WHERE project_id = '{other}'");
    assert_eq!(world.pg(&of_other).await, ["0"]);
}

#[tokio::test]
async fn person_keys_that_name_somebody_else_or_nobody_are_mended_by_the_next_event() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    let known = ["known", "known-text", "known-list", "known-gone"];
    for id in known {
        world.event(id, &[]).await;
    }
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    for of in ["known", "new"] {
        let key = |what: &str| format!("person:{PROJECT}:{of}{what}");
        ask::<redis::Value>(&world, "SET", &[&key(""), NOBODY]).await;
        ask::<redis::Value>(&world, "SET", &[&key("-text"), "another service's"]).await;
        ask::<redis::Value>(&world, "DEL", &[&key("-list")]).await;
        ask::<redis::Value>(&world, "RPUSH", &[&key("-list"), "x"]).await;
        ask::<redis::Value>(&world, "DEL", &[&key("-gone")]).await;
    }
    let _worker = world.worker("w1", &[]);
    let ids = [
        "known",
        "known-text",
        "known-list",
        "known-gone",
        "new",
        "new-text",
        "new-list",
        "new-gone",
    ];
    for id in ids {
        world.event(id, &[]).await;
    }
    world.settled(SOON).await;
    for id in ids {
        let [in_postgres, in_redis, in_clickhouse] = world.persons_of(id).await;
        assert!(
            in_postgres.is_some() && in_postgres == in_redis && in_postgres == in_clickhouse,
            "{id}: {in_postgres:?} {in_redis:?} {in_clickhouse:?}"
        );
    }
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}

#[tokio::test]
async fn a_wrong_person_key_is_found_by_a_worker_that_remembers_the_person() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[CHECKS]);
    world.event("k", &[]).await;
    world.settled(SOON).await;
    ask::<redis::Value>(&world, "SET", &[&format!("person:{PROJECT}:k"), NOBODY]).await;
    agree_after_traffic(&world, &["k"], SOON).await;
    ask::<redis::Value>(&world, "DEL", &[&format!("person:{PROJECT}:k")]).await;
    eventually("the key is there again", SOON, async || {
        world.event("k", &[]).await;
        world.settled(SOON).await;
        let [in_postgres, in_redis, _] = world.persons_of("k").await;
        in_postgres == in_redis
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_lost_and_set_late_by_a_batch_that_waited_does_not_stick() {
    let world = World::start().await;
    let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
    let broken = Answer::stranger(502, "away");
    let through = [("CLICKHOUSE_URL", liar.url.as_str())];
    let mut first = world.worker("w1", &through);
    world.event("warm", &[]).await;
    world.settled(SOON).await;
    liar.tell(Lie::about(About::InsertsInto("events"), broken));
    world.event("k", &[]).await;
    eventually("the batch waits for ClickHouse", SOON, async || {
        liar.lied() > 0
            && world
                .pg("SELECT 1 FROM person_distinct_ids WHERE distinct_id = 'k'")
                .await
                == ["1"]
    })
    .await;
    let resolved = std::time::Instant::now();
    // The first is in the middle of its batch and reads nothing; the second gets the merge.
    first.signal(nix::sys::signal::Signal::SIGSTOP);
    eventually("its last read has ended", SOON, async || {
        let clients: String = redis::cmd("INFO")
            .arg("clients")
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        clients.contains("blocked_clients:0")
    })
    .await;
    let second = world.worker("w2", &[("PROCESSOR_CLAIM_IDLE_MS", "600000")]);
    eventually("the second reads", SOON, async || second.is_beating()).await;
    world.event("u", &[]).await;
    world.identify("u", "k").await;
    eventually("the merge is published", SOON, async || {
        world
            .pg("SELECT published FROM processor_person_overrides WHERE distinct_id = 'k'")
            .await
            == ["t"]
    })
    .await;
    ask::<redis::Value>(&world, "DEL", &[&format!("person:{PROJECT}:k")]).await;
    liar.stop_lying();
    eventually("what the first has been told is old", SOON, async || {
        resolved.elapsed() > Duration::from_secs(2)
    })
    .await;
    first.signal(nix::sys::signal::Signal::SIGCONT);
    world.settled(SOON).await;
    assert!(first.is_running());
    let [in_postgres, in_redis, in_clickhouse] = world.persons_of("k").await;
    assert_eq!(in_postgres, in_clickhouse);
    assert!(
        in_redis.is_none() || in_redis == in_postgres,
        "{in_redis:?} {in_postgres:?}"
    );
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}

#[tokio::test]
async fn a_redelivered_identify_publishes_what_a_dead_instance_left_before_its_row() {
    for by_the_same_name in [true, false] {
        let world = World::start().await;
        let holding = Holding::before(
            world.stack.clickhouse().unwrap().port(),
            &["person_distinct_id_overrides"],
        )
        .await;
        let through = format!("http://{}", holding.address);
        let mut doomed = world.worker("w1", &[("CLICKHOUSE_URL", &through)]);
        let mut sent: BTreeSet<Uuid> = BTreeSet::new();
        for id in ["u", "a", "b"] {
            sent.insert(world.event(id, &[]).await);
        }
        world.settled(SOON).await;
        sent.insert(world.identify("a", "b").await);
        world.settled(SOON).await;
        // Nobody sweeps from now on.
        ask::<redis::Value>(&world, "SET", &[SWEEP_LOCK, "somebody's"]).await;
        holding.hold();
        sent.insert(world.identify("u2", "u").await);
        holding.caught().await;
        let left = "SELECT count(*) FROM processor_person_overrides WHERE NOT published";
        assert_ne!(world.pg(left).await, ["0"]);
        doomed.kill();
        drop(holding);
        ask::<redis::Value>(&world, "SET", &[SWEEP_LOCK, "somebody's"]).await;
        let _heir = world.worker(if by_the_same_name { "w1" } else { "w2" }, &[]);
        world.settled(SOON).await;
        assert_eq!(world.pg(left).await, ["0"], "{by_the_same_name}");
        let (ok, text) = world.run(&["person", "audit"], &[]);
        assert!(ok, "{text}");
        world.holds_exactly(&sent).await;
    }
}

#[tokio::test]
async fn an_override_from_a_clock_that_was_fast_is_found_and_mended() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    for id in ["k", "latent", "largest", "moves", "u"] {
        world.event(id, &[]).await;
    }
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let person = world.persons_of("latent").await[0].unwrap();
    let far = "toUInt64(toUnixTimestamp64Micro(now64(6) + INTERVAL 10 YEAR))";
    world
        .ch(&format!(
            "INSERT INTO person_distinct_id_overrides VALUES
             ('{PROJECT}', 'k', '{NOBODY}', {far}), ('{PROJECT}', 'latent', '{person}', {far}),
             ('{PROJECT}', 'largest', '{NOBODY}', 18446744073709551615), ('{PROJECT}', 'moves', '{NOBODY}', {far})"
        ))
        .await;
    // What moves is published above whatever is there.
    let mut worker = world.worker("w1", &[]);
    world.identify("u", "moves").await;
    world.settled(SOON).await;
    let of_user = world.persons_of("u").await[0];
    assert_eq!(world.persons_of("moves").await, [of_user; 3]);
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(!ok, "{text}");
    for id in ["\"k\"", "\"latent\"", "\"largest\""] {
        assert!(text.contains(id), "{id}: {text}");
    }
    let (ok, text) = world.run(&["person", "audit", "--repair"], &[]);
    assert!(ok, "{text}");
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
    // What is merged from now on counts.
    let _worker = world.worker("w1", &[]);
    for id in ["k", "latent", "largest"] {
        world.identify("u", id).await;
    }
    world.settled(SOON).await;
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}
