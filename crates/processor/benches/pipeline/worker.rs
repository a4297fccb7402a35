//! The worker as a process of its own.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::World;

/// Longest drain of a scenario.
const PATIENCE: Duration = Duration::from_mins(20);

/// A running worker; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    started: Instant,
}

impl Worker {
    /// Starts it. `clickhouse` is where it finds ClickHouse, if not at the engine itself.
    pub(crate) fn start(world: &World, clickhouse: Option<&str>) -> Self {
        let mut command = world.bound(&["run"]);
        if let Some(url) = clickhouse {
            command.env("CLICKHOUSE_URL", url);
        }
        Self::of(&mut command)
    }

    /// Starts it by a command that says all about it.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self {
            child: command.env("LOG_LEVEL", "warn").spawn().unwrap(),
            started: Instant::now(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the group has read something it had not read at `last`. Returns the milliseconds since the start.
    pub(crate) async fn has_read(&mut self, world: &World, last: &str) -> f64 {
        while world.last_read().await == last {
            self.pause(5).await;
        }
        self.started.elapsed().as_secs_f64() * 1e3
    }

    /// Waits until everything in the stream is read and acknowledged.
    pub(crate) async fn has_drained(&mut self, world: &World) {
        while !world.is_drained().await {
            self.pause(20).await;
        }
    }

    /// Between two looks, which say nothing of a worker that has ended.
    pub(crate) async fn pause(&mut self, milliseconds: u64) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the worker has ended: {ended:?}");
        assert!(self.started.elapsed() < PATIENCE, "not done within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Ends it in good order: its successor has its name.
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the worker ended with {status}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}
