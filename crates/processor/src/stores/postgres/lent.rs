//! A connection while it is used: how long its answers are waited for, and what becomes of it afterwards.

use std::time::Duration;

use deadpool::managed::Object;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};

use super::dial::Reached;
use super::pool::Lent;
use crate::stores::{Store, StoreError};

/// Parameters with their types: what an unnamed statement needs.
pub(in crate::stores) type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// Longest one statement may take before it counts as failed; a migration may take longer.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that a request to cancel may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Gives its connection back to the pool only when told that it is clean. Otherwise the connection is closed, and what
/// the server still does for it is cancelled: a server notices a closed connection only when it has something to say, so
/// statements that wait for a lock would pile up.
pub(super) struct DiscardUnlessDone {
    lent: Option<Lent>,
}

impl DiscardUnlessDone {
    pub(super) fn new(lent: Lent) -> Self {
        Self { lent: Some(lent) }
    }

    #[allow(
        clippy::expect_used,
        reason = "only `done`, which consumes the guard, and `drop` take the connection"
    )]
    fn lent(&self) -> &Lent {
        self.lent
            .as_ref()
            .expect("the guard holds its connection until it is consumed")
    }

    pub(super) fn client(&self) -> &Client {
        self.lent()
    }

    pub(super) fn reached(&self) -> &Reached {
        &self.lent().reached
    }

    /// Waits for an answer.
    pub(super) async fn limited<T>(
        &self,
        during: &'static str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.within(STATEMENT_TIMEOUT, during, statement).await
    }

    /// The same, for so long.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        during: &'static str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        let answer = match tokio::time::timeout(limit, statement).await {
            Ok(result) => result.map_err(|e| StoreError::postgres(during, &e)),
            Err(_elapsed) => {
                let message = format!("no answer within {} s", limit.as_secs());
                Err(StoreError::transient(Store::Postgres, during, message))
            }
        };
        if let Err(error) = &answer
            && is_of_the_server(error)
            && let Some(pool) = Object::pool(self.lent())
        {
            pool.manager().start_anew();
        }
        answer
    }

    pub(super) fn done(mut self) {
        drop(self.lent.take());
    }
}

/// Whether an error says that its server is gone, going, or takes no writes any more. One without a code was not said by
/// the server: the connection broke, or nothing came.
fn is_of_the_server(error: &StoreError) -> bool {
    matches!(
        error.sql_state(),
        None | Some(
            SqlState::READ_ONLY_SQL_TRANSACTION
                | SqlState::ADMIN_SHUTDOWN
                | SqlState::CRASH_SHUTDOWN
                | SqlState::CANNOT_CONNECT_NOW
        )
    )
}

impl Drop for DiscardUnlessDone {
    fn drop(&mut self) {
        let Some(lent) = self.lent.take() else {
            return;
        };
        let connection = Object::take(lent);
        if connection.is_closed() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let cancel = connection.cancel_token();
            let cancelled = async {
                // The token knows whether this connection spoke TLS.
                match connection.tls.clone() {
                    None => cancel.cancel_query(NoTls).await,
                    Some(tls) => cancel.cancel_query(tls).await,
                }
            };
            match tokio::time::timeout(CANCEL_TIMEOUT, cancelled).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a statement could not be cancelled"),
                Err(_elapsed) => tracing::debug!("a statement could not be cancelled in time"),
            }
            drop(connection);
        });
    }
}
