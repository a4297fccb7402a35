//! What a collector is told by OTLP.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::Value;

use super::{attribute, below, hexadecimal, named, settled, with};
use crate::support::metrics::{address, number, scrape};
use crate::support::receivers::{Mood, Receiver};
use crate::support::{PROJECT, SOON, World, eventually};

/// The trace of the batch that merges: its stages below it, requests below these, and what is said of it.
async fn the_merge_is_as_it_should(world: &World, spans: &[Span]) {
    let merge = spans
        .iter()
        .find(|span| attribute(span, "qurvo.moved") == "1")
        .unwrap();
    let batch = spans
        .iter()
        .find(|span| span.span_id == merge.parent_span_id)
        .unwrap();
    assert_eq!(
        (batch.name.as_str(), batch.kind),
        ("batch", SpanKind::Consumer as i32)
    );
    assert!(batch.parent_span_id.is_empty());
    let stages = below(spans, batch);
    let mut names: Vec<&str> = stages.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["acknowledge", "gather", "identity", "land", "person keys"]
    );
    let requests = |stage: &str| -> Vec<(String, String)> {
        let stage = stages.iter().find(|span| span.name == stage).unwrap();
        let all = below(spans, stage);
        all.iter()
            .map(|span| (span.name.clone(), attribute(span, "db.system.name")))
            .collect()
    };
    let has = |stage: &str, name: &str, store: &str| {
        let found = requests(stage);
        assert!(
            found.contains(&(name.to_owned(), store.to_owned())),
            "{stage}: {found:?}"
        );
    };
    has("identity", "resolving persons", "postgresql");
    has("land", "inserting events", "clickhouse");
    has("acknowledge", "acknowledging", "redis");
    let streams = attribute(batch, "messaging.destination.name");
    assert_eq!(streams, "events:incoming");
    assert_eq!(attribute(batch, "messaging.system"), "redis");
    assert_eq!(
        attribute(batch, "messaging.consumer.group.name"),
        "processor-group"
    );
    assert_eq!(attribute(batch, "messaging.batch.message_count"), "1");
    let newest = crate::support::entries(world, "events:incoming")
        .await
        .pop()
        .unwrap()
        .id;
    assert_eq!(attribute(batch, "qurvo.first_entry"), newest);
    assert_eq!(attribute(batch, "qurvo.last_entry"), newest);
    let sent = newest.split_once('-').unwrap().0;
    assert_eq!(attribute(batch, "qurvo.first_entry_ms"), sent);
    assert_eq!(attribute(batch, "qurvo.last_entry_ms"), sent);
    let waited: i64 = attribute(batch, "qurvo.waited_ms").parse().unwrap();
    assert!((0..60_000).contains(&waited), "{waited}");
    assert_eq!(attribute(batch, "qurvo.redelivered"), "false");
    assert_eq!(attribute(batch, "qurvo.rejected"), "0");
    let land = stages.iter().find(|span| span.name == "land").unwrap();
    assert_eq!(attribute(land, "qurvo.rows"), "1");
    let ids = |span: &Span| span.trace_id.clone();
    assert!(stages.iter().all(|span| ids(span) == ids(batch)));
}

/// The trace of a batch of two events, of which one identifies, and the numbers of it.
async fn one_batch_is_told(world: &World, collector: &Receiver) {
    world.event("visitor", &[]).await;
    eventually("a first event is told", SOON, async || {
        !named(&collector.spans(), "batch").is_empty()
    })
    .await;
    world.identify("customer", "visitor").await;
    eventually("the merge is told", SOON, async || {
        collector
            .spans()
            .iter()
            .any(|span| attribute(span, "qurvo.moved") == "1")
    })
    .await;
    the_merge_is_as_it_should(world, &collector.spans()).await;
    let resource: BTreeMap<String, String> = collector.resource().into_iter().collect();
    let said = |name: &str| resource.get(name).map(String::as_str);
    assert_eq!(said("service.name"), Some("qurvo-processor"));
    assert_eq!(said("service.instance.id"), Some("w1"));
    assert_eq!(said("service.version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(said("team"), Some("data"));
    eventually("the numbers are told", SOON, async || {
        collector.number("qurvo_processor_events_settled_total") == Some(2.0)
            && collector.number("qurvo_processor_event_age_seconds") == Some(2.0)
            && collector.number("process_start_time_seconds") > Some(1.0)
            && collector.number("qurvo_processor_telemetry_sent_total") > Some(5.0)
    })
    .await;
}

#[tokio::test]
async fn a_collector_is_told_of_batches_and_numbers_by_http() {
    let world = World::start().await;
    let collector = Receiver::http(Mood::Takes).await;
    let environment = with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret%20one"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=data"),
    ]);
    let mut worker = world.worker("w1", &environment);
    one_batch_is_told(&world, &collector).await;
    for taken in collector.taken() {
        assert!(
            matches!(taken.path.as_str(), "/v1/traces" | "/v1/metrics"),
            "{}",
            taken.path
        );
        assert_eq!(taken.headers["content-type"], "application/x-protobuf");
        assert_eq!(taken.headers["api-key"], "secret one");
    }
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    assert!(!worker.log().contains("secret one"));
}

#[tokio::test]
async fn a_collector_is_told_of_batches_and_numbers_by_grpc() {
    let world = World::start().await;
    let collector = Receiver::grpc(Mood::Takes).await;
    let environment = with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret%20one"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=data"),
    ]);
    let mut worker = world.worker("w1", &environment);
    one_batch_is_told(&world, &collector).await;
    assert!(
        collector
            .taken()
            .iter()
            .all(|taken| taken.headers["api-key"] == "secret one")
    );
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
}

#[tokio::test]
async fn what_still_waits_is_sent_at_the_end() {
    let world = World::start().await;
    let collector = Receiver::http(Mood::Takes).await;
    let address = address();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "600000"),
        ("METRICS_LISTEN", &address),
    ];
    let mut worker = world.worker("w1", &environment);
    world.event("d", &[]).await;
    settled(&address, 1.0).await;
    assert!(collector.taken().is_empty());
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    assert_eq!(named(&collector.spans(), "batch").len(), 1);
    assert_eq!(
        collector.number("qurvo_processor_events_settled_total"),
        Some(1.0)
    );
}

#[tokio::test]
async fn what_is_refused_later_is_told_where_it_is_refused() {
    let world = World::start().await;
    let collector = Receiver::http(Mood::Takes).await;
    let environment = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.as_str())]);
    let _worker = world.worker("w1", &environment);
    let unknown = "22222222-2222-2222-2222-222222222222";
    world
        .add(&[("project_id", unknown), ("event_name", "e"), ("distinct_id", "d")])
        .await;
    eventually("it is told", SOON, async || {
        let spans = collector.spans();
        named(&spans, "identity")
            .iter()
            .any(|span| attribute(span, "qurvo.rejected") == "1")
    })
    .await;
}

#[tokio::test]
async fn a_batch_with_an_error_is_told_though_none_is_sampled() {
    let world = World::start().await;
    let collector = Receiver::http(Mood::Takes).await;
    let address = address();
    let environment = with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("METRICS_LISTEN", &address),
        ("LOG_LEVEL", "debug"),
        ("LOG_FORMAT", "json"),
    ]);
    let worker = world.worker("w1", &environment);
    world.event("fine", &[]).await;
    settled(&address, 1.0).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.event("late", &[]).await;
    eventually("the failure is told", SOON, async || {
        !named(&collector.spans(), "batch").is_empty()
    })
    .await;
    let spans = collector.spans();
    let batch = named(&spans, "batch")[0];
    let status = batch.status.clone().unwrap();
    assert_eq!(status.code, StatusCode::Error as i32);
    assert!(status.message.contains("ClickHouse"), "{}", status.message);
    assert!(
        named(&spans, "inserting events").len() >= 3,
        "each attempt is a span"
    );
    // The line that says so belongs to the trace.
    let trace = hexadecimal(&batch.trace_id);
    let log = worker.log();
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let about = lines.iter().filter(|line| line["trace_id"] == trace.as_str());
    let about: Vec<&str> = about.filter_map(|line| line["message"].as_str()).collect();
    assert!(about.contains(&"store is away"), "{about:?}");
    assert!(
        about.contains(&"batch set aside as dead letters: it is replayed when the store is back"),
        "{about:?}"
    );
    assert_eq!(named(&spans, "set aside").len(), 1);
    world.stack.clickhouse().unwrap().start().await.unwrap();
    eventually("it is replayed", SOON, async || {
        number(&scrape(&address).await, "dead_letters_replayed_total") == Some(1.0)
    })
    .await;
}

#[tokio::test]
async fn replays_and_runs_over_cohorts_are_traces_too() {
    let world = World::start().await;
    let collector = Receiver::http(Mood::Takes).await;
    let definition =
        r#"{"type":"AND","values":[{"type":"person_property","property":"p","operator":"is_not_set"}]}"#;
    let id = uuid::Uuid::new_v4().to_string();
    world
        .pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name) VALUES ('{id}', 'a', '', '');
             INSERT INTO cohorts (id, project_id, created_by, name, definition)
             VALUES ('{id}', '{PROJECT}', '{id}', 'everybody', '{definition}')"
        ))
        .await;
    let environment = with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.as_str()),
        ("COHORT_INITIAL_DELAY_MS", "1000"),
    ]);
    let worker = world.worker("w1", &environment);
    eventually("a run over cohorts is told", SOON, async || {
        !named(&collector.spans(), "cohorts").is_empty()
    })
    .await;
    let spans = collector.spans();
    let run = named(&spans, "cohorts")[0];
    let cohort = below(&spans, run)
        .into_iter()
        .find(|span| span.name == "cohort")
        .unwrap();
    assert_eq!(attribute(cohort, "qurvo.cohort"), id);
    assert!(
        below(&spans, cohort)
            .iter()
            .any(|span| attribute(span, "db.system.name") == "clickhouse")
    );
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.event("late", &[]).await;
    eventually("a batch is set aside", SOON, async || {
        worker.log().contains("batch set aside")
    })
    .await;
    world.stack.clickhouse().unwrap().start().await.unwrap();
    eventually("its replay is told", SOON, async || {
        let spans = collector.spans();
        let replays = named(&spans, "replay");
        let landed = replays
            .iter()
            .find(|replay| replay.status.as_ref().is_none_or(|status| status.code == 0));
        landed.is_some_and(|replay| {
            attribute(replay, "qurvo.letters") == "1"
                && below(&spans, replay)
                    .iter()
                    .any(|span| span.name == "inserting events")
        })
    })
    .await;
}

#[test]
fn every_span_and_attribute_of_the_page_is_looked_for_in_a_test() {
    let page = include_str!("../../../../../docs/telemetry.md");
    let (_, traces) = page.split_once("## Traces").unwrap();
    let (traces, _) = traces.split_once("## Log lines").unwrap();
    let names = traces
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let here = concat!(
        include_str!("otlp.rs"),
        include_str!("packs.rs"),
        include_str!("datadog.rs")
    );
    let absent: Vec<&str> = names
        .filter(|name| !here.contains(&format!("\"{name}\"")))
        .collect();
    assert!(absent.is_empty(), "{absent:?}");
}
