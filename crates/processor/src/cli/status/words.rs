//! Numbers and states in words, the same in the tables and on the screen.

use super::facts::{Circuit, CircuitState, Instance, RedisFacts, Stream};
use super::readers::is_standby;
use crate::cli::slots;
use crate::cli::table::UNKNOWN;
use crate::runtime::instances::Presence;
use crate::runtime::life::State;
use crate::runtime::report::{Reading, Report};
use crate::runtime::streams::few;
use crate::set_aside::Reasons;
use crate::stores::{OpenSlot, Store};

/// What is said of an instance whose report cannot be read.
const UNKNOWN_FORM: &str = "reports in a form this version does not know";

/// A number whose thousands stand apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number that may not be known.
pub(super) fn count_or_unknown(number: Option<u64>) -> String {
    number.map_or_else(|| UNKNOWN.into(), count)
}

/// A time in its two largest units.
pub(super) fn time(seconds: u64) -> String {
    let two = |unit: u64, name: &str, smaller: u64, smaller_name: &str| {
        let (units, rest) = (seconds / unit, seconds % unit / smaller);
        match rest {
            0 => format!("{units} {name}"),
            rest => format!("{units} {name} {rest} {smaller_name}"),
        }
    };
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => two(60, "min", 1, "s"),
        7_200..172_800 => two(3_600, "h", 60, "min"),
        _ => two(86_400, "d", 3_600, "h"),
    }
}

/// Something a second.
pub(super) fn rate(per_s: f64) -> String {
    match per_s {
        per_s if per_s.abs() < 10.0 && per_s != 0.0 => format!("{per_s:.1}/s"),
        per_s if per_s < 0.0 => format!("-{}/s", count(per_s.abs().round() as u64)),
        per_s => format!("{}/s", count(per_s.round() as u64)),
    }
}

/// A share of the time.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

pub(super) fn time_left(seconds: Option<u64>) -> String {
    seconds.map_or("no expiry".into(), |seconds| format!("{} left", time(seconds)))
}

/// Who reads a stream.
pub(super) fn read_by(stream: &Stream) -> String {
    let Some(readers) = &stream.readers else {
        return UNKNOWN.into();
    };
    if readers.is_empty() {
        return "nobody".into();
    }
    let names = readers.iter().map(|reader| {
        let name = reader.name.as_deref().unwrap_or("an older version");
        match (reader.presence, reader.presence.and_then(lost)) {
            (_, Some(life)) => format!("{name} ({life})"),
            (None, None) => format!("{name} (asks for nothing)"),
            (Some(_), None) => name.to_owned(),
        }
    });
    let names: Vec<String> = names.collect();
    few(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What has become of an instance that does not live as it should.
pub(super) fn lost(presence: Presence) -> Option<&'static str> {
    match presence {
        Presence::Alive => None,
        Presence::Stalled => Some("stalled"),
        Presence::Dead => Some("dead"),
        Presence::Ended => Some("ended"),
    }
}

/// What an instance does, or what became of it.
pub(super) fn state(instance: &Instance, redis: &RedisFacts) -> String {
    let silent = time(instance.silent_for_s.unwrap_or_default());
    let Some(report) = &instance.report else {
        return match (instance.presence, instance.silent_for_s) {
            (Presence::Dead, Some(_)) => format!("dead: silent for {silent}; {UNKNOWN_FORM}"),
            _ => UNKNOWN_FORM.into(),
        };
    };
    if let Some(ended) = &report.ended {
        let how = match (ended.left_pending, ended.failed) {
            (0, false) => "all settled".into(),
            (0, true) => "something failed".into(),
            (left, _) => format!("{} left pending", count(left as u64)),
        };
        return format!("ended {silent} ago: {how}");
    }
    match instance.presence {
        Presence::Dead => return format!("dead: silent for {silent}"),
        Presence::Stalled => return format!("stalled: silent for {silent}"),
        Presence::Alive | Presence::Ended => {}
    }
    if instance.is_mute_for().is_some() {
        return format!("lives, has not reported for {silent}");
    }
    if report.state == Some(State::Stopping) {
        return format!("stops: {} events held", count(report.held_events as u64));
    }
    let unanswered = report.unanswered_s.iter().max_by_key(|(_, seconds)| **seconds);
    let reads = if instance.needs().any(|(store, _)| store == Store::Redis.name()) {
        "may not read"
    } else if is_standby(instance, redis) {
        "standby: others have its streams"
    } else {
        "reads"
    };
    let mut said = match (report.reading, unanswered) {
        (Reading::On, None) => reads.into(),
        (Reading::On, Some((store, seconds))) => {
            format!("{reads}; no answer from {store} for {}", time(*seconds))
        }
        (Reading::Off, _) => "lives, reads nothing".into(),
        (Reading::Paused, _) => {
            let since = time(report.paused_for_s.unwrap_or_default());
            let does = match report.state {
                Some(State::Waiting) => "waits to start",
                _ => "paused",
            };
            match report.stores_away.as_slice() {
                [] => format!("{does} for {since}"),
                away => format!("{does} for {since}: {}", away.join(", ")),
            }
        }
    };
    for (store, advice) in &report.needs_operator {
        said.push_str(&format!("; {store}: {advice}"));
    }
    said
}

/// What to do about one that does not live as it should.
pub(super) fn remedy(instance: &Instance) -> Option<String> {
    let name = &instance.name;
    match instance.presence {
        Presence::Stalled => Some(format!(
            "{name} is stalled, stopped or without processor time: let it go on (SIGCONT, a larger share), or end it"
        )),
        Presence::Dead => Some(format!(
            "{name} is dead, or cut off from Redis: its log says why; start it again, unless another has taken its place"
        )),
        Presence::Alive | Presence::Ended => None,
    }
}

/// A slot of the cluster that is neither here nor there.
pub(super) fn open_slot(open: &OpenSlot, redis: &RedisFacts) -> String {
    let streams: Vec<&str> = redis.streams.iter().map(|stream| stream.name.as_str()).collect();
    let instances = redis.instances.iter().flatten();
    let instances: Vec<&str> = instances.map(|instance| instance.name.as_str()).collect();
    slots::described(open, &streams, &instances)
}

/// What an instance holds in memory.
pub(super) fn held(report: &Report) -> String {
    match (report.held_events, report.held_bytes) {
        (0, _) => "nothing".into(),
        (events, bytes) if bytes < 100_000 => {
            format!("{}, {:.0} kB", count(events as u64), (bytes as f64 / 1e3).ceil())
        }
        (events, bytes) => format!("{}, {:.1} MB", count(events as u64), bytes as f64 / 1e6),
    }
}

/// The stage of an instance that works most.
pub(super) fn busiest(report: &Report) -> String {
    let Some(work) = &report.work else {
        return UNKNOWN.into();
    };
    let stages = work.shares.iter().filter(|(name, _)| *name != "full");
    match stages.max_by(|a, b| a.1.total_cmp(b.1)) {
        Some((stage, share)) if *share >= 0.005 => format!("{stage} {}", percent(*share)),
        _ => "-".into(),
    }
}

/// What waits in a queue, since when, and why.
pub(super) fn queue(letters: Option<u64>, oldest_s: Option<u64>, reasons: Option<&Reasons>) -> String {
    let Some(letters) = letters else {
        return UNKNOWN.into();
    };
    if letters == 0 {
        return "none".into();
    }
    let mut parts = vec![count(letters)];
    parts.extend(oldest_s.map(|oldest| format!("oldest {}", time(oldest))));
    parts.extend(reasons.map(|reasons| why(reasons, letters)));
    parts.join("; ")
}

/// Reasons, the most frequent first, and of how many if not of all.
fn why(reasons: &Reasons, letters: u64) -> String {
    let mut counts: Vec<(&str, u64)> = reasons
        .counts
        .iter()
        .map(|(reason, count)| (reason.as_str(), *count))
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = counts.into_iter().map(|(reason, number)| {
        let reason = if reason.is_empty() { "no reason" } else { reason };
        format!("{reason} {}", count(number))
    });
    let named = named.collect::<Vec<_>>().join(", ");
    if reasons.newest < letters {
        format!("{named} of the newest {}", count(reasons.newest))
    } else {
        named
    }
}

pub(super) fn dead_letters(redis: &RedisFacts) -> String {
    queue(
        redis.dead_letters,
        redis.oldest_dead_letter_s,
        redis.dead_letter_reasons.as_ref(),
    )
}

pub(super) fn rejected(redis: &RedisFacts) -> String {
    queue(redis.rejected, None, redis.rejected_reasons.as_ref())
}

pub(super) fn circuit(circuit: &Circuit) -> String {
    let state = match circuit.state {
        CircuitState::Closed => "closed".to_owned(),
        CircuitState::Open => format!("open, {}", time_left(circuit.seconds_left)),
    };
    match circuit.failures {
        0 => state,
        failures => format!("{state}; failures in a row: {failures}"),
    }
}

/// Entries that are pending for a consumer, in all streams, and since when it asks for none.
pub(super) fn pending_of(redis: &RedisFacts, name: &str) -> (u64, u64) {
    let consumers = redis.streams.iter().flat_map(|stream| &stream.consumers);
    let of_name = consumers.filter(|consumer| consumer.name == name);
    of_name.fold((0, 0), |(pending, idle), consumer| {
        (pending + consumer.pending, idle.max(consumer.idle_ms / 1000))
    })
}

/// Consumers of the group that no instance reports for, with what is pending for them.
pub(super) fn without_report(redis: &RedisFacts) -> Vec<(&str, u64)> {
    let Some(instances) = &redis.instances else {
        return Vec::new();
    };
    let mut names: Vec<&str> = redis
        .streams
        .iter()
        .flat_map(|stream| stream.consumers.iter().map(|consumer| consumer.name.as_str()))
        .filter(|name| !instances.iter().any(|instance| instance.name == *name))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| (name, pending_of(redis, name).0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0, 119, 120, 125, 7_199, 7_200, 172_800, 180_000].map(time),
            [
                "0 s",
                "119 s",
                "2 min",
                "2 min 5 s",
                "119 min 59 s",
                "2 h",
                "2 d",
                "2 d 2 h"
            ]
        );
        assert_eq!(
            [0.0, 0.25, 1_234.4, -1_500.0].map(rate),
            ["0/s", "0.2/s", "1,234/s", "-1,500/s"]
        );
    }

    #[test]
    fn the_reasons_of_the_newest_are_told_with_how_many_these_are() {
        let reasons = Reasons {
            newest: 200,
            counts: [("a".to_owned(), 5), (String::new(), 1), ("b".to_owned(), 194)].into(),
        };
        assert_eq!(
            queue(Some(1_000), Some(32), Some(&reasons)),
            "1,000; oldest 32 s; b 194, a 5, no reason 1 of the newest 200"
        );
        assert_eq!(
            queue(Some(200), None, Some(&reasons)),
            "200; b 194, a 5, no reason 1"
        );
        assert_eq!(queue(Some(0), None, Some(&Reasons::default())), "none");
        assert_eq!(queue(None, None, None), "unknown");
    }

    #[test]
    fn an_instance_says_what_it_waits_for_and_whether_an_operator_has_to_act() {
        let mut instance = samples::paused_for("w1", 27, &["PostgreSQL"]);
        let report = instance.report.as_mut().unwrap();
        report.state = Some(State::Waiting);
        report
            .needs_operator
            .insert("PostgreSQL".into(), "check DATABASE_URL".into());
        assert_eq!(
            state(&instance, &RedisFacts::default()),
            "waits to start for 27 s: PostgreSQL; PostgreSQL: check DATABASE_URL"
        );
        let mut refused = samples::consuming("w1");
        let report = refused.report.as_mut().unwrap();
        report.needs_operator = [("Redis".into(), "give it the right".into())].into();
        assert_eq!(
            state(&refused, &RedisFacts::default()),
            "may not read; Redis: give it the right"
        );
        let mut stopping = samples::consuming("w1");
        stopping.report.as_mut().unwrap().state = Some(State::Stopping);
        assert!(!stopping.consumes() && state(&stopping, &RedisFacts::default()) == "stops: 250 events held");
        let mut instance = samples::consuming("w1");
        let report = instance.report.as_mut().unwrap();
        report.unanswered_s = [("Redis".into(), 3), ("ClickHouse".into(), 12)].into();
        assert_eq!(
            state(&instance, &RedisFacts::default()),
            "reads; no answer from ClickHouse for 12 s"
        );
    }
}
