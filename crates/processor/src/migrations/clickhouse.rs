//! ClickHouse's migrations. There are no transactions: every statement may be repeated, and the ledger follows it.

use super::{MigrateError, Migration, Step, compare, migration};
use crate::config::ClickHouseConfig;
use crate::stores::{ClickHouse, StoreError};

const ALL: &[Migration] = &[
    migration!("clickhouse", "0001_events"),
    migration!("clickhouse", "0002_events_deduplication"),
    migration!("clickhouse", "0003_person_overrides"),
    migration!("clickhouse", "0004_person_overrides_dict"),
    migration!("clickhouse", "0005_cohorts"),
    migration!("clickhouse", "0006_ingestion_warnings"),
];

/// Not `_migrations`: that is the platform's own.
const LEDGER: &str = "
    CREATE TABLE IF NOT EXISTS _processor_migrations {on_cluster} (
        name String, checksum String, applied_at DateTime DEFAULT now()
    ) ENGINE = {replacing}(applied_at) ORDER BY name";

/// Fills the places of a statement that depend on the installation.
///
/// Nothing of an event ever gets here; the database's and the cluster's name are checked when they are read.
fn render(sql: &str, config: &ClickHouseConfig) -> String {
    let on_cluster = config
        .cluster
        .as_ref()
        .map_or(String::new(), |cluster| format!("ON CLUSTER '{cluster}'"));
    let replicated = if config.cluster.is_some() {
        "Replicated"
    } else {
        ""
    };
    sql.replace("{on_cluster}", &on_cluster)
        .replace("{replacing}", &format!("{replicated}ReplacingMergeTree"))
        .replace("{plain}", &format!("{replicated}MergeTree"))
        .replace("{database}", &config.database)
        .replace(
            "{credentials}",
            &format!(
                "USER '{}' PASSWORD '{}'",
                escaped(&config.user),
                escaped(&config.password)
            ),
        )
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

/// The statements of a migration: `;` at a line's end separates them.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n")
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
}

pub(super) async fn migrate(
    config: &ClickHouseConfig,
    clickhouse: &ClickHouse,
) -> Result<Vec<Step>, MigrateError> {
    if !database_exists(config, clickhouse).await? {
        let create = render("CREATE DATABASE IF NOT EXISTS `{database}` {on_cluster}", config);
        let anywhere = clickhouse.without_database();
        anywhere
            .execute("creating the database", anywhere.query(&create))
            .await?;
    }
    run(config, clickhouse, LEDGER).await?;
    let steps = status(clickhouse).await?;
    for (step, migration) in steps.iter().zip(ALL).filter(|(step, _)| !step.was_applied) {
        for statement in statements(migration.sql) {
            run(config, clickhouse, statement).await?;
        }
        let record = clickhouse
            .query(
                "INSERT INTO _processor_migrations (name, checksum) SELECT {name:String}, {checksum:String}",
            )
            .param("name", step.name)
            .param("checksum", migration.checksum());
        clickhouse.execute("recording a migration", record).await?;
    }
    Ok(steps)
}

pub(super) async fn status(clickhouse: &ClickHouse) -> Result<Vec<Step>, MigrateError> {
    let query = clickhouse.query("SELECT name, checksum FROM _processor_migrations FINAL");
    let applied: Vec<(String, String)> = match clickhouse.rows("reading the migration ledger", query).await {
        Ok(applied) => applied,
        // No such table or database: nothing is applied.
        Err(error) if matches!(error.code.as_str(), "60" | "81") => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    compare("ClickHouse", ALL, &applied)
}

async fn database_exists(config: &ClickHouseConfig, clickhouse: &ClickHouse) -> Result<bool, StoreError> {
    let anywhere = clickhouse.without_database();
    let query = anywhere
        .query("SELECT count() FROM system.databases WHERE name = {name:String}")
        .param("name", &config.database);
    let count: Vec<u64> = anywhere.rows("looking for the database", query).await?;
    Ok(count.first().is_some_and(|count| *count > 0))
}

async fn run(config: &ClickHouseConfig, clickhouse: &ClickHouse, sql: &str) -> Result<(), StoreError> {
    let query = clickhouse.query(&render(sql, config));
    clickhouse
        .execute("migrating ClickHouse", query)
        .await
        .map_err(|mut error| {
            // The engine quotes the statement it does not understand.
            if !config.password.is_empty() {
                error.message = error.message.replace(&escaped(&config.password), "[hidden]");
            }
            error
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn rendered(cluster: Option<&str>) -> String {
        let environment = |name: &str| match name {
            "CLICKHOUSE_CLUSTER" => cluster.map(str::to_owned),
            "CLICKHOUSE_PASSWORD" => Some("it's".to_owned()),
            _ => None,
        };
        let config = Config::from_lookup(&environment).unwrap().clickhouse;
        ALL.iter()
            .flat_map(|m| statements(m.sql))
            .map(|s| render(s, &config) + ";\n\n")
            .collect()
    }

    #[test]
    fn plain_statements() {
        insta::assert_snapshot!(rendered(None));
    }

    #[test]
    fn on_a_cluster_every_statement_is_distributed_and_every_engine_replicated() {
        let sql = rendered(Some("main"));
        let definitions = ["CREATE TABLE", "CREATE DICTIONARY", "ALTER TABLE"];
        let count = |text: &str| sql.matches(text).count();
        assert_eq!(
            count("ON CLUSTER 'main'"),
            definitions.iter().map(|d| count(d)).sum::<usize>()
        );
        assert_eq!(count("ENGINE = "), count("ENGINE = Replicated"));
        insta::assert_snapshot!(sql);
    }

    #[test]
    fn a_password_cannot_leave_its_literal() {
        assert!(rendered(None).contains(r"PASSWORD 'it\'s'"));
    }
}
