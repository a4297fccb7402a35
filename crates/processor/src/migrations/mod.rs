//! The schema of both databases: versioned, checksummed, additive.
//!
//! Safe to repeat, safe where the rest of the platform has created its tables, safe when two run at once. Never
//! rewrites a table, never drops anything, never touches the platform's own ledger.

mod applied;
mod clickhouse;
mod error;
mod needs;
mod postgres;

pub(crate) use self::applied::{Report, State, Step};
pub(crate) use self::error::MigrateError;
pub(crate) use self::needs::{
    clickhouse_is_as_needed, dictionary_answers, postgres_is_as_needed, postgres_rights,
};
use crate::config::{ClickHouseConfig, Config};
use crate::stores::{ClickHouse, Postgres};

/// Applies what is missing.
///
/// # Errors
/// [`MigrateError`]; what was applied before it stays applied, and a further run goes on from there.
pub(crate) async fn migrate(
    config: &Config,
    postgres: &Postgres,
    clickhouse: &ClickHouse,
) -> Result<Report, MigrateError> {
    postgres::create_database(&config.postgres, postgres).await?;
    // One lock for both databases: PostgreSQL has one that ends with its connection.
    let lock = postgres::lock(postgres).await?;
    let mut steps = postgres::migrate(postgres).await?;
    steps.extend(clickhouse::migrate(&config.clickhouse, clickhouse).await?);
    lock.commit().await?;
    Ok(Report { steps })
}

/// What [`migrate`] sends to a ClickHouse that has nothing yet, as it is configured; with the password.
pub fn clickhouse_statements(config: &ClickHouseConfig) -> Vec<String> {
    clickhouse::all_rendered(config)
}

/// Where every migration stands. Changes nothing.
///
/// # Errors
/// [`MigrateError`].
pub(crate) async fn status(postgres: &Postgres, clickhouse: &ClickHouse) -> Result<Report, MigrateError> {
    let mut report = postgres_status(postgres).await?;
    report.steps.extend(clickhouse_status(clickhouse).await?.steps);
    Ok(report)
}

/// Where PostgreSQL's migrations stand. Changes nothing.
///
/// # Errors
/// [`MigrateError`].
pub(crate) async fn postgres_status(postgres: &Postgres) -> Result<Report, MigrateError> {
    let steps = postgres::status(postgres).await?;
    Ok(Report { steps })
}

/// Where ClickHouse's migrations stand. Changes nothing.
///
/// # Errors
/// [`MigrateError`].
pub(crate) async fn clickhouse_status(clickhouse: &ClickHouse) -> Result<Report, MigrateError> {
    let steps = clickhouse::status(clickhouse).await?;
    Ok(Report { steps })
}
