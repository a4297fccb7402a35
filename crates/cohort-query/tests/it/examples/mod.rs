//! The worked examples: who is a member of what, as a table.

mod building;
mod events;
mod groups;
mod properties;
mod sequences;

use std::collections::{BTreeMap, BTreeSet};

use cohort_query::{Definition, Reference, compile};
use serde_json::Value;
use uuid::Uuid;

use crate::engine::{Engine, Event, NOW, person};

const DAY: i64 = 86_400_000;

/// The cohorts that examples refer to.
pub(crate) const DYNAMIC: Uuid = Uuid::from_u128(0xd);
pub(crate) const STATIC: Uuid = Uuid::from_u128(0x5);

pub(crate) struct Example {
    pub(crate) number: u32,
    pub(crate) events: Vec<Event>,
    pub(crate) definition: Value,
    pub(crate) members: &'static [&'static str],
}

/// All examples.
#[derive(Default)]
struct Table {
    examples: Vec<Example>,
}

impl Table {
    fn is(&mut self, number: u32, events: &[Event], definition: Value, members: &'static [&'static str]) {
        self.examples.push(Example {
            number,
            events: events.to_vec(),
            definition,
            members,
        });
    }
}

pub(crate) fn examples() -> Vec<Example> {
    let mut table = Table::default();
    properties::values(&mut table);
    properties::operators(&mut table);
    events::counts(&mut table);
    events::aggregates(&mut table);
    sequences::examples(&mut table);
    groups::examples(&mut table);
    table.examples
}

#[tokio::test]
async fn every_worked_example_has_its_members() {
    let engine = Engine::start().await;
    let examples = examples();
    let numbers: BTreeSet<u32> = examples.iter().map(|example| example.number).collect();
    assert_eq!(numbers, (1..=45).collect());
    let mut sent = BTreeMap::new();
    for (index, example) in examples.iter().enumerate() {
        let project = Uuid::from_u128(index as u128 + 1);
        engine.add(project, &example.events).await;
        for (table, cohort, who, version) in [
            ("cohort_members", DYNAMIC, "b", ", 6"),
            ("cohort_members", DYNAMIC, "a", ", 7"),
            ("person_static_cohort", STATIC, "b", ""),
        ] {
            let columns = "project_id, cohort_id, person_id";
            let columns = if version.is_empty() {
                columns.to_owned()
            } else {
                format!("{columns}, version")
            };
            let row = format!("'{project}', '{cohort}', '{}'{version}", person(who));
            engine
                .run(&format!("INSERT INTO {table} ({columns}) VALUES ({row})"))
                .await;
        }
        let row = format!("'{project}', 'merged', '{}', 1", person("u"));
        engine
            .run(&format!(
                "INSERT INTO person_distinct_id_overrides VALUES ({row})"
            ))
            .await;
        sent.insert(index, project);
    }
    engine.run("SYSTEM RELOAD DICTIONARY person_overrides_dict").await;
    let mut wrong = Vec::new();
    for (index, example) in examples.iter().enumerate() {
        let definition = Definition::parse(&example.definition).unwrap();
        let query = compile(&definition, sent[&index], NOW, &|id| match id {
            DYNAMIC => Reference::Dynamic { version: 7 },
            STATIC => Reference::Static,
            _ => Reference::Missing,
        });
        let members = engine.members_of(&query).await;
        let expected: BTreeSet<Uuid> = example.members.iter().map(|name| person(name)).collect();
        if members != expected {
            let names: Vec<&str> = ["a", "b", "c", "d", "n", "u"]
                .into_iter()
                .filter(|name| members.contains(&person(name)))
                .collect();
            wrong.push(format!(
                "{}: {names:?} instead of {:?}",
                example.number, example.members
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
