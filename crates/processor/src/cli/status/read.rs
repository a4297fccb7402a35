//! Asks the stores, all at once, and none of them for longer than its limit. What cannot be read is said, and the rest is still
//! known.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures::TryFutureExt;
use futures::future::join_all;
use jiff::Timestamp;

use super::facts::{
    Circuit, CircuitState, ClickHouseFacts, Consumer, Instance, LastRow, Look, PostgresFacts, RedisFacts,
    Status, Stream,
};
use super::{readers, verdict};
use crate::cohorts::Registry;
use crate::config::Config;
use crate::identity::publish::overrides;
use crate::intake::{reader_of, signs};
use crate::runtime::instances::{self, Sign};
use crate::set_aside::{QUEUE, Queue, REJECTED};
use crate::stores::{ClickHouse, Places, Postgres, Redis, Store, StoreError, TimeLeft};
use crate::telemetry::{queues, streams};
use crate::warehouse::newest::Newest;

/// Whom to ask, and about what.
pub(super) struct Stores {
    places: Places,
    redis: Redis,
    postgres: Postgres,
    clickhouse: ClickHouse,
    streams: Vec<String>,
    letters: Queue,
    rejected: Queue,
    stale: Duration,
    /// Longest that a store is waited for until it answers at all, and then until it has told everything.
    limit: Duration,
}

impl Stores {
    /// Asks nobody yet.
    pub(super) fn new(config: &Config, limit: Duration) -> Result<Self, StoreError> {
        let redis = Redis::new(&config.redis);
        let queue = |name| Queue {
            redis: redis.clone(),
            name,
            capacity: config.dead_letters.capacity,
        };
        Ok(Self {
            places: Places::of(config),
            postgres: Postgres::new(&config.postgres)?,
            clickhouse: ClickHouse::new(&config.clickhouse),
            streams: config.streams.clone(),
            letters: queue(QUEUE),
            rejected: queue(REJECTED),
            stale: config.cohorts.stale,
            limit,
            redis,
        })
    }

    /// All of it, once.
    pub(super) async fn status(&self, newest: &mut Newest) -> Status {
        let (redis, postgres, clickhouse) = tokio::join!(
            self.look_at_redis(),
            self.look_at_postgres(),
            self.look_at_clickhouse(newest)
        );
        let said = verdict::of(
            &redis.facts,
            [&redis.store, &postgres.store, &clickhouse.store],
            None,
        );
        let not_read = readers::not_read(&redis.facts).into_iter();
        let not_read = not_read.map(|stream| stream.name.clone()).collect();
        Status::of(redis, postgres, clickhouse, (said, not_read))
    }

    /// Where they are.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// What is known before Redis has told anything: the streams' names.
    pub(super) fn nothing_of_redis(&self) -> Look<RedisFacts> {
        let streams = self.streams.iter().map(|name| Stream {
            name: name.clone(),
            ..Stream::default()
        });
        let unknown = RedisFacts {
            streams: streams.collect(),
            ..RedisFacts::default()
        };
        Look::new(Store::Redis, &self.places, unknown)
    }

    pub(super) async fn look_at_redis(&self) -> Look<RedisFacts> {
        let ping = redis::cmd("PING");
        let answers = self.redis.ask::<()>("connecting", &ping);
        let tells = async |look: &mut Look<RedisFacts>| self.read_redis(look).await;
        let look = self.nothing_of_redis();
        ask((look, Store::Redis), self.limit, answers, tells).await
    }

    /// Each part by itself: a key that holds something else hides only what it would have told.
    async fn read_redis(&self, look: &mut Look<RedisFacts>) {
        let redis = &self.redis;
        let (now, instances, queues, letters, rejected, locks, slots) = tokio::join!(
            redis.now_ms(),
            instances::all(redis),
            queues::read(&self.letters),
            self.letters.reasons(),
            self.rejected.reasons(),
            queues::locks(redis),
            redis.open_slots(),
        );
        let Some(now) = look.known(now) else { return };
        let found = look.known(instances);
        let found = match found {
            Some(found) => Some(self.living(found, now).await),
            None => None,
        };
        look.facts.instances = found;
        self.read_streams(look, now).await;
        look.facts.rejected = look.known(queues.rejected);
        if let Some(letters) = look.known(queues.dead_letters) {
            look.facts.dead_letters = Some(letters.count);
            look.facts.oldest_dead_letter_s = letters.oldest.map(|id| now.saturating_sub(id.ms) / 1000);
        }
        look.facts.dead_letter_reasons = look.known(letters);
        look.facts.rejected_reasons = look.known(rejected);
        let circuit = queues
            .failures
            .and_then(|failures| Ok(circuit(failures, queues.open?)));
        look.facts.circuit = look.known(circuit);
        let held = look.known(locks);
        look.facts.locks = held.map(|held| {
            held.into_iter()
                .map(|(lock, left)| (lock, left.seconds()))
                .collect()
        });
        // A right that only this needs hides nothing else.
        look.facts.open_slots = match slots {
            Err(error) if error.code == "NOPERM" => None,
            slots => look.known(slots),
        };
        look.errors.dedup();
    }

    /// The instances, and whether they live.
    async fn living(&self, found: BTreeMap<String, instances::Instance>, now: u64) -> Vec<Instance> {
        let shown = found.into_iter().filter(|(_, found)| !found.has_gone(now));
        let shown: Vec<(String, instances::Instance)> = shown.collect();
        let names: Vec<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
        let signs: HashMap<String, Sign> = signs(&self.redis, &names)
            .await
            .into_iter()
            .map(|(name, sign)| (name.to_owned(), sign))
            .collect();
        let shown = shown.into_iter().map(|(name, found)| {
            let sign = signs.get(&name).copied().unwrap_or(Sign::Unknown);
            instance(name, found, (now, sign))
        });
        shown.collect()
    }

    /// The streams that this command is told of, and those that instances are.
    async fn read_streams(&self, look: &mut Look<RedisFacts>, now: u64) {
        let instances = look.facts.instances.take();
        let lists = instances.iter().flatten().filter_map(Instance::streams);
        for name in lists.flat_map(|streams| &streams.list) {
            if !look.facts.streams.iter().any(|stream| stream.name == *name) {
                look.facts.streams.push(Stream {
                    name: name.clone(),
                    ..Stream::default()
                });
            }
        }
        let names: Vec<String> = look
            .facts
            .streams
            .iter()
            .map(|stream| stream.name.clone())
            .collect();
        let redis = &self.redis;
        let reading = names
            .iter()
            .map(async |name| tokio::join!(streams::read(redis, name), reader_of(redis, name)));
        for (index, (found, lease)) in join_all(reading).await.into_iter().enumerate() {
            // Where a stream cannot be read, neither can its lease, which is beside it: once is enough.
            let Some(found) = look.known(found) else { continue };
            let stream = &mut look.facts.streams[index];
            *stream = stream_of(std::mem::take(&mut stream.name), found, now);
            if let Some(lease) = look.known(lease) {
                let stream = &mut look.facts.streams[index];
                let readers = instances
                    .as_ref()
                    .map(|instances| readers::of(stream, lease, instances));
                stream.readers = readers;
            }
        }
        look.facts.instances = instances;
    }

    pub(super) async fn look_at_postgres(&self) -> Look<PostgresFacts> {
        let answers = self.postgres.query("connecting", "SELECT 1", &[]).map_ok(drop);
        let tells = async |look: &mut Look<PostgresFacts>| {
            let registry = Registry {
                postgres: self.postgres.clone(),
            };
            // One after the other, on one connection: a look is not worth more of them.
            let overrides = overrides::count_unpublished(&self.postgres).await;
            look.facts.unpublished_overrides = look.known(overrides);
            let cohorts = registry.count(self.stale).await;
            look.facts.cohorts = look.known(cohorts);
            look.facts.stale_cohorts = look.facts.cohorts.map(|cohorts| cohorts.stale);
            let failing = registry.failing().await;
            look.facts.failing_cohorts = look.known(failing);
            let projects = self.postgres.has_projects().await;
            look.known(projects);
        };
        let look = Look::new(Store::Postgres, &self.places, PostgresFacts::default());
        ask((look, Store::Postgres), self.limit, answers, tells).await
    }

    pub(super) async fn look_at_clickhouse(&self, newest: &mut Newest) -> Look<ClickHouseFacts> {
        let answers = self
            .clickhouse
            .execute("connecting", self.clickhouse.query("SELECT 1"));
        let tells = async |look: &mut Look<ClickHouseFacts>| {
            let row = newest.row(&self.clickhouse).await;
            let told = |at: i64| Timestamp::from_millisecond(at).ok().map(|at| format!("{at:.3}"));
            let row = look.known(row);
            look.facts.last_row = row.map(|at| LastRow(at.and_then(told)));
        };
        let look = Look::new(Store::ClickHouse, &self.places, ClickHouseFacts::default());
        ask((look, Store::ClickHouse), self.limit, answers, tells).await
    }
}

/// Has a store answer at all, and then tell what it knows, each within the limit. One that stops in the middle does not
/// answer, whatever it has told.
async fn ask<F>(
    (mut look, store): (Look<F>, Store),
    limit: Duration,
    answers: impl Future<Output = Result<(), StoreError>>,
    tells: impl AsyncFnOnce(&mut Look<F>),
) -> Look<F> {
    let silent = format!("{store}: looking at it: no answer within {} s", limit.as_secs());
    let began = Instant::now();
    match tokio::time::timeout(limit, answers).await {
        Ok(Ok(())) => {
            look.answered(began.elapsed());
            if tokio::time::timeout(limit, tells(&mut look)).await.is_err() {
                look.unanswered(silent);
            }
        }
        Ok(Err(error)) => look.failed(&error),
        Err(_elapsed) => look.unanswered(silent),
    }
    look.at = Timestamp::now();
    look
}

fn stream_of(name: String, found: Option<streams::Stream>, now: u64) -> Stream {
    let found = found.unwrap_or_default();
    let has_group = found.group.is_some();
    let group = found.group.unwrap_or_default();
    let consumers = group.consumers.into_iter().map(|consumer| Consumer {
        name: consumer.name,
        pending: consumer.pending,
        idle_ms: consumer.idle_ms,
    });
    Stream {
        name,
        length: Some(found.length),
        // Without a group, all that is there is yet to be read.
        lag: if has_group { group.lag } else { Some(found.length) },
        lag_s: group.oldest_unread.map(|id| now.saturating_sub(id.ms) / 1000),
        pending: Some(group.pending),
        pending_s: group.oldest_pending.map(|id| now.saturating_sub(id.ms) / 1000),
        readers: None,
        read: if has_group { group.read } else { Some(0) },
        consumers: consumers.collect(),
    }
}

fn instance(name: String, found: instances::Instance, (now, sign): (u64, Sign)) -> Instance {
    Instance {
        name,
        presence: found.presence(now, sign),
        silent_for_s: found.at.map(|at| now.saturating_sub(at) / 1000),
        readable: found.report.is_some(),
        report: found.report,
    }
}

fn circuit(failures: u64, open: Option<TimeLeft>) -> Circuit {
    Circuit {
        state: if open.is_some() {
            CircuitState::Open
        } else {
            CircuitState::Closed
        },
        seconds_left: open.and_then(TimeLeft::seconds),
        failures,
    }
}
