//! A cohort finds whom the stored properties say it should: the worker's own rows and persons, compared.

use std::collections::BTreeSet;

use jiff::{Timestamp, ToSpan};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use crate::support::{PROJECT, SOON, World};

const PERSONS: usize = 80;
const MOST_EVENTS: i64 = 5;
const KEYS: [&str; 3] = ["plan", "first_page", "n"];
const VALUES: [&str; 3] = ["x", "y", "z"];

/// What one event writes. The key `n` is an object with the value inside.
fn writes(rng: &mut StdRng) -> String {
    let mut document = Map::new();
    let (mut set, mut once, mut unset) = (Map::new(), Map::new(), Vec::new());
    for _ in 0..rng.random_range(1..=2) {
        let key = *KEYS.choose(rng).unwrap();
        let value = json!(*VALUES.choose(rng).unwrap());
        let value = if key == "n" { json!({"in": value}) } else { value };
        match rng.random_range(0..8) {
            0 => drop(document.insert(key.into(), value)),
            1 | 2 => drop(set.insert(key.into(), value)),
            3..=5 => drop(once.insert(key.into(), value)),
            _ => unset.push(key),
        }
    }
    document.insert("$set".into(), set.into());
    document.insert("$set_once".into(), once.into());
    document.insert("$unset".into(), json!(unset));
    let text = Value::from(document).to_string();
    if rng.random_bool(0.2) {
        text.replacen('{', r#"{"huge":1e999,"#, 1)
    } else {
        text
    }
}

/// A condition, and the same asked of PostgreSQL.
fn conditions() -> Vec<(Value, String)> {
    let mut conditions = Vec::new();
    for key in KEYS {
        let (property, sql) = match key {
            "n" => ("n.in".to_owned(), "properties->'n'->>'in'".to_owned()),
            key => (key.to_owned(), format!("properties->>'{key}'")),
        };
        for value in VALUES {
            conditions.push((
                json!({"type": "person_property", "property": property, "operator": "eq", "value": value}),
                format!("{sql} = '{value}'"),
            ));
        }
        for (operator, sql) in [
            ("is_set", format!("{sql} IS NOT NULL")),
            ("is_not_set", format!("{sql} IS NULL")),
        ] {
            conditions.push((
                json!({"type": "person_property", "property": property, "operator": operator}),
                sql,
            ));
        }
    }
    conditions
}

/// Makes a cohort of each condition.
async fn are_cohorts(world: &World, conditions: &[(Value, String)]) {
    let mut rows = Vec::new();
    for (n, (condition, _)) in conditions.iter().enumerate() {
        let definition = json!({"type": "AND", "values": [condition]});
        rows.push(format!(
            "('{}', '{PROJECT}', '{PROJECT}', 'c', '{definition}')",
            cohort(n)
        ));
    }
    world
        .pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name) VALUES ('{PROJECT}', 'a@b.example', '', '');
             INSERT INTO cohorts (id, project_id, created_by, name, definition) VALUES {}",
            rows.join(", ")
        ))
        .await;
}

#[tokio::test]
async fn the_members_of_a_cohort_are_those_whose_stored_properties_carry_the_value() {
    let world = World::start().await;
    let _worker = world.worker("w", &[]);
    let mut rng = StdRng::seed_from_u64(15);
    let now = Timestamp::now();
    let mut events = Vec::new();
    for person in 0..PERSONS {
        for minutes in 1..=rng.random_range(1..=MOST_EVENTS) {
            events.push((person, now - minutes.minutes(), writes(&mut rng)));
        }
    }
    events.shuffle(&mut rng);
    for (person, time, document) in &events {
        let fields = [
            ("timestamp", &*time.to_string()),
            ("user_properties", document.as_str()),
        ];
        world.event(&format!("p{person}"), &fields).await;
    }
    world.settled(SOON).await;

    let conditions = conditions();
    are_cohorts(&world, &conditions).await;
    let (done, text) = world.run(&["cohorts", "recompute"], &[]);
    assert!(done, "{text}");

    let mut wrong = Vec::new();
    let mut found = 0;
    for (n, (condition, sql)) in conditions.iter().enumerate() {
        let members = world
            .ch(&format!(
                "SELECT toString(person_id) FROM cohort_members WHERE cohort_id = '{}'",
                cohort(n)
            ))
            .await;
        let members: BTreeSet<String> = members.lines().map(str::to_owned).collect();
        let stored: BTreeSet<String> = world
            .pg(&format!("SELECT id::text FROM persons WHERE {sql}"))
            .await
            .into_iter()
            .collect();
        found += stored.len();
        if members != stored {
            wrong.push(format!(
                "{condition}: {} members, {} stored, {} in both",
                members.len(),
                stored.len(),
                members.intersection(&stored).count()
            ));
        }
    }
    assert!(found > PERSONS, "{found}");
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        conditions.len()
    );
}

fn cohort(n: usize) -> uuid::Uuid {
    uuid::Uuid::from_u128(0xc000 + n as u128)
}
