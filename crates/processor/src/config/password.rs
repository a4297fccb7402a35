//! A password as it was given, or as its file says now. Passwords are replaced while the process runs, as certificates are: only
//! new connections and requests need the new one.
//!
//! A file may be on a mount that hangs. So it is read by a thread of its own, one reading at a time, and nobody waits long for
//! it: what was read last stays in use.

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
    is_readable: bool,
    /// A server has taken it. That of the first one is said by everything that goes on.
    is_accepted: bool,
    looked: Instant,
    /// When the reading began that goes on.
    reading_since: Option<Instant>,
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
            is_readable: true,
            is_accepted: true,
            looked: Instant::now(),
            reading_since: None,
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

    fn reads_since(&self) -> Option<Instant> {
        self.last().reading_since
    }

    /// Reads the file, unless somebody does.
    fn begin_reading(self: &Arc<Self>) {
        let Some(path) = self.path.clone() else { return };
        {
            let mut last = self.last();
            if last.reading_since.is_some() {
                return;
            }
            last.reading_since = Some(Instant::now());
        }
        let kept = self.clone();
        let thread = std::thread::Builder::new().name("password".into());
        // No thread of the runtime's: its end would wait for a mount that hangs.
        if let Err(error) = thread.spawn(move || kept.take(text_in(&path))) {
            self.take(Err(error.to_string()));
        }
    }

    /// Takes in what a reading has found.
    fn take(&self, read: Result<String, String>) {
        {
            let mut last = self.last();
            (last.reading_since, last.looked) = (None, Instant::now());
            match read {
                Ok(text) => {
                    last.is_readable = true;
                    self.change(&mut last, text);
                }
                Err(why) => self.cannot_be_used(&mut last, &why),
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

    /// Says it once.
    fn cannot_be_used(&self, last: &mut Last, why: &str) {
        if std::mem::replace(&mut last.is_readable, false) {
            let file = self.file();
            tracing::warn!(
                file,
                error = why,
                "a password's file cannot be used: the password before stays in use"
            );
        }
    }

    fn hangs(&self) {
        let why = format!("it is not read within {} s", LONGEST_READING.as_secs());
        self.cannot_be_used(&mut self.last(), &why);
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
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[tokio::test]
    async fn a_password_is_what_its_file_says_or_said_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "first").unwrap();
        let password = Password::in_file(path.clone(), "first".into());
        for (written, now) in [
            ("second\n", "second"),
            (" \n", "second"),
            ("third", "third"),
            ("two\nlines", "third"),
        ] {
            std::fs::write(&path, written).unwrap();
            assert_eq!(password.renewed().await, now);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(password.renewed().await, "third");
        assert_eq!(format!("{password:?}"), "(hidden)");
        let given = Password::from("given".to_owned());
        assert_eq!(
            (given.renewed().await, given.current()),
            ("given".into(), "given".into())
        );
    }

    #[tokio::test]
    async fn what_a_pipe_said_is_not_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let password = Password::in_file(path, "once".into());
        assert_eq!(password.renewed().await, "once");
        assert!(!password.is_in_file());
    }

    /// A file that is opened and never read, as on a mount that hangs.
    fn hang(path: &std::path::Path) {
        std::fs::remove_file(path).unwrap();
        nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_hangs_is_waited_for_once_and_holds_nobody_else_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "first").unwrap();
        let password = Password::in_file(path.clone(), "first".into());
        hang(&path);
        let ticks = tokio::spawn(async {
            let began = Instant::now();
            tokio::time::sleep(Duration::from_millis(50)).await;
            began.elapsed()
        });
        let began = Instant::now();
        let all = futures::future::join_all((0..10).map(|_| password.renewed())).await;
        assert!(all.iter().all(|text| text == "first"));
        assert!(began.elapsed() < LONGEST_READING * 3, "{:?}", began.elapsed());
        assert!(
            ticks.await.unwrap() < LONGEST_READING / 2,
            "the runtime's only thread stood still"
        );
        let began = Instant::now();
        assert_eq!(password.renewed().await, "first");
        assert_eq!(password.recent(), "first");
        assert!(began.elapsed() < LONGEST_READING / 2, "{:?}", began.elapsed());
        // The mount answers again.
        std::fs::write(&path, "second").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while password.current() != "second" {
            assert!(Instant::now() < deadline, "it is never read");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(password.recent(), "second");
    }

    #[tokio::test]
    async fn a_request_looks_at_the_file_now_and_then_and_waits_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "second").unwrap();
        let password = Password::in_file(path, "first".into());
        for _request in 0..1000 {
            assert_eq!(password.recent(), "first", "the last look is new");
        }
        let deadline = Instant::now() + LOOK_EVERY + Duration::from_secs(10);
        while password.recent() != "second" {
            assert!(Instant::now() < deadline, "it is never looked at");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[tokio::test]
    async fn no_password_that_was_used_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let password = Password::of(Some(path.clone()), "hunter".into());
        for next in ["hunter2", "", "swordfish"] {
            std::fs::write(&path, next).unwrap();
            password.renewed().await;
        }
        let said = password.hidden_in("not hunter2, not hunter, not swordfish");
        assert_eq!(said, "not ***, not ***, not ***");
        assert_eq!(Password::from(String::new()).hidden_in("nothing"), "nothing");
    }
}
