//! A run over cohorts asks and deletes no more than it has to: the table holds the members of all cohorts of all projects.

use uuid::Uuid;

use crate::support::{PROJECT, SOON, World};

const OTHER: &str = "22222222-2222-2222-2222-222222222222";

async fn cohort(world: &World, project: &str, property: &str) -> String {
    let id = Uuid::new_v4().to_string();
    let definition = format!(
        r#"{{"type":"AND","values":[{{"type":"person_property","property":"{property}","operator":"is_set"}}]}}"#
    );
    world
        .pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name) VALUES ('{id}', '{id}', '', '');
             INSERT INTO cohorts (id, project_id, created_by, name, definition)
             VALUES ('{id}', '{project}', '{id}', 'test', '{definition}')"
        ))
        .await;
    id
}

/// Statements that the engine has changed parts for.
async fn mutations(world: &World) -> u64 {
    let sql = "SELECT count() FROM system.mutations WHERE table = 'cohort_members'";
    world.ch(sql).await.parse().unwrap()
}

async fn members(world: &World, of: &str) -> String {
    let sql = format!("SELECT count(), uniqExact(version) FROM cohort_members WHERE cohort_id = '{of}'");
    world.ch(&sql).await
}

fn recompute(world: &World, id: &str) {
    let (ok, said) = world.run(&["cohorts", "recompute", id], &[]);
    assert!(ok, "{said}");
}

#[tokio::test]
async fn nothing_is_deleted_where_there_are_no_older_members() {
    let world = World::start().await;
    let worker = world.worker("w1", &[("PROCESSOR_ROLES", "consume,dlq")]);
    for n in 0..5 {
        world
            .event(&format!("u{n}"), &[("user_properties", r#"{"plan":"pro"}"#)])
            .await;
    }
    world.settled(SOON).await;
    drop(worker);
    let (some, nobody) = (
        cohort(&world, PROJECT, "plan").await,
        cohort(&world, PROJECT, "none").await,
    );
    for id in [&some, &nobody, &nobody] {
        recompute(&world, id);
    }
    assert_eq!(mutations(&world).await, 0, "there were no older members");
    recompute(&world, &some);
    assert_eq!(mutations(&world).await, 1);
    assert_eq!(members(&world, &some).await, "5\t1");
}

#[tokio::test]
async fn members_of_cohorts_that_are_gone_are_removed_in_all_projects() {
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{OTHER}', 'other')"
        ))
        .await;
    let (kept, kept_too) = (
        cohort(&world, PROJECT, "none").await,
        cohort(&world, OTHER, "none").await,
    );
    let gone = Uuid::new_v4().to_string();
    for (project, id) in [
        (PROJECT, &gone),
        (OTHER, &gone),
        (OTHER, &kept_too),
        (PROJECT, &kept),
    ] {
        world
            .ch(&format!(
                "INSERT INTO cohort_members (project_id, cohort_id, person_id, version)
                 SELECT '{project}', '{id}', generateUUIDv4(), 7 FROM numbers(3)"
            ))
            .await;
    }
    recompute(&world, &kept);
    for (id, expected) in [(&gone, "0\t0"), (&kept, "0\t0"), (&kept_too, "3\t1")] {
        assert_eq!(members(&world, id).await, expected);
    }
}
