//! PostgreSQL's migrations, each in a transaction with its entry in the ledger.

use tokio_postgres::types::Type;

use super::{MigrateError, Migration, Step, compare, migration};
use crate::stores::{Postgres, StoreError, Transaction};

const ALL: &[Migration] = &[
    migration!("postgres", "0001_platform_tables"),
    migration!("postgres", "0002_identity"),
];

/// Any number, as long as nobody else uses it: `qurvo` in hexadecimal letters.
const LOCK_ID: i64 = 0x0071_7572_766f;

const LEDGER: &str = "
    CREATE TABLE IF NOT EXISTS processor_migrations (
        name text PRIMARY KEY,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

/// Catalogue searches by part of a name. Needs an extension that may not be allowed; everything works without.
const TRIGRAM_INDEXES: &str = "
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX IF NOT EXISTS event_definitions_event_name_trgm_idx
        ON event_definitions USING gin (event_name gin_trgm_ops);
    CREATE INDEX IF NOT EXISTS property_definitions_property_name_trgm_idx
        ON property_definitions USING gin (property_name gin_trgm_ops)";

/// Held by the returned transaction: a second `migrate` waits here.
pub(super) async fn lock(postgres: &Postgres) -> Result<Transaction, StoreError> {
    let transaction = postgres.begin("waiting for another migration").await?;
    transaction.start().await?;
    transaction
        .query("SELECT pg_advisory_xact_lock($1)", &[(&LOCK_ID, Type::INT8)])
        .await?;
    Ok(transaction)
}

pub(super) async fn migrate(postgres: &Postgres) -> Result<Vec<Step>, MigrateError> {
    postgres
        .execute_batch("creating the migration ledger", LEDGER)
        .await?;
    let steps = status(postgres).await?;
    for (step, migration) in steps.iter().zip(ALL).filter(|(step, _)| !step.was_applied) {
        let statement = format!(
            "BEGIN; {}; INSERT INTO processor_migrations (name, checksum) VALUES ('{}', '{}'); COMMIT",
            migration.sql,
            step.name,
            migration.checksum()
        );
        postgres.execute_batch("migrating PostgreSQL", &statement).await?;
    }
    if steps.iter().any(|step| !step.was_applied)
        && let Err(error) = postgres
            .execute_batch("creating trigram indexes", TRIGRAM_INDEXES)
            .await
    {
        tracing::warn!(%error, "going on without trigram indexes: name searches in the catalogue are slower");
    }
    Ok(steps)
}

pub(super) async fn status(postgres: &Postgres) -> Result<Vec<Step>, MigrateError> {
    let exists = postgres
        .query(
            "reading the migration ledger",
            "SELECT to_regclass('processor_migrations') IS NOT NULL",
            &[],
        )
        .await?;
    let applied = if exists.first().is_some_and(|row| row.get(0)) {
        let rows = postgres
            .query(
                "reading the migration ledger",
                "SELECT name, checksum FROM processor_migrations",
                &[],
            )
            .await?;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    } else {
        Vec::new()
    };
    compare("PostgreSQL", ALL, &applied)
}
