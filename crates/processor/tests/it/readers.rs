//! What `status` says of who reads which stream, where instances share streams.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::metrics::{address, number, scrape};
use crate::support::{PROJECT, SOON, STATUS, STATUS_JSON, World, ask, eventually};

const TWO: [(&str, &str); 2] = [
    ("PROCESSOR_STREAM", "events:incoming:{0..1}"),
    ("PROCESSOR_STREAM_SHARE", "auto"),
];
const FOUR: [(&str, &str); 2] = [
    ("PROCESSOR_STREAM", "events:incoming:{0..3}"),
    ("PROCESSOR_STREAM_SHARE", "auto"),
];

fn status(world: &World, environment: &[(&str, &str)]) -> Value {
    let output = world.output(&STATUS_JSON, environment);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The instances that have the leases, stream by stream: nothing where nobody has one.
fn leased_to(status: &Value) -> Vec<Option<String>> {
    let of = |stream: &Value| {
        let readers = stream["readers"].as_array().unwrap().iter();
        let mut leased = readers.filter(|reader| reader["lease"] == true);
        let name = |reader: &Value| reader["name"].as_str().unwrap_or("older").to_owned();
        leased.next().map(name)
    };
    status["streams"].as_array().unwrap().iter().map(of).collect()
}

fn life(status: &Value, name: &str) -> Value {
    let instances = status["instances"].as_array().unwrap();
    let found = instances.iter().find(|instance| instance["name"] == name);
    found.map_or(Value::Null, |instance| instance["life"].clone())
}

async fn add(world: &World, stream: &str) {
    let id = uuid::Uuid::new_v4().to_string();
    let fields = [
        stream,
        "*",
        "event_id",
        &id,
        "project_id",
        PROJECT,
        "distinct_id",
        "d",
        "event_name",
        "e",
    ];
    ask::<String>(world, "XADD", &fields).await;
}

fn names(names: &[&str]) -> BTreeSet<Option<String>> {
    names.iter().map(|name| Some((*name).to_owned())).collect()
}

/// Waits until a and b have two streams each, and have said how they work.
async fn share_four(world: &World) {
    eventually("both have leases, and say how they work", SOON, async || {
        let now = status(world, &FOUR);
        let has = |name: &str| {
            leased_to(&now)
                .iter()
                .flatten()
                .filter(|reader| *reader == name)
                .count()
        };
        has("a") == 2 && has("b") == 2 && [0, 1].iter().all(|nth| !now["instances"][*nth]["work"].is_null())
    })
    .await;
}

#[tokio::test]
async fn status_names_who_reads_each_stream_and_calls_nobody_working_who_stands_still() {
    let world = World::start().await;
    let metrics = address();
    let _a = world.worker("a", &[&FOUR[..], &[("METRICS_LISTEN", &metrics)]].concat());
    let b = world.worker("b", &FOUR);
    share_four(&world).await;
    let now = status(&world, &FOUR);
    assert_eq!((&now["not_read"], &now["unknown"]), (&json!([]), &json!([])));
    let told = json!({"list": (0..4).map(|n| format!("events:incoming:{{{n}}}")).collect::<Vec<_>>(), "shared": true, "first": []});
    assert_eq!(now["instances"][0]["streams"], told);
    let (ok, table) = world.run(&STATUS, &FOUR);
    assert!(
        ok && table.contains("read by") && !table.contains("nobody"),
        "{table}"
    );
    // Whoever has no lease says so with a number, too.
    let text = scrape(&metrics).await;
    let held = (0..4).map(|n| {
        let name = format!(r#"lock_held{{lock="processor:reader:events:incoming:{{{n}}}"}}"#);
        number(&text, &name).unwrap_or_else(|| panic!("{name}: {text}"))
    });
    assert_eq!(held.filter(|held| *held > 0.0).count(), 2);

    b.signal(Signal::SIGSTOP);
    eventually("it is seen to stand still", SOON, async || {
        life(&status(&world, &FOUR), "b") == "stalled"
    })
    .await;
    let (ok, table) = world.run(&STATUS, &FOUR);
    assert!(
        ok && table.contains("stalled: silent for") && table.contains("without b (stalled)"),
        "{table}"
    );
    eventually("the other one reads all", SOON, async || {
        leased_to(&status(&world, &FOUR))
            .into_iter()
            .collect::<BTreeSet<_>>()
            == names(&["a"])
    })
    .await;
    b.signal(Signal::SIGCONT);
    eventually("it lives again, and reads", SOON, async || {
        let now = status(&world, &FOUR);
        life(&now, "b") == "alive" && leased_to(&now).contains(&Some("b".to_owned()))
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_was_killed_is_dead_at_once_and_what_nobody_reads_is_the_verdict() {
    let world = World::start().await;
    let (mut a, mut b) = (world.worker("a", &FOUR), world.worker("b", &FOUR));
    share_four(&world).await;
    b.kill();
    eventually(
        "it is seen to be dead before three reports are missing",
        SOON,
        async || {
            let now = status(&world, &FOUR);
            let found = now["instances"]
                .as_array()
                .unwrap()
                .iter()
                .find(|found| found["name"] == "b");
            let found = found.unwrap();
            assert!(found["silent_for_s"].as_u64() <= Some(15), "{found}");
            found["life"] == "dead"
        },
    )
    .await;
    eventually("the other one reads all", SOON, async || {
        leased_to(&status(&world, &FOUR))
            .into_iter()
            .collect::<BTreeSet<_>>()
            == names(&["a"])
    })
    .await;
    let (ok, table) = world.run(&STATUS, &FOUR);
    assert!(ok && table.contains("without b (dead)"), "{table}");

    a.kill();
    add(&world, "events:incoming:{2}").await;
    eventually("what waits is missed", SOON, async || {
        status(&world, &FOUR)["not_read"] == json!(["events:incoming:{2}"])
    })
    .await;
    let (ok, table) = world.run(&STATUS, &FOUR);
    assert!(!ok && table.contains("nobody reads"), "{table}");
}

#[tokio::test]
async fn a_lease_of_the_version_before_is_respected_and_told_and_ours_is_to_it() {
    let world = World::start().await;
    let key = "processor:reader:events:incoming:{0}";
    // As that version takes it: a token alone, if there is no other.
    let take = ["7d1a4f0e-5f0b-4f5e-9a39-0d5cf1c4a3b1", "NX", "PX", "12000"];
    let taken: Option<String> = ask(&world, "SET", &[&[key], &take[..]].concat()).await;
    assert!(taken.is_some());
    let a = world.worker("a", &TWO);
    eventually("it reads the other stream", SOON, async || {
        leased_to(&status(&world, &TWO)) == [Some("older".to_owned()), Some("a".to_owned())]
    })
    .await;
    let now = status(&world, &TWO);
    assert_eq!(
        now["streams"][0]["readers"],
        json!([{"name": null, "life": null, "lease": true}])
    );
    let (_, table) = world.run(&STATUS, &TWO);
    assert!(table.contains("an older version (asks for nothing)"), "{table}");
    assert!(table.contains("a stream has no reader"), "{table}");
    eventually("it has both once that one's time is over", SOON, async || {
        leased_to(&status(&world, &TWO)) == [Some("a".to_owned()), Some("a".to_owned())]
    })
    .await;
    let taken: Option<String> = ask(&world, "SET", &[&[key], &take[..]].concat()).await;
    assert_eq!(taken, None, "{}", a.log());
}

#[tokio::test]
async fn a_stream_of_one_instances_list_that_no_living_instance_reads_is_found() {
    let world = World::start().await;
    let _a = world.worker("a", &TWO);
    let mut b = world.worker("b", &FOUR);
    eventually("all four are read", SOON, async || {
        let leased = leased_to(&status(&world, &FOUR));
        leased.len() == 4 && leased.iter().all(Option::is_some)
    })
    .await;
    b.kill();
    add(&world, "events:incoming:{3}").await;
    // Whoever looks is told of two streams only.
    eventually("the fourth is missed", SOON, async || {
        let now = status(&world, &TWO);
        now["not_read"] == json!(["events:incoming:{3}"]) && now["streams"].as_array().unwrap().len() == 4
    })
    .await;
    let (ok, table) = world.run(&STATUS, &TWO);
    assert!(
        !ok && table.contains("a stream is not read: no living instance reads events:incoming:{3}"),
        "{table}"
    );
    let _c = world.worker("c", &FOUR);
    eventually("one that reads it settles that", SOON, async || {
        let now = status(&world, &TWO);
        now["not_read"] == json!([]) && now["streams"][3]["lag"] == 0
    })
    .await;
}

#[tokio::test]
async fn instances_that_disagree_about_streams_are_told_in_status_and_once_in_the_log() {
    let world = World::start().await;
    let a = world.worker("a", &TWO);
    let b = world.worker("b", &[TWO[0], ("PROCESSOR_STREAM_SHARE", "all")]);
    let c = world.worker("c", &[("PROCESSOR_STREAM", "events:others")]);
    let d = world.worker(
        "d",
        &[
            ("PROCESSOR_STREAM", "events:incoming:{1},events:incoming:{0}"),
            TWO[1],
            ("PROCESSOR_STREAM_FIRST", "events:incoming:{1}"),
        ],
    );
    eventually("all report, and a reads", SOON, async || {
        let now = status(&world, &TWO);
        let reads = |name: &str| life(&now, name) == "alive";
        ["a", "b", "c", "d"].into_iter().all(reads) && leased_to(&now).iter().take(2).all(Option::is_some)
    })
    .await;
    let now = status(&world, &TWO);
    let readers = now["streams"][0]["readers"].as_array().unwrap();
    assert_eq!(readers[1], json!({"name": "b", "life": "alive", "lease": false}));
    let first = &now["instances"][3]["streams"]["first"];
    assert_eq!(*first, json!(["events:incoming:{1}"]));
    let (_, table) = world.run(&STATUS, &TWO);
    for told in [
        "instances have different lists of streams, or share them differently",
        "a has events:incoming:{0}, events:incoming:{1} (PROCESSOR_STREAM_SHARE=auto)",
        "b has events:incoming:{0}, events:incoming:{1} (PROCESSOR_STREAM_SHARE=all)",
        "two may read a stream at once",
        "from place 1 on the order differs (",
        "decides into which stream a project or person is sent",
        "what is read first differs (",
        "c has events:others (PROCESSOR_STREAM_SHARE=all)",
        "and c have no stream in common",
    ] {
        assert!(table.contains(told), "{told}: {table}");
    }
    let said = |log: String| {
        log.matches("another instance has a different list of streams")
            .count()
    };
    eventually("each says so of the others", 2 * SOON, async || {
        [&a, &b, &c, &d].into_iter().all(|worker| said(worker.log()) == 3)
    })
    .await;
    assert!(
        a.log().contains("from place 1 on the order differs (a: "),
        "{}",
        a.log()
    );
    // They look every half a minute.
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!([&a, &b, &c, &d].map(|worker| said(worker.log())), [3; 4]);
}

#[tokio::test]
async fn a_lease_that_nobody_renews_or_reads_by_is_no_reader() {
    let world = World::start().await;
    // Whoever wrote it, wrote it without an end.
    ask::<()>(&world, "SET", &["processor:reader:events:incoming:{0}", "x"]).await;
    let _a = world.worker("a", &TWO);
    eventually("it reads the other stream", SOON, async || {
        leased_to(&status(&world, &TWO)) == [Some("older".to_owned()), Some("a".to_owned())]
    })
    .await;
    add(&world, "events:incoming:{0}").await;
    eventually("what waits is missed", SOON, async || {
        status(&world, &TWO)["not_read"] == json!(["events:incoming:{0}"])
    })
    .await;
    let output = world.output(&STATUS_JSON, &TWO);
    let now: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{now}");
    assert_eq!(
        (&now["verdict"]["state"], &now["verdict"]["answer"]),
        (&json!("wrong"), &json!("a stream is not read"))
    );
    let (_, table) = world.run(&STATUS, &TWO);
    let because = now["verdict"]["because"].as_str().unwrap();
    assert!(
        table.contains(&format!("a stream is not read: {because}")),
        "the same words: {table}"
    );
}

#[tokio::test]
async fn an_instance_that_has_no_stream_because_others_have_all_is_a_standby() {
    let world = World::start().await;
    let workers = ["a", "b", "c"].map(|name| world.worker(name, &TWO));
    let shown = || {
        let (ok, table) = world.run(&STATUS, &TWO);
        let count = |word: &str| {
            let rows = table.lines().filter(|line| line.contains("consume, dlq"));
            rows.filter(|line| line.contains(word)).count()
        };
        (ok, count("standby: others have its streams"), count(" reads "))
    };
    eventually("two of three read", SOON, async || shown() == (true, 1, 2)).await;
    drop(workers);
}
