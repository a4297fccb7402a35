//! The table `cohorts`: what the API writes, and the columns that track our work.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::event::ProjectId;
use crate::stores::{Postgres, StoreError};

/// No version of ours comes near: versions are milliseconds, or one above another.
pub(super) const HIGHEST_VERSION: u64 = 1 << 62;

/// Of the dynamic ones: those that were never computed, or too long ago, and those that failed last.
const COUNT: &str = "
    SELECT count(*), count(*) FILTER (WHERE membership_computed_at IS NULL OR membership_computed_at = 'infinity'
        OR membership_computed_at < now() - $1 * interval '1 second'),
        count(*) FILTER (WHERE errors_calculating > 0)
    FROM cohorts WHERE NOT is_static";

/// The first ones that failed last.
const FAILING: &str = "
    SELECT id, name, errors_calculating, coalesce(left(last_error_message, 500), '')
    FROM cohorts WHERE NOT is_static AND errors_calculating > 0
    ORDER BY errors_calculating DESC, id LIMIT 20";

/// A time at infinity says nothing, and no arithmetic takes it: it counts as none.
const LOAD: &str = "
    SELECT id, project_id, name, definition::text, is_static, membership_version,
           CASE WHEN isfinite(membership_computed_at)
                THEN extract(epoch FROM now() - membership_computed_at)::float8 END,
           errors_calculating,
           CASE WHEN isfinite(last_error_at) THEN extract(epoch FROM now() - last_error_at)::float8 END,
           last_error_message, coalesce(updated_at > last_error_at, false), updated_at::text, now()::text
    FROM cohorts ORDER BY id";

/// The database's clock in milliseconds.
const NOW: &str = "SELECT (extract(epoch FROM now()) * 1000)::int8";

const DYNAMIC: &str = "SELECT id FROM cohorts WHERE NOT is_static";

/// A slower, older run never takes back what a newer one has shown; the same mark twice is no harm, as the answer to the
/// first may have been lost. When the definition was changed meanwhile, the cohort stays as due as it was.
const MARK: &str = "
    UPDATE cohorts
    SET membership_version = $2,
        membership_computed_at =
            CASE WHEN updated_at = $3::text::timestamptz THEN now() ELSE membership_computed_at END,
        errors_calculating = 0, last_error_at = NULL, last_error_message = NULL
    WHERE id = $1 AND NOT is_static AND (membership_version IS NULL OR membership_version <= $2)
    RETURNING id";

/// The failure is one of the definition that was read: what was changed after that has not failed.
const FAILED: &str = "
    UPDATE cohorts
    SET errors_calculating = least(errors_calculating, 1000000) + 1, last_error_at = $3::text::timestamptz,
        last_error_message = left($2, 500)
    WHERE id = $1 AND NOT is_static";

/// A cohort as the table has it. Ages are by the server's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Cohort {
    /// Its id.
    pub id: Uuid,
    /// Its project.
    pub project: ProjectId,
    /// What people call it.
    pub name: String,
    /// JSON text.
    pub definition: String,
    /// Its members are written by the API.
    pub is_static: bool,
    /// The membership that readers see.
    pub version: Option<u64>,
    /// Since that was computed.
    pub computed_ago: Option<Duration>,
    /// Failures in a row.
    pub errors: u64,
    /// Since the last one.
    pub failed_ago: Option<Duration>,
    /// Its message.
    pub last_error: Option<String>,
    /// Whether the cohort was changed since.
    pub changed_since_failure: bool,
    /// When it was last changed, in the server's own words.
    pub updated_at: String,
    /// When it was read, likewise.
    pub read_at: String,
}

/// How many dynamic cohorts there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// In all.
    pub dynamic: i64,
    /// Never computed, or too long ago.
    pub stale: i64,
    /// Whose last computation failed.
    pub failing: i64,
}

/// A cohort whose last computation failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failing {
    /// Its id.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// Failures in a row.
    pub errors: i64,
    /// What the last one said.
    pub last_error: String,
}

/// Reads and marks cohorts. Cloning is cheap.
#[derive(Clone)]
pub struct Registry {
    /// Where the table is.
    pub postgres: Postgres,
}

impl Registry {
    /// Counts the dynamic cohorts; stale is what has no membership that is younger than `stale`, as
    /// [`is_stale`](super::is_stale) has it.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn count(&self, stale: Duration) -> Result<Counts, StoreError> {
        let stale = [(&stale.as_secs_f64() as _, Type::FLOAT8)];
        let rows = self.postgres.query("counting cohorts", COUNT, &stale).await?;
        let counts = rows.first().map(|row| Counts {
            dynamic: row.get(0),
            stale: row.get(1),
            failing: row.get(2),
        });
        Ok(counts.unwrap_or_default())
    }

    /// The first cohorts that failed last.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn failing(&self) -> Result<Vec<Failing>, StoreError> {
        let rows = self
            .postgres
            .query("reading failed cohorts", FAILING, &[])
            .await?;
        let failing = rows.iter().map(|row| Failing {
            id: row.get(0),
            name: row.get(1),
            errors: row.get(2),
            last_error: row.get(3),
        });
        Ok(failing.collect())
    }

    /// All cohorts, by id.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn load(&self) -> Result<Vec<Cohort>, StoreError> {
        let rows = self.postgres.query("reading cohorts", LOAD, &[]).await?;
        let age = |seconds: Option<f64>| seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
        let cohorts = rows.iter().map(|row| Cohort {
            id: row.get(0),
            project: row.get(1),
            name: row.get(2),
            definition: row.get(3),
            is_static: row.get(4),
            version: row
                .get::<_, Option<i64>>(5)
                .and_then(|version| u64::try_from(version).ok()),
            computed_ago: age(row.get(6)),
            errors: row.get::<_, i64>(7).max(0).cast_unsigned(),
            failed_ago: age(row.get(8)),
            last_error: row.get(9),
            changed_since_failure: row.get(10),
            updated_at: row.get(11),
            read_at: row.get(12),
        });
        Ok(cohorts.collect())
    }

    /// Milliseconds since the epoch by the database's clock, which is one for all instances.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn now_ms(&self) -> Result<i64, StoreError> {
        let rows = self.postgres.query("reading the time", NOW, &[]).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    /// Ids of the dynamic ones.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn dynamic(&self) -> Result<Vec<Uuid>, StoreError> {
        let rows = self.postgres.query("reading cohorts", DYNAMIC, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Shows a membership to readers. `false` when a newer one is shown already, or the cohort is no longer dynamic.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn mark(&self, cohort: &Cohort, version: u64) -> Result<bool, StoreError> {
        let version = version.cast_signed();
        let parameters = [
            (&cohort.id as _, Type::UUID),
            (&version as _, Type::INT8),
            (&cohort.updated_at as _, Type::TEXT),
        ];
        let marked = self
            .postgres
            .query("marking a cohort as computed", MARK, &parameters)
            .await?;
        Ok(!marked.is_empty())
    }

    /// Records a failure.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn failed(&self, cohort: &Cohort, message: &str) -> Result<(), StoreError> {
        let parameters = [
            (&cohort.id as _, Type::UUID),
            (&message as _, Type::TEXT),
            (&cohort.read_at as _, Type::TEXT),
        ];
        let rows = self
            .postgres
            .query("recording a cohort's failure", FAILED, &parameters)
            .await;
        rows.map(drop)
    }
}
