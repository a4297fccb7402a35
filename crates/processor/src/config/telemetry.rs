//! Where traces and metrics are sent: the variables of OpenTelemetry's specification and of Datadog's agent.

use std::time::Duration;

use url::Url;

use super::read::{ConfigError, Reader, invalid, parse_url};
use super::variables::{self as var, Variable};

/// What the program is called where nothing else is said.
const SERVICE: &str = "qurvo-processor";
/// Where an agent takes traces, and where it takes metrics, by its own presets.
const AGENT_PORTS: (&str, &str) = ("8126", "8125");

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
        let is_off = read.choice(&var::OTEL_SDK_DISABLED, &[("false", false), ("true", true)])?;
        let otlp = |signal: &Signal| {
            let otlp = OtlpConfig::read(read, signal)?;
            Ok(otlp.filter(|_| !is_off))
        };
        let host = read.optional(&var::DD_AGENT_HOST);
        let is_traced = read.choice(&var::DD_TRACE_ENABLED, &[("true", true), ("false", false)])?;
        let agent = read.agent(&var::DD_TRACE_AGENT_URL, &["http", "unix"], || {
            let port = read.optional(&var::DD_TRACE_AGENT_PORT);
            Some((
                "http",
                host.clone()?,
                port.unwrap_or_else(|| AGENT_PORTS.0.into()),
            ))
        })?;
        let statsd = read.agent(&var::DD_DOGSTATSD_URL, &["udp", "unix"], || {
            let port = read.optional(&var::DD_DOGSTATSD_PORT);
            Some(("udp", host.clone()?, port.unwrap_or_else(|| AGENT_PORTS.1.into())))
        })?;
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
        let mut others = read.pairs(&var::DD_TAGS, ':')?;
        for (name, value) in read.pairs(&var::OTEL_RESOURCE_ATTRIBUTES, '=')? {
            others.retain(|(other, _)| *other != name);
            others.push((name, value));
        }
        let mut take = |name: &str| {
            let place = others.iter().position(|(other, _)| other == name)?;
            Some(others.remove(place).1)
        };
        let named = [
            take("service.name"),
            take("service.version"),
            take("deployment.environment.name").or_else(|| take("deployment.environment")),
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
}

const TRACES: Signal = Signal {
    path: "v1/traces",
    exporter: &var::OTEL_TRACES_EXPORTER,
    endpoint: &var::OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    protocol: &var::OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    headers: &var::OTEL_EXPORTER_OTLP_TRACES_HEADERS,
    timeout: &var::OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
    compression: &var::OTEL_EXPORTER_OTLP_TRACES_COMPRESSION,
};

const METRICS: Signal = Signal {
    path: "v1/metrics",
    exporter: &var::OTEL_METRICS_EXPORTER,
    endpoint: &var::OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    protocol: &var::OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    headers: &var::OTEL_EXPORTER_OTLP_METRICS_HEADERS,
    timeout: &var::OTEL_EXPORTER_OTLP_METRICS_TIMEOUT,
    compression: &var::OTEL_EXPORTER_OTLP_METRICS_COMPRESSION,
};

impl OtlpConfig {
    fn read(read: &Reader<'_>, signal: &Signal) -> Result<Option<Self>, ConfigError> {
        const SCHEMES: &[&str] = &["http", "https"];
        let protocols = [
            ("http/protobuf", OtlpProtocol::Http),
            ("grpc", OtlpProtocol::Grpc),
        ];
        let exporters = [("otlp", true), ("none", false), ("prometheus", false)];
        let compressions = [("none", false), ("gzip", true)];
        let own = read.optional_choice(signal.protocol, &protocols)?;
        let protocol = own.unwrap_or(read.choice(&var::OTEL_EXPORTER_OTLP_PROTOCOL, &protocols)?);
        let is_sent = read.choice(signal.exporter, &exporters)?;
        let own = read.optional_choice(signal.compression, &compressions)?;
        let gzip = own.unwrap_or(read.choice(&var::OTEL_EXPORTER_OTLP_COMPRESSION, &compressions)?);
        let timeout = read.either(signal.timeout, &var::OTEL_EXPORTER_OTLP_TIMEOUT);
        let timeout = read.milliseconds(timeout)?;
        let headers = read.pairs(read.either(signal.headers, &var::OTEL_EXPORTER_OTLP_HEADERS), '=')?;
        // What names one signal is the whole address; what names the collector has a path for each.
        let url = match read.optional_url(signal.endpoint, SCHEMES)? {
            Some(url) => Some(url),
            None => read
                .optional_url(&var::OTEL_EXPORTER_OTLP_ENDPOINT, SCHEMES)?
                .map(|url| match protocol {
                    OtlpProtocol::Http => below(url, signal.path),
                    OtlpProtocol::Grpc => url,
                }),
        };
        Ok(url.filter(|_| is_sent).map(|url| Self {
            url,
            protocol,
            headers,
            timeout,
            gzip,
        }))
    }
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

impl Reader<'_> {
    /// The first of two variables that is set; the second has the preset.
    fn either<'v>(&self, own: &'v Variable, of_all: &'v Variable) -> &'v Variable {
        if self.optional(own).is_some() { own } else { of_all }
    }

    /// Pairs, comma-separated, with percent-encoded values; none where the variable is unset. Values are not repeated in
    /// the error: they may be secrets.
    fn pairs(&self, variable: &Variable, between: char) -> Result<Vec<(String, String)>, ConfigError> {
        let Some(text) = self.optional(variable) else {
            return Ok(Vec::new());
        };
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once(between)?;
            let value = percent_encoding::percent_decode_str(value.trim())
                .decode_utf8()
                .ok()?;
            let name = name.trim();
            (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
        };
        let pairs: Option<Vec<_>> = pairs.map(pair).collect();
        pairs.ok_or_else(|| {
            let accepted = format!("comma-separated pairs such as name{between}value");
            invalid(variable, "(hidden)".into(), &accepted)
        })
    }

    /// An agent's address, by its URL or by host and port.
    fn agent(
        &self,
        variable: &Variable,
        schemes: &[&str],
        by_host: impl Fn() -> Option<(&'static str, String, String)>,
    ) -> Result<Option<Url>, ConfigError> {
        if let Some(url) = self.optional_url(variable, schemes)? {
            return Ok(Some(url));
        }
        let Some((scheme, host, port)) = by_host() else {
            return Ok(None);
        };
        let host = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host
        };
        let url = format!("{scheme}://{host}:{port}");
        parse_url(&var::DD_AGENT_HOST, &url, schemes).map(Some)
    }
}
