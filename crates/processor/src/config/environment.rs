//! The environment as text.

use super::VARIABLES;
use super::read::{ConfigError, ConfigErrors};

/// A variable of this process's environment, as far as it is text.
pub(super) fn of_environment(name: &str) -> Option<String> {
    Some(std::env::var_os(name)?.to_string_lossy().into_owned())
}

/// What was read, unless a variable holds something else than text: it would count as something else than it is.
///
/// # Errors
/// Those of reading, and the variables that hold something else.
pub(super) fn in_text<T>(read: Result<T, ConfigErrors>) -> Result<T, ConfigErrors> {
    let is_text = |name: &str| std::env::var_os(name).is_none_or(|value| value.to_str().is_some());
    let broken = VARIABLES.iter().filter(|variable| !is_text(variable.name));
    let mut wrong: Vec<ConfigError> = broken
        .map(|variable| ConfigError::Invalid {
            name: variable.name,
            value: "(hidden)".into(),
            accepted: "text in UTF-8".into(),
        })
        .collect();
    match read {
        Ok(read) if wrong.is_empty() => Ok(read),
        Ok(_) => Err(ConfigErrors(wrong)),
        Err(ConfigErrors(others)) => {
            let known: Vec<&str> = wrong.iter().map(ConfigError::name).collect();
            let others: Vec<_> = others
                .into_iter()
                .filter(|e| !known.contains(&e.name()))
                .collect();
            wrong.extend(others);
            Err(ConfigErrors(wrong))
        }
    }
}
