//! ClickHouse's migrations. There are no transactions: every statement may be repeated, and the ledger follows it.
//!
//! The dictionary's definition holds the password: it is filled in here, at the last moment, and appears in no error,
//! log or ledger.

use super::applied::{Migration, State, Step, compare, migration};
use super::error::MigrateError;
use crate::config::ClickHouseConfig;
use crate::stores::{ClickHouse, StoreError, engine};

const DATABASE: &str = "ClickHouse";

const ALL: &[Migration] = &[
    migration!("clickhouse", "0001_events"),
    migration!("clickhouse", "0002_events_deduplication"),
    migration!("clickhouse", "0003_person_overrides"),
    DICTIONARY,
    migration!("clickhouse", "0005_cohorts"),
    migration!("clickhouse", "0006_ingestion_warnings"),
    migration!("clickhouse", "0007_events_ip"),
];

/// The only definition that holds a user and a password.
const DICTIONARY: Migration = migration!("clickhouse", "0004_person_overrides_dict");

/// Not `_migrations`: that is the platform's own.
const LEDGER: &str = "_processor_migrations";
const CREATE_LEDGER: &str = "
    CREATE TABLE IF NOT EXISTS _processor_migrations {on_cluster} (
        name String, checksum String, applied_at DateTime DEFAULT now()
    ) ENGINE = {replacing}(applied_at) ORDER BY name";

const CREATE_DATABASE: &str = "CREATE DATABASE IF NOT EXISTS `{database}` {on_cluster}";

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
                escaped(&config.password.current())
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

/// Everything that a database which is empty or not there is sent, in its order.
pub(super) fn all_rendered(config: &ClickHouseConfig) -> Vec<String> {
    [CREATE_DATABASE, CREATE_LEDGER]
        .into_iter()
        .chain(ALL.iter().flat_map(|migration| statements(migration.sql)))
        .map(|statement| render(statement, config))
        .collect()
}

pub(super) async fn migrate(
    config: &ClickHouseConfig,
    clickhouse: &ClickHouse,
) -> Result<Vec<Step>, MigrateError> {
    create_database(config, clickhouse).await?;
    run(config, clickhouse, "creating the migration ledger", CREATE_LEDGER).await?;
    let mut steps = status(clickhouse).await?;
    for (step, migration) in steps.iter_mut().zip(ALL) {
        if step.state == State::AlreadyApplied {
            continue;
        }
        apply(config, clickhouse, migration)
            .await
            .map_err(|source| MigrateError::Failed {
                database: DATABASE,
                name: migration.name,
                source,
            })?;
        step.state = State::AppliedNow;
    }
    Ok(steps)
}

async fn apply(
    config: &ClickHouseConfig,
    clickhouse: &ClickHouse,
    migration: &Migration,
) -> Result<(), StoreError> {
    for statement in statements(migration.sql) {
        run(config, clickhouse, "migrating", statement).await?;
    }
    let record = clickhouse
        .query("INSERT INTO _processor_migrations (name, checksum) SELECT {name:String}, {checksum:String}")
        .param("name", migration.name)
        .param("checksum", migration.checksum());
    clickhouse.execute("recording a migration", record).await
}

pub(super) async fn status(clickhouse: &ClickHouse) -> Result<Vec<Step>, MigrateError> {
    let query = clickhouse.query("SELECT name, checksum FROM _processor_migrations FINAL");
    let mut applied: Vec<(String, String)> =
        match clickhouse.rows("reading the migration ledger", query).await {
            Ok(applied) => applied,
            Err(error) => match error.engine_code() {
                Some(engine::UNKNOWN_TABLE | engine::UNKNOWN_DATABASE) => Vec::new(),
                _ => return Err(error.into()),
            },
        };
    // A new password means dropping the dictionary: then it has to be made again.
    if !applied.is_empty() && !dictionary_exists(clickhouse).await? {
        applied.retain(|(name, _)| name != DICTIONARY.name);
    }
    compare(DATABASE, LEDGER, ALL, &applied)
}

async fn dictionary_exists(clickhouse: &ClickHouse) -> Result<bool, StoreError> {
    let query = clickhouse.query(
        "SELECT count() FROM system.dictionaries
         WHERE database = currentDatabase() AND name = 'person_overrides_dict'",
    );
    let count: Vec<u64> = clickhouse.rows("looking for the dictionary", query).await?;
    Ok(count.first().is_some_and(|count| *count > 0))
}

/// Creates the database unless it is there: a user of the database need not have the right to create one.
async fn create_database(config: &ClickHouseConfig, clickhouse: &ClickHouse) -> Result<(), StoreError> {
    let anywhere = clickhouse.without_database();
    let query = anywhere
        .query("SELECT count() FROM system.databases WHERE name = {name:String}")
        .param("name", &config.database);
    let count: Vec<u64> = anywhere.rows("looking for the database", query).await?;
    if count.first().is_some_and(|count| *count > 0) {
        return Ok(());
    }
    run(config, &anywhere, "creating the database", CREATE_DATABASE).await
}

async fn run(
    config: &ClickHouseConfig,
    clickhouse: &ClickHouse,
    during: &'static str,
    sql: &str,
) -> Result<(), StoreError> {
    let query = clickhouse.query(&render(sql, config));
    clickhouse.execute(during, query).await.map_err(|mut error| {
        error.message = without_password(&error.message, &config.password.current());
        error
    })
}

/// The engine quotes a statement that it cannot read, and may cut the quotation anywhere. So nothing of the message is kept
/// from the word before the password on.
fn without_password(message: &str, password: &str) -> String {
    let kept = message.split("PASSWORD").next().unwrap_or_default();
    let hidden = if kept.len() < message.len() {
        format!("{kept}[hidden]")
    } else {
        kept.to_owned()
    };
    if password.is_empty() {
        return hidden;
    }
    hidden
        .replace(&escaped(password), "[hidden]")
        .replace(password, "[hidden]")
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
        all_rendered(&config)
            .into_iter()
            .map(|statement| statement + ";\n\n")
            .collect()
    }

    #[test]
    fn plain_statements() {
        insta::assert_snapshot!(rendered(None));
    }

    #[test]
    fn on_a_cluster_every_statement_is_distributed_and_every_engine_replicated() {
        let sql = rendered(Some("main"));
        let definitions = [
            "CREATE DATABASE",
            "CREATE TABLE",
            "CREATE DICTIONARY",
            "ALTER TABLE",
        ];
        let count = |text: &str| sql.matches(text).count();
        assert_eq!(
            count("ON CLUSTER 'main'"),
            definitions.iter().map(|d| count(d)).sum::<usize>()
        );
        assert_eq!(count("ENGINE = "), count("ENGINE = Replicated"));
        insta::assert_snapshot!(sql);
    }

    #[test]
    fn no_error_repeats_the_password_not_even_a_part_of_it() {
        let quoted = "Code: 62. Syntax error: failed at position 9: SOURCE(CLICKHOUSE(USER 'u' PASSWORD 'hun";
        let hidden = without_password(quoted, "hunter2");
        assert!(
            !hidden.contains("hun") && hidden.contains("position 9"),
            "{hidden}"
        );
        assert_eq!(without_password("no user hunter2", "hunter2"), "no user [hidden]");
        assert_eq!(without_password("as it is", ""), "as it is");
    }

    #[test]
    fn a_password_is_part_of_no_checksum() {
        let written = ALL.iter().filter(|migration| migration.sql.contains("PASSWORD"));
        assert_eq!(written.count(), 0, "credentials are filled in when run");
        assert!(DICTIONARY.sql.contains("{credentials}"));
    }

    #[test]
    fn a_password_cannot_leave_its_literal() {
        assert!(rendered(None).contains(r"PASSWORD 'it\'s'"));
    }
}
