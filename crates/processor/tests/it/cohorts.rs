//! Memberships: in the order of references, shown when complete, whatever fails on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use embedded_stack::ServiceKind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{PROJECT, SOON, World, eventually};

const LOCK: &str = "cohort_membership:lock";

/// A worker that does nothing but cohorts, again and again.
const OFTEN: [(&str, &str); 3] = [
    ("PROCESSOR_ROLES", "cohorts"),
    ("COHORT_INITIAL_DELAY_MS", "100"),
    ("COHORT_INTERVAL_MS", "200"),
];

fn person(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

fn all(conditions: impl Into<Value>) -> Value {
    let conditions: Value = conditions.into();
    json!({"type": "AND", "values": conditions})
}

fn plan_is(plan: &str) -> Value {
    json!({"type": "person_property", "property": "plan", "operator": "eq", "value": plan})
}

fn cohort(id: Uuid, negated: bool) -> Value {
    json!({"type": "cohort", "cohort_id": id, "negated": negated})
}

fn broken() -> Value {
    json!({"type": "person_property", "property": "plan", "operator": "regex", "value": "["})
}

impl World {
    /// A row of `cohorts`.
    async fn cohort(&self, id: u128, name: &str, definition: &Value) -> Uuid {
        let id = Uuid::from_u128(id);
        self.pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name)
             VALUES ('{PROJECT}', 'a@b.example', '', '') ON CONFLICT DO NOTHING;
             INSERT INTO cohorts (id, project_id, created_by, name, definition)
             VALUES ('{id}', '{PROJECT}', '{PROJECT}', '{name}', '{definition}')"
        ))
        .await;
        id
    }

    /// An event of now that says which plan somebody has.
    async fn on_plan(&self, who: &str, plan: &str) {
        let properties = json!({"plan": plan});
        self.ch(&format!(
            "INSERT INTO events (project_id, event_name, distinct_id, person_id, timestamp, user_properties)
             VALUES ('{PROJECT}', 'x', '{who}', '{}', now64(3) - INTERVAL 1 SECOND, '{properties}')",
            person(who)
        ))
        .await;
    }

    /// Who is in a cohort at the version that readers are told.
    async fn members(&self, cohort: Uuid) -> BTreeSet<Uuid> {
        let version = self.tracked(cohort, "membership_version").await;
        self.members_at(cohort, &version).await
    }

    async fn members_at(&self, cohort: Uuid, version: &str) -> BTreeSet<Uuid> {
        let sql = format!(
            "SELECT person_id FROM cohort_members WHERE cohort_id = '{cohort}' AND version = {version}"
        );
        self.ch(&sql)
            .await
            .lines()
            .map(|id| id.parse().unwrap())
            .collect()
    }

    /// A column of a cohort.
    async fn tracked(&self, cohort: Uuid, column: &str) -> String {
        let sql = format!("SELECT {column}::text FROM cohorts WHERE id = '{cohort}'");
        self.pg(&sql).await.remove(0)
    }

    /// Makes memberships older than the limit.
    async fn age(&self) {
        self.pg("UPDATE cohorts SET membership_computed_at = now() - interval '16 minutes'")
            .await;
    }

    fn recompute(&self) -> (bool, String) {
        self.run(&["cohorts", "recompute"], &[])
    }
}

fn persons(names: &[&str]) -> BTreeSet<Uuid> {
    names.iter().map(|name| person(name)).collect()
}

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
async fn one_that_the_engine_refuses_fails_alone_and_pauses() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let bad = world.cohort(1, "bad", &all(json!([broken()]))).await;
    let unknown = world.cohort(2, "unknown", &all(json!([{"type": "dance"}]))).await;
    let above = world.cohort(3, "above", &all(json!([cohort(bad, false)]))).await;
    let good = world.cohort(4, "good", &all(json!([plan_is("pro")]))).await;
    let _worker = world.worker("w", &OFTEN);
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
    assert_eq!(
        world.tracked(unknown, "last_error_message").await,
        r#"definition: values[0].type: unknown condition type "dance""#
    );
    assert_eq!(
        world.tracked(above, "errors_calculating").await,
        "0",
        "it waits, that is no failure"
    );
    let (done, text) = world.recompute();
    assert!(!done && text.contains(&format!("waiting: {above}")), "{text}");
    assert_eq!(
        world.tracked(bad, "errors_calculating").await,
        "2",
        "asked for, it is tried"
    );

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
        world.recompute();
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
    let mut redis = world.redis.clone();
    let _: () = redis::cmd("SET")
        .arg(LOCK)
        .arg("stranger")
        .query_async(&mut redis)
        .await
        .unwrap();
    let (done, text) = world.recompute();
    assert!(!done && text.contains("another instance"), "{text}");
    assert_eq!(world.tracked(pro, "membership_version").await, "NULL");
    let token: String = redis::cmd("GET").arg(LOCK).query_async(&mut redis).await.unwrap();
    assert_eq!(token, "stranger");
}

#[tokio::test]
async fn a_run_that_loses_its_lock_shows_nothing_more() {
    let world = World::start().await;
    world.on_plan("a", "pro").await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let outer = world.cohort(2, "outer", &all(json!([cohort(pro, false)]))).await;
    let clickhouse = world.stack.clickhouse().unwrap();
    clickhouse.pause().await.unwrap();
    let worker = world.worker("w", &OFTEN);
    let mut redis = world.redis.clone();
    // Nothing can start while a store is away; the lock is taken when the first query is on its way.
    clickhouse.resume().await.unwrap();
    eventually("the run has its lock", SOON, async || {
        let held: bool = redis::cmd("EXISTS")
            .arg(LOCK)
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        if held {
            clickhouse.pause().await.unwrap();
        }
        held
    })
    .await;
    let _: () = redis::cmd("SET")
        .arg(LOCK)
        .arg("stranger")
        .query_async(&mut redis)
        .await
        .unwrap();
    let before = world.tracked(outer, "membership_version").await;
    clickhouse.resume().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(before, "NULL");
    assert_eq!(
        world.tracked(outer, "membership_version").await,
        "NULL",
        "{}",
        worker.log()
    );
    assert!(worker.log().contains("the lock was lost"), "{}", worker.log());
    let token: String = redis::cmd("GET").arg(LOCK).query_async(&mut redis).await.unwrap();
    assert_eq!(token, "stranger");
    let _: () = redis::cmd("DEL").arg(LOCK).query_async(&mut redis).await.unwrap();
    eventually("the next run shows everything", SOON, async || {
        world.tracked(outer, "membership_version").await != "NULL"
    })
    .await;
    assert_eq!(world.members(outer).await, persons(&["a"]));
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
async fn an_older_run_never_takes_back_what_a_newer_one_has_shown() {
    let world = World::start().await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let registry = qurvo_processor::cohorts::Registry {
        postgres: qurvo_processor::stores::Postgres::new(&world.stack.database_url().unwrap()).unwrap(),
    };
    assert!(registry.mark(pro, 10).await.unwrap());
    assert!(!registry.mark(pro, 10).await.unwrap());
    assert!(!registry.mark(pro, 9).await.unwrap());
    assert_eq!(world.tracked(pro, "membership_version").await, "10");
    // A clock that is behind: the next version is above the one that is shown.
    let ahead = jiff::Timestamp::now().as_millisecond() + 3_600_000;
    assert!(registry.mark(pro, ahead.cast_unsigned()).await.unwrap());
    assert!(world.recompute().0);
    assert_eq!(
        world.tracked(pro, "membership_version").await,
        (ahead + 1).to_string()
    );
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
