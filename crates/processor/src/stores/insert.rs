//! Inserts of finished bodies. The official client does not say what was answered, and an insert counts by its answer.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::http::HeaderValue;
use hyper::http::response::Parts;
use hyper::{Request, header};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Notify;
use url::Url;

use super::StoreError;
use super::answer::written_rows;
use super::body::{Body, Pieces};
use super::texts::chain;
use super::tls;
use crate::config::{ClickHouseConfig, Compression, Password};

/// Of an answer no more than this is read: the engine's to an insert is empty, its refusals are short.
const LONGEST_ANSWER: usize = 64 * 1024;
/// As the official client's: the engine closes an idle connection after three seconds.
const IDLE: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_mins(1);

/// How long a table with replicas may try by itself to reach Keeper: 8 seconds. Its own way takes two and a half minutes, and our
/// time-out before that would hide what it has to say.
const KEEPER: [(&str, &str); 2] = [
    ("insert_keeper_max_retries", "10"),
    ("insert_keeper_retry_max_backoff_ms", "1000"),
];

/// An insert to be sent.
pub(super) struct Insert<'a> {
    pub(super) during: &'static str,
    pub(super) database: &'a str,
    pub(super) statement: &'a str,
    /// Of this statement alone.
    pub(super) settings: &'a [(&'a str, &'a str)],
    pub(super) body: Body,
    /// Longest wait for a piece to be taken, and for the answer.
    pub(super) limit: Duration,
}

/// Sends inserts to one server. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Inserter {
    http: Client<HttpsConnector<HttpConnector>, Pieces>,
    server: Arc<Server>,
}

struct Server {
    url: Url,
    user: String,
    password: Password,
    compress: bool,
}

impl Inserter {
    /// Connects nowhere yet.
    pub(super) fn new(config: &ClickHouseConfig) -> Self {
        let mut url = config.url.clone();
        url.set_path(config.url.path().trim_end_matches('/'));
        Self {
            http: http_client(config),
            server: Arc::new(Server {
                url,
                user: config.user.clone(),
                password: config.password.clone(),
                compress: config.compression == Compression::Lz4,
            }),
        }
    }

    /// Sends it. Returns the rows that the engine says it has written.
    pub(super) async fn send(&self, insert: Insert<'_>) -> Result<u64, StoreError> {
        let (during, limit) = (insert.during, insert.limit);
        let taken = Arc::new(Notify::new());
        let password = self.server.password.recent();
        let request = self.request(insert, &password, taken.clone())?;
        let mut exchange = pin!(self.exchange(request));
        loop {
            tokio::select! {
                biased;
                answer = &mut exchange => {
                    let (parts, body) = answer.map_err(|e| StoreError::clickhouse_away(during, chain(&*e)))?;
                    let said = self.without_secrets(&String::from_utf8_lossy(&body));
                    let written = written_rows(during, &parts, &said);
                    self.learn(&password, &written).await;
                    return written;
                }
                () = taken.notified() => {}
                () = tokio::time::sleep(limit) => {
                    let message = format!("no answer within {} ms", limit.as_millis());
                    return Err(StoreError::clickhouse_away(during, message));
                }
            }
        }
    }

    /// What a server says that may repeat our own request.
    pub(super) fn without_secrets(&self, said: &str) -> String {
        self.server.password.hidden_in(said)
    }

    /// Of a request with this password: whether it is the right one. After a refusal the file is read before the next try.
    async fn learn(&self, password: &str, outcome: &Result<u64, StoreError>) {
        match outcome {
            Ok(_) => self.server.password.was_accepted(password),
            Err(error) => self.look_again(error).await,
        }
    }

    /// Reads the password's file again where a request was refused for it.
    pub(super) async fn look_again(&self, error: &StoreError) {
        if error.refuses_user() {
            self.server.password.renewed().await;
        }
    }

    fn request(
        &self,
        insert: Insert<'_>,
        password: &str,
        taken: Arc<Notify>,
    ) -> Result<Request<Pieces>, StoreError> {
        let mut url = self.server.url.clone();
        let mut pairs = url.query_pairs_mut();
        pairs.clear().append_pair("database", insert.database);
        pairs.append_pair("query", insert.statement);
        if self.server.compress {
            pairs.append_pair("decompress", "1");
        }
        // A profile may say otherwise: the answer would come before the rows are stored.
        pairs.append_pair("async_insert", "0");
        pairs.extend_pairs(KEEPER);
        pairs.extend_pairs(insert.settings);
        drop(pairs);
        let invalid = |error: &dyn std::error::Error| {
            StoreError::clickhouse_away(insert.during, format!("no request can be made: {}", chain(error)))
        };
        let mut password = HeaderValue::from_str(password).map_err(|e| invalid(&e))?;
        password.set_sensitive(true);
        Request::post(url.as_str())
            .header(
                header::USER_AGENT,
                concat!("qurvo-processor/", env!("CARGO_PKG_VERSION")),
            )
            .header("X-ClickHouse-User", &self.server.user)
            .header("X-ClickHouse-Key", password)
            .body(insert.body.sent(self.server.compress, taken))
            .map_err(|e| invalid(&e))
    }

    async fn exchange(
        &self,
        request: Request<Pieces>,
    ) -> Result<(Parts, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let (parts, body) = self.http.request(request).await?.into_parts();
        Ok((parts, beginning(body).await?))
    }
}

/// Connections for one server, used again and again.
pub(super) fn http_client<B>(config: &ClickHouseConfig) -> Client<HttpsConnector<HttpConnector>, B>
where
    B: hyper::body::Body + Send,
    B::Data: Send,
{
    let mut connector = HttpConnector::new();
    connector.set_keepalive(Some(KEEPALIVE));
    connector.enforce_http(false);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .build(
            tls::connector(&config.tls)
                .enable_http1()
                .wrap_connector(connector),
        )
}

/// The whole of a short answer, the beginning of a long one.
async fn beginning(mut body: Incoming) -> hyper::Result<Bytes> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() >= LONGEST_ANSWER {
            break;
        }
    }
    Ok(read.freeze())
}
