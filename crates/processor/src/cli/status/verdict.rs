//! The one question: does it keep up, and if not, what does it wait for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Instance, RedisFacts, StoreState};
use super::history::Trend;
use super::readers::not_read;
use super::words::{count, lost, percent, rate, time};
use crate::intake::REFUSED_AT;
use crate::runtime::instances::Presence;
use crate::runtime::report::Reading;
use crate::runtime::streams::few;

/// So much that is unread is on its way rather than behind.
const ON_ITS_WAY: u64 = 1_000;
/// What settles in so much time counts as on its way, too.
const ON_ITS_WAY_S: f64 = 2.0;
/// A stage that works this share of the time holds the others up.
pub(super) const BUSY: f64 = 0.6;
/// What is unread stands still when it changes by less, of what comes.
const STEADY: f64 = 0.02;

/// How much somebody has to care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Fine,
    Look,
    Wrong,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    /// In two or three words.
    pub(super) answer: &'static str,
    /// And why.
    pub(super) because: String,
}

fn verdict(level: Level, answer: &'static str, because: String) -> Verdict {
    Verdict {
        level,
        answer,
        because,
    }
}

pub(super) fn of(redis: &RedisFacts, stores: [&StoreState; 3], trend: Option<Trend>) -> Verdict {
    let silent: Vec<&str> = stores
        .iter()
        .filter(|store| !store.reachable)
        .map(|store| store.name)
        .collect();
    if !stores[0].reachable {
        let because = "Redis does not answer: the streams are as they were".into();
        return verdict(Level::Wrong, "nobody knows", because);
    }
    let sum =
        |of: fn(&super::facts::Stream) -> Option<u64>| redis.streams.iter().map(of).sum::<Option<u64>>();
    let (unread, pending) = (sum(|stream| stream.lag), sum(|stream| stream.pending));
    let (Some(unread), Some(pending), Some(instances)) = (unread, pending, &redis.instances) else {
        return verdict(
            Level::Look,
            "nobody knows",
            "Redis cannot say how much is unread".into(),
        );
    };
    let waiting = format!("{} unread, {} pending", count(unread), count(pending));
    let consuming: Vec<&Instance> = instances.iter().filter(|instance| instance.consumes()).collect();
    if consuming.is_empty() {
        return match unread + pending {
            0 => verdict(
                Level::Look,
                "nobody reads",
                "no living instance consumes; nothing waits".into(),
            ),
            _ => verdict(
                Level::Wrong,
                "nobody reads",
                format!("no living instance consumes; {waiting}"),
            ),
        };
    }
    if let Some(because) = paused(&consuming) {
        return verdict(Level::Wrong, "paused", format!("{because}; {waiting}"));
    }
    let not_read = not_read(redis);
    if !not_read.is_empty() {
        let names: Vec<&str> = not_read.iter().map(|stream| stream.name.as_str()).collect();
        let because = format!("no living instance reads {}; {waiting}", few(&names));
        return verdict(Level::Wrong, "a stream is not read", because);
    }
    if !silent.is_empty() {
        let because = format!("no answer from {} to this viewer; {waiting}", silent.join(", "));
        return verdict(Level::Wrong, "a store is silent", because);
    }
    let said = behind_or_not(redis, (unread, &waiting), &consuming, trend);
    match without(instances) {
        Some(lost) => verdict(
            said.level.max(Level::Look),
            said.answer,
            format!("{}; without {lost}", said.because),
        ),
        None => said,
    }
}

/// Instances that took entries and do not live as they should.
fn without(instances: &[Instance]) -> Option<String> {
    let lost = instances.iter().filter_map(|instance| {
        let is_lost = matches!(instance.presence, Presence::Stalled | Presence::Dead);
        let consumed = instance.report.as_ref()?.reading != Reading::Off;
        let how = lost(instance.presence).filter(|_| is_lost && consumed)?;
        Some(format!("{} ({how})", instance.name))
    });
    let lost: Vec<String> = lost.collect();
    let names: Vec<&str> = lost.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| few(&names))
}

/// Somebody reads: is it enough?
fn behind_or_not(
    redis: &RedisFacts,
    (unread, waiting): (u64, &str),
    consuming: &[&Instance],
    trend: Option<Trend>,
) -> Verdict {
    let settled = trend.map_or(0.0, |trend| trend.settled);
    if unread <= ON_ITS_WAY.max((settled * ON_ITS_WAY_S) as u64) {
        let because = match trend {
            Some(trend) if trend.came > 0.0 || trend.settled > 0.0 => {
                format!(
                    "{} come, {} settle; {waiting}",
                    rate(trend.came),
                    rate(trend.settled)
                )
            }
            _ => waiting.to_owned(),
        };
        return verdict(Level::Fine, "keeps up", because);
    }
    let busy = waits_for(consuming);
    let Some(trend) = trend else {
        return verdict(Level::Look, "behind", format!("{waiting}; {busy}"));
    };
    let rates = format!("{} come, {} settle", rate(trend.came), rate(trend.settled));
    let steady = (trend.came.max(trend.settled) * STEADY).max(1.0);
    if trend.unread < -steady {
        let left = time((unread as f64 / -trend.unread).ceil() as u64);
        return verdict(
            Level::Look,
            "catches up",
            format!("{} unread, done in {left}; {rates}", count(unread)),
        );
    }
    if trend.unread <= steady {
        return verdict(Level::Look, "stays behind", format!("{waiting}; {rates}; {busy}"));
    }
    let until = full_in(redis, trend).map_or(String::new(), |left| format!("; ingest refuses in {left}"));
    verdict(
        Level::Wrong,
        "falls behind",
        format!("{} unread, {rates}; {busy}{until}", count(unread)),
    )
}

/// What all of them wait for, if they do.
fn paused(consuming: &[&Instance]) -> Option<String> {
    let mut away = BTreeSet::new();
    let mut longest = 0;
    for instance in consuming {
        let report = instance.report.as_ref()?;
        if report.reading != Reading::Paused {
            return None;
        }
        away.extend(report.stores_away.iter().map(String::as_str));
        longest = longest.max(report.paused_for_s.unwrap_or_default());
    }
    let away: Vec<&str> = away.into_iter().collect();
    Some(match away.as_slice() {
        [] => format!("a store has yet to prove that it works, for {}", time(longest)),
        away => format!("waits for {}, for {}", away.join(" and "), time(longest)),
    })
}

/// The mean share of the time that each stage works, of the instances that say.
pub(super) fn shares<'a>(consuming: impl Iterator<Item = &'a Instance>) -> BTreeMap<String, f64> {
    let works = consuming.filter_map(|instance| instance.report.as_ref()?.work.as_ref());
    let works: Vec<_> = works.collect();
    let mut shares = BTreeMap::<String, f64>::new();
    for work in &works {
        for (stage, share) in &work.shares {
            *shares.entry(stage.clone()).or_default() += share / works.len() as f64;
        }
    }
    shares
}

/// Which stage holds the others up.
fn waits_for(consuming: &[&Instance]) -> String {
    let shares = shares(consuming.iter().copied());
    if shares.is_empty() {
        return "its instances do not say what they wait for".into();
    }
    let stages = shares.iter().filter(|(stage, _)| *stage != "full");
    let busiest = stages.max_by(|a, b| a.1.total_cmp(b.1));
    match busiest {
        Some((stage, share)) if *share >= BUSY => {
            format!(
                "waits for {} ({stage} busy {})",
                worker_of(stage),
                percent(*share)
            )
        }
        _ => "no stage is busy: Redis, the network or the processors are".into(),
    }
}

/// Who does the work of a stage.
fn worker_of(stage: &str) -> &str {
    match stage {
        "decode" => "this program",
        "identity" => "PostgreSQL",
        "land" => "ClickHouse",
        "acknowledge" => "Redis",
        _ => "a stage that this version does not know",
    }
}

/// Until the fullest stream is so long that ingest refuses events.
fn full_in(redis: &RedisFacts, trend: Trend) -> Option<String> {
    let longest = redis.streams.iter().filter_map(|stream| stream.length).max()?;
    let room = REFUSED_AT.checked_sub(longest)?;
    Some(time((room as f64 / trend.unread) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::samples::{consuming, everything, paused_for, store, working};

    fn answer(redis: &RedisFacts, reachable: [bool; 3], trend: Option<(f64, f64)>) -> (Level, String) {
        let names = ["Redis", "PostgreSQL", "ClickHouse"];
        let stores = [0, 1, 2].map(|index| store(names[index], reachable[index]));
        let trend = trend.map(|(came, settled)| Trend {
            came,
            settled,
            unread: came - settled,
        });
        let said = of(redis, [&stores[0], &stores[1], &stores[2]], trend);
        (said.level, format!("{}: {}", said.answer, said.because))
    }

    const ALL: [bool; 3] = [true; 3];

    #[test]
    fn it_says_whether_it_keeps_up_and_what_it_waits_for() {
        let quiet = everything(0, 0, vec![consuming("a")]);
        let behind = everything(
            50_000,
            1_000,
            vec![working("a", "land", 0.97), working("b", "land", 0.95)],
        );
        for (redis, trend, said) in [
            (&quiet, None, (Level::Fine, "keeps up: 0 unread, 0 pending")),
            (
                &quiet,
                Some((1_200.0, 1_198.0)),
                (
                    Level::Fine,
                    "keeps up: 1,200/s come, 1,198/s settle; 0 unread, 0 pending",
                ),
            ),
            (
                &behind,
                None,
                (
                    Level::Look,
                    "behind: 50,000 unread, 1,000 pending; waits for ClickHouse (land busy 96%)",
                ),
            ),
            (
                &behind,
                Some((1_000.0, 6_000.0)),
                (
                    Level::Look,
                    "catches up: 50,000 unread, done in 10 s; 1,000/s come, 6,000/s settle",
                ),
            ),
            (
                &behind,
                Some((3_000.0, 1_000.0)),
                (
                    Level::Wrong,
                    "falls behind: 50,000 unread, 3,000/s come, 1,000/s settle; waits for ClickHouse (land busy 96%); ingest refuses in 7 min 4 s",
                ),
            ),
            (
                &behind,
                Some((3_000.0, 3_001.0)),
                (
                    Level::Look,
                    "stays behind: 50,000 unread, 1,000 pending; 3,000/s come, 3,001/s settle; waits for ClickHouse (land busy 96%)",
                ),
            ),
        ] {
            assert_eq!(answer(redis, ALL, trend), (said.0, said.1.to_owned()));
        }
    }

    #[test]
    fn what_keeps_everybody_from_reading_comes_first() {
        let nobody = everything(5, 0, Vec::new());
        let paused = everything(7_009, 10, vec![paused_for("a", 27, &["ClickHouse"])]);
        let half = everything(
            7_009,
            10,
            vec![paused_for("a", 27, &["ClickHouse"]), consuming("b")],
        );
        for (redis, reachable, said) in [
            (
                &nobody,
                ALL,
                "nobody reads: no living instance consumes; 5 unread, 0 pending",
            ),
            (
                &paused,
                ALL,
                "paused: waits for ClickHouse, for 27 s; 7,009 unread, 10 pending",
            ),
            (
                &half,
                [true, true, false],
                "a store is silent: no answer from ClickHouse to this viewer; 7,009 unread, 10 pending",
            ),
            (
                &paused,
                [false, true, true],
                "nobody knows: Redis does not answer: the streams are as they were",
            ),
        ] {
            assert_eq!(answer(redis, reachable, None), (Level::Wrong, said.to_owned()));
        }
    }

    #[test]
    fn instances_that_do_not_say_how_they_work_are_no_proof_of_anything() {
        let mut redis = everything(50_000, 0, vec![consuming("a")]);
        let (level, said) = answer(&redis, ALL, None);
        assert_eq!(level, Level::Look);
        assert!(
            said.ends_with("its instances do not say what they wait for"),
            "{said}"
        );
        redis.streams[0].lag = None;
        assert_eq!(answer(&redis, ALL, None).0, Level::Look);
    }

    #[test]
    fn a_stream_that_nobody_reads_and_instances_that_do_not_work_are_said() {
        let mut redis = everything(7, 0, vec![consuming("a")]);
        redis.streams[0].readers = Some(Vec::new());
        assert_eq!(
            answer(&redis, ALL, None),
            (
                Level::Wrong,
                "a stream is not read: no living instance reads events:incoming; 7 unread, 0 pending"
                    .to_owned()
            )
        );
        let mut stalled = consuming("b");
        stalled.presence = Presence::Stalled;
        assert_eq!(
            answer(&everything(0, 0, vec![consuming("a"), stalled]), ALL, None),
            (
                Level::Look,
                "keeps up: 0 unread, 0 pending; without b (stalled)".to_owned()
            )
        );
    }
}
