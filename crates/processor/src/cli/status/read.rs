//! Reads every part of the status; what cannot be read is said and the rest still shown.

use super::facts::{Circuit, CircuitState, Consumer, Instance, Status, StoreState, Stream};
use crate::cli::failure::Failure;
use crate::cohorts::Registry;
use crate::config::Config;
use crate::identity::publish::overrides;
use crate::runtime::report;
use crate::set_aside::{QUEUE, Queue};
use crate::stores::{ClickHouse, Places, Postgres, Redis, Store, StoreError, TimeLeft};
use crate::telemetry::{queues, streams};
use crate::warehouse::newest::Newest;

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
    for name in &config.streams {
        let read = streams::read(redis, name).await;
        let read = status.known(read);
        status.streams.extend(read.map(|found| stream(name, found)));
    }
    let now = redis.now_ms().await?;
    let instances = report::all(redis).await;
    let instances = status.known(instances).unwrap_or_default().into_iter();
    status.instances = instances
        .map(|(name, found)| instance(name, found, now))
        .collect();
    let queues = queues::read(&Queue {
        redis: redis.clone(),
        name: QUEUE,
        capacity: config.dead_letters.capacity,
    })
    .await;
    status.rejected = status.known(queues.rejected);
    if let Some(letters) = status.known(queues.dead_letters) {
        status.dead_letters = Some(letters.count);
        status.oldest_dead_letter_s = letters.oldest.map(|id| now.saturating_sub(id.ms) / 1000);
    }
    let circuit = queues
        .failures
        .and_then(|failures| Ok(circuit(failures, queues.open?)));
    status.circuit = status.known(circuit);
    let locks = queues::locks(redis).await?.into_iter();
    status.locks = locks.map(|(lock, left)| (lock, left.seconds())).collect();
    Ok(())
}

fn stream(name: &str, found: Option<streams::Stream>) -> Stream {
    let found = found.unwrap_or_default();
    let group = found.group.unwrap_or_default();
    let consumers = group.consumers.into_iter().map(|consumer| Consumer {
        name: consumer.name,
        pending: consumer.pending,
        idle_ms: consumer.idle_ms,
    });
    Stream {
        name: name.to_owned(),
        length: found.length,
        lag: group.lag,
        pending: group.pending,
        consumers: consumers.collect(),
    }
}

fn instance(name: String, found: report::Instance, now: u64) -> Instance {
    Instance {
        name,
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

/// Overrides that wait to be published, and cohorts whose members are too old.
async fn counts(postgres: &Postgres, config: &Config) -> Result<(i64, i64), StoreError> {
    let registry = Registry {
        postgres: postgres.clone(),
    };
    let stale = registry.count_stale(config.cohorts.stale);
    tokio::try_join!(overrides::count_unpublished(postgres), stale)
}
