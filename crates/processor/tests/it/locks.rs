//! The lock that instances share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use embedded_stack::{Service, Stack, StackOptions};
use qurvo_processor::config::RedisConfig;
use qurvo_processor::runtime::lock::Lock;
use qurvo_processor::stores::Redis;

use crate::support::{SOON, eventually};

const KEY: &str = "some:lock";
const SECOND: Duration = Duration::from_secs(1);

struct Server {
    stack: Stack,
    redis: Redis,
}

impl Server {
    async fn start() -> Self {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let stack = Stack::start(StackOptions::temporary().unwrap()).await.unwrap();
        let redis = Redis::new(&RedisConfig::from_url(&stack.redis_url().unwrap()).unwrap());
        Self { stack, redis }
    }

    async fn lock(&self, ttl: Duration) -> Option<Lock> {
        Lock::acquire(&self.redis, KEY, ttl).await.unwrap()
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &str, arguments: &[&str]) -> T {
        let mut asked = redis::cmd(command);
        asked.arg(arguments);
        self.redis.ask("testing", &asked).await.unwrap()
    }

    fn service(&self) -> &Service {
        self.stack.redis().unwrap()
    }
}

#[tokio::test]
async fn of_many_who_want_it_one_has_it_at_a_time() {
    let server = Arc::new(Server::start().await);
    let (inside, turns) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let (server, inside, turns) = (server.clone(), inside.clone(), turns.clone());
        tasks.push(tokio::spawn(async move {
            while turns.load(Ordering::SeqCst) < 100 {
                let Some(lock) = server.lock(30 * SECOND).await else {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                };
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                turns.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                assert!(lock.release().await.unwrap());
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn it_is_kept_while_the_work_takes_longer_than_its_time() {
    let server = Server::start().await;
    let lock = server.lock(SECOND / 2).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert!(server.lock(SECOND).await.is_none());
    assert!(lock.is_held().await && !lock.lost().is_cancelled());
    assert!(lock.release().await.unwrap());
    assert!(server.lock(SECOND).await.is_some());
}

#[tokio::test]
async fn who_is_dead_or_gone_holds_it_for_its_time_only() {
    let server = Server::start().await;
    drop(server.lock(SECOND).await.unwrap());
    assert!(server.lock(SECOND).await.is_none(), "nobody released it");
    eventually("its time is over", SOON, async || {
        server.lock(SECOND).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_stranger_can_neither_release_nor_extend_it() {
    let server = Server::start().await;
    let lost = server.lock(30 * SECOND).await.unwrap();
    // Its time ended unnoticed, as in a process that stood still, and somebody else took it.
    let _: u64 = server.ask("DEL", &[KEY]).await;
    let held = server.lock(30 * SECOND).await.unwrap();
    assert!(!lost.is_held().await);
    assert!(lost.lost().is_cancelled());
    assert!(!lost.release().await.unwrap(), "releasing says that it was lost");
    assert!(held.is_held().await, "the other's is untouched");
    let ttl: i64 = server.ask("PTTL", &[KEY]).await;
    assert!(ttl > 25_000);
    assert!(held.release().await.unwrap());
}

/// The server keeps a lock's end as a time of its own clock; the holder looks at no clock that can jump. So a jump is
/// what it makes of that time.
#[tokio::test]
async fn a_servers_clock_that_jumps_ahead_takes_it_which_is_noticed() {
    let server = Server::start().await;
    let lock = server.lock(3 * SECOND).await.unwrap();
    let _: u64 = server.ask("PEXPIREAT", &[KEY, "1"]).await;
    let other = server.lock(30 * SECOND).await.unwrap();
    tokio::time::timeout(3 * SECOND, lock.lost().cancelled())
        .await
        .unwrap();
    assert!(!lock.release().await.unwrap());
    assert!(other.is_held().await, "nothing happens to whoever has it now");
}

#[tokio::test]
async fn a_servers_clock_that_jumps_back_makes_nobody_wait_longer_than_its_time() {
    let server = Server::start().await;
    let lock = server.lock(SECOND).await.unwrap();
    let _: u64 = server.ask("PEXPIRE", &[KEY, "86400000"]).await;
    assert!(server.lock(SECOND).await.is_none());
    eventually("its time is set anew", SOON, async || {
        server.ask::<i64>("PTTL", &[KEY]).await <= 1_000
    })
    .await;
    drop(lock);
    eventually("its time is over", SOON, async || {
        server.lock(SECOND).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn losing_it_in_the_middle_of_the_work_is_noticed() {
    let server = Server::start().await;
    let lock = server.lock(SECOND).await.unwrap();
    let _: () = server.ask("SET", &[KEY, "somebody else"]).await;
    tokio::time::timeout(5 * SECOND, lock.lost().cancelled())
        .await
        .unwrap();
    let token: String = server.ask("GET", &[KEY]).await;
    assert_eq!(token, "somebody else");
}

#[tokio::test]
async fn a_server_that_is_away_for_longer_than_its_time_takes_it_and_one_that_is_not_does_not() {
    let server = Server::start().await;
    let short = Lock::acquire(&server.redis, "short", SECOND)
        .await
        .unwrap()
        .unwrap();
    let long = server.lock(60 * SECOND).await.unwrap();
    server.service().stop().await.unwrap();
    tokio::time::timeout(5 * SECOND, short.lost().cancelled())
        .await
        .unwrap();
    assert!(!long.lost().is_cancelled(), "nobody else can have it");
    server.service().start().await.unwrap();
    eventually("the server answers", SOON, async || {
        let ping = redis::cmd("PING");
        server.redis.ask::<()>("testing", &ping).await.is_ok()
    })
    .await;
    assert!(long.release().await.unwrap());
}

#[tokio::test]
async fn it_is_doubtful_long_before_it_counts_as_lost() {
    let server = Server::start().await;
    let lock = server.lock(20 * SECOND).await.unwrap();
    assert!(!lock.handle().is_doubtful());
    server.service().stop().await.unwrap();
    eventually("nobody has renewed it for half its time", SOON, async || {
        lock.handle().is_doubtful()
    })
    .await;
    assert!(!lock.lost().is_cancelled(), "nobody else can have it yet");
    server.service().start().await.unwrap();
    eventually("the server has said so", SOON, async || {
        !lock.handle().is_doubtful()
    })
    .await;
    assert!(lock.release().await.unwrap());
}
