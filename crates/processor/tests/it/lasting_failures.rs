//! What fails every time although the stores work: it ends alone in `events:rejected`, and everything else lands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use crate::lying::{About, Answer, Liar, Lie};
use crate::support::letters::QUICK;
use crate::support::{PROJECT, QUEUE, REJECTED, SOON, World, entries, eventually};

/// Longest that a healthy event waits for one that fails every time.
const BOUND: Duration = Duration::from_secs(20);
/// Longest until an event that fails every time is rejected.
const FOR_GOOD: Duration = Duration::from_mins(2);

/// Event ids in `events:rejected`, each with its reason, the store's words, and the number of attempts.
async fn rejected(world: &World) -> BTreeMap<Uuid, (String, String, u32)> {
    let entries = entries(world, REJECTED).await;
    let of = entries.iter().map(|entry| {
        let data: serde_json::Value = serde_json::from_str(&entry.get::<String>("data").unwrap()).unwrap();
        let text = |name| entry.get::<String>(name).unwrap();
        (
            data["event_id"].as_str().unwrap().parse().unwrap(),
            (text("reason"), text("error"), text("attempts").parse().unwrap()),
        )
    });
    of.collect()
}

/// Rows of these events.
pub(crate) async fn landed(world: &World, ids: &BTreeSet<Uuid>) -> usize {
    let stored = world.ch("SELECT DISTINCT event_id FROM events").await;
    let stored: BTreeSet<Uuid> = stored.lines().map(|line| line.parse().unwrap()).collect();
    stored.intersection(ids).count()
}

/// Everything fine lands within the bound, and the events at fault are rejected alone, with what the store said.
async fn ends_alone(world: &World, fine: &BTreeSet<Uuid>, at_fault: &BTreeSet<Uuid>, words: &str) {
    eventually("every healthy event has landed", BOUND, async || {
        landed(world, fine).await == fine.len()
    })
    .await;
    let mut fine = fine.clone();
    eventually("the events at fault are rejected", FOR_GOOD, async || {
        // What fails is judged by what the stores take at the same time.
        let writes = format!(r#"{{"n":{}}}"#, fine.len());
        fine.insert(
            world
                .event("steady", &[("user_properties", writes.as_str())])
                .await,
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
        rejected(world).await.len() >= at_fault.len()
    })
    .await;
    world.settled(SOON).await;
    world.holds_exactly(&fine).await;
    let rejected = rejected(world).await;
    assert_eq!(rejected.keys().copied().collect::<BTreeSet<_>>(), *at_fault);
    for (reason, error, attempts) in rejected.values() {
        assert_eq!(reason, "cannot_be_settled");
        assert!(error.contains(words), "{error}");
        assert!(*attempts > 5, "{attempts} attempts");
    }
}

pub(crate) async fn refuse_one_person(world: &World) {
    refuse_one_person_as(world, "P0001").await;
}

/// A trigger of the platform's refuses a person who has the property `poison`.
pub(crate) async fn refuse_one_person_as(world: &World, code: &str) {
    let sql = "
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW.properties ? 'poison' THEN RAISE EXCEPTION 'no poison here' USING ERRCODE = '<code>'; END IF;
          RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON persons FOR EACH ROW EXECUTE FUNCTION refuse()";
    world.pg(&sql.replace("<code>", code)).await;
}

pub(crate) const POISON: [(&str, &str); 1] = [("user_properties", r#"{"poison":1}"#)];

#[tokio::test]
async fn an_event_whose_person_a_trigger_of_the_platform_refuses_ends_alone() {
    let world = World::start().await;
    refuse_one_person(&world).await;
    let mut fine = world.load(200, 20).await;
    let at_fault = BTreeSet::from([world.event("bad", &POISON).await]);
    fine.extend(world.load(200, 20).await);
    let _worker = world.worker("w1", &[QUICK]);
    ends_alone(&world, &fine, &at_fault, "no poison here").await;
}

#[tokio::test]
async fn a_row_that_the_engine_fails_on_every_time_ends_alone() {
    let world = World::start().await;
    // No code of data: it could as well be the engine's own trouble.
    world
        .ch("ALTER TABLE events ADD CONSTRAINT broken CHECK throwIf(event_name = 'bad') = 0")
        .await;
    let mut fine = world.load(200, 20).await;
    let mut at_fault = BTreeSet::new();
    for _ in 0..2 {
        at_fault.insert(world.event("d", &[("event_name", "bad")]).await);
        fine.extend(world.load(100, 20).await);
    }
    let _worker = world.worker("w1", &[QUICK]);
    ends_alone(&world, &fine, &at_fault, "throwIf").await;
}

#[tokio::test]
async fn an_event_that_fails_alone_waits_aside_until_neighbours_show_that_the_store_works() {
    let world = World::start().await;
    refuse_one_person(&world).await;
    let worker = world.worker("w1", &[QUICK]);
    let at_fault = BTreeSet::from([world.event("bad", &POISON).await]);
    eventually("it is set aside", SOON, async || {
        world.length(QUEUE).await == Some(1)
    })
    .await;
    eventually("reading goes on", SOON, async || {
        worker.log().contains("reading goes on")
    })
    .await;
    assert_eq!(
        world.length(REJECTED).await,
        Some(0),
        "nothing shows yet that the store works"
    );
    let mut fine = BTreeSet::new();
    eventually("it is rejected", FOR_GOOD, async || {
        let writes = format!(r#"{{"n":{}}}"#, fine.len());
        fine.insert(world.event("good", &[("user_properties", writes.as_str())]).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.length(REJECTED).await == Some(1)
    })
    .await;
    ends_alone(&world, &fine, &at_fault, "no poison here").await;
}

#[tokio::test]
async fn batches_of_nothing_but_failing_events_do_not_stand_in_the_way_for_ever() {
    let world = World::start().await;
    refuse_one_person(&world).await;
    let small = [
        ("PROCESSOR_BATCH_SIZE", "10"),
        ("PROCESSOR_MAX_BATCH_SIZE", "10"),
        QUICK,
    ];
    let mut at_fault = BTreeSet::new();
    for n in 0..20 {
        at_fault.insert(world.event(&format!("bad {n}"), &POISON).await);
    }
    let fine = world.load(100, 20).await;
    let _worker = world.worker("w1", &small);
    eventually("every healthy event has landed", FOR_GOOD, async || {
        landed(&world, &fine).await == fine.len()
    })
    .await;
    let mut more = BTreeSet::new();
    eventually("all are rejected", FOR_GOOD, async || {
        let writes = format!(r#"{{"n":{}}}"#, more.len());
        more.insert(world.event("good", &[("user_properties", writes.as_str())]).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.length(REJECTED).await == Some(20)
    })
    .await;
    more.extend(fine);
    ends_alone(&world, &more, &at_fault, "no poison here").await;
}

#[tokio::test]
async fn a_refusal_of_one_event_that_ends_lets_it_land_once() {
    let world = World::start().await;
    world
        .ch("ALTER TABLE events ADD CONSTRAINT broken CHECK throwIf(event_name = 'bad') = 0")
        .await;
    let mut sent = world.load(100, 20).await;
    let bad = world.event("d", &[("event_name", "bad")]).await;
    sent.extend(world.load(100, 20).await);
    let _worker = world.worker("w1", &[QUICK]);
    eventually("every healthy event has landed", BOUND, async || {
        landed(&world, &sent).await == sent.len()
    })
    .await;
    world.ch("ALTER TABLE events DROP CONSTRAINT broken").await;
    sent.insert(bad);
    world.settled(FOR_GOOD).await;
    world.holds_exactly(&sent).await;
    assert_eq!(world.length(REJECTED).await, Some(0));
}

#[tokio::test]
async fn a_foreign_key_of_the_platforms_own_is_at_fault_for_one_event_only() {
    let world = World::start().await;
    world
        .pg("CREATE TABLE plans (name text PRIMARY KEY);
             ALTER TABLE persons ADD COLUMN plan text GENERATED ALWAYS AS (properties ->> 'plan') STORED;
             ALTER TABLE persons ADD FOREIGN KEY (plan) REFERENCES plans (name);
             INSERT INTO plans VALUES ('free')")
        .await;
    let mut fine = world.load(100, 20).await;
    fine.insert(
        world
            .event("d", &[("user_properties", r#"{"plan":"free"}"#)])
            .await,
    );
    let bad = world
        .event("d", &[("user_properties", r#"{"plan":"none"}"#)])
        .await;
    let mut worker = world.worker("w1", &[QUICK]);
    world.settled(BOUND).await;
    assert!(worker.is_running());
    world.holds_exactly(&fine).await;
    let rejected = rejected(&world).await;
    assert_eq!(rejected.keys().copied().collect::<Vec<_>>(), [bad]);
    assert_eq!(rejected[&bad].0, "refused_by_postgresql");
}

#[tokio::test]
async fn an_anonymous_id_that_only_redis_knows_is_created_and_merged() {
    let world = World::start().await;
    let key = format!("person:{PROJECT}:k");
    let _: () = redis::cmd("SET")
        .arg(&key)
        .arg(Uuid::new_v4().to_string())
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    let mut sent = BTreeSet::from([world.event("k", &[]).await]);
    sent.insert(world.identify("u", "k").await);
    let _worker = world.worker("w1", &[QUICK]);
    world.settled(BOUND).await;
    world.holds_exactly(&sent).await;
    let [in_postgres, in_redis, in_rows] = world.persons_of("k").await;
    assert_eq!(in_postgres, world.persons_of("u").await[0]);
    assert!(in_postgres.is_some());
    assert_eq!((in_redis, in_rows), (in_postgres, in_postgres));
}

#[tokio::test]
async fn a_batch_of_sixty_month_boundaries_lands_in_several_inserts() {
    let world = World::start().await;
    let mut sent = BTreeSet::new();
    for n in 0..60 {
        let month = |n: i32| format!("{:04}-{:02}", 2010 + n / 12, n % 12 + 1);
        let last = jiff::civil::date((2010 + n / 6) as i16, (n % 6 * 2 + 1) as i8, 1).last_of_month();
        for time in [
            format!("{last}T23:59:59.999Z"),
            format!("{}-01T00:00:00.000Z", month(n * 2 + 1)),
        ] {
            sent.insert(world.event("d", &[("timestamp", time.as_str())]).await);
        }
    }
    // The table's expiry would remove them at once.
    world.ch("ALTER TABLE events REMOVE TTL").await;
    let worker = world.worker("w1", &[QUICK]);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert!(!worker.log().contains("store is away"), "{}", worker.log());
}

#[tokio::test]
async fn a_moved_id_that_clickhouse_never_takes_holds_up_no_other() {
    let world = World::start().await;
    world
        .ch("ALTER TABLE person_distinct_id_overrides ADD CONSTRAINT broken CHECK throwIf(distinct_id = 'd7') = 0")
        .await;
    world
        .pg(&format!(
            "INSERT INTO processor_person_overrides (project_id, distinct_id, person_id, version)
             SELECT '{PROJECT}', 'd' || n, gen_random_uuid(), 1000 FROM generate_series(1, 50) n"
        ))
        .await;
    let worker = world.worker("w1", &[]);
    eventually("all others are published", SOON, async || {
        let left = "SELECT distinct_id FROM processor_person_overrides WHERE NOT published";
        world.pg(left).await == ["d7"]
    })
    .await;
    eventually("the log names it", SOON, async || {
        worker.log().contains("\"distinct_id\":\"d7\"")
    })
    .await;
}

#[tokio::test]
async fn a_merge_that_postgres_never_finishes_holds_up_no_other() {
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO persons (id, project_id) SELECT gen_random_uuid(), '{PROJECT}' FROM generate_series(1, 4);
             CREATE TEMP TABLE p AS SELECT id, row_number() OVER (ORDER BY id) AS n FROM persons;
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
                 SELECT '{PROJECT}', id, 'd' || n FROM p;
             INSERT INTO processor_person_redirects (project_id, from_person, into_person, unfinished)
                 SELECT '{PROJECT}', a.id, b.id, true FROM p a JOIN p b ON b.n = a.n + 1 WHERE a.n IN (1, 3);
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN RAISE EXCEPTION 'never'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON person_distinct_ids FOR EACH ROW
                 WHEN (NEW.distinct_id = 'd1') EXECUTE FUNCTION refuse()"
        ))
        .await;
    let _worker = world.worker("w1", &[]);
    eventually("the other merge is finished", SOON, async || {
        let left = "SELECT count(*) FROM processor_person_redirects WHERE unfinished";
        world.pg(left).await == ["1"]
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_refused_for_want_of_a_right_ends_alone_and_the_worker_goes_on() {
    let world = World::start().await;
    refuse_one_person_as(&world, "42501").await;
    let mut worker = world.worker("w1", &[QUICK]);
    let at_fault = BTreeSet::from([world.event("bad", &POISON).await]);
    eventually("it is set aside", SOON, async || {
        world.length(QUEUE).await == Some(1)
    })
    .await;
    assert!(worker.is_running());
    let fine = world.load(100, 20).await;
    ends_alone(&world, &fine, &at_fault, "no poison here").await;
    assert!(worker.is_running());
}

#[tokio::test]
async fn rows_whose_answers_are_lost_are_there_once_although_they_are_tried_in_pieces() {
    let world = World::start().await;
    world.ch("SYSTEM STOP MERGES events").await;
    let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
    let lost = Lie::about(About::InsertsInto("events"), Answer::stranger(502, "bad gateway"));
    liar.tell(lost.after_the_engine().times(5));
    let sent = world.load(200, 20).await;
    let _worker = world.worker("w1", &[QUICK, ("CLICKHOUSE_URL", &liar.url)]);
    world.settled(FOR_GOOD).await;
    world.holds_exactly(&sent).await;
    assert!(liar.lied() >= 3, "{} answers were lost", liar.lied());
}
