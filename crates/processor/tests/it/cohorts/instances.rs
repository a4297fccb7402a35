//! Several instances, of which one computes; and runs that lose their lock, are behind, or are told to stop.

use std::time::Duration;

use serde_json::json;

use super::{OFTEN, all, cohort, person, persons, plan_is};
use crate::support::{PROJECT, SOON, World, ask, eventually};

const LOCK: &str = "cohort_membership:lock";

#[tokio::test]
async fn of_two_instances_one_computes() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    for n in 1..=30 {
        world.cohort(n, "pro", &all(json!([plan_is("pro")]))).await;
    }
    let _workers = [world.worker("w1", &OFTEN), world.worker("w2", &OFTEN)];
    eventually("all are computed", SOON, async || {
        world
            .pg("SELECT count(*) FROM cohorts WHERE membership_version IS NOT NULL")
            .await
            == ["30"]
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        world
            .pg("SELECT count(DISTINCT membership_version) FROM cohorts")
            .await,
        ["1"],
        "one run computed all of them"
    );
    assert_eq!(
        world.ch("SELECT count() FROM cohort_membership_history").await,
        "30",
        "each of them once"
    );
}

#[tokio::test]
async fn whoever_finds_the_lock_taken_leaves_it_alone() {
    let world = World::start().await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let () = ask(&world, "SET", &[LOCK, "stranger"]).await;
    let (done, text) = world.recompute();
    assert!(!done && text.contains("another instance"), "{text}");
    assert_eq!(world.tracked(pro, "membership_version").await, "NULL");
    let token: String = ask(&world, "GET", &[LOCK]).await;
    assert_eq!(token, "stranger");
}

#[tokio::test]
async fn a_run_that_loses_its_lock_shows_nothing_more() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let outer = world.cohort(2, "outer", &all(json!([cohort(pro, false)]))).await;
    let held = world.held_row(pro).await;
    let worker = world.worker("w", &OFTEN);
    let blocked = world.blocked().await;
    let () = ask(&world, "SET", &[LOCK, "stranger"]).await;
    // The mark is tried once more.
    world.pg(&format!("SELECT pg_terminate_backend({blocked})")).await;
    eventually("the run says that it lost its lock", SOON, async || {
        worker.log().contains("the lock was lost")
    })
    .await;
    held.batch_execute("ROLLBACK").await.unwrap();
    for cohort in [pro, outer] {
        assert_eq!(
            world.tracked(cohort, "membership_version").await,
            "NULL",
            "{}",
            worker.log()
        );
    }
    let token: String = ask(&world, "GET", &[LOCK]).await;
    assert_eq!(token, "stranger");
    let _removed: u64 = ask(&world, "DEL", &[LOCK]).await;
    eventually("the next run shows everything", SOON, async || {
        world.tracked(outer, "membership_version").await != "NULL"
    })
    .await;
    assert_eq!(world.members(outer).await, persons(&["a"]));
}

#[tokio::test]
async fn an_older_run_never_takes_back_what_a_newer_one_has_shown() {
    let world = World::start().await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let registry = qurvo_processor::cohorts::Registry {
        postgres: qurvo_processor::stores::Postgres::new(
            &world.stack.database_url().unwrap().parse().unwrap(),
        )
        .unwrap(),
    };
    let cohort = registry.load().await.unwrap().remove(0);
    for _attempt in 0..2 {
        // The answer to the first may have been lost.
        assert!(registry.mark(&cohort, 10).await.unwrap());
    }
    assert!(!registry.mark(&cohort, 9).await.unwrap());
    assert_eq!(world.tracked(pro, "membership_version").await, "10");
    // A clock that is behind: the next version is above the one that is shown.
    let ahead = jiff::Timestamp::now().as_millisecond() + 3_600_000;
    assert!(registry.mark(&cohort, ahead.cast_unsigned()).await.unwrap());
    assert!(world.recompute().0);
    assert_eq!(
        world.tracked(pro, "membership_version").await,
        (ahead + 1).to_string()
    );
    // So it is above what such a clock has written without ever marking it.
    world.on_plan("a", "pro").await;
    world
        .ch(&format!(
            "INSERT INTO cohort_members VALUES ('{pro}', '{PROJECT}', '{}', {})",
            person("a"),
            ahead + 1000
        ))
        .await;
    assert!(world.recompute().0);
    assert_eq!(
        world.tracked(pro, "membership_version").await,
        (ahead + 1001).to_string()
    );
    assert_eq!(world.members(pro).await, persons(&["a"]));
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_leaves_every_cohort_whole() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let mut cohorts = Vec::new();
    for n in 1..=8 {
        cohorts.push(world.cohort(n, "pro", &all(json!([plan_is("pro")]))).await);
    }
    assert!(world.recompute().0);
    world.on_plan("b", "pro").await;
    world.age().await;
    world.without_merges().await;
    let held = world.held_row(cohorts[0]).await;
    let mut worker = world.worker("w", &OFTEN);
    world.blocked().await;
    worker.terminate();
    tokio::time::sleep(Duration::from_millis(500)).await;
    held.batch_execute("ROLLBACK").await.unwrap();
    assert!(worker.ended(SOON).await.success(), "{}", worker.log());
    assert_eq!(
        world.members(cohorts[0]).await,
        persons(&["a", "b"]),
        "what was under way is shown"
    );
    for cohort in cohorts {
        let version = world.tracked(cohort, "membership_version").await;
        let versions = format!("SELECT DISTINCT version FROM cohort_members WHERE cohort_id = '{cohort}'");
        assert_eq!(
            world.ch(&versions).await,
            version,
            "nothing is written but not shown"
        );
        let members = world.members(cohort).await;
        assert!(members == persons(&["a"]) || members == persons(&["a", "b"]));
    }
}
