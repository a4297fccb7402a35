//! Where traces and metrics are sent: the variables of OpenTelemetry's specification and of Datadog's agent.

use std::time::Duration;

use url::Url;

use super::read::{ConfigError, Reader, invalid, parse_url};
use super::tls::{TlsFiles, TlsVariables};
use super::variables::{self as var, Variable};

/// What the program is called where nothing else is said.
const SERVICE: &str = "qurvo-processor";
/// Where an agent takes traces, and where it takes metrics, by its own presets.
const AGENT_PORTS: (u16, u16) = (8126, 8125);

/// What is sent where, besides what the program serves itself.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryConfig {
    /// Attributes of everything that is sent.
    pub resource: Resource,
    /// Share of the traces that are sent whatever becomes of them, from 0 to 1; those with an error are sent always.
    pub sampled: f64,
    /// Spans that may wait to be sent.
    pub most_waiting_spans: usize,
    /// Spans wait for others so long.
    pub spans_interval: Duration,
    /// Between two sendings of metrics by OTLP.
    pub metrics_interval: Duration,
    /// Where traces go by OTLP.
    pub otlp_traces: Option<OtlpConfig>,
    /// Where metrics go by OTLP.
    pub otlp_metrics: Option<OtlpConfig>,
    /// Where traces go to a Datadog agent: `http://host:port`, or `unix:///path` of its socket.
    pub agent: Option<Url>,
    /// Where metrics go to a `DogStatsD`: `udp://host:port`, or `unix:///path` of its socket.
    pub statsd: Option<Url>,
}

/// Who sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The service's name.
    pub service: String,
    /// Its version: the program's own, where nothing else is said.
    pub version: String,
    /// Its environment (`staging`, `production`), if one is said.
    pub environment: Option<String>,
    /// The instance: the consumer's name.
    pub instance: String,
    /// What else was configured, by name.
    pub others: Vec<(String, String)>,
}

/// How a collector is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// The whole address of a request by HTTP; scheme, host and port by gRPC.
    pub url: Url,
    /// Which of the two.
    pub protocol: OtlpProtocol,
    /// Sent with every request; may hold a secret.
    pub headers: Vec<(String, String)>,
    /// Longest one request may take.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// How TLS is spoken where the address asks for it.
    pub tls: TlsFiles,
}

impl std::fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtlpConfig")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// OTLP's transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Protocol buffers over HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}

impl TelemetryConfig {
    pub(super) fn read(read: &Reader<'_>, consumer: &str) -> Result<Self, ConfigError> {
        let is_off = read.flag(&var::OTEL_SDK_DISABLED)?;
        let otlp = |signal: &Signal| {
            let otlp = OtlpConfig::read(read, signal)?;
            Ok(otlp.filter(|_| !is_off))
        };
        let host = read.host(&var::DD_AGENT_HOST)?;
        let ports = (
            read.port(&var::DD_TRACE_AGENT_PORT, AGENT_PORTS.0)?,
            read.port(&var::DD_DOGSTATSD_PORT, AGENT_PORTS.1)?,
        );
        let by_host = |scheme: &str, port: u16| {
            let url = host.as_ref().map(|host| format!("{scheme}://{host}:{port}"));
            url.map(|url| parse_url(&var::DD_AGENT_HOST, &url, &[scheme]))
                .transpose()
        };
        let is_traced = read.flag(&var::DD_TRACE_ENABLED)?;
        let agent = match read.optional_url(&var::DD_TRACE_AGENT_URL, &["http", "unix"])? {
            Some(url) => Some(url),
            None => by_host("http", ports.0)?,
        };
        let statsd = match read.optional_url(&var::DD_DOGSTATSD_URL, &["udp", "unix"])? {
            Some(url) => Some(url),
            None => by_host("udp", ports.1)?,
        };
        Ok(Self {
            resource: Resource::read(read, consumer)?,
            sampled: sampled(read)?,
            most_waiting_spans: read.count(&var::OTEL_BSP_MAX_QUEUE_SIZE)?,
            spans_interval: read.milliseconds(&var::OTEL_BSP_SCHEDULE_DELAY)?,
            metrics_interval: read.milliseconds(&var::OTEL_METRIC_EXPORT_INTERVAL)?,
            otlp_traces: otlp(&TRACES)?,
            otlp_metrics: otlp(&METRICS)?,
            agent: agent.filter(|_| is_traced),
            statsd,
        })
    }

    /// What is sent where, in words that may be printed; nothing is `none`.
    pub fn summary(&self) -> String {
        let otlp = |what: &str, otlp: &OtlpConfig| {
            let protocol = match otlp.protocol {
                OtlpProtocol::Http => "http/protobuf",
                OtlpProtocol::Grpc => "grpc",
            };
            format!("{what} to {} by OTLP ({protocol})", place(&otlp.url))
        };
        let all = [
            self.otlp_traces.as_ref().map(|to| otlp("traces", to)),
            self.otlp_metrics.as_ref().map(|to| otlp("metrics", to)),
            self.agent
                .as_ref()
                .map(|to| format!("traces to {} (Datadog)", place(to))),
            self.statsd
                .as_ref()
                .map(|to| format!("metrics to {} (DogStatsD)", place(to))),
        ];
        let all: Vec<String> = all.into_iter().flatten().collect();
        if all.is_empty() {
            "none".into()
        } else {
            all.join(", ")
        }
    }

    /// Whether traces are sent at all.
    pub fn has_traces(&self) -> bool {
        self.otlp_traces.is_some() || self.agent.is_some()
    }

    /// Whether metrics are sent at all.
    pub fn has_metrics(&self) -> bool {
        self.otlp_metrics.is_some() || self.statsd.is_some()
    }
}

impl Resource {
    fn read(read: &Reader<'_>, consumer: &str) -> Result<Self, ConfigError> {
        let mut others = read.tags(&var::DD_TAGS);
        for (name, value) in read.pairs(&var::OTEL_RESOURCE_ATTRIBUTES, '=')? {
            others.retain(|(other, _)| *other != name);
            others.push((name, value));
        }
        let mut take = |name: &str| {
            let place = others.iter().position(|(other, _)| other == name)?;
            Some(others.remove(place).1)
        };
        let named = [
            take("service.name").or_else(|| take("service")),
            take("service.version").or_else(|| take("version")),
            take("deployment.environment.name")
                .or_else(|| take("deployment.environment"))
                .or_else(|| take("env")),
            take("service.instance.id"),
        ];
        let [service, version, environment, instance] = named;
        let service = read
            .optional(&var::OTEL_SERVICE_NAME)
            .or_else(|| read.optional(&var::DD_SERVICE))
            .or(service);
        let version = read.optional(&var::DD_VERSION).or(version);
        Ok(Self {
            service: service.unwrap_or_else(|| SERVICE.into()),
            version: version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").into()),
            environment: read.optional(&var::DD_ENV).or(environment),
            instance: instance.unwrap_or_else(|| consumer.into()),
            others,
        })
    }
}

/// The variables of one signal, each before the one of all signals.
struct Signal {
    path: &'static str,
    exporter: &'static Variable,
    endpoint: &'static Variable,
    protocol: &'static Variable,
    headers: &'static Variable,
    timeout: &'static Variable,
    compression: &'static Variable,
    files: TlsVariables,
}

const TRACES: Signal = Signal {
    path: "v1/traces",
    exporter: &var::OTEL_TRACES_EXPORTER,
    endpoint: &var::OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    protocol: &var::OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    headers: &var::OTEL_EXPORTER_OTLP_TRACES_HEADERS,
    timeout: &var::OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
    compression: &var::OTEL_EXPORTER_OTLP_TRACES_COMPRESSION,
    files: TlsVariables {
        authorities: &var::OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE,
        certificate: &var::OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE,
        key: &var::OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY,
    },
};

const METRICS: Signal = Signal {
    path: "v1/metrics",
    exporter: &var::OTEL_METRICS_EXPORTER,
    endpoint: &var::OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    protocol: &var::OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    headers: &var::OTEL_EXPORTER_OTLP_METRICS_HEADERS,
    timeout: &var::OTEL_EXPORTER_OTLP_METRICS_TIMEOUT,
    compression: &var::OTEL_EXPORTER_OTLP_METRICS_COMPRESSION,
    files: TlsVariables {
        authorities: &var::OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE,
        certificate: &var::OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE,
        key: &var::OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY,
    },
};

impl OtlpConfig {
    fn read(read: &Reader<'_>, signal: &Signal) -> Result<Option<Self>, ConfigError> {
        let protocols = [
            ("http/protobuf", OtlpProtocol::Http),
            ("grpc", OtlpProtocol::Grpc),
        ];
        let compressions = [("none", false), ("gzip", true)];
        let own = read.optional_choice(signal.protocol, &protocols)?;
        let protocol = own.unwrap_or(read.choice(&var::OTEL_EXPORTER_OTLP_PROTOCOL, &protocols)?);
        let is_sent = read.exporters(signal.exporter)?;
        let own = read.optional_choice(signal.compression, &compressions)?;
        let gzip = own.unwrap_or(read.choice(&var::OTEL_EXPORTER_OTLP_COMPRESSION, &compressions)?);
        let timeout = read.either(signal.timeout, &var::OTEL_EXPORTER_OTLP_TIMEOUT);
        let timeout = read.milliseconds(timeout)?;
        let headers = read.headers(read.either(signal.headers, &var::OTEL_EXPORTER_OTLP_HEADERS))?;
        let files = TlsVariables {
            authorities: read.either(signal.files.authorities, &var::OTEL_EXPORTER_OTLP_CERTIFICATE),
            certificate: read.either(
                signal.files.certificate,
                &var::OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE,
            ),
            key: read.either(signal.files.key, &var::OTEL_EXPORTER_OTLP_CLIENT_KEY),
        };
        let tls = read.tls_files(&files)?;
        // What names one signal is the whole address; what names the collector has a path for each.
        let url = match read.endpoint(signal.endpoint)? {
            Some(url) => Some(url),
            None => match read.endpoint(&var::OTEL_EXPORTER_OTLP_ENDPOINT)? {
                Some(url) if is_sent && names_a_signal(&url) => {
                    let accepted = format!(
                        "the collector's address alone; a whole one belongs into {}",
                        signal.endpoint.name
                    );
                    return Err(invalid(&var::OTEL_EXPORTER_OTLP_ENDPOINT, place(&url), &accepted));
                }
                Some(url) if protocol == OtlpProtocol::Http => Some(below(url, signal.path)),
                url => url,
            },
        };
        Ok(url.filter(|_| is_sent).map(|url| Self {
            url,
            protocol,
            headers,
            timeout,
            gzip,
            tls,
        }))
    }
}

/// Whether an address is already that of one signal.
fn names_a_signal(url: &Url) -> bool {
    let path = url.path().trim_end_matches('/');
    ["/v1/traces", "/v1/metrics", "/v1/logs"]
        .iter()
        .any(|signal| path.ends_with(signal))
}

fn below(mut url: Url, path: &str) -> Url {
    let folder = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{folder}/{path}"));
    url
}

/// The head's share, by OpenTelemetry's names of samplers or by Datadog's rate.
fn sampled(read: &Reader<'_>) -> Result<f64, ConfigError> {
    let share = |variable: &Variable| {
        let Some(value) = read.optional(variable) else {
            return Ok(None);
        };
        match value.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Some(share)),
            _ => Err(invalid(variable, value, "a number from 0 to 1")),
        }
    };
    let samplers = [
        ("always_on", Some(1.0)),
        ("always_off", Some(0.0)),
        ("traceidratio", None),
        ("parentbased_always_on", Some(1.0)),
        ("parentbased_always_off", Some(0.0)),
        ("parentbased_traceidratio", None),
    ];
    let sampler = read.optional_choice(&var::OTEL_TRACES_SAMPLER, &samplers)?;
    let (argument, rate) = (
        share(&var::OTEL_TRACES_SAMPLER_ARG)?,
        share(&var::DD_TRACE_SAMPLE_RATE)?,
    );
    Ok(match sampler {
        Some(Some(fixed)) => fixed,
        Some(None) => argument.unwrap_or(1.0),
        None => rate.unwrap_or(1.0),
    })
}

/// Where something is sent, without what may be a secret.
pub fn place(url: &Url) -> String {
    if url.scheme() == "unix" {
        return format!("unix://{}", url.path());
    }
    let host = url.host_str().unwrap_or("localhost");
    match url.port_or_known_default() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}
