//! A full stream is emptied: how fast, and what an event costs everyone.

use crate::arguments::Arguments;
use crate::figures::Run;
use crate::limits::{self, Packed};
use crate::load::Events;
use crate::recorder::Recorder;
use crate::scenarios::Scenario;
use crate::send;
use crate::usage::{Usage, forget_peak, peak_mb};
use crate::worker::Worker;
use crate::world::{World, pid};

/// So many runs, and the limits after each. Before them one that is not timed: it warms everything up, and its blocks
/// are what the limit inserts.
pub(crate) async fn measure(world: &World, scenario: &Scenario, arguments: &Arguments) -> Vec<Run> {
    let packed = recorded(world, scenario).await;
    let mut runs = Vec::new();
    for n in 1..=arguments.runs {
        let mut run = drained(world, scenario, 2 * n, None).await;
        world.fresh().await;
        fill(world, scenario, 2 * n + 1).await;
        run.extend(limits::measure(world, scenario.events, &packed).await);
        run.push(("body_bytes", packed.bytes as f64 / packed.rows as f64));
        let (rate, limit) = (of(&run, "rate"), of(&run, "chain_rate"));
        run.push(("of_chain", 100.0 * rate / limit));
        println!("  run {n}: {rate:.0} events/s, limit {limit:.0}");
        runs.push(run);
    }
    runs
}

fn of(run: &Run, name: &str) -> f64 {
    let figure = run.iter().find(|(known, _)| *known == name);
    figure.map_or(f64::NAN, |(_, value)| *value)
}

/// The blocks that the worker makes of this load.
async fn recorded(world: &World, scenario: &Scenario) -> Packed {
    let recorder = Recorder::start(&world.stack.clickhouse_url().unwrap()).await;
    drained(world, scenario, 1, Some(&recorder.url)).await;
    limits::pack(&recorder.take())
}

/// Fills the stream. Returns how many different events there are.
async fn fill(world: &World, scenario: &Scenario, run: u64) -> u64 {
    let mut events = Events::new(scenario.mix, scenario.persons, run);
    send::all(&mut world.redis.clone(), &mut events, scenario.events).await;
    events.distinct()
}

async fn drained(world: &World, scenario: &Scenario, run: u64, clickhouse: Option<&str>) -> Run {
    world.fresh().await;
    let distinct = fill(world, scenario, run).await;
    let engine = pid(world.stack.clickhouse().unwrap()).await;
    forget_peak(engine);
    let last = world.last_read().await;
    let mut worker = Worker::start(world, clickhouse);
    let startup = worker.has_read(world, &last).await;
    let began = std::time::Instant::now();
    let before = Usage::now(world, Some(worker.pid())).await;
    worker.has_drained(world).await;
    let seconds = began.elapsed().as_secs_f64();
    world.settle().await;
    // What PostgreSQL has yet to write was changed in this run.
    world.postgres.batch_execute("CHECKPOINT").await.unwrap();
    let used = Usage::now(world, Some(worker.pid())).await.since(&before);
    let mut measured = costs(&used, scenario.events as f64);
    measured.extend([
        ("rate", scenario.events as f64 / seconds),
        ("startup_ms", startup),
        ("worker_mb", peak_mb(worker.pid())),
        ("clickhouse_mb", peak_mb(engine)),
    ]);
    worker.stop();
    let landed = world.number("SELECT uniqExact(event_id) FROM events").await;
    assert!(
        (landed - distinct as f64).abs() < 0.5,
        "{landed} of {distinct} events have landed"
    );
    measured
}

/// What each of so many events cost.
pub(crate) fn costs(used: &Usage, events: f64) -> Run {
    let us = |seconds: f64| seconds * 1e6 / events;
    vec![
        ("worker_us", us(used.worker.seconds)),
        ("redis_us", us(used.redis.seconds)),
        ("postgres_us", us(used.postgres.seconds)),
        ("clickhouse_us", us(used.clickhouse.seconds)),
        ("redis_bytes", used.redis.bytes / events),
        ("postgres_bytes", used.postgres.bytes / events),
        ("clickhouse_bytes", used.clickhouse.bytes / events),
        ("inserts", used.engine.inserts),
        ("parts", used.engine.parts),
        ("merged_rows", used.engine.merged_rows / events),
        ("others", 100.0 * used.others()),
    ]
}
