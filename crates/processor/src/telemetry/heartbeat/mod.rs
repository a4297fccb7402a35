//! The heartbeat file that probes read: milliseconds since the epoch, rewritten while every loop shows life. Beside it, in
//! a file of the same name with `.json` behind it, stands what the instance does and which process it is.
//!
//! It never says "alive" for a loop that is not, and trouble writing it is a warning, never a reason to stop. A process
//! that waits for a store at its start is alive too: restarting it would not bring the store back.
//!
//! Two living instances never share a file: one of them would keep the other, hanging, alive. The one that finds the file to
//! be another's leaves it alone, says so every minute, and takes it over when the other has gone.

mod note;
mod process;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::Rng;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::note::{Note, Trouble, age_of, owner_alive, read};
use self::note::{Owner, owner, path_beside};
pub(crate) use self::process::Process;
use crate::runtime::life::{Life, State};
use crate::runtime::outages;
use crate::runtime::pulse::Pulse;

/// How often it is looked whether there is something new to write.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said again that the file is another instance's.
const SAID_AGAIN: Duration = Duration::from_mins(1);

/// When the file was written last, while it is ours. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastBeat(Arc<Mutex<Option<Instant>>>);

impl LastBeat {
    /// How long ago it was.
    pub(crate) fn age(&self) -> Option<Duration> {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.map(|at| at.elapsed())
    }

    fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// Writes the file; removes a predecessor's at start, and its own when the drain has ended.
pub(crate) struct Heartbeat {
    path: PathBuf,
    interval: Duration,
    consumer: String,
    pulses: watch::Receiver<Vec<Pulse>>,
    life: Life,
    last: LastBeat,
    me: Process,
    /// What this process has written into the file.
    written: Option<String>,
    is_held: bool,
    /// Whether it was ours at any time: then it is not taken back from a living one.
    has_held: bool,
    /// Another's note that may be one of the living, and when it was written.
    perhaps: Option<u64>,
    complained: Option<(Instant, Instant)>,
}

impl Heartbeat {
    /// A heartbeat over whatever `pulses` names at the time. A file left by an earlier run is removed at once: it proves
    /// nothing about this one.
    pub(crate) fn new(
        (path, interval): (PathBuf, Duration),
        consumer: String,
        pulses: watch::Receiver<Vec<Pulse>>,
        life: Life,
    ) -> Self {
        let me = Process::current();
        if matches!(owner(&path, &me, false), Owner::Us) {
            remove(&path);
            remove(&path_beside(&path));
        }
        Self {
            path,
            interval,
            consumer,
            pulses,
            life,
            last: LastBeat::default(),
            me,
            written: None,
            is_held: false,
            has_held: false,
            perhaps: None,
            complained: None,
        }
    }

    /// When it beat last.
    pub(crate) fn last(&self) -> LastBeat {
        self.last.clone()
    }

    /// Beats until `stop`, then removes the file, unless another process has written it meanwhile.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let look = self.interval.min(LOOK);
        let mut ticks = tokio::time::interval(look);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told: Option<(Note, Instant)> = None;
        loop {
            tokio::select! { () = stop.cancelled() => break, _ = ticks.tick() => {} }
            let mut note = self.note();
            match &told {
                Some((before, at)) if before.says_the_same(&note) => {
                    note.since = before.since;
                    if at.elapsed() + look / 2 < self.interval {
                        continue;
                    }
                }
                Some((before, _)) if before.state == note.state => note.since = before.since,
                _ => {}
            }
            if let Some((before, _)) = &told {
                note.has_served |= before.has_served;
            }
            Self::tell_of_silence(told.as_ref(), &note);
            if self.may_write().await {
                self.write(&note).await;
            }
            told = Some((note, Instant::now()));
        }
        self.leave().await;
    }

    fn note(&self) -> Note {
        let now = now_ms();
        let state = self.life.state();
        let pulses = self.pulses.borrow();
        let silent = pulses.iter().filter(|pulse| !pulse.is_fresh());
        Note {
            process: self.me.clone(),
            consumer: self.consumer.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            since: now,
            at: now,
            every_ms: self.interval.as_millis() as u64,
            has_served: matches!(state, State::Serving | State::Paused),
            stores: troubles(&self.life),
            silent_loops: silent.map(|pulse| pulse.name().to_owned()).collect(),
        }
    }

    /// Says once which loops keep the heartbeat from being written.
    fn tell_of_silence(before: Option<&(Note, Instant)>, note: &Note) {
        let known = before.is_some_and(|(before, _)| before.silent_loops == note.silent_loops);
        if !known && !note.silent_loops.is_empty() {
            let loops = note.silent_loops.join(", ");
            tracing::error!(loops, "no heartbeat: these loops show no progress");
        }
    }

    /// Whether the file is ours, or can be.
    async fn may_write(&mut self) -> bool {
        let (path, me, has_held) = (self.path.clone(), self.me.clone(), self.has_held);
        let (written, interval) = (self.written.clone(), self.interval);
        let found = tokio::task::spawn_blocking(move || {
            let is_overwritten = written.is_some_and(|written| is_anothers(&path, &written, interval));
            (owner(&path, &me, has_held), is_overwritten)
        });
        let (theirs, lives) = match found.await.unwrap_or((Owner::Us, false)) {
            (Owner::Us, false) => {
                (self.is_held, self.has_held) = (true, true);
                (self.perhaps, self.complained) = (None, None);
                return true;
            }
            // A version that writes no note.
            (Owner::Us, true) => (None, true),
            (Owner::Another(theirs), _) => (Some(theirs), true),
            // One that is gone writes no more.
            (Owner::Unknown(theirs), _) => {
                let lives = self.perhaps.is_some_and(|at| at != theirs.at);
                self.perhaps.get_or_insert(theirs.at);
                (Some(theirs), lives)
            }
        };
        if theirs.is_some() {
            self.written = None;
        }
        self.is_held = false;
        self.last.set(None);
        if lives {
            self.complain(theirs.as_deref());
        }
        false
    }

    fn complain(&mut self, theirs: Option<&Note>) {
        let now = Instant::now();
        let (since, said) = self.complained.unwrap_or((now, now));
        if self.complained.is_some() && said.elapsed() < SAID_AGAIN {
            return;
        }
        self.complained = Some((since, now));
        tracing::error!(
            path = %self.path.display(), consumer = theirs.map(|note| note.consumer.as_str()),
            host = theirs.map(|note| note.process.host.as_str()), pid = theirs.map(|note| note.process.pid),
            for_s = since.elapsed().as_secs(),
            "the heartbeat file is another living instance's: this one has none; set HEARTBEAT_PATH to a path of its own"
        );
    }

    /// Writes the note, and the heartbeat itself only while every loop shows life.
    async fn write(&mut self, note: &Note) {
        let text = serde_json::to_vec(note).unwrap_or_default();
        let mut written = replace(&path_beside(&self.path), &text).await;
        if written.is_ok() && note.silent_loops.is_empty() {
            let now = now_ms().to_string();
            written = replace(&self.path, now.as_bytes()).await;
            if written.is_ok() {
                self.written = Some(now);
                self.last.set(Some(Instant::now()));
            }
        }
        if let Err(error) = written {
            let path = self.path.display();
            tracing::warn!(%path, %error, "heartbeat file could not be written: set HEARTBEAT_PATH to a path that can be");
        }
    }

    /// Removes what is still our own.
    async fn leave(self) {
        if self.is_held && matches!(owner(&self.path, &self.me, true), Owner::Us) {
            remove(&path_beside(&self.path));
        }
        if self.written.is_some() && tokio::fs::read_to_string(&self.path).await.ok() == self.written {
            remove(&self.path);
        }
    }
}

/// The stores that are away, leave requests without an answer, or have not answered yet.
fn troubles(life: &Life) -> Vec<Trouble> {
    let trouble = |store: &str, error, advice: Option<&str>| Trouble {
        store: store.to_owned(),
        error,
        advice: advice.map(str::to_owned),
    };
    let away = outages::away().into_iter();
    let mut all: Vec<Trouble> = away
        .map(|outage| trouble(outage.store, Some(outage.error), outage.advice))
        .collect();
    for (store, since) in outages::unanswered() {
        if all.iter().all(|known| known.store != store) {
            let error = format!("no answer for {} s", since.elapsed().as_secs());
            all.push(trouble(store, Some(error), None));
        }
    }
    for store in life.waited_for() {
        if all.iter().all(|known| known.store != store.name()) {
            all.push(trouble(store.name(), None, None));
        }
    }
    all
}

impl Note {
    /// Whether only the time has passed.
    fn says_the_same(&self, other: &Self) -> bool {
        let names = |note: &Self| -> Vec<(String, bool)> {
            let stores = note.stores.iter();
            stores
                .map(|trouble| (trouble.store.clone(), trouble.advice.is_some()))
                .collect()
        };
        self.state == other.state && self.silent_loops == other.silent_loops && names(self) == names(other)
    }
}

/// Whether a file holds something else than what was written there, and was written not long ago.
fn is_anothers(path: &Path, written: &str, interval: Duration) -> bool {
    let age = || -> io::Result<Duration> {
        let found = path.symlink_metadata()?;
        let is_file = found.is_file();
        let written = is_file.then(|| found.modified());
        Ok(age_of(
            written.ok_or_else(|| io::Error::other("no regular file"))??,
        ))
    };
    let is_fresh = age().is_ok_and(|age| age <= interval * 2 + LOOK);
    is_fresh && std::fs::read_to_string(path).is_ok_and(|text| text != written)
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64
}

/// Replaces a file as a whole. Its folder may be one where any user may put files, such as `/tmp`: the draft beside it has
/// a name that cannot be known before and is made by us or not at all, and renaming follows no link.
async fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", rand::rng().random::<u64>()));
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(&draft).await?;
    let written = async {
        file.write_all(content).await?;
        file.flush().await
    };
    let mut replaced = written.await;
    if replaced.is_ok() {
        replaced = tokio::fs::rename(&draft, path).await;
    }
    if replaced.is_err() {
        let _nothing_is_left = tokio::fs::remove_file(&draft).await;
    }
    replaced
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "old heartbeat file could not be removed");
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
