//! What an instance is doing, written down in Redis for whoever runs `status`: one field of a hash for each.
//!
//! Trouble writing it holds nobody up. A replay reads in it which stores have taken work of other instances.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::pulse::Pulse;
use super::retry;
use crate::cohorts::Progress;
use crate::intake::Ledger;
use crate::stores::{RedisConnection, StoreError};

/// The hash: consumer name to [`Report`].
pub const INSTANCES: &str = "processor:instances";

/// How often a report is written, changes aside.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked whether reading was paused or goes on.
const LOOK: Duration = Duration::from_secs(1);
/// Reports that are this old are removed by whoever writes.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// Longest that one writing takes by the connection's own time-outs.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// Writes a report, stamped with the server's clock, which is one for all; removes forgotten ones, and a key that is no
/// hash of reports.
const WRITE: &str = r#"
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], '{"at":' .. string.format('%.0f', now) .. ',' .. string.sub(ARGV[2], 2))
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^{"at":(%d+)'))
  if not at or now - at > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
end"#;

/// What an instance says about itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Milliseconds since the epoch, by Redis's clock.
    #[serde(skip_serializing)]
    pub at: u64,
    /// Its loops.
    pub roles: Vec<String>,
    /// Whether it takes events off the stream.
    pub reading: Reading,
    /// Since when not, if it is paused.
    pub paused_for_s: Option<u64>,
    /// Stores that have used up their presets and do not answer yet.
    pub stores_away: Vec<String>,
    /// Events in memory.
    pub held_events: usize,
    /// Their bytes.
    pub held_bytes: usize,
    /// How often PostgreSQL and ClickHouse have taken work of the stream's from this process.
    #[serde(default)]
    pub taken: [u64; 2],
    /// The program's version.
    pub version: String,
    /// The run over cohorts that is going on here.
    pub cohorts: Option<CohortProgress>,
}

/// Whether events are taken off the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// They are.
    On,
    /// A store is away.
    Paused,
    /// It is not this instance's role.
    Off,
}

/// How far a run over cohorts is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CohortProgress {
    /// Cohorts to compute.
    pub total: u64,
    /// Of them, dealt with.
    pub done: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Since its begin.
    pub running_for_s: u64,
}

impl CohortProgress {
    fn of(progress: &Progress) -> Option<Self> {
        let now = jiff::Timestamp::now().as_millisecond().max(0).cast_unsigned();
        (progress.total() > 0).then(|| Self {
            total: progress.total(),
            done: progress.done(),
            failed: progress.failed(),
            running_for_s: now.saturating_sub(progress.started_at_ms()) / 1000,
        })
    }
}

/// Reports on one instance.
pub struct Reporter {
    /// Where to.
    pub redis: RedisConnection,
    /// The consumer's name.
    pub name: String,
    /// Names of its loops.
    pub roles: Vec<String>,
    /// Whether it takes events off the stream at all.
    pub reads: bool,
    /// Shut while a store is away.
    pub gate: Arc<Gate>,
    /// What is held.
    pub ledger: Arc<Ledger>,
    /// The run over cohorts, if there is one.
    pub cohorts: Progress,
    /// Its sign of life.
    pub pulse: Pulse,
}

impl Reporter {
    /// Reports until `stop`: every few seconds, and at once when reading is paused or goes on.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut paused_since = None;
        let mut last: Option<(Instant, bool)> = None;
        loop {
            tokio::select! { () = stop.cancelled() => return, _ = ticks.tick() => {} }
            self.pulse.beat();
            let paused = self.gate.is_shut();
            paused_since = paused.then(|| paused_since.unwrap_or_else(Instant::now));
            if last.is_some_and(|(at, was)| was == paused && at.elapsed() < INTERVAL) {
                continue;
            }
            last = Some((Instant::now(), paused));
            self.pulse.alive_for(WRITE_LIMIT);
            tokio::select! {
                () = stop.cancelled() => return,
                written = self.write(paused_since) => if let Err(error) = written {
                    tracing::debug!(%error, "the instance's report could not be written");
                }
            }
            self.pulse.operation_ended();
        }
    }

    fn report(&self, paused_since: Option<Instant>) -> Report {
        let (held_events, held_bytes) = self.ledger.held();
        Report {
            at: 0,
            roles: self.roles.clone(),
            reading: match (self.reads, paused_since) {
                (false, _) => Reading::Off,
                (true, Some(_)) => Reading::Paused,
                (true, None) => Reading::On,
            },
            paused_for_s: paused_since.map(|since| since.elapsed().as_secs()),
            stores_away: retry::away().into_iter().map(str::to_owned).collect(),
            held_events,
            held_bytes,
            taken: self.gate.times_taken(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cohorts: CohortProgress::of(&self.cohorts),
        }
    }

    async fn write(&self, paused_since: Option<Instant>) -> Result<(), StoreError> {
        let during = "writing the instance's report";
        let report = serde_json::to_string(&self.report(paused_since)).map_err(|error| {
            StoreError::new(
                crate::stores::Store::Redis,
                during,
                true,
                String::new(),
                error.to_string(),
            )
        })?;
        redis::cmd("EVAL")
            .arg(WRITE)
            .arg(1)
            .arg(INSTANCES)
            .arg(&self.name)
            .arg(report)
            .arg(FORGOTTEN.as_millis() as u64)
            .query_async(&mut self.redis.clone())
            .await
            .map_err(|error| StoreError::redis(during, &error))
    }
}

/// What the stores have taken from each instance, by its name.
///
/// # Errors
/// Redis's.
pub async fn taken(redis: &mut RedisConnection) -> Result<HashMap<String, [u64; 2]>, StoreError> {
    let reports: HashMap<String, String> = redis::cmd("HGETALL")
        .arg(INSTANCES)
        .query_async(redis)
        .await
        .map_err(|error| StoreError::redis("reading the instances' reports", &error))?;
    let of = |(name, report): (String, String)| {
        let report: Report = serde_json::from_str(&report).ok()?;
        Some((name, report.taken))
    };
    Ok(reports.into_iter().filter_map(of).collect())
}

/// Takes back the report of an instance that has ended as it should.
pub async fn remove(redis: &mut RedisConnection, name: &str) {
    let removed = redis::cmd("HDEL")
        .arg(&[INSTANCES, name])
        .query_async::<()>(redis)
        .await;
    if let Err(error) = removed {
        tracing::debug!(%error, "the instance's report could not be removed");
    }
}
