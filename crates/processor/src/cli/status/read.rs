//! Reads every part of the status; what cannot be read is said and the rest still shown.

use std::collections::BTreeMap;

use redis::streams::{StreamInfoConsumersReply, StreamInfoGroupsReply};
use serde_json::Value;
use tokio_postgres::types::Type;

use super::facts::{Circuit, CircuitState, Consumer, Instance, Status, StoreState, Stream};
use super::newest::Newest;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::intake::GROUP;
use crate::runtime::report::{INSTANCES, Report};
use crate::set_aside::{QUEUE, Queue, REJECTED};
use crate::stores::{ClickHouse, Places, Postgres, Redis, Store, StoreError};

const LOCKS: [&str; 2] = ["dlq:replay:lock", "cohort_membership:lock"];
const CIRCUIT: &str = "dlq:replay:circuit";
const FAILURES: &str = "dlq:replay:failures";

pub(super) async fn status(config: &Config, newest: &mut Newest) -> Result<Status, Failure> {
    let (mut status, places) = (Status::default(), Places::of(config));
    let redis = Redis::new(&config.redis_url)?;
    let clickhouse = ClickHouse::new(&config.clickhouse);
    let postgres = Postgres::new(&config.database_url)?;
    let ping = redis::cmd("PING");
    let answers = tokio::join!(
        redis.ask::<()>("connecting", &ping),
        postgres.query("connecting", "SELECT 1", &[]),
        clickhouse.execute("connecting", clickhouse.query("SELECT 1")),
    );
    if status.answers(Store::Redis, &places, answers.0)
        && let Err(error) = read_redis(&mut status, config, &redis).await
    {
        status.errors.push(error.to_string());
    }
    if status.answers(Store::Postgres, &places, answers.1.map(drop)) {
        match counts(&postgres, config).await {
            Ok((overrides, cohorts)) => {
                status.unpublished_overrides = Some(overrides);
                status.stale_cohorts = Some(cohorts);
            }
            Err(error) => status.errors.push(error.to_string()),
        }
        if let Err(error) = postgres.has_projects().await {
            status.errors.push(error.to_string());
        }
    }
    if status.answers(Store::ClickHouse, &places, answers.2) {
        match newest.row(&clickhouse).await {
            Ok(last) => status.last_row = last,
            Err(error) => status.errors.push(error.to_string()),
        }
    }
    Ok(status)
}

impl Status {
    /// What could be read; otherwise the error is noted.
    fn known<T>(&mut self, read: Result<T, StoreError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error.to_string())).ok()
    }

    /// Notes whether a store answers.
    fn answers(&mut self, store: Store, places: &Places, answer: Result<(), StoreError>) -> bool {
        let error = answer.err().map(|error| error.to_string());
        self.errors.extend(error.clone());
        let reachable = error.is_none();
        self.stores.push(StoreState {
            name: store.to_string(),
            at: places.at(store).to_owned(),
            reachable,
            error,
        });
        reachable
    }
}

/// Each part by itself: a key that holds something else hides only what it would have told.
async fn read_redis(status: &mut Status, config: &Config, redis: &Redis) -> Result<(), StoreError> {
    for stream in &config.streams {
        let read = read_stream(redis, stream).await;
        let read = status.known(read);
        status.streams.extend(read);
    }
    let now = redis.now_ms().await?;
    let read = read_instances(status, redis, now).await;
    status.known(read);
    let rejected = length(redis, REJECTED).await;
    status.rejected = status.known(rejected);
    let queue = Queue {
        redis: redis.clone(),
        name: QUEUE,
        capacity: config.dead_letters.capacity,
    };
    let letters = queue.count().await;
    status.dead_letters = status.known(letters);
    if status.dead_letters.is_some() {
        let oldest = queue.oldest().await?;
        status.oldest_dead_letter_s = oldest.map(|id| now.saturating_sub(id.ms) / 1000);
    }
    let circuit = circuit(redis).await;
    status.circuit = status.known(circuit);
    for lock in LOCKS {
        if let Some(left) = left(redis, lock).await? {
            status.locks.insert(lock, left);
        }
    }
    Ok(())
}

async fn read_instances(status: &mut Status, redis: &Redis, now: u64) -> Result<(), StoreError> {
    let mut read = redis::cmd("HGETALL");
    read.arg(INSTANCES);
    let reports: BTreeMap<String, String> = redis
        .ask_of("reading the instances", (INSTANCES, "hash"), &read)
        .await?;
    for (name, text) in reports {
        let report = serde_json::from_str::<Report>(&text).ok();
        // Of a report in another form the time may still be where it always was.
        let at = || serde_json::from_str::<Value>(&text).ok()?.get("at")?.as_u64();
        let at = report.as_ref().map(|report| report.at).or_else(at);
        status.instances.push(Instance {
            name,
            silent_for_s: at.map(|at| now.saturating_sub(at) / 1000),
            readable: report.is_some(),
            report,
        });
    }
    Ok(())
}

async fn circuit(redis: &Redis) -> Result<Circuit, StoreError> {
    let failures: Option<u64> = redis
        .ask("reading the circuit", redis::cmd("GET").arg(FAILURES))
        .await?;
    let open = left(redis, CIRCUIT).await?;
    Ok(Circuit {
        state: if open.is_some() {
            CircuitState::Open
        } else {
            CircuitState::Closed
        },
        seconds_left: open.flatten(),
        failures: failures.unwrap_or_default(),
    })
}

/// What is left of a key's time in seconds: nothing when there is no such key, inner nothing when it never expires.
async fn left(redis: &Redis, key: &str) -> Result<Option<Option<u64>>, StoreError> {
    let ttl: i64 = redis.ask("reading a lock", redis::cmd("TTL").arg(key)).await?;
    Ok(match ttl {
        -2 => None,
        seconds => Some(u64::try_from(seconds).ok()),
    })
}

async fn length(redis: &Redis, key: &str) -> Result<u64, StoreError> {
    redis
        .ask_of("reading a length", (key, "stream"), redis::cmd("XLEN").arg(key))
        .await
}

async fn read_stream(redis: &Redis, name: &str) -> Result<Stream, StoreError> {
    let during = "reading the stream's state";
    let mut stream = Stream {
        name: name.into(),
        length: length(redis, name).await?,
        ..Stream::default()
    };
    if stream.length == 0 && !redis.ask::<bool>(during, redis::cmd("EXISTS").arg(name)).await? {
        return Ok(stream);
    }
    let mut groups = redis::cmd("XINFO");
    groups.arg("GROUPS").arg(name);
    let groups: StreamInfoGroupsReply = redis.ask(during, &groups).await?;
    let Some(group) = groups.groups.into_iter().find(|group| group.name == GROUP) else {
        return Ok(stream);
    };
    stream.pending = group.pending as u64;
    stream.lag = group.lag.map(|lag| lag as u64);
    let mut consumers = redis::cmd("XINFO");
    consumers.arg(&["CONSUMERS", name, GROUP]);
    let consumers: StreamInfoConsumersReply = redis.ask(during, &consumers).await?;
    let consumers = consumers.consumers.into_iter();
    stream.consumers = consumers
        .map(|c| Consumer {
            name: c.name,
            pending: c.pending as u64,
            idle_ms: c.idle as u64,
        })
        .collect();
    Ok(stream)
}

async fn counts(postgres: &Postgres, config: &Config) -> Result<(i64, i64), StoreError> {
    let sql = "
        SELECT (SELECT count(*) FROM processor_person_overrides WHERE NOT published),
               (SELECT count(*) FROM cohorts WHERE NOT is_static AND (membership_computed_at IS NULL
                    OR membership_computed_at = 'infinity'
                    OR membership_computed_at < now() - $1 * interval '1 second'))";
    let stale = config.cohorts.stale.as_secs_f64();
    let rows = postgres
        .query("counting what waits", sql, &[(&stale, Type::FLOAT8)])
        .await?;
    Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
}
