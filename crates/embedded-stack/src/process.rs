//! Processes as `/proc` shows them: who they are, who their children are, and signals to exactly those. A process
//! number alone is never trusted: numbers are reused, also across restarts of the machine.

use std::fs;
use std::str::FromStr;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process, told apart from every other that has had or will have its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessIdentity {
    pid: i32,
    /// Clock ticks from the machine's start to the process's.
    started: u64,
    boot: String,
}

/// The fields of `/proc/PID/stat` that matter here.
struct Stat {
    state: char,
    parent: i32,
    threads: u32,
    started: u64,
}

impl ProcessIdentity {
    /// The process that has the number now, if it runs.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid).filter(Stat::runs)?;
        Some(Self {
            pid,
            started: stat.started,
            boot: boot_id(),
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether this very process still runs. One that ended and was not reaped yet does not.
    pub(crate) fn is_alive(&self) -> bool {
        self.boot == boot_id() && Self::of(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Whether it stands still after SIGSTOP.
    pub(crate) fn is_stopped(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && stat.state == 'T')
    }

    /// Sends a signal, unless the process is gone, which is no error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// The processes it started, and those they started.
    pub(crate) fn descendants(&self) -> Vec<Self> {
        let all = all_processes();
        let mut found = vec![self.pid];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            found.extend(
                all.iter()
                    .filter(|(_, above)| *above == parent)
                    .map(|(pid, _)| *pid),
            );
            next += 1;
        }
        found.into_iter().skip(1).filter_map(Self::of).collect()
    }
}

impl std::fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.pid, self.started, self.boot)
    }
}

impl FromStr for ProcessIdentity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_ascii_whitespace();
        let mut word = || words.next().ok_or(());
        let pid = word()?.parse().map_err(drop)?;
        let started = word()?.parse().map_err(drop)?;
        Ok(Self {
            pid,
            started,
            boot: word()?.to_owned(),
        })
    }
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command's name stands in parentheses and may hold anything; the fields begin after the last one.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// A process whose first thread has ended still holds its files and locks for as long as it has others.
    fn runs(&self) -> bool {
        match self.state {
            'X' => false,
            'Z' => self.threads > 1,
            _ => true,
        }
    }
}

/// Process number and parent's number of every process.
fn all_processes() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Stat::read(pid)?.parent)))
        .collect()
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> ProcessIdentity {
        ProcessIdentity::of(std::process::id() as i32).unwrap()
    }

    #[test]
    fn an_identity_survives_being_written_down() {
        assert_eq!(own().to_string().parse(), Ok(own()));
    }

    #[test]
    fn another_process_with_the_same_number_is_not_the_same_process() {
        let earlier = ProcessIdentity {
            started: own().started - 1,
            ..own()
        };
        let before_restart = ProcessIdentity {
            boot: "another".into(),
            ..own()
        };
        assert!(own().is_alive());
        assert!(!earlier.is_alive());
        assert!(!before_restart.is_alive());
    }

    #[test]
    fn a_process_that_ended_but_was_not_reaped_is_not_alive() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = ProcessIdentity::of(child.id() as i32).unwrap();
        assert!(own().descendants().contains(&identity));
        identity.signal(Signal::SIGKILL).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while identity.is_alive() {
            assert!(std::time::Instant::now() < deadline, "the process did not end");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
