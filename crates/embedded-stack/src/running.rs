//! A running service's processes: the one that was started and those it started in turn. Signals go to all of them,
//! and ending is over only when none is left.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process::ProcessIdentity;
use crate::{ServiceKind, StackError};

/// How long processes may take to vanish once killed, or to stand still once paused.
const FORCED_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// The processes of one service.
#[derive(Debug)]
pub(crate) struct Running {
    service: ServiceKind,
    identity: ProcessIdentity,
    /// Present when this process started it, and so must reap it.
    child: Option<Child>,
}

impl Running {
    /// A service that this process started.
    pub(crate) fn started(service: ServiceKind, identity: ProcessIdentity, child: Child) -> Self {
        Self {
            service,
            identity,
            child: Some(child),
        }
    }

    /// A service that an earlier command started.
    pub(crate) fn found(service: ServiceKind, identity: ProcessIdentity) -> Self {
        Self {
            service,
            identity,
            child: None,
        }
    }

    /// Number of the process that was started.
    pub(crate) fn pid(&self) -> i32 {
        self.identity.pid()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
            return Some(status.to_string());
        }
        (!self.identity.is_alive()).then(|| "its process is gone".to_owned())
    }

    /// Lets nothing move: the first process first, so that it starts no more of the others.
    pub(crate) async fn pause(&self) -> Result<(), StackError> {
        self.signal(&self.identity, Signal::SIGSTOP)?;
        let family = self.family();
        family
            .iter()
            .try_for_each(|process| self.signal(process, Signal::SIGSTOP))?;
        let still = || {
            family
                .iter()
                .all(|process| process.is_stopped() || !process.is_alive())
        };
        if wait_for(FORCED_PATIENCE, still).await {
            Ok(())
        } else {
            Err(self.stuck(FORCED_PATIENCE))
        }
    }

    /// Whether its first process stands still.
    pub(crate) fn is_paused(&self) -> bool {
        self.identity.is_stopped()
    }

    /// Lets everything move again.
    pub(crate) fn resume(&self) -> Result<(), StackError> {
        self.family()
            .iter()
            .try_for_each(|process| self.signal(process, Signal::SIGCONT))
    }

    /// Asks the service to end and, when it has not after `patience`, kills it.
    pub(crate) async fn stop(&mut self, signal: Signal, patience: Duration) -> Result<(), StackError> {
        let family = self.family();
        self.signal(&self.identity, signal)?;
        // A paused process would not hear the signal before it goes on.
        self.resume()?;
        if wait_for(patience, || self.all_gone(&family)).await {
            return Ok(());
        }
        self.kill().await
    }

    /// Kills every process at once.
    pub(crate) async fn kill(&mut self) -> Result<(), StackError> {
        let family = self.family();
        family
            .iter()
            .try_for_each(|process| self.signal(process, Signal::SIGKILL))?;
        if wait_for(FORCED_PATIENCE, || self.all_gone(&family)).await {
            return Ok(());
        }
        Err(self.stuck(FORCED_PATIENCE))
    }

    /// Ends every process without a runtime to wait on: for drop. `signal` is tried first, then force.
    pub(crate) fn end_now(&mut self, signal: Signal, patience: Duration) {
        let family = self.family();
        let _gone = self.identity.signal(signal);
        let _gone = self.resume();
        let deadline = Instant::now() + patience;
        while !self.all_gone(&family) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        for process in &family {
            let _gone = process.signal(Signal::SIGKILL);
        }
        if let Some(child) = &mut self.child {
            let _reaped = child.wait();
        }
    }

    fn all_gone(&mut self, family: &[ProcessIdentity]) -> bool {
        self.ended().is_some() && !family.iter().any(ProcessIdentity::is_alive)
    }

    fn family(&self) -> Vec<ProcessIdentity> {
        let mut family = vec![self.identity.clone()];
        family.extend(self.identity.descendants());
        family
    }

    fn signal(&self, process: &ProcessIdentity, signal: Signal) -> Result<(), StackError> {
        process.signal(signal).map_err(|source| StackError::Signal {
            service: self.service,
            pid: process.pid(),
            source,
        })
    }

    fn stuck(&self, waited: Duration) -> StackError {
        StackError::Stuck {
            service: self.service,
            pid: self.pid(),
            waited,
        }
    }
}

/// Whether `condition` came true in time.
async fn wait_for(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}
