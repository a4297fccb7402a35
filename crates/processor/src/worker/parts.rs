//! What the loops are made of.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use enrichment::geo::GeoIp;
use enrichment::user_agent::UserAgents;
use tokio::sync::mpsc;

use crate::cohorts::{self, Cycle};
use crate::config::{Config, Role};
use crate::definitions::{self, Catalogue};
use crate::identity::decision::properties::Limits;
use crate::identity::publish::overrides::Publisher;
use crate::identity::{Identity, Memory, Rules};
use crate::intake::{
    Before, Delivery, Intake, Keeper, Ledger, Ownership, Reader, Receiver, Share, Turn, Watch,
};
use crate::pipeline::aside::Aside;
use crate::pipeline::gather::{Bounds, Gather};
use crate::pipeline::land::Lander;
use crate::pipeline::landing::Landing;
use crate::pipeline::pack::PackBounds;
use crate::pipeline::settle::Settler;
use crate::replay::Replayer;
use crate::runtime::gate::Gate;
use crate::runtime::life::Life;
use crate::runtime::task::Task;
use crate::set_aside::{QUEUE, Queue};
use crate::stores::{ClickHouse, Postgres, Redis, StoreError};
use crate::telemetry::{Others, Reporter, streams_of};
use crate::warehouse::EventWriter;
use crate::warehouse::enriched::Enrichment;
use crate::warehouse::warnings::WarningSink;

/// User agents remembered.
const AGENTS_REMEMBERED: usize = 4_096;

/// While a backlog waits, so many batches make an insert.
const BATCHES_PER_INSERT: usize = 5;

/// The stores one instance works with.
#[derive(Clone)]
pub(super) struct Stores {
    pub(super) redis: Redis,
    pub(super) postgres: Postgres,
    pub(super) clickhouse: ClickHouse,
}

impl Stores {
    pub(super) fn new(config: &Config) -> Result<Self, StoreError> {
        Ok(Self {
            redis: Redis::new(&config.redis),
            postgres: Postgres::new(&config.postgres)?,
            clickhouse: ClickHouse::new(&config.clickhouse),
        })
    }
}

/// The queue of dead letters.
pub(super) fn dead_letters(config: &Config, stores: &Stores) -> Queue {
    Queue {
        redis: stores.redis.clone(),
        name: QUEUE,
        capacity: config.dead_letters.capacity,
    }
}

/// What several loops are made of, and how each is made.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    stores: &'a Stores,
    streams: Arc<[String]>,
    warnings: WarningSink,
    catalogue: Catalogue,
    pub(super) gate: Arc<Gate>,
    enrichment: Enrichment,
    /// What tells this process from others of its name.
    pub(super) token: String,
    /// The warehouse had no row when this process began.
    pub(super) was_empty: bool,
    /// When everything had answered.
    began: Instant,
}

impl<'a> Parts<'a> {
    pub(super) fn new(config: &'a Config, stores: &'a Stores, warnings: WarningSink, geo: GeoIp) -> Self {
        Self {
            config,
            stores,
            streams: config.streams.clone().into(),
            warnings,
            catalogue: Catalogue::default(),
            gate: Arc::default(),
            enrichment: Enrichment {
                geo,
                agents: Arc::new(UserAgents::new(AGENTS_REMEMBERED)),
            },
            token: String::new(),
            was_empty: false,
            began: Instant::now(),
        }
    }

    /// What shares the streams out among instances, and a turn for each reader.
    pub(super) fn share(&self, ledger: &Arc<Ledger>) -> (Share, Vec<Turn>) {
        let redis = self.stores.redis.clone();
        let held = (ledger.clone(), self.gate.clone());
        Share::new(redis, &self.config.consumer_name, &self.streams, held)
    }

    pub(super) fn reader(
        &self,
        (index, turn): (u16, Turn),
        ledger: &Arc<Ledger>,
        out: mpsc::Sender<Delivery>,
        task: Task,
    ) -> Reader {
        let config = self.config;
        Reader {
            read_count: config.read_count,
            claim_interval: config.claim_interval,
            trim: config.trim,
            was_empty: self.was_empty,
            owes: true,
            gate: self.gate.clone(),
            turn,
            before: Before::new(&config.streams_first, &self.streams[index as usize]),
            receiver: Receiver {
                redis: self.stores.redis.clone(),
                streams: self.streams.clone(),
                index,
                consumer: config.consumer_name.clone(),
                claim_idle: config.claim_idle,
                ledger: ledger.clone(),
                out,
                task,
            },
        }
    }

    pub(super) fn gather(&self, ledger: &Arc<Ledger>, task: Task) -> Gather {
        let config = self.config;
        Gather {
            streams: self.streams.clone(),
            bounds: Bounds {
                events: config.batch_size,
                most_events: config.batch_size.max(config.max_batch_size / BATCHES_PER_INSERT),
                bytes: config.max_held_bytes / 6,
                age: config.flush_interval,
            },
            ledger: ledger.clone(),
            intake: self.intake(ledger),
            task,
        }
    }

    pub(super) fn landing(&self, lander: Arc<Lander>, ledger: &Arc<Ledger>, task: Task) -> Landing {
        Landing {
            lander,
            ledger: ledger.clone(),
            bounds: PackBounds {
                // All of it may have to become letters.
                entries: self
                    .config
                    .max_batch_size
                    .min((self.config.dead_letters.capacity / 2) as usize)
                    .max(self.config.batch_size),
                // The next one is read while it is inserted.
                bytes: self.config.max_held_bytes / 2,
                age: self.config.flush_interval,
            },
            task,
        }
    }

    fn intake(&self, ledger: &Arc<Ledger>) -> Intake {
        Intake::new(
            self.stores.redis.clone(),
            self.streams.clone(),
            ledger.clone(),
            self.config.trim,
        )
    }

    pub(super) fn identity(&self) -> Identity {
        Identity::new(
            self.stores.postgres.clone(),
            self.stores.redis.clone(),
            Memory {
                size: self.config.person_cache_size,
                believed_for: self.config.person_check,
            },
            Rules {
                policy: self.config.merge_policy,
                order: self.config.property_order,
                limits: self.person_limits(),
            },
            self.config.consumer_name.clone(),
        )
    }

    pub(super) fn settler(&self) -> Settler {
        Settler {
            publisher: self.publisher(),
            events: EventWriter::new(
                self.stores.clickhouse.clone(),
                self.enrichment.clone(),
                &self.config.consumer_name,
                self.config.clickhouse.request_timeout,
            ),
            redis: self.stores.redis.clone(),
            warnings: self.warnings.clone(),
            catalogue: self.catalogue.clone(),
            rejected_capacity: self.config.rejected_max_len,
            streams: self.streams.clone(),
            consumer: self.config.consumer_name.clone(),
        }
    }

    pub(super) fn aside(&self, settler: Arc<Settler>, ledger: &Arc<Ledger>) -> Aside {
        Aside {
            settler,
            intake: self.intake(ledger),
            dead_letters: self.dead_letters(),
            gate: self.gate.clone(),
            holding: AtomicBool::new(false),
        }
    }

    pub(super) fn dead_letters(&self) -> Queue {
        dead_letters(self.config, self.stores)
    }

    pub(super) fn replayer(&self, queue: Queue) -> Replayer {
        let settings = self.config.dead_letters;
        Replayer::new(
            queue,
            (self.identity(), self.settler()),
            self.streams.clone(),
            settings.step,
            (settings.threshold, settings.reset),
        )
    }

    pub(super) fn cycle(&self) -> Cycle {
        Cycle::new(
            self.stores.postgres.clone(),
            &self.stores.clickhouse,
            self.stores.redis.clone(),
            self.config.cohorts,
        )
    }

    pub(super) fn ownership(&self, ledger: &Arc<Ledger>) -> Ownership {
        Ownership {
            redis: self.stores.redis.clone(),
            streams: self.streams.clone(),
            consumer: self.config.consumer_name.clone(),
            token: self.token.clone(),
            ledger: ledger.clone(),
            claim_idle: self.config.claim_idle,
        }
    }

    pub(super) fn keeper(&self, ledger: &Arc<Ledger>) -> Keeper {
        Keeper {
            ownership: self.ownership(ledger),
        }
    }

    pub(super) fn watch(&self, ledger: &Arc<Ledger>) -> Watch {
        Watch {
            redis: self.stores.redis.clone(),
            streams: self.streams.clone(),
            ledger: ledger.clone(),
            trim: self.config.trim && self.config.roles.contains(&Role::Consume),
        }
    }

    pub(super) fn publisher(&self) -> Publisher {
        Publisher::new(
            self.stores.postgres.clone(),
            self.stores.clickhouse.clone(),
            self.stores.redis.clone(),
        )
    }

    pub(super) fn person_limits(&self) -> Limits {
        Limits {
            keys: self.config.person_max_keys,
            bytes: self.config.person_max_bytes,
        }
    }

    pub(super) fn definitions(&self, task: Task) -> impl Future<Output = ()> + Send + use<> {
        definitions::writer(
            self.catalogue.clone(),
            self.stores.postgres.clone(),
            self.stores.redis.clone(),
            self.warnings.clone(),
            task,
        )
    }

    /// Looks, while the gate is shut, whether PostgreSQL and ClickHouse would take what the worker writes.
    pub(super) fn watch_gate(&self, task: Task) -> impl Future<Output = ()> + Send + use<> {
        let (gate, stores, queue) = (self.gate.clone(), self.stores.clone(), self.dead_letters());
        async move {
            let probe = async || {
                let (postgres, clickhouse) =
                    tokio::join!(stores.postgres.takes_writes(), stores.clickhouse.takes_writes());
                postgres.is_ok() && clickhouse.is_ok()
            };
            let letters_done = async || matches!(queue.count().await, Ok(0));
            gate.watch(probe, letters_done, &task).await;
        }
    }

    pub(super) fn reporter(&self, ledger: &Arc<Ledger>, cohorts: cohorts::Progress, life: Life) -> Reporter {
        let roles = &self.config.roles;
        Reporter {
            redis: self.stores.redis.clone(),
            name: self.config.consumer_name.clone(),
            roles: roles.iter().map(|role| role.name().to_owned()).collect(),
            streams: roles.contains(&Role::Consume).then(|| streams_of(self.config)),
            life,
            gate: self.gate.clone(),
            ledger: ledger.clone(),
            cohorts,
            room: self.config.backpressure_threshold,
            began: self.began,
            others: Others::new(),
        }
    }
}
