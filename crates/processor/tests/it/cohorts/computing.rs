//! Who becomes a member, when memberships are computed, and what is removed.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::{OFTEN, all, cohort, person, persons, plan_is};
use crate::support::{PROJECT, SOON, World, eventually};

#[tokio::test]
async fn memberships_follow_events_and_references_and_old_versions_go() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    world.on_plan("b", "free").await;
    let outer = world
        .cohort(1, "not pro", &all(json!([cohort(Uuid::from_u128(9), true)])))
        .await;
    let pro = world.cohort(9, "pro", &all(json!([plan_is("pro")]))).await;
    let (done, text) = world.recompute();
    assert!(done, "{text}");
    assert_eq!(world.members(pro).await, persons(&["a"]));
    assert_eq!(world.members(outer).await, persons(&["b"]));
    let first = world.tracked(pro, "membership_version").await;
    assert_eq!(
        first,
        world.tracked(outer, "membership_version").await,
        "one version a run"
    );

    world.on_plan("b", "pro").await;
    world.on_plan("c", "free").await;
    let (done, text) = world.recompute();
    assert!(done, "{text}");
    assert_eq!(world.members(pro).await, persons(&["a", "b"]));
    assert_eq!(world.members(outer).await, persons(&["c"]));
    assert!(
        world.members_at(pro, &first).await.is_empty(),
        "members of the older version are gone"
    );
    let sizes = world
        .ch("SELECT cohort_id, count FROM cohort_membership_history FINAL ORDER BY cohort_id")
        .await;
    assert_eq!(sizes, format!("{outer}\t1\n{pro}\t2"));
    let (_, list) = world.run(&["cohorts", "list"], &[]);
    assert!(list.contains("fresh") && list.contains("2 cohorts"), "{list}");
}

#[tokio::test]
async fn nobody_is_a_membership_too() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    assert!(world.recompute().0);
    world.on_plan("a", "free").await;
    assert!(world.recompute().0);
    assert_eq!(world.members(pro).await, persons(&[]));
    assert_eq!(world.ch("SELECT count() FROM cohort_members").await, "0");
    assert_eq!(world.tracked(pro, "errors_calculating").await, "0");
}

#[tokio::test]
async fn static_and_missing_references_and_those_of_other_projects_mean_what_they_should() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let chosen = world.cohort(1, "chosen", &json!({})).await;
    world.pg("UPDATE cohorts SET is_static = true").await;
    world
        .ch(&format!(
            "INSERT INTO person_static_cohort (project_id, cohort_id, person_id) VALUES ('{PROJECT}', '{chosen}', '{}')",
            person("z")
        ))
        .await;
    world
        .pg("INSERT INTO projects (id, name) VALUES ('22222222-2222-2222-2222-222222222222', 'other')")
        .await;
    let foreign = world.cohort(2, "foreign", &all(json!([plan_is("pro")]))).await;
    world
        .pg(&format!(
            "UPDATE cohorts SET project_id = '22222222-2222-2222-2222-222222222222', membership_version = 1,
             membership_computed_at = now() WHERE id = '{foreign}'"
        ))
        .await;
    world
        .ch(&format!(
            "INSERT INTO cohort_members VALUES ('{foreign}', '{PROJECT}', '{}', 1)",
            person("q")
        ))
        .await;
    let either = json!({"type": "OR", "values": [cohort(chosen, false), cohort(foreign, false), cohort(Uuid::nil(), false)]});
    let either = world.cohort(3, "either", &either).await;
    let (done, text) = world.run(&["cohorts", "recompute", &either.to_string()], &[]);
    assert!(done, "{text}");
    assert_eq!(world.members(either).await, persons(&["z"]));
    let (done, text) = world.run(&["cohorts", "recompute", &chosen.to_string()], &[]);
    assert!(!done && text.contains("static"), "{text}");
}

#[tokio::test]
async fn the_worker_computes_what_is_stale_and_leaves_the_rest() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let mut worker = world.worker("w", &OFTEN);
    eventually("the cohort is computed", SOON, async || {
        world.tracked(pro, "membership_version").await != "NULL"
    })
    .await;
    assert_eq!(world.members(pro).await, persons(&["a"]));
    let first = world.tracked(pro, "membership_version").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        world.tracked(pro, "membership_version").await,
        first,
        "it is fresh"
    );
    world.on_plan("b", "pro").await;
    world.age().await;
    eventually("the stale cohort is computed anew", SOON, async || {
        world.tracked(pro, "membership_version").await != first
    })
    .await;
    assert_eq!(world.members(pro).await, persons(&["a", "b"]));
    assert!(worker.is_running(), "{}", worker.log());
}

#[tokio::test]
async fn a_definition_that_is_changed_while_it_is_computed_is_computed_again() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    world.on_plan("b", "free").await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let held = world.held_row(pro).await;
    let worker = world.worker("w", &OFTEN);
    world.blocked().await;
    let changed = all(json!([plan_is("free")]));
    held.batch_execute(&format!(
        "UPDATE cohorts SET definition = '{changed}', updated_at = clock_timestamp() WHERE id = '{pro}'; COMMIT"
    ))
    .await
    .unwrap();
    eventually("the new definition is computed", SOON, async || {
        world.tracked(pro, "membership_computed_at").await != "NULL"
    })
    .await;
    assert_eq!(world.members(pro).await, persons(&["b"]), "{}", worker.log());
}

#[tokio::test]
async fn members_of_cohorts_that_are_gone_are_removed() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let settled = world.cohort(2, "settled", &all(json!([plan_is("pro")]))).await;
    assert!(world.recompute().0);
    world
        .pg(&format!(
            "UPDATE cohorts SET is_static = true WHERE id = '{settled}'"
        ))
        .await;
    world
        .ch(&format!(
            "INSERT INTO cohort_members VALUES (generateUUIDv4(), '{PROJECT}', '{}', 1)",
            person("a")
        ))
        .await;
    let _worker = world.worker("w", &OFTEN);
    let left = "SELECT DISTINCT toString(cohort_id) FROM cohort_members";
    eventually("only the dynamic cohort has members", SOON, async || {
        world.ch(left).await == pro.to_string()
    })
    .await;
    world.pg("DELETE FROM cohorts").await;
    eventually("without cohorts there are no members", SOON, async || {
        world.ch(left).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn the_query_of_a_definition_can_be_looked_at() {
    let world = World::start().await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let (done, text) = world.run(&["cohorts", "sql", &pro.to_string()], &[]);
    assert!(
        done && text.contains("-- text_2 = \"pro\"") && text.contains("FROM events"),
        "{text}"
    );
    let (done, text) = world.run(&["cohorts", "sql", &Uuid::nil().to_string()], &[]);
    assert!(!done && text.contains("there is no cohort"), "{text}");
}
