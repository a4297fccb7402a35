//! A private stack with our schema, workers as processes, and waiting for what must come true.

pub(crate) mod certificates;
pub(crate) mod letters;
pub(crate) mod metrics;
pub(crate) mod receivers;
pub(crate) mod redis_servers;
mod stores;
mod streams;
pub(crate) mod terminal;
pub(crate) mod tls_proxy;
mod worker;
mod world;

use std::time::{Duration, Instant};

use embedded_stack::Service;

pub(crate) use streams::{ask, entries};
pub(crate) use worker::Worker;
pub(crate) use world::World;

pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_qurvo-processor");
pub(crate) const PROJECT: &str = "11111111-1111-1111-1111-111111111111";
pub(crate) const GROUP: &str = "processor-group";
pub(crate) const STREAM: &str = "events:incoming";
pub(crate) const QUEUE: &str = "events:dlq";
pub(crate) const REJECTED: &str = "events:rejected";
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// `status`, with patience for stores on a busy machine.
pub(crate) const STATUS: [&str; 3] = ["status", "--limit", "60"];
/// The same, for programs.
pub(crate) const STATUS_JSON: [&str; 4] = ["status", "--limit", "60", "--json"];

/// Waits for a condition; fails loudly at the limit.
pub(crate) async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stops a service for a while and starts it again.
pub(crate) async fn stop_for(service: &Service, time: Duration) {
    service.stop().await.unwrap();
    tokio::time::sleep(time).await;
    service.start().await.unwrap();
}
