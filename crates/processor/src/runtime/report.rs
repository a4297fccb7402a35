//! What an instance is doing, written down in Redis for `status`: one field of a hash for each.
//!
//! Trouble writing it holds up nothing. A replay reads in it which stores have taken work of other instances.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::life::State;
use super::outages;
use super::streams::Streams;
use crate::stores::{Redis, Store, StoreError, script};

/// The hash: consumer name to [`Report`].
pub(super) const INSTANCES: &str = "processor:instances";

/// Reports that are this old are removed by the next instance that writes…
const FORGOTTEN: Duration = Duration::from_hours(1);
/// …and those of instances that have ended when they are this old.
pub const ENDED_SHOWN: Duration = Duration::from_mins(10);
/// How an instance that has ended begins to say so: a quotation mark within a text is escaped.
pub(super) const HAS_ENDED: &str = r#""ended":{"#;
/// How often a living instance reports at least.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// An instance is dead, or cut off from Redis, when so many reports are missing: it was alive when it wrote the last one.
pub(super) const MISSED: u32 = 3;
/// Writes a report, stamped with the server's clock, which is one for all; removes forgotten ones, and a key that is no
/// hash of reports. An instance that does not serve yet may find its name to be another's: it does not write over the
/// report of a living one that serves.
const WRITE: &str = r#"
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[6] ~= '' then
  local before = redis.call('HGET', KEYS[1], ARGV[1])
  local at = before and tonumber(string.match(before, '^{"at":(%d+)'))
  if at and now - at < tonumber(ARGV[6]) and not string.find(before, '"state":"waiting"', 1, true)
    and not string.find(before, ARGV[4], 1, true) then return end
end
redis.call('HSET', KEYS[1], ARGV[1], '{"at":' .. string.format('%.0f', now) .. ',' .. string.sub(ARGV[2], 2))
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^{"at":(%d+)'))
  local most = string.find(all[i + 1], ARGV[4], 1, true) and ARGV[5] or ARGV[3]
  if not at or now - at > tonumber(most) then redis.call('HDEL', KEYS[1], all[i]) end
end"#;

/// What an instance says about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Milliseconds since the epoch, by Redis's clock.
    #[serde(skip_serializing)]
    pub at: u64,
    /// Its loops.
    pub roles: Vec<String>,
    /// Whether it takes events off the stream.
    pub reading: Reading,
    /// Which streams; nothing where that is not its role, nor in the reports of versions that did not say it.
    #[serde(default)]
    pub streams: Option<Streams>,
    /// Since when not, if it is paused.
    pub paused_for_s: Option<u64>,
    /// What it does; nothing in the reports of versions that did not say it.
    #[serde(default)]
    pub state: Option<State>,
    /// Stores that have used up their presets and do not answer yet; before it serves, all that have not answered.
    pub stores_away: Vec<String>,
    /// What an operator has to do, by the store that is away for a reason that no waiting mends.
    #[serde(default)]
    pub needs_operator: BTreeMap<String, String>,
    /// For how many seconds a store has left requests without an answer, by the store.
    #[serde(default)]
    pub unanswered_s: BTreeMap<String, u64>,
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
    /// How it works; one that does not serve yet does not say, nor do older versions.
    #[serde(default)]
    pub work: Option<Work>,
    /// How it ended, if it has: the last thing that it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How an instance works.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Since it began.
    pub up_s: u64,
    /// Events that it may hold.
    pub room: usize,
    /// Events that it has settled since it began…
    pub settled: u64,
    /// …and lately, a second.
    pub settled_per_s: f64,
    /// The share of the time, lately, that each stage worked: 0 to 1. `full` is no stage: the reader waited meanwhile because
    /// no more may be held.
    pub shares: BTreeMap<String, f64>,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Entries that it held and did not settle: they stay pending for others.
    pub left_pending: usize,
    /// Whether it ended because something failed.
    pub failed: bool,
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

/// What an operator has to do, by the store that is away for a reason that no waiting mends.
pub fn needs_operator() -> BTreeMap<String, String> {
    let away = outages::away().into_iter();
    away.filter_map(|outage| Some((outage.store.to_owned(), outage.advice?.to_owned())))
        .collect()
}

/// For how many seconds a store has left requests without an answer, by the store.
pub fn unanswered_s() -> BTreeMap<String, u64> {
    let silent = outages::unanswered().into_iter();
    silent
        .map(|(store, since)| (store.to_owned(), since.elapsed().as_secs()))
        .collect()
}

impl Report {
    /// Writes it for the instance of this name.
    ///
    /// # Errors
    /// Redis's.
    pub async fn write(&self, redis: &Redis, name: &str) -> Result<(), StoreError> {
        let during = "writing the instance's report";
        let report = serde_json::to_string(self)
            .map_err(|error| StoreError::poison(Store::Redis, during, error.to_string()))?;
        let mut write = script(WRITE, &[INSTANCES]);
        write.arg(name).arg(report).arg(FORGOTTEN.as_millis() as u64);
        write.arg(HAS_ENDED).arg(ENDED_SHOWN.as_millis() as u64);
        let yields = self.work.is_none();
        let living = (INTERVAL * MISSED).as_millis().to_string();
        write.arg(if yields { living.as_str() } else { "" });
        redis.ask(during, &write).await
    }
}
