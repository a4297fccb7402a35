//! OTLP's two transports.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::http::HeaderValue;
use hyper::{Method, header};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::super::http::{Http, advised};
use super::super::trouble::{LeftOut, NotSent};
use crate::config::{OtlpConfig, OtlpProtocol};
use crate::stores::tls_connector;

/// A connection is asked so often whether it stands, and given up when it does not answer for as long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The way to a collector.
pub(super) enum Transport {
    Http { http: Http, gzip: bool },
    Grpc(Grpc),
}

/// A channel to a collector, connected when it is used.
pub(super) struct Grpc {
    channel: Channel,
    headers: MetadataMap,
    timeout: Duration,
    gzip: bool,
}

impl Transport {
    pub(super) fn new(config: &OtlpConfig) -> anyhow::Result<Self> {
        Ok(match config.protocol {
            OtlpProtocol::Http => Self::Http {
                http: Http::new(&config.url, None, &config.headers, &config.tls, config.timeout)?,
                gzip: config.gzip,
            },
            OtlpProtocol::Grpc => Self::Grpc(Grpc::new(config)?),
        })
    }

    pub(super) async fn send_traces(&self, request: ExportTraceServiceRequest) -> Result<LeftOut, NotSent> {
        let answer: ExportTraceServiceResponse = match self {
            Self::Http { http, gzip } => post(http, *gzip, &request).await?,
            Self::Grpc(grpc) => {
                let mut client = TraceServiceClient::new(grpc.channel.clone());
                if grpc.gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let sending = client.export(grpc.request(request));
                grpc.answer(sending).await?
            }
        };
        let left_out = answer.partial_success.unwrap_or_default();
        Ok(LeftOut {
            items: usize::try_from(left_out.rejected_spans).unwrap_or(0),
            said: left_out.error_message,
        })
    }

    pub(super) async fn send_metrics(
        &self,
        request: ExportMetricsServiceRequest,
    ) -> Result<LeftOut, NotSent> {
        let answer: ExportMetricsServiceResponse = match self {
            Self::Http { http, gzip } => post(http, *gzip, &request).await?,
            Self::Grpc(grpc) => {
                let mut client = MetricsServiceClient::new(grpc.channel.clone());
                if grpc.gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let sending = client.export(grpc.request(request));
                grpc.answer(sending).await?
            }
        };
        let left_out = answer.partial_success.unwrap_or_default();
        Ok(LeftOut {
            items: usize::try_from(left_out.rejected_data_points).unwrap_or(0),
            said: left_out.error_message,
        })
    }
}

impl Grpc {
    fn new(config: &OtlpConfig) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(config.url.to_string())
            .context("an address for gRPC")?
            .connect_timeout(config.timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        let connector = tls_connector(&config.tls).enable_http2().wrap_connector(tcp);
        let mut headers = MetadataMap::new();
        for (name, value) in &config.headers {
            let key: MetadataKey<_> = name
                .to_lowercase()
                .parse()
                .with_context(|| format!("{name} is no header's name"))?;
            let mut value: MetadataValue<_> = value.parse().context("a header's value has a line break")?;
            value.set_sensitive(true);
            headers.append(key, value);
        }
        Ok(Self {
            channel: endpoint.connect_with_connector_lazy(connector),
            headers,
            timeout: config.timeout,
            gzip: config.gzip,
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request
    }

    async fn answer<T>(
        &self,
        sending: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, NotSent> {
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                // What has a cause of this side's is no answer: the connection broke.
                let is_broken = std::error::Error::source(&status).is_some();
                let error = advised(&format!("answer {:?}: {}", status.code(), status.message()));
                Err(if is_broken || may_help(status.code()) {
                    NotSent::Now(error)
                } else {
                    NotSent::Ever(error)
                })
            }
            Err(_elapsed) => {
                let error = format!("no answer within {} ms", self.timeout.as_millis());
                Err(NotSent::Now(error))
            }
        }
    }
}

/// OTLP's specification: which answers let a client try again.
fn may_help(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    )
}

async fn post<T: Message + Default>(http: &Http, gzip: bool, message: &impl Message) -> Result<T, NotSent> {
    let mut headers = vec![(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-protobuf"),
    )];
    let mut body = message.encode_to_vec();
    if gzip {
        body = compressed(&body).map_err(|error| NotSent::Ever(error.to_string()))?;
        headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    }
    let answer = http.send(Method::POST, &headers, Bytes::from(body)).await?;
    // What is no such message says nothing of what was left out.
    Ok(T::decode(answer).unwrap_or_default())
}

fn compressed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
