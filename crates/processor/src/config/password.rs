//! A password as it was given, or as its file says now. Passwords are replaced while the process runs, as certificates are: only
//! new connections and requests need the new one.
//!
//! A file may be on a mount that hangs. So it is read by a thread of its own, and nobody waits long for it: what was read last
//! stays in use. A reading that hangs may do so for good, although the file is well again (another mount is in its place), so
//! after some seconds another one is begun, and later ones after longer.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::read::{ConfigError, Reader};
use super::secrets::text_in;
use super::variables::Variable;

/// Longest that anybody waits for a reading.
const LONGEST_READING: Duration = Duration::from_secs(1);
/// After so long a reading is given up, times the number of those that hang.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5);
/// Most readings that hang, each with a thread: they come to this in seven hours.
const MOST_READINGS: usize = 100;
/// How often a file that cannot be used is spoken of.
const SAID_EVERY: Duration = Duration::from_mins(1);
/// How often a file is looked at for requests, each of which has the password with it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// So many passwords that were used before are known.
const MOST_KNOWN: usize = 1000;

/// A password. `Debug` hides it.
#[derive(Clone)]
pub struct Password(Arc<Kept>);

struct Kept {
    /// Where it stands, if in a file.
    path: Option<PathBuf>,
    last: Mutex<Last>,
    /// A reading has ended.
    read: Notify,
}

struct Last {
    text: String,
    /// What it was before, newest last.
    before: Vec<String>,
    /// Why its file cannot be used, if it cannot, and when that was said.
    unusable: Option<(String, Instant)>,
    /// A server has taken it. That of the first one is said by everything that goes on.
    is_accepted: bool,
    looked: Instant,
    /// Readings that go on, by their numbers, and since when.
    readings: BTreeMap<u64, Instant>,
    /// The number of the newest reading that was begun…
    begun: u64,
    /// …and of the newest that has ended: what an older one finds later is no longer so.
    ended: u64,
}

impl Password {
    /// One that stands in a file, which says this now.
    fn in_file(path: PathBuf, text: String) -> Self {
        // A pipe says it once.
        let is_file = std::fs::metadata(&path).is_ok_and(|found| found.is_file());
        Self::of(is_file.then_some(path), text)
    }

    fn of(path: Option<PathBuf>, text: String) -> Self {
        let last = Last {
            text,
            before: Vec::new(),
            unusable: None,
            is_accepted: true,
            looked: Instant::now(),
            readings: BTreeMap::new(),
            begun: 0,
            ended: 0,
        };
        Self(Arc::new(Kept {
            path,
            last: Mutex::new(last),
            read: Notify::new(),
        }))
    }

    /// Whether it may become another.
    pub fn is_in_file(&self) -> bool {
        self.0.path.is_some()
    }

    /// What it was when its file was read last.
    pub fn current(&self) -> String {
        self.0.last().text.clone()
    }

    /// The same for one request of many. Where the last look is some seconds old, the file is looked at again, and what it says
    /// is used as soon as it is read: nothing waits for it.
    pub fn recent(&self) -> String {
        let looked = self.0.last().looked;
        if looked.elapsed() >= LOOK_EVERY {
            self.0.begin_reading();
        }
        self.current()
    }

    /// What it is now, for a new connection, or after it was refused. While its file cannot be read, or is empty, which a
    /// renewal may cause for a moment, what it was last.
    pub async fn renewed(&self) -> String {
        if self.is_in_file() {
            let mut read = std::pin::pin!(self.0.read.notified());
            read.as_mut().enable();
            self.0.begin_reading();
            // Who comes later does not wait for a reading that hangs.
            if self
                .0
                .reads_since()
                .is_some_and(|since| since.elapsed() < LONGEST_READING)
                && tokio::time::timeout(LONGEST_READING, read).await.is_err()
                && self
                    .0
                    .reads_since()
                    .is_some_and(|since| since.elapsed() >= LONGEST_READING)
            {
                self.0.hangs();
            }
        }
        self.current()
    }

    /// Notes that a server has taken this one. Of one that took another's place this is said.
    pub fn was_accepted(&self, text: &str) {
        let mut last = self.0.last();
        if last.text == text && !std::mem::replace(&mut last.is_accepted, true) {
            let file = self.0.file();
            tracing::info!(file, "the password that has changed was accepted");
        }
    }

    /// What a server has said, without this password and those before it.
    pub fn hidden_in(&self, said: &str) -> String {
        let last = self.0.last();
        let mut known: Vec<&str> = last.before.iter().map(String::as_str).collect();
        known.push(&last.text);
        known.retain(|text| !text.is_empty());
        // One may be the beginning of another.
        known.sort_by_key(|text| std::cmp::Reverse(text.len()));
        known
            .iter()
            .fold(said.to_owned(), |said, text| said.replace(text, "***"))
    }
}

impl Kept {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> String {
        let path = self.path.as_ref();
        path.map_or_else(String::new, |path| path.display().to_string())
    }

    /// Since when the newest reading goes on; nothing when it has ended.
    fn reads_since(&self) -> Option<Instant> {
        self.last().going_on().last()
    }

    /// Reads the file, unless a reading goes on that may yet end.
    fn begin_reading(self: &Arc<Self>) {
        let Some(path) = self.path.clone() else { return };
        if self
            .reads_since()
            .is_some_and(|since| since.elapsed() >= LONGEST_READING)
        {
            self.hangs();
        }
        let Some(number) = self.last().begin(Instant::now()) else {
            return;
        };
        let kept = self.clone();
        let thread = std::thread::Builder::new().name("password".into());
        // No thread of the runtime's: its end would wait for a mount that hangs.
        if let Err(error) = thread.spawn(move || kept.take(number, text_in(&path))) {
            self.take(number, Err(error.to_string()));
        }
    }

    /// Takes in what a reading has found.
    fn take(&self, number: u64, read: Result<String, String>) {
        {
            let mut last = self.last();
            last.readings.remove(&number);
            if number < last.ended {
                return;
            }
            (last.ended, last.looked) = (number, Instant::now());
            match read {
                Ok(text) => {
                    if last.unusable.take().is_some() {
                        tracing::info!(file = self.file(), "a password's file can be used again");
                    }
                    self.change(&mut last, text);
                }
                Err(why) => self.cannot_be_used(&mut last, why),
            }
        }
        self.read.notify_waiters();
    }

    fn change(&self, last: &mut Last, text: String) {
        if text == last.text {
            return;
        }
        let file = self.file();
        tracing::info!(
            file,
            "a password has changed: what connects from now on uses the new one"
        );
        let before = std::mem::replace(&mut last.text, text);
        last.is_accepted = false;
        last.before.retain(|known| *known != before);
        last.before.push(before);
        if last.before.len() > MOST_KNOWN {
            last.before.remove(0);
        }
    }

    /// Says so, and again while it lasts.
    fn cannot_be_used(&self, last: &mut Last, why: String) {
        let is_said = |(said, at): &(String, Instant)| *said == why && at.elapsed() < SAID_EVERY;
        if last.unusable.as_ref().is_some_and(is_said) {
            return;
        }
        let file = self.file();
        tracing::warn!(
            file,
            error = why,
            "a password's file cannot be used: the password before stays in use"
        );
        last.unusable = Some((why, Instant::now()));
    }

    fn hangs(&self) {
        let mut last = self.last();
        let mut why = format!("it is not read within {} s", LONGEST_READING.as_secs());
        if last.readings.len() >= MOST_READINGS {
            why += ", and is not tried again: once it can be read, start this process again";
        }
        self.cannot_be_used(&mut last, why);
    }
}

impl Last {
    /// Since when each reading goes on, the newest last, without those that a newer one has made out of date.
    fn going_on(&self) -> impl Iterator<Item = Instant> {
        self.readings.range(self.ended + 1..).map(|(_, since)| *since)
    }

    /// The number of a reading that is to begin now; nothing while one goes on that is not given up.
    fn begin(&mut self, now: Instant) -> Option<u64> {
        let patience = GIVEN_UP_AFTER * self.going_on().count() as u32;
        let is_early = |since| now.duration_since(since) < patience;
        if self.readings.len() >= MOST_READINGS || self.going_on().last().is_some_and(is_early) {
            return None;
        }
        self.begun += 1;
        self.readings.insert(self.begun, now);
        Some(self.begun)
    }
}

impl Reader<'_> {
    /// The password of a variable, or in the file that another one names; nothing where neither has one.
    pub(super) fn password(
        &self,
        variable: &Variable,
        file: &Variable,
    ) -> Result<Option<Password>, ConfigError> {
        match self.password_file(file)? {
            Some(_) if self.is_set(variable) => Err(self.set_twice(variable, file)),
            Some(password) => Ok(Some(password)),
            None => Ok(self.optional(variable).map(Password::from)),
        }
    }

    /// The password in the file that a variable names.
    pub(super) fn password_file(&self, file: &Variable) -> Result<Option<Password>, ConfigError> {
        let found = self.path_and_text(file)?;
        Ok(found.map(|(path, text)| Password::in_file(path, text)))
    }
}

impl From<String> for Password {
    /// One that stays as it is.
    fn from(text: String) -> Self {
        Self::of(None, text)
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.path == other.0.path && self.current() == other.current())
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
#[path = "password_tests.rs"]
mod tests;
