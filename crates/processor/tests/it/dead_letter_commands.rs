//! What operators do with dead letters by hand.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{PROJECT, World};

const QUEUE: &str = "events:dlq";

/// Letters of an event name and a reason. Returns their ids in the queue.
async fn letters(world: &World, count: usize, name: &str, reason: &str) -> Vec<String> {
    let mut pipeline = redis::pipe();
    for _ in 0..count {
        let data = json!({
            "event_id": Uuid::new_v4(), "project_id": PROJECT, "event_name": name, "distinct_id": "d",
            "timestamp": "2026-11-01T10:00:00.000Z",
        });
        pipeline
            .cmd("XADD")
            .arg(QUEUE)
            .arg("*")
            .arg(&[("data", data.to_string().as_str()), ("reason", reason)]);
    }
    pipeline.query_async(&mut world.redis.clone()).await.unwrap()
}

/// Exit code, standard output and standard error.
fn dlq(world: &World, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = world.output(&[&["dlq"], arguments].concat(), environment);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn purging_takes_what_a_filter_selects_only_when_told_twice() {
    let world = World::start().await;
    letters(&world, 1_200, "flood", "clickhouse_unavailable").await;
    let kept = letters(&world, 2, "kept", "postgresql_unavailable").await;
    let (code, _, said) = dlq(&world, &["purge"], &[]);
    assert!(code == 2 && said.contains("--older-than"), "{code} {said}");
    let (code, _, said) = dlq(&world, &["purge", "--dry-run"], &[]);
    assert!(code == 2 && said.contains("say what to remove"), "{code} {said}");
    let (code, _, said) = dlq(&world, &["purge", "--event", "flood"], &[]);
    assert!(
        code == 2 && said.contains("1200 would be removed") && said.contains("--yes"),
        "{code} {said}"
    );
    assert_eq!(world.length(QUEUE).await, Some(1_202), "nothing has gone yet");
    for (filter, count) in [
        (vec!["--reason", "postgresql_unavailable"], 2),
        (vec!["--project", PROJECT], 1_202),
        (vec!["--older-than", "1h"], 0),
        (vec!["--event", "flood", "--reason", "other"], 0),
    ] {
        let (code, text, _) = dlq(
            &world,
            &[vec!["purge", "--dry-run", "--json"], filter].concat(),
            &[],
        );
        assert_eq!(
            (code, object(&text)),
            (
                0,
                json!({"matched": count, "left_queue": 0, "rejected": 0, "absent": [], "stopped": null})
            )
        );
    }
    let (code, text, said) = dlq(&world, &["purge", "--event", "flood", "--yes"], &[]);
    assert!(
        code == 0 && text.contains("1200 of 1200 removed"),
        "{text} {said}"
    );
    assert_eq!(said, "", "no bar where there is no terminal");
    let (code, text, _) = dlq(&world, &["purge", "--id", &kept[0], "--id", "1-1", "--json"], &[]);
    assert_eq!(
        (code, object(&text)),
        (
            1,
            json!({"matched": 1, "left_queue": 1, "rejected": 0, "absent": ["1-1"], "stopped": null})
        )
    );
    assert_eq!(world.length(QUEUE).await, Some(1), "the other one is still there");
}

#[tokio::test]
async fn replaying_says_in_numbers_what_became_of_each() {
    let world = World::start().await;
    let good = letters(&world, 3, "good", "clickhouse_unavailable").await;
    let (code, text, _) = dlq(&world, &["replay", "--dry-run", "--json"], &[]);
    assert_eq!((code, &object(&text)["matched"]), (0, &json!(3)));
    let away = ("CLICKHOUSE_URL", "http://127.0.0.1:1");
    let (code, text, said) = dlq(&world, &["replay", "--json"], &[away]);
    let account = object(&text);
    assert_eq!((code, &account["left_queue"]), (1, &json!(0)), "{text}");
    assert!(
        account["stopped"].as_str().unwrap().contains("ClickHouse") && said.contains("ClickHouse"),
        "{text} {said}"
    );
    for dry in [&["--dry-run"][..], &[]] {
        let (code, text, said) = dlq(&world, &[&["replay", "--id", "1-1"], dry].concat(), &[]);
        assert!(
            code == 1 && text.starts_with('0') && said.contains("1-1 is not in events:dlq"),
            "{text} {said}"
        );
    }
    redis::cmd("XADD")
        .arg(&[QUEUE, "*", "data", "no event"])
        .query_async::<()>(&mut world.redis.clone())
        .await
        .unwrap();
    let (code, text, said) = dlq(
        &world,
        &["replay", "--json", "--id", &good[1], "--id", "1-1"],
        &[],
    );
    assert_eq!(
        (code, object(&text)),
        (
            1,
            json!({"matched": 1, "left_queue": 1, "rejected": 0, "absent": ["1-1"], "stopped": null})
        ),
        "{said}"
    );
    let (code, text, said) = dlq(&world, &["replay", "--json"], &[]);
    assert_eq!(
        (code, object(&text)),
        (
            0,
            json!({"matched": 3, "left_queue": 3, "rejected": 1, "absent": [], "stopped": null})
        ),
        "{said}"
    );
    assert_eq!(world.ch("SELECT count() FROM events").await, "3");
    assert_eq!(world.length(QUEUE).await, Some(0));
}

#[tokio::test]
async fn a_list_that_is_cut_says_so_and_can_be_had_whole() {
    let world = World::start().await;
    let ids = letters(&world, 60, "e", "clickhouse_unavailable").await;
    let (code, text, said) = dlq(&world, &["list", "--json"], &[]);
    assert_eq!((code, text.lines().count()), (0, 50));
    assert!(
        said.contains("10 more in events:dlq") && said.contains("--limit 0"),
        "{said}"
    );
    let (code, text, said) = dlq(&world, &["list", "--json", "--limit", "0"], &[]);
    assert_eq!((code, text.lines().count(), said.as_str()), (0, 60, ""));
    let (_, text, _) = dlq(&world, &["list", "--limit", "0"], &[]);
    assert!(text.contains("60 of 60 in events:dlq"), "{text}");
    let (code, plain, _) = dlq(&world, &["show", &ids[7]], &[]);
    let (code_json, as_json, _) = dlq(&world, &["show", &ids[7], "--json"], &[]);
    assert_eq!((code, code_json, &plain), (0, 0, &as_json));
    assert_eq!(object(&plain)["id"], ids[7]);
    let (code, _, said) = dlq(&world, &["show", "1-1"], &[]);
    assert!(
        code == 1 && said.contains("1-1 is not in events:dlq"),
        "{code} {said}"
    );
}
