//! The schema of both databases: versioned, checksummed, additive. Safe to repeat, safe where the rest of the platform has
//! created its tables, safe when two run at once.

mod clickhouse;
mod postgres;

use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::stores::{ClickHouse, Postgres, StoreError};

/// One migration as it stands in the repository.
#[derive(Debug, Clone, Copy)]
struct Migration {
    name: &'static str,
    sql: &'static str,
}

impl Migration {
    /// Over the text as written, before anything is filled in: the same on every installation.
    fn checksum(&self) -> String {
        Sha256::digest(self.sql.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Embeds a migration file.
macro_rules! migration {
    ($database:literal, $name:literal) => {
        $crate::migrations::Migration {
            name: $name,
            sql: include_str!(concat!("../../../../migrations/", $database, "/", $name, ".sql")),
        }
    };
}
use migration;

/// Why migrating stopped.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An applied migration is not the one in this version.
    #[error(
        "migration {name} of {database} was applied in another form: this program and that schema do not belong together"
    )]
    Changed {
        /// Which database.
        database: &'static str,
        /// Which migration.
        name: String,
    },
}

/// A migration and whether it had been applied before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `PostgreSQL` or `ClickHouse`.
    pub database: &'static str,
    /// The file's name.
    pub name: &'static str,
    /// Applied by an earlier run.
    pub was_applied: bool,
}

/// Applies what is missing. Returns every migration, in order.
///
/// # Errors
/// [`MigrateError`]; what was applied before it stays applied.
pub async fn migrate(
    config: &Config,
    postgres: &Postgres,
    clickhouse: &ClickHouse,
) -> Result<Vec<Step>, MigrateError> {
    // One lock for both databases: PostgreSQL has one that ends with its connection.
    let lock = postgres::lock(postgres).await?;
    let mut steps = postgres::migrate(postgres).await?;
    steps.extend(clickhouse::migrate(&config.clickhouse, clickhouse).await?);
    lock.commit().await?;
    Ok(steps)
}

/// Every migration and whether it is applied; changes nothing.
///
/// # Errors
/// [`MigrateError`].
pub async fn status(postgres: &Postgres, clickhouse: &ClickHouse) -> Result<Vec<Step>, MigrateError> {
    let mut steps = postgres::status(postgres).await?;
    steps.extend(clickhouse::status(clickhouse).await?);
    Ok(steps)
}

/// Compares what is applied with what there is.
fn compare(
    database: &'static str,
    all: &[Migration],
    applied: &[(String, String)],
) -> Result<Vec<Step>, MigrateError> {
    all.iter()
        .map(|migration| {
            let stored = applied.iter().find(|(name, _)| name == migration.name);
            match stored {
                Some((_, checksum)) if *checksum != migration.checksum() => Err(MigrateError::Changed {
                    database,
                    name: migration.name.to_owned(),
                }),
                stored => Ok(Step {
                    database,
                    name: migration.name,
                    was_applied: stored.is_some(),
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Migration = Migration {
        name: "0001_one",
        sql: "SELECT 1",
    };

    #[test]
    fn an_applied_migration_in_another_form_is_an_error_that_names_it() {
        let error = compare("PostgreSQL", &[ONE], &[("0001_one".into(), "other".into())]).unwrap_err();
        assert!(error.to_string().contains("0001_one"), "{error}");
        let steps = compare("PostgreSQL", &[ONE], &[("0001_one".into(), ONE.checksum())]).unwrap();
        assert!(steps[0].was_applied);
    }
}
