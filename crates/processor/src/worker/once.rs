//! A replay that an operator asks for, of letters as they are or of one that is corrected, with a pipeline of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::Config;
use crate::replay::{self, Outcome, Replayer, RunContext, Selection};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::supervise::Loops;
use crate::runtime::task::Task;
use crate::set_aside::{Letter, QUEUE, Queue, REJECTED};
use crate::stores::StoreError;
use crate::warehouse::warnings;

use super::parts::{Parts, Stores};
use super::start::start_geo;

/// Longest that the GeoIP database is waited for.
const GEO_LOADS: Duration = Duration::from_secs(45);

/// Longest that the last names and warnings are waited for: nothing brings those of a letter again.
const LAST_WRITES: Duration = Duration::from_mins(5);

/// Replays some letters of a queue.
///
/// # Errors
/// Redis's, or when the configuration names a store in a way its client does not take.
pub(crate) async fn replay_once(
    config: &Config,
    queue: Queue,
    selection: &Selection,
    progress: impl FnMut(usize),
) -> Result<Outcome, StoreError> {
    let replay = async |mut replayer: Replayer, context: &RunContext<'_>| {
        replayer.run(selection, context, progress).await
    };
    let is_rejected = queue.name == REJECTED;
    with_replayer(config, queue, is_rejected, replay).await
}

/// Puts a corrected letter in the place of an old one of a queue, among the dead letters, and replays it.
///
/// # Errors
/// As for [`replay_once`].
pub(crate) async fn correct_once(
    config: &Config,
    from: &Queue,
    old: &Letter,
    new: &Letter,
) -> Result<replay::Ended, StoreError> {
    let correct = async |mut replayer: Replayer, context: &RunContext<'_>| {
        replayer.correct((from, old), new, context).await
    };
    let dead_letters = Queue {
        name: QUEUE,
        ..from.clone()
    };
    with_replayer(config, dead_letters, from.name == REJECTED, correct).await
}

/// Gives `work` a replayer; what it leaves to be written is written before this ends. Rejected events are replayed only
/// when an operator asks for it: the circuit is not about them.
async fn with_replayer<T>(
    config: &Config,
    queue: Queue,
    is_rejected: bool,
    work: impl AsyncFnOnce(Replayer, &RunContext<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let stores = Stores::new(config)?;
    let shutdown = Shutdown::default();
    let (geo, geo_task) = start_geo(config, &shutdown);
    if geo_task.is_some() {
        // What is landed now is not looked up again: a country that is missing stays so.
        let deadline = tokio::time::Instant::now() + GEO_LOADS;
        while !geo.is_ready() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let (sink, warning_writer) = warnings::channel(stores.clickhouse.clone());
    let parts = Parts::new(config, &stores, sink, geo);
    let mut loops = Loops::new(config.heartbeat_stale, config.shutdown_timeout, &shutdown);
    loops.background("warnings", |task| warning_writer.run(task));
    loops.background("definitions", |task| parts.definitions(task));
    let replayer = parts.replayer(queue);
    let context = RunContext {
        ignore_circuit: is_rejected,
        witnesses: BTreeSet::new(),
        rest: Duration::ZERO,
        task: &Task::new("replay", config.heartbeat_stale, &shutdown),
    };
    let outcome = work(replayer, &context).await;
    loops.end_background(LAST_WRITES).await;
    if let Some(task) = geo_task {
        task.abort();
    }
    stores.postgres.close();
    outcome
}
