//! An answer counts only when it can only be the store's own: whatever else answers, nothing is forgotten.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::lying::{About, Answer, Liar, Lie};
use crate::support::{PROJECT, SOON, Worker, World, eventually};

const EVENTS: About = About::InsertsInto("events");
/// What is only in the look-up of rows by their sort key.
const LOOK_UP: &str = "arrayZip";

struct Stage {
    world: World,
    liar: Liar,
    worker: Worker,
}

impl Stage {
    async fn set(environment: &[(&str, &str)]) -> Self {
        let world = World::start().await;
        let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
        let worker = worker(&world, &liar, environment);
        Self { world, liar, worker }
    }
}

fn worker(world: &World, liar: &Liar, environment: &[(&str, &str)]) -> Worker {
    let mut environment = environment.to_vec();
    environment.push(("CLICKHOUSE_URL", &liar.url));
    world.worker("one", &environment)
}

/// Answers that are none of the engine's to an insert, and what the log has to say of each.
fn strangers() -> Vec<(Answer, &'static str)> {
    let exception = "Code: 252. DB::Exception: Too many parts (600). (TOO_MANY_PARTS)";
    vec![
        (Answer::stranger(200, ""), "200 OK with no text"),
        (Answer::stranger(200, exception), "Too many parts"),
        (
            Answer::stranger(200, "<html>\u{1b}[31m\n<h1>It works!</h1></html>"),
            "It works!",
        ),
        (Answer::stranger(204, ""), "204 No Content"),
        (Answer::stranger(302, "moved"), "302 Found"),
        // Somebody who repeats the request's headers.
        (
            Answer::stranger(200, "x-clickhouse-key: qurvo_secret."),
            "x-clickhouse-key: ***.",
        ),
        (
            Answer::stranger(400, "Code: 27. DB::Exception: Cannot parse input"),
            "Cannot parse input",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_stranger_is_no_row_and_is_named_in_the_log() {
    let Stage { world, liar, worker } = Stage::set(&[]).await;
    let mut sent = BTreeSet::new();
    for (answer, said) in strangers() {
        liar.tell(Lie::about(EVENTS, answer));
        sent.extend(world.load(50, 10).await);
        let is_said = || worker.log().contains(said);
        eventually(
            "the log says what came back, or all is acknowledged",
            SOON,
            async || is_said() || world.unsettled().await == Some(0),
        )
        .await;
        liar.stop_lying();
        world.settled(SOON).await;
        world.holds_exactly(&sent).await;
        assert!(is_said(), "the log does not say {said}: {}", worker.log());
    }
    let log = worker.log();
    assert!(log.contains("check CLICKHOUSE_URL: something else than ClickHouse answers"));
    assert!(!log.contains("\\u001b") && !log.contains('\u{1b}'), "{log}");
    assert!(!log.contains("qurvo_secret"), "the password is in the log");
    assert_eq!(
        world.length("events:rejected").await,
        Some(0),
        "a stranger refused events"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_or_lost_on_its_way_is_neither_a_row_nor_two() {
    let Stage { world, liar, worker } = Stage::set(&[]).await;
    let mut sent = BTreeSet::new();
    for lie in [
        Lie::about(EVENTS, Answer::Truncated),
        Lie::about(EVENTS, Answer::Truncated).after_the_engine(),
        Lie::about(EVENTS, Answer::WithoutHeaders),
        Lie::about(EVENTS, Answer::stranger(504, "Gateway Time-out")).after_the_engine(),
    ] {
        let before = liar.lied();
        liar.tell(lie.times(2));
        sent.extend(world.load(50, 10).await);
        world.settled(SOON).await;
        world.holds_exactly(&sent).await;
        assert_eq!(liar.lied(), before + 2, "a lie was believed");
    }
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_something_else_answers_everything_nothing_is_acknowledged_under_load() {
    let Stage { world, liar, worker } = Stage::set(&[]).await;
    let mut sent = world.load(300, 20).await;
    world.settled(SOON).await;
    for answer in [
        Answer::stranger(200, ""),
        Answer::stranger(200, "<h1>Welcome to nginx!</h1>"),
    ] {
        let rows = sent.len();
        let before = liar.lied();
        liar.tell(Lie::about(About::Everything, answer).lasting(Duration::from_mins(2)));
        // The load goes on all the while.
        eventually("the stranger was asked again and again", SOON * 2, async || {
            sent.extend(world.load(20, 20).await);
            liar.lied() >= before + 8
        })
        .await;
        // What the stranger was asked to keep is in the stream, or among the dead letters, and nowhere else.
        assert_eq!(world.ch("SELECT count() FROM events").await, rows.to_string());
        assert!(world.unsettled().await.unwrap() > 0, "entries were acknowledged");
        liar.stop_lying();
        sent.extend(world.load(20, 20).await);
        world.settled(SOON * 2).await;
        world.holds_exactly(&sent).await;
    }
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_engine_counts_as_not_written_are_looked_up_before_they_count() {
    let Stage { world, liar, worker } = Stage::set(&[]).await;
    let mut sent = world.load(30, 5).await;
    world.settled(SOON).await;

    // They are there: one look-up, and no second insert.
    let (inserts, look_ups) = (liar.inserts_into("events"), liar.statements(LOOK_UP));
    liar.tell(Lie::about(EVENTS, Answer::Written(0)).times(1));
    sent.insert(world.event("somebody", &[]).await);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert_eq!(liar.inserts_into("events"), inserts + 1);
    assert_eq!(liar.statements(LOOK_UP), look_ups + 1);

    // They are not: the insert is repeated.
    liar.tell(Lie::about(EVENTS, Answer::wrote(0)).times(2));
    sent.insert(world.event("somebody", &[]).await);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert_eq!(liar.inserts_into("events"), inserts + 4);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_materialized_views_are_counted_too_and_cost_no_look_up() {
    let Stage { world, liar, worker } = Stage::set(&[]).await;
    world
        .ch("CREATE TABLE seen (event_id UUID) ENGINE = MergeTree ORDER BY event_id")
        .await;
    world
        .ch("CREATE MATERIALIZED VIEW seen_view TO seen AS SELECT event_id FROM events")
        .await;
    let sent = world.load(300, 20).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert_eq!(world.ch("SELECT uniqExact(event_id) FROM seen").await, "300");
    assert_eq!(liar.statements(LOOK_UP), 0, "rows were looked up");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_somebody_else_answers_or_that_is_cut_off_is_not_taken_for_no_rows() {
    let world = World::start().await;
    let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
    let mut first = worker(&world, &liar, &[]);
    // Rows land and the answer is lost, then the worker is gone: its successor has to look.
    liar.tell(Lie::about(EVENTS, Answer::Truncated).after_the_engine());
    let mut sent = BTreeSet::new();
    for _ in 0..10 {
        sent.insert(world.event("somebody", &[]).await);
    }
    eventually("the rows are there", SOON, async || {
        world.ch("SELECT uniqExact(event_id) FROM events").await == "10"
    })
    .await;
    first.kill();
    liar.stop_lying();
    world.holds_exactly(&sent).await;
    // From here on nothing but the look-up keeps a row from being written twice.
    world
        .ch("ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 0")
        .await;
    let about = About::Statements(LOOK_UP);
    // A row of the look-up as such has this many bytes: without it the answer would look complete.
    let one_row = 16 + 1 + "test".len() + 8 + 16;
    for lie in [
        Lie::about(about, Answer::stranger(200, "")),
        Lie::about(about, Answer::WithoutHeaders),
        Lie::about(about, Answer::WithoutLast(one_row)),
        Lie::about(about, Answer::Truncated),
    ] {
        liar.tell(lie.times(1));
    }
    let look_ups = liar.statements(LOOK_UP);
    let second = worker(&world, &liar, &[]);
    world.settled(SOON * 2).await;
    world.holds_exactly(&sent).await;
    assert!(
        liar.statements(LOOK_UP) > look_ups + 4,
        "a lie was believed: {} look-ups",
        liar.statements(LOOK_UP) - look_ups
    );
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_is_published_only_when_the_engine_has_its_override() {
    let Stage { world, liar, worker } = Stage::set(&[]).await;
    let overrides = About::InsertsInto("person_distinct_id_overrides");
    for (user, answer) in [
        ("u0", Answer::stranger(200, "")),
        ("u1", Answer::stranger(200, "It works!")),
        ("u2", Answer::wrote(0)),
    ] {
        let anonymous = format!("of {user}");
        liar.tell(Lie::about(overrides, answer).times(2));
        world.event(&anonymous, &[]).await;
        world.event(user, &[]).await;
        world.settled(SOON).await;
        world.identify(user, &anonymous).await;
        world.settled(SOON).await;
        let [in_pg, in_redis, in_clickhouse] = world.persons_of(&anonymous).await;
        assert!(in_pg.is_some());
        assert_eq!((in_redis, in_clickhouse), (in_pg, in_pg), "{anonymous}");
    }
    assert_eq!(liar.lied(), 6);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_itself_refuses_is_still_found_and_set_aside_alone() {
    let Stage { world, liar, worker } = Stage::set(&[]).await;
    let refused = Lie::about(EVENTS, Answer::refusal(469, "Constraint is violated"));
    liar.tell(refused.holding("the bad one"));
    let mut sent = world.load(60, 10).await;
    world.event("somebody", &[("event_name", "the bad one")]).await;
    sent.extend(world.load(60, 10).await);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert_eq!(world.length("events:rejected").await, Some(1));
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_of_several_pieces_land() {
    let Stage { world, liar, worker } = Stage::set(&[("CLICKHOUSE_COMPRESSION", "lz4")]).await;
    let mut sent = BTreeSet::new();
    for n in 0..12u32 {
        // Half of it is hard to compress.
        let noise: String = (0..8000).map(|_| Uuid::new_v4().simple().to_string()).collect();
        let text = format!(r#"{{"n":{n},"text":"{noise}{}"}}"#, "a".repeat(250_000));
        let event_id = Uuid::new_v4();
        let fields = [
            ("event_id", event_id.to_string()),
            ("project_id", PROJECT.to_owned()),
            ("event_name", "large".to_owned()),
            ("distinct_id", "somebody".to_owned()),
            ("properties", text),
        ];
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        world.add(&fields).await;
        sent.insert(event_id);
    }
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    let lengths = world
        .ch("SELECT min(length(properties)) > 500000 FROM events")
        .await;
    assert_eq!(lengths, "1");
    drop((liar, worker));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_postgres_rolled_back_is_not_taken_for_committed() {
    let world = World::start().await;
    let postgres =
        qurvo_processor::stores::Postgres::new(&world.stack.database_url().unwrap().parse().unwrap())
            .unwrap();
    let transaction = postgres.begin("testing").await.unwrap();
    transaction.start().await.unwrap();
    transaction
        .query(
            "INSERT INTO projects (id, name) VALUES (gen_random_uuid(), 'lost')",
            &[],
        )
        .await
        .unwrap();
    // A statement fails and nobody looks: what follows is answered with ROLLBACK, and without an error.
    transaction.query("SELECT 1 / 0", &[]).await.unwrap_err();
    let committed = transaction.commit().await;
    assert!(
        committed.is_err(),
        "a transaction without its rows counts as committed"
    );
    let lost = world
        .pg("SELECT count(*) FROM projects WHERE name = 'lost'")
        .await;
    assert_eq!(lost, ["0"]);

    let transaction = postgres.begin("testing").await.unwrap();
    transaction.start().await.unwrap();
    transaction
        .query(
            "INSERT INTO projects (id, name) VALUES (gen_random_uuid(), 'kept')",
            &[],
        )
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let kept = world
        .pg("SELECT count(*) FROM projects WHERE name = 'kept'")
        .await;
    assert_eq!(kept, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_a_stranger_took_are_not_shown() {
    let world = World::start().await;
    let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
    let definition = r#"{"type": "AND", "values": [{"type": "person_property", "property": "plan", "operator": "eq", "value": "pro"}]}"#;
    world
        .pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name) VALUES ('{PROJECT}', 'a@b.example', '', '');
             INSERT INTO cohorts (id, project_id, created_by, name, definition)
             VALUES ('{PROJECT}', '{PROJECT}', '{PROJECT}', 'pro', '{definition}')"
        ))
        .await;
    world
        .ch(&format!(
            "INSERT INTO events (project_id, event_name, distinct_id, person_id, timestamp, user_properties)
             VALUES ('{PROJECT}', 'x', 'ann', '{PROJECT}', now64(3) - INTERVAL 1 SECOND, '{{\"plan\":\"pro\"}}')"
        ))
        .await;
    let through_the_liar = [("CLICKHOUSE_URL", liar.url.as_str())];
    let recompute = || world.run(&["cohorts", "recompute"], &through_the_liar);
    let shown = async || {
        let version = world
            .pg("SELECT coalesce(membership_version, 0) FROM cohorts")
            .await;
        let members = format!(
            "SELECT count() FROM cohort_members WHERE version = {}",
            version[0]
        );
        (version[0] != "0", world.ch(&members).await)
    };
    let members = About::Statements("INSERT INTO cohort_members");
    for answer in [Answer::stranger(200, ""), Answer::stranger(200, "It works!")] {
        liar.tell(Lie::about(members, answer));
        let (_, said) = recompute();
        assert_eq!(shown().await, (false, "0".to_owned()), "{said}");
        liar.stop_lying();
    }
    let (succeeded, said) = recompute();
    assert!(succeeded, "{said}");
    assert_eq!(shown().await, (true, "1".to_owned()), "{said}");
    assert!(liar.lied() >= 2);
}
