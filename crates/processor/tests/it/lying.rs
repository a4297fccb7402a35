//! A proxy in front of ClickHouse's HTTP interface that refuses and lies where it is told to, and passes everything else on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use axum::response::Response;
use bytes::Bytes;

/// Which requests a lie is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// Inserts of rows into a table.
    InsertsInto(&'static str),
    /// Statements that hold a text; inserts of rows are none.
    Statements(&'static str),
    /// All of them.
    Everything,
}

impl About {
    fn covers(self, url_query: &str, body: &[u8]) -> bool {
        match self {
            Self::Everything => true,
            Self::InsertsInto(table) => insert_into(url_query).is_some_and(|into| into == table),
            Self::Statements(text) => insert_into(url_query).is_none() && holds(body, text.as_bytes()),
        }
    }
}

/// The table of an insert of rows: its statement stands in the URL, its rows in the body.
fn insert_into(url_query: &str) -> Option<String> {
    let (_, statement) =
        url::form_urlencoded::parse(url_query.as_bytes()).find(|(name, _)| name == "query")?;
    let table = statement.strip_prefix("INSERT INTO ")?;
    table.split([' ', '(']).next().map(str::to_owned)
}

fn holds(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

/// What comes back.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// This, whoever it is said to come from.
    Says {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
    },
    /// The beginning of an answer, then the connection is cut.
    Truncated,
    /// The engine's answer with another number of written rows.
    Written(u64),
    /// The engine's answer without its headers.
    WithoutHeaders,
    /// The engine's answer without so many bytes at its end.
    WithoutLast(usize),
    /// The engine's answer, so much later.
    Late(Duration),
}

impl Answer {
    /// A status and a text of somebody who is not the engine.
    pub(crate) fn stranger(status: u16, body: &'static str) -> Self {
        Self::Says {
            status,
            headers: vec![("content-type", "text/html".to_owned())],
            body: body.into(),
        }
    }

    /// The engine's refusal with a code.
    pub(crate) fn refusal(code: u32, text: &str) -> Self {
        Self::Says {
            status: 500,
            headers: vec![("x-clickhouse-exception-code", code.to_string())],
            body: format!("Code: {code}. DB::Exception: {text}").into(),
        }
    }

    /// What the engine says of an insert of so many rows.
    pub(crate) fn wrote(rows: u64) -> Self {
        Self::Says {
            status: 200,
            headers: vec![
                ("x-clickhouse-query-id", uuid::Uuid::new_v4().to_string()),
                (
                    "x-clickhouse-summary",
                    format!(r#"{{"read_rows":"{rows}","written_rows":"{rows}"}}"#),
                ),
            ],
            body: Bytes::new(),
        }
    }
}

/// One lie: about what, for how long, and whether the engine is asked nevertheless.
#[derive(Debug, Clone)]
pub(crate) struct Lie {
    about: About,
    /// Only of requests whose body holds these bytes: an event's name or id, since rows travel uncompressed here.
    holding: Option<Vec<u8>>,
    left: usize,
    until: Option<Instant>,
    asks_the_engine: bool,
    /// The answer comes while the engine still works.
    at_once: bool,
    answer: Answer,
}

impl Lie {
    /// For ever, without asking the engine.
    pub(crate) fn about(about: About, answer: Answer) -> Self {
        let asks_the_engine = !matches!(answer, Answer::Says { .. } | Answer::Truncated);
        Self {
            about,
            holding: None,
            left: usize::MAX,
            until: None,
            asks_the_engine,
            at_once: false,
            answer,
        }
    }

    /// Only of requests whose body holds these bytes.
    pub(crate) fn holding(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.holding = Some(bytes.into());
        self
    }

    /// So many times.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.left = times;
        self
    }

    /// From now on for so long.
    pub(crate) fn lasting(mut self, time: Duration) -> Self {
        self.until = Some(Instant::now() + time);
        self
    }

    /// The engine does what is asked; what it says of it is not passed on.
    pub(crate) fn after_the_engine(mut self) -> Self {
        self.asks_the_engine = true;
        self
    }

    /// The engine begins to do what is asked, and goes on with it when this has long been said.
    pub(crate) fn while_the_engine_works(mut self) -> Self {
        (self.asks_the_engine, self.at_once) = (true, true);
        self
    }

    fn covers(&self, url_query: &str, body: &[u8]) -> bool {
        self.left > 0
            && self.until.is_none_or(|until| Instant::now() < until)
            && self.about.covers(url_query, body)
            && self.holding.as_ref().is_none_or(|bytes| holds(body, bytes))
    }
}

#[derive(Default)]
struct Told {
    lies: Vec<Lie>,
    lied: usize,
    /// Requests of any kind, by table or statement.
    inserts: Vec<String>,
    statements: Vec<Bytes>,
}

#[derive(Clone)]
struct Shared {
    engine: Arc<str>,
    http: reqwest::Client,
    told: Arc<Mutex<Told>>,
}

/// The proxy, for as long as it is kept.
pub(crate) struct Liar {
    /// What `CLICKHOUSE_URL` is to be.
    pub(crate) url: String,
    told: Arc<Mutex<Told>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Liar {
    /// In front of the engine at this address. Honest until it is told to lie.
    pub(crate) async fn start(engine: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Told::default()));
        let shared = Shared {
            engine: engine.trim_end_matches('/').into(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            told: told.clone(),
        };
        let service = Router::new().fallback(handle).with_state(shared);
        let serving = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { url, told, serving }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more lie; the first that covers a request is told.
    pub(crate) fn tell(&self, lie: Lie) {
        self.told().lies.push(lie);
    }

    /// A lie that comes before all others.
    pub(crate) fn tell_first(&self, lie: Lie) {
        self.told().lies.insert(0, lie);
    }

    /// From now on only the truth.
    pub(crate) fn stop_lying(&self) {
        self.told().lies.clear();
    }

    /// Lies told so far.
    pub(crate) fn lied(&self) -> usize {
        self.told().lied
    }

    /// Inserts of rows into a table that were asked for so far.
    pub(crate) fn inserts_into(&self, table: &str) -> usize {
        self.told().inserts.iter().filter(|into| *into == table).count()
    }

    /// Statements with this text that were asked for so far.
    pub(crate) fn statements(&self, text: &str) -> usize {
        let told = self.told();
        told.statements
            .iter()
            .filter(|body| holds(body, text.as_bytes()))
            .count()
    }
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return Response::new(Body::empty());
    };
    let lie = choose(&shared, &parts, &body);
    let asks = lie.as_ref().is_none_or(|lie| lie.asks_the_engine);
    let at_once = lie.as_ref().is_some_and(|lie| lie.at_once);
    let engine = match (asks, at_once) {
        (true, true) => {
            tokio::spawn(async move { pass_on(&shared, &parts, body).await });
            None
        }
        (true, false) => Some(pass_on(&shared, &parts, body).await),
        (false, _) => None,
    };
    match (lie.map(|lie| lie.answer), engine) {
        (
            Some(Answer::Says {
                status,
                headers,
                body,
            }),
            _,
        ) => said(status, &headers, body),
        (Some(Answer::Truncated), _) => truncated(),
        (Some(Answer::Written(rows)), Some(mut response)) => {
            let summary = format!(r#"{{"read_rows":"0","written_rows":"{rows}"}}"#);
            response
                .headers_mut()
                .insert("x-clickhouse-summary", HeaderValue::from_str(&summary).unwrap());
            response
        }
        (Some(Answer::WithoutHeaders), Some(mut response)) => {
            response.headers_mut().clear();
            response
        }
        (Some(Answer::WithoutLast(bytes)), Some(response)) => without_last(response, bytes).await,
        (Some(Answer::Late(time)), Some(response)) => {
            tokio::time::sleep(time).await;
            response
        }
        (None, Some(response)) => response,
        (_, None) => said(500, &[], Bytes::new()),
    }
}

fn choose(shared: &Shared, parts: &Parts, body: &Bytes) -> Option<Lie> {
    let url_query = parts.uri.query().unwrap_or_default();
    let mut told = shared.told.lock().unwrap_or_else(PoisonError::into_inner);
    match insert_into(url_query) {
        Some(table) => told.inserts.push(table),
        None => told.statements.push(body.clone()),
    }
    let lie = told.lies.iter_mut().find(|lie| lie.covers(url_query, body))?;
    lie.left -= 1;
    let lie = lie.clone();
    told.lied += 1;
    Some(lie)
}

async fn without_last(response: Response, bytes: usize) -> Response {
    let (parts, body) = response.into_parts();
    let mut body = to_bytes(body, usize::MAX).await.unwrap();
    body.truncate(body.len().saturating_sub(bytes));
    Response::from_parts(parts, Body::from(body))
}

async fn pass_on(shared: &Shared, parts: &Parts, body: Bytes) -> Response {
    let url = format!("{}{}", shared.engine, parts.uri);
    let mut headers = parts.headers.clone();
    headers.remove(header::HOST);
    let answer = shared
        .http
        .request(parts.method.clone(), url)
        .headers(without_framing(headers))
        .body(body)
        .send()
        .await;
    let Ok(answer) = answer else {
        return said(502, &[], "Bad Gateway".into());
    };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let Ok(body) = answer.bytes().await else {
        return truncated();
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = without_framing(headers);
    response
}

fn without_framing(mut headers: HeaderMap) -> HeaderMap {
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
    ] {
        headers.remove(name);
    }
    headers
}

fn said(status: u16, headers: &[(&'static str, String)], body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(*name, HeaderValue::from_str(value).unwrap());
    }
    response
}

/// The engine's headers and a body that ends in the middle.
fn truncated() -> Response {
    let pieces = [
        Ok(Bytes::from_static(b"Code: ")),
        Err(std::io::Error::other("the connection is cut")),
    ];
    let mut response = Response::new(Body::from_stream(futures::stream::iter(pieces)));
    response
        .headers_mut()
        .insert("x-clickhouse-query-id", HeaderValue::from_static("cut"));
    response
}
