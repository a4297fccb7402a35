//! Thirty days of three projects, told in the order in which ingest wrote the events.
//!
//! Everything follows from the seed; nothing reads a clock.

mod actor;
mod content;
mod emit;
mod scenes;
mod session;

use std::collections::BTreeSet;

use actor::Actor;
pub(crate) use emit::Draft;
use session::Session;

use crate::line::Line;
use crate::projects::PROJECTS;
use crate::random::{Random, Zipf};
use crate::vocabulary::ACTIONS;

/// The instant the samples end at: 2026-06-30T12:00:00Z, milliseconds since 1970. No event is later.
pub const END_MS: i64 = 1_782_820_800_000;

/// How long a time the samples span, milliseconds.
const SPAN_MS: i64 = 30 * 86_400_000;

/// One line in this many is delivered twice.
const DUPLICATE_EVERY: usize = 60;

/// One line in this many has a NUL in its names, unless it is one of the platform's own.
const NUL_EVERY: usize = 150;

/// The events that belong to `seed`: `count` lines in stream order, duplicate deliveries among them.
pub fn generate(seed: u64, count: usize) -> Vec<Line> {
    let mut random = Random::new(seed);
    let duplicates = count / DUPLICATE_EVERY;
    let mut drafts = tell(&mut random, count - duplicates);
    give_times(&mut drafts);
    put_nul_into_names(&mut drafts);
    deliver_twice(&mut random, &mut drafts, duplicates);
    drafts.sort_by_key(|draft| draft.arrival);
    drafts.into_iter().map(|draft| draft.line).collect()
}

fn tell(random: &mut Random, count: usize) -> Vec<Draft> {
    let people = count / 10 + 5;
    let mut casts = PROJECTS.map(|_| {
        (0..people)
            .map(|number| Actor::new(random, number))
            .collect::<Vec<_>>()
    });
    let (projects, people, actions) = (
        Zipf::new(PROJECTS.len()),
        Zipf::new(people),
        Zipf::new(ACTIONS.len()),
    );
    let mut drafts = Vec::with_capacity(count + 16);
    let mut scene = 0;
    while drafts.len() < count {
        // Time goes by as events are told; the last hour is left for those that are still to happen.
        let told = drafts.len();
        let at = END_MS - SPAN_MS + (SPAN_MS - 3_600_000) / count as i64 * told as i64;
        if told * scenes::SCENES >= scene * count {
            scenes::play(random, scene, at, &mut drafts);
            scene += 1;
            continue;
        }
        let project = projects.rank(random);
        let actor = &mut casts[project][people.rank(random)];
        Session::begin(random, &actions, (project, actor), at, &mut drafts).play();
    }
    drafts.truncate(count);
    drafts
}

/// Gives every event a time of its own, so that "newest" never depends on anything else.
fn give_times(drafts: &mut [Draft]) {
    let mut taken = BTreeSet::new();
    for draft in drafts {
        draft.at = draft.at.min(END_MS);
        while !taken.insert(draft.at) {
            draft.at -= 1;
        }
        draft.line.put("timestamp", iso(draft.at));
    }
}

/// Some clients cut names out of larger buffers: now and then a NUL hangs on, or stands in a key. The same names come
/// without it, too.
fn put_nul_into_names(drafts: &mut [Draft]) {
    for draft in drafts.iter_mut().skip(NUL_EVERY / 2).step_by(NUL_EVERY) {
        let name = draft.line.text("event_name").to_owned();
        if name.starts_with('$') {
            continue;
        }
        let properties = draft.line.object("properties").cloned().unwrap_or_default();
        let keys = properties.into_iter().map(|(key, value)| {
            let nul = if key.starts_with('$') { "" } else { "\0" };
            (key + nul, value)
        });
        let properties = keys.collect::<serde_json::Map<_, _>>();
        draft.line.put("event_name", format!("{name}\0"));
        draft.line.put("properties", properties);
    }
}

/// `2026-06-30T12:00:00.000Z` for milliseconds since 1970.
pub(crate) fn iso(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// Sends copies of some lines a second time, up to an hour later.
fn deliver_twice(random: &mut Random, drafts: &mut Vec<Draft>, duplicates: usize) {
    let originals = drafts.len() as u64;
    let mut twice = BTreeSet::new();
    while twice.len() < duplicates.min(drafts.len()) {
        twice.insert(random.below(originals) as usize);
    }
    for index in twice {
        let mut copy = drafts[index].clone();
        copy.arrival += random.between(1, 3_600_000);
        drafts.push(copy);
    }
}
