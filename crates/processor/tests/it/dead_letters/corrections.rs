//! Events that were set aside are corrected by hand and sent again, each as the event that it was.

use std::io::Write;
use std::process::{Output, Stdio};

use redis::streams::StreamId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::letters::{event_data, letter, rows};
use crate::support::{PROJECT, QUEUE, REJECTED, SOON, World, ask, entries};

/// Exit code, standard output and standard error.
pub(super) fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

pub(super) fn correct(world: &World, id: &str, arguments: &[&str]) -> (i32, String, String) {
    told(&world.output(&[&["dlq", "correct", id, "--rejected"], arguments].concat(), &[]))
}

pub(super) fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Has entries go through a worker that is gone afterwards.
pub(super) async fn processed(world: &World, entries: &[&[(&str, &str)]]) {
    let mut worker = world.worker("w1", &[]);
    for entry in entries {
        world.add(entry).await;
    }
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
}

/// The entry that is alone in a queue.
pub(super) async fn the_only_one(world: &World, queue: &str) -> StreamId {
    let mut found = entries(world, queue).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

pub(super) async fn the_rejected_one(world: &World) -> StreamId {
    the_only_one(world, REJECTED).await
}

pub(super) fn field(entry: &StreamId, name: &str) -> String {
    entry.get(name).unwrap()
}

#[tokio::test]
async fn a_rejected_event_lands_as_the_event_it_was_once_it_is_corrected() {
    let world = World::start().await;
    let id = Uuid::new_v4().to_string();
    let first = [
        ("event_id", id.as_str()),
        ("project_id", PROJECT),
        ("distinct_id", "d"),
        ("user_properties", r#"{"plan":"old","only":1}"#),
    ];
    let second = [
        ("project_id", PROJECT),
        ("distinct_id", "d"),
        ("event_name", "later"),
        ("user_properties", r#"{"plan":"new"}"#),
    ];
    processed(&world, &[&first, &second]).await;
    let old = the_rejected_one(&world).await;
    let (_, list, _) = told(&world.output(&["dlq", "list", "--rejected"], &[]));
    for shown in ["missing_fields", "missing fields", "dlq correct ID --rejected"] {
        assert!(list.contains(shown), "{shown}: {list}");
    }
    let (code, out, said) = correct(&world, &old.id, &["--set", "event_name=signup"]);
    let expected = format!("{}: event_name: nothing -> \"signup\"\n1 landed\n", old.id);
    assert_eq!((code, out), (0, expected), "{said}");
    assert_eq!(world.length(REJECTED).await, Some(0));
    let entry_ms = field(&old, "stream_id").split('-').next().unwrap().to_owned();
    let landed = format!(
        "SELECT event_name, toUnixTimestamp64Milli(timestamp), count() FROM events WHERE event_id = '{id}' GROUP BY ALL"
    );
    assert_eq!(world.ch(&landed).await, format!("signup\t{entry_ms}\t1"));
    let properties = world.pg("SELECT properties::text FROM persons").await;
    assert_eq!(
        object(&properties[0]),
        json!({"plan": "new", "only": 1}),
        "what it writes stands at its place in the stream"
    );
    let (code, _, said) = correct(&world, &old.id, &["--set", "event_name=signup"]);
    assert!(code == 1 && said.contains("is not in events:rejected"), "{said}");
    assert_eq!(rows(&world, id.parse().unwrap()).await, "1");
}

#[tokio::test]
async fn a_correction_that_is_wrong_still_says_what_is_and_changes_nothing() {
    let world = World::start().await;
    let broken = [
        ("project_id", PROJECT),
        ("distinct_id", "d"),
        ("event_name", "e"),
        ("timestamp", "nope"),
    ];
    processed(&world, &[&broken]).await;
    let before = the_rejected_one(&world).await;
    let other = "22222222-2222-2222-2222-222222222222";
    for (set, reason, text) in [
        (
            vec!["timestamp=tomorrow"],
            "invalid_timestamp",
            "cannot be read as a time",
        ),
        (
            vec!["timestamp=", "event_name= "],
            "missing_fields",
            "missing fields: event_name",
        ),
        (
            vec!["timestamp=", "distinct_id=null"],
            "illegal_distinct_id",
            "illegal distinct_id value",
        ),
        (
            vec!["timestamp=", "project_id=7"],
            "invalid_project_id",
            "project_id is not a UUID",
        ),
        (
            vec!["timestamp=", &*format!("project_id={other}")],
            "unknown_project",
            "no existing project",
        ),
    ] {
        let options: Vec<&str> = set.iter().flat_map(|assignment| ["--set", *assignment]).collect();
        for how in [vec![], vec!["--dry-run"]] {
            let (code, _, said) = correct(&world, &before.id, &[options.clone(), how].concat());
            assert!(
                code == 1 && said.contains(reason) && said.contains(text) && said.contains("left as it was"),
                "{code} {said}"
            );
        }
        let (code, out, _) = correct(&world, &before.id, &[options, vec!["--json"]].concat());
        let out = object(&out);
        assert_eq!(
            (code, &out["landed"], &out["reason"], &out["id"]),
            (1, &json!(false), &json!(reason), &json!(before.id))
        );
    }
    let after = the_rejected_one(&world).await;
    assert_eq!((after.id, after.map), (before.id, before.map));
    assert_eq!(world.ch("SELECT count() FROM events").await, "0");
}

#[tokio::test]
async fn what_is_no_correction_is_refused_before_anything_is_tried() {
    let world = World::start().await;
    let broken = [
        ("project_id", PROJECT),
        ("distinct_id", "d"),
        ("event_name", "e"),
        ("timestamp", "nope"),
    ];
    processed(&world, &[&broken]).await;
    let before = the_rejected_one(&world).await;
    for (set, code, text) in [
        (
            "timestamp=nope",
            1,
            "nothing is different; `dlq replay --rejected --id",
        ),
        (
            "event_id=b1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d",
            1,
            "follows from the entry",
        ),
        (
            "name=x",
            2,
            "\"name\" is no field of an event; fields are event_id, project_id, event_name",
        ),
    ] {
        let (found, _, said) = correct(&world, &before.id, &["--set", set]);
        assert!(found == code && said.contains(text), "{found} {said}");
    }
    let (code, out, _) = correct(&world, &before.id, &["--set", "timestamp=", "--dry-run"]);
    assert!(code == 0 && out.contains("it would be sent so"), "{out}");
    let after = the_rejected_one(&world).await;
    assert_eq!((after.id, after.map), (before.id, before.map));
    assert_eq!(world.ch("SELECT count() FROM events").await, "0");
}

#[tokio::test]
async fn what_is_shown_can_be_edited_and_given_back_whole() {
    const ID: &str = "1795000000000-1";
    let world = World::start().await;
    ask::<String>(&world, "XADD", &[REJECTED, ID, "data", "no event"]).await;
    let (_, shown, _) = told(&world.output(&["dlq", "show", ID, "--rejected"], &[]));
    let mut shown = object(&shown);
    let (code, _, said) = correct(&world, ID, &["--set", "event_name=e"]);
    assert!(code == 1 && said.contains("give it whole, with --file"), "{said}");
    shown["data"] = json!({"project_id": PROJECT, "distinct_id": "d", "event_name": "e", "colour": "red",
        "properties": {"n": 1}});
    let mut command = world.command(&["dlq", "correct", ID, "--rejected", "--file", "-"], &[]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A mark that some editors write before the first character.
    let text = format!("\u{feff}{shown:#}");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let (code, out, said) = told(&child.wait_with_output().unwrap());
    assert!(code == 0 && out.ends_with("1 landed\n"), "{out} {said}");
    assert!(
        said.contains("colour is no field of an event: it is ignored"),
        "{said}"
    );
    let row =
        "SELECT event_name, JSONExtractInt(properties, 'n'), toUnixTimestamp64Milli(timestamp) FROM events";
    assert_eq!(world.ch(row).await, "e\t1\t1795000000000");
    assert_eq!(world.length(REJECTED).await, Some(0));
}

#[tokio::test]
async fn a_correction_that_a_store_does_not_take_yet_is_a_dead_letter_and_lands_later_once() {
    let world = World::start().await;
    let id = Uuid::new_v4();
    let broken = [
        ("event_id", &*id.to_string()),
        ("project_id", PROJECT),
        ("distinct_id", "d"),
    ];
    processed(&world, &[&broken]).await;
    let old = the_rejected_one(&world).await;
    world
        .ch("ALTER TABLE events ADD CONSTRAINT broken CHECK throwIf(event_name != '') = 0")
        .await;
    let (code, _, said) = correct(&world, &old.id, &["--set", "event_name=e"]);
    let kept = the_only_one(&world, QUEUE).await;
    assert!(
        code == 1
            && said.contains("has not landed yet")
            && said.contains(&format!("it stands in events:dlq as {}", kept.id))
            && said.contains("ClickHouse"),
        "{code} {said}"
    );
    assert_eq!(world.length(REJECTED).await, Some(0));
    assert_eq!(field(&kept, "reason"), "corrected");
    assert_eq!(
        field(&kept, "error"),
        format!("was {}, missing_fields: missing fields: event_name", old.id)
    );
    assert_eq!(field(&kept, "stream_id"), field(&old, "stream_id"));
    world.ch("ALTER TABLE events DROP CONSTRAINT broken").await;
    // It was rejected, and so it has no row that its entry would look for: it may be corrected in every way.
    let again = ["dlq", "correct", &kept.id, "--set", "event_name=f"];
    let (code, out, said) = told(&world.output(&again, &[]));
    assert!(code == 0 && out.ends_with("1 landed\n"), "{out} {said}");
    assert_eq!(rows(&world, id).await, "1");
    assert_eq!(world.ch("SELECT event_name FROM events").await, "f");
    assert_eq!(world.length(QUEUE).await, Some(0));
}

#[tokio::test]
async fn of_two_corrections_at_once_one_lands_and_the_other_changes_nothing() {
    let world = World::start().await;
    for round in 0..3 {
        let id = Uuid::new_v4();
        let data = json!({"event_id": id, "project_id": PROJECT, "distinct_id": "d"}).to_string();
        let old: String = ask(&world, "XADD", &[REJECTED, "*", "data", &data]).await;
        let children: Vec<_> = ["event_name=one", "event_name=two", "event_name=three"]
            .into_iter()
            .map(|set| {
                let arguments = ["dlq", "correct", &old, "--rejected", "--set", set];
                let mut command = world.command(&arguments, &[]);
                command
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let ended = children
            .into_iter()
            .map(|child| told(&child.wait_with_output().unwrap()));
        let ended: Vec<_> = ended.collect();
        let landed = ended.iter().filter(|(code, ..)| *code == 0).count();
        assert_eq!(landed, 1, "round {round}: {ended:?}");
        for (_, _, said) in ended.iter().filter(|(code, ..)| *code != 0) {
            assert!(
                said.contains("another instance replays") || said.contains("is not in events:rejected"),
                "{said}"
            );
        }
        assert_eq!(rows(&world, id).await, "1");
        assert_eq!(world.length(REJECTED).await, Some(0));
    }
}

#[tokio::test]
async fn a_dead_letter_is_corrected_in_the_same_way() {
    let world = World::start().await;
    let id = Uuid::new_v4();
    let dead = letter(
        &world,
        &event_data(id, "d", r#","ip":"1.1.1.1","country":"AU","city":"Sydney""#),
    )
    .await;
    for moving in ["event_name=new", "timestamp=2026-11-02"] {
        let (code, _, said) = told(&world.output(&["dlq", "correct", &dead, "--set", moving], &[]));
        assert!(
            code == 1 && said.contains("keeps its project_id, event_name and timestamp"),
            "{said}"
        );
    }
    let set = ["--set", "properties={\"n\":2}", "--set", "ip=127.0.0.1"];
    let arguments = [&["dlq", "correct", dead.as_str()], &set[..]].concat();
    let (code, out, said) = told(&world.output(&arguments, &[]));
    assert!(code == 0 && out.ends_with("1 landed\n"), "{out} {said}");
    let row = format!("SELECT event_name, properties, ip, country, city FROM events WHERE event_id = '{id}'");
    assert_eq!(world.ch(&row).await, "old\t{\"n\":2}\t127.0.0.1");
    assert_eq!(world.length(QUEUE).await, Some(0));
}

#[tokio::test]
async fn what_a_store_refuses_of_a_corrected_event_is_told_and_the_event_kept_as_corrected() {
    let world = World::start().await;
    world
        .ch("ALTER TABLE events ADD CONSTRAINT no_poison CHECK event_name != 'poison'")
        .await;
    let broken = [("project_id", PROJECT), ("distinct_id", "d"), ("url", "kept")];
    processed(&world, &[&broken]).await;
    let old = the_rejected_one(&world).await;
    let (code, _, said) = correct(&world, &old.id, &["--set", "event_name=poison"]);
    let now = the_rejected_one(&world).await;
    assert!(
        code == 1
            && said.contains("refused as refused_by_warehouse")
            && said.contains("no_poison")
            && said.contains(&now.id),
        "{code} {said}"
    );
    let data = object(&field(&now, "data"));
    assert_eq!(
        (&data["event_name"], &data["url"]),
        (&json!("poison"), &json!("kept"))
    );
    let (code, out, said) = correct(&world, &now.id, &["--set", "event_name=fine", "--json"]);
    let out = object(&out);
    assert_eq!(
        (code, &out["landed"], &out["id"]),
        (0, &json!(true), &Value::Null),
        "{said}"
    );
    assert_eq!(
        out["changed"],
        json!({"event_name": {"before": "poison", "now": "fine"}})
    );
    assert_eq!(world.ch("SELECT event_name FROM events").await, "fine");
    assert_eq!(world.length(REJECTED).await, Some(0));
}
