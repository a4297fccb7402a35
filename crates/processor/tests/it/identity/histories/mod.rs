//! Whole histories on the real worker and the real stores, with everything that can happen on the way: several
//! instances, `kill -9`, entries delivered again, clients that repeat requests, events that were offline for a while.
//!
//! Each history is a project of its own, and all of them share one stream.

mod outcome;
mod script;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use outcome::{found, is_explained, lands_once, model, story};
use script::{Cast, deliver_again, history, send};

use super::model::Said;
use crate::support::{Worker, World, eventually};

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
