//! Metrics to a `DogStatsD`, by datagrams. What changed since the last time is sent: counts as they grew, gauges as they are,
//! and of each bucket of a histogram its mean as often as it was met, so that sums and averages are exact and percentiles
//! right within a bucket.
//!
//! Names are those of Prometheus with dots, below `qurvo.processor.`; besides, the platform's own names for the same numbers
//! ("Numbers" in docs/telemetry.md).

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::net::{UdpSocket, UnixDatagram, lookup_host};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::trouble::{Trouble, dropped};
use super::tags::tags;
use crate::config::Resource;
use crate::metrics::registry::{self, Bucket, Family, Series, Value};
use crate::metrics::{self, PLATFORM_NAMES, PREFIX, PlatformName, Sent};

/// How often. A `DogStatsD` makes points of ten seconds.
const INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of a datagram that passes every network whole, and of one within a machine.
const LARGEST: (usize, usize) = (1_432, 8_192);
/// Longest that a name is looked up.
const LOOK_UP: Duration = Duration::from_secs(2);
/// Before our own names and the platform's.
const PROGRAM: &str = "qurvo.processor.";
/// What it is called in metrics and log lines.
const DESTINATION: &str = "dogstatsd";

/// Sends what changed until it has to stop; then once more.
pub(in super::super) async fn send(address: Url, resource: Resource, stop: CancellationToken) {
    let mut trouble = Trouble::new(DESTINATION, "metrics");
    let tags = tags(&resource);
    let (mut before, mut socket) = (Before::default(), None);
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
        for datagram in datagrams(&lines, largest) {
            if let Err(error) = send_one(&mut socket, &address, datagram.as_bytes()).await {
                socket = None;
                trouble.failed(&error.to_string());
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

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// Never waits for the receiver: a datagram that finds no room is lost.
async fn send_one(socket: &mut Option<Socket>, address: &Url, datagram: &[u8]) -> io::Result<()> {
    if socket.is_none() {
        *socket = Some(open(address).await?);
    }
    match socket {
        Some(Socket::Udp(socket)) => socket.try_send(datagram).map(drop),
        Some(Socket::Unix(socket)) => socket.try_send(datagram).map(drop),
        None => Ok(()),
    }
}

async fn open(address: &Url) -> io::Result<Socket> {
    if address.scheme() == "unix" {
        let socket = UnixDatagram::unbound()?;
        socket.connect(address.path())?;
        socket.writable().await?;
        return Ok(Socket::Unix(socket));
    }
    let host = address.host_str().unwrap_or("localhost").trim_matches(['[', ']']);
    let found = tokio::time::timeout(LOOK_UP, lookup_host((host, address.port().unwrap_or(8125)))).await??;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for to in found {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(to).await {
            Ok(()) => {
                socket.writable().await?;
                return Ok(Socket::Udp(socket));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
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
            let own = format!("{PROGRAM}{}", name.strip_prefix(PREFIX).unwrap_or(name));
            let mut since = Vec::new();
            for series in &family.series {
                let value = self.since(name, series);
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
            (Value::Counter(now), Some(Value::Counter(then))) => Value::Counter(now.saturating_sub(then)),
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
                let rate = if bucket.count > 1 {
                    format!("|@{}", 1.0 / bucket.count as f64)
                } else {
                    String::new()
                };
                lines.push(format!("{name}:{mean}|{kind}{rate}{behind}"));
            }
        }
    }
}

fn tags_of(labels: &[(String, String)], tags: &[(String, String)]) -> String {
    let all: Vec<String> = labels
        .iter()
        .chain(tags)
        .map(|(name, value)| format!("{name}:{}", tag(value)))
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
