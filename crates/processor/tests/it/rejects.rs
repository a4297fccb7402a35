//! Bad input hurts only itself.

use std::collections::BTreeMap;

use crate::support::{GROUP, PROJECT, QUEUE, REJECTED, SOON, STREAM, World, ask, entries, eventually};

/// Reasons in `events:rejected`, by stream id.
async fn reasons(world: &World) -> BTreeMap<String, String> {
    let entries = entries(world, REJECTED).await;
    let text = |entry: &redis::streams::StreamId, field: &str| entry.get::<String>(field).unwrap();
    entries
        .iter()
        .map(|entry| (text(entry, "stream_id"), text(entry, "reason")))
        .collect()
}

/// Adds a thousand entries of which four are bad and three odd; the reasons of the bad ones, by stream id.
async fn a_thousand_entries(world: &World) -> BTreeMap<String, String> {
    let mut bad = BTreeMap::new();
    for n in 0..1000 {
        let distinct_id = format!("d{n}");
        let event_id = uuid::Uuid::new_v4().to_string();
        let mut fields = vec![
            ("event_id", event_id.as_str()),
            ("project_id", PROJECT),
            ("event_name", "x"),
        ];
        fields.push(("distinct_id", &distinct_id));
        fields.push(("timestamp", "2026-11-01T10:00:00.000Z"));
        let reason = match n {
            10 => {
                fields[1].1 = "x";
                Some("invalid_project_id")
            }
            20 => {
                fields[1].1 = "22222222-2222-2222-2222-222222222222";
                Some("unknown_project")
            }
            30 => {
                fields.push(("user_properties", "null"));
                None
            }
            40 => {
                fields[4].1 = "soon";
                Some("invalid_timestamp")
            }
            50 => {
                fields[3].1 = " NULL ";
                Some("illegal_distinct_id")
            }
            60 => {
                fields.push(("screen_width", "70000"));
                None
            }
            70 => {
                fields.remove(4);
                fields.remove(0);
                None
            }
            _ => None,
        };
        let id = world.add(&fields).await;
        if let Some(reason) = reason {
            bad.insert(id, reason.to_owned());
        }
    }
    bad
}

#[tokio::test]
async fn four_bad_entries_of_a_thousand_are_set_aside_alone_however_often_delivered() {
    let world = World::start().await;
    let bad = a_thousand_entries(&world).await;
    let mut worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    // Deliver everything a second time: a group that begins at the beginning again.
    worker.kill();
    let () = ask(&world, "XGROUP", &["SETID", STREAM, GROUP, "0"]).await;
    let _worker = world.worker("w2", &[]);
    world.settled(SOON).await;

    assert_eq!(reasons(&world).await, bad);
    assert_eq!(
        world
            .ch("SELECT uniqExact(event_id), countIf(screen_width = 65535) FROM events FINAL")
            .await,
        "996\t1"
    );
    assert_eq!(world.pg("SELECT count(*) FROM persons").await, ["996"]);
    let warnings =
        "SELECT DISTINCT type FROM ingestion_warnings WHERE project_id = toUUID('PROJECT') ORDER BY type";
    eventually("warnings are written", SOON, async || {
        world.ch(&warnings.replace("PROJECT", PROJECT)).await
            == "illegal_distinct_id\ninvalid_event\nmalformed_properties"
    })
    .await;
}

#[tokio::test]
async fn an_entry_that_the_engine_refuses_is_found_and_set_aside_alone() {
    let world = World::start().await;
    world
        .ch("ALTER TABLE events ADD CONSTRAINT no_poison CHECK url != 'poison'")
        .await;
    let mut ids = std::collections::BTreeSet::new();
    let mut poison = Vec::new();
    for n in 0..300 {
        let url = if n % 100 == 42 {
            "poison"
        } else {
            "https://example.com"
        };
        let id = world.event(&format!("d{n}"), &[("url", url)]).await;
        if url == "poison" {
            poison.push(id);
        } else {
            ids.insert(id);
        }
    }
    let _worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    world.holds_exactly(&ids).await;
    let reasons = reasons(&world).await;
    assert_eq!(reasons.len(), poison.len());
    assert!(
        reasons.values().all(|reason| reason == "refused_by_warehouse"),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn the_ring_of_rejects_is_bounded() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[("REJECTED_MAXLEN", "50")]);
    for n in 0..200 {
        world.add(&[("garbage", &n.to_string())]).await;
    }
    world.settled(SOON).await;
    assert_eq!(world.length(REJECTED).await, Some(50));
    assert_eq!(world.length(QUEUE).await, Some(0), "garbage is no dead letter");
}

#[tokio::test]
async fn an_entry_that_is_too_large_is_rejected_with_what_is_small_of_it_and_never_lands_in_part() {
    const FILL: &str = "return redis.call('XADD', KEYS[1], '*', 'properties', string.rep('x', 17 * 1048576),
        'project_id', ARGV[1], 'event_name', 'huge', 'distinct_id', 'd')";
    let world = World::start().await;
    // The server takes a moment to write so much to its file.
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(SOON));
    let client = redis::Client::open(world.stack.redis_url().unwrap()).unwrap();
    let mut redis = client
        .get_multiplexed_async_connection_with_config(&patient)
        .await
        .unwrap();
    let mut fill = redis::cmd("EVAL");
    fill.arg(FILL).arg(1).arg(STREAM).arg(PROJECT);
    let _id: String = fill.query_async(&mut redis).await.unwrap();
    let _worker = world.worker("w1", &[]);
    let rejected = async |reason: &str| -> Vec<String> {
        let entries = entries(&world, REJECTED).await;
        let of_reason = |entry: &&redis::streams::StreamId| entry.get::<String>("reason").unwrap() == reason;
        let data = |entry: &redis::streams::StreamId| entry.get::<String>("data").unwrap();
        entries.iter().filter(of_reason).map(data).collect()
    };
    eventually("it is rejected", SOON, async || {
        rejected("entry_too_large").await.len() == 1
    })
    .await;
    let data = rejected("entry_too_large").await.remove(0);
    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!(
        (&data["event_name"], &data["distinct_id"]),
        (&"huge".into(), &"d".into())
    );
    assert_eq!(data.get("properties"), None);
    let (_replayed, said) = world.run(&["dlq", "replay", "--rejected"], &[]);
    assert_eq!(rejected("unreadable_dead_letter").await.len(), 1, "{said}");
    assert_eq!(world.ch("SELECT count() FROM events").await, "0");
}
