//! What an instance is doing, written down in Redis for `status`: one field of a hash for each.
//!
//! Trouble writing it holds up nothing. A replay reads in it which stores have taken work of other instances.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::life::State;
use super::outages;
use crate::stores::{Redis, Store, StoreError, script};

/// The hash: consumer name to [`Report`].
const INSTANCES: &str = "processor:instances";

/// Reports that are this old are removed by the next instance that writes.
const FORGOTTEN: Duration = Duration::from_hours(1);
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
        redis.ask(during, &write).await
    }
}

/// What is known of an instance.
#[derive(Debug)]
pub struct Instance {
    /// When it last reported, in milliseconds since the epoch by Redis's clock, as far as the report says so.
    pub at: Option<u64>,
    /// What it said then; nothing when the report has another version's form.
    pub report: Option<Report>,
}

/// All instances, by name.
///
/// # Errors
/// Redis's.
pub async fn all(redis: &Redis) -> Result<BTreeMap<String, Instance>, StoreError> {
    let mut read = redis::cmd("HGETALL");
    read.arg(INSTANCES);
    let reports: BTreeMap<String, String> = redis
        .ask_of("reading the instances", (INSTANCES, "hash"), &read)
        .await?;
    let instances = reports
        .into_iter()
        .map(|(name, text)| (name, Instance::of(&text)));
    Ok(instances.collect())
}

impl Instance {
    fn of(text: &str) -> Self {
        let report = serde_json::from_str::<Report>(text).ok();
        // Of a report in another form the time may still be where it always was.
        let at = || serde_json::from_str::<Value>(text).ok()?.get("at")?.as_u64();
        Self {
            at: report.as_ref().map(|report| report.at).or_else(at),
            report,
        }
    }
}

/// What the stores have taken from each instance, by its name.
///
/// # Errors
/// Redis's.
pub async fn taken(redis: &Redis) -> Result<HashMap<String, [u64; 2]>, StoreError> {
    let instances = all(redis).await?.into_iter();
    let taken = instances.filter_map(|(name, instance)| Some((name, instance.report?.taken)));
    Ok(taken.collect())
}

/// Takes back the report of an instance that has ended as it should.
pub async fn remove(redis: &Redis, name: &str) {
    let during = "removing the instance's report";
    let mut delete = redis::cmd("HDEL");
    delete.arg(&[INSTANCES, name]);
    if let Err(error) = redis.ask::<()>(during, &delete).await {
        tracing::debug!(%error, "the instance's report could not be removed");
    }
}
