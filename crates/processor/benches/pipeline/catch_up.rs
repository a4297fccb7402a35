//! ClickHouse stands still while events keep coming: how long after its return they land as young as before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::arguments::Arguments;
use crate::figures::Run;
use crate::load::Events;
use crate::recorder::Recorded;
use crate::scenarios::Scenario;
use crate::send::Schedule;
use crate::trickle::{ages, ready};
use crate::usage::{Usage, peak_mb};
use crate::worker::Worker;
use crate::world::World;

/// How long events land as usual before the outage.
const BEFORE: Duration = Duration::from_secs(10);
/// As usual is what is no older than twice the oldest before the outage.
const AS_USUAL: f64 = 2.0;
/// How long the group has had no more than a second's events to land when the sending ends.
const LASTS: usize = 20;

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
        let run = caught_up(
            world,
            scenario,
            per_second,
            Duration::from_secs(arguments.outage),
            n,
        )
        .await;
        println!("  run {n} is over");
        runs.push(run);
    }
    runs
}

async fn caught_up(world: &World, scenario: &Scenario, per_second: u32, outage: Duration, run: u64) -> Run {
    let mut events = Events::new(scenario.mix, scenario.persons, run);
    let (recorder, mut worker) = ready(world, &mut events).await;
    let (mut redis, over) = (world.redis.clone(), AtomicBool::new(false));
    let mut schedule = Schedule::begin(per_second);
    let watching = async {
        tokio::time::sleep(BEFORE).await;
        let engine = world.stack.clickhouse().unwrap();
        // Asked while it answers.
        let before = Usage::now(world, Some(worker.pid())).await;
        engine.pause().await.unwrap();
        let stopped_ms = jiff::Timestamp::now().as_millisecond();
        tokio::time::sleep(outage).await;
        engine.resume().await.unwrap();
        let resumed_ms = jiff::Timestamp::now().as_millisecond();
        wait_for_lag(world, &mut worker, per_second as usize).await;
        over.store(true, Ordering::Relaxed);
        let used = Usage::now(world, Some(worker.pid())).await.since(&before);
        (stopped_ms, resumed_ms, used)
    };
    let sending = schedule.send(&mut redis, &mut events, || over.load(Ordering::Relaxed));
    let ((stopped_ms, resumed_ms, used), ()) = tokio::join!(watching, sending);
    worker.has_drained(world).await;
    let peak = peak_mb(worker.pid());
    worker.stop();

    let rows = world.number("SELECT uniqExact(event_id) FROM events").await;
    assert!(
        (rows - (schedule.sent() + 1) as f64).abs() < 0.5,
        "{rows} of {} landed",
        schedule.sent() + 1
    );
    let (normal, caught_up_ms, landed) = return_to_normal(&recorder.take(), stopped_ms, resumed_ms);
    let seconds = (caught_up_ms - resumed_ms) as f64 / 1e3;
    vec![
        ("outage_s", outage.as_secs_f64()),
        ("normal_ms", normal),
        ("caught_up_s", seconds),
        ("catch_up_rate", landed as f64 / seconds),
        ("worker_mb", peak),
        ("others", 100.0 * used.others()),
    ]
}

/// Waits until the group has had, for a while, no more to land than what comes in a second.
async fn wait_for_lag(world: &World, worker: &mut Worker, usual: usize) {
    let mut lasts = 0;
    while lasts < LASTS {
        let few = world.unsettled().await.is_some_and(|left| left <= usual);
        lasts = if few { lasts + 1 } else { 0 };
        worker.pause(100).await;
    }
}

/// The oldest event at landing before the outage; when, after it, all landed as usual again; how many landed until then.
fn return_to_normal(landings: &[Recorded], stopped_ms: i64, resumed_ms: i64) -> (f64, i64, usize) {
    let oldest = |landing: &Recorded| ages(landing).map(|(_, age)| age).fold(0.0, f64::max);
    let before = landings.iter().filter(|landing| landing.answered_ms < stopped_ms);
    // The first ones find a process that remembers nobody.
    let settled =
        before.skip_while(|landing| landing.answered_ms < stopped_ms - BEFORE.as_millis() as i64 / 2);
    let normal = settled.map(oldest).fold(0.0, f64::max);
    let after: Vec<&Recorded> = landings
        .iter()
        .filter(|landing| landing.answered_ms >= resumed_ms)
        .collect();
    let late = after
        .iter()
        .rposition(|landing| oldest(landing) > AS_USUAL * normal);
    let late = late.unwrap_or(0);
    let landed = after
        .iter()
        .take(late + 1)
        .map(|landing| ages(landing).count())
        .sum();
    let at = after.get(late).map_or(resumed_ms, |landing| landing.answered_ms);
    (normal, at, landed)
}
