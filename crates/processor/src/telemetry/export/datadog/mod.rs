//! Datadog: traces to its agent, metrics to its `DogStatsD`.

pub(super) mod agent;
pub(super) mod statsd;
mod tags;
