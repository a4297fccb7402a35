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

    /// Keeps a cohort from being marked, until the transaction of the answer ends.
    async fn held_row(&self, cohort: Uuid) -> tokio_postgres::Client {
        let client = self.pg_client().await;
        client
            .batch_execute(&format!(
                "BEGIN; SELECT 1 FROM cohorts WHERE id = '{cohort}' FOR UPDATE"
            ))
            .await
            .unwrap();
        client
    }

    /// Waits until somebody wants the row that is held; the server process that waits.
    async fn blocked(&self) -> String {
        let mut found = Vec::new();
        eventually("a mark waits for the row", SOON, async || {
            let sql = "SELECT pid::text FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            found = self.pg(sql).await;
            !found.is_empty()
        })
        .await;
        found.remove(0)
    }

    /// Keeps the engine from merging members of two versions; deleting goes on.
    async fn without_merges(&self) {
        self.ch("ALTER TABLE cohort_members MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1")
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
    assert_eq!(
        world.tracked(unknown, "last_error_message").await,
        r#"definition: values[0].type: unknown condition type "dance""#
    );
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
            !done && text.contains(&format!("failed: {one}: cyclic")),
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
    let held = world.held_row(pro).await;
    let worker = world.worker("w", &OFTEN);
    let blocked = world.blocked().await;
    let mut redis = world.redis.clone();
    let _: () = redis::cmd("SET")
        .arg(LOCK)
        .arg("stranger")
        .query_async(&mut redis)
        .await
        .unwrap();
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
async fn an_older_run_never_takes_back_what_a_newer_one_has_shown() {
    let world = World::start().await;
    let pro = world.cohort(1, "pro", &all(json!([plan_is("pro")]))).await;
    let registry = qurvo_processor::cohorts::Registry {
        postgres: qurvo_processor::stores::Postgres::new(&world.stack.database_url().unwrap()).unwrap(),
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
