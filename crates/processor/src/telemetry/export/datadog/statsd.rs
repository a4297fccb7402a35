//! Metrics to a `DogStatsD`, by datagrams. What changed since the last time is sent: counts as they grew, gauges as they are,
//! and of each bucket of a histogram its mean as often as it was met, so that sums and averages are exact and percentiles
//! right within a bucket.
//!
//! Names are those of Prometheus with dots, below `qurvo.processor.`; besides, the platform's own names for the same numbers
//! ("Metrics" in docs/telemetry.md).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::trouble::{Trouble, dropped};
use super::socket::Socket;
use super::tags::tags;
use crate::config::{Resource, place};
use crate::metrics::registry::{self, Bucket, Family, Series, Value};
use crate::metrics::{self, PLATFORM_NAMES, PREFIX, PlatformName, Sent};

/// How often. A `DogStatsD` makes points of ten seconds.
const INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of a datagram that passes every network whole, and of one within a machine.
const LARGEST: (usize, usize) = (1_432, 8_192);
/// Before our own names and the platform's.
const PROGRAM: &str = "qurvo.processor.";
/// How names of moments end.
const MOMENT: &str = "_timestamp_seconds";
/// What it is called in metrics and log lines.
const DESTINATION: &str = "dogstatsd";

/// Sends what changed until it has to stop; then once more.
pub(in super::super) async fn send(address: Url, resource: Resource, stop: CancellationToken) {
    let mut trouble = Trouble::new(DESTINATION, "metrics", place(&address));
    let tags = tags(&resource);
    let (mut before, mut socket) = (Before::default(), Socket::to(&address));
    let mut is_last = false;
    while !is_last {
        tokio::select! {
            () = stop.cancelled() => is_last = true,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let lines = before.lines(&registry::snapshot(), &tags);
        let largest = if address.scheme() == "unix" {
            LARGEST.1
        } else {
            LARGEST.0
        };
        let mut lost = 0;
        let ready = socket.ready().await;
        for datagram in datagrams(&lines, largest) {
            let sent = match &ready {
                Ok(()) => socket
                    .send(datagram.as_bytes())
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = sent {
                trouble.failed(&error);
                lost += datagram.lines().count();
            }
        }
        if lost == 0 {
            trouble.succeeded();
        } else {
            dropped(DESTINATION, "metrics", lost);
        }
        metrics::telemetry_sent(DESTINATION, "metrics", lines.len() - lost);
    }
}

/// Lines packed into datagrams.
fn datagrams(lines: &[String], largest: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in lines {
        match all.last_mut() {
            Some(last) if last.len() + 1 + line.len() <= largest => {
                last.push('\n');
                last.push_str(line);
            }
            _ => all.push(line.clone()),
        }
    }
    all
}

/// What was sent before, so that only what came since is sent.
#[derive(Debug, Default)]
struct Before(BTreeMap<Name, Value>);

/// A series: its metric's name and its labels.
type Name = (&'static str, Vec<(String, String)>);

impl Before {
    fn lines(&mut self, families: &[Family], tags: &[(String, String)]) -> Vec<String> {
        let mut lines = Vec::new();
        for family in families {
            let name = family.metric.name;
            let own = own_name(name);
            let mut since = Vec::new();
            for series in &family.series {
                let value = as_age(name, self.since(name, series));
                write(&mut lines, &own, &value, ('d', 1.0), &series.labels, tags);
                since.push((series, value));
            }
            let names = PLATFORM_NAMES.iter().filter(|platform| platform.metric == name);
            for platform in names {
                platform_lines(&mut lines, platform, &since, tags);
            }
        }
        lines
    }

    /// What a series says more than the last time.
    fn since(&mut self, name: &'static str, series: &Series) -> Value {
        let key = (name, series.labels.clone());
        let before = self.0.insert(key, series.value.clone());
        match (&series.value, before) {
            (Value::Counter(now), Some(Value::Counter(then))) => Value::Counter((now - then).max(0.0)),
            (Value::Histogram { bounds, buckets: now }, Some(Value::Histogram { buckets: then, .. })) => {
                let more = now.iter().zip(then).map(|(now, then)| Bucket {
                    count: now.count.saturating_sub(then.count),
                    sum: now.sum - then.sum,
                });
                Value::Histogram {
                    bounds,
                    buckets: more.collect(),
                }
            }
            (value, _) => value.clone(),
        }
    }
}

/// Moments are sent as ages: nothing there knows what time it is.
fn own_name(name: &str) -> String {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    match name.strip_suffix(MOMENT) {
        Some(name) => format!("{PROGRAM}{name}_age_seconds"),
        None => format!("{PROGRAM}{name}"),
    }
}

fn as_age(name: &str, value: Value) -> Value {
    match value {
        Value::Gauge(moment) if name.ends_with(MOMENT) => {
            let now = jiff::Timestamp::now().as_millisecond() as f64 / 1_000.0;
            Value::Gauge((now - moment).max(0.0))
        }
        value => value,
    }
}

/// The same numbers by the platform's name.
fn platform_lines(
    lines: &mut Vec<String>,
    platform: &PlatformName,
    series: &[(&Series, Value)],
    tags: &[(String, String)],
) {
    let name = format!("{PROGRAM}{}", platform.name);
    let wanted = series.iter().filter(|(series, _)| {
        platform
            .only
            .iter()
            .all(|(label, value)| series.labels.iter().any(|(l, v)| l == label && v == value))
    });
    match platform.sent {
        Sent::Each { reasons } => {
            for (series, value) in wanted {
                let labels: Vec<(String, String)> = series
                    .labels
                    .iter()
                    .filter(|(label, _)| label == "reason")
                    .map(|(label, value)| {
                        let known = reasons.iter().find(|(ours, _)| ours == value);
                        (
                            label.clone(),
                            known.map_or_else(|| value.clone(), |(_, theirs)| (*theirs).to_owned()),
                        )
                    })
                    .collect();
                write(lines, &name, value, ('d', 1.0), &labels, tags);
            }
        }
        Sent::Milliseconds => {
            for (_, value) in wanted {
                write(lines, &name, value, ('m', 1_000.0), &[], tags);
            }
        }
        Sent::Sum | Sent::Highest => {
            let gauges = wanted.filter_map(|(_, value)| match value {
                Value::Gauge(number) => Some(*number),
                _ => None,
            });
            let all = if platform.sent == Sent::Sum {
                gauges.reduce(|a, b| a + b)
            } else {
                gauges.reduce(f64::max)
            };
            if let Some(all) = all {
                write(lines, &name, &Value::Gauge(all), ('d', 1.0), &[], tags);
            }
        }
    }
}

/// `spread` says what a histogram becomes (`d` a distribution, `m` a timing), and what its values are multiplied by.
fn write(
    lines: &mut Vec<String>,
    name: &str,
    value: &Value,
    (spread, times): (char, f64),
    labels: &[(String, String)],
    tags: &[(String, String)],
) {
    let behind = tags_of(labels, tags);
    match value {
        // A count that did not grow says nothing, but that it is there: dashboards want to know of it.
        Value::Counter(more) => lines.push(format!("{name}:{more}|c{behind}")),
        Value::Gauge(number) => lines.push(format!("{name}:{number}|g{behind}")),
        Value::Histogram { buckets, .. } => {
            let kind = if spread == 'm' { "ms" } else { "d" };
            for bucket in buckets.iter().filter(|bucket| bucket.count > 0) {
                let mean = bucket.sum / bucket.count as f64 * times;
                let rate = rate(bucket.count);
                lines.push(format!("{name}:{mean}|{kind}{rate}{behind}"));
            }
        }
    }
}

/// Says that a value stands for so many. A `DogStatsD` counts one over the rate, without what is behind the point.
fn rate(count: u64) -> String {
    if count == 1 {
        return String::new();
    }
    let mut rate = 1.0 / count as f64;
    while ((1.0 / rate) as u64) < count {
        rate = rate.next_down();
    }
    format!("|@{rate}")
}

fn tags_of(labels: &[(String, String)], tags: &[(String, String)]) -> String {
    let is_said = |name: &str| labels.iter().any(|(label, _)| label == name);
    let tags = tags.iter().filter(|(name, _)| !is_said(name));
    let all: Vec<String> = labels
        .iter()
        .chain(tags)
        .map(|(name, value)| match value.as_str() {
            "" => name.clone(),
            value => format!("{name}:{}", tag(value)),
        })
        .collect();
    if all.is_empty() {
        String::new()
    } else {
        format!("|#{}", all.join(","))
    }
}

/// A tag's value without what ends it.
fn tag(value: &str) -> String {
    value.replace([',', '|', '\n', '#'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::METRICS;

    fn family(name: &str, series: &[(&[(&str, &str)], Value)]) -> Family {
        let owned = |labels: &[(&str, &str)]| {
            let pairs = labels.iter();
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        Family {
            metric: METRICS.iter().find(|metric| metric.name == name).unwrap(),
            series: series
                .iter()
                .map(|(labels, value)| Series {
                    labels: owned(labels),
                    value: value.clone(),
                })
                .collect(),
        }
    }

    fn histogram(buckets: &[(u64, f64)]) -> Value {
        let buckets = buckets.iter().map(|(count, sum)| Bucket {
            count: *count,
            sum: *sum,
        });
        Value::Histogram {
            bounds: &[1.0],
            buckets: buckets.collect(),
        }
    }

    #[test]
    fn a_count_is_sent_as_it_grew_also_by_the_platforms_name_and_reason() {
        let mut before = Before::default();
        let told = |n: f64| {
            let reason: &[(&str, &str)] = &[("reason", "clickhouse_unavailable")];
            family(
                "qurvo_processor_dead_letters_added_total",
                &[(reason, Value::Counter(n))],
            )
        };
        let tags = [("env".to_owned(), "a,b|c".to_owned())];
        let first = before.lines(&[told(3.0)], &tags);
        assert_eq!(
            first,
            [
                "qurvo.processor.dead_letters_added_total:3|c|#reason:clickhouse_unavailable,env:a_b_c",
                "qurvo.processor.events_failed_total:3|c|#reason:clickhouse_insert,env:a_b_c",
            ]
        );
        assert!(before.lines(&[told(5.0)], &[])[0].contains(":2|c|"));
    }

    #[test]
    fn of_a_histogram_each_bucket_is_sent_by_its_mean_as_often_as_it_was_met() {
        let mut before = Before::default();
        let labels: &[(&str, &str)] = &[("operation", "inserting events"), ("store", "clickhouse")];
        let told = |buckets: &[(u64, f64)]| {
            family(
                "qurvo_processor_store_operation_duration_seconds",
                &[(labels, histogram(buckets))],
            )
        };
        let first = before.lines(&[told(&[(1, 0.5), (0, 0.0)])], &[]);
        let name = "qurvo.processor.store_operation_duration_seconds";
        let behind = "|#operation:inserting events,store:clickhouse";
        assert_eq!(first[0], format!("{name}:0.5|d{behind}"));
        assert_eq!(first[1], "qurvo.processor.batch_flush_duration_ms:500|ms");
        let second = before.lines(&[told(&[(1, 0.5), (4, 10.0)])], &[]);
        assert_eq!(second[0], format!("{name}:2.5|d|@0.25{behind}"));
        assert_eq!(second[1], "qurvo.processor.batch_flush_duration_ms:2500|ms|@0.25");
        assert_eq!(second.len(), 2);
    }

    #[test]
    fn a_rate_says_exactly_how_many_a_value_stands_for() {
        for count in 2..20_000u64 {
            let rate: f64 = rate(count)[2..].parse().unwrap();
            assert_eq!((1.0 / rate) as u64, count, "{rate}");
        }
    }

    #[test]
    fn one_gauge_of_the_platform_stands_for_all_series() {
        let gauge = Value::Gauge;
        let streams = family(
            "qurvo_processor_stream_pending_entries",
            &[(&[("stream", "a")], gauge(2.0)), (&[("stream", "b")], gauge(3.0))],
        );
        let stores = family(
            "qurvo_processor_attempts_failed_in_a_row",
            &[
                (&[("store", "redis")], gauge(1.0)),
                (&[("store", "clickhouse")], gauge(4.0)),
            ],
        );
        let lines = Before::default().lines(&[streams, stores], &[]);
        assert!(
            lines.contains(&"qurvo.processor.pel_size:5|g".to_owned()),
            "{lines:?}"
        );
        assert!(
            lines.contains(&"qurvo.processor.consecutive_errors:4|g".to_owned()),
            "{lines:?}"
        );
    }

    #[test]
    fn lines_are_packed_whole_into_datagrams() {
        let lines = ["aaaa", "bbbb", "cccc"].map(str::to_owned);
        assert_eq!(datagrams(&lines, 9), ["aaaa\nbbbb", "cccc"]);
        assert_eq!(datagrams(&lines, 3), lines, "a line is never cut");
    }
}
