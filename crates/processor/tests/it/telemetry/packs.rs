//! Traces of batches that are inserted together.

use opentelemetry_proto::tonic::trace::v1::Span;

use super::{attribute, hexadecimal, named, with};
use crate::support::receivers::{Mood, Receiver};
use crate::support::{SOON, World, eventually};

#[tokio::test]
async fn batches_that_are_inserted_together_share_a_span_that_is_linked_with_each() {
    let world = World::start().await;
    let collector = Receiver::http(Mood::Takes).await;
    for n in 0..4_000 {
        world.event(&format!("d{}", n % 50), &[]).await;
    }
    let environment = with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address),
        ("PROCESSOR_BATCH_SIZE", "100"),
        ("PROCESSOR_MAX_BATCH_SIZE", "2000"),
        ("PROCESSOR_READ_COUNT", "500"),
    ]);
    let _worker = world.worker("w1", &environment);
    world.settled(SOON).await;
    let count = |spans: &[Span]| -> i64 {
        let batches = named(spans, "batch");
        batches
            .iter()
            .map(|span| {
                attribute(span, "messaging.batch.message_count")
                    .parse()
                    .unwrap_or(0)
            })
            .sum()
    };
    eventually("all batches are told", SOON, async || {
        count(&collector.spans()) == 4_000
    })
    .await;
    let spans = collector.spans();
    let batches = named(&spans, "batch");
    let lands = named(&spans, "land");
    let linked: Vec<&Vec<u8>> = lands
        .iter()
        .flat_map(|land| &land.links)
        .map(|link| &link.span_id)
        .collect();
    assert!(!linked.is_empty() && lands.len() < batches.len());
    let traces: Vec<String> = lands.iter().map(|land| hexadecimal(&land.trace_id)).collect();
    for batch in &batches {
        let elsewhere = attribute(batch, "qurvo.lands_in");
        assert!(elsewhere.is_empty() || traces.contains(&elsewhere), "{elsewhere}");
        let lands_in_it = lands
            .iter()
            .filter(|land| land.parent_span_id == batch.span_id)
            .count();
        let is_linked = linked.iter().filter(|id| **id == &batch.span_id).count();
        assert_eq!(lands_in_it + is_linked, 1, "each batch lands once");
        assert_eq!(is_linked == 1, !elsewhere.is_empty());
    }
}

#[tokio::test]
async fn of_batches_that_are_inserted_together_a_sampled_one_shows_how() {
    let world = World::start().await;
    let collector = Receiver::http(Mood::Takes).await;
    for n in 0..4_000 {
        world.event(&format!("d{}", n % 50), &[]).await;
    }
    let environment = with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ("PROCESSOR_BATCH_SIZE", "100"),
        ("PROCESSOR_MAX_BATCH_SIZE", "2000"),
        ("PROCESSOR_READ_COUNT", "500"),
    ]);
    let mut worker = world.worker("w1", &environment);
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let spans = collector.spans();
    let landed: Vec<String> = named(&spans, "land")
        .iter()
        .map(|land| hexadecimal(&land.trace_id))
        .collect();
    for batch in named(&spans, "batch") {
        let elsewhere = attribute(batch, "qurvo.lands_in");
        let own = hexadecimal(&batch.trace_id);
        let shown = if elsewhere.is_empty() { own } else { elsewhere };
        assert!(landed.contains(&shown), "{shown} is not told");
    }
}
