//! The events of a scenario: entries of the size and shape of real ones, by whom the mix says.

use std::collections::VecDeque;
use std::fmt::Write;

use sample_events::{Load, LoadEntry, LoadOptions};
use uuid::Uuid;

use crate::scenarios::Mix;

/// Anonymous visitors who are there at the same time.
const CROWD: u64 = 100;
/// Events of each of them.
const VISITS: u64 = 5;
/// How many entries later a duplicate comes: in the same batch, or in a later one.
const REPEATED_AFTER: [u64; 2] = [10, 15_000];

/// The id of the `n`-th project.
pub(crate) fn project(n: usize) -> Uuid {
    Uuid::from_u128(0x1111_1111_1111_1111_1111_1111_1111_1111 + n as u128)
}

/// Known persons of the `n`-th project.
pub(crate) fn persons_of(persons: u64, n: usize) -> u64 {
    if persons == 0 { 0 } else { (persons >> n).max(1) }
}

/// Entries without end. The same mix and run give the same choices.
pub(crate) struct Events {
    shape: Load,
    mix: Mix,
    persons: u64,
    /// Keeps apart what one run makes from what the others made.
    run: u64,
    made: u64,
    /// Entries that are not a duplicate.
    distinct: u64,
    anonymous: u64,
    identified: u64,
    /// Anonymous visitors who have had all their events and were not yet identified.
    gone: VecDeque<u64>,
    /// Duplicates and when they are due, by the wait they have.
    repeats: [VecDeque<(u64, LoadEntry)>; 2],
}

impl Events {
    pub(crate) fn new(mix: Mix, persons: u64, run: u64) -> Self {
        let shape = Load::new(LoadOptions {
            seed: run,
            projects: vec![project(0)],
            persons: persons.max(1),
            known_share: 1.0,
            identify_share: 0.0,
            events: None,
            end_ms: jiff::Timestamp::now().as_millisecond(),
        });
        Self {
            shape,
            mix,
            persons,
            run,
            made: 0,
            distinct: 0,
            anonymous: 0,
            identified: 0,
            gone: VecDeque::new(),
            repeats: Default::default(),
        }
    }

    /// Entries so far that are not a duplicate: so many rows there are.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct
    }

    fn due(&mut self) -> Option<LoadEntry> {
        let made = self.made;
        let due = |repeats: &mut VecDeque<(u64, LoadEntry)>| {
            repeats
                .pop_front_if(|(at, _)| *at <= made)
                .map(|(_, entry)| entry)
        };
        self.repeats.iter_mut().find_map(due)
    }

    fn fresh(&mut self) -> LoadEntry {
        let mut entry = self.shape.next().unwrap_or_default();
        let draw = scattered(self.run, self.distinct);
        self.distinct += 1;
        let n = draw.trailing_zeros().min(self.mix.projects as u32 - 1) as usize;
        let known = scattered(draw, 1) % persons_of(self.persons, n).max(1);
        set(&mut entry, "project_id", project(n).to_string());
        set(&mut entry, "distinct_id", format!("visitor-{known}"));
        set(&mut entry, "user_properties", "{}".to_owned());
        if self.mix.wide {
            set(&mut entry, "properties", wide(draw));
        }
        self.act(&mut entry, scattered(draw, 2));
        entry
    }

    /// Who does what, by the shares of the mix.
    fn act(&mut self, entry: &mut LoadEntry, draw: u64) {
        let mut roll = draw % 1000;
        let mut falls_to = |share: u64| {
            let hit = roll < share;
            roll = roll.wrapping_sub(share);
            hit
        };
        if falls_to(self.mix.identify) {
            self.identify(entry);
        } else if falls_to(self.mix.set) {
            set(entry, "user_properties", properties(draw));
        } else if falls_to(self.mix.anonymous) {
            let id = self.visitor();
            set(entry, "distinct_id", id);
        } else if falls_to(self.mix.new) {
            set(
                entry,
                "distinct_id",
                format!("new-{}-{}", self.run, self.distinct),
            );
        }
    }

    fn identify(&mut self, entry: &mut LoadEntry) {
        self.identified += 1;
        let seen = if self.identified.is_multiple_of(2) {
            self.gone.pop_front()
        } else {
            None
        };
        let anonymous = seen.map_or_else(
            || format!("unseen-{}-{}", self.run, self.identified),
            |visitor| format!("anonymous-{}-{visitor}", self.run),
        );
        let known = entry.iter().find(|(name, _)| *name == "distinct_id");
        let known = known.map(|(_, id)| id.clone().into_owned()).unwrap_or_default();
        set(entry, "event_name", "$identify".to_owned());
        set(entry, "event_type", "identify".to_owned());
        set(entry, "user_id", known);
        set(entry, "anonymous_id", anonymous);
        set(entry, "user_properties", properties(self.identified));
    }

    /// The anonymous visitor whose turn it is: a crowd has its events in turns, then the next crowd comes.
    fn visitor(&mut self) -> String {
        let n = self.anonymous;
        self.anonymous += 1;
        let visitor = n / (CROWD * VISITS) * CROWD + n % CROWD;
        if n % (CROWD * VISITS) >= CROWD * (VISITS - 1) {
            self.gone.push_back(visitor);
        }
        format!("anonymous-{}-{visitor}", self.run)
    }
}

impl Iterator for Events {
    type Item = LoadEntry;

    fn next(&mut self) -> Option<LoadEntry> {
        let repeated = self.due();
        let entry = repeated.unwrap_or_else(|| {
            let entry = self.fresh();
            let draw = scattered(self.run, self.distinct) >> 20;
            if draw % 1000 < self.mix.duplicate {
                let wait = usize::from(draw & (1 << 20) == 0);
                self.repeats[wait].push_back((self.made + REPEATED_AFTER[wait], entry.clone()));
            }
            entry
        });
        self.made += 1;
        Some(entry)
    }
}

/// Gives a field another value.
pub(crate) fn set(entry: &mut LoadEntry, name: &str, value: String) {
    if let Some(field) = entry.iter_mut().find(|(known, _)| *known == name) {
        field.1 = value.into();
    }
}

fn properties(n: u64) -> String {
    format!(r#"{{"$set":{{"plan":"pro","seats":{}}}}}"#, n % 50)
}

/// 100 members, 8 KB.
fn wide(n: u64) -> String {
    let mut json = String::from("{");
    for member in 0..100 {
        let comma = if member == 0 { "" } else { "," };
        let value = scattered(n, member);
        // Writing to a string cannot fail.
        let _ = write!(
            json,
            r#"{comma}"property_{member}":"a text that some page sends along with it {value:020}""#
        )
        .is_ok();
    }
    json.push('}');
    json
}

/// A number that looks random, the same for the same two.
fn scattered(one: u64, other: u64) -> u64 {
    let mut z = one
        .wrapping_mul(0xd134_2543_de82_ef95)
        .wrapping_add(other.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
