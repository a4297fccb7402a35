//! Valkey in Redis's place: its stream, its scripts, its locks.

use embedded_stack::{External, ServiceKind};

use crate::support::redis_servers::RedisServer;
use crate::support::{QUEUE, REJECTED, SOON, STATUS_JSON, World, eventually};

#[tokio::test]
async fn everything_that_is_asked_of_redis_is_answered_by_valkey() {
    let folder = tempfile::tempdir().unwrap();
    let valkey = RedisServer::start_program("valkey-server", folder.path(), &["--appendonly", "yes"]).await;
    let external = External::default().with(ServiceKind::Redis, &valkey.url());
    let world = World::start_with(|stack| stack.external(external)).await;
    let (fine, said) = world.check(&[]);
    assert!(fine, "{said}");

    // Two instances; one is killed with entries in its hands, the other takes them over.
    let mut victim = world.worker("victim", &[("PROCESSOR_FLUSH_INTERVAL_MS", "2000")]);
    let mut sent = world.load(3000, 100).await;
    let holds = async || world.unsettled().await.is_some_and(|entries| entries > 0);
    eventually("the victim holds entries", SOON, async || {
        victim.is_beating() && holds().await
    })
    .await;
    victim.kill();
    let survivor = world.worker("survivor", &[("DLQ_REPLAY_INTERVAL_MS", "300")]);
    sent.insert(world.identify("user", "anonymous").await);
    let _refused = world
        .add(&[
            ("project_id", "nonsense"),
            ("distinct_id", "d"),
            ("event_name", "e"),
        ])
        .await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert_eq!(world.length(REJECTED).await, Some(1));
    let all = world.persons_of("anon-36").await;
    assert!(
        all[0].is_some() && all.iter().all(|person| *person == all[0]),
        "{all:?}"
    );

    // Letters are written during an outage, and replayed behind a lock after it.
    let engine = world.stack.clickhouse().unwrap();
    engine.kill().await.unwrap();
    sent.extend(world.load(50, 5).await);
    eventually("letters are written", 2 * SOON, async || {
        world.length(QUEUE).await > Some(0)
    })
    .await;
    engine.start().await.unwrap();
    world.settled(2 * SOON).await;
    world.holds_exactly(&sent).await;
    eventually("nothing is wrong any more", SOON, async || {
        world.run(&STATUS_JSON, &[]).0
    })
    .await;
    let (fine, said) = world.run(&["person", "audit"], &[]);
    assert!(fine, "{said}");
    let (fine, said) = world.run(&["dlq", "list", "--rejected"], &[]);
    assert!(fine && said.contains("nonsense"), "{said}");
    survivor.terminate();
}
