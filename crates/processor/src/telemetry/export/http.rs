//! Short requests to a collector or an agent, over TCP, TLS or a socket in the file system.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::http::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use url::Url;

use super::trouble::NotSent;
use crate::config::TlsFiles;
use crate::stores::{tls_advice_of_collector, tls_connector};

/// Of an answer no more than this is read: it is empty, or says why something was refused.
const LONGEST_ANSWER: usize = 4 << 10;
/// The answer's body is waited for no longer, whatever its head has said.
const REST_OF_ANSWER: Duration = Duration::from_secs(1);
/// An idle connection is kept for so long.
const IDLE: Duration = Duration::from_mins(2);

/// Sends requests to one address.
pub(super) struct Http {
    to: To,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

enum To {
    Server(Box<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>),
    Socket(PathBuf),
}

impl Http {
    /// Connects nowhere yet. Of a `unix:` URL the path is that of the socket, and `path` what is asked for there.
    ///
    /// # Errors
    /// When the address or a header is none.
    pub(super) fn new(
        url: &Url,
        path: Option<&str>,
        headers: &[(String, String)],
        tls: &TlsFiles,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let (to, mut base) = if url.scheme() == "unix" {
            let base = Url::parse("http://localhost")?;
            (To::Socket(url.path().into()), base)
        } else {
            (To::Server(Box::new(client(tls))), url.clone())
        };
        if let Some(path) = path {
            base.set_path(path);
        }
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name
                .parse()
                .with_context(|| format!("{name} is no header's name"))?;
            let mut value: HeaderValue = value.parse().context("a header's value has a line break")?;
            value.set_sensitive(true);
            map.append(name, value);
        }
        Ok(Self {
            to,
            uri: base.as_str().parse().context("an address for HTTP")?,
            headers: map,
            timeout,
        })
    }

    /// Sends a body. Returns the beginning of the answer's body, as far as it came in time: that it was taken is certain
    /// before.
    ///
    /// # Errors
    /// When it was not taken, or no answer came in time.
    pub(super) async fn send(
        &self,
        method: Method,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Bytes, NotSent> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().extend(headers.iter().cloned());
        let answer = match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(NotSent::Now(advised(&format!("{error:#}")))),
            Err(_elapsed) => {
                let error = format!("no answer within {} ms", self.timeout.as_millis());
                return Err(NotSent::Now(error));
            }
        };
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect();
        let body = tokio::time::timeout(REST_OF_ANSWER, body).await;
        let body = body.ok().and_then(Result::ok).map(Collected::to_bytes);
        if status.is_success() {
            return Ok(body.unwrap_or_default());
        }
        Err(refused(status, &body.unwrap_or_default()))
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        match &self.to {
            To::Server(client) => Ok(client.request(request).await?),
            To::Socket(path) => {
                let host = HeaderValue::from_static("localhost");
                request.headers_mut().insert(header::HOST, host);
                *request.uri_mut() = self.uri.path().parse()?;
                let stream = UnixStream::connect(path).await?;
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection to an agent ended");
                    }
                });
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

/// Why a request was not taken. What is said to one without the right credentials is not repeated: it may hold them.
fn refused(status: StatusCode, body: &[u8]) -> NotSent {
    let has_secrets = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let said = String::from_utf8_lossy(body);
    let error = match said.trim() {
        said if !said.is_empty() && !has_secrets => format!("answer {status}: {said}"),
        _ => format!("answer {status}"),
    };
    let may_help = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    if may_help {
        NotSent::Now(error)
    } else {
        NotSent::Ever(error)
    }
}

/// An error with what may help.
pub(super) fn advised(error: &str) -> String {
    let advice = [
        ("InvalidContentType", "the port speaks no TLS: write http://"),
        (
            "message completed",
            "is it a collector that answers there, and by HTTP? For gRPC set the protocol to grpc",
        ),
        (
            "frame",
            "does the port speak gRPC? For HTTP set the protocol to http/protobuf",
        ),
        (
            "transport error",
            "does the port speak gRPC? For HTTP set the protocol to http/protobuf",
        ),
    ];
    let found = advice.into_iter().find(|(word, _)| error.contains(word));
    let found = tls_advice_of_collector(error).or(found.map(|(_, advice)| advice));
    found.map_or_else(|| error.to_owned(), |advice| format!("{error} ({advice})"))
}

fn client(tls: &TlsFiles) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .build(tls_connector(tls).enable_http1().wrap_connector(connector))
}
