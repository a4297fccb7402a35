//! What the stores say at the end of a history, and whether the model says the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use super::script::Sent;
use crate::identity::model::{Model, Said, Write};
use crate::support::{REJECTED, World, entries};

/// What the stores say about a project.
pub(super) struct Found {
    pub(super) mappings: BTreeMap<String, Uuid>,
    pub(super) properties: BTreeMap<Uuid, BTreeMap<String, Value>>,
}

/// Reads a project from all three stores, which must agree.
pub(super) async fn found(world: &World, project: Uuid) -> Found {
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

/// Every event is there; once with `FINAL`, and without it unless the client sent it twice: an instance that has just
/// started does not know what others were sent.
pub(super) async fn lands_once(world: &World, sent: &[Sent]) {
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
        let mut rejected = entries(world, REJECTED).await;
        rejected.truncate(3);
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

pub(super) fn model<'a>(project: Uuid, said: impl IntoIterator<Item = &'a Said>) -> Model {
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
pub(super) fn is_explained(project: Uuid, said: &[&Said], found: &BTreeMap<String, Uuid>) -> bool {
    let (identifies, plain): (Vec<&Said>, Vec<&Said>) = said.iter().partition(|said| said.identifies);
    permutations(&identifies).iter().any(|order| {
        let last = model(project, order.iter().chain(plain.iter().copied()));
        last.mappings == *found || model(project, plain.iter().copied().chain(order)).mappings == *found
    })
}

type Properties = BTreeMap<Uuid, BTreeMap<String, Value>>;

/// The first property that is not as it should be, and what was said about it.
pub(super) fn story(said: &[&Said], found: &Properties, expected: &Properties) -> String {
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
