//! Persons in bulk, as the worker would have left them: persons, mappings and keys in Redis. A tenth of them have taken
//! in another one, with its redirect, its override and its merge.

use std::time::Instant;

use crate::load::{persons_of, project};
use crate::world::World;

/// Persons in one step.
const STEP: u64 = 500_000;
/// Events that each person has in the warehouse, where that is asked for.
const EVENTS_EACH: u64 = 2;

/// The known persons of all projects.
pub(crate) async fn persons(world: &World, persons: u64, projects: usize) {
    let began = Instant::now();
    for n in 0..projects {
        let count = persons_of(persons, n);
        for from in (0..count).step_by(STEP as usize) {
            let to = (from + STEP).min(count) - 1;
            in_postgres(world, n, from, to).await;
            keys(world, n, from, to).await;
        }
        if count > 0 {
            overrides(world, n, count).await;
        }
    }
    world.postgres.batch_execute("VACUUM ANALYZE").await.unwrap();
    println!("  {persons} persons after {:.0} s", began.elapsed().as_secs_f64());
}

/// The id of a person in PostgreSQL's and in ClickHouse's words.
fn person(n: usize) -> [String; 2] {
    [
        format!("md5('person {n} ' || n)::uuid"),
        format!("toUUID(UUIDNumToString(MD5('person {n} ' || toString(n))))"),
    ]
}

async fn in_postgres(world: &World, n: usize, from: u64, to: u64) {
    let (project, [person, _]) = (project(n), person(n));
    let (first, last) = (from.div_ceil(10), to / 10);
    let sql = format!(
        r#"BEGIN;
        INSERT INTO persons (id, project_id, properties)
        SELECT {person}, '{project}', '{{"plan": "pro"}}' FROM generate_series({from}, {to}) n;
        INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
        SELECT '{project}', {person}, 'visitor-' || n FROM generate_series({from}, {to}) n;
        INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
        SELECT '{project}', {person}, 'before-' || n FROM generate_series({first}, {last}) n;
        INSERT INTO processor_person_overrides (project_id, distinct_id, person_id, version, published)
        SELECT '{project}', 'before-' || n, {person}, 1000000 + n, true FROM generate_series({first}, {last}) n;
        INSERT INTO processor_person_redirects (project_id, from_person, into_person)
        SELECT '{project}', md5('before {n} ' || n)::uuid, {person} FROM generate_series({first}, {last}) n;
        INSERT INTO processor_merges
            (project_id, from_person, into_person, event_id, anonymous_id, distinct_id, stream_id, consumer)
        SELECT '{project}', md5('before {n} ' || n)::uuid, {person}, gen_random_uuid(), 'before-' || n,
            'visitor-' || n, '1-0', 'bench' FROM generate_series({first}, {last}) n;
        COMMIT"#
    );
    world.postgres.batch_execute(&sql).await.unwrap();
}

async fn keys(world: &World, n: usize, from: u64, to: u64) {
    let [_, person] = person(n);
    let count = to + 1 - from;
    let ids = world
        .ask(&format!(
            "SELECT {person} FROM (SELECT number AS n FROM numbers({from}, {count})) ORDER BY n"
        ))
        .await;
    let (ids, project): (Vec<&str>, _) = (ids.lines().collect(), project(n));
    for (chunk, ids) in ids.chunks(10_000).enumerate() {
        let mut pipeline = redis::pipe();
        for (n, id) in ids.iter().enumerate() {
            let key = format!("person:{project}:visitor-{}", from + (chunk * 10_000 + n) as u64);
            pipeline.set_ex(key, *id, 7_776_000).ignore();
        }
        pipeline
            .query_async::<()>(&mut world.redis.clone())
            .await
            .unwrap();
    }
}

async fn overrides(world: &World, n: usize, count: u64) {
    let (project, [_, person]) = (project(n), person(n));
    let sql = format!(
        "INSERT INTO person_distinct_id_overrides
         SELECT '{project}', 'before-' || toString(n), {person}, 1000000 + n
         FROM (SELECT number AS n FROM numbers({}))",
        (count - 1) / 10 + 1
    );
    world.ask(&sql).await;
}

/// Events of all persons of the first project, within the last sixty days.
pub(crate) async fn events(world: &World, persons: u64) {
    let (project, [_, person]) = (project(0), person(0));
    let rows = persons * EVENTS_EACH;
    for from in (0..rows).step_by(STEP as usize) {
        let sql = format!(
            r#"INSERT INTO events (event_id, project_id, event_name, distinct_id, person_id, country, timestamp, user_properties)
            SELECT generateUUIDv4(), '{project}', ['$pageview', 'click', 'buy'][1 + number % 3],
                'visitor-' || toString(n), {person}, ['CH', 'DE', ''][1 + n % 3],
                now64(3) - toIntervalSecond(cityHash64(number) % (60 * 86400)),
                if(number % 10 = 0, '{{"plan":"pro"}}', '{{}}')
            FROM (SELECT number, intDiv(number, {EVENTS_EACH}) AS n FROM numbers({from}, {}))"#,
            STEP.min(rows - from)
        );
        world.ask(&sql).await;
    }
}
