//! `GET /metrics`, if `METRICS_LISTEN` says where.
//!
//! It has no pulse: trouble with it is no reason to restart what works, and whoever scrapes it notices its silence.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Kind, METRICS, Sampler, describe};

/// How often Redis is asked.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(15);
/// Prometheus's text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A socket, and what will be served there.
pub struct Endpoint {
    listener: TcpListener,
    handle: PrometheusHandle,
}

/// Takes the socket and begins to count.
///
/// # Errors
/// When the address cannot be had, or this process counts already.
pub async fn listen(address: &str) -> anyhow::Result<Endpoint> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("METRICS_LISTEN={address}"))?;
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), buckets)?;
        }
    }
    let handle = builder.install_recorder()?;
    describe();
    Ok(Endpoint { listener, handle })
}

impl Endpoint {
    /// Serves until `stop`.
    pub async fn run(self, sampler: Sampler, stop: CancellationToken) {
        let sampler = Arc::new(sampler);
        let serving = axum::serve(self.listener, router(self.handle.clone(), sampler.clone()));
        let sampling = async {
            let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                sampler.redis().await;
                self.handle.run_upkeep();
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = serving => {}
            () = sampling => {}
        }
    }
}

fn router(handle: PrometheusHandle, sampler: Arc<Sampler>) -> Router {
    let text = move || {
        // What costs nothing to know is true at the moment of asking.
        sampler.instance();
        std::future::ready(([(CONTENT_TYPE, TEXT)], handle.render()))
    };
    Router::new().route("/metrics", get(text))
}
