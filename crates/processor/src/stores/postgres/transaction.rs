//! Transactions, which can never return to the pool half open.

use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::lent::{DiscardUnlessDone, Parameters, STATEMENT_TIMEOUT};
use crate::stores::{Store, StoreError};
use crate::{metrics, traces};

/// After an error that the program did not look at, PostgreSQL answers `COMMIT` with `ROLLBACK` and without an error. Any
/// statement before it is refused then.
const COMMIT: &str = "SELECT 1; COMMIT";
/// Statements with many keys look dear to PostgreSQL, which would compile each of them anew for longer than it takes.
///
/// The server itself ends what takes longer: a wait for another program's lock is found out before all others wait behind
/// it, and a process that stands still inside a transaction does not keep its locks.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '3s'; \
                     SET LOCAL statement_timeout = '25s'; SET LOCAL jit = off; \
                     SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// For statements that look at some keys of large tables. Joined with more than a few, PostgreSQL takes it for cheaper to
/// read a whole table, which it is not once the indexes are in memory; and a table only grows.
const BY_KEYS: &str = "; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// A transaction. Dropped without [`Transaction::commit`], its connection is closed, which rolls it back: a
/// connection inside an open transaction never returns to the pool, whatever was cancelled where.
pub struct Transaction {
    guard: DiscardUnlessDone,
    began: Instant,
    during: &'static str,
    limit: Duration,
}

impl Transaction {
    pub(super) fn on(guard: DiscardUnlessDone, during: &'static str, began: Instant) -> Self {
        Self {
            guard,
            began,
            during,
            limit: STATEMENT_TIMEOUT,
        }
    }

    /// The same, in which each statement is waited for longer. The server's own limits are set in it.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Sends `BEGIN`. Joined with the first statements, it costs no round trip of its own.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub async fn start(&self) -> Result<(), StoreError> {
        self.send(
            self.guard
                .limited(self.during, self.guard.client().batch_execute(BEGIN)),
        )
        .await
    }

    /// The same for statements that name the rows they want by their keys: each is looked up by itself.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub async fn start_by_keys(&self) -> Result<(), StoreError> {
        let begin = [BEGIN, BY_KEYS].concat();
        self.send(
            self.guard
                .limited(self.during, self.guard.client().batch_execute(&begin)),
        )
        .await
    }

    /// Runs one statement. Futures of several statements that are polled together travel in one round trip, in the
    /// order in which they are first polled.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        let rows = self.guard.client().query_typed(sql, parameters);
        self.send(self.guard.within(self.limit, self.during, rows)).await
    }

    /// Each statement is a span; what is timed is the transaction.
    async fn send<T>(&self, statement: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        traces::request(Store::Postgres.label(), self.during, Box::pin(statement)).await
    }

    /// Commits; afterwards everything in it is durable.
    ///
    /// # Errors
    /// Classified by the server's code. A lost connection leaves open whether it was committed.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.send(
            self.guard
                .limited(self.during, self.guard.client().batch_execute(COMMIT)),
        )
        .await?;
        metrics::operation(Store::Postgres.label(), self.during, self.began.elapsed());
        self.guard.done();
        Ok(())
    }
}
