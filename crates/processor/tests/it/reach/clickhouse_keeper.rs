//! Tables with replicas refuse inserts while a replica has no session with Keeper, or too few replicas have one. The engine at
//! hand has a Keeper in its memory and makes the tables that `migrate` asks for, yet never begins to replicate, since no other
//! server could fetch from it: so its refusals are genuine, and what follows is told of plain tables in their place.

use std::time::Duration;

use qurvo_processor::config::Config;
use qurvo_processor::testing::clickhouse_statements;

use crate::support::letters::QUICK;
use crate::support::{QUEUE, REJECTED, SOON, World, entries, eventually};

/// One server with a Keeper, whose user's profile may ask for a quorum.
const KEEPER: &str = "<clickhouse>
  <tcp_port>9000</tcp_port>
  <users_config>../clickhouse.xml</users_config>
  <profiles><default><insert_quorum>{quorum}</insert_quorum></default></profiles>
  <users><default>
    <password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
    <access_management>1</access_management>
  </default></users>
  <quotas><default></default></quotas>
  <zookeeper><implementation>testkeeper</implementation></zookeeper>
  <keeper_map_path_prefix>/</keeper_map_path_prefix>
  <default_replica_path>/tables/{database}/{table}/{shard}</default_replica_path>
  <default_replica_name>{replica}</default_replica_name>
  <macros><shard>1</shard><replica>r1</replica></macros>
  <remote_servers>
    <main><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></main>
  </remote_servers>
</clickhouse>";

const CLUSTER: (&str, &str) = ("CLICKHOUSE_CLUSTER", "main");

async fn start(quorum: &str) -> World {
    let config = KEEPER.replace("{quorum}", quorum);
    World::start_with(|stack| stack.clickhouse_config(&config)).await
}

/// What `migrate` says, without `ON CLUSTER`, which the engine does not carry out: this is what each server of a cluster is told.
fn statements(cluster: Option<&str>) -> impl Iterator<Item = String> {
    let environment = |name: &str| cluster.filter(|_| name == CLUSTER.0).map(str::to_owned);
    let statements = clickhouse_statements(&Config::from_lookup(&environment).unwrap().clickhouse);
    statements
        .into_iter()
        .map(|statement| statement.replace("ON CLUSTER 'main'", ""))
}

/// The tables, but for the ledger. Without a session with Keeper a table takes no change, so changes that follow on its making
/// are left out.
fn tables(cluster: Option<&str>) -> Vec<(String, String)> {
    let tables = statements(cluster).filter_map(|statement| {
        let name = statement
            .trim_start()
            .strip_prefix("CREATE TABLE IF NOT EXISTS ")?;
        let name = name.split_whitespace().next()?.to_owned();
        (name != "_processor_migrations").then_some((name, statement))
    });
    tables.collect()
}

/// Puts these tables in the place of those that are there.
async fn replace_tables(world: &World, cluster: Option<&str>) {
    world.ch("DROP DICTIONARY person_overrides_dict").await;
    for (name, create) in tables(cluster) {
        world.ch(&format!("DROP TABLE {name} SYNC")).await;
        world.ch(&create).await;
    }
    let dictionary = statements(cluster).find(|statement| statement.contains("CREATE DICTIONARY"));
    world.ch(&dictionary.unwrap()).await;
}

/// Everything waits while the tables refuse with `code`, the log says why, and all of it lands once when they take rows.
async fn is_held_and_lands(world: &World, code: &str, why: &str) {
    let worker = world.worker(
        "w1",
        &[
            CLUSTER,
            QUICK,
            ("DLQ_CIRCUIT_RESET_MS", "500"),
            ("LOG_LEVEL", "debug"),
        ],
    );
    let mut sent = world.load(300, 30).await;
    eventually("the log says that it is refused", SOON, async || {
        let log = worker.log();
        log.contains("store is away") && log.contains(code) && log.contains(why)
    })
    .await;
    sent.extend(world.load(100, 30).await);
    tokio::time::sleep(Duration::from_secs(12)).await;
    // As long as it takes none, no row is looked for that could be at fault.
    assert!(
        !worker.log().contains(r#""message":"rows not taken""#),
        "{}",
        worker.log()
    );
    assert_eq!(world.length(REJECTED).await, Some(0), "no event is at fault");
    assert_eq!(world.ch("SELECT count() FROM events").await, "0");
    let letters = entries(world, QUEUE).await;
    let waiting = world.unsettled().await.unwrap() + letters.len() as u64;
    assert!(waiting >= 300, "{waiting} are held");
    for letter in letters {
        assert_eq!(letter.get::<String>("reason").unwrap(), "clickhouse_unavailable");
    }
    replace_tables(world, None).await;
    world.settled(2 * SOON).await;
    world.holds_exactly(&sent).await;
    assert_eq!(world.length(REJECTED).await, Some(0));
}

#[tokio::test]
async fn what_a_replica_without_keeper_refuses_is_held_and_lands_once() {
    let world = start("0").await;
    replace_tables(&world, Some("main")).await;
    let engines = world
        .ch("SELECT count() FROM system.tables WHERE database = currentDatabase() AND engine LIKE 'Replicated%'")
        .await;
    assert_eq!(engines, tables(None).len().to_string());
    for environment in [&[][..], &[CLUSTER]] {
        let (fine, said) = world.check(environment);
        let told = said
            .lines()
            .find(|line| line.starts_with("ClickHouse Keeper  WRONG  read-only: "));
        let told = told.unwrap_or_else(|| panic!("{said}"));
        assert!(
            !fine && told.contains("cohort_members on ") && told.contains("Keeper answers"),
            "{told}"
        );
    }
    replace_tables(&world, None).await;
    let (_, said) = world.check(&[]);
    assert!(!said.contains("ClickHouse Keeper"), "no table has one: {said}");
    replace_tables(&world, Some("main")).await;
    is_held_and_lands(&world, "TABLE_IS_READ_ONLY", "system.replicas says why").await;
}

#[tokio::test]
async fn what_too_few_replicas_would_take_is_held_and_lands_once() {
    let world = start("2").await;
    replace_tables(&world, Some("main")).await;
    // The replica counts as living once its node is there, as it has it while it replicates.
    for (name, _) in tables(None) {
        let node = format!("/tables/qurvo_analytics/{name}/1/replicas/r1/is_active");
        world
            .ch(&format!(
                "CREATE TABLE living_{name} (k String, v String) ENGINE = KeeperMap('{node}') PRIMARY KEY k"
            ))
            .await;
    }
    is_held_and_lands(
        &world,
        "TOO_FEW_LIVE_REPLICAS",
        "insert_quorum of CLICKHOUSE_USER",
    )
    .await;
}
