//! The one question: does it keep up, and if not, what does it wait for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Instance, Level, RedisFacts, StoreState, Stream, Verdict};
use super::history::Trend;
use super::readers::{free, not_read};
use super::words::{count, lost, percent, rate, time};
use crate::intake::REFUSED_AT;
use crate::runtime::instances::Presence;
use crate::runtime::report::Reading;
use crate::runtime::streams::few;

/// So much that is unread is on its way rather than behind.
const ON_ITS_WAY: u64 = 1_000;
/// What settles in so much time counts as on its way, too…
const ON_ITS_WAY_S: f64 = 2.0;
/// …but not what has waited for so long: another instance has taken over from one that died by then.
const LATE_S: u64 = 30;
/// A stage that works this share of the time holds the others up.
pub(super) const BUSY: f64 = 0.6;
/// What is unread stands still when it changes by less, of what comes.
const STEADY: f64 = 0.02;

fn verdict(level: Level, answer: &'static str, because: String) -> Verdict {
    Verdict {
        level,
        answer,
        because,
    }
}

pub(super) fn of(redis: &RedisFacts, stores: [&StoreState; 3], trend: Option<Trend>) -> Verdict {
    if !stores[0].reachable {
        let does = if stores[0].refuses {
            "refuses this command"
        } else {
            "does not answer"
        };
        let because = format!("Redis {does}: the streams are as they were");
        return verdict(Level::Wrong, "nobody knows", because);
    }
    let Some(instances) = &redis.instances else {
        let because = "Redis does not say which instances there are".into();
        return verdict(Level::Look, "nobody knows", because);
    };
    let sum = |of: fn(&Stream) -> Option<u64>| redis.streams.iter().map(of).sum::<Option<u64>>();
    let counted = sum(|stream| stream.lag).zip(sum(|stream| stream.pending));
    let waiting = match counted {
        Some((unread, pending)) => format!("{} unread, {} pending", count(unread), count(pending)),
        None => "Redis cannot say how much is unread".into(),
    };
    let consuming: Vec<&Instance> = instances.iter().filter(|instance| instance.consumes()).collect();
    if consuming.is_empty() {
        return nobody(instances, counted == Some((0, 0)), &waiting);
    }
    if let Some(because) = needs_operator(&consuming) {
        let answer = "an operator has to act";
        return verdict(Level::Wrong, answer, format!("{because}; {waiting}"));
    }
    if let Some(because) = mute(&consuming) {
        return verdict(Level::Wrong, "nobody knows", format!("{because}; {waiting}"));
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
    if let Some(because) = silent(stores) {
        return verdict(Level::Wrong, "a store is silent", format!("{because}; {waiting}"));
    }
    let Some((unread, _)) = counted else {
        return verdict(Level::Look, "nobody knows", waiting);
    };
    let mut said = behind_or_not(redis, (unread, &waiting), &consuming, trend);
    let free = free(redis);
    if !free.is_empty() {
        let names: Vec<&str> = free.iter().map(|stream| stream.name.as_str()).collect();
        let names = few(&names);
        let because = format!("no living instance reads {names}, where nothing has waited for long");
        said = match said.level {
            Level::Fine => verdict(
                Level::Look,
                "a stream has no reader",
                format!("{because}; {waiting}"),
            ),
            level => verdict(level, said.answer, format!("{}; {because}", said.because)),
        };
    }
    if let Some(lost) = without(instances) {
        said.level = said.level.max(Level::Look);
        said.because = format!("{}; without {lost}", said.because);
    }
    said
}

/// What is said where no living instance consumes: one that died should, one that ended need not.
fn nobody(instances: &[Instance], nothing_waits: bool, waiting: &str) -> Verdict {
    let lost = without(instances);
    let level = if nothing_waits && lost.is_none() {
        Level::Look
    } else {
        Level::Wrong
    };
    let what = if nothing_waits { "nothing waits" } else { waiting };
    let without = lost.map_or(String::new(), |lost| format!("; without {lost}"));
    let because = format!("no living instance consumes; {what}{without}");
    verdict(level, "nobody reads", because)
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
    let rates = trend.map(|trend| format!("{} come, {} settle", rate(trend.came), rate(trend.settled)));
    let Some(age) = late(redis) else {
        if unread <= ON_ITS_WAY.max((settled * ON_ITS_WAY_S) as u64) {
            let moves = trend.is_some_and(|trend| trend.came > 0.0 || trend.settled > 0.0);
            let rates = rates.filter(|_| moves).map(|rates| rates + "; ");
            let because = format!("{}{waiting}", rates.unwrap_or_default());
            return verdict(Level::Fine, "keeps up", because);
        }
        return behind(redis, (unread, waiting), &waits_for(consuming), trend);
    };
    let waiting = format!("{waiting}, the oldest unread for {}", time(age));
    if let Some(first) = held_back(redis, consuming) {
        let because =
            format!("{waiting}: what is read before has to be at its end (PROCESSOR_STREAM_FIRST), {first}");
        return verdict(Level::Look, "held back", because);
    }
    if is_still(consuming, trend) {
        let because = format!("living instances hold nothing and settle nothing; {waiting}");
        return verdict(Level::Wrong, "stands still", because);
    }
    behind(redis, (unread, &waiting), &waits_for(consuming), trend)
}

/// The stores that tell this viewer nothing.
fn silent(stores: [&StoreState; 3]) -> Option<String> {
    let named = |refuses: bool| {
        let of = stores
            .iter()
            .filter(|store| !store.reachable && store.refuses == refuses);
        let names: Vec<&str> = of.map(|store| store.name).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let unanswered = named(false).map(|names| format!("no answer from {names} to this viewer"));
    let refused = named(true).map(|names| format!("this viewer is refused by {names}"));
    let said: Vec<String> = [unanswered, refused].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// More is unread than is on its way: does it become more?
fn behind(redis: &RedisFacts, (unread, waiting): (u64, &str), busy: &str, trend: Option<Trend>) -> Verdict {
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

fn waits(stream: &Stream) -> Option<u64> {
    stream.lag_s.filter(|_| stream.lag != Some(0))
}

/// How long the oldest unread entry has waited, if that is too long.
fn late(redis: &RedisFacts) -> Option<u64> {
    let ages = redis.streams.iter().filter_map(waits);
    ages.max().filter(|age| *age >= LATE_S)
}

/// The streams that all late ones have to wait for, as instances are told to.
fn held_back(redis: &RedisFacts, consuming: &[&Instance]) -> Option<String> {
    let firsts = consuming
        .iter()
        .filter_map(|instance| instance.streams()?.first.as_deref());
    let firsts: BTreeSet<&str> = firsts.flatten().map(String::as_str).collect();
    let is_first = |stream: &&Stream| firsts.contains(stream.name.as_str());
    let has_some = |stream: &Stream| stream.lag != Some(0) || stream.pending != Some(0);
    let late = redis
        .streams
        .iter()
        .filter(|stream| waits(stream).is_some_and(|age| age >= LATE_S));
    let unfinished: Vec<&str> = redis
        .streams
        .iter()
        .filter(|stream| is_first(stream) && has_some(stream))
        .map(|stream| stream.name.as_str())
        .collect();
    let all_wait = !late.clone().any(|stream| is_first(&stream));
    (all_wait && !unfinished.is_empty()).then(|| few(&unfinished))
}

/// Whether instances that could read do nothing at all, as far as they say. One that has just begun has yet to read.
fn is_still(consuming: &[&Instance], trend: Option<Trend>) -> bool {
    let settles = |instance: &&Instance| {
        let report = instance.report.as_ref()?;
        let work = report.work.as_ref()?;
        Some(report.held_events > 0 || work.settled_per_s > 0.0 || work.up_s < LATE_S)
    };
    let settle: Option<Vec<bool>> = consuming.iter().map(settles).collect();
    let is_idle = settle.is_some_and(|settle| !settle.contains(&true));
    is_idle && trend.is_none_or(|trend| trend.settled <= 0.0)
}

/// What has to be done for those that cannot use a store for a reason that no waiting mends, and which these are: by what has to
/// be done, since it is often the same for all.
fn needs_operator(consuming: &[&Instance]) -> Option<String> {
    let mut needs = BTreeMap::<(&str, &str), Vec<&str>>::new();
    for instance in consuming {
        for need in instance.needs() {
            needs.entry(need).or_default().push(&instance.name);
        }
    }
    let said = needs
        .into_iter()
        .map(|((store, advice), names)| format!("{} cannot use {store}: {advice}", few(&names)));
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Those that live, and have not said for long how they are.
fn mute(consuming: &[&Instance]) -> Option<String> {
    let mute = consuming.iter().filter_map(|instance| {
        let silent = time(instance.is_mute_for()?);
        Some(format!(
            "{} lives and has not reported for {silent}",
            instance.name
        ))
    });
    let mute: Vec<String> = mute.collect();
    let names: Vec<&str> = mute.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("{}: its log and `probe ready` there say why", few(&names)))
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
