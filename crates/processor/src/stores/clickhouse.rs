//! The official ClickHouse client with our settings and time-outs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clickhouse::error::Error;
use clickhouse::query::Query;
use clickhouse::{Client, Compression as ClientCompression, Row, RowOwned, RowRead};

use super::asked::asked;
use super::body::Body;
use super::codes::engine;
use super::insert::{Insert, Inserter, http_client};
use super::replicas::Replicas;
use super::unanswered::Unanswered;
use super::{Store, StoreError, texts};
use crate::config::{ClickHouseConfig, Compression, Password};

/// Why an answer without the engine's summary is none.
const NO_SUMMARY: &str = "the answer is 200 OK without the engine's headers";

/// Said where a server that has never answered closes a plain connection at the first request.
const PERHAPS_TLS: &str = " (does the port speak TLS? Then write https:// in CLICKHOUSE_URL)";

/// A client for one database. Cloning is cheap.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
    inserter: Inserter,
    database: Arc<str>,
    request_timeout: Duration,
    unanswered: Unanswered,
    replicas: Replicas,
    password: Password,
    /// The address asks for no TLS, and nothing has been answered there yet.
    may_be_tls: Arc<AtomicBool>,
}

impl ClickHouse {
    /// Connects nowhere yet.
    pub fn new(config: &ClickHouseConfig) -> Self {
        let client = Client::with_http_client(http_client(config))
            .with_url(config.url.as_str().trim_end_matches('/'))
            .with_database(&config.database)
            .with_user(&config.user)
            .with_password(config.password.current())
            .with_product_info("qurvo-processor", env!("CARGO_PKG_VERSION"))
            .with_compression(match config.compression {
                Compression::None => ClientCompression::None,
                Compression::Lz4 => ClientCompression::Lz4,
            });
        Self {
            client,
            inserter: Inserter::new(config),
            database: config.database.as_str().into(),
            request_timeout: config.request_timeout,
            unanswered: Unanswered::default(),
            replicas: Replicas::new(config.cluster.as_deref()),
            password: config.password.clone(),
            may_be_tls: Arc::new(AtomicBool::new(config.url.scheme() == "http")),
        }
    }

    /// The database that holds the tables.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Since when nothing was answered, although something is, or was, asked; nothing when all is answered.
    pub fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered.since()
    }

    /// The same server without a current database: for creating it.
    #[must_use]
    pub fn without_database(&self) -> Self {
        Self {
            client: self.client.clone().with_database("default"),
            database: "default".into(),
            ..self.clone()
        }
    }

    /// The same server with another longest time for a request.
    #[must_use]
    pub fn within(&self, request_timeout: Duration) -> Self {
        Self {
            request_timeout,
            ..self.clone()
        }
    }

    /// A query in the client's terms; values travel by `param`, never in the text.
    pub fn query(&self, sql: &str) -> Query {
        if self.password.is_in_file() {
            let client = self.client.clone().with_password(self.password.recent());
            return client.query_raw(sql);
        }
        self.client.query_raw(sql)
    }

    /// A query of a table (`events`, `system.processes`) as all replicas have it together. In its text the table is `@`.
    /// Rows may come from several replicas: what is asked has to be the same however often a row is there.
    ///
    /// # Errors
    /// When it is not known yet how replicas are to be asked, and the engine does not say.
    pub async fn query_of_all_replicas(&self, sql: &str, table: &str) -> Result<Query, StoreError> {
        let is_shared = match self.replicas.cluster {
            Some(_) => false,
            None => *self.replicas.shared.get_or_try_init(|| self.is_shared()).await?,
        };
        let (place, setting) = self.replicas.place(&self.database, table, is_shared);
        let query = self.query(&sql.replace('@', &place));
        Ok(match setting {
            Some(setting) => query.with_setting(setting, "1"),
            None => query,
        })
    }

    async fn is_shared(&self) -> Result<bool, StoreError> {
        let sql = "SELECT count() > 0 FROM system.tables
                   WHERE database = currentDatabase() AND name = 'events' AND startsWith(engine, 'Shared')";
        self.row("looking for replicas", self.query(sql)).await
    }

    /// Runs a statement; what it returns, if anything, is not looked at.
    ///
    /// # Errors
    /// Classified by the engine's code. Also when the answer is not the engine's.
    pub async fn execute(&self, during: &'static str, query: Query) -> Result<(), StoreError> {
        let request = async {
            let mut answer = query.fetch_bytes("TabSeparated")?;
            while answer.next().await?.is_some() {}
            Ok(((), answer.summary().is_some()))
        };
        self.limited(during, request).await
    }

    /// Whether events would be taken: an insert of no rows, which is refused where the server is read-only, or the table has too
    /// many parts; and whether the table is a replica that is in touch with Keeper, of which no insert of no rows asks.
    ///
    /// # Errors
    /// Classified by the engine's code.
    pub async fn takes_writes(&self) -> Result<(), StoreError> {
        let nothing = self
            .query("INSERT INTO events (event_name) SELECT '' WHERE 0")
            .with_setting("async_insert", "0");
        self.execute("probing", nothing).await?;
        let read_only = self.query(
            "SELECT count() FROM system.replicas
             WHERE database = currentDatabase() AND table = 'events' AND is_readonly",
        );
        match self.row("probing", read_only).await {
            Ok(0_u64) => Ok(()),
            Ok(_) => {
                let message = "the table events is in readonly mode".to_owned();
                Err(StoreError::clickhouse_code(
                    "probing",
                    engine::TABLE_IS_READ_ONLY,
                    message,
                ))
            }
            // Without the right to look nobody knows.
            Err(error) if error.engine_code() == Some(engine::ACCESS_DENIED) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads all rows. An answer without rows names its columns nevertheless: nothing at all is not taken for no rows.
    ///
    /// # Errors
    /// Classified by the engine's code. Also when the answer is not the engine's.
    pub async fn rows<T>(&self, during: &'static str, query: Query) -> Result<Vec<T>, StoreError>
    where
        T: RowOwned + RowRead + Row,
    {
        let request = async {
            let mut answer = query.fetch::<T>()?;
            let mut rows = Vec::new();
            while let Some(row) = answer.next().await? {
                rows.push(row);
            }
            Ok((rows, answer.summary().is_some()))
        };
        self.limited(during, request).await
    }

    /// Reads the one row that an aggregation gives. What is cut off is an error, and never a shorter answer.
    ///
    /// # Errors
    /// As for [`ClickHouse::rows`], and when there is not exactly one row.
    pub async fn row<T>(&self, during: &'static str, query: Query) -> Result<T, StoreError>
    where
        T: RowOwned + RowRead + Row,
    {
        let mut rows = self.rows(during, query).await?;
        match (rows.pop(), rows.len()) {
            (Some(row), 0) => Ok(row),
            (_, others) => {
                let message = format!("{others} more rows than one, or none at all, where one is due");
                Err(StoreError::clickhouse_away(during, message))
            }
        }
    }

    /// One synchronous insert of a finished body. Returns the rows that the engine says it has written, once they are
    /// stored: see [`written_rows`](super::answer::written_rows) for what it counts.
    ///
    /// `settings` belong to this statement alone.
    ///
    /// # Errors
    /// Classified by the engine's code. Also when the answer is not the engine's; after a time-out, or when the answer is
    /// lost, the rows may be stored.
    pub async fn insert(
        &self,
        during: &'static str,
        statement: &str,
        settings: &[(&str, &str)],
        body: Body,
    ) -> Result<u64, StoreError> {
        let insert = Insert {
            during,
            database: &self.database,
            statement,
            settings,
            body,
            limit: self.request_timeout,
        };
        let request = self.unanswered.ask();
        let outcome = asked(Store::ClickHouse, during, self.inserter.send(insert)).await;
        if outcome
            .as_ref()
            .map_or_else(|error| !error.code.is_empty(), |_| true)
        {
            request.answered();
        }
        outcome
    }

    /// An insert of so many rows, where fewer written ones are a failure.
    ///
    /// # Errors
    /// As for [`ClickHouse::insert`], and when the engine says that it has written fewer.
    pub async fn insert_all(
        &self,
        during: &'static str,
        statement: &str,
        rows: usize,
        body: Body,
    ) -> Result<(), StoreError> {
        // A replicated table would drop a block that it has seen, and say that nothing was written.
        let settings = [("insert_deduplicate", "0")];
        let written = self.insert(during, statement, &settings, body).await?;
        if written >= rows as u64 {
            return Ok(());
        }
        let message = format!("the engine says that it has written {written} of {rows} rows");
        Err(StoreError::clickhouse_away(during, message))
    }

    /// `request` gives its outcome, and whether the answer had the engine's summary.
    async fn limited<T>(
        &self,
        during: &'static str,
        request: impl Future<Output = Result<(T, bool), Error>>,
    ) -> Result<T, StoreError> {
        asked(Store::ClickHouse, during, self.answer(during, request)).await
    }

    async fn answer<T>(
        &self,
        during: &'static str,
        request: impl Future<Output = Result<(T, bool), Error>>,
    ) -> Result<T, StoreError> {
        let waiting = self.unanswered.ask();
        let answer = tokio::time::timeout(self.request_timeout, request).await;
        if matches!(answer, Ok(Ok(_) | Err(Error::BadResponse(_)))) {
            waiting.answered();
            self.may_be_tls.store(false, Ordering::Relaxed);
        }
        match answer {
            Ok(Ok((outcome, true))) => Ok(outcome),
            Ok(Ok((_, false))) => Err(StoreError::clickhouse_strange(during, NO_SUMMARY)),
            Ok(Err(Error::BadResponse(said))) => {
                let said = self.inserter.without_secrets(&said);
                let error = StoreError::clickhouse(during, &Error::BadResponse(said));
                self.inserter.look_again(&error).await;
                Err(error)
            }
            Ok(Err(error)) => {
                let mut error = StoreError::clickhouse(during, &error);
                if self.may_be_tls.load(Ordering::Relaxed) && texts::is_cut(&error.message) {
                    error.message.push_str(PERHAPS_TLS);
                }
                Err(error)
            }
            Err(_elapsed) => {
                let message = format!("no answer within {} ms", self.request_timeout.as_millis());
                Err(StoreError::clickhouse_away(during, message))
            }
        }
    }
}
