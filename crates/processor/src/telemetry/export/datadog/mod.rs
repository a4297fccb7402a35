//! Datadog: traces to its agent, metrics to its `DogStatsD`.

pub(super) mod agent;
mod socket;
pub(super) mod statsd;
mod tags;
