//! Collectors by TLS.

use std::path::Path;

use crate::support::certificates::Authority;
use crate::support::receivers::{Mood, Receiver};
use crate::support::tls_proxy::TlsProxy;
use crate::support::{SOON, World, eventually};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_and_metrics_go_by_both_protocols_through_tls_with_a_client_certificate() {
    let world = World::start().await;
    let authority = Authority::new(&world.path(""), "authority");
    let client = authority.client("worker");
    let served = authority.server(&["localhost"]);
    let (http, grpc) = (
        Receiver::http(Mood::Takes).await,
        Receiver::grpc(Mood::Takes).await,
    );
    let plain = |receiver: &Receiver| receiver.address.replace("http://", "");
    let proxies = [
        TlsProxy::start(&plain(&http), &served, Some(&authority)).await,
        TlsProxy::start(&plain(&grpc), &served, Some(&authority)).await,
    ];
    let traces = format!("https://localhost:{}/v1/traces", proxies[0].port);
    let metrics = format!("https://localhost:{}", proxies[1].port);
    let environment = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces.as_str()),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", metrics.as_str()),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", text(&authority.file)),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", text(&client.certificate)),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", text(&client.key)),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
    ];
    let worker = world.worker("a", &environment);
    world.event("someone", &[]).await;
    world.settled(SOON).await;
    eventually("both have taken something", SOON, async || {
        !http.taken().is_empty() && !grpc.taken().is_empty()
    })
    .await;
    drop(worker);

    let mut without = environment.to_vec();
    without.retain(|(name, _)| *name != "OTEL_EXPORTER_OTLP_CERTIFICATE");
    let worker = world.worker("b", &without);
    world.event("someone", &[]).await;
    eventually("the log says which variable", SOON, async || {
        let log = worker.log();
        log.matches("UnknownIssuer").count() >= 2 && log.contains("OTEL_EXPORTER_OTLP_CERTIFICATE")
    })
    .await;
}
