//! PostgreSQL's migrations, each in a transaction with its entry in the ledger; but for an index over a large table, which
//! is built beside its writers, and outside of any transaction.
//!
//! Never waits long for a table's lock: every reader and writer of that table would queue up behind it.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::applied::{Migration, State, Step, compare, migration};
use super::error::MigrateError;
use crate::config::PostgresConfig;
use crate::stores::{Postgres, StoreError, Transaction};

const DATABASE: &str = "PostgreSQL";

const ALL: &[Migration] = &[
    migration!("postgres", "0001_platform_tables"),
    migration!("postgres", "0002_identity"),
    migration!(optional "postgres", "0003_trigram_indexes"),
    migration!("postgres", "0004_unfinished_merges"),
    migration!("postgres", "0005_unpublished_by_person"),
    migration!(index "processor_person_overrides_published_idx", "postgres", "0006_published_by_age"),
];

/// Longest that one migration may take: an index over a table of the platform's may need minutes.
const LONGEST: Duration = Duration::from_hours(1);
/// The advisory lock's number. Any that no other program uses: `qurvo` in hexadecimal letters.
const LOCK_ID: i64 = 0x0071_7572_766f;
/// How long a second `migrate` waits for the first.
const LOCK_LIMIT: Duration = Duration::from_mins(10);
/// How often it tries.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Attempts at a migration that could not get a table's lock.
const ATTEMPTS: u32 = 10;
/// Pause between them, so that statements that queued up behind the migration get their turn.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// Lets the transaction that holds the lock stay idle while the migrations run on other connections. It comes last because
/// it sees no rows: an index that is built concurrently waits for transactions whose last statement has seen some.
const NOTHING_SEEN: &str = "SET LOCAL idle_in_transaction_session_timeout = 0";

const LEDGER: &str = "processor_migrations";
const CREATE_LEDGER: &str = "
    CREATE TABLE IF NOT EXISTS processor_migrations (
        name text PRIMARY KEY,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

/// Creates the database when the server does not know it.
pub(super) async fn create_database(config: &PostgresConfig, postgres: &Postgres) -> Result<(), StoreError> {
    let error = match postgres.query("connecting", "SELECT 1", &[]).await {
        Err(error) if error.sql_state() == Some(SqlState::UNDEFINED_DATABASE) => error,
        other => return other.map(|_| ()),
    };
    if config.session.get_dbname().is_none() {
        return Err(error);
    }
    // The one that every server has.
    let created = Postgres::new(&config.of_database("postgres"))?
        .execute_batch(
            "creating the database",
            &format!("CREATE DATABASE \"{}\"", config.database().replace('"', "\"\"")),
        )
        .await;
    match created {
        Err(error) => match error.sql_state() {
            // Another process was quicker.
            Some(SqlState::DUPLICATE_DATABASE | SqlState::UNIQUE_VIOLATION) => Ok(()),
            _ => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

/// Takes the migration lock, which the returned transaction holds: a second `migrate` waits here. The lock belongs to the
/// transaction, so that it works behind a pooler and ends with the connection. A waiting `migrate` keeps no transaction
/// open: an index that the first one builds concurrently would wait for it.
pub(super) async fn lock(postgres: &Postgres) -> Result<Transaction, MigrateError> {
    let started = Instant::now();
    loop {
        let transaction = postgres.begin("taking the migration lock").await?;
        transaction.start().await?;
        let rows = transaction
            .query("SELECT pg_try_advisory_xact_lock($1)", &[(&LOCK_ID, Type::INT8)])
            .await?;
        if rows.first().is_some_and(|row| row.get(0)) {
            transaction.query(NOTHING_SEEN, &[]).await?;
            return Ok(transaction);
        }
        transaction.commit().await?;
        if started.elapsed() > LOCK_LIMIT {
            return Err(MigrateError::Locked(LOCK_LIMIT.as_secs()));
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

pub(super) async fn migrate(postgres: &Postgres) -> Result<Vec<Step>, MigrateError> {
    postgres
        .execute_batch("creating the migration ledger", CREATE_LEDGER)
        .await?;
    let mut steps = status(postgres).await?;
    for (step, migration) in steps.iter_mut().zip(ALL) {
        if step.state == State::AlreadyApplied {
            continue;
        }
        let applied = match migration.index {
            Some(index) => while_in_use(migration, || build_index(postgres, migration, index)).await,
            None => apply(postgres, migration).await,
        };
        step.state = match applied {
            Ok(()) => State::AppliedNow,
            // A code means that the server answered: it refuses.
            Err(error) if migration.optional && !error.code.is_empty() => State::Skipped(error.message),
            Err(source) => {
                return Err(MigrateError::Failed {
                    database: DATABASE,
                    name: migration.name,
                    source,
                });
            }
        };
    }
    Ok(steps)
}

/// One transaction: all of a migration and its entry, or nothing.
async fn apply(postgres: &Postgres, migration: &Migration) -> Result<(), StoreError> {
    // Both values are ours: a file's name and a hexadecimal number.
    let statement = format!(
        "BEGIN; SET LOCAL lock_timeout = '3s'; {}; INSERT INTO {LEDGER} (name, checksum) VALUES ('{}', '{}'); COMMIT",
        migration.sql,
        migration.name,
        migration.checksum()
    );
    while_in_use(migration, || {
        postgres.execute_batch_within(LONGEST, "migrating", &statement)
    })
    .await
}

/// A lock was not available in time, or a deadlock was ended.
fn is_in_use(error: &StoreError) -> bool {
    matches!(
        error.sql_state(),
        Some(SqlState::LOCK_NOT_AVAILABLE | SqlState::T_R_DEADLOCK_DETECTED)
    )
}

/// Repeats what cannot be done because the tables are in use.
async fn while_in_use<F>(migration: &Migration, mut operation: impl FnMut() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut attempt = 1;
    loop {
        match operation().await {
            Err(error) if attempt < ATTEMPTS && is_in_use(&error) => {
                tracing::warn!(
                    migration = migration.name,
                    attempt,
                    "a table is in use: trying again"
                );
                attempt += 1;
                tokio::time::sleep(ATTEMPT_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Builds an index while the table is written to. What an attempt that was cut short has left of it is removed first: no
/// query uses it, and every write pays for it.
async fn build_index(postgres: &Postgres, migration: &Migration, index: &str) -> Result<(), StoreError> {
    let unusable = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid";
    let left = postgres
        .query("migrating", unusable, &[(&index, Type::TEXT)])
        .await?;
    // The names are ours.
    let remove = format!("DROP INDEX CONCURRENTLY IF EXISTS {index}");
    let record = format!(
        "INSERT INTO {LEDGER} (name, checksum) VALUES ('{}', '{}')",
        migration.name,
        migration.checksum()
    );
    let remove = (!left.is_empty()).then_some(remove.as_str());
    for statement in remove.into_iter().chain([migration.sql, &record]) {
        postgres
            .execute_batch_within(LONGEST, "migrating", statement)
            .await?;
    }
    Ok(())
}

pub(super) async fn status(postgres: &Postgres) -> Result<Vec<Step>, MigrateError> {
    const DURING: &str = "reading the migration ledger";
    let exists = postgres
        .query(
            DURING,
            "SELECT to_regclass($1) IS NOT NULL",
            &[(&LEDGER, Type::TEXT)],
        )
        .await?;
    let applied = if exists.first().is_some_and(|row| row.get(0)) {
        let rows = postgres
            .query(DURING, "SELECT name, checksum FROM processor_migrations", &[])
            .await?;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    } else {
        Vec::new()
    };
    compare(DATABASE, LEDGER, ALL, &applied)
}
