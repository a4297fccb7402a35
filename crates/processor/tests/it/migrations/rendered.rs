//! What `migrate` sends to ClickHouse, in every form that a configuration gives it, is read by the engine's own parser. The
//! engine at hand runs nothing `ON CLUSTER`; it reads it all the same.

use qurvo_processor::config::Config;
use qurvo_processor::testing::clickhouse_statements;

use crate::support::World;

/// A password with everything that could end its literal.
const HOSTILE: &str = "it's \\ \"`;\n-- {database} \\'";

/// The statements under a cluster, a database and a password.
fn rendered(cluster: Option<&str>, database: &str, password: &str) -> Vec<String> {
    let environment = |name: &str| match name {
        "CLICKHOUSE_CLUSTER" => cluster.map(str::to_owned),
        "CLICKHOUSE_DB" => Some(database.to_owned()),
        "CLICKHOUSE_USER" | "CLICKHOUSE_PASSWORD" => Some(password.to_owned()),
        _ => None,
    };
    clickhouse_statements(&Config::from_lookup(&environment).unwrap().clickhouse)
}

/// The statement as the engine understands it.
async fn understood(world: &World, statement: &str) -> String {
    let quoted = statement.replace('\\', "\\\\").replace('\'', "\\'");
    world
        .ch(&format!(
            "SELECT formatQuerySingleLine('{quoted}') FORMAT RawBLOB"
        ))
        .await
}

#[tokio::test]
async fn the_engine_reads_every_statement_in_every_form_as_it_is_meant() {
    let world = World::start().await;
    for cluster in [None, Some("main"), Some("two-halves_1"), Some("{cluster}")] {
        for (database, password) in [("qurvo_analytics", "secret"), ("with-hyphen", HOSTILE), ("d", "")] {
            let mut kinds = Vec::new();
            for statement in rendered(cluster, database, password) {
                let understood = understood(&world, &statement).await;
                let distributed = cluster.map(|cluster| {
                    let is_plain = cluster.chars().all(|c| c.is_ascii_alphanumeric());
                    let quote = if is_plain { "" } else { "`" };
                    format!(" ON CLUSTER {quote}{cluster}{quote} ")
                });
                match &distributed {
                    Some(words) => assert!((understood.clone() + " ").contains(words), "{understood}"),
                    None => assert!(!understood.contains("CLUSTER"), "{understood}"),
                }
                if let Some((_, engine)) = understood.split_once("ENGINE = ") {
                    assert_eq!(engine.starts_with("Replicated"), cluster.is_some(), "{engine}");
                    assert!(engine.contains("MergeTree"), "{engine}");
                }
                if understood.contains("DICTIONARY") {
                    let source = format!("FROM `{database}`.person_distinct_id_overrides");
                    assert!(understood.contains(&source), "{understood}");
                }
                kinds.push(understood.split(' ').take(2).collect::<Vec<_>>().join(" "));
            }
            for kind in [
                "CREATE DATABASE",
                "CREATE TABLE",
                "CREATE DICTIONARY",
                "ALTER TABLE",
            ] {
                assert!(kinds.iter().any(|found| found == kind), "{kind}: {kinds:?}");
            }
        }
    }
}
