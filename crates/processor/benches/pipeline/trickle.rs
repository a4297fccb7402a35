//! So many events a second: how old they are when they have landed, and what it costs to be there for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::arguments::Arguments;
use crate::drain::costs;
use crate::figures::{Run, quantile};
use crate::load::Events;
use crate::native;
use crate::recorder::{Recorded, Recorder};
use crate::scenarios::Scenario;
use crate::send::{self, Schedule};
use crate::usage::{Usage, cores, peak_mb};
use crate::worker::Worker;
use crate::world::World;

/// Connections are made and the memory of persons fills up meanwhile.
const WARMING: Duration = Duration::from_secs(3);

/// So many runs.
pub(crate) async fn measure(
    world: &World,
    scenario: &Scenario,
    per_second: u32,
    arguments: &Arguments,
) -> Vec<Run> {
    let mut runs = Vec::new();
    for n in 1..=arguments.runs {
        world.fresh().await;
        let run = trickled(
            world,
            scenario,
            per_second,
            Duration::from_secs(arguments.seconds),
            n,
        )
        .await;
        println!("  run {n} is over");
        runs.push(run);
    }
    runs
}

/// A worker that has landed an event, behind a recorder.
pub(crate) async fn ready(world: &World, events: &mut Events) -> (Recorder, Worker) {
    let recorder = Recorder::start(&world.stack.clickhouse_url().unwrap()).await;
    let last = world.last_read().await;
    send::all(&mut world.redis.clone(), events, 1).await;
    let mut worker = Worker::start(world, Some(&recorder.url));
    worker.has_read(world, &last).await;
    worker.has_drained(world).await;
    drop(recorder.take());
    (recorder, worker)
}

async fn trickled(world: &World, scenario: &Scenario, per_second: u32, time: Duration, run: u64) -> Run {
    let mut events = Events::new(scenario.mix, scenario.persons, run);
    let (recorder, mut worker) = ready(world, &mut events).await;
    let (mut redis, over) = (world.redis.clone(), AtomicBool::new(false));
    let mut schedule = Schedule::begin(per_second);
    let begins_ms = schedule.begun_ms() + WARMING.as_millis() as i64;
    let watching = async {
        tokio::time::sleep(WARMING).await;
        let before = Usage::now(world, Some(worker.pid())).await;
        tokio::time::sleep(time).await;
        over.store(true, Ordering::Relaxed);
        Usage::now(world, Some(worker.pid())).await.since(&before)
    };
    let sending = schedule.send(&mut redis, &mut events, || over.load(Ordering::Relaxed));
    let (used, ()) = tokio::join!(watching, sending);
    worker.has_drained(world).await;
    let peak = peak_mb(worker.pid());
    worker.stop();

    let landings = recorder.take();
    let all: usize = landings.iter().map(|landing| ages(landing).count()).sum();
    assert_eq!(all as u64, schedule.sent(), "every event has landed, once");
    let ends_ms = begins_ms + time.as_millis() as i64;
    let counted = landings
        .iter()
        .flat_map(ages)
        .filter(|(due, _)| (begins_ms..ends_ms).contains(due));
    let mut counted: Vec<f64> = counted.map(|(_, age)| age).collect();
    counted.sort_by(f64::total_cmp);
    let mut measured = costs(&used, f64::from(per_second) * used.seconds);
    measured.retain(|(name, _)| !matches!(*name, "inserts" | "merged_rows"));
    measured.extend([
        ("age_p50_ms", quantile(&counted, 0.5)),
        ("age_p99_ms", quantile(&counted, 0.99)),
        ("age_p999_ms", quantile(&counted, 0.999)),
        ("age_max_ms", quantile(&counted, 1.0)),
        ("inserts_rate", used.engine.inserts / used.seconds),
        ("cores", busy(&used)),
        ("worker_mb", peak),
    ]);
    measured
}

fn busy(used: &Usage) -> f64 {
    let services = used.redis.seconds + used.postgres.seconds + used.clickhouse.seconds;
    ((used.worker.seconds + services) / used.seconds).min(cores())
}

/// When each event of an insert was due, and how old it was when the insert was answered, in milliseconds.
pub(crate) fn ages(landing: &Recorded) -> impl Iterator<Item = (i64, f64)> {
    let answered = landing.answered_ms;
    let times = native::read(&landing.body).times;
    times.into_iter().map(move |due| (due, (answered - due) as f64))
}
