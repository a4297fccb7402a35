//! A worker as a process of its own.

use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// A worker process; killed when dropped.
pub(crate) struct Worker {
    pub(super) child: Child,
    pub(super) log: PathBuf,
    pub(super) heartbeat: PathBuf,
}

impl Worker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether the heartbeat was written: the process lives.
    pub(crate) fn lives(&self) -> bool {
        self.heartbeat.exists()
    }

    /// Whether everything has begun.
    pub(crate) fn is_beating(&self) -> bool {
        self.lives() && self.log().contains("every store has answered")
    }

    pub(crate) fn terminate(&self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the worker still runs:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Processor time used so far, its own and the system's for it.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        let ticks = |field: usize| -> u64 {
            after_name
                .split_whitespace()
                .nth(field - 3)
                .unwrap()
                .parse()
                .unwrap()
        };
        Duration::from_millis((ticks(14) + ticks(15)) * 10)
    }

    /// Resident memory, peak, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        peak_memory(self.pid()).unwrap() * 1024
    }
}

impl Drop for Worker {
    #[allow(clippy::print_stderr, reason = "what a failed test is explained by")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the worker's last lines:\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        let _already_ended = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}

/// Peak of a process's resident memory in KiB; nothing when it has ended.
pub(super) fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
