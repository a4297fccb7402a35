//! A real Redis Cluster: formed, resharded, and without its masters.

use embedded_stack::RedisCluster;

const KEY: &str = "events:{0}";

async fn value(cluster: &RedisCluster, node: usize) -> String {
    cluster.ask(node, &["GET", KEY]).await.unwrap()
}

#[tokio::test]
async fn a_cluster_serves_every_slot_and_moves_one_with_its_keys() {
    let cluster = RedisCluster::start(3, 0).await.unwrap();
    assert_eq!(cluster.nodes().len(), 3);
    assert_eq!(cluster.url().matches("127.0.0.1:").count(), 3);
    for key in ["foo", "bar", KEY] {
        let owner = cluster.owner_of(key).await.unwrap();
        cluster.ask(owner, &["SET", key, "1"]).await.unwrap();
    }
    let from = cluster.owner_of(KEY).await.unwrap();
    let to = (from + 1) % 3;
    let slot = cluster.slot_of(KEY).await.unwrap();

    let moving = cluster.begin_move(slot, to).await.unwrap();
    assert_eq!(value(&cluster, from).await, "1");
    moving.move_keys().await.unwrap();
    let refused = cluster.ask(from, &["GET", KEY]).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("ASK {slot}")), "{refused}");
    moving.finish().await.unwrap();

    assert_eq!(cluster.owner_of(KEY).await.unwrap(), to);
    assert_eq!(value(&cluster, to).await, "1");
    let refused = cluster.ask(from, &["GET", KEY]).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("MOVED {slot}")), "{refused}");
}

#[tokio::test]
async fn a_replica_takes_the_place_of_a_master_that_was_killed_and_of_one_that_agrees() {
    let cluster = RedisCluster::start(3, 1).await.unwrap();
    let master = cluster.owner_of(KEY).await.unwrap();
    let replicas = cluster.replicas_of(master).await.unwrap();
    assert_eq!(replicas, [master + 3]);
    cluster.ask(master, &["SET", KEY, "kept"]).await.unwrap();
    // `WAIT` is for what the same connection wrote; the replica is looked at instead.
    cluster.wait_until_copied(replicas[0]).await.unwrap();

    cluster.nodes()[master].kill().await.unwrap();
    cluster.wait_for_promotion(replicas[0]).await.unwrap();
    assert_eq!(cluster.owner_of(KEY).await.unwrap(), replicas[0]);
    assert_eq!(value(&cluster, replicas[0]).await, "kept");

    cluster.nodes()[master].start().await.unwrap();
    cluster.wait_until_well().await.unwrap();
    cluster.wait_until_follows(master, replicas[0]).await.unwrap();
    cluster.fail_over(master).await.unwrap();
    assert_eq!(cluster.owner_of(KEY).await.unwrap(), master);
    assert_eq!(value(&cluster, master).await, "kept");
}
