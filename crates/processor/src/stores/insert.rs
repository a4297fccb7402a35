//! Inserts of finished bodies. The official client does not say what was answered, and an insert counts by its answer.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use cityhash_rs::cityhash_102_128;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::http::HeaderValue;
use hyper::http::response::Parts;
use hyper::{Request, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lz4_flex::block::{compress_into, get_maximum_output_size};
use tokio::sync::Notify;
use url::Url;

use super::StoreError;
use super::answer::written_rows;
use super::texts::chain;
use crate::config::{ClickHouseConfig, Compression};

/// Pieces in which a body is sent: one compression frame each.
const PIECE: usize = 1024 * 1024;
/// Of an answer no more than this is read: the engine's to an insert is empty, its refusals are short.
const LONGEST_ANSWER: usize = 64 * 1024;
/// As the official client's: the engine closes an idle connection after three seconds.
const IDLE: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_mins(1);

/// An insert to be sent.
pub(super) struct Insert<'a> {
    pub(super) during: &'static str,
    pub(super) database: &'a str,
    pub(super) statement: &'a str,
    /// Of this statement alone.
    pub(super) settings: &'a [(&'a str, &'a str)],
    pub(super) body: Bytes,
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
    password: String,
    compress: bool,
}

impl Inserter {
    /// Connects nowhere yet.
    pub(super) fn new(config: &ClickHouseConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_keepalive(Some(KEEPALIVE));
        connector.enforce_http(false);
        #[allow(
            clippy::expect_used,
            reason = "the provider is fixed, and has cipher suites for the default versions of TLS"
        )]
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .expect("the provider supports TLS 1.2 and 1.3");
        let mut url = config.url.clone();
        url.set_path(config.url.path().trim_end_matches('/'));
        Self {
            http: Client::builder(TokioExecutor::new())
                .pool_idle_timeout(IDLE)
                .build(tls.https_or_http().enable_http1().wrap_connector(connector)),
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
        let request = self.request(insert, taken.clone())?;
        let mut exchange = pin!(self.exchange(request));
        loop {
            tokio::select! {
                biased;
                answer = &mut exchange => {
                    let (parts, body) = answer.map_err(|e| StoreError::clickhouse_away(during, chain(&*e)))?;
                    return written_rows(during, &parts, &self.without_secrets(&String::from_utf8_lossy(&body)));
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
        let password = self.server.password.as_str();
        if password.is_empty() {
            return said.to_owned();
        }
        said.replace(password, "***")
    }

    fn request(&self, insert: Insert<'_>, taken: Arc<Notify>) -> Result<Request<Pieces>, StoreError> {
        let mut url = self.server.url.clone();
        let mut pairs = url.query_pairs_mut();
        pairs.clear().append_pair("database", insert.database);
        pairs.append_pair("query", insert.statement);
        if self.server.compress {
            pairs.append_pair("decompress", "1");
        }
        // A profile may say otherwise: the answer would come before the rows are stored.
        pairs.append_pair("async_insert", "0");
        pairs.extend_pairs(insert.settings);
        drop(pairs);
        let invalid = |error: &dyn std::error::Error| {
            StoreError::clickhouse_away(insert.during, format!("no request can be made: {}", chain(error)))
        };
        let mut password = HeaderValue::from_str(&self.server.password).map_err(|e| invalid(&e))?;
        password.set_sensitive(true);
        Request::post(url.as_str())
            .header(
                header::USER_AGENT,
                concat!("qurvo-processor/", env!("CARGO_PKG_VERSION")),
            )
            .header("X-ClickHouse-User", &self.server.user)
            .header("X-ClickHouse-Key", password)
            .body(Pieces {
                rest: insert.body,
                compress: self.server.compress,
                taken,
            })
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

/// A body that is handed on piece by piece, without being copied unless it is compressed.
struct Pieces {
    rest: Bytes,
    compress: bool,
    /// Told of each piece that is taken.
    taken: Arc<Notify>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.taken.notify_one();
        let piece = if self.compress {
            compressed(&piece)
        } else {
            Ok(piece)
        };
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.compress {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.rest.len() as u64)
        }
    }
}

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const LZ4: u8 = 0x82;

/// One of ClickHouse's compressed blocks: a 128-bit CityHash of what follows, a method byte, both sizes, the data.
fn compressed(plain: &[u8]) -> Result<Bytes, io::Error> {
    let mut block = BytesMut::zeroed(CHECKSUM + HEADER + get_maximum_output_size(plain.len()));
    let size = compress_into(plain, &mut block[CHECKSUM + HEADER..]).map_err(io::Error::other)?;
    block.truncate(CHECKSUM + HEADER + size);
    let mut head = &mut block[CHECKSUM..CHECKSUM + HEADER];
    head.put_u8(LZ4);
    head.put_u32_le((HEADER + size) as u32);
    head.put_u32_le(plain.len() as u32);
    // The halves of the hash stand in the order in which the server writes them.
    let checksum = cityhash_102_128(&block[CHECKSUM..]).rotate_left(64).to_le_bytes();
    block[..CHECKSUM].copy_from_slice(&checksum);
    Ok(block.freeze())
}
