//! The status for people, in one piece: what a terminal gets once, and what goes into a file.

use std::time::Duration;

use super::facts::{ClickHouseFacts, Instance, PostgresFacts, RedisFacts, Status, StoreState, Stream};
use super::verdict;
use super::words::{
    busiest, circuit, count, count_or_unknown, dead_letters, held, pending_of, rate, rejected, state, time,
    time_left, without_report,
};
use crate::cli::output::Rows;
use crate::cli::table::UNKNOWN;
use crate::config::Config;
use crate::intake::{KEPT, REFUSED_AT};
use crate::logs::harmless;
use crate::runtime::report::Life;

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

pub(super) fn all(status: &Status, settings: Settings) -> String {
    let [redis, postgres, clickhouse] = &status.stores;
    let said = verdict::of(&status.redis, [redis, postgres, clickhouse], None);
    let mut parts = vec![format!(
        "as of {}\n{}: {}",
        shown_time(&status.at),
        said.answer,
        harmless::line(&said.because)
    )];
    parts.push(streams(&status.redis.streams, settings));
    parts.extend(instances(&status.redis));
    parts.push(stores(&status.stores).to_string());
    parts.push(rest(&status.redis, &status.postgres, &status.clickhouse).to_string());
    let warnings = warnings(&status.redis, settings);
    let lines = warnings.iter().chain(&status.errors);
    let lines: Vec<String> = lines.map(|line| format!("! {}", harmless::line(line))).collect();
    if !lines.is_empty() {
        parts.push(lines.join("\n"));
    }
    parts.join("\n\n")
}

/// `2026-11-26T11:16:02.123Z` as people write it.
pub(super) fn shown_time(iso: &str) -> String {
    let seconds = iso.split('.').next().unwrap_or(iso);
    format!("{} UTC", seconds.trim_end_matches('Z').replace('T', " "))
}

fn streams(streams: &[Stream], settings: Settings) -> String {
    let mut text = streams_table(streams).to_string();
    if streams
        .iter()
        .any(|stream| stream.kept().is_some_and(|kept| kept > 0))
    {
        text.push('\n');
        text += &kept_note(settings);
    }
    text
}

pub(super) fn streams_table(streams: &[Stream]) -> Rows {
    let mut table = Rows::new(&["stream", "unread", "oldest unread", "pending", "kept", "length"])
        .whole(&["unread", "pending", "kept", "length"])
        .optional(&["oldest unread"]);
    for stream in streams {
        table.add([
            stream.name.clone(),
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

fn instances(redis: &RedisFacts) -> Option<String> {
    if redis.instances.is_none() {
        return Some(format!("instances: {UNKNOWN}"));
    }
    let table = instances_table(redis, &ordered(redis, |_| true));
    (!table.is_empty()).then(|| table.to_string())
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
    let alive = said.filter(|_| instance.life == Life::Alive);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    [
        instance.name.clone(),
        state(instance),
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
    let alive = instances.filter(|instance| instance.life == Life::Alive);
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
    let instances = redis.instances.iter().flatten();
    let gone = instances.filter(|instance| instance.life != Life::Alive);
    let gone = gone.map(|instance| instance.name.as_str());
    let silent = without_report(redis);
    for name in gone.chain(silent.iter().map(|(name, _)| *name)) {
        let (pending, idle) = pending_of(redis, name);
        if pending > 0 {
            let (pending, idle, after) = (count(pending), time(idle), time(settings.claim_idle.as_secs()));
            lines.push(format!(
                "{pending} entries are pending for {name}, which has asked for none for {idle}: a living instance takes \
                 them over after {after} (PROCESSOR_CLAIM_IDLE_MS)"
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::columns;
    use crate::cli::status::facts::LastRow;
    use crate::cli::status::samples::{consuming, everything, paused_for, store, working};
    use crate::runtime::report::Ended;

    fn status(redis: RedisFacts, reachable: [bool; 3]) -> Status {
        let names = ["Redis", "PostgreSQL", "ClickHouse"];
        Status {
            at: "2026-11-26T11:16:02.123Z".into(),
            redis,
            postgres: PostgresFacts::default(),
            clickhouse: ClickHouseFacts::default(),
            stores: [0, 1, 2].map(|index| store(names[index], reachable[index])),
            unknown: Vec::new(),
            errors: Vec::new(),
        }
    }

    const SETTINGS: Settings = Settings {
        trims: true,
        claim_idle: Duration::from_mins(1),
    };

    #[test]
    fn what_is_not_known_reads_as_unknown_and_what_is_not_there_as_none() {
        let mut unknown = status(RedisFacts::default(), [false; 3]);
        let text = all(&unknown, SETTINGS);
        assert!(
            text.starts_with("as of 2026-11-26 11:16:02 UTC\nnobody knows: "),
            "{text}"
        );
        for line in [
            "newest row",
            "dead letters",
            "rejected events",
            "locks",
            "cohorts",
        ] {
            let of_line = text.lines().find(|shown| shown.starts_with(line)).unwrap();
            assert!(of_line.ends_with(UNKNOWN), "{of_line}");
        }
        assert!(!text.contains("none"), "{text}");
        unknown.clickhouse.last_row = Some(LastRow(None));
        assert!(all(&unknown, SETTINGS).contains("newest row             none"));
        unknown.clickhouse.last_row = Some(LastRow(Some("2026-11-26T11:16:01.001Z".into())));
        assert!(all(&unknown, SETTINGS).contains("2026-11-26 11:16:01 UTC"));
    }

    #[test]
    fn a_length_with_nothing_to_do_is_explained_and_idle_workers_frighten_nobody() {
        let text = all(
            &status(everything(0, 0, vec![consuming("w1")]), [true; 3]),
            SETTINGS,
        );
        assert!(text.contains("keeps up: 0 unread, 0 pending"), "{text}");
        assert!(text.contains("the newest 10,000 or more"), "{text}");
        assert!(!text.contains("660") && !text.contains('!'), "{text}");
        let off = Settings {
            trims: false,
            ..SETTINGS
        };
        let text = all(&status(everything(0, 0, Vec::new()), [true; 3]), off);
        assert!(text.contains("PROCESSOR_TRIM=off here"), "{text}");
    }

    #[test]
    fn what_is_pending_for_the_dead_and_the_gone_is_said_with_who_takes_it_over() {
        let mut dead = working("second", "land", 0.5);
        (dead.life, dead.silent_for_s) = (Life::Dead, Some(33));
        let mut ended = consuming("third");
        (ended.life, ended.silent_for_s) = (Life::Ended, Some(12));
        ended.report.as_mut().unwrap().ended = Some(Ended {
            left_pending: 95,
            failed: false,
        });
        let mut redis = everything(
            0,
            285,
            vec![paused_for("first", 27, &["ClickHouse"]), dead, ended],
        );
        redis.streams[0]
            .consumers
            .push(crate::cli::status::facts::Consumer {
                name: "nobody".into(),
                pending: 0,
                idle_ms: 1,
            });
        let text = all(&status(redis, [true; 3]), SETTINGS);
        for shown in [
            "paused for 27 s: ClickHouse",
            "dead: silent for 33 s",
            "ended 12 s ago: 95 left pending",
            "no report",
            "! 95 entries are pending for second, which has asked for none for 11 min: a living instance takes them over \
             after 60 s (PROCESSOR_CLAIM_IDLE_MS)",
            "! 95 entries are pending for third,",
        ] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        let dead = text.lines().find(|line| line.starts_with("second")).unwrap();
        assert!(!dead.contains("land") && !dead.contains("600/s"), "{dead}");
        assert!(
            !text.contains("pending for first") && !text.contains("pending for nobody"),
            "{text}"
        );
    }

    #[test]
    fn the_tables_of_a_status_fit_eighty_columns() {
        let mut redis = everything(12, 3, vec![working(&"界".repeat(100), "land", 0.97)]);
        redis.streams[0].name = "s".repeat(300);
        let mut status = status(redis, [true, true, false]);
        status.stores[0].at = "h".repeat(300);
        for columns in [80, 120] {
            let tables = [
                instances_table(&status.redis, &ordered(&status.redis, |_| true)),
                stores(&status.stores),
                rest(&status.redis, &status.postgres, &status.clickhouse),
            ];
            for table in tables {
                for line in table.within(Some(columns)).lines() {
                    assert!(columns::width(line) <= columns, "{line}");
                }
            }
        }
    }
}
