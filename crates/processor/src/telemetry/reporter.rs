//! Writes down in Redis, every few seconds, what this instance is doing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::others::Others;
use crate::cohorts::Progress;
use crate::config::{Config, Role, StreamShare};
use crate::intake::Ledger;
use crate::runtime::attempts::Attempts;
use crate::runtime::gate::Gate;
use crate::runtime::life::{Life, State};
use crate::runtime::outages;
use crate::runtime::report::{self, CohortProgress, Ended, INTERVAL, Reading, Report, Work};
use crate::runtime::retry;
use crate::runtime::streams::Streams;
use crate::runtime::task::Task;
use crate::runtime::work::Look;
use crate::stores::{Redis, StoreError};

/// How often it is looked whether reading was paused or goes on.
const LOOK: Duration = Duration::from_secs(1);
/// Longest that one writing takes by the connection's own time-outs.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Longest that the end of the process waits for its last word to be written.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Work is measured over at least so long: a report may follow another at once.
const LEAST_MEASURED: Duration = Duration::from_secs(3);

/// Reports on one instance.
pub(crate) struct Reporter {
    /// Where to.
    pub redis: Redis,
    /// The consumer's name.
    pub name: String,
    /// Names of its loops.
    pub roles: Vec<String>,
    /// The streams that it takes events off, if it does.
    pub streams: Option<Streams>,
    /// What it does.
    pub life: Life,
    /// Shut while a store is away.
    pub gate: Arc<Gate>,
    /// What is held.
    pub ledger: Arc<Ledger>,
    /// The run over cohorts, if there is one.
    pub cohorts: Progress,
    /// Events that may be held.
    pub room: usize,
    /// When this instance began.
    pub began: Instant,
    /// What others read.
    pub others: Others,
}

impl Reporter {
    /// Reports until the drain begins: every few seconds, and at once when reading is paused or goes on.
    pub(crate) async fn run(mut self, task: Task) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut paused_since = None;
        let mut last: Option<(Instant, bool)> = None;
        let mut measured = (Look::now(), Look::now());
        let mut attempts = Attempts::new(retry::REDIS, task.pulse.name());
        loop {
            tokio::select! { () = task.shutdown.draining().cancelled() => return, _ = ticks.tick() => {} }
            task.pulse.beat();
            let paused = self.gate.is_shut();
            paused_since = paused.then(|| paused_since.unwrap_or_else(Instant::now));
            if last.is_some_and(|(at, was)| was == paused && at.elapsed() < INTERVAL) {
                continue;
            }
            last = Some((Instant::now(), paused));
            let look = Look::now();
            if look.since(&measured.1) >= LEAST_MEASURED {
                measured = (measured.1, look);
            }
            task.pulse.alive_for(WRITE_LIMIT);
            tokio::select! {
                () = task.shutdown.draining().cancelled() => return,
                written = self.write(paused_since, &measured) => match written {
                    Ok(()) => attempts.succeeded(),
                    // Where this instance reads nothing, nothing else may ask Redis for long.
                    Err(error) if error.code.is_empty() || error.advice().is_some() => {
                        attempts.failed(&error);
                        last = None;
                    }
                    // Redis may be full.
                    Err(error) => tracing::debug!(%error, "the instance's report could not be written"),
                }
            }
            let others = self.others.look(&self.redis, &self.name, self.streams.as_ref());
            tokio::select! {
                () = task.shutdown.draining().cancelled() => return,
                looked = others => if let Err(error) = looked {
                    tracing::debug!(%error, "the other instances could not be looked at");
                }
            }
            task.pulse.operation_ended();
        }
    }

    /// Says, instead of reporting, that this instance ends. Nothing waits long for it: nobody is told then, and three
    /// missing reports say the same.
    pub(crate) async fn farewell(&self, ended: Ended) {
        let mut report = self.report(None, &(Look::now(), Look::now()));
        report.reading = Reading::Off;
        report.ended = Some(ended);
        last_word(&report, &self.redis, &self.name).await;
    }

    fn report(&self, paused_since: Option<Instant>, (then, now): &(Look, Look)) -> Report {
        let (held_events, held_bytes) = self.ledger.held();
        Report {
            at: 0,
            roles: self.roles.clone(),
            reading: match (self.streams.is_some(), paused_since) {
                (false, _) => Reading::Off,
                (true, Some(_)) => Reading::Paused,
                (true, None) => Reading::On,
            },
            streams: self.streams.clone(),
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
            work: Some(Work {
                up_s: self.began.elapsed().as_secs(),
                room: self.room,
                settled: now.settled(),
                settled_per_s: rounded(now.settled_per_s(then)),
                shares: now
                    .shares(then)
                    .map(|(stage, share)| (stage.to_owned(), rounded(share)))
                    .collect(),
            }),
            ended: None,
        }
    }

    async fn write(&self, paused_since: Option<Instant>, measured: &(Look, Look)) -> Result<(), StoreError> {
        let report = self.report(paused_since, measured);
        report.write(&self.redis, &self.name).await
    }
}

/// To thousandths: more is noise.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
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
        let waiting = before_it_serves(config, life, Some(began));
        if let Err(error) = waiting.write(redis, &config.consumer_name).await {
            tracing::debug!(%error, "the instance's report could not be written");
        }
    }
}

/// Says that an instance ends that has not begun to serve.
pub(crate) async fn farewell_at_the_start(config: &Config, redis: &Redis, life: &Life, failed: bool) {
    let ended = Ended {
        left_pending: 0,
        failed,
    };
    let last = Report {
        reading: Reading::Off,
        ended: Some(ended),
        ..before_it_serves(config, life, None)
    };
    last_word(&last, redis, &config.consumer_name).await;
}

/// The streams of an instance that takes events off them.
pub(crate) fn streams_of(config: &Config) -> Streams {
    Streams {
        list: config.streams.clone(),
        shared: config.stream_share == StreamShare::Auto,
        first: Some(config.streams_first.clone()),
    }
}

fn before_it_serves(config: &Config, life: &Life, waits_since: Option<Instant>) -> Report {
    let reads = config.roles.contains(&Role::Consume);
    Report {
        at: 0,
        roles: config.roles.iter().map(|role| role.name().to_owned()).collect(),
        reading: if reads { Reading::Paused } else { Reading::Off },
        streams: reads.then(|| streams_of(config)),
        paused_for_s: waits_since.map(|since| since.elapsed().as_secs()),
        state: Some(life.state()),
        stores_away: life.waited_for().iter().map(ToString::to_string).collect(),
        needs_operator: report::needs_operator(),
        unanswered_s: report::unanswered_s(),
        held_events: 0,
        held_bytes: 0,
        taken: [0, 0],
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cohorts: None,
        work: None,
        ended: None,
    }
}

async fn last_word(report: &Report, redis: &Redis, name: &str) {
    let written = report.write(redis, name);
    if !matches!(tokio::time::timeout(LAST_WORD, written).await, Ok(Ok(()))) {
        tracing::debug!("that the instance ends could not be reported");
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
