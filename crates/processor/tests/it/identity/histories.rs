//! Whole histories on the real worker and the real stores, with everything that can happen on the way: several
//! instances, `kill -9`, entries delivered again, clients that repeat requests, events that were offline for a while.
//!
//! Each history is a project of its own, and all of them share one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

use super::model::{Model, Said, Write};
use crate::support::{STREAM, Worker, World, eventually};

/// One event as it goes into the stream, perhaps more than once.
struct Sent {
    project: Uuid,
    event_id: Uuid,
    said: Said,
}

impl Sent {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let time = jiff::Timestamp::from_millisecond(self.said.time).unwrap();
        let name = if self.said.identifies {
            "$identify"
        } else {
            "visited"
        };
        vec![
            ("event_id", self.event_id.to_string()),
            ("project_id", self.project.to_string()),
            ("event_name", name.into()),
            ("distinct_id", self.said.who.clone()),
            ("anonymous_id", self.said.anonymous.clone().unwrap_or_default()),
            ("timestamp", format!("{time:.3}")),
            ("user_properties", user_properties(&self.said.writes)),
        ]
    }
}

/// In each of the spellings that SDKs have.
fn user_properties(writes: &[Write]) -> String {
    let mut root = serde_json::Map::new();
    for (n, write) in writes.iter().enumerate() {
        let inner = match write {
            Write::Set(key, value) if n % 2 == 0 => {
                root.insert(key.clone(), value.clone());
                continue;
            }
            Write::Set(key, value) => ("$set", json!({ key: value })),
            Write::Once(key, value) => ("$set_once", json!({ key: value })),
            Write::Unset(key) => ("$unset", json!([key])),
        };
        root.insert(inner.0.into(), inner.1);
    }
    Value::Object(root).to_string()
}

/// Who takes part, and who may become whom.
struct Cast {
    users: Vec<String>,
    /// Anonymous ids, each with the one user that may identify with it; anybody may when there is none.
    anonymous: Vec<(String, Option<String>)>,
}

impl Cast {
    fn peaceful() -> Self {
        let users: Vec<String> = (0..3).map(|n| format!("user-{n}")).collect();
        let anonymous = (0..6).map(|n| (format!("anonymous: {n}"), Some(users[n % 3].clone())));
        Self {
            anonymous: anonymous.collect(),
            users,
        }
    }

    /// One user with very many visits.
    fn crowded() -> Self {
        let users = vec!["user".to_owned()];
        let anonymous = (0..50).map(|n| (format!("anonymous: {n}"), Some(users[0].clone())));
        Self {
            anonymous: anonymous.collect(),
            users,
        }
    }

    fn quarrelling() -> Self {
        Self {
            users: (0..3).map(|n| format!("user-{n}")).collect(),
            anonymous: (0..2).map(|n| (format!("anonymous: {n}"), None)).collect(),
        }
    }
}

/// A history: events in the order in which they are sent. Places are filled in when they are.
fn history(random: &mut StdRng, project: Uuid, cast: &Cast, length: usize, identifies: usize) -> Vec<Sent> {
    let now = jiff::Timestamp::now().as_millisecond();
    let mut left = identifies;
    (0..length)
        .map(|n| {
            let identify = left > 0 && random.random_ratio(left as u32, (length - n) as u32);
            let (anonymous, owner) = cast.anonymous.choose(random).unwrap().clone();
            let (who, anonymous) = if identify {
                left -= 1;
                let user = owner.unwrap_or_else(|| cast.users.choose(random).unwrap().clone());
                (user, Some(anonymous))
            } else if random.random_bool(0.6) {
                (anonymous, None)
            } else {
                (cast.users.choose(random).unwrap().clone(), None)
            };
            // Most events come at once, some were offline for up to an hour.
            let late = if random.random_bool(0.2) { 3_600_000 } else { 1 };
            let time = now - random.random_range(0..late) - 1_000 + n as i64;
            let writes = if random.random_bool(0.5) {
                vec![write(random)]
            } else {
                Vec::new()
            };
            let said = Said {
                who,
                identifies: identify,
                anonymous,
                writes,
                time,
                place: (0, 0),
            };
            Sent {
                project,
                event_id: Uuid::new_v4(),
                said,
            }
        })
        .collect()
}

fn write(random: &mut StdRng) -> Write {
    let key = (*["plan", "it's", "🦔 \"k\""].choose(random).unwrap()).to_owned();
    let value = match random.random_range(0..4) {
        0 => json!(random.random_range(0..1000)),
        1 => json!("a \\ \"text\""),
        2 => json!({ "nested": [1, null, true] }),
        _ => Value::Null,
    };
    match random.random_range(0..10) {
        0..=1 => Write::Unset(key),
        2..=6 => Write::Once(key, value),
        _ => Write::Set(key, value),
    }
}

/// Sends histories mixed with each other, each in its order; the events with their places. Some are sent again later, as
/// clients do that got no answer: a second entry with the same event.
async fn send(world: &World, random: &mut StdRng, histories: Vec<Vec<Sent>>) -> Vec<Sent> {
    let mut waiting: Vec<_> = histories.into_iter().map(Vec::into_iter).collect();
    let mut sent: Vec<Sent> = Vec::new();
    while !waiting.is_empty() {
        let which = random.random_range(0..waiting.len());
        let next = if !sent.is_empty() && random.random_bool(0.05) {
            let again = sent.choose(random).unwrap();
            Some(Sent {
                project: again.project,
                event_id: again.event_id,
                said: again.said.clone(),
            })
        } else {
            waiting[which].next()
        };
        let Some(mut event) = next else {
            drop(waiting.swap_remove(which));
            continue;
        };
        let fields = event.fields();
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let place = world.add(&fields).await;
        let (ms, seq) = place.split_once('-').unwrap();
        event.said.place = (ms.parse().unwrap(), seq.parse().unwrap());
        // Never later than the arrival.
        event.said.time = event.said.time.min(event.said.place.0 as i64);
        sent.push(event);
        if random.random_bool(0.02) {
            tokio::time::sleep(Duration::from_millis(random.random_range(1..120))).await;
        }
    }
    sent
}

/// Gives some settled entries to the group once more, as if a dead consumer had held them.
async fn deliver_again(world: &World, random: &mut StdRng, sent: &[Sent]) {
    for event in sent.iter().filter(|_| random.random_bool(0.15)) {
        let (ms, seq) = event.said.place;
        let () = redis::cmd("XCLAIM")
            .arg(STREAM)
            .arg("processor-group")
            .arg("dead")
            .arg(0)
            .arg(format!("{ms}-{seq}"))
            .arg("IDLE")
            .arg(3_600_000)
            .arg("FORCE")
            .arg("JUSTID")
            .query_async::<redis::Value>(&mut world.redis.clone())
            .await
            .map(drop)
            .unwrap();
    }
}

/// What the stores say about a project.
struct Found {
    mappings: BTreeMap<String, Uuid>,
    properties: BTreeMap<Uuid, BTreeMap<String, Value>>,
}

/// Reads a project from all three stores, which must agree.
async fn found(world: &World, project: Uuid) -> Found {
    let sql = format!(
        "SELECT json_build_array(distinct_id, person_id) FROM person_distinct_ids WHERE project_id = '{project}'"
    );
    let rows = world.pg(&sql).await;
    let rows = rows
        .iter()
        .map(|row| serde_json::from_str::<(String, Uuid)>(row).unwrap());
    let mappings: BTreeMap<String, Uuid> = rows.collect();

    let sql = format!(
        "SELECT DISTINCT e.distinct_id, if(o.newest > 0, o.person, e.person_id)
         FROM events e LEFT JOIN (
             SELECT distinct_id, argMax(person_id, version) AS person, max(version) AS newest
             FROM person_distinct_id_overrides WHERE project_id = '{project}' GROUP BY distinct_id) o USING (distinct_id)
         WHERE e.project_id = '{project}' FORMAT JSONCompactEachRow"
    );
    for line in world.ch(&sql).await.lines() {
        let (id, person): (String, Uuid) = serde_json::from_str(line).unwrap();
        assert_eq!(
            mappings.get(&id),
            Some(&person),
            "{id:?} in ClickHouse and in PostgreSQL"
        );
    }
    for (id, person) in &mappings {
        let in_redis: Option<String> = redis::cmd("GET")
            .arg(format!("person:{project}:{id}"))
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        if let Some(in_redis) = in_redis {
            assert_eq!(in_redis, person.to_string(), "{id:?} in Redis and in PostgreSQL");
        }
    }
    let sql = format!("SELECT json_build_array(id, properties) FROM persons WHERE project_id = '{project}'");
    let rows = world.pg(&sql).await;
    let rows = rows.iter().map(|row| serde_json::from_str(row).unwrap());
    let properties: BTreeMap<Uuid, BTreeMap<String, Value>> = rows.collect();
    let living: BTreeSet<Uuid> = properties.keys().copied().collect();
    let mapped: BTreeSet<Uuid> = mappings.values().copied().collect();
    assert_eq!(
        living, mapped,
        "persons are exactly those that somebody is mapped to"
    );
    Found { mappings, properties }
}

fn model<'a>(project: Uuid, said: impl IntoIterator<Item = &'a Said>) -> Model {
    let mut model = Model::new(project, true);
    for said in said {
        model.take(said);
    }
    model
}

fn permutations(of: &[&Said]) -> Vec<Vec<Said>> {
    let [first, rest @ ..] = of else {
        return vec![Vec::new()];
    };
    let shorter = permutations(rest);
    let with_first = shorter.iter().flat_map(|order| {
        (0..=order.len()).map(|place| {
            let mut order = order.clone();
            order.insert(place, (*first).clone());
            order
        })
    });
    with_first.collect()
}

/// Whether some order of the `$identify`s explains who is who; everybody else's events may have come before or after.
fn is_explained(project: Uuid, said: &[&Said], found: &BTreeMap<String, Uuid>) -> bool {
    let (identifies, plain): (Vec<&Said>, Vec<&Said>) = said.iter().partition(|said| said.identifies);
    permutations(&identifies).iter().any(|order| {
        let last = model(project, order.iter().chain(plain.iter().copied()));
        last.mappings == *found || model(project, plain.iter().copied().chain(order)).mappings == *found
    })
}

type Properties = BTreeMap<Uuid, BTreeMap<String, Value>>;

/// The first property that is not as it should be, and what was said about it.
fn story(said: &[&Said], found: &Properties, expected: &Properties) -> String {
    let keys = expected.values().chain(found.values()).flat_map(BTreeMap::keys);
    let wrong = keys.flat_map(|key| expected.keys().map(move |person| (person, key)));
    let value = |of: &Properties, person: &Uuid, key: &str| of.get(person).and_then(|p| p.get(key)).cloned();
    let mut wrong = wrong.filter(|(person, key)| value(found, person, key) != value(expected, person, key));
    let Some((person, key)) = wrong.next() else {
        return "other persons".into();
    };
    let (is, should) = (value(found, person, key), value(expected, person, key));
    let mut story = format!("{key} of {person} is {is:?} instead of {should:?}:\n");
    for said in said {
        let writes: Vec<&Write> = said.writes.iter().filter(|write| write.key() == key).collect();
        if said.identifies || !writes.is_empty() {
            let Said {
                place,
                time,
                who,
                anonymous,
                ..
            } = said;
            story += &format!("{place:?} at {time}: {who} {anonymous:?} {writes:?}\n");
        }
    }
    story
}

const SMALL: [(&str, &str); 4] = [
    ("PROCESSOR_BATCH_SIZE", "20"),
    ("PROCESSOR_MAX_BATCH_SIZE", "60"),
    ("PROCESSOR_READ_COUNT", "30"),
    ("PROCESSOR_FLUSH_INTERVAL_MS", "100"),
];

/// Instances under random `kill -9` while `load` runs.
async fn under_fire<T>(
    world: &World,
    random: &mut StdRng,
    instances: usize,
    load: impl Future<Output = T>,
) -> (T, Vec<Worker>) {
    let start = |n: usize| world.worker(&format!("instance-{n}"), &SMALL);
    let mut workers: Vec<Worker> = (0..instances).map(start).collect();
    tokio::pin!(load);
    loop {
        let pause = Duration::from_millis(random.random_range(200..900));
        tokio::select! {
            outcome = &mut load => return (outcome, workers),
            () = tokio::time::sleep(pause) => {
                let which = random.random_range(0..instances);
                workers[which].kill();
                workers[which] = start(which);
            }
        }
    }
}

/// Every event is there; once with `FINAL`, and without it unless the client sent it twice: an instance that has just
/// started does not know what others were sent.
async fn lands_once(world: &World, sent: &[Sent]) {
    let mut times: BTreeMap<Uuid, usize> = BTreeMap::new();
    for event in sent {
        *times.entry(event.event_id).or_default() += 1;
    }
    let counts = world
        .ch("SELECT count(), uniqExact(event_id) FROM events FINAL")
        .await;
    if counts != format!("{0}\t{0}", times.len()) {
        let landed = world.ch("SELECT DISTINCT event_id FROM events").await;
        let landed: BTreeSet<Uuid> = landed.lines().map(|id| id.parse().unwrap()).collect();
        let missing: Vec<_> = sent
            .iter()
            .filter(|event| !landed.contains(&event.event_id))
            .collect();
        let missing: Vec<_> = missing.iter().map(|event| event.said.place).collect();
        let rejected: redis::streams::StreamRangeReply = redis::cmd("XRANGE")
            .arg("events:rejected")
            .arg("-")
            .arg("+")
            .arg("COUNT")
            .arg(3)
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        panic!(
            "{} sent, {counts} landed, missing {missing:?}; of the rejected: {rejected:#?}",
            times.len()
        );
    }
    let rows = world
        .ch("SELECT event_id, count() FROM events GROUP BY event_id FORMAT TSV")
        .await;
    for line in rows.lines() {
        let (id, rows) = line.split_once('\t').unwrap();
        let (id, rows): (Uuid, usize) = (id.parse().unwrap(), rows.parse().unwrap());
        assert!(
            rows == 1 || rows <= times[&id],
            "{rows} rows of {id}, sent {} times",
            times[&id]
        );
    }
}

async fn run(seed: u64, instances: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::start().await;
    let projects: Vec<Uuid> = (0..12).map(|_| Uuid::from_u128(random.random())).collect();
    for project in &projects {
        world
            .pg(&format!(
                "INSERT INTO projects (id, name) VALUES ('{project}', 'history')"
            ))
            .await;
    }
    let (peaceful, quarrelling) = projects.split_at(8);
    let mut histories = Vec::new();
    for project in &peaceful[..6] {
        histories.push(history(&mut random, *project, &Cast::peaceful(), 60, 8));
    }
    for project in &peaceful[6..] {
        histories.push(history(&mut random, *project, &Cast::crowded(), 250, 80));
    }
    for project in quarrelling {
        histories.push(history(&mut random, *project, &Cast::quarrelling(), 40, 5));
    }
    let mut load_random = StdRng::seed_from_u64(random.random());
    let load = send(&world, &mut load_random, histories);
    let (sent, workers) = under_fire(&world, &mut random, instances, load).await;
    world.settled(Duration::from_mins(3)).await;
    deliver_again(&world, &mut random, &sent).await;
    world.settled(Duration::from_mins(3)).await;
    let pending = "SELECT count(*) FROM processor_person_overrides WHERE NOT published";
    eventually(
        "every override is published",
        Duration::from_secs(30),
        async || world.pg(pending).await == ["0"],
    )
    .await;

    lands_once(&world, &sent).await;
    for project in projects.iter().copied() {
        let said = sent.iter().filter(|event| event.project == project);
        let mut said: Vec<&Said> = said.map(|event| &event.said).collect();
        said.sort_by_key(|said| said.place);
        let found = found(&world, project).await;
        if peaceful.contains(&project) {
            let model = model(project, said.iter().copied());
            assert_eq!(found.mappings, model.mappings, "seed {seed}, project {project}");
            // Properties are what they would be had everything arrived when it happened.
            let mut in_time = said.clone();
            in_time.sort_by_key(|said| (said.time, said.place));
            let expected = self::model(project, in_time).properties();
            assert!(
                found.properties == expected,
                "seed {seed}, project {project}: {}",
                story(&said, &found.properties, &expected)
            );
        } else {
            assert!(
                is_explained(project, &said, &found.mappings),
                "seed {seed}, project {project}: {:#?} of {said:#?}",
                found.mappings
            );
        }
    }
    drop(workers);
}

#[tokio::test]
async fn histories_end_as_the_model_says_on_one_instance_that_is_killed_again_and_again() {
    run(rand::random(), 1).await;
}

#[tokio::test]
async fn histories_end_as_the_model_says_on_three_instances_of_which_some_are_killed() {
    run(rand::random(), 3).await;
}
