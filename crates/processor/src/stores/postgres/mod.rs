//! PostgreSQL: a small pool, unnamed statements (PgBouncer in transaction mode works), transactions that can never
//! return to the pool half open.

mod dial;
mod lent;
mod pool;
mod transaction;

use std::time::{Duration, Instant};

use deadpool::Runtime;
use tokio_postgres::Row;

use super::asked::asked;
use super::{Store, StoreError};
use crate::config::PostgresConfig;
use crate::event::{KeyRef, ProjectId};
use crate::metrics;
use dial::Dialer;
pub use dial::{Protection, Reached};
use lent::{DiscardUnlessDone, Parameters, STATEMENT_TIMEOUT};
use pool::{Manager, Pool};
pub use transaction::Transaction;

/// Connections one instance uses at most.
const POOL_SIZE: usize = 4;

/// A pool of connections. Cloning shares it.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
}

impl Postgres {
    /// A pool for a configuration; connects nowhere yet.
    ///
    /// # Errors
    /// When no pool can be made.
    pub fn new(config: &PostgresConfig) -> Result<Self, StoreError> {
        let refused = |message: String| StoreError::poison(Store::Postgres, "reading DATABASE_URL", message);
        let pool = Pool::builder(Manager::new(Dialer::new(config)))
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(STATEMENT_TIMEOUT))
            .build()
            .map_err(|e| refused(e.to_string()))?;
        Ok(Self { pool })
    }

    /// Where a connection leads, of those that are open or can be made.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn reached(&self) -> Result<Reached, StoreError> {
        let guard = self.client("connecting").await?;
        let reached = guard.reached().clone();
        guard.done();
        Ok(reached)
    }

    /// Runs one statement outside a transaction.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub async fn query(
        &self,
        during: &'static str,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        asked(Store::Postgres, during, async {
            let guard = self.client(during).await?;
            let rows = guard
                .limited(during, guard.client().query_typed(sql, parameters))
                .await?;
            guard.done();
            Ok(rows)
        })
        .await
    }

    /// Whether writes would be taken: an update of no rows, which a server that is read-only refuses, and a project that
    /// exists.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub async fn takes_writes(&self) -> Result<(), StoreError> {
        self.execute_batch("probing", "UPDATE persons SET id = id WHERE false")
            .await?;
        self.has_projects().await
    }

    /// Whether any project exists. While none does no event could be right: the database is the wrong one, emptied or half
    /// restored.
    ///
    /// # Errors
    /// When none exists, or PostgreSQL's.
    pub async fn has_projects(&self) -> Result<(), StoreError> {
        let during = "looking for a project";
        let rows = self
            .query(during, "SELECT EXISTS (SELECT FROM projects)", &[])
            .await?;
        let any = rows.first().is_some_and(|row| row.get(0));
        metrics::no_project_exists(!any);
        if any {
            Ok(())
        } else {
            Err(StoreError::no_project(during))
        }
    }

    /// Runs statements without parameters, several separated by `;`.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub async fn execute_batch(&self, during: &'static str, sql: &str) -> Result<(), StoreError> {
        self.execute_batch_within(STATEMENT_TIMEOUT, during, sql).await
    }

    /// The same, for statements that may take longer than others.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub async fn execute_batch_within(
        &self,
        limit: Duration,
        during: &'static str,
        sql: &str,
    ) -> Result<(), StoreError> {
        asked(Store::Postgres, during, async {
            let guard = self.client(during).await?;
            guard
                .within(limit, during, guard.client().batch_execute(sql))
                .await?;
            guard.done();
            Ok(())
        })
        .await
    }

    /// Begins a transaction (read committed). `BEGIN` travels with the first statement's round trip.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn begin(&self, during: &'static str) -> Result<Transaction, StoreError> {
        let began = Instant::now();
        Ok(Transaction::on(self.client(during).await?, during, began))
    }

    /// Closes every connection.
    pub fn close(&self) {
        self.pool.close();
    }

    async fn client(&self, during: &'static str) -> Result<DiscardUnlessDone, StoreError> {
        let lent = self.pool.get().await;
        Ok(DiscardUnlessDone::new(
            lent.map_err(|e| StoreError::pool(during, e))?,
        ))
    }
}

/// Splits (project, distinct id) keys into the two arrays that `unnest($1, $2)` takes.
pub fn unnest_keys<'a>(keys: impl Iterator<Item = KeyRef<'a>>) -> (Vec<ProjectId>, Vec<&'a str>) {
    keys.map(|key| (key.project, key.distinct_id)).unzip()
}
