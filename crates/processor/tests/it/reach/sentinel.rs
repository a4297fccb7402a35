//! A primary that Sentinels know.

use redis::aio::ConnectionManager;

use crate::support::redis_servers::RedisServer;
use crate::support::{SOON, World, eventually};

/// A primary (the stack's), a replica of it, and three Sentinels that watch them.
struct Watched {
    world: World,
    replica: RedisServer,
    sentinels: Vec<RedisServer>,
}

/// Long enough for a busy machine, short enough for a test.
const DOWN_AFTER: &str = "1500";

impl Watched {
    async fn start(password: Option<&str>) -> Self {
        let world = World::start().await;
        let primary = world.stack.redis().unwrap().port().to_string();
        let folder = world.path("");
        let replica = RedisServer::start(&folder, &["--replicaof", "127.0.0.1", &primary]).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let sentinel = RedisServer::start(&folder, &["--sentinel"]).await;
            let mut connection = connected(&sentinel.url()).await;
            let monitor = ["MONITOR", "main", "127.0.0.1", &primary, "2"];
            let mut told = vec![monitor.map(str::to_owned).to_vec()];
            for setting in [
                ["down-after-milliseconds", DOWN_AFTER],
                ["failover-timeout", "5000"],
            ] {
                told.push(
                    [&["SET", "main"], setting.as_slice()]
                        .concat()
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                );
            }
            for arguments in told {
                let mut command = redis::cmd("SENTINEL");
                command
                    .arg(&arguments)
                    .query_async::<()>(&mut connection)
                    .await
                    .unwrap();
            }
            sentinels.push(sentinel);
        }
        for sentinel in &sentinels {
            let mut connection = connected(&sentinel.url()).await;
            if let Some(password) = password {
                let mut command = redis::cmd("CONFIG");
                command.arg(&["SET", "requirepass", password]);
                let _set_by_acl = command.query_async::<()>(&mut connection).await;
            }
        }
        let watched = Self {
            world,
            replica,
            sentinels,
        };
        eventually(
            "every Sentinel knows the others and the replica",
            SOON,
            async || watched.is_known().await,
        )
        .await;
        watched
    }

    async fn is_known(&self) -> bool {
        for sentinel in &self.sentinels {
            let mut connection = connected(&sentinel.url()).await;
            let mut command = redis::cmd("SENTINEL");
            let state: std::collections::HashMap<String, String> = command
                .arg("MASTER")
                .arg("main")
                .query_async(&mut connection)
                .await
                .unwrap();
            if state["num-other-sentinels"] != "2" || state["num-slaves"] != "1" || state["flags"] != "master"
            {
                return false;
            }
        }
        true
    }

    fn url(&self) -> String {
        let nodes: Vec<String> = self
            .sentinels
            .iter()
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port))
            .collect();
        format!("redis-sentinel://{}#main", nodes.join(","))
    }
}

async fn connected(url: &str) -> ConnectionManager {
    let client = redis::Client::open(url).unwrap();
    client.get_connection_manager().await.unwrap()
}

#[tokio::test]
async fn a_worker_follows_the_primary_through_a_failover_under_load() {
    let mut watched = Watched::start(None).await;
    let mut url = watched.url();
    // The first of them is dead, and asked first.
    let dead = RedisServer::start(&watched.world.path(""), &["--sentinel"])
        .await
        .port;
    url = url.replace("://", &format!("://127.0.0.1:{dead},"));
    let environment = [("REDIS_URL", url.as_str())];
    let (fine, said) = watched.world.check(&environment);
    assert!(fine && said.contains("primary main of Sentinels"), "{said}");
    let mut workers = [
        watched.world.worker("a", &environment),
        watched.world.worker("b", &environment),
    ];
    let mut sent = watched.world.load(6000, 200).await;
    // What the replica does not have is lost with the primary: that is for the sender to wait for.
    let mut redis = watched.world.redis.clone();
    let mut wait = redis::cmd("WAIT");
    let copied: u32 = wait.arg(1).arg(20_000).query_async(&mut redis).await.unwrap();
    assert_eq!(copied, 1);
    watched.world.stack.redis().unwrap().kill().await.unwrap();

    watched.world.redis = connected(&watched.replica.url()).await;
    let promoted = async || {
        let role: (String, i64) = match redis::cmd("ROLE")
            .query_async(&mut watched.world.redis.clone())
            .await
        {
            Ok(redis::Value::Array(parts)) => (redis::from_redis_value(parts[0].clone()).unwrap(), 0),
            _ => return false,
        };
        role.0 == "master"
    };
    eventually("the replica is the primary", SOON, promoted).await;
    sent.extend(watched.world.load(2000, 200).await);
    watched.world.settled(2 * SOON).await;
    watched.world.holds_exactly(&sent).await;
    assert!(workers.iter_mut().all(crate::support::Worker::is_running));

    // The old primary comes back as a replica, and takes nothing.
    watched.world.stack.redis().unwrap().start().await.unwrap();
    sent.extend(watched.world.load(500, 200).await);
    watched.world.settled(SOON).await;
    watched.world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn what_sentinels_say_is_told_where_they_do_not_lead_to_a_primary() {
    let watched = Watched::start(None).await;
    let url = watched.url();
    let told = |url: &str, words: &[&str]| {
        let (fine, said) = watched.world.check(&[("REDIS_URL", url)]);
        assert!(!fine && words.iter().all(|word| said.contains(word)), "{said}");
    };
    told(
        &url.replace("#main", "#other"),
        &["does not know this name", "REDIS_URL"],
    );
    told(
        "redis-sentinel://127.0.0.1:1#main",
        &["no Sentinel says which server is main", "127.0.0.1:1"],
    );
}

#[tokio::test]
async fn a_plain_connection_is_not_harmless_where_sentinels_name_a_server_elsewhere() {
    let world = World::start().await;
    let primary = world.stack.redis().unwrap().port().to_string();
    let sentinel = RedisServer::start(&world.path(""), &["--sentinel"]).await;
    let url = format!("redis-sentinel://127.0.0.1:{}#main", sentinel.port);
    // The second address leads here, and is not known to.
    for (address, is_here) in [("127.0.0.1", true), ("0.0.0.0", false)] {
        let mut connection = connected(&sentinel.url()).await;
        if !is_here {
            let mut command = redis::cmd("SENTINEL");
            command.arg(&["REMOVE", "main"]);
            command.query_async::<()>(&mut connection).await.unwrap();
        }
        let mut command = redis::cmd("SENTINEL");
        command.arg(&["MONITOR", "main", address, &primary, "1"]);
        command.query_async::<()>(&mut connection).await.unwrap();
        let (fine, said) = world.check(&[("REDIS_URL", &url)]);
        let told = if is_here {
            "Redis connection  ok  not encrypted, and does not leave this machine".to_owned()
        } else {
            format!("Redis connection  warning  not encrypted on the way to {address}:{primary}")
        };
        assert!(fine && said.contains(&told), "{told}: {said}");
    }
}

#[tokio::test]
async fn sentinels_with_a_password_of_their_own_are_asked_with_it() {
    let world = World::start().await;
    let primary = world.stack.redis().unwrap().port().to_string();
    let sentinel =
        RedisServer::start(&world.path(""), &["--sentinel", "--requirepass", "of-sentinels"]).await;
    let told = connected(&format!("redis://:of-sentinels@127.0.0.1:{}", sentinel.port)).await;
    for (to, words) in [
        (&world.redis, "CONFIG SET requirepass of-servers"),
        (&told, &format!("SENTINEL MONITOR main 127.0.0.1 {primary} 1")),
        (&told, "SENTINEL SET main auth-pass of-servers"),
        (&told, "ACL SETUSER asker on >of-asker +@all"),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async::<()>(&mut to.clone()).await.unwrap();
    }
    let url = format!("redis-sentinel://:of-servers@127.0.0.1:{}#main", sentinel.port);
    let url = ("REDIS_URL", url.as_str());
    let file = world.path("sentinels");
    std::fs::write(&file, "of-sentinels\n").unwrap();
    let by_file = ("REDIS_SENTINEL_PASSWORD_FILE", file.to_str().unwrap());
    let asker = [
        ("REDIS_SENTINEL_USER", "asker"),
        ("REDIS_SENTINEL_PASSWORD", "of-asker"),
    ];
    for more in [&[][..], &[("REDIS_SENTINEL_PASSWORD", "of-nobody")]] {
        let (fine, said) = world.check(&[&[url], more].concat());
        assert!(!fine && said.contains("set REDIS_SENTINEL_PASSWORD"), "{said}");
        assert!(!said.contains("of-"), "{said}");
    }
    for right in [
        &[("REDIS_SENTINEL_PASSWORD", "of-sentinels")][..],
        &[by_file],
        &asker,
    ] {
        let (fine, said) = world.check(&[&[url], right].concat());
        assert!(fine, "{right:?}: {said}");
    }
    let alone = [url, asker[0]];
    let beside = [("REDIS_URL", "redis://localhost"), asker[1]];
    for (wrong, word) in [
        (alone, "REDIS_SENTINEL_PASSWORD with it"),
        (beside, "redis-sentinel://"),
    ] {
        let output = world.output(&["check"], &wrong);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word) && !said.contains("of-"), "{said}");
    }
    let _worker = world.worker("a", &[url, by_file]);
    let sent = world.load(50, 5).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}
