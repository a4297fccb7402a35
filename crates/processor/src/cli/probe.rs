//! `qurvo-processor probe`: for orchestrators without a shell. Reads the heartbeat and asks no store.
//!
//! Exit 0, or 1 with why not, in one line.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use super::environment::of_heartbeat;
use super::failure::Failure;
use super::output::print;
use crate::config::HeartbeatConfig;
use crate::logs::harmless;
use crate::runtime::life::State;
use crate::telemetry::heartbeat::{self, Note, Process, Trouble};

/// Longest that a file is read for: an orchestrator gives a probe a second.
const LIMIT: Duration = Duration::from_millis(800);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub(super) enum Question {
    /// Has it consumed, or been able to, since it began? Not while it waits for a store at its start.
    #[command(after_long_help = of_heartbeat())]
    Started,
    /// Does every loop make progress, or is legitimately idle, an outage of a store included?
    #[command(after_long_help = of_heartbeat())]
    Live,
    /// Is it alive, are all stores there, and is reading not paused?
    #[command(after_long_help = of_heartbeat())]
    Ready,
}

/// What the files say.
struct Found {
    /// How old the heartbeat is; nothing without one.
    beat: Option<Duration>,
    note: Option<Note>,
}

pub(super) fn run(question: Question) -> Result<(), Failure> {
    let config = HeartbeatConfig::from_env()?;
    let (tell, told) = mpsc::channel();
    let path = config.path.clone();
    // A disk that hangs must not hold the answer up.
    std::thread::spawn(move || {
        let _nobody_waits_any_more = tell.send(look(&path)).is_err();
    });
    let shown = config.path.display();
    let answer = match told.recv_timeout(LIMIT) {
        Ok(Ok(found)) => answer(question, &config, &Process::current(), &found),
        Ok(Err(error)) => Err(format!("{shown} cannot be read: {error}")),
        Err(_elapsed) => Err(format!("{shown} cannot be read within {} ms", LIMIT.as_millis())),
    };
    match answer {
        Ok(said) => {
            print(&harmless::line(&said));
            Ok(())
        }
        Err(said) => {
            print(&format!("no: {}", harmless::line(&said)));
            Err(Failure::Silent)
        }
    }
}

fn look(path: &Path) -> std::io::Result<Found> {
    let beat = match path.metadata().and_then(|file| file.modified()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        written => Some(heartbeat::age_of(written?)),
    };
    let note = heartbeat::read(path)?.map(|(note, _)| note);
    Ok(Found { beat, note })
}

/// What is said in one line; as an error where the answer is no.
fn answer(
    question: Question,
    config: &HeartbeatConfig,
    me: &Process,
    found: &Found,
) -> Result<String, String> {
    let path = config.path.display();
    let Some(beat) = found.beat else {
        return Err(format!(
            "there is no heartbeat {path}: no instance runs that writes it"
        ));
    };
    if let Some(note) = &found.note {
        belongs(note, config, me)?;
    }
    let limit = config.interval * 2 + config.stale;
    let is_fresh = beat <= limit;
    let age = beat.as_secs();
    let Some(note) = &found.note else {
        return match question {
            Question::Live if is_fresh => Ok(format!("alive: heartbeat {age} s old")),
            Question::Live => Err(format!("heartbeat {age} s old, more than {} s", limit.as_secs())),
            Question::Started | Question::Ready => Err(format!("{path}.json, which says it, is not there")),
        };
    };
    if question != Question::Started && !is_fresh {
        let loops = note.silent_loops.join(", ");
        let because = if loops.is_empty() {
            String::new()
        } else {
            format!(": no progress of {loops}")
        };
        return Err(format!(
            "heartbeat {age} s old, more than {} s{because}",
            limit.as_secs()
        ));
    }
    let state = state(note);
    let is_so = match question {
        Question::Started => note.has_served,
        Question::Live => true,
        Question::Ready => note.state == State::Serving,
    };
    if is_so { Ok(state) } else { Err(state) }
}

/// Whether the heartbeat is that of the instance which is asked about.
fn belongs(note: &Note, config: &HeartbeatConfig, me: &Process) -> Result<(), String> {
    let path = config.path.display();
    let is_named = |name: &str| note.consumer == name || note.consumer.starts_with(&format!("{name}~"));
    let other = config.consumer.as_deref().is_some_and(|name| !is_named(name));
    if other || note.process.host != me.host {
        return Err(format!(
            "{path} is the heartbeat of {} on {}: set HEARTBEAT_PATH to a path of its own for each instance",
            note.consumer, note.process.host
        ));
    }
    if note.process.has_ended(me) {
        return Err(format!(
            "process {} of {} has ended",
            note.process.pid, note.consumer
        ));
    }
    Ok(())
}

/// What an instance does, for how long, and why.
fn state(note: &Note) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = (now.as_millis() as u64).saturating_sub(note.since) / 1000;
    let mut text = format!("{} for {seconds} s", note.state.name());
    let troubles: Vec<String> = note.stores.iter().map(trouble).collect();
    if !troubles.is_empty() {
        text.push_str(": ");
        text.push_str(&troubles.join("; "));
    }
    text
}

fn trouble(trouble: &Trouble) -> String {
    let Trouble { store, error, advice } = trouble;
    match (error, advice) {
        (Some(error), Some(advice)) => format!("{store} needs an operator ({error}): {advice}"),
        (Some(error), None) => format!("{store} is away ({error})"),
        (None, _) => format!("{store} has not answered yet"),
    }
}
