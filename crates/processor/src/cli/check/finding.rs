//! What `check` has found, and the words for it.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::migrations::{MigrateError, Report};
use crate::stores::{Store, StoreError};

/// Longest that one answer is waited for.
pub(super) const LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Warning,
    Wrong,
}

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) what: &'static str,
    pub(super) ok: bool,
    pub(super) state: State,
    pub(super) detail: String,
    pub(super) ms: u128,
}

/// What was found, and what to do where it is not as it should be.
#[derive(Debug)]
pub(super) enum Told {
    Fine(String),
    Warning(String),
    Wrong(String),
}

impl From<Result<String, String>> for Told {
    fn from(found: Result<String, String>) -> Self {
        found.map_or_else(Self::Wrong, Self::Fine)
    }
}

/// What was found so far, each with the time since the one before.
pub(super) struct Findings {
    pub(super) found: Vec<Finding>,
    since: Instant,
}

impl Findings {
    pub(super) fn new() -> Self {
        Self {
            found: Vec::new(),
            since: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, what: &'static str, told: impl Into<Told>) {
        let (state, detail) = match told.into() {
            Told::Fine(detail) => (State::Ok, detail),
            Told::Warning(detail) => (State::Warning, detail),
            Told::Wrong(detail) => (State::Wrong, detail),
        };
        let now = Instant::now();
        self.found.push(Finding {
            what,
            ok: state != State::Wrong,
            state,
            detail,
            ms: now.duration_since(self.since).as_millis(),
        });
        self.since = now;
    }
}

/// An answer that has to come soon.
pub(super) async fn soon<T>(
    store: Store,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within(LIMIT, store, asked).await
}

/// The same, for so long.
pub(super) async fn within<T>(
    limit: Duration,
    store: Store,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(limit, asked)
        .await
        .unwrap_or_else(|_elapsed| {
            let message = format!("no answer within {} s", limit.as_secs());
            Err(StoreError::transient(store, "asking", message))
        })
}

/// The error, and what to do about it; `otherwise` where its own words say nothing better.
pub(super) fn explained(error: &StoreError, otherwise: &str) -> String {
    format!("{error}: {}", error.advice().unwrap_or(otherwise))
}

/// What a report on migrations says.
pub(super) fn migrated(report: Result<Report, MigrateError>) -> Result<String, String> {
    let report = report.map_err(|error| match error {
        MigrateError::Store(error) => explained(&error, "run `qurvo-processor migrate`"),
        other => other.to_string(),
    })?;
    let pending: Vec<&str> = report.pending().map(|step| step.name).collect();
    if pending.is_empty() {
        Ok(format!("{} migrations", report.steps.len()))
    } else {
        Err(format!(
            "behind by {}: run `qurvo-processor migrate`",
            pending.join(", ")
        ))
    }
}
