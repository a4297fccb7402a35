//! PostgreSQL: a small pool, unnamed statements (PgBouncer in transaction mode works), transactions that can never
//! return to the pool half open.

use std::str::FromStr;
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::asked::asked;
use super::tls::{self, Demand};
use super::{Store, StoreError};
use crate::config::TlsFiles;
use crate::event::{KeyRef, ProjectId};
use crate::{metrics, traces};

/// Parameters with their types: what an unnamed statement needs.
pub(super) type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// Connections one instance uses at most.
const POOL_SIZE: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After an error that the program did not look at, PostgreSQL answers `COMMIT` with `ROLLBACK` and without an error. Any
/// statement before it is refused then.
const COMMIT: &str = "SELECT 1; COMMIT";
/// Longest one statement may take before it counts as failed; a migration may take longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
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

/// A pool of connections. Cloning shares it.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    tls: Option<MakeRustlsConnect>,
}

impl Postgres {
    /// A pool for `DATABASE_URL`; connects nowhere yet.
    ///
    /// # Errors
    /// When the URL is not one the client takes.
    pub fn new(database_url: &str) -> Result<Self, StoreError> {
        let refused = |message: String| StoreError::poison(Store::Postgres, "reading DATABASE_URL", message);
        let mut config =
            tokio_postgres::Config::from_str(database_url).map_err(|e| refused(e.to_string()))?;
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(Duration::from_secs(30));
        if config.get_application_name().is_none() {
            config.application_name("qurvo-processor");
        }
        let settings = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let is_plain = config.get_ssl_mode() == tokio_postgres::config::SslMode::Disable || is_local(&config);
        let tls = (!is_plain)
            .then(|| MakeRustlsConnect::new(tls::client(&TlsFiles::default(), Demand::AuthorityAndName)));
        let manager = match &tls {
            None => Manager::from_config(config, NoTls, settings),
            Some(tls) => Manager::from_config(config, tls.clone(), settings),
        };
        let pool = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(STATEMENT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .build()
            .map_err(|e| refused(e.to_string()))?;
        Ok(Self { pool, tls })
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
            let rows = limited(during, guard.client().query_typed(sql, parameters)).await?;
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
            within(limit, during, guard.client().batch_execute(sql)).await?;
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
        Ok(Transaction {
            guard: self.client(during).await?,
            began,
            during,
            limit: STATEMENT_TIMEOUT,
        })
    }

    /// Closes every connection.
    pub fn close(&self) {
        self.pool.close();
    }

    async fn client(&self, during: &'static str) -> Result<DiscardUnlessDone, StoreError> {
        let client = self.pool.get().await;
        Ok(DiscardUnlessDone {
            client: Some(client.map_err(|e| StoreError::pool(during, &e))?),
            tls: self.tls.clone(),
        })
    }
}

/// A transaction. Dropped without [`Transaction::commit`], its connection is closed, which rolls it back: a
/// connection inside an open transaction never returns to the pool, whatever was cancelled where.
pub struct Transaction {
    guard: DiscardUnlessDone,
    began: Instant,
    during: &'static str,
    limit: Duration,
}

impl Transaction {
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
        self.send(limited(self.during, self.guard.client().batch_execute(BEGIN)))
            .await
    }

    /// The same for statements that name the rows they want by their keys: each is looked up by itself.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub async fn start_by_keys(&self) -> Result<(), StoreError> {
        let begin = [BEGIN, BY_KEYS].concat();
        self.send(limited(self.during, self.guard.client().batch_execute(&begin)))
            .await
    }

    /// Runs one statement. Futures of several statements that are polled together travel in one round trip, in the
    /// order in which they are first polled.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        let rows = self.guard.client().query_typed(sql, parameters);
        self.send(within(self.limit, self.during, rows)).await
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
        self.send(limited(self.during, self.guard.client().batch_execute(COMMIT)))
            .await?;
        metrics::operation(Store::Postgres.label(), self.during, self.began.elapsed());
        self.guard.done();
        Ok(())
    }
}

/// Gives its connection back to the pool only when told that it is clean. Otherwise the connection is closed, and what
/// the server still does for it is cancelled: a server notices a closed connection only when it has something to say, so
/// statements that wait for a lock would pile up.
struct DiscardUnlessDone {
    client: Option<Object>,
    tls: Option<MakeRustlsConnect>,
}

impl DiscardUnlessDone {
    #[allow(
        clippy::expect_used,
        reason = "only `done`, which consumes the guard, and `drop` take the client"
    )]
    fn client(&self) -> &Object {
        self.client
            .as_ref()
            .expect("the guard holds its client until it is consumed")
    }

    fn done(mut self) {
        drop(self.client.take());
    }
}

impl Drop for DiscardUnlessDone {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        let client = Object::take(client);
        if client.is_closed() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let tls = self.tls.take();
        runtime.spawn(async move {
            let cancel = client.cancel_token();
            let cancelled = async {
                match tls {
                    None => cancel.cancel_query(NoTls).await,
                    Some(tls) => cancel.cancel_query(tls).await,
                }
            };
            match tokio::time::timeout(CONNECT_TIMEOUT, cancelled).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a statement could not be cancelled"),
                Err(_elapsed) => tracing::debug!("a statement could not be cancelled in time"),
            }
            drop(client);
        });
    }
}

async fn limited<T>(
    during: &'static str,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    within(STATEMENT_TIMEOUT, during, statement).await
}

async fn within<T>(
    limit: Duration,
    during: &'static str,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, statement).await {
        Ok(result) => result.map_err(|e| StoreError::postgres(during, &e)),
        Err(_elapsed) => {
            let message = format!("no answer within {} s", limit.as_secs());
            Err(StoreError::transient(Store::Postgres, during, message))
        }
    }
}

/// Splits (project, distinct id) keys into the two arrays that `unnest($1, $2)` takes.
pub fn unnest_keys<'a>(keys: impl Iterator<Item = KeyRef<'a>>) -> (Vec<ProjectId>, Vec<&'a str>) {
    keys.map(|key| (key.project, key.distinct_id)).unzip()
}

fn is_local(config: &tokio_postgres::Config) -> bool {
    use tokio_postgres::config::{Host, SslMode};
    config.get_ssl_mode() == SslMode::Prefer
        && config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
            Host::Unix(_) => true,
        })
}
