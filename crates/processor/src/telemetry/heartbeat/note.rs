//! The note beside the heartbeat file: what the instance does, and which process it is.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::process::{Process, Relation};
use crate::runtime::life::State;

/// What an instance writes beside its heartbeat, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Which process it is.
    #[serde(flatten)]
    pub(crate) process: Process,
    /// Its consumer's name.
    pub(crate) consumer: String,
    /// The program's version.
    pub(crate) version: String,
    /// What it does.
    pub(crate) state: State,
    /// Since when, in milliseconds since the epoch.
    pub(crate) since: u64,
    /// When this was written, in milliseconds since the epoch.
    pub(crate) at: u64,
    /// How often it is written.
    pub(crate) every_ms: u64,
    /// Whether it has served since it began.
    pub(crate) has_served: bool,
    /// Stores that are away, or have yet to answer.
    pub(crate) stores: Vec<Trouble>,
    /// Loops that show no progress: there is no heartbeat because of them.
    pub(crate) silent_loops: Vec<String>,
}

/// A store that is away, or has yet to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// Its name.
    pub(crate) store: String,
    /// What it said last, if it is away.
    pub(crate) error: Option<String>,
    /// What an operator has to do, where no waiting helps.
    pub(crate) advice: Option<String>,
}

/// Whose a heartbeat file is.
#[derive(Debug)]
pub(super) enum Owner {
    /// Ours, or nobody's.
    Us,
    /// Another living instance's.
    Another(Box<Note>),
    /// Perhaps another's, elsewhere: it was written not long ago.
    Unknown(Box<Note>),
}

/// A note is shorter.
const MOST_BYTES: u64 = 64 << 10;

/// Where the note of a heartbeat file stands.
pub(crate) fn path_beside(heartbeat: &Path) -> PathBuf {
    let mut path = heartbeat.as_os_str().to_owned();
    path.push(".json");
    path.into()
}

/// The note beside a heartbeat file, and how long ago it was written. Nothing where there is none that can be read.
///
/// # Errors
/// When there is one, and it cannot be read.
pub(crate) fn read(heartbeat: &Path) -> io::Result<Option<(Note, Duration)>> {
    let path = path_beside(heartbeat);
    // Its folder may be one where any user may put files: what is no file may never end.
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is no regular file")),
        found => found?,
    };
    let file = File::open(&path)?;
    let age = age_of(file.metadata()?.modified()?);
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok().map(|note| (note, age)))
}

/// How far a time is from now. One that lies in the future is from before the clock was set back, and as old as that at
/// least.
pub(crate) fn age_of(written: SystemTime) -> Duration {
    let age = SystemTime::now().duration_since(written);
    age.unwrap_or_else(|ahead| ahead.duration())
}

/// The note of the living instance whose heartbeat file it is, if it is known to be one's.
pub(crate) fn owner_alive(heartbeat: &Path) -> Option<Note> {
    match owner(heartbeat, &Process::current(), false) {
        Owner::Another(note) => Some(*note),
        Owner::Us | Owner::Unknown(_) => None,
    }
}

/// Whose a heartbeat file is, as far as its note tells. `has_held` says that it was ours before.
pub(super) fn owner(heartbeat: &Path, me: &Process, has_held: bool) -> Owner {
    let Ok(Some((note, age))) = read(heartbeat) else {
        return Owner::Us;
    };
    let is_fresh = age <= Duration::from_millis(note.every_ms * 2) + Duration::from_secs(1);
    let relation = me.relation(&note.process);
    let lives = match relation {
        Relation::Itself | Relation::EarlierBoot => false,
        Relation::Neighbour => note.process.lives(),
        // Who took ours away lives. Otherwise a container that was started again finds what the one before has left.
        Relation::SameHost | Relation::Elsewhere => has_held && is_fresh,
    };
    if lives {
        Owner::Another(Box::new(note))
    } else if relation == Relation::Elsewhere && is_fresh {
        Owner::Unknown(Box::new(note))
    } else {
        Owner::Us
    }
}
