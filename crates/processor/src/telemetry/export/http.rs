//! Short requests to a collector or an agent, over TCP, TLS or a socket in the file system.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::http::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use url::Url;

use super::trouble::NotSent;

/// Of an answer no more than this is read: it is empty, or says why something was refused.
const LONGEST_ANSWER: usize = 4 << 10;
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
    Server(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
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
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let (to, mut base) = if url.scheme() == "unix" {
            let base = Url::parse("http://localhost")?;
            (To::Socket(url.path().into()), base)
        } else {
            (To::Server(client()), url.clone())
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

    /// Sends a body. The answer's body is not looked at when it was taken.
    ///
    /// # Errors
    /// When it was not taken, or no answer came in time.
    pub(super) async fn send(
        &self,
        method: Method,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<(), NotSent> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().extend(headers.iter().cloned());
        let exchange = async {
            let answer = self
                .exchange(request)
                .await
                .map_err(|error| NotSent::Now(format!("{error:#}")))?;
            judge(answer).await
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(NotSent::Now(format!(
                "no answer within {} ms",
                self.timeout.as_millis()
            ))),
        }
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

async fn judge(answer: Response<Incoming>) -> Result<(), NotSent> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
    if status.is_success() {
        return Ok(());
    }
    let said = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned());
    let said = said.unwrap_or_default();
    let error = if said.is_empty() {
        format!("answer {status}")
    } else {
        format!("answer {status}: {said}")
    };
    let may_help = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    Err(if may_help {
        NotSent::Now(error)
    } else {
        NotSent::Ever(error)
    })
}

fn client() -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    #[allow(
        clippy::expect_used,
        reason = "the provider is fixed, and has cipher suites for the default versions of TLS"
    )]
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
        .expect("the provider supports TLS 1.2 and 1.3");
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .build(tls.https_or_http().enable_http1().wrap_connector(connector))
}
