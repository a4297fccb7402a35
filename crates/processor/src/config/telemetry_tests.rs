//! How it is said where traces and metrics go.

use super::Config;
use super::telemetry::{OtlpConfig, OtlpProtocol, Resource, TelemetryConfig};

fn telemetry(pairs: &[(&str, &str)]) -> Result<TelemetryConfig, String> {
    let look_up = |name: &str| {
        let found = pairs.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let config = Config::from_lookup(&look_up);
    config
        .map(|config| config.telemetry)
        .map_err(|error| error.to_string())
}

#[test]
fn nothing_is_sent_anywhere_unless_a_variable_says_where() {
    let unset = telemetry(&[]).unwrap();
    assert!(!unset.has_traces() && !unset.has_metrics());
    let nowhere = telemetry(&[("DD_SERVICE", "s"), ("OTEL_SERVICE_NAME", "s")]).unwrap();
    assert!(!nowhere.has_traces() && !nowhere.has_metrics());
    let off = telemetry(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("OTEL_SDK_DISABLED", "true"),
    ]);
    assert!(!off.unwrap().has_traces());
}

#[test]
fn one_endpoint_is_that_of_both_signals_and_a_signals_own_is_taken_as_it_is() {
    let both = telemetry(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/otlp/")]).unwrap();
    let prometheus = telemetry(&[(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://prometheus:9090/api/v1/otlp",
    )])
    .unwrap();
    let whole = prometheus.otlp_metrics.unwrap().url;
    assert_eq!(whole.as_str(), "http://prometheus:9090/api/v1/otlp/v1/metrics");
    let url = |otlp: Option<OtlpConfig>| otlp.map(|otlp| otlp.url.to_string()).unwrap_or_default();
    assert_eq!(url(both.otlp_traces), "http://collector:4318/otlp/v1/traces");
    assert_eq!(url(both.otlp_metrics), "http://collector:4318/otlp/v1/metrics");
    let own = telemetry(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "https://m.example/api/metrics",
        ),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "500"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b,x=1"),
        ("OTEL_TRACES_EXPORTER", "otlp"),
    ])
    .unwrap();
    let (traces, metrics) = (own.otlp_traces.unwrap(), own.otlp_metrics.unwrap());
    assert_eq!((traces.url.path(), traces.protocol), ("/", OtlpProtocol::Grpc));
    assert_eq!(metrics.url.as_str(), "https://m.example/api/metrics");
    assert_eq!(metrics.protocol, OtlpProtocol::Http);
    assert_eq!(
        (traces.timeout.as_millis(), metrics.timeout.as_millis()),
        (10_000, 500)
    );
    let sent = [("api-key", "a b"), ("x", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(traces.headers, sent);
    assert!(!format!("{traces:?}").contains("a b"), "a header may be a secret");
}

#[test]
fn an_agent_is_named_by_its_host_or_by_urls() {
    let named = telemetry(&[("DD_AGENT_HOST", "10.0.0.7"), ("DD_DOGSTATSD_PORT", "9125")]).unwrap();
    assert_eq!(named.agent.unwrap().as_str(), "http://10.0.0.7:8126/");
    assert_eq!(named.statsd.unwrap().as_str(), "udp://10.0.0.7:9125");
    let six = telemetry(&[("DD_AGENT_HOST", "fd00::7"), ("DD_TRACE_ENABLED", "false")]).unwrap();
    assert!(six.agent.is_none());
    assert_eq!(six.statsd.unwrap().as_str(), "udp://[fd00::7]:8125");
    let socket = "unix:///var/run/datadog/dsd.socket";
    let sockets = telemetry(&[("DD_DOGSTATSD_URL", socket)]).unwrap();
    assert_eq!(sockets.statsd.unwrap().path(), "/var/run/datadog/dsd.socket");
    assert!(sockets.agent.is_none());
}

#[test]
fn who_sends_is_said_in_either_convention() {
    let said = telemetry(&[
        ("PROCESSOR_CONSUMER_NAME", "worker-7"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=a,team=data,deployment.environment.name=staging",
        ),
        ("DD_TAGS", "team:other,tier:2"),
        ("DD_ENV", "prod"),
    ])
    .unwrap()
    .resource;
    let Resource {
        service,
        version,
        environment,
        instance,
        others,
    } = said;
    assert_eq!((service.as_str(), instance.as_str()), ("a", "worker-7"));
    assert_eq!(
        (version.as_str(), environment.as_deref()),
        (env!("CARGO_PKG_VERSION"), Some("prod"))
    );
    let pairs = [("tier", "2"), ("team", "data")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(others, pairs);
}

#[test]
fn the_share_of_traces_is_said_in_either_convention() {
    let share = |pairs: &[(&str, &str)]| telemetry(pairs).map(|telemetry| telemetry.sampled);
    assert_eq!(share(&[]), Ok(1.0));
    assert_eq!(share(&[("DD_TRACE_SAMPLE_RATE", "0.1")]), Ok(0.1));
    let ratio = [
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ];
    assert_eq!(share(&ratio), Ok(0.25));
    assert_eq!(
        share(&[
            ("OTEL_TRACES_SAMPLER", "always_off"),
            ("DD_TRACE_SAMPLE_RATE", "1")
        ]),
        Ok(0.0)
    );
    let wrong = share(&[("DD_TRACE_SAMPLE_RATE", "2")]).unwrap_err();
    assert!(
        wrong.contains("DD_TRACE_SAMPLE_RATE=2") && wrong.contains("0 to 1"),
        "{wrong}"
    );
}

#[test]
fn a_secret_in_a_header_that_is_refused_is_not_repeated() {
    let wrong = telemetry(&[("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")]).unwrap_err();
    assert!(
        wrong.contains("OTEL_EXPORTER_OTLP_HEADERS") && !wrong.contains("hunter2"),
        "{wrong}"
    );
}

#[test]
fn words_are_read_as_both_conventions_have_them() {
    let off = telemetry(&[
        ("DD_AGENT_HOST", "agent"),
        ("DD_TRACE_ENABLED", "0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_METRICS_EXPORTER", "prometheus,otlp"),
    ])
    .unwrap();
    assert!(off.agent.is_none() && off.otlp_traces.is_none());
    assert!(off.statsd.is_some() && off.otlp_metrics.is_some());
    assert!(
        !telemetry(&[
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c")
        ])
        .unwrap()
        .has_traces()
    );
    let tagged = telemetry(&[("DD_TAGS", "team:data env:prod,canary")])
        .unwrap()
        .resource;
    assert_eq!(tagged.environment.as_deref(), Some("prod"));
    let others = [("team", "data"), ("canary", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(tagged.others, others);
}

#[test]
fn a_value_that_is_wrong_is_told_of_its_own_variable_with_what_is_accepted() {
    for (name, value, told) in [
        (
            "DD_DOGSTATSD_PORT",
            "abc",
            "DD_DOGSTATSD_PORT=abc is not accepted: expected a port",
        ),
        (
            "DD_TRACE_AGENT_PORT",
            "99999",
            "DD_TRACE_AGENT_PORT=99999 is not accepted: expected a port",
        ),
        (
            "DD_AGENT_HOST",
            "bad host",
            "DD_AGENT_HOST=bad host is not accepted: expected a host",
        ),
        ("DD_AGENT_HOST", "10.0.0.7:8126", "without port"),
        (
            "DD_AGENT_HOST",
            "http://10.0.0.7",
            "DD_AGENT_HOST=http://10.0.0.7",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "collector:4318",
            "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://c:4318/v1/traces",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
        (
            "OTEL_TRACES_EXPORTER",
            "oltp",
            "OTEL_TRACES_EXPORTER=oltp is not accepted: expected otlp or none",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/protobuf, grpc"),
    ] {
        let said = telemetry(&[(name, value)]).unwrap_err();
        assert!(said.contains(told), "{said}");
    }
}

#[test]
fn a_secret_in_front_of_the_first_equals_sign_is_not_repeated() {
    let forgotten = [(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Authorization: Bearer s3cretT0ken==",
    )];
    let said = telemetry(&forgotten).unwrap_err();
    assert!(
        said.contains("OTEL_EXPORTER_OTLP_HEADERS") && !said.contains("s3cret"),
        "{said}"
    );
    let said = telemetry(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://u:s3cret@c")]).unwrap_err();
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn what_is_sent_where_is_told_without_secrets() {
    let all = telemetry(&[
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "https://u:s3cret@collector/otlp?key=s3cret",
        ),
        ("DD_AGENT_HOST", "fd00::7"),
        ("DD_DOGSTATSD_URL", "unix:///run/dsd.sock"),
    ])
    .unwrap();
    assert_eq!(
        all.summary(),
        "traces to https://collector:443 by OTLP (http/protobuf), metrics to https://collector:443 by OTLP (http/protobuf), \
         traces to http://[fd00::7]:8126 (Datadog), metrics to unix:///run/dsd.sock (DogStatsD)"
    );
    assert_eq!(telemetry(&[]).unwrap().summary(), "none");
}
