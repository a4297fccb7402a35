//! Values that stand in files, as orchestrators mount secrets.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::read::{ConfigError, Reader, invalid};
use super::variables::Variable;

/// No value is longer.
const LONGEST: u64 = 64 * 1024;
/// Longest that the start waits for a file, which may be on a mount that hangs, or a pipe that nobody writes to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Variables that have named a file with a value in this process.
static NAMED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Whether this variable names a file whose value this process uses: advice is then about the file.
pub fn names_a_file(variable: &str) -> bool {
    let named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    named.contains(variable)
}

impl Reader<'_> {
    /// The URL of a service, which production has to name, from its variable or the file that another one names.
    pub(super) fn service(
        &self,
        variable: &Variable,
        file: &Variable,
        production: bool,
    ) -> Result<String, ConfigError> {
        match self.value_in_file(variable, file)? {
            Some(value) => Ok(value),
            None if production && !self.is_set(variable) => Err(ConfigError::Missing { name: variable.name }),
            None => Ok(self.text(variable)),
        }
    }

    /// What the file holds in place of the variable, if it is named.
    pub(super) fn value_in_file(
        &self,
        variable: &Variable,
        file: &Variable,
    ) -> Result<Option<String>, ConfigError> {
        let value = self.secret_file(file)?;
        if value.is_some() && self.is_set(variable) {
            return Err(self.set_twice(variable, file));
        }
        Ok(value)
    }

    /// Of a value that stands in its variable, and in the file that another one names.
    pub(super) fn set_twice(&self, variable: &Variable, file: &Variable) -> ConfigError {
        let accepted = format!("only one of {} and {} to be set", variable.name, file.name);
        invalid(file, path_shown(&self.text(file)), &accepted)
    }

    /// What a file holds, without the white space around it.
    pub(super) fn secret_file(&self, file: &Variable) -> Result<Option<String>, ConfigError> {
        let Some(path) = self.optional(file) else {
            return Ok(None);
        };
        let text = text_in_time(Path::new(&path)).map_err(|why| {
            let accepted = format!("the path of a file that holds the value ({why})");
            invalid(file, path_shown(&path), &accepted)
        })?;
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        named.insert(file.name);
        Ok(Some(text))
    }

    /// Where a file that holds a value is, and what it holds.
    pub(super) fn path_and_text(&self, file: &Variable) -> Result<Option<(PathBuf, String)>, ConfigError> {
        let text = self.secret_file(file)?;
        Ok(text.map(|text| (PathBuf::from(self.text(file)), text)))
    }
}

/// The same as [`text_in`], or an error after some seconds. A thread that hangs is left behind.
fn text_in_time(path: &Path) -> Result<String, String> {
    let (sender, read) = channel();
    let path = path.to_owned();
    let thread = std::thread::Builder::new().name("secret".into());
    let begun = thread.spawn(move || sender.send(text_in(&path)));
    begun.map_err(|error| error.to_string())?;
    read.recv_timeout(PATIENCE).unwrap_or_else(|_elapsed| {
        Err(format!(
            "it is not read within {} s: its mount hangs, or it is a pipe that nobody writes to",
            PATIENCE.as_secs()
        ))
    })
}

/// What a file holds, without the white space around it.
///
/// # Errors
/// In words, when it cannot be read, or holds nothing.
pub(super) fn text_in(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    match String::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => Err("it is empty".into()),
        Ok(text) if text.trim().contains(char::is_control) => {
            Err("it has several lines, or control characters".into())
        }
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => Err("it is no text in UTF-8".into()),
    }
}

/// A path as an error may repeat it. What is none may be the secret itself, which stands where its file should be named.
pub(super) fn path_shown(path: &str) -> String {
    let is_path = path.starts_with(['/', '.']) && path.len() < 4096 && !path.contains(['@', '\n']);
    if is_path {
        path.to_owned()
    } else {
        "(hidden)".to_owned()
    }
}
