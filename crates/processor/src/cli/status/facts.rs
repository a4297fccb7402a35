//! What is known of the whole, and the form in which programs get it.
//!
//! With `--json`, one object; a value is null when it is not known or there is none:
//!
//! - `streams`: per stream `name`, `length`, `lag`, `pending`, `consumers` with `name`, `pending`, `idle_ms`;
//! - `instances`: `name`, `silent_for_s` (since its last report; a living one reports every five seconds), and what it
//!   said then, if it is `readable` by this version: `roles`, `reading` (`on`, `paused`, `off`), `paused_for_s`,
//!   `stores_away`, `held_events`, `held_bytes`, `version`, `cohorts` (of a run that is going on: `total`, `done`, `failed`,
//!   `running_for_s`);
//! - `stores`: `name`, `at` (server and database), `reachable`, `error`;
//! - `rejected`, `dead_letters`, `oldest_dead_letter_s`;
//! - `circuit`: `state` (`closed`, `open`), `seconds_left`, `failures` (in a row);
//! - `locks`: those that are held, with the seconds left; null for one that never expires;
//! - `last_row`, `unpublished_overrides`, `stale_cohorts`;
//! - `errors`: whatever could not be read.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::runtime::report::Report;

#[derive(Debug, Default, Serialize)]
pub(super) struct Status {
    pub(super) streams: Vec<Stream>,
    pub(super) instances: Vec<Instance>,
    pub(super) stores: Vec<StoreState>,
    pub(super) rejected: Option<u64>,
    pub(super) dead_letters: Option<u64>,
    /// Since the oldest one was set aside.
    pub(super) oldest_dead_letter_s: Option<u64>,
    pub(super) circuit: Option<Circuit>,
    /// Seconds left; nothing for a lock that never expires.
    pub(super) locks: BTreeMap<&'static str, Option<u64>>,
    pub(super) last_row: Option<String>,
    pub(super) unpublished_overrides: Option<i64>,
    pub(super) stale_cohorts: Option<i64>,
    pub(super) errors: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) lag: Option<u64>,
    pub(super) pending: u64,
    pub(super) consumers: Vec<Consumer>,
}

#[derive(Debug, Serialize)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) pending: u64,
    pub(super) idle_ms: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Instance {
    pub(super) name: String,
    /// Since its last report, as far as that says when it was made.
    pub(super) silent_for_s: Option<u64>,
    /// Whether this version knows the report's form: another version may have another one.
    pub(super) readable: bool,
    #[serde(flatten)]
    pub(super) report: Option<Report>,
}

#[derive(Debug, Serialize)]
pub(super) struct StoreState {
    pub(super) name: String,
    /// Server and database.
    pub(super) at: String,
    pub(super) reachable: bool,
    pub(super) error: Option<String>,
}

/// The breaker of the replay, shared by all instances.
#[derive(Debug, Serialize)]
pub(super) struct Circuit {
    pub(super) state: CircuitState,
    pub(super) seconds_left: Option<u64>,
    /// In a row.
    pub(super) failures: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CircuitState {
    Closed,
    Open,
}
