//! ClickHouse: which server it is, its schema, and the user's rights.

use super::finding::{Findings, LIMIT, Told, explained, migrated, soon};
use super::protection;
use crate::config::{ClickHouseConfig, Config};
use crate::migrations;
use crate::runtime::streams::few;
use crate::stores::{ClickHouse, Store, StoreError};

/// The oldest version that has what is used.
const OLDEST: (u64, u64) = (24, 8);

/// Tables that rows are inserted into, each with a column.
const WRITTEN: [(&str, &str); 5] = [
    ("events", "event_name"),
    ("person_distinct_id_overrides", "distinct_id"),
    ("cohort_members", "version"),
    ("cohort_membership_history", "count"),
    ("ingestion_warnings", "type"),
];

/// Rights that cannot be tried without changing anything. Servers that cannot say leave them open.
const ASKED: [&str; 1] = ["ALTER DELETE ON cohort_members"];

pub(super) async fn check(config: &Config, place: &str) -> Findings {
    let mut findings = Findings::new();
    let clickhouse = ClickHouse::new(&config.clickhouse).within(LIMIT);
    let connected = which(&clickhouse).await;
    let is_there = connected.is_ok();
    let at = |told: String| format!("{place}: {told}");
    findings.add("ClickHouse", connected.map(at).map_err(at));
    if !is_there {
        return findings;
    }
    findings.add(
        "ClickHouse connection",
        protection::clickhouse(&config.clickhouse),
    );
    let schema = schema(&clickhouse).await;
    let is_as_needed = schema.is_ok();
    findings.add("ClickHouse schema", schema);
    if let Some(told) = read_only(&clickhouse, &config.clickhouse).await {
        findings.add("ClickHouse Keeper", told);
    }
    if is_as_needed {
        findings.add("ClickHouse rights", rights(&clickhouse).await);
        findings.add("ClickHouse system", system(&clickhouse).await);
        findings.add(
            "ClickHouse replicas",
            replicas(&clickhouse, config.clickhouse.cluster.as_deref()).await,
        );
    }
    findings
}

async fn which(clickhouse: &ClickHouse) -> Result<String, String> {
    let anywhere = clickhouse.without_database();
    let asked =
        anywhere.rows::<(String, String)>("connecting", anywhere.query("SELECT version(), currentUser()"));
    let otherwise = "check CLICKHOUSE_URL and that ClickHouse is running";
    let rows = soon(Store::ClickHouse, asked)
        .await
        .map_err(|error| explained(&error, otherwise))?;
    let (version, user) = rows.into_iter().next().ok_or("no answer")?;
    let mut parts = version.split('.').map(|number| number.parse().unwrap_or(0));
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST {
        return Err(format!(
            "version {version} is too old: use ClickHouse 24.8 or newer"
        ));
    }
    Ok(format!("version {version}, user {user}"))
}

async fn schema(clickhouse: &ClickHouse) -> Result<String, String> {
    let steps = migrated(migrations::clickhouse_status(clickhouse).await)?;
    let found = migrations::clickhouse_is_as_needed(clickhouse).await;
    found.map_err(|error| {
        if is_denied(&error) {
            explained(&error, "")
        } else {
            format!("{error}: all migrations are recorded as applied, but this is not as they leave it: restore it")
        }
    })?;
    let asked = migrations::dictionary_answers(clickhouse).await;
    asked.map_err(|error| {
        format!(
            "{error}: readers of the overrides get no answer; if a password has changed, run `DROP DICTIONARY \
             person_overrides_dict` in ClickHouse and then `qurvo-processor migrate`; otherwise give CLICKHOUSE_USER \
             dictGet on it"
        )
    })?;
    Ok(format!("{steps}, tables and dictionary as needed"))
}

fn is_denied(error: &StoreError) -> bool {
    error.engine_code() == Some(crate::stores::engine::ACCESS_DENIED)
}

/// An insert of no rows into each table, and a question for each right that is used otherwise.
async fn rights(clickhouse: &ClickHouse) -> Result<String, String> {
    let mut missing = Vec::new();
    for (table, column) in WRITTEN {
        let nothing = format!("INSERT INTO {table} ({column}) SELECT {column} FROM {table} WHERE 0");
        let nothing = clickhouse.query(&nothing).with_setting("async_insert", "0");
        let tried = clickhouse.execute("inserting no rows", nothing).await;
        missing.extend(tried.err().map(|error| (format!("INSERT ON {table}"), error)));
    }
    let mut wrong: Vec<String> = missing
        .into_iter()
        .map(|(right, error)| {
            if is_denied(&error) {
                format!("missing: {right}")
            } else {
                error.to_string()
            }
        })
        .collect();
    for right in ASKED {
        let asked = clickhouse.query(&format!("CHECK GRANT {right}"));
        if let Ok(granted) = clickhouse.rows::<u8>("asking for a right", asked).await
            && granted == [0]
        {
            wrong.push(format!("missing: {right}"));
        }
    }
    if wrong.is_empty() {
        Ok("every table may be written as it is needed".into())
    } else {
        Err(format!(
            "{}: give CLICKHOUSE_USER the rights in docs/operations.md (GRANT)",
            wrong.join("; ")
        ))
    }
}

/// What is asked of the server about itself.
async fn system(clickhouse: &ClickHouse) -> Told {
    let reads = async |table: &str| {
        let query = clickhouse.query(&format!("SELECT 1 FROM system.{table} LIMIT 0"));
        clickhouse.execute("reading a system table", query).await
    };
    if let Err(error) = reads("processes").await {
        return Told::Wrong(format!(
            "{error}: before rows are looked up, inserts that still run are waited for; give CLICKHOUSE_USER SELECT ON \
             system.processes"
        ));
    }
    match reads("parts").await {
        Ok(()) => Told::Fine("processes and parts may be read".into()),
        Err(error) => Told::Warning(format!(
            "{error}: `status` reads the newest month instead; give CLICKHOUSE_USER SELECT ON system.parts"
        )),
    }
}

/// Whether replicated tables take writes: one without a session with Keeper does not. Nothing where no table is one.
async fn read_only(clickhouse: &ClickHouse, config: &ClickHouseConfig) -> Option<Told> {
    let during = "looking for tables that are read-only";
    let replicated = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND startsWith(engine, 'Replicated')";
    let replicated = clickhouse.row::<u64>(during, clickhouse.query(replicated)).await;
    if matches!(replicated, Ok(0)) {
        return None;
    }
    let here = clickhouse
        .query(&closed("system.replicas"))
        .param("database", &config.database);
    let here = clickhouse.rows::<(String, String, u8)>(during, here).await;
    Some(match here {
        Err(error) if is_denied(&error) => Told::Warning(format!(
            "{error}: whether a replica is read-only is not known; give CLICKHOUSE_USER SELECT ON system.replicas"
        )),
        Err(error) => Told::Warning(format!("{error}: whether a replica is read-only is not known")),
        Ok(closed) if !closed.is_empty() => Told::Wrong(keeper(&closed)),
        Ok(_) if config.cluster.is_none() => Told::Fine("every replicated table takes writes".into()),
        Ok(_) => match read_only_elsewhere(clickhouse, &config.database).await {
            Ok(closed) if closed.is_empty() => {
                Told::Fine("every replicated table takes writes, on every replica".into())
            }
            Ok(closed) => Told::Warning(keeper(&closed)),
            // That replicas cannot be asked has a line of its own.
            Err(_) => Told::Fine("every replicated table takes writes on the replica that was asked".into()),
        },
    })
}

/// Replicated tables of ours that take no writes: host, table, and whether the session with Keeper is lost.
fn closed(replicas: &str) -> String {
    format!(
        "SELECT hostName(), table, toUInt8(is_session_expired) FROM {replicas}
         WHERE database = {{database:String}} AND (is_readonly OR is_session_expired) ORDER BY ALL"
    )
}

async fn read_only_elsewhere(
    clickhouse: &ClickHouse,
    database: &str,
) -> Result<Vec<(String, String, u8)>, StoreError> {
    let query = clickhouse
        .query_of_all_replicas(&closed("@"), "system.replicas")
        .await?;
    let query = query.param("database", database);
    clickhouse.rows("looking for read-only replicas", query).await
}

fn keeper(closed: &[(String, String, u8)]) -> String {
    let tables = closed.iter().map(|(host, table, is_expired)| {
        let session = if *is_expired == 1 {
            ", its session has expired"
        } else {
            ""
        };
        format!("{table} on {host}{session}")
    });
    let tables: Vec<String> = tables.collect();
    let tables = few(&tables.iter().map(String::as_str).collect::<Vec<_>>());
    format!(
        "read-only: {tables}; inserts are refused there and events wait. Look whether ClickHouse Keeper answers (system.replicas \
         and system.zookeeper_connection say why), and run SYSTEM RESTORE REPLICA where its data was lost"
    )
}

/// Whether rows are looked up wherever they may be.
async fn replicas(clickhouse: &ClickHouse, cluster: Option<&str>) -> Told {
    let during = "looking for replicas";
    let Some(cluster) = cluster else {
        let engine =
            "SELECT any(engine) FROM system.tables WHERE database = currentDatabase() AND name = 'events'";
        return match clickhouse.row::<String>(during, clickhouse.query(engine)).await {
            Ok(engine) if engine.starts_with("Replicated") => Told::Warning(format!(
                "events is a {engine}, and rows are looked up on one replica alone: set CLICKHOUSE_CLUSTER to the cluster of \
                 system.clusters that holds all replicas, or an event may be there twice until a merge"
            )),
            Ok(engine) if engine.starts_with("Shared") => {
                Told::Fine("shared tables: every replica knows all rows".into())
            }
            Ok(_) => Told::Fine("one server has all rows".into()),
            Err(error) => Told::Warning(error.to_string()),
        };
    };
    let named = clickhouse.query("SELECT count() FROM system.clusters WHERE cluster = {cluster:String}");
    let named: Result<u64, _> = clickhouse.row(during, named.param("cluster", cluster)).await;
    let answering = async {
        let query = clickhouse
            .query_of_all_replicas("SELECT count() FROM @", "system.one")
            .await?;
        clickhouse.row::<u64>("asking all replicas", query).await
    };
    match (named, answering.await) {
        (Ok(named), Ok(answering)) if answering < named => Told::Warning(format!(
            "{answering} of {named} replicas of cluster {cluster} answer: rows that only the others have are not found"
        )),
        (_, Ok(answering)) => Told::Fine(format!(
            "rows are looked up on all {answering} replicas of cluster {cluster}"
        )),
        (_, Err(error)) => Told::Wrong(format!(
            "{error}: rows cannot be looked up on the replicas of cluster {cluster}: correct CLICKHOUSE_CLUSTER \
             (SELECT cluster FROM system.clusters), and give CLICKHOUSE_USER REMOTE and CREATE TEMPORARY TABLE on *.*"
        )),
    }
}
