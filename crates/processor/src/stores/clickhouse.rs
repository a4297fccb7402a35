//! The official ClickHouse client with our settings and time-outs.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::query::Query;
use clickhouse::{Client, Compression as ClientCompression, Row, RowOwned, RowRead};

use super::{Store, StoreError};
use crate::config::{ClickHouseConfig, Compression};

/// Pieces in which an insert's body is sent: one compression frame each.
const BODY_PIECE: usize = 1024 * 1024;

/// A client for one database. Cloning is cheap.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
    request_timeout: Duration,
}

impl ClickHouse {
    /// Connects nowhere yet.
    pub fn new(config: &ClickHouseConfig) -> Self {
        let client = Client::default()
            .with_url(config.url.as_str().trim_end_matches('/'))
            .with_database(&config.database)
            .with_user(&config.user)
            .with_password(&config.password)
            .with_product_info("qurvo-processor", env!("CARGO_PKG_VERSION"))
            .with_compression(match config.compression {
                Compression::None => ClientCompression::None,
                Compression::Lz4 => ClientCompression::Lz4,
            });
        Self {
            client,
            request_timeout: config.request_timeout,
        }
    }

    /// The same server without a current database: for creating it.
    #[must_use]
    pub fn without_database(&self) -> Self {
        Self {
            client: self.client.clone().with_database("default"),
            request_timeout: self.request_timeout,
        }
    }

    /// The same server with another longest time for a request.
    #[must_use]
    pub fn within(&self, request_timeout: Duration) -> Self {
        Self {
            client: self.client.clone(),
            request_timeout,
        }
    }

    /// A query in the client's terms; values travel by `param`, never in the text.
    pub fn query(&self, sql: &str) -> Query {
        self.client.query_raw(sql)
    }

    /// Runs a statement that returns nothing.
    ///
    /// # Errors
    /// Classified by the engine's code.
    pub async fn execute(&self, during: &'static str, query: Query) -> Result<(), StoreError> {
        self.limited(during, query.execute()).await
    }

    /// Whether events would be taken: an insert of no rows, which is refused where the table is read-only, or has too
    /// many parts.
    ///
    /// # Errors
    /// Classified by the engine's code.
    pub async fn takes_writes(&self) -> Result<(), StoreError> {
        let nothing = self
            .query("INSERT INTO events (event_name) SELECT '' WHERE 0")
            .with_setting("async_insert", "0");
        self.execute("probing", nothing).await
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// Classified by the engine's code.
    pub async fn rows<T>(&self, during: &'static str, query: Query) -> Result<Vec<T>, StoreError>
    where
        T: RowOwned + RowRead + Row,
    {
        self.limited(during, query.fetch_all::<T>()).await
    }

    /// One synchronous insert of a finished body. Returns when the engine says that the rows are stored.
    ///
    /// `settings` belong to this statement alone.
    ///
    /// # Errors
    /// Classified by the engine's code; a time-out leaves open whether the rows are stored.
    pub async fn insert(
        &self,
        during: &'static str,
        statement: String,
        settings: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(), StoreError> {
        let mut insert = self
            .client
            .insert_formatted_with(statement)
            .with_timeouts(Some(self.request_timeout), Some(self.request_timeout))
            .with_setting("async_insert", "0");
        for (name, value) in settings {
            insert = insert.with_setting(*name, *value);
        }
        let mut rest = body;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(BODY_PIECE));
            insert
                .send(piece)
                .await
                .map_err(|e| StoreError::clickhouse(during, &e))?;
        }
        insert.end().await.map_err(|e| StoreError::clickhouse(during, &e))
    }

    async fn limited<T>(
        &self,
        during: &'static str,
        request: impl Future<Output = clickhouse::error::Result<T>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.request_timeout, request).await {
            Ok(result) => result.map_err(|e| StoreError::clickhouse(during, &e)),
            Err(_elapsed) => {
                let message = format!("no answer within {} ms", self.request_timeout.as_millis());
                Err(StoreError::new(
                    Store::ClickHouse,
                    during,
                    false,
                    String::new(),
                    message,
                ))
            }
        }
    }
}
