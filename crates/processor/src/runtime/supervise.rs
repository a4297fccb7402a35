//! Loops that must not end unnoticed.

use std::future::Future;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::shutdown::Shutdown;

/// A loop and its name; the value says whether it ended as it should.
#[derive(Debug)]
pub struct Named {
    name: &'static str,
    /// The running loop.
    pub handle: JoinHandle<bool>,
}

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

/// Starts a loop.
pub fn named<T: Ending>(name: &'static str, task: impl Future<Output = T> + Send + 'static) -> Named {
    Named {
        name,
        handle: tokio::spawn(async move { task.await.fine() }),
    }
}

/// Waits for the stages to end, one after another. A loop that ends without having been told to, however it ended,
/// starts the drain and makes the run a failure.
pub async fn supervise(stages: Vec<Named>, background: &[Named], shutdown: &Shutdown) -> bool {
    let mut failed = false;
    let mut running = JoinSet::new();
    for stage in stages {
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
                let expected = shutdown.draining().is_cancelled();
                if !fine || !expected {
                    if !expected {
                        tracing::error!(stage = name, "ended without having been told to: draining, then exiting");
                    }
                    failed = true;
                    shutdown.drain();
                }
            }
            _ = ticks.tick() => {
                for task in background.iter().filter(|task| task.handle.is_finished()) {
                    if !failed && !shutdown.abandoned().is_cancelled() {
                        tracing::error!(task = task.name, "ended without having been told to: draining, then exiting");
                        failed = true;
                        shutdown.drain();
                    }
                }
            }
        }
    }
    failed
}

fn is_fine(name: &str, outcome: Result<bool, JoinError>) -> bool {
    outcome.unwrap_or_else(|error| {
        tracing::error!(stage = name, %error, "loop died");
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
        let stages = vec![named("one", stage), named("other", until_told)];
        let background = [named("background", std::future::pending::<()>())];
        let ended = tokio::time::timeout(Duration::from_secs(10), supervise(stages, &background, &shutdown));
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
    async fn a_background_loop_that_died_is_noticed_too() {
        let shutdown = Shutdown::default();
        let other = shutdown.clone();
        let stage = named("stage", async move {
            other.draining().cancelled().await;
            true
        });
        let dead = [named("background", async {
            assert!(std::hint::black_box(false), "on purpose");
        })];
        let failed = tokio::time::timeout(Duration::from_secs(10), supervise(vec![stage], &dead, &shutdown));
        assert!(failed.await.expect("the stage is told to end"));
    }
}
