//! Writes down in Redis, every few seconds, what this instance is doing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cohorts::Progress;
use crate::config::{Config, Role};
use crate::intake::Ledger;
use crate::runtime::gate::Gate;
use crate::runtime::life::{Life, State};
use crate::runtime::outages;
use crate::runtime::report::{self, CohortProgress, Reading, Report};
use crate::runtime::task::Task;
use crate::stores::{Redis, StoreError};

/// How often a report is written, changes aside.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked whether reading was paused or goes on.
const LOOK: Duration = Duration::from_secs(1);
/// Longest that one writing takes by the connection's own time-outs.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// Reports on one instance.
pub(crate) struct Reporter {
    /// Where to.
    pub redis: Redis,
    /// The consumer's name.
    pub name: String,
    /// Names of its loops.
    pub roles: Vec<String>,
    /// Whether it takes events off the stream at all.
    pub reads: bool,
    /// What it does.
    pub life: Life,
    /// Shut while a store is away.
    pub gate: Arc<Gate>,
    /// What is held.
    pub ledger: Arc<Ledger>,
    /// The run over cohorts, if there is one.
    pub cohorts: Progress,
}

impl Reporter {
    /// Reports until the drain begins: every few seconds, and at once when reading is paused or goes on.
    pub(crate) async fn run(self, task: Task) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut paused_since = None;
        let mut last: Option<(Instant, bool)> = None;
        loop {
            tokio::select! { () = task.shutdown.draining().cancelled() => return, _ = ticks.tick() => {} }
            task.pulse.beat();
            let paused = self.gate.is_shut();
            paused_since = paused.then(|| paused_since.unwrap_or_else(Instant::now));
            if last.is_some_and(|(at, was)| was == paused && at.elapsed() < INTERVAL) {
                continue;
            }
            last = Some((Instant::now(), paused));
            task.pulse.alive_for(WRITE_LIMIT);
            tokio::select! {
                () = task.shutdown.draining().cancelled() => return,
                written = self.write(paused_since) => if let Err(error) = written {
                    tracing::debug!(%error, "the instance's report could not be written");
                }
            }
            task.pulse.operation_ended();
        }
    }

    fn report(&self, paused_since: Option<Instant>) -> Report {
        let (held_events, held_bytes) = self.ledger.held();
        Report {
            at: 0,
            roles: self.roles.clone(),
            reading: match (self.reads, paused_since) {
                (false, _) => Reading::Off,
                (true, Some(_)) => Reading::Paused,
                (true, None) => Reading::On,
            },
            paused_for_s: paused_since.map(|since| since.elapsed().as_secs()),
            state: Some(self.life.state()),
            stores_away: outages::away()
                .iter()
                .map(|outage| outage.store.to_owned())
                .collect(),
            needs_operator: report::needs_operator(),
            unanswered_s: report::unanswered_s(),
            held_events,
            held_bytes,
            taken: self.gate.times_taken(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cohorts: cohort_progress(&self.cohorts),
        }
    }

    async fn write(&self, paused_since: Option<Instant>) -> Result<(), StoreError> {
        self.report(paused_since).write(&self.redis, &self.name).await
    }
}

/// Reports, for as long as the future is polled, that an instance waits for stores before it reads anything.
pub(crate) async fn tell_of_waiting(config: &Config, redis: &Redis, life: &Life) -> Infallible {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if life.state() != State::Waiting {
            continue;
        }
        let waiting = Report {
            at: 0,
            roles: config.roles.iter().map(|role| role.name().to_owned()).collect(),
            reading: if config.roles.contains(&Role::Consume) {
                Reading::Paused
            } else {
                Reading::Off
            },
            paused_for_s: Some(began.elapsed().as_secs()),
            state: Some(State::Waiting),
            stores_away: life.waited_for().iter().map(ToString::to_string).collect(),
            needs_operator: report::needs_operator(),
            unanswered_s: report::unanswered_s(),
            held_events: 0,
            held_bytes: 0,
            taken: [0, 0],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cohorts: None,
        };
        if let Err(error) = waiting.write(redis, &config.consumer_name).await {
            tracing::debug!(%error, "the instance's report could not be written");
        }
    }
}

fn cohort_progress(progress: &Progress) -> Option<CohortProgress> {
    let now = jiff::Timestamp::now().as_millisecond().max(0).cast_unsigned();
    (progress.total() > 0).then(|| CohortProgress {
        total: progress.total(),
        done: progress.done(),
        failed: progress.failed(),
        running_for_s: now.saturating_sub(progress.started_at_ms()) / 1000,
    })
}
