//! A password as it was given, or as its file says now. Passwords are replaced while the process runs, as certificates are: only
//! new connections and requests need the new one.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::read::{ConfigError, Reader};
use super::secrets::text_in;
use super::variables::Variable;

/// A password. `Debug` hides it.
#[derive(Clone)]
pub struct Password(Arc<Kept>);

struct Kept {
    /// Where it stands, if in a file.
    path: Option<PathBuf>,
    last: Mutex<Last>,
}

struct Last {
    text: String,
    is_readable: bool,
}

impl Password {
    /// One that stands in a file, which says this now.
    fn in_file(path: PathBuf, text: String) -> Self {
        // A pipe says it once.
        let is_file = std::fs::metadata(&path).is_ok_and(|found| found.is_file());
        Self::of(is_file.then_some(path), text)
    }

    fn of(path: Option<PathBuf>, text: String) -> Self {
        let is_readable = true;
        Self(Arc::new(Kept {
            path,
            last: Mutex::new(Last { text, is_readable }),
        }))
    }

    /// Whether it may become another.
    pub fn is_in_file(&self) -> bool {
        self.0.path.is_some()
    }

    /// What it is now. While its file cannot be read, or is empty, which a renewal may cause for a moment, what it was last.
    pub fn current(&self) -> String {
        let mut last = self.last();
        let Some(path) = &self.0.path else {
            return last.text.clone();
        };
        let (file, read) = (path.display(), text_in(path));
        let was_readable = std::mem::replace(&mut last.is_readable, read.is_ok());
        match read {
            Ok(text) if text == last.text => {}
            Ok(text) => {
                tracing::info!(%file, "a password has changed: what connects from now on uses the new one");
                last.text = text;
            }
            Err(why) if was_readable => {
                tracing::warn!(%file, error = why, "a password's file cannot be used: the password before stays in use");
            }
            Err(_) => {}
        }
        last.text.clone()
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
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
    use super::*;

    #[test]
    fn a_password_is_what_its_file_says_or_said_last() {
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
            assert_eq!(password.current(), now);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(password.current(), "third");
        assert_eq!(format!("{password:?}"), "(hidden)");
        assert_eq!(Password::from("given".to_owned()).current(), "given");
    }

    #[test]
    fn what_a_pipe_said_is_not_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let password = Password::in_file(path, "once".into());
        assert_eq!(password.current(), "once");
        assert!(!password.is_in_file());
    }
}
