//! Overrides that ClickHouse holds with versions above ours: a clock was fast, or PostgreSQL was restored from a backup.
//! They would outrank whatever is published until the clock has caught up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::stores::{ClickHouse, StoreError};

/// How long an answer is believed. The engine reads one column for it.
const BELIEVED_FOR: Duration = Duration::from_mins(10);

/// Versions that PostgreSQL cannot hold can only be deleted: `person audit --repair` does it.
const HIGHEST: &str = "SELECT max(version) FROM @ WHERE version < 9000000000000000000";

/// The highest version in ClickHouse, asked for now and then. Clones share the answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Floor {
    asked: Arc<Mutex<Option<(Instant, i64)>>>,
}

impl Floor {
    /// What the versions of a publication have to be above.
    ///
    /// # Errors
    /// ClickHouse's.
    pub(crate) async fn version(&self, clickhouse: &ClickHouse) -> Result<i64, StoreError> {
        let mut asked = self.asked.lock().await;
        if let Some((at, version)) = *asked
            && at.elapsed() < BELIEVED_FOR
        {
            return Ok(version);
        }
        let query = clickhouse
            .query_of_all_replicas(HIGHEST, "person_distinct_id_overrides")
            .await?;
        let version: u64 = clickhouse.row("looking for the newest override", query).await?;
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        *asked = Some((Instant::now(), version));
        Ok(version)
    }
}
