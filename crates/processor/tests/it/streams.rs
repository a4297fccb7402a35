//! Several streams: shared out among instances, and moved to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use redis::streams::StreamInfoConsumersReply;
use uuid::Uuid;

use crate::holding::Holding;
use crate::support::{GROUP, PROJECT, QUEUE, SOON, STREAM, Worker, World, eventually};

/// Events for `persons`, by the program's own `send`. Returns their ids.
fn send(world: &World, environment: &[(&str, &str)], count: usize, persons: usize) -> BTreeSet<Uuid> {
    let path = world.path(&format!("{}.ndjson", Uuid::new_v4().simple()));
    let mut file = std::fs::File::create(&path).unwrap();
    let mut ids = BTreeSet::new();
    for n in 0..count {
        let (id, person) = (Uuid::new_v4(), n % persons);
        ids.insert(id);
        let properties = format!(r#"{{"last":{n}}}"#);
        let event = serde_json::json!({
            "event_id": id.to_string(), "project_id": PROJECT, "distinct_id": format!("d{person}"),
            "event_name": "test", "user_properties": properties,
        });
        writeln!(file, "{event}").unwrap();
    }
    let (fine, said) = world.run(
        &["send", "--by", "distinct-id", path.to_str().unwrap()],
        environment,
    );
    assert!(fine, "{said}");
    ids
}

/// Everything in these streams was read and acknowledged.
async fn are_settled(world: &World, streams: &[String]) -> bool {
    for stream in streams {
        let mut groups = redis::cmd("XINFO");
        groups.arg("GROUPS").arg(stream);
        let groups = groups.query_async(&mut world.redis.clone()).await;
        let Ok(groups): Result<redis::streams::StreamInfoGroupsReply, _> = groups else {
            return false;
        };
        if !groups
            .groups
            .iter()
            .any(|group| group.pending == 0 && group.lag == Some(0))
        {
            return false;
        }
    }
    true
}

/// Who has the lease of each stream: the consumer of the group that read last.
async fn leases(world: &World, streams: &[String]) -> Vec<bool> {
    let mut held = Vec::new();
    for stream in streams {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(format!("processor:reader:{stream}"));
        held.push(exists.query_async(&mut world.redis.clone()).await.unwrap());
    }
    held
}

/// How many of the streams each worker says it reads, by its own log.
fn read_by(workers: &[&Worker], streams: &[String]) -> Vec<BTreeSet<String>> {
    let of = |worker: &Worker| {
        let mut read = BTreeSet::new();
        for line in worker.log().lines() {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            let (message, stream) = (
                line["message"].as_str().unwrap_or(""),
                line["stream"].as_str().unwrap_or(""),
            );
            if message.contains("reads the stream from now on") {
                read.insert(stream.to_owned());
            } else if message.contains("reads the stream no more")
                || message.contains("lease of a stream was lost")
            {
                read.remove(stream);
            }
        }
        assert!(read.iter().all(|stream| streams.contains(stream)));
        read
    };
    workers.iter().map(|worker| of(worker)).collect()
}

fn are_shared(read: &[BTreeSet<String>], streams: &[String]) -> bool {
    let (counts, all): (Vec<usize>, usize) = (
        read.iter().map(BTreeSet::len).collect(),
        read.iter().map(BTreeSet::len).sum(),
    );
    let union: BTreeSet<&String> = read.iter().flatten().collect();
    all == streams.len()
        && union.len() == streams.len()
        && counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}:{{{n}}}")).collect()
}

#[tokio::test]
async fn instances_share_streams_out_and_take_over_those_of_one_that_dies() {
    let world = World::start().await;
    let streams = names(STREAM, 4);
    let environment = [
        ("PROCESSOR_STREAM", "events:incoming:{0..3}"),
        ("PROCESSOR_STREAM_SHARE", "auto"),
    ];
    let mut a = world.worker("a", &environment);
    eventually("one instance reads all", SOON, async || {
        are_shared(&read_by(&[&a], &streams), &streams)
    })
    .await;
    let mut sent = send(&world, &environment, 3000, 300);
    let b = world.worker("b", &environment);
    let mut c = world.worker("c", &environment);
    eventually("three instances share them", SOON, async || {
        are_shared(&read_by(&[&a, &b, &c], &streams), &streams)
    })
    .await;
    sent.extend(send(&world, &environment, 3000, 300));
    eventually("all is settled", SOON, async || {
        are_settled(&world, &streams).await
    })
    .await;
    world.holds_exactly(&sent).await;

    // Fresh entries of one stream went to one instance at a time.
    sent.extend(send(&world, &environment, 2000, 300));
    a.kill();
    eventually("two instances share what the dead one had", SOON, async || {
        are_shared(&read_by(&[&b, &c], &streams), &streams)
    })
    .await;
    sent.extend(send(&world, &environment, 2000, 300));
    eventually("all is settled", SOON, async || {
        are_settled(&world, &streams).await
    })
    .await;
    world.holds_exactly(&sent).await;

    b.terminate();
    eventually("one instance has them all", SOON, async || {
        are_shared(&read_by(&[&c], &streams), &streams)
    })
    .await;
    assert_eq!(leases(&world, &streams).await, [true; 4]);
    sent.extend(send(&world, &environment, 500, 300));
    eventually("all is settled", SOON, async || {
        are_settled(&world, &streams).await
    })
    .await;
    world.holds_exactly(&sent).await;

    // Each says whose streams it takes over, and what becomes of its own.
    assert!(c.log().contains(r#""gone":"a""#), "{}", c.log());
    assert!(
        b.log().contains("it is ending, another instance takes it over"),
        "{}",
        b.log()
    );
    c.terminate();
    c.ended(SOON).await;
    let nobody = "it is ending, and no other instance is there to take it over";
    assert!(c.log().contains(nobody), "{}", c.log());
}

#[tokio::test]
async fn a_stream_changes_hands_only_once_what_was_read_of_it_has_landed() {
    let world = World::start().await;
    let streams = names(STREAM, 1);
    let environment = [
        ("PROCESSOR_STREAM", "events:incoming:{0..0}"),
        ("PROCESSOR_STREAM_SHARE", "auto"),
    ];
    let a = world.worker("a", &[environment[0], environment[1], ("DLQ_MAXLEN", "1")]);
    eventually("it reads", SOON, async || {
        are_shared(&read_by(&[&a], &streams), &streams)
    })
    .await;
    // While the engine is stopped nothing lands; the dead-letter queue is soon full, so the entries are held.
    world.stack.clickhouse().unwrap().pause().await.unwrap();
    let sent = send(&world, &environment, 200, 20);
    let pending = async |consumer: &str| {
        let mut info = redis::cmd("XINFO");
        info.arg("CONSUMERS").arg(&streams[0]).arg(GROUP);
        let reply: StreamInfoConsumersReply = info.query_async(&mut world.redis.clone()).await.unwrap();
        let found = reply.consumers.iter().find(|found| found.name == consumer);
        found.map_or(0, |found| found.pending)
    };
    eventually("the instance holds them", SOON, async || {
        pending("a").await == 200
    })
    .await;
    a.terminate();
    let b = world.worker("b", &environment);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        read_by(&[&b], &streams)[0].is_empty(),
        "the stream changed hands before what was read of it landed"
    );
    world.stack.clickhouse().unwrap().resume().await.unwrap();
    eventually("all is settled", 2 * SOON, async || {
        are_settled(&world, &streams).await
    })
    .await;
    eventually("the other one reads", SOON, async || {
        are_shared(&read_by(&[&b], &streams), &streams)
    })
    .await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn producers_move_from_one_stream_to_several_and_no_event_overtakes_an_older_one() {
    let world = World::start().await;
    let (before, all) = (
        [("PROCESSOR_STREAM", STREAM)],
        "events:incoming,events:incoming:{0..3}",
    );
    let after = [
        ("PROCESSOR_STREAM", all),
        ("PROCESSOR_STREAM_FIRST", STREAM),
        ("PROCESSOR_PROPERTY_ORDER", "arrival"),
    ];
    let old = send(&world, &before, 5000, 50);
    let new = send(&world, &after, 500, 50);
    let streams = names(STREAM, 4);
    let order = async || -> (String, String) {
        let ids: Vec<String> = new.iter().map(|id| format!("'{id}'")).collect();
        let landed = format!(
            "SELECT countIf(event_id IN ({0})), countIf(event_id NOT IN ({0})) FROM events",
            ids.join(",")
        );
        let landed = world.ch(&landed).await;
        let (new, old) = landed.split_once('\t').unwrap();
        (new.to_owned(), old.to_owned())
    };
    let (a, b) = (world.worker("a", &after), world.worker("b", &after));
    let mut seen = BTreeMap::new();
    eventually("all has landed", 2 * SOON, async || {
        let (new, old) = order().await;
        seen.insert(new.clone(), old.clone());
        assert!(
            new == "0" || old == "5000",
            "{new} new events have landed after {old} old ones"
        );
        new == "500"
    })
    .await;
    eventually("all is settled", SOON, async || {
        are_settled(&world, &streams).await
    })
    .await;
    let sent: BTreeSet<Uuid> = old.union(&new).copied().collect();
    world.holds_exactly(&sent).await;
    assert!(
        a.log().contains("not reading the stream yet") && b.log().contains("are at their end: reading it")
    );
    // What was sent last is what persons have.
    let last = world
        .pg("SELECT DISTINCT (properties->>'last')::int >= 450 FROM persons")
        .await;
    assert_eq!(last, ["t"]);
}

#[tokio::test]
async fn an_instance_that_has_no_warehouse_leaves_its_streams_to_one_that_has() {
    let world = World::start().await;
    let streams = names(STREAM, 4);
    let environment = [
        ("PROCESSOR_STREAM", "events:incoming:{0..3}"),
        ("PROCESSOR_STREAM_SHARE", "auto"),
        ("CLICKHOUSE_REQUEST_TIMEOUT_MS", "1000"),
        ("DLQ_REPLAY_INTERVAL_MS", "300"),
    ];
    let port = world.stack.clickhouse().unwrap().port();
    let way = Holding::before(port, &["INSERT", "SELECT"]).await;
    let url = format!("http://{}", way.address);
    let mut cut = environment.to_vec();
    cut.push(("CLICKHOUSE_URL", &url));
    cut.push(("PROCESSOR_ROLES", "consume"));
    let a = world.worker("a", &cut);
    let b = world.worker("b", &environment);
    eventually("both share them", SOON, async || {
        are_shared(&read_by(&[&a, &b], &streams), &streams)
    })
    .await;
    way.hold();
    let sent = send(&world, &environment, 400, 100);
    eventually("the other one reads all", 2 * SOON, async || {
        are_shared(&read_by(&[&b], &streams), &streams)
    })
    .await;
    eventually("all is settled", 2 * SOON, async || {
        are_settled(&world, &streams).await && world.length(QUEUE).await == Some(0)
    })
    .await;
    world.holds_exactly(&sent).await;
    way.let_go();
    eventually("both share them again", 2 * SOON, async || {
        are_shared(&read_by(&[&a, &b], &streams), &streams)
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_cannot_be_taken_is_told_and_holds_up_its_own_stream_alone() {
    let world = World::start().await;
    let streams = names(STREAM, 3);
    let environment = [
        ("PROCESSOR_STREAM", "events:incoming:{0..2}"),
        ("PROCESSOR_STREAM_SHARE", "auto"),
    ];
    let key = format!("processor:reader:{}", streams[0]);
    let mut set = redis::cmd("HSET");
    set.arg(&[key.as_str(), "a", "b"]);
    set.query_async::<()>(&mut world.redis.clone()).await.unwrap();
    let a = world.worker("a", &environment);
    eventually("it reads the others", SOON, async || {
        read_by(&[&a], &streams)[0].iter().eq(&streams[1..])
    })
    .await;
    let said = a.log();
    assert!(
        said.contains("the lease of a stream cannot be taken") && said.contains(&key),
        "{said}"
    );
    let mut delete = redis::cmd("DEL");
    delete
        .arg(&key)
        .query_async::<()>(&mut world.redis.clone())
        .await
        .unwrap();
    eventually("it reads all", SOON, async || {
        are_shared(&read_by(&[&a], &streams), &streams)
    })
    .await;
}
