//! Which process an instance is, told apart from every other one: process ids come again, in each container and after each
//! restart.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The host's name; a container's is its own.
    pub(crate) host: String,
    /// Which start of the machine it belongs to; empty where the system does not say.
    pub(super) boot: String,
    /// Within what its id has a meaning: a container has a space of its own; empty where the system does not say.
    pub(super) pid_space: String,
    /// Its id.
    pub(crate) pid: u32,
    /// When it began, in ticks since the start of the machine; 0 where the system does not say.
    pub(super) began: u64,
}

/// How two processes stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// They are one.
    Itself,
    /// The ids of both are of one space: whether the other lives can be asked.
    Neighbour,
    /// It was of an earlier start of the same machine.
    EarlierBoot,
    /// It is or was in another container of the same name.
    SameHost,
    /// It is or was elsewhere.
    Elsewhere,
}

impl Process {
    /// This one.
    pub(crate) fn current() -> Self {
        let pid = std::process::id();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            boot: boot.trim().to_owned(),
            pid_space: space.display().to_string(),
            pid,
            began: state_and_begin(pid).map_or(0, |(_, began)| began),
        }
    }

    pub(super) fn relation(&self, other: &Self) -> Relation {
        if self == other {
            Relation::Itself
        } else if self.host != other.host {
            Relation::Elsewhere
        } else if self.boot != other.boot {
            Relation::EarlierBoot
        } else if self.pid_space != other.pid_space {
            Relation::SameHost
        } else {
            Relation::Neighbour
        }
    }

    /// Whether it lives, asked by a neighbour.
    pub(super) fn lives(&self) -> bool {
        let pid = Pid::from_raw(self.pid.cast_signed());
        if !matches!(kill(pid, None), Ok(()) | Err(Errno::EPERM)) {
            return false;
        }
        // Another process may have the id by now. What has ended and was not waited for does nothing any more.
        state_and_begin(self.pid)
            .is_none_or(|(state, began)| began == self.began && !matches!(state, 'Z' | 'X'))
    }

    /// Whether it is known to have ended, asked by another process.
    pub(crate) fn has_ended(&self, asked_by: &Self) -> bool {
        match asked_by.relation(self) {
            Relation::Neighbour => !self.lives(),
            Relation::EarlierBoot => true,
            Relation::Itself | Relation::SameHost | Relation::Elsewhere => false,
        }
    }
}

/// When a process began, as [`Process`] says it.
#[cfg(test)]
pub(super) fn began(pid: u32) -> u64 {
    state_and_begin(pid).map_or(0, |(_, began)| began)
}

/// What the system says of a process, if it does.
fn state_and_begin(pid: u32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold blanks and brackets.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself_and_whether_a_neighbour_lives() {
        let me = Process::current();
        assert_eq!(me.relation(&Process::current()), Relation::Itself);
        assert!(me.lives());
        // The same id, given to a process that began at another time.
        let successor = Process {
            began: me.began + 1,
            ..me.clone()
        };
        assert_eq!(me.relation(&successor), Relation::Neighbour);
        assert!(!successor.lives());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = Process {
            pid: child.id(),
            began: super::began(child.id()),
            ..me.clone()
        };
        child.wait().unwrap();
        assert!(ended.has_ended(&me));
    }

    #[test]
    fn containers_restarts_and_machines_are_told_apart() {
        let me = Process::current();
        let with = |change: fn(&mut Process)| {
            let mut other = me.clone();
            change(&mut other);
            me.relation(&other)
        };
        assert_eq!(with(|other| other.host.push('x')), Relation::Elsewhere);
        assert_eq!(with(|other| other.boot.push('x')), Relation::EarlierBoot);
        assert_eq!(with(|other| other.pid_space.push('x')), Relation::SameHost);
    }
}
