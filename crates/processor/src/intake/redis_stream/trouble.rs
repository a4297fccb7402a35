//! What ends a reading session, and what ends reading.

use crate::stores::StoreError;

use super::connection::ConnectionError;

/// Errors in a row after which the worker drains and exits, for a supervisor to start it afresh.
pub(super) const MOST_ERRORS: u32 = 100;

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

/// The loop failed for good.
#[derive(Debug, thiserror::Error)]
#[error("reading failed {MOST_ERRORS} times in a row, last: {0}")]
pub(crate) struct ReaderFailed(pub(super) String);
