//! Telling ClickHouse and Redis who moved: an older answer never wins, and PostgreSQL waits for nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qurvo_processor::config::{ClickHouseConfig, Compression, RedisConfig, TlsFiles};
use qurvo_processor::event::DistinctId;
use qurvo_processor::identity::Moved;
use qurvo_processor::identity::publish::overrides::Publisher;
use qurvo_processor::stores::{ClickHouse, Postgres, Redis};
use uuid::Uuid;

use crate::holding::Holding;
use crate::lying::{About, Answer, Liar, Lie};
use crate::support::{PROJECT, SOON, World, eventually};

const OLD: &str = "00000000-0000-0000-0000-00000000000a";
const NEW: &str = "00000000-0000-0000-0000-00000000000b";

/// The stores, with a proxy before each of those that are told.
struct Stage {
    world: World,
    clickhouse: Holding,
    redis: Holding,
}

impl Stage {
    async fn start() -> Self {
        let world = World::start().await;
        let clickhouse = world.stack.clickhouse().unwrap().port();
        let redis = world.stack.redis().unwrap().port();
        Self {
            clickhouse: Holding::before(clickhouse, &["person_distinct_id_overrides"]).await,
            redis: Holding::before(redis, &["EVAL", "SETEX"]).await,
            world,
        }
    }

    fn publisher(&self, clickhouse: &str, redis: &str) -> Publisher {
        let config = ClickHouseConfig {
            url: clickhouse.parse().unwrap(),
            tls: TlsFiles::default(),
            database: "qurvo_analytics".to_owned(),
            user: "qurvo".to_owned(),
            password: "qurvo_secret".to_owned().into(),
            cluster: None,
            compression: Compression::None,
            request_timeout: SOON,
        };
        Publisher::new(
            Postgres::new(&self.world.stack.database_url().unwrap().parse().unwrap()).unwrap(),
            ClickHouse::new(&config),
            Redis::new(&RedisConfig::from_url(redis).unwrap()),
        )
    }

    /// One whose requests the proxies may hold.
    fn slow(&self) -> Publisher {
        let (clickhouse, redis) = (self.clickhouse.address, self.redis.address);
        self.publisher(&format!("http://{clickhouse}"), &format!("redis://{redis}"))
    }

    fn quick(&self) -> Publisher {
        let (clickhouse, redis) = (
            self.world.stack.clickhouse_url().unwrap(),
            self.world.stack.redis_url().unwrap(),
        );
        self.publisher(&clickhouse, &redis)
    }

    /// A merge has moved the id to a person and is committed; it may wait for nobody.
    async fn moved(&self, id: &Moved, person: &str) {
        let client = self.world.pg_client().await;
        client
            .batch_execute(&format!(
                "SET lock_timeout = '5s';
                 INSERT INTO processor_person_overrides AS o (project_id, distinct_id, person_id, version)
                 VALUES ('{}', '{}', '{person}', 1000)
                 ON CONFLICT (project_id, distinct_id) DO UPDATE
                 SET person_id = excluded.person_id, version = o.version + 1, published = false",
                id.project, id.distinct_id
            ))
            .await
            .unwrap();
    }

    async fn is_published(&self, id: &Moved) -> bool {
        let sql = format!(
            "SELECT published FROM processor_person_overrides WHERE distinct_id = '{}'",
            id.distinct_id
        );
        self.world.pg(&sql).await == ["t"]
    }

    async fn in_redis(&self, id: &Moved) -> Option<String> {
        redis::cmd("GET")
            .arg(format!("person:{PROJECT}:{}", id.distinct_id))
            .query_async(&mut self.world.redis.clone())
            .await
            .unwrap()
    }

    async fn set_in_redis(&self, id: &Moved, value: &str) {
        let _: () = redis::cmd("SET")
            .arg(format!("person:{PROJECT}:{}", id.distinct_id))
            .arg(value)
            .query_async(&mut self.world.redis.clone())
            .await
            .unwrap();
    }

    async fn in_clickhouse(&self, id: &Moved) -> String {
        let sql = format!(
            "SELECT argMax(person_id, version) FROM person_distinct_id_overrides WHERE distinct_id = '{}'",
            id.distinct_id
        );
        self.world.ch(&sql).await
    }
}

fn id(distinct_id: String) -> Moved {
    Moved {
        project: PROJECT.parse().unwrap(),
        distinct_id: DistinctId(distinct_id.into()),
        unseen_at: None,
    }
}

#[tokio::test]
async fn an_older_merge_is_never_published_over_a_newer_one() {
    let stage = Arc::new(Stage::start().await);
    let quick = stage.quick();
    for held_at in ["clickhouse", "redis"] {
        for newer_goes_first in [true, false] {
            let case = format!("{held_at} {newer_goes_first}");
            let moved = id(case.clone());
            let holding = match held_at {
                "clickhouse" => &stage.clickhouse,
                _ => &stage.redis,
            };
            stage.set_in_redis(&moved, "what it was before").await;
            stage.moved(&moved, OLD).await;
            let slow = stage.slow();
            holding.hold();
            let older = tokio::spawn({
                let moved = moved.clone();
                async move { slow.publish(&[moved]).await }
            });
            holding.caught().await;
            stage.moved(&moved, NEW).await;
            if newer_goes_first {
                quick.publish(std::slice::from_ref(&moved)).await.unwrap();
                assert_eq!(stage.in_redis(&moved).await.as_deref(), Some(NEW), "{case}");
            }
            holding.let_go();
            older.await.unwrap().unwrap();
            assert_ne!(stage.in_redis(&moved).await.as_deref(), Some(OLD), "{case}");
            assert_eq!(stage.is_published(&moved).await, newer_goes_first, "{case}");
            quick.publish(std::slice::from_ref(&moved)).await.unwrap();
            assert!(stage.is_published(&moved).await, "{case}");
            assert_eq!(stage.in_redis(&moved).await.as_deref(), Some(NEW), "{case}");
            assert_eq!(stage.in_clickhouse(&moved).await, NEW, "{case}");
        }
    }
}

#[tokio::test]
async fn a_person_key_that_somebody_changes_meanwhile_is_set_all_the_same() {
    let stage = Arc::new(Stage::start().await);
    let moved = id("k".to_owned());
    stage.moved(&moved, NEW).await;
    let slow = stage.slow();
    stage.redis.hold();
    let publishing = tokio::spawn({
        let moved = moved.clone();
        async move { slow.publish(&[moved]).await }
    });
    stage.redis.caught().await;
    stage.set_in_redis(&moved, OLD).await;
    stage.redis.let_go();
    publishing.await.unwrap().unwrap();
    assert_eq!(stage.in_redis(&moved).await.as_deref(), Some(NEW));
    assert!(stage.is_published(&moved).await);
    // A key of another type is no person either.
    let list = id("list".to_owned());
    let _: () = redis::cmd("RPUSH")
        .arg(format!("person:{PROJECT}:list"))
        .arg("x")
        .query_async(&mut stage.world.redis.clone())
        .await
        .unwrap();
    stage.moved(&list, NEW).await;
    stage.quick().publish(std::slice::from_ref(&list)).await.unwrap();
    assert_eq!(stage.in_redis(&list).await.as_deref(), Some(NEW));
}

#[tokio::test]
async fn what_was_left_unpublished_is_published_page_by_page() {
    const LEFT: usize = 12_000;
    let stage = Stage::start().await;
    stage
        .world
        .pg(&format!(
            "INSERT INTO processor_person_overrides (project_id, distinct_id, person_id, version)
             SELECT '{PROJECT}', 'd' || n, '{NEW}', 1000 FROM generate_series(1, {LEFT}) n"
        ))
        .await;
    let left = "SELECT count(*) FROM processor_person_overrides WHERE NOT published";
    let mut redis = stage.world.redis.clone();
    let lock = redis::cmd("SET")
        .arg("processor:sweep:lock")
        .arg("somebody's")
        .clone();
    lock.query_async::<()>(&mut redis).await.unwrap();
    let worker = stage.world.worker("w1", &[]);
    stage.world.event("d", &[]).await;
    stage.world.settled(SOON).await;
    assert_eq!(
        stage.world.pg(left).await,
        [LEFT.to_string()],
        "somebody else is at it"
    );
    let unlock = redis::cmd("DEL").arg("processor:sweep:lock").clone();
    unlock.query_async::<()>(&mut redis).await.unwrap();
    eventually("all are published", Duration::from_mins(1), async || {
        stage.world.pg(left).await == ["0"]
    })
    .await;
    let told = stage
        .world
        .ch("SELECT uniqExact(distinct_id) FROM person_distinct_id_overrides")
        .await;
    assert_eq!(told, LEFT.to_string());
    eventually("the lock is let go", SOON, async || {
        worker.log().contains(&format!("\"published\":{LEFT}"))
            && redis::cmd("EXISTS")
                .arg("processor:sweep:lock")
                .query_async::<u64>(&mut stage.world.redis.clone())
                .await
                .unwrap()
                == 0
    })
    .await;
    assert_eq!(
        stage.in_redis(&id(format!("d{LEFT}"))).await.as_deref(),
        Some(NEW)
    );
}

#[tokio::test]
async fn a_clickhouse_that_hangs_keeps_nothing_of_postgres() {
    let world = World::start().await;
    let worker = world.worker("w1", &[]);
    let mut sent: std::collections::BTreeSet<Uuid> =
        [world.event("a", &[]).await, world.event("u", &[]).await].into();
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().pause().await.unwrap();
    sent.insert(world.identify("u", "a").await);
    eventually("a merge waits for ClickHouse", SOON, async || {
        let left = "SELECT count(*) FROM processor_person_overrides WHERE NOT published";
        world.pg(left).await == ["1"]
    })
    .await;
    sent.insert(world.event("newcomer", &[]).await);
    let (watcher, mut seen) = (world.pg_client().await, 0);
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_secs(8) {
        let idle = "SELECT count(*) FROM pg_stat_activity
                    WHERE state LIKE 'idle in transaction%' AND now() - state_change > interval '1 s'";
        let idle: i64 = watcher.query_one(idle, &[]).await.unwrap().get(0);
        seen = seen.max(idle);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen, 0, "transactions that wait for ClickHouse\n{}", worker.log());
    let known = "SELECT count(*) FROM person_distinct_ids WHERE distinct_id = 'newcomer'";
    assert_eq!(world.pg(known).await, ["1"], "new persons are resolved meanwhile");
    world.stack.clickhouse().unwrap().resume().await.unwrap();
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
    let [in_postgres, in_redis, in_clickhouse] = world.persons_of("a").await;
    assert!(in_postgres.is_some() && in_postgres == in_redis && in_postgres == in_clickhouse);
}

#[tokio::test]
async fn an_audit_that_clickhouse_fails_once_ends_with_the_merge_finished_and_told_of() {
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO persons (id, project_id) SELECT gen_random_uuid(), '{PROJECT}' FROM generate_series(1, 2);
             CREATE TEMP TABLE p AS SELECT id, row_number() OVER (ORDER BY id) AS n FROM persons;
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
                 SELECT '{PROJECT}', id, 'd' || n FROM p;
             INSERT INTO processor_person_redirects (project_id, from_person, into_person, unfinished)
                 SELECT '{PROJECT}', a.id, b.id, true FROM p a JOIN p b ON b.n = 2 WHERE a.n = 1"
        ))
        .await;
    let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
    let overrides = About::InsertsInto("person_distinct_id_overrides");
    liar.tell(Lie::about(overrides, Answer::stranger(503, "busy")).times(1));
    let command = world.command(&["person", "audit", "--repair"], &[("CLICKHOUSE_URL", &liar.url)]);
    let mut command = tokio::process::Command::from(command);
    let ended = tokio::time::timeout(SOON, command.kill_on_drop(true).output());
    let ended = ended.await.expect("it ends").unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(liar.lied(), 1);
    let left = "SELECT count(*) FROM processor_person_redirects WHERE unfinished";
    assert_eq!(world.pg(left).await, ["0"]);
}
