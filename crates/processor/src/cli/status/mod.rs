//! `qurvo-processor status`: what waits where, and for how long; what each instance does, and whether the stores answer.
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

mod newest;
mod read;
mod tables;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Failure, output, print};
use crate::config::Config;
use crate::runtime::report::Report;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show again every two seconds until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Status {
    streams: Vec<Stream>,
    instances: Vec<Instance>,
    stores: Vec<StoreState>,
    rejected: Option<u64>,
    dead_letters: Option<u64>,
    /// Since the oldest one was set aside.
    oldest_dead_letter_s: Option<u64>,
    circuit: Option<Circuit>,
    /// Seconds left; nothing for a lock that never expires.
    locks: BTreeMap<&'static str, Option<u64>>,
    last_row: Option<String>,
    unpublished_overrides: Option<i64>,
    stale_cohorts: Option<i64>,
    errors: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Stream {
    name: String,
    length: u64,
    lag: Option<u64>,
    pending: u64,
    consumers: Vec<Consumer>,
}

#[derive(Debug, Serialize)]
struct Consumer {
    name: String,
    pending: u64,
    idle_ms: u64,
}

#[derive(Debug, Serialize)]
struct Instance {
    name: String,
    /// Since its last report, as far as that says when it was made.
    silent_for_s: Option<u64>,
    /// Whether this version knows the report's form: another version may have another one.
    readable: bool,
    #[serde(flatten)]
    report: Option<Report>,
}

#[derive(Debug, Serialize)]
struct StoreState {
    name: String,
    /// Server and database.
    at: String,
    reachable: bool,
    error: Option<String>,
}

/// The breaker of the replay, shared by all instances.
#[derive(Debug, Serialize)]
struct Circuit {
    state: CircuitState,
    seconds_left: Option<u64>,
    /// In a row.
    failures: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum CircuitState {
    Closed,
    Open,
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let mut newest = newest::Newest::default();
    loop {
        let status = read::status(&config, &mut newest).await?;
        if arguments.json {
            print(&serde_json::to_string(&status).map_err(anyhow::Error::from)?);
        } else {
            if arguments.watch {
                output::clear();
            }
            print(&tables::all(&status));
        }
        if !arguments.watch || !output::is_open() {
            return if status.errors.is_empty() {
                Ok(())
            } else {
                Err(Failure::Silent)
            };
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}
