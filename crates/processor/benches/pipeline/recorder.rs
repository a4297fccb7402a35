//! A proxy before ClickHouse that keeps the inserts of events that pass through it, and when each was answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;

/// An insert of events that the engine has taken.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// Path and query: the statement and its settings.
    pub(crate) target: String,
    /// Native blocks.
    pub(crate) body: Bytes,
    /// When it was answered, milliseconds since 1970.
    pub(crate) answered_ms: i64,
}

#[derive(Clone)]
struct Shared {
    engine: String,
    http: reqwest::Client,
    inserts: Arc<Mutex<Vec<Recorded>>>,
}

impl Shared {
    fn inserts(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.inserts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proxy, for as long as it is kept.
pub(crate) struct Recorder {
    /// What `CLICKHOUSE_URL` is to be.
    pub(crate) url: String,
    shared: Shared,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Recorder {
    /// Before the engine at this address.
    pub(crate) async fn start(engine: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared {
            engine: engine.trim_end_matches('/').to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            inserts: Arc::default(),
        };
        let service = Router::new().fallback(handle).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { url, shared, serving }
    }

    /// Takes out what was kept so far, in the order of the answers.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.shared.inserts())
    }
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return said(StatusCode::BAD_REQUEST, Bytes::new());
    };
    let answer = shared
        .http
        .request(parts.method, format!("{}{}", shared.engine, parts.uri))
        .headers(without_framing(parts.headers))
        .body(body.clone())
        .send()
        .await;
    let Ok(answer) = answer else {
        return said(StatusCode::BAD_GATEWAY, Bytes::new());
    };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let Ok(answered) = answer.bytes().await else {
        return said(StatusCode::BAD_GATEWAY, Bytes::new());
    };
    let target = parts.uri.to_string();
    if status.is_success() && inserts_events(&target) {
        let answered_ms = jiff::Timestamp::now().as_millisecond();
        let insert = Recorded {
            target,
            body,
            answered_ms,
        };
        shared.inserts().push(insert);
    }
    let mut response = said(status, answered);
    *response.headers_mut() = without_framing(headers);
    response
}

fn inserts_events(target: &str) -> bool {
    parameters(target).any(|(name, text)| name == "query" && text.starts_with("INSERT INTO events ("))
}

/// Names and values of a request's query.
pub(crate) fn parameters(target: &str) -> impl Iterator<Item = (String, String)> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.as_bytes()).into_owned()
}

fn said(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}

fn without_framing(mut headers: HeaderMap) -> HeaderMap {
    let framing = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
    ];
    for name in framing {
        headers.remove(name);
    }
    headers
}
