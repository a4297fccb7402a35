//! OTLP: OpenTelemetry's protocol, over HTTP or gRPC.

mod message;
mod numbers;
mod transport;

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource as ResourceMessage;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use tokio_util::sync::CancellationToken;

use self::message::{message, scope};
use self::transport::Transport;
use super::queue::{TakesTraces, Tree};
use super::trouble::{LeftOut, NotSent, Trouble, dropped};
use crate::config::{OtlpConfig, Resource, place};
use crate::metrics::{self, registry};

/// A collector that takes OTLP.
pub(super) struct Collector {
    transport: Transport,
    resource: ResourceMessage,
    /// Where it is, without secrets.
    address: String,
}

impl Collector {
    /// Connects nowhere yet.
    ///
    /// # Errors
    /// When the address is not one that the transport takes.
    pub(super) fn new(config: &OtlpConfig, resource: &Resource) -> anyhow::Result<Self> {
        Ok(Self {
            transport: Transport::new(config)?,
            resource: message(resource),
            address: place(&config.url),
        })
    }
}

impl TakesTraces for Collector {
    const NAME: &'static str = "otlp";

    fn address(&self) -> String {
        self.address.clone()
    }

    async fn send(&self, traces: Vec<Tree>) -> Result<LeftOut, NotSent> {
        let spans = traces.into_iter().flatten().map(Into::into).collect();
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope()),
                    spans,
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }],
        };
        self.transport.send_traces(request).await
    }
}

/// Sends all numbers each interval until it has to stop; then once more.
pub(super) async fn send_metrics(collector: Collector, interval: Duration, stop: CancellationToken) {
    let began = SystemTime::now();
    let mut trouble = Trouble::new(Collector::NAME, "metrics", collector.address.clone());
    let mut is_last = false;
    while !is_last {
        tokio::select! {
            () = stop.cancelled() => is_last = true,
            () = tokio::time::sleep(interval) => {}
        }
        let families = registry::snapshot();
        let points: usize = families.iter().map(|family| family.series.len()).sum();
        let message = numbers::message(&families, began, &collector.resource);
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![message],
        };
        match collector.transport.send_metrics(request).await {
            Ok(left_out) => {
                let lost = left_out.items.min(points);
                if lost > 0 {
                    trouble.failed(&format!("{lost} data points were left out: {}", left_out.said));
                } else {
                    trouble.succeeded();
                }
                metrics::telemetry_sent(Collector::NAME, "metrics", points - lost);
                dropped(Collector::NAME, "metrics", lost);
            }
            // The next time they are sent anew, as they are then.
            Err(NotSent::Now(error) | NotSent::Ever(error)) => {
                trouble.failed(&error);
                dropped(Collector::NAME, "metrics", points);
            }
        }
    }
}
