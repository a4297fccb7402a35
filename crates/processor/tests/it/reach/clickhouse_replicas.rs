//! ClickHouse of several nodes: what one of them has is looked for on all. The engine at hand is one node; it knows clusters
//! that name it and a second one, which is away. That replicas copy from each other is not shown here.

use crate::support::{GROUP, SOON, STREAM, World, eventually};

/// The engine knows itself by this port, which it does not listen on.
const CLUSTERS: &str = "<clickhouse>
  <tcp_port>9000</tcp_port>
  <remote_servers>
    <both><shard><internal_replication>true</internal_replication>
      <replica><host>127.0.0.1</host><port>9000</port></replica>
      <replica><host>127.0.0.2</host><port>1</port></replica>
    </shard></both>
    <away><shard><replica><host>127.0.0.2</host><port>1</port></replica></shard></away>
    <alone><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></alone>
  </remote_servers>
</clickhouse>";

#[tokio::test]
async fn rows_are_looked_up_on_all_replicas_and_one_that_is_away_holds_up_nothing() {
    let world = World::start_with(|stack| stack.clickhouse_config(CLUSTERS)).await;
    let both = [("CLICKHOUSE_CLUSTER", "both")];
    let (fine, said) = world.check(&both);
    assert!(
        fine && said.contains("1 of 2 replicas of cluster both answer"),
        "{said}"
    );
    let (fine, said) = world.check(&[("CLICKHOUSE_CLUSTER", "alone")]);
    assert!(
        fine && said.contains("on all 1 replicas of cluster alone"),
        "{said}"
    );
    let (fine, said) = world.check(&[("CLICKHOUSE_CLUSTER", "none")]);
    assert!(
        !fine && said.contains("CLICKHOUSE_CLUSTER") && said.contains("system.clusters"),
        "{said}"
    );
    let (fine, said) = world.check(&[]);
    assert!(fine && said.contains("one server has all rows"), "{said}");

    // Some rows are there; of other entries nobody knows, since the instance that was given them is dead.
    let worker = world.worker("first", &both);
    let mut sent = world.load(300, 100).await;
    world.settled(SOON).await;
    drop(worker);
    sent.extend(world.load(200, 100).await);
    let read = ["GROUP", GROUP, "dead", "COUNT", "200", "STREAMS", STREAM, ">"];
    let mut command = redis::cmd("XREADGROUP");
    command
        .arg(&read)
        .query_async::<()>(&mut world.redis.clone())
        .await
        .unwrap();
    world.is_dead("dead").await;

    let rest = ("DLQ_CIRCUIT_RESET_MS", "1000");
    // Asked of a replica that is away alone, nobody knows, and nothing is inserted.
    let mut ignorant = world.worker("ignorant", &[("CLICKHOUSE_CLUSTER", "away"), rest]);
    let cannot_look = "NO_REMOTE_SHARD_AVAILABLE";
    eventually("rows cannot be looked up", 2 * SOON, async || {
        ignorant.log().contains(cannot_look)
    })
    .await;
    ignorant.kill();
    let survivor = world.worker("survivor", &[both[0], rest, ("DLQ_REPLAY_INTERVAL_MS", "300")]);
    sent.extend(world.load(500, 100).await);
    world.settled(2 * SOON).await;
    world.holds_exactly(&sent).await;
    assert!(!survivor.log().contains(cannot_look));
}
