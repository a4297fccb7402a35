//! The loops of an instance: declared once, each with its sign of life, and none ends unnoticed.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};

use super::pulse::Pulse;
use super::shutdown::Shutdown;
use super::task::Task;

/// Longest that loops are waited for once they have to stop: stages after the drain was abandoned, then background loops.
const LAST_ROUND: Duration = Duration::from_secs(5);

/// What a loop returns: nothing, or whether it ended as it should.
pub trait Ending: Send + 'static {
    /// Whether it did.
    fn fine(self) -> bool;
}
impl Ending for () {
    fn fine(self) -> bool {
        true
    }
}
impl Ending for bool {
    fn fine(self) -> bool {
        self
    }
}

/// A running loop; the value says whether it ended as it should.
struct Named {
    name: &'static str,
    handle: JoinHandle<bool>,
}

fn start<T: Ending>(name: &'static str, running: impl Future<Output = T> + Send + 'static) -> Named {
    Named {
        name,
        handle: tokio::spawn(async move { running.await.fine() }),
    }
}

/// The loops of an instance.
///
/// Stages end when the drain begins, or because the one before has ended; the instance runs as long as they do. Background
/// loops go on until the last stage has ended.
pub struct Loops {
    stale_after: Duration,
    limit: Duration,
    shutdown: Shutdown,
    behind: Shutdown,
    stages: Vec<Named>,
    background: Vec<Named>,
    pulses: Vec<Pulse>,
}

impl Loops {
    /// None yet. Each has to show life every `stale_after`. A drain that begins with a loop's death takes no longer than
    /// `limit`, as one that begins with a signal.
    pub fn new(stale_after: Duration, limit: Duration, shutdown: &Shutdown) -> Self {
        Self {
            stale_after,
            limit,
            shutdown: shutdown.clone(),
            behind: shutdown.behind(),
            stages: Vec::new(),
            background: Vec::new(),
            pulses: Vec::new(),
        }
    }

    /// Starts a stage.
    pub fn stage<T: Ending, F>(&mut self, name: &'static str, run: impl FnOnce(Task) -> F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let task = self.task(name, &self.shutdown.clone());
        self.stages.push(start(name, run(task)));
    }

    /// Starts a background loop.
    pub fn background<T: Ending, F>(&mut self, name: &'static str, run: impl FnOnce(Task) -> F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let task = self.task(name, &self.behind.clone());
        self.background.push(start(name, run(task)));
    }

    /// Starts a background loop that has no sign of life: trouble with it is no reason to restart what works.
    pub fn unwatched<T: Ending, F>(&mut self, name: &'static str, run: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.background.push(start(name, run(self.behind.clone())));
    }

    fn task(&mut self, name: &'static str, shutdown: &Shutdown) -> Task {
        let task = Task::new(name, self.stale_after, shutdown);
        self.pulses.push(task.pulse.clone());
        task
    }

    /// The signs of life of all loops that have one.
    pub fn pulses(&self) -> &[Pulse] {
        &self.pulses
    }

    /// Waits until the stages have ended, then ends the background loops. `true` when a loop ended that had not been told to,
    /// however it ended: that starts the drain. A stage that goes on after the drain was abandoned is given up.
    pub async fn supervise(mut self) -> bool {
        let mut failed_at = None;
        let mut abandoned_at = None;
        let mut running = JoinSet::new();
        let mut aborts = Vec::new();
        for stage in std::mem::take(&mut self.stages) {
            aborts.push((stage.name, stage.handle.abort_handle()));
            running.spawn(async move { (stage.name, stage.handle.await) });
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        while !running.is_empty() {
            tokio::select! {
                Some(ended) = running.join_next() => {
                    let (name, fine) = match ended {
                        Ok((name, outcome)) => (name, is_fine(name, outcome)),
                        Err(_) => ("supervisor", false),
                    };
                    let expected = self.shutdown.draining().is_cancelled();
                    if !fine || !expected {
                        if !expected {
                            self.stopped_unexpectedly(name);
                        }
                        failed_at.get_or_insert_with(Instant::now);
                        self.shutdown.drain();
                    }
                }
                _ = ticks.tick() => {
                    if let Some(name) = self.dead_background()
                        && failed_at.is_none()
                        && !self.shutdown.abandoned().is_cancelled()
                    {
                        self.stopped_unexpectedly(name);
                        failed_at = Some(Instant::now());
                    }
                    if failed_at.is_some_and(|at| at.elapsed() > self.limit) {
                        // What the dead loop had is let go of by nobody: the others would wait for it without end.
                        self.shutdown.abandon();
                    }
                    if self.shutdown.abandoned().is_cancelled()
                        && abandoned_at.get_or_insert_with(Instant::now).elapsed() > LAST_ROUND
                    {
                        give_up(&aborts);
                        failed_at.get_or_insert_with(Instant::now);
                        break;
                    }
                }
            }
        }
        self.end_background(LAST_ROUND).await;
        failed_at.is_some()
    }

    /// Ends the background loops; each does what is left to do. They are waited for up to `limit`.
    pub async fn end_background(self, limit: Duration) {
        self.behind.drain();
        let until = tokio::time::Instant::now() + limit;
        for task in self.background {
            let _ended = tokio::time::timeout_at(until, task.handle).await;
        }
    }

    fn dead_background(&self) -> Option<&'static str> {
        let mut background = self.background.iter();
        let dead = background.find(|task| task.handle.is_finished());
        dead.map(|task| task.name)
    }

    fn stopped_unexpectedly(&self, name: &'static str) {
        tracing::error!(name, "a loop stopped unexpectedly: draining, then exiting");
        self.shutdown.drain();
    }
}

/// Ends stages wherever they wait; what they hold stays pending, as whenever a drain is abandoned.
fn give_up(stages: &[(&'static str, AbortHandle)]) {
    for (name, stage) in stages {
        if !stage.is_finished() {
            tracing::error!(name, "a loop goes on after the drain's limit: it is given up");
            stage.abort();
        }
    }
}

fn is_fine(name: &str, outcome: Result<bool, JoinError>) -> bool {
    outcome.unwrap_or_else(|error| {
        tracing::error!(name, %error, "a loop died");
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn failed(stage: impl Future<Output = bool> + Send + 'static, told: bool) -> bool {
        let shutdown = Shutdown::default();
        let other = shutdown.clone();
        let until_told = async move {
            other.draining().cancelled().await;
            true
        };
        if told {
            shutdown.drain();
        }
        let mut loops = Loops::new(Duration::from_secs(1), Duration::from_secs(1), &shutdown);
        loops.stage("one", |_| stage);
        loops.stage("other", |_| until_told);
        loops.background("background", |task| async move {
            task.shutdown.draining().cancelled().await;
        });
        let ended = tokio::time::timeout(Duration::from_secs(10), loops.supervise());
        let failed = ended.await.expect("the other loops are told to end");
        assert!(shutdown.draining().is_cancelled());
        failed
    }

    #[tokio::test]
    async fn a_loop_that_died_however_it_died_ends_the_process_with_an_error() {
        assert!(failed(async { panic!("on purpose") }, false).await);
        assert!(failed(async { false }, false).await);
        assert!(
            failed(async { true }, false).await,
            "ended without having been told to"
        );
        assert!(failed(async { false }, true).await);
    }

    #[tokio::test]
    async fn loops_that_end_when_told_to_are_fine() {
        assert!(!failed(async { true }, true).await);
    }

    #[tokio::test]
    async fn what_waits_for_a_loop_that_died_ends_at_the_limit() {
        let shutdown = Shutdown::default();
        let mut loops = Loops::new(Duration::from_secs(1), Duration::from_secs(1), &shutdown);
        loops.stage("dies", |_| async { false });
        loops.stage("waits", |task| async move {
            task.shutdown.abandoned().cancelled().await;
        });
        let failed = tokio::time::timeout(Duration::from_secs(10), loops.supervise());
        assert!(failed.await.expect("the drain has a limit"));
    }

    #[tokio::test]
    async fn a_loop_that_goes_on_after_the_limit_is_given_up() {
        let shutdown = Shutdown::default();
        let mut loops = Loops::new(Duration::from_secs(1), Duration::from_secs(1), &shutdown);
        loops.stage("waits for ever", |_| std::future::pending::<()>());
        shutdown.abandon();
        let failed = tokio::time::timeout(2 * LAST_ROUND, loops.supervise());
        assert!(failed.await.expect("nothing waits for ever"));
    }

    #[tokio::test]
    async fn background_loops_are_waited_for_together() {
        let shutdown = Shutdown::default();
        let mut loops = Loops::new(Duration::from_secs(1), Duration::from_secs(1), &shutdown);
        for _ in 0..5 {
            loops.background("waits for ever", |_| std::future::pending::<()>());
        }
        let ended = tokio::time::timeout(
            Duration::from_secs(3),
            loops.end_background(Duration::from_secs(1)),
        );
        assert!(ended.await.is_ok());
    }

    #[tokio::test]
    async fn a_background_loop_that_died_is_noticed_too() {
        let shutdown = Shutdown::default();
        let other = shutdown.clone();
        let mut loops = Loops::new(Duration::from_secs(1), Duration::from_secs(1), &shutdown);
        loops.stage("stage", |_| async move {
            other.draining().cancelled().await;
            true
        });
        loops.background("background", |_| async {
            assert!(std::hint::black_box(false), "on purpose");
        });
        let failed = tokio::time::timeout(Duration::from_secs(10), loops.supervise());
        assert!(failed.await.expect("the stage is told to end"));
    }
}
