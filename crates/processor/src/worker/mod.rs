//! Wires the loops, owns start and drain.
//!
//! Start: the heartbeat and the numbers begin, the stores answer, the group exists, then the loops run. Drain: each stage
//! ends because the one before it has ended, so everything held reaches its end in order; the background loops end after
//! the last stage.

mod once;
mod parts;
mod start;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::cohorts::{self, Cycle};
use crate::config::{Config, Role, StreamShare};
use crate::event::Batch;
use crate::identity::Resolved;
use crate::identity::upkeep::{finish_merges, sweep};
use crate::intake::{Delivery, Holder, Ledger, Reader, Turn, group};
use crate::metrics;
use crate::pipeline::land::Lander;
use crate::pipeline::stages::identify;
use crate::replay;
use crate::runtime::gate::Gate;
use crate::runtime::life::Life;
use crate::runtime::pulse::Pulse;
use crate::runtime::report;
use crate::runtime::retry::GaveUp;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::supervise::Loops;
use crate::runtime::task::Task;
use crate::stores::{Store, StoreError};
use crate::telemetry::heartbeat::Heartbeat;
use crate::telemetry::{Endpoint, Sampler, farewell_at_the_start, look_out, remind};
use crate::warehouse::{nothing_was_written, warnings};

pub(crate) use once::{correct_once, replay_once};
use parts::{Parts, Stores, dead_letters};
use start::{start_geo, wait_for_stores};

/// Longest that the heartbeat is waited for when the start has failed.
const LAST_BEAT: Duration = Duration::from_secs(5);

/// Longest that groups are left for once everything is settled: by then a store that does not answer may be the reason to end.
const LONGEST_LEAVE: Duration = Duration::from_secs(5);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Entries that were held and not settled: they stay pending for others.
    pub left_pending: usize,
    /// Whether a loop ended that should not have.
    pub failed: bool,
}

/// Runs the worker until `shutdown`.
///
/// # Errors
/// When the configuration names a store in a way its client does not take.
pub(crate) async fn run(
    config: Config,
    endpoint: Option<Endpoint>,
    shutdown: Shutdown,
) -> Result<Ended, StoreError> {
    let stores = Stores::new(&config)?;
    let ended = work(config, &stores, endpoint, &shutdown).await;
    stores.postgres.close();
    Ok(ended)
}

/// What is known of an instance from its first second on.
struct Instance {
    gate: Arc<Gate>,
    life: Life,
    ledger: Arc<Ledger>,
    starting: Task,
    /// The signs of life that the heartbeat stands for.
    alive: watch::Sender<Vec<Pulse>>,
}

impl Instance {
    /// Begins what is seen of the instance, before any store has answered: its heartbeat, its numbers, and what the log says
    /// of states that last.
    fn begin(
        config: &Config,
        stores: &Stores,
        endpoint: Option<Endpoint>,
        loops: &mut Loops,
        shutdown: &Shutdown,
    ) -> Self {
        let gate = Arc::new(Gate::default());
        let life = Life::new(gate.clone(), shutdown);
        let ledger = Arc::new(Ledger::new(config.backpressure_threshold, config.max_held_bytes));
        let starting = Task::new("start", config.heartbeat_stale, shutdown);
        let (alive, watched) = watch::channel(vec![starting.pulse.clone()]);
        let file = (config.heartbeat_path.clone(), config.heartbeat_interval);
        let heartbeat = Heartbeat::new(file, config.consumer_name.clone(), watched, life.clone());
        if metrics::are_counted() {
            let sampler = Arc::new(Sampler {
                redis: stores.redis.clone(),
                dead_letters: dead_letters(config, stores),
                streams: config.streams.clone().into(),
                gate: gate.clone(),
                ledger: ledger.clone(),
                heartbeat: heartbeat.last(),
                life: life.clone(),
                unread: std::sync::Mutex::default(),
            });
            if let Some(endpoint) = endpoint {
                loops.unwatched("metrics", |behind| {
                    endpoint.run(sampler.clone(), behind.draining().clone())
                });
            }
            loops.unwatched("samples", |behind| sampler.run(behind.draining().clone()));
        }
        loops.unwatched("heartbeat", |behind| heartbeat.run(behind.draining().clone()));
        loops.unwatched("reminders", |behind| {
            remind(life.clone(), behind.draining().clone())
        });
        loops.unwatched("lookout", |behind| {
            look_out(stores.clickhouse.clone(), behind.draining().clone())
        });
        Self {
            gate,
            life,
            ledger,
            starting,
            alive,
        }
    }
}

/// Everything, from the first connection to the last acknowledgement.
async fn work(mut config: Config, stores: &Stores, endpoint: Option<Endpoint>, shutdown: &Shutdown) -> Ended {
    let mut loops = Loops::new(config.heartbeat_stale, config.shutdown_timeout, shutdown);
    let instance = Instance::begin(&config, stores, endpoint, &mut loops, shutdown);
    let holder = match wait_for_stores(&config, stores, &instance.starting, &instance.life).await {
        Ok(holder) => holder,
        Err(gave_up) => {
            // A stop before the start is complete needs no drain: nothing is held yet.
            let failed = !matches!(gave_up, GaveUp::Abandoned(_));
            if failed {
                tracing::error!(reason = %gave_up, "a store cannot be used as it is: exiting before anything was read");
            }
            if !instance.life.waited_for().contains(&Store::Redis) {
                farewell_at_the_start(&config, &stores.redis, &instance.life, failed).await;
            }
            loops.end_background(LAST_BEAT).await;
            return Ended {
                left_pending: 0,
                failed,
            };
        }
    };
    holder.name().clone_into(&mut config.consumer_name);
    tracing::info!("every store has answered: starting");
    let ledger = &instance.ledger;
    let (sink, warning_writer) = warnings::channel(stores.clickhouse.clone());
    loops.background("warnings", |task| warning_writer.run(task));
    let (geo, geo_task) = start_geo(&config, shutdown);
    let mut parts = Parts::new(&config, stores, sink, geo);
    parts.gate.clone_from(&instance.gate);
    holder.token().clone_into(&mut parts.token);
    parts.was_empty = tokio::select! {
        biased;
        () = shutdown.draining().cancelled() => false,
        was_empty = nothing_was_written(&stores.clickhouse) => was_empty,
    };
    let cycle = parts.cycle();
    background(&mut loops, &parts, &instance, holder, &cycle);
    let last_word = parts.reporter(ledger, cycle.progress(), instance.life.clone());
    stages(&mut loops, &parts, cycle, ledger);
    instance.alive.send_replace(loops.pulses().to_vec());
    instance.life.serves();
    let failed = loops.supervise().await;
    if let Some(task) = geo_task {
        task.abort();
    }
    let left_pending = ledger.len();
    if left_pending == 0 {
        let left = tokio::time::timeout(LONGEST_LEAVE, leave(stores, &config)).await;
        if left.is_err() {
            tracing::warn!("Redis takes long: this consumer's name stays in groups");
        }
    }
    last_word.farewell(report::Ended { left_pending, failed }).await;
    Ended { left_pending, failed }
}

/// The loops beside the stream, whatever this instance's roles are.
fn background(loops: &mut Loops, parts: &Parts<'_>, instance: &Instance, holder: Holder, cycle: &Cycle) {
    let (config, ledger) = (parts.config, &instance.ledger);
    loops.background("definitions", |task| parts.definitions(task));
    loops.background("gate", |task| parts.watch_gate(task));
    loops.background("sweep", |task| {
        sweep(parts.publisher(), config.merge_memory_days, task)
    });
    loops.background("mover", |task| {
        finish_merges(parts.publisher(), parts.person_limits(), task)
    });
    loops.background("report", |task| {
        let life = instance.life.clone();
        parts.reporter(ledger, cycle.progress(), life).run(task)
    });
    // They see to it that this instance's name, and what it holds, stay its own.
    loops.background("keeper", |task| parts.keeper(ledger).run(task));
    loops.background("name", |task| holder.run(ledger.clone(), task));
    loops.background("watch", |task| parts.watch(ledger).run(task));
}

/// The loops of this instance's roles, each ending when the drain begins or because the one before it has ended.
fn stages(loops: &mut Loops, parts: &Parts<'_>, cycle: Cycle, ledger: &Arc<Ledger>) {
    let config = parts.config;
    if config.roles.contains(&Role::Consume) {
        consume(loops, parts, ledger);
    }
    if config.roles.contains(&Role::Dlq) {
        let replayer = parts.replayer(parts.dead_letters());
        let (interval, gate) = (config.dead_letters.interval, parts.gate.clone());
        loops.stage("replay", |task| {
            replay::on_schedule(replayer, interval, gate, task)
        });
    }
    if config.roles.contains(&Role::Cohorts) {
        let gate = parts.gate.clone();
        loops.stage("cohorts", |task| {
            cohorts::on_schedule(cycle, config.cohorts, gate, task)
        });
    }
}

/// The stages of the stream, each ending because the one before it has.
fn consume(loops: &mut Loops, parts: &Parts<'_>, ledger: &Arc<Ledger>) {
    let config = parts.config;
    let mut settler = parts.settler();
    settler.events = settler.events.of_stream(parts.ownership(ledger));
    let settler = Arc::new(settler);
    let aside = Arc::new(parts.aside(settler.clone(), ledger));
    let lander = Arc::new(Lander {
        settler,
        aside: aside.clone(),
    });
    let (deliveries_in, deliveries) = mpsc::channel::<Delivery>(4);
    let (batches_in, batches) = mpsc::channel::<Batch>(1);
    let (resolved_in, resolved) = mpsc::channel::<Resolved>(1);
    tracing::info!(
        consumer = config.consumer_name,
        streams = config.streams.join(","),
        batch = config.batch_size,
        backlog_batch = config.max_batch_size,
        "consuming"
    );
    let turns = match config.stream_share {
        StreamShare::All => config.streams.iter().map(|_| Turn::Always).collect(),
        StreamShare::Auto => {
            let (share, turns) = parts.share(ledger);
            loops.stage("share", |task| share.run(task));
            turns
        }
    };
    for (index, turn) in turns.into_iter().enumerate() {
        loops.stage("reader", |task| {
            let shutdown = task.shutdown.clone();
            let out = deliveries_in.clone();
            read(parts.reader((index as u16, turn), ledger, out, task), shutdown)
        });
    }
    drop(deliveries_in);
    loops.stage("gather", |task| {
        parts.gather(ledger, task).run(deliveries, batches_in)
    });
    loops.stage("identity", |task| {
        identify(parts.identity(), aside, batches, resolved_in, task)
    });
    loops.stage("land", |task| parts.landing(lander, ledger, task).run(resolved));
}

/// A reader's loop; its stream cannot be read without it. The drain begins before its channel closes: the stages behind end
/// as they should.
async fn read(mut reader: Reader, shutdown: Shutdown) -> bool {
    let ended = reader.run().await;
    if let Err(failed) = &ended {
        tracing::error!(error = %failed, "draining, then exiting");
        shutdown.drain();
    }
    ended.is_ok()
}

/// Removes this instance's consumer from the group when nothing is pending for it.
async fn leave(stores: &Stores, config: &Config) {
    for stream in &config.streams {
        match group::leave(&stores.redis, stream, &config.consumer_name).await {
            Ok(group::Left::Removed) => tracing::debug!(stream, "consumer removed from the group"),
            Ok(group::Left::WasNone) => {
                tracing::debug!(stream, "nothing was read: the group knows no such consumer");
            }
            Ok(group::Left::Stays) => {
                tracing::info!(stream, "consumer stays in the group: entries are pending for it");
            }
            Err(error) => {
                tracing::warn!(stream, %error, "consumer could not be removed from the group: its name stays there");
            }
        }
    }
}
