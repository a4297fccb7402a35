//! Generated definitions over generated events: the engine's answer and a literal reading of the contract are the same.

use std::collections::{BTreeMap, BTreeSet};

use cohort_query::{Definition, Reference, compile};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use uuid::Uuid;

use crate::engine::{Engine, NOW, text_of};
use crate::generated::{self, DYNAMIC, STATIC, WORLDS, person_of};
use crate::naive::World;

const PROJECT: Uuid = Uuid::from_u128(1);
const HISTORIES: u32 = 400;
const DEFINITIONS_EACH: usize = 5;

#[test]
fn the_engine_answers_what_a_literal_reading_of_the_contract_answers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = runtime.block_on(prepared());
    let cohorts: BTreeMap<Uuid, BTreeSet<Uuid>> = [
        (DYNAMIC, [person_of(1), person_of(9)].into()),
        (STATIC, [person_of(0), person_of(2)].into()),
    ]
    .into();
    let cases = (
        generated::history(),
        prop::collection::vec(generated::definition(), DEFINITIONS_EACH),
    );
    let config = Config {
        cases: HISTORIES,
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..Config::default()
    };
    let counted = std::cell::Cell::new(0usize);
    let nonempty = std::cell::Cell::new(0usize);
    let result = TestRunner::new(config).run(&cases, |((world, events, twice), definitions)| {
        runtime.block_on(async {
            engine.run("TRUNCATE TABLE events").await;
            engine.add(PROJECT, &events).await;
            if twice > 0 {
                // Merges are stopped: the copies stay.
                engine.add(PROJECT, &events[..twice.min(events.len())]).await;
            }
            let naive = World::new(&events, &generated::overrides(world), cohorts.clone());
            for json in &definitions {
                let definition = Definition::parse(json)
                    .map_err(|error| TestCaseError::fail(format!("{error}: {json}")))?;
                let query = compile(&definition, PROJECT, NOW, &|id| match id {
                    DYNAMIC => Reference::Dynamic { version: 7 },
                    STATIC => Reference::Static,
                    _ => Reference::Missing,
                });
                let found = engine
                    .members(&query)
                    .await
                    .map_err(|error| TestCaseError::fail(format!("{error}\n{}", query.sql)))?;
                let expected = naive.members(json);
                counted.set(counted.get() + 1);
                nonempty.set(nonempty.get() + usize::from(!expected.is_empty()));
                let parameters: Vec<String> = query
                    .parameters
                    .iter()
                    .map(|parameter| format!("{} = {}", parameter.name, text_of(&parameter.value)))
                    .collect();
                prop_assert_eq!(
                    named(&found),
                    named(&expected),
                    "engine (left) and contract of {}\n{}\n{}",
                    json,
                    query.sql,
                    parameters.join("\n")
                );
            }
            Ok(())
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(counted.get() >= 2000, "{} pairs", counted.get());
    assert!(
        nonempty.get() * 3 > counted.get(),
        "only {} of {} have members",
        nonempty.get(),
        counted.get()
    );
}

fn named(persons: &BTreeSet<Uuid>) -> Vec<String> {
    let name = |person: &Uuid| {
        (0..10)
            .find(|n| person_of(*n) == *person)
            .map(|n| format!("p{n}"))
    };
    persons
        .iter()
        .map(|person| name(person).unwrap_or_else(|| person.to_string()))
        .collect()
}

async fn prepared() -> Engine {
    let engine = Engine::start().await;
    engine.run("SYSTEM STOP MERGES events").await;
    for world in 0..WORLDS {
        for (distinct_id, person) in generated::overrides(world) {
            let sql = format!(
                "INSERT INTO person_distinct_id_overrides VALUES ('{PROJECT}', '{distinct_id}', '{person}', 1)"
            );
            engine.run(&sql).await;
        }
    }
    engine.run("SYSTEM RELOAD DICTIONARY person_overrides_dict").await;
    for (person, version) in [(3, 6), (1, 7), (9, 7), (4, 8)] {
        let row = format!("'{DYNAMIC}', '{PROJECT}', '{}', {version}", person_of(person));
        engine
            .run(&format!("INSERT INTO cohort_members VALUES ({row})"))
            .await;
    }
    for person in [0, 2, 2] {
        let row = format!("'{PROJECT}', '{STATIC}', '{}'", person_of(person));
        engine
            .run(&format!(
                "INSERT INTO person_static_cohort (project_id, cohort_id, person_id) VALUES ({row})"
            ))
            .await;
    }
    engine
}
