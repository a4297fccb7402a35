//! Single variables, parsed. An unset one is read as its preset.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use url::Url;

use super::choices::Role;
use super::variables::{self, Variable};

/// Why the configuration was refused. Shown to the operator; exit code 2.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A value does not parse.
    #[error("{name}={value} is not accepted: expected {accepted}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value, or a placeholder where it may hold a secret.
        value: String,
        /// What would be accepted.
        accepted: String,
    },
    /// A value does not go with the URL beside it.
    #[error("{name}={value} is not accepted: expected {accepted}")]
    BesideUrl {
        /// The variable.
        name: &'static str,
        /// Its value, or a placeholder where it may hold a secret.
        value: String,
        /// What would be accepted.
        accepted: String,
        /// The variables that the URL may stand in.
        url: [&'static str; 2],
    },
    /// A variable must be set here.
    #[error("{name} must be set when PROCESSOR_ENV is production")]
    Missing {
        /// The variable.
        name: &'static str,
    },
}

impl ConfigError {
    /// The variable.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invalid { name, .. } | Self::BesideUrl { name, .. } | Self::Missing { name } => name,
        }
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("; "))
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

type Result<T> = std::result::Result<T, ConfigError>;

/// Where the predecessor's environment is named; read when `PROCESSOR_ENV` is unset.
const NODE_ENV: Variable = Variable {
    name: "NODE_ENV",
    ..variables::PROCESSOR_ENV
};

/// Reads variables through a look-up; an empty value counts as unset.
pub(super) struct Reader<'a> {
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    pub(super) fn is_set(&self, variable: &Variable) -> bool {
        (self.lookup)(variable.name).is_some_and(|value| !value.trim().is_empty())
    }

    /// The value or the preset; nothing where that is not a value.
    pub(super) fn optional(&self, variable: &Variable) -> Option<String> {
        let value = (self.lookup)(variable.name).map(|value| value.trim().to_owned());
        value
            .filter(|value| !value.is_empty())
            .or_else(|| variable.unset.value().map(str::to_owned))
    }

    /// The value or the preset, which is one.
    pub(super) fn text(&self, variable: &Variable) -> String {
        self.optional(variable).unwrap_or_default()
    }

    /// Whether this is where a company's events are.
    pub(super) fn is_production(&self) -> Result<bool> {
        let variable = if self.is_set(&variables::PROCESSOR_ENV) {
            &variables::PROCESSOR_ENV
        } else {
            &NODE_ENV
        };
        self.choice(
            variable,
            &[
                ("development", false),
                ("production", true),
                ("test", false),
                ("staging", false),
            ],
        )
    }

    /// A positive whole number.
    pub(super) fn count(&self, variable: &Variable) -> Result<usize> {
        self.optional_count(variable)?
            .ok_or_else(|| invalid(variable, String::new(), "a whole number"))
    }

    pub(super) fn optional_count(&self, variable: &Variable) -> Result<Option<usize>> {
        let Some(value) = self.optional(variable) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(count @ 1..=1_000_000_000) => Ok(Some(count)),
            _ => Err(invalid(variable, value, "a whole number from 1 to 1000000000")),
        }
    }

    /// A number for a type that is smaller.
    pub(super) fn small_count(&self, variable: &Variable) -> Result<u32> {
        self.count(variable)
            .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Mebibytes, in bytes.
    pub(super) fn mebibytes(&self, variable: &Variable) -> Result<usize> {
        self.count(variable).map(|count| count.saturating_mul(1 << 20))
    }

    pub(super) fn milliseconds(&self, variable: &Variable) -> Result<Duration> {
        self.count(variable).map(|ms| Duration::from_millis(ms as u64))
    }

    /// The same, and not fewer than `least`.
    pub(super) fn milliseconds_from(&self, least: u64, variable: &Variable) -> Result<Duration> {
        let time = self.milliseconds(variable)?;
        if time < Duration::from_millis(least) {
            let accepted = format!("a whole number from {least} to 1000000000");
            return Err(invalid(variable, self.text(variable), &accepted));
        }
        Ok(time)
    }

    /// A name of one line, if there is one.
    pub(super) fn name(&self, variable: &Variable) -> Result<Option<String>> {
        match self.optional(variable) {
            Some(name) if name.contains(char::is_control) => {
                let accepted = "a name without line breaks and other control characters";
                Err(invalid(variable, name, accepted))
            }
            name => Ok(name),
        }
    }

    pub(super) fn seconds(&self, variable: &Variable) -> Result<Duration> {
        self.count(variable)
            .map(|seconds| Duration::from_secs(seconds as u64))
    }

    pub(super) fn minutes(&self, variable: &Variable) -> Result<Duration> {
        self.count(variable)
            .map(|minutes| Duration::from_mins(minutes as u64))
    }

    /// Days up to a century; 0 is for ever.
    pub(super) fn days(&self, variable: &Variable) -> Result<Option<i32>> {
        let value = self.text(variable);
        match value.parse() {
            Ok(0) => Ok(None),
            Ok(days @ 1..=36_500) => Ok(Some(days)),
            _ => Err(invalid(variable, value, "a whole number from 0 to 36500")),
        }
    }

    /// A host and a port to listen on.
    pub(super) fn address(&self, variable: &Variable) -> Result<Option<String>> {
        let Some(value) = self.optional(variable) else {
            return Ok(None);
        };
        match value.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Some(value))
            }
            _ => Err(invalid(variable, value, "host:port, such as 0.0.0.0:9464")),
        }
    }

    /// One of the named choices.
    pub(super) fn choice<T: Copy>(&self, variable: &Variable, choices: &[(&str, T)]) -> Result<T> {
        let chosen = self.optional_choice(variable, choices)?;
        chosen.ok_or_else(|| invalid(variable, String::new(), &words(choices)))
    }

    pub(super) fn optional_choice<T: Copy>(
        &self,
        variable: &Variable,
        choices: &[(&str, T)],
    ) -> Result<Option<T>> {
        let Some(value) = self.optional(variable) else {
            return Ok(None);
        };
        match choices.iter().find(|(word, _)| *word == value) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => Err(invalid(variable, value, &words(choices))),
        }
    }

    pub(super) fn optional_url(&self, variable: &Variable, schemes: &[&str]) -> Result<Option<Url>> {
        let value = self.optional(variable);
        value
            .map(|value| parse_url(variable, &value, schemes))
            .transpose()
    }

    /// A name that may stand in DDL, where nothing can be bound: letters, digits, underscore, hyphen, braces.
    pub(super) fn identifier(&self, variable: &Variable) -> Result<Option<String>> {
        let Some(value) = self.optional(variable) else {
            return Ok(None);
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '{' | '}');
        if value.chars().all(is_plain) {
            Ok(Some(value))
        } else {
            Err(invalid(variable, value, "letters, digits, `_` and `-`"))
        }
    }

    pub(super) fn roles(&self, variable: &Variable) -> Result<BTreeSet<Role>> {
        let value = self.text(variable);
        let roles = value.split(',').map(|word| match word.trim() {
            "consume" => Ok(Role::Consume),
            "dlq" => Ok(Role::Dlq),
            "cohorts" => Ok(Role::Cohorts),
            _ => Err(invalid(
                variable,
                value.clone(),
                "a comma-separated list of consume, dlq, cohorts",
            )),
        });
        roles.collect()
    }
}

pub(super) fn invalid(variable: &Variable, value: String, accepted: &str) -> ConfigError {
    ConfigError::Invalid {
        name: variable.name,
        value,
        accepted: accepted.to_owned(),
    }
}

/// The same of a value that does not go with the URL of its store.
pub(super) fn beside_url(
    variable: &Variable,
    value: String,
    accepted: &str,
    url: [&Variable; 2],
) -> ConfigError {
    ConfigError::BesideUrl {
        name: variable.name,
        value,
        accepted: accepted.to_owned(),
        url: url.map(|variable| variable.name),
    }
}

fn words<T>(choices: &[(&str, T)]) -> String {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    words.join(", ")
}

/// Whether what stands behind `://` has an `@` behind the user and the password, other than in a parameter's value: they
/// have a character then that ends them too early.
pub(super) fn has_stray_at(rest: &str) -> bool {
    let (before, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
    let is_stray = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        name.contains('@') || (value.contains('@') && !before.contains('@'))
    };
    path.contains('@') || query.split(['&', '#']).any(is_stray)
}

/// Parses a URL; its text, which may hold a password, is not repeated in the error.
pub(super) fn parse_url(variable: &Variable, value: &str, schemes: &[&str]) -> Result<Url> {
    let accepted = format!("a URL beginning with {}", schemes.join(":// or ") + "://");
    if let Some((_, rest)) = value.split_once("://")
        && has_stray_at(rest)
    {
        let accepted =
            "user and password percent-encoded: `/` as %2F, `?` as %3F, `#` as %23, `@` as %40, `%` as %25";
        return Err(invalid(variable, "(hidden)".into(), accepted));
    }
    let url = Url::parse(value).map_err(|_| invalid(variable, "(hidden)".into(), &accepted))?;
    if schemes.contains(&url.scheme()) {
        Ok(url)
    } else {
        // Of `localhost:8123` the host would be taken for a scheme.
        let value = match value.split_once("://") {
            Some(_) => format!("{}://(hidden)", url.scheme()),
            None => "(hidden)".into(),
        };
        Err(invalid(variable, value, &accepted))
    }
}
