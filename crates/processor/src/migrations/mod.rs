//! The schema of both databases: versioned, checksummed, additive.
//!
//! Safe to repeat, safe where the rest of the platform has created its tables, safe when two run at once. Never
//! rewrites a table, never drops anything, never touches the platform's own ledger.

mod clickhouse;
mod ledger;
mod needs;
mod postgres;

use self::ledger::{Migration, migration};
pub use self::ledger::{Report, State, Step};
pub use self::needs::verify;
use crate::config::Config;
use crate::stores::{ClickHouse, Postgres, StoreError};

/// Why migrating stopped.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One migration was refused.
    #[error("migration {name} of {database} failed: {source}")]
    Failed {
        /// Which database.
        database: &'static str,
        /// Which migration.
        name: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// An applied migration is not the one in this version.
    #[error(
        "migration {name} of {database} was applied in another form: use the version of this program that applied \
         it, or, if both forms are known to agree, delete its row from the table {ledger} and migrate again"
    )]
    Changed {
        /// Which database.
        database: &'static str,
        /// Which migration.
        name: &'static str,
        /// Where it is recorded.
        ledger: &'static str,
    },
    /// Another `migrate` holds the lock.
    #[error("another migration has been running for {0} s: wait for it, or end it, and migrate again")]
    Locked(u64),
}

/// Applies what is missing.
///
/// # Errors
/// [`MigrateError`]; what was applied before it stays applied, and a further run goes on from there.
pub async fn migrate(
    config: &Config,
    postgres: &Postgres,
    clickhouse: &ClickHouse,
) -> Result<Report, MigrateError> {
    postgres::create_database(&config.database_url, postgres).await?;
    // One lock for both databases: PostgreSQL has one that ends with its connection.
    let lock = postgres::lock(postgres).await?;
    let mut steps = postgres::migrate(postgres).await?;
    steps.extend(clickhouse::migrate(&config.clickhouse, clickhouse).await?);
    lock.commit().await?;
    Ok(Report { steps })
}

/// Where every migration stands. Changes nothing.
///
/// # Errors
/// [`MigrateError`].
pub async fn status(postgres: &Postgres, clickhouse: &ClickHouse) -> Result<Report, MigrateError> {
    let mut steps = postgres::status(postgres).await?;
    steps.extend(clickhouse::status(clickhouse).await?);
    Ok(Report { steps })
}
