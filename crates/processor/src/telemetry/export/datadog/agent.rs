//! Traces to a Datadog agent: `PUT /v0.4/traces`, traces of spans as `MessagePack`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::http::{HeaderName, HeaderValue};
use hyper::{Method, header};
use opentelemetry::Value;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use serde::Serialize;
use url::Url;

use super::super::http::Http;
use super::super::queue::{TakesTraces, Tree};
use super::super::trouble::{LeftOut, NotSent};
use super::tags::tags;
use crate::config::{Resource, TlsFiles, place};
use crate::traces::STORE;

/// Longest that one request takes: an agent is near.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What a span is an instance of; the span's own name is its resource.
const OPERATION: &str = "qurvo.processor";
/// The trace is to be kept: what is not, is not sent.
const KEEP: f64 = 1.0;

/// An agent.
pub(in super::super) struct Agent {
    http: Http,
    service: String,
    tags: Vec<(String, String)>,
    /// Where it is.
    address: String,
    /// Share of the traces that are sent whatever becomes of them.
    sampled: f64,
}

impl Agent {
    /// Connects nowhere yet.
    ///
    /// # Errors
    /// When the address is none.
    pub(in super::super) fn new(url: &Url, resource: &Resource, sampled: f64) -> anyhow::Result<Self> {
        let headers = [
            ("Content-Type", "application/msgpack"),
            ("Datadog-Meta-Lang", "rust"),
            ("Datadog-Meta-Tracer-Version", env!("CARGO_PKG_VERSION")),
            ("Datadog-Client-Computed-Top-Level", "yes"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self {
            http: Http::new(url, Some("/v0.4/traces"), &headers, &TlsFiles::default(), TIMEOUT)?,
            service: resource.service.clone(),
            tags: tags(resource),
            address: place(url),
            sampled,
        })
    }
}

impl TakesTraces for Agent {
    const NAME: &'static str = "datadog";

    fn address(&self) -> String {
        self.address.clone()
    }

    async fn send(&self, traces: Vec<Tree>) -> Result<LeftOut, NotSent> {
        let count = HeaderValue::from(traces.len());
        let message: Vec<Vec<Span<'_>>> = traces
            .iter()
            .map(|tree| tree.iter().map(|span| self.span(span)).collect())
            .collect();
        let body = rmp_serde::to_vec_named(&message).map_err(|error| NotSent::Ever(error.to_string()))?;
        let headers = [
            (HeaderName::from_static("x-datadog-trace-count"), count),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
        ];
        let body = Bytes::from(body);
        self.http.send(Method::PUT, &headers, body).await?;
        Ok(LeftOut::default())
    }
}

/// A span as the agent reads it.
#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "the agent's names")]
struct Span<'a> {
    service: &'a str,
    name: &'static str,
    resource: &'a str,
    r#type: &'static str,
    trace_id: u64,
    span_id: u64,
    parent_id: u64,
    /// Nanoseconds since 1970.
    start: i64,
    /// Nanoseconds.
    duration: i64,
    error: i32,
    meta: BTreeMap<&'a str, String>,
    metrics: BTreeMap<&'a str, f64>,
}

/// Texts and numbers of a span, by name.
type Described<'a> = (BTreeMap<&'a str, String>, BTreeMap<&'a str, f64>);

impl Agent {
    fn span<'a>(&'a self, span: &'a SpanData) -> Span<'a> {
        let trace = span.span_context.trace_id().to_bytes();
        let [high, low] = [&trace[..8], &trace[8..]].map(number);
        let (mut meta, mut metrics) = described(span);
        let is_root = span.parent_span_id == SpanId::INVALID;
        let tags = self
            .tags
            .iter()
            .filter(|(name, _)| is_root || name == "env" || name == "version");
        meta.extend(tags.map(|(name, value)| (name.as_str(), value.clone())));
        if is_root {
            meta.insert("language", "rust".into());
            // The higher half of the trace's id; the lower one is its field.
            meta.insert("_dd.p.tid", format!("{high:016x}"));
            metrics.insert("_sampling_priority_v1", KEEP);
            metrics.insert("_dd.top_level", 1.0);
            metrics.insert("process_id", f64::from(std::process::id()));
            // Hits and errors are counted by what a trace stands for; one that is sent for its error stands for itself.
            if self.sampled > 0.0 && self.sampled < 1.0 && span.span_context.is_sampled() {
                metrics.insert("_sample_rate", self.sampled);
            }
        }
        Span {
            service: &self.service,
            name: OPERATION,
            resource: &span.name,
            r#type: if meta.contains_key(STORE) { "db" } else { "worker" },
            trace_id: low,
            span_id: number(&span.span_context.span_id().to_bytes()),
            parent_id: number(&span.parent_span_id.to_bytes()),
            start: nanoseconds(span.start_time.duration_since(UNIX_EPOCH).unwrap_or_default()),
            duration: nanoseconds(elapsed(span.start_time, span.end_time)),
            error: i32::from(matches!(span.status, Status::Error { .. })),
            meta,
            metrics,
        }
    }
}

/// What a span says of itself.
fn described(span: &SpanData) -> Described<'_> {
    let (mut meta, mut metrics) = Described::default();
    for attribute in &span.attributes {
        let name = attribute.key.as_str();
        match &attribute.value {
            Value::I64(number) => {
                metrics.insert(name, *number as f64);
            }
            Value::F64(number) => {
                metrics.insert(name, *number);
            }
            other => {
                meta.insert(name, other.to_string());
            }
        }
    }
    meta.insert("span.kind", kind(&span.span_kind).into());
    if let Some(store) = meta.get(STORE).cloned() {
        meta.insert("peer.service", store.clone());
        meta.insert("db.system", store);
    }
    if let Status::Error { description } = &span.status {
        meta.insert("error.message", description.to_string());
        meta.insert("error.type", kind_of_error(description));
    }
    if !span.links.links.is_empty() {
        meta.insert("_dd.span_links", links(span));
    }
    (meta, metrics)
}

/// Errors of stores begin with the store and what was being done: by that they are told apart.
fn kind_of_error(description: &str) -> String {
    let mut parts = description.splitn(3, ": ");
    match (parts.next(), parts.next()) {
        (Some(store), Some(during)) if parts.next().is_some() => format!("{store}: {during}"),
        _ => "error".to_owned(),
    }
}

/// Spans that this one is linked with, as the agent reads them: JSON.
fn links(span: &SpanData) -> String {
    let links = span.links.links.iter().map(|link| {
        serde_json::json!({
            "trace_id": link.span_context.trace_id().to_string(),
            "span_id": link.span_context.span_id().to_string(),
        })
    });
    serde_json::Value::Array(links.collect()).to_string()
}

fn elapsed(start: SystemTime, end: SystemTime) -> Duration {
    end.duration_since(start).unwrap_or_default()
}

/// Eight bytes, the highest first.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn kind(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal => "internal",
    }
}
