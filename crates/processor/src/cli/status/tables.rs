//! The status for people, in one piece: what a terminal gets once, and what goes into a file.

use std::time::Duration;

use super::facts::{ClickHouseFacts, Instance, PostgresFacts, RedisFacts, Status, StoreState, Stream};
use super::words::{
    busiest, circuit, count, count_or_unknown, dead_letters, held, open_slot, pending_of, rate, read_by,
    rejected, remedy, state, time, time_left, without_report,
};
use crate::cli::columns::wrapped;
use crate::cli::output::Rows;
use crate::cli::table::UNKNOWN;
use crate::config::Config;
use crate::intake::{KEPT, REFUSED_AT};
use crate::logs::harmless;
use crate::runtime::instances::Presence;
use crate::runtime::streams::odds;

/// A stream holds many entries beyond this share of what ingest refuses at: people should know.
const WARN_SHARE: f64 = 0.8;

/// What is said of the streams depends on how the workers are told to treat them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) trims: bool,
    pub(super) claim_idle: Duration,
}

impl Settings {
    /// As this command was told: the workers' may be others.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            trims: config.trim,
            claim_idle: config.claim_idle,
        }
    }
}

/// The whole, in so many columns of a terminal, or as wide as it is.
pub(super) fn all(status: &Status, settings: Settings, columns: Option<usize>) -> String {
    let said = &status.verdict;
    let said = sentence(&format!("{}: {}", said.answer, said.because), columns);
    let mut parts = vec![format!("as of {}\n{said}", shown_time(&status.at))];
    parts.push(streams(&status.redis.streams, settings, columns));
    parts.extend(instances(&status.redis, columns));
    parts.push(stores(&status.stores).within(columns));
    parts.push(rest(&status.redis, &status.postgres, &status.clickhouse).within(columns));
    let warnings = warnings(&status.redis, settings);
    let lines = warnings.iter().chain(&status.errors);
    let lines: Vec<String> = lines
        .map(|line| sentence(&format!("! {line}"), columns))
        .collect();
    if !lines.is_empty() {
        parts.push(lines.join("\n"));
    }
    parts.join("\n\n")
}

/// A text that may come from outside, broken between words where there is a terminal.
fn sentence(text: &str, columns: Option<usize>) -> String {
    let text = harmless::line(text);
    match columns {
        Some(columns) => wrapped(&text, columns).join("\n"),
        None => text.into_owned(),
    }
}

/// `2026-11-26T11:16:02.123Z` as people write it.
pub(super) fn shown_time(iso: &str) -> String {
    let seconds = iso.split('.').next().unwrap_or(iso);
    format!("{} UTC", seconds.trim_end_matches('Z').replace('T', " "))
}

fn streams(streams: &[Stream], settings: Settings, columns: Option<usize>) -> String {
    let mut text = streams_table(streams).within(columns);
    if streams
        .iter()
        .any(|stream| stream.kept().is_some_and(|kept| kept > 0))
    {
        text.push('\n');
        text += &sentence(&kept_note(settings), columns);
    }
    text
}

pub(super) fn streams_table<'a>(streams: impl IntoIterator<Item = &'a Stream>) -> Rows {
    let columns = [
        "stream",
        "read by",
        "unread",
        "oldest unread",
        "pending",
        "kept",
        "length",
    ];
    let mut table = Rows::new(&columns)
        .whole(&["unread", "pending", "kept", "length"])
        .optional(&["oldest unread"]);
    for stream in streams {
        table.add([
            stream.name.clone(),
            read_by(stream),
            count_or_unknown(stream.lag),
            stream
                .lag_s
                .map_or_else(|| "-".into(), |age| format!("{} ago", time(age))),
            count_or_unknown(stream.pending),
            count_or_unknown(stream.kept()),
            count_or_unknown(stream.length),
        ]);
    }
    table
}

/// What a length says when nothing waits.
pub(super) fn kept_note(settings: Settings) -> String {
    if settings.trims {
        format!(
            "kept: consumed already, waits for nobody. Trimming leaves the newest {} or more.",
            count(KEPT)
        )
    } else {
        "kept: consumed already, waits for nobody. PROCESSOR_TRIM=off here: nothing takes them off.".into()
    }
}

fn instances(redis: &RedisFacts, columns: Option<usize>) -> Option<String> {
    if redis.instances.is_none() {
        return Some(format!("instances: {UNKNOWN}"));
    }
    let table = instances_table(redis, &ordered(redis, |_| true));
    (!table.is_empty()).then(|| table.within(columns))
}

/// The instances; those of which `last` says no come first.
pub(super) fn ordered(redis: &RedisFacts, last: impl Fn(&Instance) -> bool) -> Vec<&Instance> {
    let mut instances: Vec<&Instance> = redis.instances.iter().flatten().collect();
    instances.sort_by_key(|instance| last(instance));
    instances
}

/// What each of these instances does, and what is pending for consumers that none speaks for.
pub(super) fn instances_table(redis: &RedisFacts, instances: &[&Instance]) -> Rows {
    let mut table = Rows::new(&[
        "instance", "state", "pending", "idle", "holds", "settles", "busiest", "version", "roles",
    ])
    .whole(&["pending"])
    .optional(&["roles", "version", "busiest", "idle", "settles"]);
    for instance in instances {
        table.add(instance_row(instance, redis));
    }
    for (name, pending) in without_report(redis) {
        table.add([name, "no report", &count(pending), &idle(redis, name)]);
    }
    table
}

/// Since when a consumer has asked for nothing, while something is pending for it. Of one that has nothing to do, Redis may
/// say for how long it got nothing: that is nobody's worry.
fn idle(redis: &RedisFacts, name: &str) -> String {
    match pending_of(redis, name) {
        (0, _) => "-".into(),
        (_, idle) => time(idle),
    }
}

fn instance_row(instance: &Instance, redis: &RedisFacts) -> [String; 9] {
    let pending = pending_of(redis, &instance.name).0;
    let said = instance.report.as_ref();
    // What a dead one said of its memory and its work is no longer so.
    let alive = said.filter(|_| instance.presence == Presence::Alive);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    [
        instance.name.clone(),
        state(instance, redis),
        count(pending),
        idle(redis, &instance.name),
        or_dash(alive.map(held)),
        or_dash(alive.and_then(|report| Some(rate(report.work.as_ref()?.settled_per_s)))),
        or_dash(alive.map(busiest)),
        said.map_or(UNKNOWN, |report| &report.version).to_owned(),
        or_dash(said.map(|report| report.roles.join(", "))),
    ]
}

fn stores(stores: &[StoreState]) -> Rows {
    let mut table = Rows::new(&["store", "", "at"]);
    for store in stores {
        let answers = match store.answered_ms.filter(|_| store.reachable) {
            Some(ms) => format!("answers in {ms} ms"),
            None if store.refuses => "refuses this command".into(),
            None => "does not answer".into(),
        };
        table.add([store.name, &answers, &store.at]);
    }
    table
}

/// What stands beside the streams, as pairs of a name and a value.
pub(super) fn pairs(
    redis: &RedisFacts,
    postgres: &PostgresFacts,
    clickhouse: &ClickHouseFacts,
) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut line = |name: &str, value: String| pairs.push((name.to_owned(), value));
    let shown = |value: Option<String>| value.unwrap_or_else(|| UNKNOWN.into());
    line("dead letters", dead_letters(redis));
    line("rejected events", rejected(redis));
    line("replay circuit", shown(redis.circuit.as_ref().map(circuit)));
    match &redis.locks {
        None => line("locks", UNKNOWN.into()),
        Some(locks) => locks.iter().for_each(|(lock, left)| line(lock, time_left(*left))),
    }
    let last_row = clickhouse.last_row.as_ref();
    line(
        "newest row",
        shown(last_row.map(|at| at.0.as_deref().map_or("none".into(), shown_time))),
    );
    let number = |number: Option<i64>| count_or_unknown(number.map(|number| number.max(0).cast_unsigned()));
    line("unpublished overrides", number(postgres.unpublished_overrides));
    line(
        "cohorts",
        shown(postgres.cohorts.map(|cohorts| {
            let counted = [cohorts.dynamic, cohorts.stale, cohorts.failing].map(|n| number(Some(n)));
            format!("{}; stale {}, failing {}", counted[0], counted[1], counted[2])
        })),
    );
    let instances = redis.instances.iter().flatten();
    let alive = instances.filter(|instance| instance.presence == Presence::Alive);
    for run in alive.filter_map(|instance| instance.report.as_ref()?.cohorts.as_ref()) {
        let text = format!(
            "{} of {}, {} failed, for {}",
            run.done,
            run.total,
            run.failed,
            time(run.running_for_s)
        );
        line("cohorts being computed", text);
    }
    pairs
}

fn rest(redis: &RedisFacts, postgres: &PostgresFacts, clickhouse: &ClickHouseFacts) -> Rows {
    let mut table = Rows::pairs();
    for (name, value) in pairs(redis, postgres, clickhouse) {
        table.add([name, value]);
    }
    table
}

/// What people should know without looking for it.
pub(super) fn warnings(redis: &RedisFacts, settings: Settings) -> Vec<String> {
    let full = |stream: &&Stream| {
        stream
            .length
            .is_some_and(|length| length as f64 > REFUSED_AT as f64 * WARN_SHARE)
    };
    let full = redis.streams.iter().filter(full);
    let mut lines: Vec<String> = full
        .map(|stream| {
            let length = count(stream.length.unwrap_or_default());
            let most = count(REFUSED_AT);
            format!(
                "{} holds {length} entries: the ingest service refuses events at {most}",
                stream.name
            )
        })
        .collect();
    let instances = || redis.instances.iter().flatten();
    let living = instances().filter(|instance| instance.consumes());
    lines.extend(odds(living.filter_map(|instance| {
        Some((instance.name.as_str(), instance.streams()?))
    })));
    lines.extend(
        redis
            .open_slots
            .iter()
            .flatten()
            .map(|slot| open_slot(slot, redis)),
    );
    let gone = instances().filter(|instance| instance.presence != Presence::Alive);
    for instance in gone {
        lines.extend(remedy(instance));
        lines.extend(left_pending(redis, &instance.name, settings));
    }
    for (name, _) in without_report(redis) {
        lines.extend(left_pending(redis, name, settings));
    }
    lines
}

/// What is pending for one that does not work, and who takes it over.
fn left_pending(redis: &RedisFacts, name: &str, settings: Settings) -> Option<String> {
    let (pending, idle) = pending_of(redis, name);
    (pending > 0).then(|| {
        let (pending, idle, after) = (count(pending), time(idle), time(settings.claim_idle.as_secs()));
        format!(
            "{pending} entries are pending for {name}, which has asked for none for {idle}: a living instance takes \
             them over after {after} (PROCESSOR_CLAIM_IDLE_MS)"
        )
    })
}
