//! Redis refuses the worker's credentials, and how they are rotated.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use uuid::Uuid;

use super::clustered::{Clustered, LONG, Load, STREAM};
use super::redis_user::{User, cut, cut_named, set_user};
use crate::support::metrics::{address, scrape};
use crate::support::redis_servers::RedisServer;
use crate::support::{SOON, Worker, World, ask, eventually};

const NEEDS_OPERATOR: &str = "store cannot be used: an operator has to act";
const IS_BACK: &str = "\"store is back\"";

async fn says(worker: &Worker, words: &str) {
    eventually(words, SOON, async || worker.log().contains(words)).await;
}

async fn said_times(worker: &Worker, words: &str, times: usize) {
    let what = format!("{words}, {times} times");
    eventually(&what, SOON, async || worker.log().matches(words).count() >= times).await;
}

/// Exit code and line of a probe of the instance.
fn probe(world: &World, name: &str, question: &str) -> (bool, String) {
    let heartbeat = world.path(&format!("{name}.heartbeat"));
    let environment = [
        ("PROCESSOR_CONSUMER_NAME", name),
        ("HEARTBEAT_PATH", heartbeat.to_str().unwrap()),
    ];
    world.run(&["probe", question], &environment)
}

/// The heartbeat says that Redis is away and what to do, and `probe ready` says no, while it lives.
async fn is_seen(world: &World, name: &str, advice: &str) {
    let note = world.path(&format!("{name}.heartbeat.json"));
    eventually("the heartbeat says what to do", SOON, async || {
        let note: Value =
            serde_json::from_slice(&std::fs::read(&note).unwrap_or_default()).unwrap_or_default();
        note["state"] == "paused"
            && note["stores"].as_array().is_some_and(|stores| {
                stores
                    .iter()
                    .any(|store| store["store"] == "Redis" && store["advice"].to_string().contains(advice))
            })
    })
    .await;
    let (is_ready, said) = probe(world, name, "ready");
    assert!(!is_ready && said.contains(advice), "{said}");
    let (lives, said) = probe(world, name, "live");
    assert!(lives, "{said}");
}

async fn is_ready(world: &World, name: &str) {
    eventually("it is ready", SOON, async || probe(world, name, "ready").0).await;
}

async fn metric(address: &str, name: &str, value: &str) {
    let line = format!("\nqurvo_processor_{name}{{store=\"redis\"}} {value}\n");
    eventually(&line, SOON, async || scrape(address).await.contains(&line)).await;
}

#[tokio::test]
async fn a_password_that_redis_refuses_is_an_outage_that_is_seen_everywhere_and_ends_by_itself() {
    let world = World::start().await;
    let user = User::create(&world, "hunter1").await;
    let address = address();
    let mut worker = world.worker("a", &user.environment(&[("METRICS_LISTEN", &address)]));
    let mut sent = world.load(50, 5).await;
    world.settled(SOON).await;
    // Idle: nothing but the readers finds out.
    set_user(&world, &["resetpass", ">hunter2"]).await;
    assert!(cut(&world).await > 0);
    says(&worker, NEEDS_OPERATOR).await;
    is_seen(&world, "a", "REDIS_PASSWORD_FILE").await;
    metric(&address, "store_away", "1").await;
    metric(&address, "store_needs_operator", "1").await;
    sent.extend(world.load(50, 5).await);
    // The server's is right again, and then the file's.
    set_user(&world, &["resetpass", ">hunter1"]).await;
    says(&worker, IS_BACK).await;
    world.settled(SOON).await;
    is_ready(&world, "a").await;
    metric(&address, "store_away", "0").await;
    metric(&address, "store_needs_operator", "0").await;
    set_user(&world, &["resetpass", ">hunter3"]).await;
    cut(&world).await;
    said_times(&worker, NEEDS_OPERATOR, 2).await;
    sent.extend(world.load(50, 5).await);
    std::fs::write(&user.file, "hunter3").unwrap();
    said_times(&worker, IS_BACK, 2).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    let log = worker.log();
    assert!(worker.is_running() && !log.contains("hunter"), "{log}");
    assert_eq!(log.matches(NEEDS_OPERATOR).count(), 2, "said once each:\n{log}");
}

#[tokio::test]
async fn a_reader_that_alone_is_refused_is_an_outage_although_the_shared_connection_is_served() {
    let world = World::start().await;
    let user = User::create(&world, "hunter1").await;
    let mut worker = world.worker("reads", &user.environment(&[]));
    let mut sent = world.load(50, 5).await;
    world.settled(SOON).await;
    set_user(&world, &["resetpass", ">hunter2"]).await;
    assert_eq!(cut_named(&world, "reads").await, 1);
    is_seen(&world, "reads", "REDIS_PASSWORD_FILE").await;
    // What the shared connection is served meanwhile does not make Redis whole.
    tokio::time::sleep(Duration::from_secs(7)).await;
    is_seen(&world, "reads", "REDIS_PASSWORD_FILE").await;
    assert!(!worker.log().contains(IS_BACK), "{}", worker.log());
    sent.extend(world.load(50, 5).await);
    set_user(&world, &["resetpass", ">hunter1"]).await;
    says(&worker, IS_BACK).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    is_ready(&world, "reads").await;
    // A right that is taken away, and given back.
    set_user(&world, &["-xreadgroup"]).await;
    is_seen(&world, "reads", "ACL SETUSER").await;
    eventually("status says who has to act", SOON, async || {
        let (fine, said) = world.run(&["status", "--limit", "60"], &[]);
        !fine
            && said.contains("an operator has to act: reads cannot use Redis: give the user")
            && said.contains("may not read")
    })
    .await;
    set_user(&world, &["+xreadgroup"]).await;
    is_ready(&world, "reads").await;
    // One that only scripts need, and the reports.
    set_user(&world, &["-hset"]).await;
    sent.extend(world.load(50, 5).await);
    is_seen(&world, "reads", "ACL SETUSER").await;
    eventually("what it said before is not believed", SOON, async || {
        let (fine, said) = world.run(&["status", "--limit", "60"], &[]);
        !fine && said.contains("reads lives and has not reported for")
    })
    .await;
    set_user(&world, &["+hset"]).await;
    is_ready(&world, "reads").await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert!(worker.is_running(), "{}", worker.log());
}

#[tokio::test]
async fn instances_that_read_no_stream_see_that_redis_refuses_them() {
    let world = World::start().await;
    let user = User::create(&world, "hunter1").await;
    let shared = [("PROCESSOR_STREAM_SHARE", "auto")];
    let reads = world.worker("reads", &shared);
    eventually("it reads", SOON, async || {
        reads.log().contains("reads the stream from now on")
    })
    .await;
    let standby = world.worker("standby", &user.environment(&shared));
    let replays = world.worker("replays", &user.environment(&[("PROCESSOR_ROLES", "dlq")]));
    for (name, worker) in [("standby", &standby), ("replays", &replays)] {
        eventually("it serves", SOON, async || worker.is_beating()).await;
        is_ready(&world, name).await;
    }
    set_user(&world, &["resetpass", ">hunter2"]).await;
    cut(&world).await;
    for (name, worker) in [("standby", &standby), ("replays", &replays)] {
        is_seen(&world, name, "REDIS_PASSWORD_FILE").await;
        says(worker, NEEDS_OPERATOR).await;
    }
    assert!(!reads.log().contains(NEEDS_OPERATOR));
    std::fs::write(&user.file, "hunter2").unwrap();
    for (name, worker) in [("standby", &standby), ("replays", &replays)] {
        is_ready(&world, name).await;
        says(worker, IS_BACK).await;
    }
}

/// Events that have landed.
async fn some(clustered: &Clustered) -> BTreeSet<Uuid> {
    let load = Load::start(clustered);
    load.goes_on(200).await;
    let sent = load.end().await;
    clustered.settled().await;
    sent
}

#[tokio::test]
async fn one_node_of_a_cluster_that_refuses_the_password_is_told_and_missed_until_it_lets_in() {
    let clustered = Clustered::start(0).await;
    let cluster = &clustered.cluster;
    let mut worker = clustered.worker("w1");
    let sent = some(&clustered).await;
    let node = cluster.owner_of(STREAM).await.unwrap();
    let client = redis::Client::open(clustered.nodes()[node].clone()).unwrap();
    let mut node = client.get_multiplexed_async_connection().await.unwrap();
    let mut tell = async |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let _answer: redis::Value = command.query_async(&mut node).await.unwrap();
    };
    tell(&["CONFIG", "SET", "requirepass", "hunter1"]).await;
    tell(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    is_seen(&clustered.world, "w1", "REDIS_URL").await;
    says(&worker, NEEDS_OPERATOR).await;
    tell(&["CONFIG", "SET", "requirepass", ""]).await;
    eventually("it is ready", LONG, async || {
        probe(&clustered.world, "w1", "ready").0
    })
    .await;
    says(&worker, IS_BACK).await;
    let more = some(&clustered).await;
    clustered.all_is_well(&(&sent | &more)).await;
    assert!(worker.is_running());
}

#[tokio::test]
async fn sentinels_that_refuse_the_password_are_named_and_missed_until_they_let_in() {
    let world = World::start().await;
    let user = User::create(&world, "hunter1").await;
    let primary = world.stack.redis().unwrap().port().to_string();
    let sentinel = RedisServer::start(&world.path(""), &["--sentinel", "--requirepass", "of-sentinel"]).await;
    let client = redis::Client::open(sentinel.url().replace("redis://", "redis://:of-sentinel@")).unwrap();
    let mut told = client.get_multiplexed_async_connection().await.unwrap();
    let monitor = ["MONITOR", "main", "127.0.0.1", &primary, "1"];
    let mut command = redis::cmd("SENTINEL");
    command.arg(&monitor).query_async::<()>(&mut told).await.unwrap();
    let file = world.path("sentinels");
    std::fs::write(&file, "of-sentinel").unwrap();
    let url = format!("redis-sentinel://worker:@127.0.0.1:{}#main", sentinel.port);
    let environment = [
        ("REDIS_URL", url.as_str()),
        ("REDIS_PASSWORD_FILE", &user.file),
        ("REDIS_SENTINEL_PASSWORD_FILE", file.to_str().unwrap()),
    ];
    let worker = world.worker("a", &environment);
    let mut sent = world.load(50, 5).await;
    world.settled(SOON).await;
    std::fs::write(&file, "of-nobody").unwrap();
    cut(&world).await;
    is_seen(&world, "a", "REDIS_SENTINEL_PASSWORD_FILE").await;
    sent.extend(world.load(50, 5).await);
    std::fs::write(&file, "of-sentinel").unwrap();
    is_ready(&world, "a").await;
    says(&worker, IS_BACK).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert!(!worker.log().contains("of-"), "{}", worker.log());
}

/// As docs/deployment-stores.md has it, step by step.
#[tokio::test]
async fn a_rotation_with_two_passwords_loses_nothing_and_counts_nothing_twice_under_load() {
    let world = World::start().await;
    let user = User::create(&world, "hunter1").await;
    let workers = ["a", "b"].map(|name| world.worker(name, &user.environment(&[])));
    for worker in &workers {
        eventually("it serves", SOON, async || worker.is_beating()).await;
    }
    let accepted = "the password that has changed was accepted";
    let loading = async {
        let mut sent = BTreeSet::new();
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            sent.extend(world.load(400, 40).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        sent
    };
    let rotating = async {
        for (before, next) in [("hunter1", "hunter2"), ("hunter2", "hunter3")] {
            tokio::time::sleep(Duration::from_secs(2)).await;
            set_user(&world, &[&format!(">{next}")]).await;
            std::fs::write(&user.file, format!("{next}\n")).unwrap();
            assert!(cut(&world).await > 0);
            let times = if next == "hunter2" { 1 } else { 2 };
            for worker in &workers {
                said_times(worker, accepted, times).await;
            }
            set_user(&world, &[&format!("<{before}")]).await;
            // The proof: whoever comes back has the new one.
            assert!(cut(&world).await > 0);
            tokio::time::sleep(Duration::from_secs(2)).await;
            for name in ["a", "b"] {
                is_ready(&world, name).await;
            }
        }
    };
    let (sent, ()) = tokio::join!(loading, rotating);
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
    let (is_well, said) = world.run(&["person", "audit"], &[]);
    assert!(is_well, "{said}");
    for mut worker in workers {
        let log = worker.log();
        assert!(worker.is_running() && !log.contains("hunter"), "{log}");
        assert!(!log.contains(NEEDS_OPERATOR), "nobody was refused:\n{log}");
    }
}

#[tokio::test]
async fn one_password_for_everybody_is_replaced_and_whoever_is_refused_meanwhile_waits() {
    let world = World::start().await;
    let file = world.path("password");
    let set = async |password: &str| {
        let () = ask(&world, "CONFIG", &["SET", "requirepass", password]).await;
    };
    std::fs::write(&file, "hunter1").unwrap();
    set("hunter1").await;
    let mut worker = world.worker("a", &[("REDIS_PASSWORD_FILE", file.to_str().unwrap())]);
    let mut sent = world.load(50, 5).await;
    world.settled(SOON).await;
    set("hunter2").await;
    assert!(ask::<u64>(&world, "CLIENT", &["KILL", "TYPE", "normal"]).await > 0);
    says(&worker, NEEDS_OPERATOR).await;
    is_seen(&world, "a", "REDIS_PASSWORD_FILE").await;
    sent.extend(world.load(50, 5).await);
    std::fs::write(&file, "hunter2").unwrap();
    says(&worker, IS_BACK).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    is_ready(&world, "a").await;
    assert!(worker.is_running() && !worker.log().contains("hunter"));
}

#[tokio::test]
async fn what_cannot_be_sent_because_of_a_password_a_right_or_a_server_is_said_not_to_be_sent() {
    let world = World::start().await;
    let user = User::create(&world, "hunter1").await;
    let events = world.path("events");
    let event = format!(
        "{{\"project_id\":\"{}\",\"event_name\":\"e\",\"distinct_id\":\"d\"}}\n",
        crate::support::PROJECT
    );
    std::fs::write(&events, event.repeat(5)).unwrap();
    let send = |environment: &[(&str, &str)]| {
        let (fine, said) = world.run(&["send", events.to_str().unwrap()], environment);
        assert!(
            !fine && said.contains("nothing was sent") && !said.contains("may have been"),
            "{said}"
        );
        said
    };
    std::fs::write(&user.file, "hunter2").unwrap();
    let said = send(&user.environment(&[]));
    assert!(
        said.contains("REDIS_PASSWORD_FILE") && !said.contains("hunter"),
        "{said}"
    );
    std::fs::write(&user.file, "hunter1").unwrap();
    for rights in [&["-@all", "+type"][..], &["-@all"]] {
        set_user(&world, rights).await;
        let said = send(&user.environment(&[]));
        assert!(said.contains("ACL SETUSER"), "{said}");
    }
    let said = send(&[("REDIS_URL", "redis://127.0.0.1:1")]);
    assert!(said.contains("Connection refused"), "{said}");
    assert_eq!(world.length("events:incoming").await, Some(0));
    set_user(&world, &["+xadd"]).await;
    let (fine, said) = world.run(&["send", events.to_str().unwrap()], &user.environment(&[]));
    assert!(fine && said.contains("sent 5 events"), "{said}");
}
