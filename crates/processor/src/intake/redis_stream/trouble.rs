//! What ends a reading session, and what ends reading.

use crate::runtime::attempts::Attempts;
use crate::runtime::retry;
use crate::stores::{Store, StoreError};

use super::connection::ConnectionError;

/// Errors in a row after which the worker drains and exits, for a supervisor to start it afresh: only of those that are no
/// outage. A store that is away, a password and a right are waited for.
const MOST_ERRORS: u32 = 100;

/// What is being done, for errors.
pub(super) const DURING: &str = "reading a stream";

/// Why a reading session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream or the group disappeared.
    #[error("{0}")]
    NoGroup(String),
    /// The server refused a command.
    #[error("Redis refused {during}: {message}")]
    Refused { during: &'static str, message: String },
    /// The pipeline is gone.
    #[error("the pipeline has ended")]
    Closed,
}

impl Trouble {
    /// What it says of Redis; nothing where Redis is well.
    fn of_redis(&self) -> Option<StoreError> {
        match self {
            Self::Connection(error) => Some(error.of_redis(DURING)),
            Self::Store(error) => Some(error.clone()),
            Self::Refused { during, message } => Some(refused(during, message)),
            Self::NoGroup(_) | Self::Closed => None,
        }
    }

    /// Whether waiting does not help, nor anything that an operator can do while the process runs, as far as is known.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Store(error) => error.is_wrong_type(),
            Self::Connection(ConnectionError::Protocol(_)) | Self::NoGroup(_) => true,
            Self::Connection(_) | Self::Refused { .. } | Self::Closed => false,
        }
    }
}

impl ConnectionError {
    /// The same as an error of the store.
    pub(super) fn of_redis(&self, during: &'static str) -> StoreError {
        match self {
            Self::Refused(said) => refused(during, said),
            Self::Io(error) => StoreError::transient(Store::Redis, during, error.to_string()),
            other => StoreError::transient(Store::Redis, during, other.to_string()),
        }
    }
}

/// What Redis says begins with its code.
fn refused(during: &'static str, said: &str) -> StoreError {
    let code = said.split(' ').next().unwrap_or_default();
    StoreError::transient(Store::Redis, during, said.to_owned()).with_code(code)
}

/// The errors of one reader since it has read something.
#[derive(Debug)]
pub(super) struct Errors {
    /// All of them.
    pub(super) in_a_row: u32,
    /// The last ones, which are no outage.
    lasting: u32,
    attempts: Attempts,
}

impl Errors {
    pub(super) fn new(reader: &'static str) -> Self {
        Self {
            in_a_row: 0,
            lasting: 0,
            attempts: Attempts::new(retry::REDIS, reader),
        }
    }

    /// Something was read.
    pub(super) fn end(&mut self) {
        (self.in_a_row, self.lasting) = (0, 0);
        self.attempts.succeeded();
    }

    pub(super) fn count(&mut self, trouble: &Trouble) {
        self.in_a_row += 1;
        self.lasting = if trouble.is_lasting() { self.lasting + 1 } else { 0 };
        if let Some(error) = trouble.of_redis() {
            self.attempts.failed(&error);
        }
    }

    /// The stream is not read, and that is no error of a session.
    pub(super) fn miss(&mut self, error: &StoreError) {
        self.attempts.failed(error);
    }

    /// Whether the process is better started afresh.
    pub(super) fn are_too_many(&self) -> bool {
        self.lasting >= MOST_ERRORS
    }

    /// Whether it is to be said of one stream among others that it cannot be read.
    pub(super) fn are_many(&self) -> bool {
        self.in_a_row.is_multiple_of(MOST_ERRORS)
    }

    /// Whether Redis is away as far as this reader has seen.
    pub(super) fn miss_redis(&self) -> bool {
        self.attempts.misses_it()
    }

    /// It was looked whether Redis lets the reader in; nothing was to be read.
    pub(super) fn looked(&mut self, whether: Result<(), ConnectionError>) {
        match whether {
            Ok(()) => self.attempts.succeeded(),
            Err(error) => self.attempts.failed(&error.of_redis(DURING)),
        }
    }
}

/// The loop failed for good.
#[derive(Debug, thiserror::Error)]
#[error("reading failed {MOST_ERRORS} times in a row, last: {0}")]
pub(crate) struct ReaderFailed(pub(super) String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::outages;

    fn refused_at_the_door(said: &str) -> Trouble {
        ConnectionError::Refused(said.to_owned()).into()
    }

    #[test]
    fn a_password_is_an_outage_with_its_advice_and_never_ends_reading() {
        let mut errors = Errors::new("reader");
        for said in [
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOAUTH Authentication required.",
            "NOPERM this user has no permissions to run the 'xreadgroup' command",
        ] {
            for _error in 0..2 * MOST_ERRORS {
                errors.count(&refused_at_the_door(said));
            }
            assert!(!errors.are_too_many(), "{said}");
            let away = outages::away();
            assert!(
                away.iter()
                    .any(|outage| outage.advice.is_some() && outage.error.contains(said)),
                "{away:?}"
            );
        }
        errors.end();
        assert!(outages::away().is_empty());
    }

    #[test]
    fn what_no_operator_can_mend_meanwhile_ends_reading() {
        let mut errors = Errors::new("reader");
        let wrong_type = StoreError::wrong_type(DURING, "events:incoming", "string", "stream");
        for error in 0..MOST_ERRORS {
            assert!(!errors.are_too_many(), "{error}");
            errors.count(&wrong_type.clone().into());
        }
        assert!(errors.are_too_many());
        errors.count(&refused_at_the_door(
            "LOADING Redis is loading the dataset in memory",
        ));
        assert!(!errors.are_too_many(), "errors in a row");
    }
}
