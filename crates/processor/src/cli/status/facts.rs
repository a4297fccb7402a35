//! What is known of the whole, and the form in which programs get it: docs/operations.md says what each field of it means.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::cohorts::{Counts, Failing};
use crate::runtime::instances::Presence;
use crate::runtime::life::State;
use crate::runtime::report::{Reading, Report};
use crate::runtime::streams::Streams;
use crate::set_aside::Reasons;
use crate::stores::{OpenSlot, Places, Store, StoreError};

/// An instance that lives has reported within so long.
const MUTE_S: u64 = 15;

/// Everything, as one look at all stores told it.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) at: String,
    pub(super) verdict: Verdict,
    #[serde(flatten)]
    pub(super) redis: RedisFacts,
    #[serde(flatten)]
    pub(super) postgres: PostgresFacts,
    #[serde(flatten)]
    pub(super) clickhouse: ClickHouseFacts,
    pub(super) stores: [StoreState; 3],
    pub(super) not_read: Vec<String>,
    pub(super) unknown: Vec<&'static str>,
    pub(super) errors: Vec<String>,
}

impl Status {
    /// Whether a program that looks has to call somebody.
    pub(super) fn is_wrong(&self) -> bool {
        self.verdict.level == Level::Wrong || !self.errors.is_empty()
    }
}

/// How much somebody has to care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Level {
    #[serde(rename = "ok")]
    Fine,
    #[serde(rename = "warning")]
    Look,
    #[serde(rename = "wrong")]
    Wrong,
}

/// Whether it keeps up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    #[serde(rename = "state")]
    pub(super) level: Level,
    /// In two or three words.
    pub(super) answer: &'static str,
    /// And why.
    pub(super) because: String,
}

/// What one store told when it was asked last.
#[derive(Debug)]
pub(super) struct Look<F> {
    pub(super) facts: F,
    pub(super) store: StoreState,
    pub(super) errors: Vec<String>,
    pub(super) at: Timestamp,
}

/// What Redis knows.
#[derive(Debug, Default, Serialize)]
pub(super) struct RedisFacts {
    pub(super) streams: Vec<Stream>,
    pub(super) instances: Option<Vec<Instance>>,
    pub(super) rejected: Option<u64>,
    pub(super) rejected_reasons: Option<Reasons>,
    pub(super) dead_letters: Option<u64>,
    pub(super) dead_letter_reasons: Option<Reasons>,
    /// Since the oldest one was set aside.
    pub(super) oldest_dead_letter_s: Option<u64>,
    pub(super) circuit: Option<Circuit>,
    /// Seconds left; nothing for a lock that never expires.
    pub(super) locks: Option<BTreeMap<&'static str, Option<u64>>>,
    /// Slots of a cluster that are on their way to another node; none where there is no cluster.
    pub(super) open_slots: Option<Vec<OpenSlot>>,
}

/// What PostgreSQL knows.
#[derive(Debug, Default, Serialize)]
pub(super) struct PostgresFacts {
    pub(super) unpublished_overrides: Option<i64>,
    pub(super) stale_cohorts: Option<i64>,
    pub(super) cohorts: Option<Counts>,
    pub(super) failing_cohorts: Option<Vec<Failing>>,
}

/// What ClickHouse knows.
#[derive(Debug, Default, Serialize)]
pub(super) struct ClickHouseFacts {
    pub(super) last_row: Option<LastRow>,
}

/// When the newest row came; nothing when there is none.
#[derive(Debug, Serialize)]
pub(super) struct LastRow(pub(super) Option<String>);

#[derive(Debug, Default, Serialize)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) length: Option<u64>,
    pub(super) lag: Option<u64>,
    /// Since the oldest unread entry was sent.
    pub(super) lag_s: Option<u64>,
    pub(super) pending: Option<u64>,
    /// Since the oldest pending entry was sent.
    pub(super) pending_s: Option<u64>,
    pub(super) read: Option<u64>,
    /// Nothing where it is not known.
    pub(super) readers: Option<Vec<Reader>>,
    pub(super) consumers: Vec<Consumer>,
}

impl Stream {
    /// Entries that are still there and that nobody needs any more.
    pub(super) fn kept(&self) -> Option<u64> {
        Some(
            self.length?
                .saturating_sub(self.lag?)
                .saturating_sub(self.pending?),
        )
    }
}

/// Who reads a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reader {
    /// Nothing where it is of a version that notes none.
    pub(super) name: Option<String>,
    #[serde(rename = "life")]
    pub(super) presence: Option<Presence>,
    /// Whether it has the stream for itself, for as long as it renews the lease.
    pub(super) lease: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) pending: u64,
    pub(super) idle_ms: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Instance {
    pub(super) name: String,
    #[serde(rename = "life")]
    pub(super) presence: Presence,
    /// Since its last report, as far as that says when it was made.
    pub(super) silent_for_s: Option<u64>,
    /// Whether this version knows the report's form: another version may have another one.
    pub(super) readable: bool,
    #[serde(flatten)]
    pub(super) report: Option<Report>,
}

impl Instance {
    /// The streams that it is told of.
    pub(super) fn streams(&self) -> Option<&Streams> {
        self.report.as_ref()?.streams.as_ref()
    }

    /// What somebody has to do for it, by the store that it cannot use; nothing of one that does not live, or is mute.
    pub(super) fn needs(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_so = self.presence == Presence::Alive && self.is_mute_for().is_none();
        let report = self.report.iter().filter(move |_| is_so);
        let needs = report.flat_map(|report| &report.needs_operator);
        needs.map(|(store, advice)| (store.as_str(), advice.as_str()))
    }

    /// For how long one that lives, and has begun, has not reported, if that is too long: what it said last may not be so any more.
    pub(super) fn is_mute_for(&self) -> Option<u64> {
        let works = self.report.as_ref()?.work.is_some();
        let silent = self.silent_for_s?;
        (works && self.presence == Presence::Alive && silent > MUTE_S).then_some(silent)
    }

    /// Whether it lives and takes entries, or would if it were not paused. Of one that cannot be read nobody knows.
    pub(super) fn consumes(&self) -> bool {
        let reads = |report: &Report| report.reading != Reading::Off && report.state != Some(State::Stopping);
        self.presence == Presence::Alive && self.report.as_ref().is_none_or(reads)
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct StoreState {
    pub(super) name: &'static str,
    /// Server and database.
    pub(super) at: String,
    pub(super) reachable: bool,
    /// It answers that this command may not ask it, or not with this password.
    #[serde(skip)]
    pub(super) refuses: bool,
    /// What its first answer took.
    pub(super) answered_ms: Option<u64>,
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

impl<F> Look<F> {
    /// Nothing is known yet.
    pub(super) fn new(store: Store, places: &Places, facts: F) -> Self {
        Self {
            facts,
            store: StoreState {
                name: store.name(),
                at: places.at(store).to_owned(),
                reachable: false,
                refuses: false,
                answered_ms: None,
                error: None,
            },
            errors: Vec::new(),
            at: Timestamp::now(),
        }
    }

    /// The store answers.
    pub(super) fn answered(&mut self, after: Duration) {
        self.store.reachable = true;
        self.store.answered_ms = Some(after.as_millis() as u64);
    }

    /// The store answers with an error: with what an operator has to do, where no waiting helps.
    pub(super) fn failed(&mut self, error: &StoreError) {
        let advice = error.advice();
        self.store.refuses = advice.is_some();
        self.unanswered(advice.map_or_else(|| error.to_string(), |advice| format!("{error}: {advice}")));
    }

    /// The store does not answer.
    pub(super) fn unanswered(&mut self, error: String) {
        self.store.reachable = false;
        self.store.error = Some(error.clone());
        self.errors.push(error);
    }

    /// What could be read; otherwise the error is noted.
    pub(super) fn known<T>(&mut self, read: Result<T, StoreError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error.to_string())).ok()
    }
}

impl Status {
    pub(super) fn of(
        redis: Look<RedisFacts>,
        postgres: Look<PostgresFacts>,
        clickhouse: Look<ClickHouseFacts>,
        (verdict, not_read): (Verdict, Vec<String>),
    ) -> Self {
        let mut status = Self {
            at: format!("{:.3}", Timestamp::now()),
            verdict,
            redis: redis.facts,
            postgres: postgres.facts,
            clickhouse: clickhouse.facts,
            stores: [redis.store, postgres.store, clickhouse.store],
            not_read,
            unknown: Vec::new(),
            errors: [redis.errors, postgres.errors, clickhouse.errors].concat(),
        };
        status.unknown = status.unread();
        if !status.errors.is_empty() && status.verdict.level != Level::Wrong {
            status.verdict.level = Level::Wrong;
            status.verdict.because += "; not everything could be asked";
        }
        status
    }

    /// What could not be read, by name.
    fn unread(&self) -> Vec<&'static str> {
        let (redis, postgres) = (&self.redis, &self.postgres);
        let values = [
            (
                "streams",
                redis.streams.iter().all(|stream| stream.length.is_some()),
            ),
            (
                "readers",
                redis.streams.iter().all(|stream| stream.readers.is_some()),
            ),
            ("instances", redis.instances.is_some()),
            ("rejected", redis.rejected.is_some()),
            ("rejected_reasons", redis.rejected_reasons.is_some()),
            ("dead_letters", redis.dead_letters.is_some()),
            ("dead_letter_reasons", redis.dead_letter_reasons.is_some()),
            ("oldest_dead_letter_s", redis.dead_letters.is_some()),
            ("circuit", redis.circuit.is_some()),
            ("locks", redis.locks.is_some()),
            ("open_slots", redis.open_slots.is_some()),
            ("unpublished_overrides", postgres.unpublished_overrides.is_some()),
            ("stale_cohorts", postgres.stale_cohorts.is_some()),
            ("cohorts", postgres.cohorts.is_some()),
            ("failing_cohorts", postgres.failing_cohorts.is_some()),
            ("last_row", self.clickhouse.last_row.is_some()),
        ];
        let unknown = values.into_iter().filter(|(_, is_known)| !is_known);
        unknown.map(|(name, _)| name).collect()
    }
}
