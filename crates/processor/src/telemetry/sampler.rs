//! What is not counted where it happens but looked at: the streams, the queues, and this instance's own state.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::streams::{StreamInfoGroupsReply, StreamPendingReply};
use stream_reply::StreamId;

use crate::intake::{GROUP, Ledger};
use crate::metrics::{self, Queues, StreamState};
use crate::runtime::gate::Gate;
use crate::set_aside::Queue;
use crate::set_aside::REJECTED;
use crate::stores::{Redis, StoreError};

/// Knows where to look.
pub struct Sampler {
    /// For the streams.
    pub redis: Redis,
    /// The dead letters.
    pub dead_letters: Queue,
    /// Stream names.
    pub streams: Arc<[String]>,
    /// Shut while a store is away.
    pub gate: Arc<Gate>,
    /// What is held.
    pub ledger: Arc<Ledger>,
    /// The heartbeat file.
    pub heartbeat: PathBuf,
}

impl Sampler {
    /// Looks at this process; asks nobody.
    pub(super) fn instance(&self) {
        metrics::instance(
            self.ledger.held(),
            self.gate.is_shut(),
            age_of_file(&self.heartbeat),
        );
    }

    /// Asks Redis. What it does not answer stays as it was.
    pub(super) async fn redis(&self) {
        for asked in [self.ask_streams().await, self.ask_queues().await] {
            if let Err(error) = asked {
                tracing::debug!(%error, "the streams could not be looked at");
            }
        }
    }

    async fn ask_streams(&self) -> Result<(), StoreError> {
        let redis = &self.redis;
        let now = redis.now_ms().await?;
        for name in self.streams.iter() {
            metrics::stream(name, &stream(redis, name, now).await?);
        }
        Ok(())
    }

    async fn ask_queues(&self) -> Result<(), StoreError> {
        let redis = &self.redis;
        let now = redis.now_ms().await?;
        let oldest = self.dead_letters.oldest().await?;
        metrics::queues(&Queues {
            dead_letters: self.dead_letters.count().await?,
            oldest_s: oldest.map_or(0.0, |id| seconds_since(id, now)),
            rejected: ask(redis, redis::cmd("XLEN").arg(REJECTED).take()).await?,
            circuit_open: ask(redis, redis::cmd("EXISTS").arg("dlq:replay:circuit").take()).await?,
        });
        Ok(())
    }
}

async fn stream(redis: &Redis, name: &str, now: u64) -> Result<StreamState, StoreError> {
    let groups: StreamInfoGroupsReply =
        ask(redis, redis::cmd("XINFO").arg("GROUPS").arg(name).take()).await?;
    let pending: StreamPendingReply = ask(redis, redis::cmd("XPENDING").arg(name).arg(GROUP).take()).await?;
    let oldest = match &pending {
        StreamPendingReply::Data(data) => StreamId::parse(data.start_id.as_bytes()),
        _ => None,
    };
    let group = groups.groups.into_iter().find(|group| group.name == GROUP);
    Ok(StreamState {
        length: ask(redis, redis::cmd("XLEN").arg(name).take()).await?,
        lag: group.and_then(|group| group.lag).map(|lag| lag as u64),
        pending: pending.count() as u64,
        oldest_pending_s: oldest.map_or(0.0, |id| seconds_since(id, now)),
    })
}

async fn ask<T: redis::FromRedisValue>(redis: &Redis, command: redis::Cmd) -> Result<T, StoreError> {
    redis.ask("looking at the streams", &command).await
}

fn seconds_since(id: StreamId, now_ms: u64) -> f64 {
    now_ms.saturating_sub(id.ms) as f64 / 1000.0
}

/// As a probe sees it.
fn age_of_file(path: &Path) -> Option<f64> {
    let written = std::fs::metadata(path).and_then(|file| file.modified()).ok()?;
    Some(written.elapsed().unwrap_or_default().as_secs_f64())
}
