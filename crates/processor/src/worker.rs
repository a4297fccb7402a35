//! Wires the stages, owns start and drain.
//!
//! Start: the heartbeat begins, the stores answer, the group exists, then the stages run. Drain: each stage ends because the one before
//! it has ended, so everything held reaches its end in order.

mod pulses;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use enrichment::geo::{GeoIp, GeoSettings};
use enrichment::user_agent::UserAgents;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cohorts::{self, Cycle};
use crate::config::{Config, Role};
use crate::definitions::{self, Catalogue};
use crate::event::Batch;
use crate::identity::decision::properties::Limits;
use crate::identity::publish::overrides::Publisher;
use crate::identity::upkeep::{finish_merges, sweep};
use crate::identity::{Identity, Memory, Resolved, Rules};
use crate::intake::acknowledge::Acknowledger;
use crate::intake::{Delivery, Holder, Keeper, Ledger, Ownership, Reader, Receiver, Watch, group};
use crate::pipeline::gather::{Bounds, Gather};
use crate::pipeline::land::Lander;
use crate::pipeline::settle::Settler;
use crate::pipeline::stages::{identify, land};
use crate::replay::{self, Outcome, Replayer, RunContext, Selection};
use crate::runtime::gate::Gate;
use crate::runtime::pulse::Pulse;
use crate::runtime::report;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::supervise::{Named, named, supervise};
use crate::set_aside::{QUEUE, Queue, REJECTED};
use crate::stores::{ClickHouse, FailureKind, Postgres, RedisConnection, StoreError, connect_redis};
use crate::telemetry::heartbeat::Heartbeat;
use crate::telemetry::{Endpoint, Reporter, Sampler};
use crate::warehouse::enriched::Enrichment;
use crate::warehouse::plan::Plan;
use crate::warehouse::{EventWriter, nothing_was_written, warnings};
use pulses::Pulses;

/// Longest that an operator's replay waits for the GeoIP database.
const GEO_LOADS: Duration = Duration::from_secs(45);
/// User agents remembered.
const AGENTS_REMEMBERED: usize = 4_096;

/// Looks at a stream's key of another type before the start is given up: some seconds in all.
const LOOKS_AT_A_WRONG_TYPE: u32 = 8;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Entries that were held and not settled: they stay pending for others.
    pub left_pending: usize,
    /// Whether a loop ended that should not have.
    pub failed: bool,
}

/// The stores one instance works with.
#[derive(Clone)]
struct Stores {
    redis: RedisConnection,
    postgres: Postgres,
    clickhouse: ClickHouse,
}

impl Stores {
    fn new(config: &Config) -> Result<Self, StoreError> {
        Ok(Self {
            redis: connect_redis(config)?,
            postgres: Postgres::new(&config.database_url)?,
            clickhouse: ClickHouse::new(&config.clickhouse),
        })
    }
}

/// Runs the worker until `shutdown`.
///
/// # Errors
/// When the configuration names a store in a way its client does not take.
pub async fn run(
    config: Config,
    endpoint: Option<Endpoint>,
    shutdown: Shutdown,
) -> Result<Ended, StoreError> {
    let stores = Stores::new(&config)?;
    let ended = work(&config, &stores, endpoint, &shutdown).await;
    stores.postgres.close();
    Ok(ended)
}

/// Everything, from the first connection to the last acknowledgement.
async fn work(config: &Config, stores: &Stores, endpoint: Option<Endpoint>, shutdown: &Shutdown) -> Ended {
    let pulses = Pulses::new(config.heartbeat_stale);
    let drained = CancellationToken::new();
    let (alive, watched) = watch::channel(vec![pulses.start.clone()]);
    let heartbeat = Heartbeat::new(config.heartbeat_path.clone(), config.heartbeat_interval, watched);
    let heartbeat = named("heartbeat", heartbeat.run(drained.clone()));
    let holder = match wait_for_stores(config, stores, &pulses.start, shutdown).await {
        Ok(holder) => holder,
        Err(gave_up) => {
            // A stop before the start is complete needs no drain: nothing is held yet.
            let failed = !matches!(gave_up, GaveUp::Abandoned(_));
            if failed {
                tracing::error!(reason = %gave_up, "a store cannot be used as it is: exiting before anything was read");
            }
            drained.cancel();
            let _removed = tokio::time::timeout(Duration::from_secs(5), heartbeat.handle).await;
            return Ended {
                left_pending: 0,
                failed,
            };
        }
    };
    let mut config = config.clone();
    holder.name().clone_into(&mut config.consumer_name);
    let config = &config;
    tracing::info!("every store has answered: starting");
    alive.send_replace(pulses.all(&config.roles));
    let ledger = Arc::new(Ledger::new(config.backpressure_threshold, config.max_held_bytes));
    let (sink, warning_writer) = warnings::writer(
        stores.clickhouse.clone(),
        pulses.warnings.clone(),
        drained.clone(),
    );
    let (geo, geo_task) = start_geo(config, shutdown);
    let mut common = Common::new(config, stores, sink, geo);
    holder.token().clone_into(&mut common.token);
    common.was_empty = nothing_was_written(&stores.clickhouse).await;
    let cycle = Cycle::new(
        stores.postgres.clone(),
        &stores.clickhouse,
        stores.redis.clone(),
        config.cohorts,
    );
    let memory = config.merge_memory_days;
    let mut background = vec![
        heartbeat,
        named("warnings", warning_writer),
        named("definitions", recorder(&common, stores, &pulses, &drained)),
        named(
            "gate",
            watch_gate(
                common.gate.clone(),
                stores.clone(),
                common.dead_letters(),
                pulses.gate.clone(),
                drained.clone(),
            ),
        ),
        named(
            "sweep",
            sweep(publisher(stores), memory, pulses.sweep.clone(), drained.clone()),
        ),
        named(
            "mover",
            finish_merges(
                publisher(stores),
                person_limits(config),
                pulses.mover.clone(),
                drained.clone(),
            ),
        ),
        named(
            "report",
            reporter(&common, &ledger, cycle.progress(), &pulses).run(drained.clone()),
        ),
    ];
    background.extend(keep_ours(&common, &ledger, holder, &pulses, shutdown, &drained));
    if let Some(endpoint) = endpoint {
        let sampler = sampler(&common, &ledger);
        background.push(named("metrics", endpoint.run(sampler, drained.clone())));
    }
    let stages = stages(&common, cycle, &ledger, &pulses, shutdown);
    let failed = supervise(stages, &background, shutdown).await;
    drained.cancel();
    for task in background {
        let _cancelled = tokio::time::timeout(Duration::from_secs(5), task.handle).await;
    }
    if let Some(task) = geo_task {
        task.abort();
    }
    let left_pending = ledger.len();
    if left_pending == 0 {
        leave(stores, config).await;
        if !failed {
            report::remove(&mut stores.redis.clone(), &config.consumer_name).await;
        }
    }
    Ended { left_pending, failed }
}

/// The loops of this instance's roles, each ending when the drain begins or because the one before it has ended.
fn stages(
    common: &Common<'_>,
    cycle: Cycle,
    ledger: &Arc<Ledger>,
    pulses: &Pulses,
    shutdown: &Shutdown,
) -> Vec<Named> {
    let config = common.config;
    let mut stages = Vec::new();
    if config.roles.contains(&Role::Consume) {
        stages.extend(consume(common, ledger, pulses, shutdown));
    }
    if config.roles.contains(&Role::Dlq) {
        stages.push(named(
            "replay",
            replay::on_schedule(
                common.replayer(common.dead_letters()),
                config.dead_letters.interval,
                common.gate.clone(),
                pulses.replay.clone(),
                shutdown.clone(),
            ),
        ));
    }
    if config.roles.contains(&Role::Cohorts) {
        stages.push(named(
            "cohorts",
            cohorts::on_schedule(
                cycle,
                config.cohorts,
                common.gate.clone(),
                pulses.cohorts.clone(),
                shutdown.clone(),
            ),
        ));
    }
    stages
}

/// Replays some letters of a queue with a pipeline of its own, as an operator asks for.
///
/// # Errors
/// Redis's, or when the configuration names a store in a way its client does not take.
pub async fn replay_once(
    config: &Config,
    queue: Queue,
    selection: &Selection,
    progress: impl FnMut(usize),
) -> Result<Outcome, StoreError> {
    let stores = Stores::new(config)?;
    let (pulses, shutdown, done) = (
        Pulses::new(config.heartbeat_stale),
        Shutdown::default(),
        CancellationToken::new(),
    );
    let (sink, warning_writer) =
        warnings::writer(stores.clickhouse.clone(), pulses.warnings.clone(), done.clone());
    let (geo, geo_task) = start_geo(config, &shutdown);
    if geo_task.is_some() {
        // What is landed now is not looked up again: a country that is missing stays so.
        let deadline = tokio::time::Instant::now() + GEO_LOADS;
        while !geo.is_ready() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let common = Common::new(config, &stores, sink, geo);
    let writers = [
        named("warnings", warning_writer),
        named("definitions", recorder(&common, &stores, &pulses, &done)),
    ];
    let is_rejected = queue.name == REJECTED;
    let mut replayer = common.replayer(queue);
    // Rejected events are replayed only when an operator asks for it: the circuit is not about them.
    let context = RunContext {
        ignore_circuit: is_rejected,
        witnesses: BTreeSet::new(),
        rest: Duration::ZERO,
        pulse: &pulses.replay,
        shutdown: &shutdown,
    };
    let outcome = replayer.run(selection, &context, progress).await;
    done.cancel();
    for writer in writers {
        let _ended = writer.handle.await;
    }
    if let Some(task) = geo_task {
        task.abort();
    }
    stores.postgres.close();
    outcome
}

/// What several loops are made with.
struct Common<'a> {
    config: &'a Config,
    stores: &'a Stores,
    streams: Arc<[String]>,
    warnings: warnings::WarningSink,
    catalogue: Catalogue,
    gate: Arc<Gate>,
    enrichment: Enrichment,
    /// What tells this process from others of its name.
    token: String,
    /// The warehouse had no row when this process began.
    was_empty: bool,
}

impl<'a> Common<'a> {
    fn new(config: &'a Config, stores: &'a Stores, warnings: warnings::WarningSink, geo: GeoIp) -> Self {
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
        }
    }

    fn replayer(&self, queue: Queue) -> Replayer {
        let settings = self.config.dead_letters;
        Replayer::new(
            queue,
            (self.identity(), self.settler()),
            self.streams.clone(),
            settings.step,
            (settings.threshold, settings.reset),
        )
    }

    fn settler(&self) -> Settler {
        Settler {
            publisher: publisher(self.stores),
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

    fn identity(&self) -> Identity {
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
                limits: person_limits(self.config),
            },
            self.config.consumer_name.clone(),
        )
    }

    fn dead_letters(&self) -> Queue {
        Queue {
            redis: self.stores.redis.clone(),
            name: QUEUE,
            capacity: self.config.dead_letters.capacity,
        }
    }
}

/// The loops that see to it that our name and what we hold stay ours.
fn keep_ours(
    common: &Common<'_>,
    ledger: &Arc<Ledger>,
    holder: Holder,
    pulses: &Pulses,
    shutdown: &Shutdown,
    drained: &CancellationToken,
) -> [Named; 3] {
    let keeper = keeper(common, ledger, pulses);
    let watch = watch_streams(common, ledger, pulses);
    [
        named("keeper", keeper.run(shutdown.clone(), drained.clone())),
        named(
            "name",
            holder.run(ledger.clone(), pulses.name.clone(), drained.clone()),
        ),
        named("watch", watch.run(shutdown.clone(), drained.clone())),
    ]
}

fn keeper(common: &Common<'_>, ledger: &Arc<Ledger>, pulses: &Pulses) -> Keeper {
    Keeper {
        ownership: ownership(common, ledger),
        pulse: pulses.keeper.clone(),
    }
}

fn ownership(common: &Common<'_>, ledger: &Arc<Ledger>) -> Ownership {
    Ownership {
        redis: common.stores.redis.clone(),
        streams: common.streams.clone(),
        consumer: common.config.consumer_name.clone(),
        token: common.token.clone(),
        ledger: ledger.clone(),
        claim_idle: common.config.claim_idle,
    }
}

fn watch_streams(common: &Common<'_>, ledger: &Arc<Ledger>, pulses: &Pulses) -> Watch {
    Watch {
        redis: common.stores.redis.clone(),
        streams: common.streams.clone(),
        ledger: ledger.clone(),
        trim: common.config.trim && common.config.roles.contains(&Role::Consume),
        pulse: pulses.watch.clone(),
    }
}

fn sampler(common: &Common<'_>, ledger: &Arc<Ledger>) -> Sampler {
    Sampler {
        redis: common.stores.redis.clone(),
        dead_letters: common.dead_letters(),
        streams: common.streams.clone(),
        gate: common.gate.clone(),
        ledger: ledger.clone(),
        heartbeat: common.config.heartbeat_path.clone(),
    }
}

fn reporter(
    common: &Common<'_>,
    ledger: &Arc<Ledger>,
    cohorts: cohorts::Progress,
    pulses: &Pulses,
) -> Reporter {
    let roles = &common.config.roles;
    Reporter {
        redis: common.stores.redis.clone(),
        name: common.config.consumer_name.clone(),
        roles: roles.iter().map(|role| role.name().to_owned()).collect(),
        reads: roles.contains(&Role::Consume),
        gate: common.gate.clone(),
        ledger: ledger.clone(),
        cohorts,
        pulse: pulses.report.clone(),
    }
}

/// The stages of the stream, each ending because the one before it has.
fn consume(common: &Common<'_>, ledger: &Arc<Ledger>, pulses: &Pulses, shutdown: &Shutdown) -> Vec<Named> {
    let config = common.config;
    let mut settler = common.settler();
    settler.events = settler.events.of_stream(ownership(common, ledger));
    let lander = Arc::new(Lander {
        settler,
        acknowledger: Acknowledger::new(
            common.stores.redis.clone(),
            common.streams.clone(),
            ledger.clone(),
            config.trim,
        ),
        dead_letters: common.dead_letters(),
        gate: common.gate.clone(),
        holding: AtomicBool::new(false),
        redis: common.stores.redis.clone(),
        streams: common.streams.clone(),
    });
    let (deliveries_in, deliveries) = mpsc::channel::<Delivery>(4);
    let (batches_in, batches) = mpsc::channel::<Batch>(1);
    let (resolved_in, resolved) = mpsc::channel::<(Resolved, Plan)>(1);
    let reader = reader(common, ledger, deliveries_in, pulses);
    let gather = Gather {
        streams: common.streams.clone(),
        bounds: bounds(config),
        ledger: ledger.clone(),
        redis: common.stores.redis.clone(),
        pulse: pulses.gather.clone(),
    };
    tracing::info!(
        consumer = config.consumer_name, streams = ?config.streams, batch = config.batch_size,
        backlog_batch = config.max_batch_size, "consuming"
    );
    vec![
        named("reader", read(reader, shutdown.clone())),
        named("gather", gather.run(deliveries, batches_in, shutdown.clone())),
        named(
            "identity",
            identify(
                common.identity(),
                lander.clone(),
                batches,
                resolved_in,
                pulses.identity.clone(),
                shutdown.clone(),
            ),
        ),
        named(
            "land",
            land(lander, resolved, pulses.land.clone(), shutdown.clone()),
        ),
    ]
}

/// Looks, while the gate is shut, whether PostgreSQL and ClickHouse would take what the worker writes.
async fn watch_gate(gate: Arc<Gate>, stores: Stores, queue: Queue, pulse: Pulse, stop: CancellationToken) {
    let probe = async || {
        let (postgres, clickhouse) =
            tokio::join!(stores.postgres.takes_writes(), stores.clickhouse.takes_writes());
        postgres.is_ok() && clickhouse.is_ok()
    };
    let letters_done = async || matches!(queue.count().await, Ok(0));
    gate.watch(probe, letters_done, &pulse, &stop).await;
}

fn recorder(
    common: &Common<'_>,
    stores: &Stores,
    pulses: &Pulses,
    drained: &CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    definitions::writer(
        common.catalogue.clone(),
        stores.postgres.clone(),
        stores.redis.clone(),
        common.warnings.clone(),
        pulses.definitions.clone(),
        drained.clone(),
    )
}

/// A key that is no stream may be about to be replaced. After some looks at it, it is for a supervisor to start again.
fn patient(mut error: StoreError, wrong_types: &AtomicU32) -> StoreError {
    if error.is_wrong_type() && wrong_types.fetch_add(1, Ordering::Relaxed) + 1 >= LOOKS_AT_A_WRONG_TYPE {
        error.kind = FailureKind::Poison;
    }
    error
}

/// Nothing is consumed before every store has answered once.
async fn wait_for_stores(
    config: &Config,
    stores: &Stores,
    pulse: &Pulse,
    shutdown: &Shutdown,
) -> Result<Holder, GaveUp<StoreError>> {
    let starting = async {
        let wrong_types = AtomicU32::new(0);
        retry::persist(retry::REDIS, pulse, shutdown, || async {
            for stream in &config.streams {
                let ensured = group::ensure(&mut stores.redis.clone(), stream).await;
                ensured.map_err(|error| patient(error, &wrong_types))?;
            }
            Ok(())
        })
        .await?;
        retry::persist(retry::POSTGRES, pulse, shutdown, || {
            stores.postgres.query("reaching PostgreSQL", "SELECT 1", &[])
        })
        .await?;
        retry::persist(retry::CLICKHOUSE, pulse, shutdown, || {
            stores
                .clickhouse
                .execute("reaching ClickHouse", stores.clickhouse.query("SELECT 1"))
        })
        .await?;
        retry::persist(retry::REDIS, pulse, shutdown, || {
            let (url, name) = (&config.redis_url, &config.consumer_name);
            Holder::take(url, name, &config.streams, config.claim_idle)
        })
        .await
    };
    tokio::select! {
        () = shutdown.draining().cancelled() => Err(GaveUp::Abandoned(None)),
        started = starting => started,
    }
}

fn person_limits(config: &Config) -> Limits {
    Limits {
        keys: config.person_max_keys,
        bytes: config.person_max_bytes,
    }
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        events: config.batch_size,
        most_events: config.max_batch_size,
        bytes: config.max_held_bytes / 3,
        age: config.flush_interval,
    }
}

fn publisher(stores: &Stores) -> Publisher {
    Publisher::new(
        stores.postgres.clone(),
        stores.clickhouse.clone(),
        stores.redis.clone(),
    )
}

fn reader(common: &Common<'_>, ledger: &Arc<Ledger>, out: mpsc::Sender<Delivery>, pulses: &Pulses) -> Reader {
    let config = common.config;
    Reader {
        url: config.redis_url.clone(),
        read_count: config.read_count,
        claim_interval: config.claim_interval,
        trim: config.trim,
        was_empty: common.was_empty,
        gate: common.gate.clone(),
        receiver: Receiver {
            redis: common.stores.redis.clone(),
            streams: common.streams.clone(),
            consumer: config.consumer_name.clone(),
            claim_idle: config.claim_idle,
            ledger: ledger.clone(),
            out,
            pulse: pulses.reader.clone(),
        },
    }
}

fn start_geo(config: &Config, shutdown: &Shutdown) -> (GeoIp, Option<JoinHandle<()>>) {
    if config.geoip_database.is_none() && config.geoip_url.is_none() {
        tracing::warn!("GEOIP_DATABASE and GEOLITE2_COUNTRY_URL are unset: events get no country");
        return (GeoIp::disabled(), None);
    }
    let settings = GeoSettings {
        database: config.geoip_database.clone(),
        url: config.geoip_url.clone(),
        ..GeoSettings::default()
    };
    let (geo, task) = GeoIp::start(settings, shutdown.draining().clone());
    (geo, Some(task))
}

/// The reader's loop; nothing can be read without it.
async fn read(reader: Reader, shutdown: Shutdown) -> bool {
    if let Err(failed) = reader.run(&shutdown).await {
        tracing::error!(error = %failed, "draining, then exiting");
        shutdown.drain();
        return false;
    }
    true
}

/// Removes our consumer from the group when nothing is pending for it.
async fn leave(stores: &Stores, config: &Config) {
    for stream in &config.streams {
        match group::leave(&mut stores.redis.clone(), stream, &config.consumer_name).await {
            Ok(true) => tracing::debug!(stream, "consumer removed from the group"),
            Ok(false) => tracing::info!(stream, "consumer stays in the group: entries are pending for it"),
            Err(error) => tracing::warn!(stream, %error, "consumer could not be removed from the group"),
        }
    }
}
