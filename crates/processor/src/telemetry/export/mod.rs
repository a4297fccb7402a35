//! What is sent: traces and metrics to a collector by OTLP, and to a Datadog agent. Whatever becomes of a destination, the
//! worker never waits for it: what finds no room in a queue is dropped and counted.

mod datadog;
mod http;
mod otlp;
pub(super) mod prometheus;
mod queue;
mod spans;
mod trouble;

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::datadog::agent::Agent;
use self::datadog::statsd;
use self::otlp::Collector;
use self::spans::{Head, Trees};
use crate::config::TelemetryConfig;
use crate::event::Reason;
use crate::identity::upkeep::LOCK as SWEEP_LOCK;
use crate::metrics::{self, Known};
use crate::stores::Store;
use crate::{cohorts, replay, set_aside, traces};

/// Longest that the end of the process waits for what is still to be sent.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The sending of traces and metrics.
pub(crate) struct Exports {
    stop: CancellationToken,
    loops: JoinSet<()>,
}

impl Exports {
    /// Begins to count, if numbers are wanted, and to send what is configured to be sent.
    ///
    /// # Errors
    /// When an address is not one that its client takes.
    pub(crate) fn begin(config: &TelemetryConfig, serves_metrics: bool) -> anyhow::Result<Self> {
        if serves_metrics || config.has_metrics() {
            metrics::begin(&Known {
                consumer: &config.resource.instance,
                stores: Store::ALL.map(Store::label),
                rejects: &Reason::CODES,
                letters: &set_aside::REASONS,
                locks: &[replay::LOCK, cohorts::LOCK, SWEEP_LOCK],
                destinations: &destinations(config),
            })?;
        }
        let mut exports = Self {
            stop: CancellationToken::new(),
            loops: JoinSet::new(),
        };
        if config.has_traces() {
            exports.begin_traces(config)?;
        }
        if let Some(otlp) = &config.otlp_metrics {
            let collector = Collector::new(otlp, &config.resource)?;
            let (interval, stop) = (config.metrics_interval, exports.stop.clone());
            exports.loops.spawn(otlp::send_metrics(collector, interval, stop));
        }
        if let Some(address) = &config.statsd {
            let (address, resource) = (address.clone(), config.resource.clone());
            exports
                .loops
                .spawn(statsd::send(address, resource, exports.stop.clone()));
        }
        Ok(exports)
    }

    fn begin_traces(&mut self, config: &TelemetryConfig) -> anyhow::Result<()> {
        let mut queues = Vec::new();
        let most = config.most_waiting_spans;
        let interval = config.spans_interval;
        if let Some(otlp) = &config.otlp_traces {
            let (queue, waiting) = queue::of("otlp", most);
            let collector = Collector::new(otlp, &config.resource)?;
            queues.push(queue);
            self.loops
                .spawn(queue::send(collector, waiting, interval, self.stop.clone()));
        }
        if let Some(url) = &config.agent {
            let (queue, waiting) = queue::of("datadog", most);
            let agent = Agent::new(url, &config.resource, config.sampled)?;
            queues.push(queue);
            self.loops
                .spawn(queue::send(agent, waiting, interval, self.stop.clone()));
        }
        let provider = SdkTracerProvider::builder()
            .with_sampler(Head::new(config.sampled))
            .with_span_processor(Trees::new(queues))
            // Batches that are inserted together are bounded by what an insert may have.
            .with_max_links_per_span(u32::MAX)
            .build();
        traces::install(provider.tracer("qurvo-processor"));
        Ok(())
    }

    /// Sends what waits, for a moment.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        let ended = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
            tracing::debug!("the last traces and metrics could not be sent in time");
        }
    }
}

/// Where what is sent.
fn destinations(config: &TelemetryConfig) -> Vec<(&'static str, &'static str)> {
    let all = [
        (config.otlp_traces.is_some(), ("otlp", "traces")),
        (config.otlp_metrics.is_some(), ("otlp", "metrics")),
        (config.agent.is_some(), ("datadog", "traces")),
        (config.statsd.is_some(), ("dogstatsd", "metrics")),
    ];
    let wanted = all.into_iter().filter(|(is_wanted, _)| *is_wanted);
    wanted.map(|(_, destination)| destination).collect()
}
