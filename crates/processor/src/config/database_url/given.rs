//! The parameters that a connection string gives, and what is said of those that are not accepted.

use std::collections::BTreeMap;

use super::parameters::{self, Use};
use crate::config::secrets::path_shown;

/// Parameters by their names; of several with one name the last counts, as it does for libpq.
pub(super) type Parameters = BTreeMap<String, String>;

/// Parameters that name files.
const FILES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

/// What stands there, without a secret, and what is accepted.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) value: String,
    pub(super) accepted: String,
}

impl Fault {
    pub(super) fn of(value: String, accepted: impl Into<String>) -> Self {
        Self {
            value,
            accepted: accepted.into(),
        }
    }

    pub(super) fn hidden(accepted: &str) -> Self {
        Self::of("(hidden)".into(), accepted)
    }
}

/// The parameters, for those who read them one by one.
pub(super) struct Given {
    pub(super) parameters: Parameters,
    pub(super) is_url: bool,
}

impl Given {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.parameters.get(name)?;
        // libpq takes an empty value for none.
        (!value.is_empty()).then_some(value.as_str())
    }

    /// A parameter has a value that is not accepted.
    pub(super) fn fault(&self, name: &str, accepted: &str) -> Fault {
        let shown = match parameters::of(name, "") {
            // A key may stand where its file should be named.
            Some(Use::Done) if FILES.contains(&name) => {
                path_shown(self.parameters.get(name).map_or("", String::as_str))
            }
            Some(Use::Done | Use::Ignored) => self.parameters.get(name).cloned().unwrap_or_default(),
            _ => "(hidden)".to_owned(),
        };
        let before = if self.is_url { "…?" } else { "… " };
        Fault::of(format!("{before}{name}={shown}"), accepted)
    }

    /// One of the named choices.
    pub(super) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, Fault> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == value) {
            return Ok(Some(*choice));
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        Err(self.fault(name, &format!("`{name}` to be one of {}", words.join(", "))))
    }
}
