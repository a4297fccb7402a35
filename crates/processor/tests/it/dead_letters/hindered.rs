//! A correction that would make two of one event, or for which there is no room, changes nothing and says why.

use serde_json::json;
use uuid::Uuid;

use super::corrections::{correct, object, processed, the_only_one, the_rejected_one, told};
use crate::holding::Holding;
use crate::support::letters::{event_data, letter, rows};
use crate::support::{PROJECT, QUEUE, REJECTED, World, ask, entries};

const SET: [&str; 2] = ["--set", "event_name=right"];

/// The entry that an event came from.
const ENTRY: &str = "1795000000000-1";

/// What is in the request that looks for rows by event id.
const BY_ID: &[&str] = &["project_id IN {projects"];

/// A rejected event without a name, of this id and entry. Returns where it stands.
async fn rejected(world: &World, id: Uuid, entry: &str) -> String {
    let data = json!({"event_id": id, "project_id": PROJECT, "distinct_id": "d"}).to_string();
    let fields = [
        REJECTED,
        "*",
        "data",
        &data,
        "reason",
        "missing_fields",
        "stream",
        "events:incoming",
        "stream_id",
        entry,
    ];
    ask(world, "XADD", &fields).await
}

/// What a correction says that goes through a proxy before ClickHouse, with what happens once the proxy holds it.
async fn corrected(
    world: &World,
    id: &str,
    environment: &[(&str, &str)],
    once_held: impl AsyncFnOnce(&Holding),
) -> (i32, String, String) {
    let clickhouse = Holding::before(world.stack.clickhouse().unwrap().port(), BY_ID).await;
    clickhouse.hold();
    let through = format!("http://{}", clickhouse.address);
    let environment = [&[("CLICKHOUSE_URL", through.as_str())], environment].concat();
    let arguments = [&["dlq", "correct", id, "--rejected"], &SET[..]].concat();
    let mut command = world.command(&arguments, &environment);
    // The proxy goes on meanwhile.
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    clickhouse.caught().await;
    once_held(&clickhouse).await;
    told(&ended.await.unwrap())
}

/// A command that ended after the row was there and before the letter was gone.
#[tokio::test]
async fn a_corrected_event_that_has_landed_is_not_corrected_into_a_second_one() {
    let world = World::start().await;
    let id = Uuid::new_v4();
    let data = json!({"event_id": id, "project_id": PROJECT, "distinct_id": "d", "event_name": "e",
        "timestamp": "2026-11-01T10:00:00.000Z"});
    let add = async || -> String {
        let data = data.to_string();
        let fields = [
            REJECTED,
            "*",
            "data",
            &data,
            "reason",
            "corrected",
            "stream",
            "events:incoming",
            "stream_id",
            "5-1",
        ];
        ask(&world, "XADD", &fields).await
    };
    let first = add().await;
    let (code, out, said) = told(&world.output(&["dlq", "replay", "--rejected", "--id", &first], &[]));
    assert!(code == 0, "{out} {said}");
    let left = add().await;
    let (code, _, said) = correct(&world, &left, &["--set", "event_name=other"]);
    assert!(code == 1 && said.contains("has landed already"), "{said}");
    assert_eq!(the_rejected_one(&world).await.id, left);
    let (code, _, said) = told(&world.output(&["dlq", "replay", "--rejected", "--id", &left], &[]));
    assert!(code == 0, "{said}");
    assert_eq!(rows(&world, id).await, "1");
    assert_eq!(world.length(REJECTED).await, Some(0));
}

#[tokio::test]
async fn a_row_with_the_events_id_stands_in_the_way_whatever_its_name_and_time() {
    let world = World::start().await;
    let id = Uuid::new_v4().to_string();
    let other = "22222222-2222-2222-2222-222222222222";
    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{other}', 'another')"
        ))
        .await;
    let ids = [
        ("event_id", id.as_str()),
        ("project_id", PROJECT),
        ("distinct_id", "d"),
    ];
    let again = [
        &ids[..],
        &[
            ("event_name", "sent again"),
            ("timestamp", "2026-01-02T03:04:05Z"),
        ],
    ]
    .concat();
    processed(&world, &[&ids, &again]).await;
    let old = the_rejected_one(&world).await;
    let (code, _, said) = correct(&world, &old.id, &SET);
    assert!(
        code == 1
            && said.contains(&format!(
                "an event with its event_id, {id}, has landed already, as \"sent again\" of 2026-01-02T03:04:05Z"
            ))
            && said.contains(&format!("`dlq purge --rejected --id {}`", old.id)),
        "{code} {said}"
    );
    let (code, out, _) = correct(&world, &old.id, &[&SET[..], &["--json"]].concat());
    let out = object(&out);
    assert_eq!(
        (code, &out["landed"], &out["id"]),
        (1, &json!(false), &json!(old.id))
    );
    assert!(
        out["error"].as_str().unwrap().contains("has landed already"),
        "{out}"
    );
    // Its old project counts as well as its new one.
    let moved = [
        "--set",
        "event_name=right",
        "--set",
        &format!("project_id={other}"),
    ];
    let (code, _, said) = correct(&world, &old.id, &moved);
    assert!(code == 1 && said.contains("has landed already"), "{code} {said}");
    assert_eq!(the_rejected_one(&world).await.map, old.map);
    assert_eq!(rows(&world, id.parse().unwrap()).await, "1");
    assert_eq!(world.length(QUEUE).await, Some(0));
}

#[tokio::test]
async fn nothing_is_changed_before_the_look_for_such_a_row_has_ended() {
    let world = World::start().await;
    let id = Uuid::new_v4();
    let letter = rejected(&world, id, ENTRY).await;
    let soon = [("CLICKHOUSE_REQUEST_TIMEOUT_MS", "1500")];
    let (code, _, said) = corrected(&world, &letter, &soon, async |_| {}).await;
    assert!(
        code == 1
            && said.contains("could not be found out")
            && said.contains("no answer within 1500 ms")
            && said.contains("`CLICKHOUSE_REQUEST_TIMEOUT_MS="),
        "{code} {said}"
    );
    assert_eq!(the_rejected_one(&world).await.id, letter);
    let (code, out, said) = correct(&world, &letter, &SET);
    assert!(code == 0 && out.ends_with("1 landed\n"), "{out} {said}");
    assert_eq!(rows(&world, id).await, "1");
}

#[tokio::test]
async fn a_lock_that_was_lost_during_the_looks_leaves_the_event_as_it_was() {
    let world = World::start().await;
    let letter = rejected(&world, Uuid::new_v4(), ENTRY).await;
    let stolen = async |clickhouse: &Holding| {
        let () = ask(&world, "SET", &["dlq:replay:lock", "another's"]).await;
        clickhouse.let_go();
    };
    let (code, _, said) = corrected(&world, &letter, &[], stolen).await;
    assert!(
        code == 1 && said.contains("left as it was: the lock was lost"),
        "{code} {said}"
    );
    assert_eq!(the_rejected_one(&world).await.id, letter);
    assert_eq!(world.length(QUEUE).await, Some(0));
    assert_eq!(
        ask::<String>(&world, "GET", &["dlq:replay:lock"]).await,
        "another's"
    );
}

#[tokio::test]
async fn of_two_letters_of_one_entry_neither_is_corrected_before_the_other_has_gone() {
    let world = World::start().await;
    let id = Uuid::new_v4();
    let [first, second] = [
        rejected(&world, id, ENTRY).await,
        rejected(&world, id, ENTRY).await,
    ];
    rejected(&world, Uuid::new_v4(), "1795000000000-2").await;
    for (letter, other) in [(&first, &second), (&second, &first)] {
        let (code, _, said) = correct(&world, letter, &SET);
        assert!(
            code == 1
                && said.contains(&format!("{other} in events:rejected is of the same entry"))
                && said.contains(&format!("`dlq purge --rejected --id {other}`")),
            "{code} {said}"
        );
    }
    let (ok, text) = world.run(&["dlq", "purge", "--rejected", "--id", &second], &[]);
    assert!(ok, "{text}");
    // One that was corrected before waits among the dead letters.
    let fields = [
        QUEUE,
        "*",
        "data",
        &event_data(id, "d", ""),
        "reason",
        "corrected",
        "stream",
        "events:incoming",
        "stream_id",
        ENTRY,
    ];
    let waiting: String = ask(&world, "XADD", &fields).await;
    let (code, _, said) = correct(&world, &first, &SET);
    assert!(
        code == 1 && said.contains(&format!("{waiting} in events:dlq is of the same entry")),
        "{code} {said}"
    );
    let (code, _, said) = told(&world.output(&["dlq", "correct", &waiting, "--set", "url=x"], &[]));
    assert!(
        code == 1 && said.contains(&format!("{first} in events:rejected is of the same entry")),
        "{code} {said}"
    );
    let (ok, text) = world.run(&["dlq", "purge", "--id", &waiting], &[]);
    assert!(ok, "{text}");
    let (code, out, said) = correct(&world, &first, &SET);
    assert!(code == 0 && out.ends_with("1 landed\n"), "{out} {said}");
    assert_eq!(rows(&world, id).await, "1");
    assert_eq!(entries(&world, REJECTED).await.len(), 1);
}

#[tokio::test]
async fn a_full_queue_of_dead_letters_takes_no_corrected_event() {
    let world = World::start().await;
    let id = Uuid::new_v4();
    let old = rejected(&world, id, ENTRY).await;
    let dead = letter(&world, &event_data(Uuid::new_v4(), "d", "")).await;
    let full = [("DLQ_MAXLEN", "1")];
    let arguments = [&["dlq", "correct", &old, "--rejected"], &SET[..]].concat();
    let (code, _, said) = told(&world.output(&arguments, &full));
    assert!(
        code == 1 && said.contains("events:dlq, which is full") && said.contains("DLQ_MAXLEN"),
        "{code} {said}"
    );
    assert_eq!(the_rejected_one(&world).await.id, old);
    assert_eq!(the_only_one(&world, QUEUE).await.id, dead);
    // What takes its own place needs no room.
    let (code, out, said) = told(&world.output(&["dlq", "correct", &dead, "--set", "url=x"], &full));
    assert!(code == 0 && out.ends_with("1 landed\n"), "{out} {said}");
    let (code, out, said) = told(&world.output(&arguments, &full));
    assert!(code == 0 && out.ends_with("1 landed\n"), "{out} {said}");
    assert_eq!(rows(&world, id).await, "1");
}

#[tokio::test]
async fn where_an_event_stands_is_said_when_it_is_looked_for_elsewhere() {
    let world = World::start().await;
    let id = Uuid::new_v4();
    let old = rejected(&world, id, ENTRY).await;
    // In the same millisecond both queues would give the same id.
    let data = event_data(Uuid::new_v4(), "d", "");
    let dead: String = ask(&world, "XADD", &[QUEUE, "7-7", "data", &data]).await;
    let (code, _, said) = told(&world.output(&["dlq", "correct", &old, "--set", "url=x"], &[]));
    let elsewhere = format!("{old} is not in events:dlq, but in events:rejected: say it with `--rejected`");
    assert!(code == 1 && said.contains(&elsewhere), "{said}");
    let (code, _, said) = correct(&world, &dead, &SET);
    let elsewhere =
        format!("{dead} is not in events:rejected, but in events:dlq: say it without `--rejected`");
    assert!(code == 1 && said.contains(&elsewhere), "{said}");
    world
        .ch("ALTER TABLE events ADD CONSTRAINT broken CHECK throwIf(event_name != '') = 0")
        .await;
    let (code, _, said) = correct(&world, &old, &SET);
    assert!(code == 1 && said.contains("has not landed yet"), "{code} {said}");
    let now = entries(&world, QUEUE).await.pop().unwrap().id;
    let (code, _, said) = correct(&world, &old, &SET);
    assert!(
        code == 1
            && said.contains(&format!(
                "corrected, it stands in events:dlq as {now} until it has landed"
            )),
        "{said}"
    );
    let (code, _, said) = correct(&world, "1-1", &SET);
    assert!(code == 1 && said.contains("or never there"), "{said}");
}
