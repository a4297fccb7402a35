//! Traces and metrics that are sent, and what comes of a destination that takes nothing.

mod away;
mod datadog;
mod otlp;
mod packs;

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::support::metrics::{number, scrape};
use crate::support::receivers::attributes;
use crate::support::{SOON, eventually};

/// Sends soon what there is.
const SOONER: [(&str, &str); 2] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "300"),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    SOONER.iter().chain(more).copied().collect()
}

/// The spans that stand right below another.
fn below<'a>(spans: &'a [Span], parent: &Span) -> Vec<&'a Span> {
    spans
        .iter()
        .filter(|span| span.parent_span_id == parent.span_id)
        .collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn attribute(span: &Span, name: &str) -> String {
    let all = attributes(&span.attributes);
    all.into_iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value)
        .unwrap_or_default()
}

async fn settled(address: &str, events: f64) {
    eventually("events have settled", SOON, async || {
        number(&scrape(address).await, "events_settled_total") >= Some(events)
    })
    .await;
}

/// An id as it is shown.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
