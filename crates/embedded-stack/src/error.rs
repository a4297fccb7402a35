//! What can go wrong with the stack, in words that say what to do. Never a bare exit code: a service that does not
//! come up is reported with the end of its own log.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::ServiceKind;

/// Why the stack or one of its services is not in the state that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A program or library that the stack runs is not on this machine.
    #[error("{what} was not found; {remedy}")]
    NotInstalled {
        /// The program, library or account.
        what: String,
        /// What the operator can do.
        remedy: String,
    },
    /// A file or folder could not be used.
    #[error("could not {action} {}: {source}", path.display())]
    Path {
        /// What was being done, as an infinitive.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A program could not be run at all, or a helper such as `initdb` failed.
    #[error("could not run {program}: {reason}")]
    Run {
        /// The program.
        program: String,
        /// The system's answer, or what the program printed.
        reason: String,
    },
    /// A service ended before it answered.
    #[error("{service} ended before it was ready ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which one.
        service: ServiceKind,
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// A service runs but does not answer.
    #[error("{service} did not answer within {waited:?} ({reason}); the end of its log:\n{log}")]
    NotReady {
        /// Which one.
        service: ServiceKind,
        /// How long it was waited for.
        waited: Duration,
        /// What the last attempt said.
        reason: String,
        /// The last lines of its log.
        log: String,
    },
    /// A service is still there after it was told, and then forced, to end.
    #[error("{service} (process {pid}) did not end within {waited:?}; end it by hand")]
    Stuck {
        /// Which one.
        service: ServiceKind,
        /// Its process.
        pid: i32,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Something is asked of a service that is not running.
    #[error("{0} is not running; start it first")]
    NotRunning(ServiceKind),
    /// A service is asked to start while it runs.
    #[error("{service} already runs as process {pid}; stop it first, or use another data folder")]
    AlreadyRunning {
        /// Which one.
        service: ServiceKind,
        /// Its process.
        pid: i32,
    },
    /// A service is asked for that this stack does not have, or that is not one of its own processes.
    #[error("{0} is not started by this stack; name it in the options' services and leave its URL unset")]
    NotOurs(ServiceKind),
    /// Somebody else works on the same data folder.
    #[error("{} is in use by another embedded-stack command or test; wait for it or use another folder", .0.display())]
    Busy(PathBuf),
    /// A node of a Redis Cluster did not do what it was told, or did not come to the state that was waited for.
    #[error("the Redis node on port {port}: {during}: {reason}")]
    Node {
        /// Its port on 127.0.0.1.
        port: u16,
        /// What was being done.
        during: String,
        /// What it said.
        reason: String,
    },
    /// A process could not be signalled.
    #[error("could not signal {service} (process {pid}): {source}")]
    Signal {
        /// Which one.
        service: ServiceKind,
        /// Its process.
        pid: i32,
        /// The system's answer.
        source: nix::errno::Errno,
    },
}

impl StackError {
    /// Wraps a file error with what was being done where.
    pub(crate) fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { action, path, source }
    }

    /// Wraps a failure to run a program.
    pub(crate) fn run(program: impl Into<String>, reason: &impl ToString) -> Self {
        Self::Run {
            program: program.into(),
            reason: reason.to_string(),
        }
    }
}
