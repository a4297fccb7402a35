//! What operators do with dead letters by hand.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::letters::{QUICK, event_data, letter, rows};
use crate::support::{PROJECT, QUEUE, REJECTED, SOON, World};

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
    assert!(
        code == 2 && said.contains("say what to remove") && said.contains("--older-than 0s --yes"),
        "{code} {said}"
    );
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

#[tokio::test]
async fn operators_list_show_replay_and_purge() {
    let world = World::start().await;
    let ids: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
    let mut letters = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let name = if n == 3 { "\"other\"" } else { "\"old\"" };
        letters.push(letter(&world, &event_data(*id, "d", "").replace("\"old\"", name)).await);
    }
    let run = |arguments: &[&str]| world.run(arguments, &[]);
    let (ok, text) = run(&["dlq", "list", "--event", "old"]);
    assert!(
        ok && text.contains("3 of 3 in events:dlq") && text.contains(&letters[0]),
        "{text}"
    );
    let (ok, text) = run(&["dlq", "list", "--json", "--limit", "2"]);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        ok && lines.len() == 2 && lines[0]["data"]["event_id"] == ids[0].to_string(),
        "{text}"
    );
    for (filter, count) in [
        (vec!["--project", PROJECT], 4),
        (vec!["--project", "22222222-2222-2222-2222-222222222222"], 0),
        (vec!["--reason", "clickhouse_unavailable"], 0),
        (vec!["--older-than", "1h"], 0),
        (vec!["--older-than", "0s"], 4),
        (vec!["--id", &letters[1], "--id", &letters[2]], 2),
    ] {
        let (ok, text) = run(&[vec!["dlq", "replay", "--dry-run"], filter].concat());
        assert!(
            ok && text.contains(&format!("{count} would be replayed")),
            "{text}"
        );
    }
    let (ok, text) = run(&["dlq", "show", &letters[0]]);
    assert!(ok && text.contains(&ids[0].to_string()), "{text}");
    let (ok, text) = run(&["dlq", "show", "1-1"]);
    assert!(!ok && text.contains("1-1 is not in events:dlq"), "{text}");

    let (ok, text) = run(&["dlq", "purge", "--id", &letters[2], "--dry-run"]);
    assert!(ok && text.contains("1 would be removed"), "{text}");
    let (ok, text) = run(&["dlq", "purge", "--id", &letters[2]]);
    assert!(ok && text.contains("1 of 1 removed"), "{text}");
    let (ok, text) = run(&["dlq", "replay", "--event", "other"]);
    assert!(ok && text.starts_with("1 landed\n"), "{text}");
    let (ok, text) = run(&["dlq", "replay", "--id", &letters[0]]);
    assert!(ok, "{text}");
    let landed: Vec<String> = [
        rows(&world, ids[0]).await,
        rows(&world, ids[1]).await,
        rows(&world, ids[3]).await,
    ]
    .into();
    assert_eq!(landed, ["1", "0", "1"]);
    assert_eq!(world.length(QUEUE).await, Some(1));
}

#[tokio::test]
async fn a_rejected_event_is_replayed_on_request_only_once_its_project_exists() {
    let world = World::start().await;
    let run = |arguments: &[&str]| world.run(arguments, &[]);
    let project = "22222222-2222-2222-2222-222222222222";
    let mut worker = world.worker("w1", &[QUICK]);
    world
        .add(&[
            ("project_id", project),
            ("distinct_id", "d"),
            ("event_name", "early"),
        ])
        .await;
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let (ok, text) = run(&["dlq", "list", "--rejected", "--reason", "unknown_project"]);
    assert!(ok && text.contains("1 of 1 in events:rejected"), "{text}");
    let (code, text, said) = dlq(&world, &["replay", "--rejected", "--project", project], &[]);
    assert!(
        code == 1 && text.starts_with("0 landed, 1 rejected: see `dlq list --rejected`"),
        "what is rejected again is no success: {code} {text} {said}"
    );
    let (ok, text) = run(&["projects", "add", "late", "--id", project]);
    assert!(ok && text == format!("{project}\n"), "{text}");
    let (ok, text) = run(&["dlq", "replay", "--rejected", "--project", project]);
    assert!(ok && text.starts_with("1 landed\n"), "{text}");
    assert_eq!(
        world
            .ch("SELECT count() FROM events WHERE event_name = 'early'")
            .await,
        "1"
    );
    assert_eq!(world.length(REJECTED).await, Some(0));
}
