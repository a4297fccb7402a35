//! Cohorts that cannot be computed or marked: they fail alone, and nothing half done is shown.

use std::time::Duration;

use embedded_stack::ServiceKind;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{OFTEN, all, cohort, persons, plan_is};
use crate::support::{SOON, World, eventually};

fn broken() -> Value {
    json!({"type": "person_property", "property": "plan", "operator": "regex", "value": "["})
}

#[tokio::test]
async fn one_that_the_engine_refuses_fails_alone_and_pauses() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let bad = world.cohort(1, "bad", &all(json!([broken()]))).await;
    let unknown = world.cohort(2, "unknown", &all(json!([{"type": "dance"}]))).await;
    let above = world.cohort(3, "above", &all(json!([cohort(bad, false)]))).await;
    let good = world.cohort(4, "good", &all(json!([plan_is("pro")]))).await;
    let mut worker = world.worker("w", &OFTEN);
    eventually("the good one is computed", SOON, async || {
        world.tracked(good, "membership_version").await != "NULL"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for failed in [bad, unknown] {
        assert_eq!(
            world.tracked(failed, "errors_calculating").await,
            "1",
            "it pauses"
        );
        assert_eq!(world.tracked(failed, "membership_version").await, "NULL");
    }
    let message = world.tracked(bad, "last_error_message").await;
    assert!(
        message.contains("missing ]") && !message.contains("SELECT"),
        "{message}"
    );
    let message = world.tracked(unknown, "last_error_message").await;
    let known = r#"definition: values[0].type: unknown condition type "dance", expected one of AND, OR, person_property, "#;
    assert!(message.starts_with(known), "{message}");
    assert_eq!(
        world.tracked(above, "errors_calculating").await,
        "0",
        "it waits, that is no failure"
    );
    worker.terminate();
    assert!(worker.ended(SOON).await.success(), "{}", worker.log());
    let (done, text) = world.recompute();
    assert!(!done && text.contains(&format!("waiting: {above}")), "{text}");
    let (_, list) = world.run(&["cohorts", "list", "--json"], &[]);
    let of_above = list
        .lines()
        .find(|line| line.contains(&above.to_string()))
        .unwrap();
    assert!(of_above.contains(r#""state":"waiting""#), "{of_above}");
    assert_eq!(
        world.tracked(bad, "errors_calculating").await,
        "2",
        "asked for, it is tried"
    );

    let _worker = world.worker("w", &OFTEN);
    let mended = all(json!([plan_is("pro")]));
    world
        .pg(&format!(
            "UPDATE cohorts SET definition = '{mended}', updated_at = now() WHERE id = '{bad}'"
        ))
        .await;
    eventually(
        "the mended one and what waits for it are computed",
        SOON,
        async || world.tracked(above, "membership_version").await != "NULL",
    )
    .await;
    assert_eq!(world.tracked(bad, "errors_calculating").await, "0");
    assert_eq!(world.tracked(bad, "last_error_message").await, "NULL");
}

#[tokio::test]
async fn a_cycle_of_references_is_recorded_once_and_stops_nobody_else() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let one = world
        .cohort(1, "one", &all(json!([cohort(Uuid::from_u128(2), false)])))
        .await;
    let two = world.cohort(2, "two", &all(json!([cohort(one, true)]))).await;
    let good = world.cohort(3, "good", &all(json!([plan_is("pro")]))).await;
    for _run in 0..2 {
        let (done, text) = world.recompute();
        assert!(
            !done && text.matches(&format!("failed: {one} \"one\": cyclic")).count() == 1,
            "{text}"
        );
    }
    for member in [one, two] {
        assert_eq!(world.tracked(member, "errors_calculating").await, "1");
        assert_eq!(
            world.tracked(member, "last_error_message").await,
            "cyclic dependency: one → two → one"
        );
    }
    assert_eq!(world.members(good).await, persons(&["a"]));
}

#[tokio::test]
async fn without_clickhouse_no_cohort_is_to_blame() {
    let world = World::start().await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    world
        .stack
        .service(ServiceKind::ClickHouse)
        .unwrap()
        .kill()
        .await
        .unwrap();
    let (done, text) = world.recompute();
    assert!(!done && text.contains("ClickHouse"), "{text}");
    assert_eq!(world.tracked(pro, "errors_calculating").await, "0");
    world
        .stack
        .service(ServiceKind::ClickHouse)
        .unwrap()
        .start()
        .await
        .unwrap();
    assert!(world.recompute().0);
}

#[tokio::test]
async fn members_that_could_not_be_marked_are_not_shown() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let outer = world.cohort(2, "outer", &all(json!([cohort(pro, false)]))).await;
    assert!(world.recompute().0);
    let version = world.tracked(pro, "membership_version").await;
    world.on_plan("b", "pro").await;
    world.without_merges().await;
    let refuse = |code: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.id = '{pro}' AND NEW.membership_version <> OLD.membership_version THEN
                     RAISE EXCEPTION 'refused' USING ERRCODE = '{code}';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE OR REPLACE TRIGGER refuse BEFORE UPDATE ON cohorts FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    };
    // The database is not to be reached: nobody is to blame, and the run ends.
    world.pg(&refuse("57P03")).await;
    let (done, text) = world.recompute();
    assert!(!done && text.contains("refused"), "{text}");
    assert_eq!(world.tracked(pro, "errors_calculating").await, "0");
    // It refuses this one: that is a failure, and what refers to it is left as it was.
    world.pg(&refuse("23514")).await;
    let (done, text) = world.recompute();
    assert!(!done && text.contains(&format!("failed: {pro}")), "{text}");
    assert_eq!(world.tracked(pro, "errors_calculating").await, "1");
    for cohort in [pro, outer] {
        assert_eq!(world.tracked(cohort, "membership_version").await, version);
    }
    assert_eq!(world.members(pro).await, persons(&["a"]));
    assert_eq!(world.members(outer).await, persons(&["a"]));
    world.pg("DROP TRIGGER refuse ON cohorts").await;
    assert!(world.recompute().0);
    for cohort in [pro, outer] {
        assert_eq!(world.members(cohort).await, persons(&["a", "b"]));
    }
    assert_eq!(
        world.ch("SELECT count() FROM cohort_members").await,
        "4",
        "nothing else is left"
    );
}

#[tokio::test]
async fn members_that_were_never_marked_make_their_cohort_due_at_once() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    world
        .pg("ALTER TABLE cohorts ADD CONSTRAINT refuse CHECK (membership_version IS NULL)")
        .await;
    let _worker = world.worker("w", &OFTEN);
    eventually("it is tried without a pause", SOON, async || {
        let errors: u64 = world.tracked(pro, "errors_calculating").await.parse().unwrap();
        errors >= 2
    })
    .await;
    world.pg("ALTER TABLE cohorts DROP CONSTRAINT refuse").await;
    eventually("it is shown", SOON, async || {
        world.tracked(pro, "membership_version").await != "NULL"
    })
    .await;
    assert_eq!(world.members(pro).await, persons(&["a"]));
    assert_eq!(world.tracked(pro, "errors_calculating").await, "0");
}
