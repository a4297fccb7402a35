//! A destination that is dead, hangs, is slow or refuses costs no event, and what it does not take is counted.

use std::time::{Duration, Instant};

use super::{named, settled, with};
use crate::support::metrics::{address, number, scrape};
use crate::support::receivers::{Mood, Receiver};
use crate::support::{SOON, Worker, World, eventually};

/// Many small batches while a destination behaves in some way; every one settles, what is not taken is counted, and the
/// end waits for nothing.
async fn events_settle_beside(collector: &Receiver, protocol: &str) -> f64 {
    let world = World::start().await;
    let address = address();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "30"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("METRICS_LISTEN", &address),
        ("PROCESSOR_FLUSH_INTERVAL_MS", "20"),
        ("PROCESSOR_BATCH_SIZE", "1"),
        ("PROCESSOR_MAX_BATCH_SIZE", "1"),
    ];
    let mut worker = world.worker("w1", &environment);
    for n in 0..60 {
        world.event(&format!("d{n}"), &[]).await;
    }
    settled(&address, 60.0).await;
    let dropped = r#"telemetry_dropped_total{destination="otlp",signal="#;
    eventually("what was not taken is counted", SOON, async || {
        let text = scrape(&address).await;
        let of = |signal: &str| number(&text, &format!("{dropped}\"{signal}\"}}")).unwrap_or(0.0);
        of("traces") > 0.0 && of("metrics") > 0.0
    })
    .await;
    let told = |worker: &Worker| {
        worker
            .log()
            .matches("telemetry is not delivered: events are processed as usual")
            .count()
    };
    eventually("trouble is told, once of each signal", SOON, async || {
        told(&worker) == 2
    })
    .await;
    let ends = Instant::now();
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let took = ends.elapsed();
    assert_eq!(told(&worker), 2, "{}", worker.log());
    assert!(
        took < Duration::from_secs(10),
        "the end waits for no collector: {took:?}"
    );
    took.as_secs_f64()
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_no_event() {
    let nobody = Receiver::absent(&address());
    events_settle_beside(&nobody, "http/protobuf").await;
    events_settle_beside(&nobody, "grpc").await;
}

#[tokio::test]
async fn a_collector_that_never_answers_costs_no_event() {
    events_settle_beside(&Receiver::http(Mood::Hangs).await, "http/protobuf").await;
    events_settle_beside(&Receiver::grpc(Mood::Hangs).await, "grpc").await;
}

#[tokio::test]
async fn a_collector_that_is_too_slow_or_refuses_costs_no_event() {
    let slow = Receiver::http(Mood::Slow(Duration::from_millis(1_500))).await;
    events_settle_beside(&slow, "http/protobuf").await;
    events_settle_beside(&Receiver::http(Mood::Refuses(401)).await, "http/protobuf").await;
    let slow = Receiver::grpc(Mood::Slow(Duration::from_millis(1_500))).await;
    events_settle_beside(&slow, "grpc").await;
    events_settle_beside(&Receiver::grpc(Mood::Refuses(503)).await, "grpc").await;
}

#[tokio::test]
async fn a_collector_that_comes_back_is_told_again() {
    let world = World::start().await;
    let collector = Receiver::http(Mood::Refuses(503)).await;
    let environment = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address)]);
    let worker = world.worker("w1", &environment);
    world.event("d", &[]).await;
    eventually("the trouble is told", SOON, async || {
        worker.log().contains("telemetry is not delivered")
    })
    .await;
    collector.is_now(Mood::Takes);
    eventually("its trace arrives all the same", SOON, async || {
        !named(&collector.spans(), "batch").is_empty()
    })
    .await;
    eventually("the return is told", SOON, async || {
        worker.log().contains("telemetry is delivered again")
    })
    .await;
}

#[tokio::test]
async fn what_a_collector_leaves_out_is_dropped_and_told() {
    for protocol in ["http/protobuf", "grpc"] {
        let world = World::start().await;
        let address = address();
        let collector = match protocol {
            "grpc" => Receiver::grpc(Mood::LeavesOut(2)).await,
            _ => Receiver::http(Mood::LeavesOut(2)).await,
        };
        let environment = with(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("METRICS_LISTEN", &address),
        ]);
        let worker = world.worker("w1", &environment);
        world.event("d", &[]).await;
        for signal in ["traces", "metrics"] {
            let dropped = format!(r#"telemetry_dropped_total{{destination="otlp",signal="{signal}"}}"#);
            eventually(&dropped, SOON, async || {
                number(&scrape(&address).await, &dropped) >= Some(2.0)
            })
            .await;
        }
        eventually("it is told", SOON, async || {
            worker.log().contains("left out: over quota")
        })
        .await;
        assert!(!named(&collector.spans(), "batch").is_empty());
    }
}

#[tokio::test]
async fn an_agent_and_a_dogstatsd_that_take_nothing_cost_no_event() {
    let world = World::start().await;
    let path = world.path("full.socket");
    // Nobody reads: its queue is soon full.
    let full = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let filling = std::os::unix::net::UnixDatagram::unbound().unwrap();
    filling.set_nonblocking(true).unwrap();
    while filling.send_to(b"x", &path).is_ok() {}
    let agent = Receiver::http(Mood::Hangs).await;
    let address = address();
    let socket = format!("unix://{}", path.display());
    let environment = with(&[
        ("DD_TRACE_AGENT_URL", agent.address.as_str()),
        ("DD_DOGSTATSD_URL", &socket),
        ("METRICS_LISTEN", &address),
    ]);
    let mut worker = world.worker("w1", &environment);
    world.event("d", &[]).await;
    settled(&address, 1.0).await;
    let dropped = r#"telemetry_dropped_total{destination="dogstatsd",signal="metrics"}"#;
    eventually(dropped, SOON, async || {
        number(&scrape(&address).await, dropped) >= Some(50.0)
    })
    .await;
    assert!(worker.log().contains("its queue is full"), "{}", worker.log());
    let dropped = r#"telemetry_dropped_total{destination="datadog",signal="traces"}"#;
    eventually(dropped, Duration::from_mins(1), async || {
        number(&scrape(&address).await, dropped) >= Some(5.0)
    })
    .await;
    let ends = Instant::now();
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    assert!(ends.elapsed() < Duration::from_secs(10), "{:?}", ends.elapsed());
    drop(full);
}
