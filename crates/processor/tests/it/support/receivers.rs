//! What takes telemetry, as the real ones do: a collector by OTLP over HTTP and gRPC, a Datadog agent, a `DogStatsD`.

use std::convert::Infallible;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UdpSocket, UnixDatagram, UnixListener};

/// What becomes of requests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    /// They are taken.
    Takes,
    /// They are never answered.
    Hangs,
    /// They are taken after so long.
    Slow(Duration),
    /// They are answered with this status.
    Refuses(u16),
    /// They are taken but for some spans or data points.
    LeavesOut(i64),
}

/// A request that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// Without compression and framing.
    pub(crate) body: Bytes,
}

/// A server that keeps what it is sent. It ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) address: String,
    taken: Arc<Mutex<Vec<Taken>>>,
    mood: Arc<Mutex<Mood>>,
}

impl Receiver {
    /// By HTTP/1.1.
    pub(crate) async fn http(mood: Mood) -> Self {
        Self::start(mood, false).await
    }

    /// By gRPC, which is HTTP/2.
    pub(crate) async fn grpc(mood: Mood) -> Self {
        Self::start(mood, true).await
    }

    /// Where nobody listens.
    pub(crate) fn absent(address: &str) -> Self {
        Self::at(format!("http://{address}"), Mood::Takes)
    }

    async fn start(mood: Mood, is_grpc: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self::at(format!("http://{}", listener.local_addr().unwrap()), mood);
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream, is_grpc));
            }
        });
        receiver
    }

    /// By HTTP/1.1, over a socket in the file system.
    pub(crate) fn unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let receiver = Self::at(format!("unix://{}", path.display()), Mood::Takes);
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream, false));
            }
        });
        receiver
    }

    fn at(address: String, mood: Mood) -> Self {
        Self {
            address,
            taken: Arc::default(),
            mood: Arc::new(Mutex::new(mood)),
        }
    }

    pub(crate) fn is_now(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, is_grpc: bool) {
        let stream = TokioIo::new(stream);
        let service = service_fn(move |request| {
            let receiver = self.clone();
            async move { Ok::<_, Infallible>(receiver.answer(request, is_grpc).await) }
        });
        let _ended = if is_grpc {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.serve_connection(stream, service).await
        } else {
            let server = hyper::server::conn::http1::Builder::new();
            server.serve_connection(stream, service).await
        };
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        is_grpc: bool,
    ) -> Response<BoxBody<Bytes, Infallible>> {
        let (parts, body) = request.into_parts();
        // Whose sender has gone half-way is not taken.
        let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return Response::new(Full::default().boxed());
        };
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Hangs => std::future::pending().await,
            Mood::Slow(time) => tokio::time::sleep(time).await,
            Mood::Refuses(status) => {
                return Response::builder()
                    .status(status)
                    .body(Full::default().boxed())
                    .unwrap();
            }
            Mood::Takes | Mood::LeavesOut(_) => {}
        }
        let coding = if is_grpc {
            "grpc-encoding"
        } else {
            header::CONTENT_ENCODING.as_str()
        };
        let is_gzip = parts.headers.get(coding).is_some_and(|coding| coding == "gzip");
        // gRPC frames a message: whether it is compressed, and its length.
        let message = if is_grpc { body.slice(5..) } else { body };
        let message = if is_gzip { unzipped(&message) } else { message };
        self.taken.lock().unwrap().push(Taken {
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            body: message,
        });
        // Both signals say it by the same numbers of fields.
        let message = match mood {
            Mood::LeavesOut(rejected_spans) => ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans,
                    error_message: "over quota".into(),
                }),
            }
            .encode_to_vec(),
            _ => Vec::new(),
        };
        if !is_grpc {
            return Response::new(Full::from(message).boxed());
        }
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        let mut framed = vec![0];
        framed.extend((message.len() as u32).to_be_bytes());
        framed.extend(message);
        let body = Full::from(framed)
            .with_trailers(async move { Some(Ok(trailers)) })
            .boxed();
        Response::builder()
            .header(header::CONTENT_TYPE, "application/grpc")
            .body(body)
            .unwrap()
    }

    /// All spans that came by OTLP.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.messages::<ExportTraceServiceRequest>("race");
        let resources = requests.into_iter().flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// What was said of the sender, by OTLP.
    pub(crate) fn resource(&self) -> Vec<(String, String)> {
        let requests = self.messages::<ExportTraceServiceRequest>("race");
        let resource = requests
            .into_iter()
            .flat_map(|request| request.resource_spans)
            .next();
        attributes(&resource.unwrap().resource.unwrap().attributes)
    }

    /// The newest number of a name by OTLP, summed over its series; of a histogram how many values it has.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        let last = self.messages::<ExportMetricsServiceRequest>("etrics").pop()?;
        let scopes = last
            .resource_metrics
            .into_iter()
            .flat_map(|resource| resource.scope_metrics);
        let metric = scopes
            .flat_map(|scope| scope.metrics)
            .find(|metric| metric.name == name)?;
        let value = |value: &Option<Number>| match value {
            Some(Number::AsInt(number)) => *number as f64,
            Some(Number::AsDouble(number)) => *number,
            None => f64::NAN,
        };
        Some(match metric.data? {
            Data::Sum(sum) => sum.data_points.iter().map(|point| value(&point.value)).sum(),
            Data::Gauge(gauge) => gauge.data_points.iter().map(|point| value(&point.value)).sum(),
            Data::Histogram(histogram) => histogram.data_points.iter().map(|point| point.count as f64).sum(),
            _ => return None,
        })
    }

    fn messages<M: Message + Default>(&self, path: &str) -> Vec<M> {
        let taken = self.taken();
        let wanted = taken.into_iter().filter(|taken| taken.path.contains(path));
        wanted.map(|taken| M::decode(taken.body).unwrap()).collect()
    }
}

fn unzipped(body: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(body)
        .read_to_end(&mut plain)
        .unwrap();
    plain.into()
}

/// Attributes as text, by name.
pub(crate) fn attributes(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |value: AnyValue| match value {
        AnyValue::StringValue(text) => text,
        AnyValue::IntValue(number) => number.to_string(),
        AnyValue::BoolValue(is) => is.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |attribute: &KeyValue| {
        let value = attribute.value.clone()?.value?;
        Some((attribute.key.clone(), text(value)))
    };
    attributes.iter().filter_map(pair).collect()
}

/// A `DogStatsD` that keeps the lines that it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Statsd {
    pub(crate) port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Statsd {
    /// By UDP.
    pub(crate) async fn udp() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let statsd = Self {
            port: socket.local_addr().unwrap().port(),
            lines: Arc::default(),
        };
        let lines = statsd.lines.clone();
        tokio::spawn(async move {
            let mut datagram = vec![0; 65_536];
            while let Ok(size) = socket.recv(&mut datagram).await {
                keep(&lines, &datagram[..size]);
            }
        });
        statsd
    }

    /// Over a socket in the file system.
    pub(crate) fn unix(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let statsd = Self {
            port: 0,
            lines: Arc::default(),
        };
        let lines = statsd.lines.clone();
        tokio::spawn(async move {
            let mut datagram = vec![0; 65_536];
            while let Ok(size) = socket.recv(&mut datagram).await {
                keep(&lines, &datagram[..size]);
            }
        });
        statsd
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

fn keep(lines: &Mutex<Vec<String>>, datagram: &[u8]) {
    let text = String::from_utf8_lossy(datagram);
    lines.lock().unwrap().extend(text.lines().map(str::to_owned));
}
