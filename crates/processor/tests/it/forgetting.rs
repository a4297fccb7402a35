//! What is old and settled about merges goes from PostgreSQL's side tables; what anything may still need stays.

use std::time::{Duration, Instant};

use qurvo_processor::config::RedisConfig;
use qurvo_processor::identity::upkeep::forget::Forgetter;
use qurvo_processor::runtime::lock::Lock;
use qurvo_processor::stores::{Postgres, Redis};
use tokio_util::sync::CancellationToken;

use crate::support::{PROJECT, SOON, World, eventually};
use crate::truth::agree_after_traffic;

/// What lies further back than the memory of the tests, which is a year.
const YEAR: (&str, &str) = ("PROCESSOR_MERGE_MEMORY_DAYS", "365");
const FOR_EVER: (&str, &str) = ("PROCESSOR_MERGE_MEMORY_DAYS", "0");

/// One go of forgetting.
async fn forget(world: &World, days: Option<i32>) {
    let postgres = Postgres::new(&world.stack.database_url().unwrap().parse().unwrap()).unwrap();
    let redis = Redis::new(&RedisConfig::from_url(&world.stack.redis_url().unwrap()).unwrap());
    let lock = Lock::acquire(&redis, "a:lock", SOON).await.unwrap().unwrap();
    let mut forgetter = Forgetter::new(postgres, days);
    forgetter.step(&lock, &CancellationToken::new()).await.unwrap();
    lock.release().await.unwrap();
}

async fn left(world: &World, column: &str, table: &str) -> Vec<String> {
    let sql = format!("SELECT {column} FROM {table} ORDER BY 1");
    world.pg(&sql).await
}

/// Everything that is noted of moves and merges happened two years ago.
async fn let_two_years_pass(world: &World) {
    world
        .pg(
            "UPDATE processor_person_overrides SET version = sign(version) * (abs(version) - 63072000000000);
             UPDATE processor_person_redirects SET merged_at = merged_at - interval '730 days';
             UPDATE processor_merges SET merged_at = merged_at - interval '730 days'",
        )
        .await;
}

async fn forgotten(world: &World) {
    eventually("everything old is forgotten", SOON, async || {
        let mut rows = Vec::new();
        for table in ["person_overrides", "person_redirects", "merges"] {
            rows.extend(left(world, "count(*)", &format!("processor_{table}")).await);
        }
        rows == ["0"; 3]
    })
    .await;
}

/// A person for each letter, and a mapping to it of the id of that name.
const PERSONS: &str = "
    INSERT INTO persons (id, project_id)
    SELECT md5(name)::uuid, '11111111-1111-1111-1111-111111111111' FROM unnest(string_to_array('a b c d e f g', ' ')) name;
    INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
    SELECT project_id, id, name FROM persons JOIN unnest(string_to_array('a b c d e f g', ' ')) name ON md5(name)::uuid = id";

#[tokio::test]
async fn only_what_is_old_and_settled_of_moves_is_forgotten() {
    let world = World::start().await;
    world.pg(PERSONS).await;
    // Of a the others were told, and of b nobody had to be.
    world
        .pg(&format!(
            "INSERT INTO processor_person_overrides (project_id, distinct_id, person_id, version, published)
             SELECT '{PROJECT}', id, md5(person)::uuid,
                    sign * (extract(epoch FROM now() - age * interval '1 day') * 1000000)::bigint, published
             FROM (VALUES ('a', 'a', 1, 366, true), ('b', 'b', -1, 366, true),
                          ('young', 'a', 1, 364, true), ('c', 'c', -1, 364, true), ('d', 'd', 1, 364, true),
                          ('e', 'e', 1, 366, false),
                          ('f', 'a', 1, 366, true),
                          ('unmapped', 'a', 1, 366, true),
                          ('g', 'g', 1, 366, true)) AS o (id, person, sign, age, published);
             INSERT INTO processor_person_redirects (project_id, from_person, into_person, unfinished)
             VALUES ('{PROJECT}', md5('g')::uuid, md5('a')::uuid, true)"
        ))
        .await;
    let kept = ["c", "d", "e", "f", "g", "unmapped", "young"];
    forget(&world, None).await;
    assert_eq!(
        left(&world, "distinct_id", "processor_person_overrides")
            .await
            .len(),
        9
    );
    forget(&world, Some(365)).await;
    assert_eq!(
        left(&world, "distinct_id", "processor_person_overrides").await,
        kept
    );
}

#[tokio::test]
async fn only_finished_merges_that_are_old_are_forgotten() {
    let world = World::start().await;
    // Merged 366 days ago: o; u, which is unfinished; a, which was merged again 364 days ago; then y, 364 days ago.
    world
        .pg(&format!(
            "INSERT INTO processor_person_redirects (project_id, from_person, into_person, merged_at, unfinished)
             SELECT '{PROJECT}', md5(name)::uuid, md5('s')::uuid, now() - age * interval '1 day', name = 'u'
             FROM (VALUES ('o', 366), ('u', 366), ('a', 364), ('y', 364)) AS r (name, age);
             INSERT INTO processor_merges
                 (project_id, from_person, into_person, event_id, anonymous_id, distinct_id, stream_id, consumer, merged_at)
             SELECT '{PROJECT}', md5(name)::uuid, md5('s')::uuid, md5('')::uuid, name || age, 's', '', '',
                    now() - age * interval '1 day'
             FROM (VALUES ('o', 366), ('u', 366), ('a', 366), ('a', 364), ('y', 364)) AS r (name, age)"
        ))
        .await;
    forget(&world, None).await;
    assert_eq!(left(&world, "anonymous_id", "processor_merges").await.len(), 5);
    forget(&world, Some(365)).await;
    assert_eq!(
        left(&world, "anonymous_id", "processor_merges").await,
        ["a364", "u366", "y364"]
    );
    let redirects = "SELECT count(*) FROM processor_person_redirects
                     WHERE from_person IN (md5('a')::uuid, md5('u')::uuid, md5('y')::uuid)";
    assert_eq!(world.pg(redirects).await, ["3"]);
    assert_eq!(
        left(&world, "count(*)", "processor_person_redirects").await,
        ["3"]
    );
}

/// So many ids, all old; every tenth has no mapping, every hundredth merge is unfinished.
async fn very_many(world: &World, count: usize) {
    world
        .pg(&format!(
            "INSERT INTO persons (id, project_id) VALUES (md5('s')::uuid, '{PROJECT}');
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
             SELECT '{PROJECT}', md5('s')::uuid, n::text FROM generate_series(1, {count}) n WHERE n % 10 > 0;
             INSERT INTO processor_person_overrides (project_id, distinct_id, person_id, version, published)
             SELECT '{PROJECT}', n, md5('s')::uuid, n * (n % 2 * 2 - 1), true FROM generate_series(1, {count}) n;
             INSERT INTO processor_person_redirects (project_id, from_person, into_person, merged_at, unfinished)
             SELECT '{PROJECT}', md5(n::text)::uuid, md5('s')::uuid, now() - interval '800 days', n % 100 = 0
             FROM generate_series(1, {count}) n;
             INSERT INTO processor_merges
                 (project_id, from_person, into_person, event_id, anonymous_id, distinct_id, stream_id, consumer, merged_at)
             SELECT '{PROJECT}', md5(n::text)::uuid, md5('s')::uuid, md5('')::uuid, n, 's', '', '',
                    now() - interval '800 days'
             FROM generate_series(1, {count}) n"
        ))
        .await;
}

#[tokio::test]
async fn what_stays_is_in_nobodys_way_however_much_there_is() {
    let world = World::start().await;
    very_many(&world, 9_000).await;
    forget(&world, Some(365)).await;
    for (table, rows) in [
        ("person_overrides", "900"),
        ("person_redirects", "90"),
        ("merges", "90"),
    ] {
        let left = left(&world, "count(*)", &format!("processor_{table}")).await;
        assert_eq!(left, [rows], "{table}");
    }
}

#[tokio::test]
async fn forgetting_waits_for_nobody() {
    let world = World::start().await;
    very_many(&world, 100).await;
    let somebody = world.pg_client().await;
    somebody
        .batch_execute(
            "BEGIN;
             SELECT FROM processor_person_overrides WHERE distinct_id = '7' FOR UPDATE;
             SELECT FROM processor_person_redirects WHERE from_person = md5('7')::uuid FOR UPDATE",
        )
        .await
        .unwrap();
    let began = Instant::now();
    forget(&world, Some(365)).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    for (table, rows) in [
        ("person_overrides", "11"),
        ("person_redirects", "2"),
        ("merges", "2"),
    ] {
        let left = left(&world, "count(*)", &format!("processor_{table}")).await;
        assert_eq!(
            left,
            [rows],
            "{table}: what is locked stays with what belongs to it"
        );
    }
    somebody.batch_execute("COMMIT").await.unwrap();
    forget(&world, Some(365)).await;
    assert_eq!(
        left(&world, "count(*)", "processor_person_overrides").await,
        ["10"]
    );
    assert_eq!(left(&world, "count(*)", "processor_merges").await, ["1"]);
}

/// An event of so many minutes after 2026-11-01.
async fn at(world: &World, minute: u32, who: &str, fields: &[(&str, &str)]) {
    let time = format!("2026-11-01T00:{minute:02}:00.000Z");
    let time = [("timestamp", time.as_str())];
    world.event(who, &[&time, fields].concat()).await;
    world.settled(SOON).await;
}

async fn properties(world: &World, who: &str) -> String {
    let sql = format!(
        "SELECT p.properties::text FROM persons p JOIN person_distinct_ids m ON m.person_id = p.id
         WHERE m.distinct_id = '{who}'"
    );
    world.pg(&sql).await.concat()
}

#[tokio::test]
async fn a_write_from_before_a_merge_that_is_forgotten_counts_by_its_time() {
    for (memory, plan) in [(FOR_EVER, "pro"), (YEAR, "free")] {
        let world = World::start().await;
        let mut worker = world.worker("w1", &[memory]);
        at(&world, 10, "user", &[("user_properties", r#"{"plan":"pro"}"#)]).await;
        at(&world, 20, "anon", &[]).await;
        let identifies = [("event_name", "$identify"), ("anonymous_id", "anon")];
        at(&world, 30, "user", &identifies).await;
        worker.terminate();
        worker.ended(SOON).await;
        let_two_years_pass(&world).await;
        let _worker = world.worker("w2", &[memory]);
        if memory == YEAR {
            forgotten(&world).await;
        }
        // The merge decided for the user's value, whatever the anonymous id wrote before it.
        at(
            &world,
            25,
            "anon",
            &[("user_properties", r#"{"plan":"free","new":1}"#)],
        )
        .await;
        let expected = format!(r#"{{"new": 1, "plan": "{plan}"}}"#);
        assert_eq!(properties(&world, "user").await, expected, "{memory:?}");
        let (ok, said) = world.run(&["person", "audit"], &[]);
        assert!(ok, "{said}");
    }
}

#[tokio::test]
async fn a_merge_of_a_forgotten_id_is_published_above_what_clickhouse_holds() {
    let world = World::start().await;
    let always = ("PROCESSOR_MERGE_POLICY", "always");
    let mut worker = world.worker("w1", &[YEAR, always]);
    for id in ["anon", "first", "second"] {
        world.event(id, &[]).await;
    }
    world.identify("first", "anon").await;
    world.settled(SOON).await;
    // The clock was fast once.
    world
        .ch("INSERT INTO person_distinct_id_overrides
             SELECT project_id, distinct_id, person_id, version + 86400000000 FROM person_distinct_id_overrides")
        .await;
    worker.terminate();
    worker.ended(SOON).await;
    let_two_years_pass(&world).await;
    let _worker = world.worker("w2", &[YEAR, always]);
    forgotten(&world).await;
    world.identify("second", "first").await;
    world.settled(SOON).await;
    for id in ["anon", "first"] {
        assert_eq!(
            world.persons_of(id).await,
            world.persons_of("second").await,
            "{id}"
        );
    }
    let (ok, said) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{said}");
}

#[tokio::test]
async fn a_forgotten_id_whose_person_is_deleted_is_attached_with_an_override() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[YEAR]);
    world.event("anon", &[]).await;
    world.identify("first", "anon").await;
    world.settled(SOON).await;
    worker.terminate();
    worker.ended(SOON).await;
    let_two_years_pass(&world).await;
    let _worker = world.worker("w2", &[YEAR]);
    forgotten(&world).await;
    world.pg("DELETE FROM persons").await;
    world.forget_person_keys().await;
    world.identify("second", "anon").await;
    world.settled(SOON).await;
    assert_eq!(
        world
            .ch("SELECT uniqExact(version) FROM person_distinct_id_overrides")
            .await,
        "2"
    );
    agree_after_traffic(&world, &["anon", "first", "second"], SOON).await;
    assert_eq!(world.persons_of("anon").await, world.persons_of("second").await);
}
