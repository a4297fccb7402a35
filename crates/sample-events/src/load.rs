//! Events without end, for load tests and benchmarks: cheap to make, the size and shape of real ones.
//!
//! Everything follows from the options; no clock is read. Nobody keeps an account of these events.

use std::borrow::Cow;
use std::fmt::Write;

use uuid::Uuid;

use crate::projects::PROJECTS;
use crate::random::Random;
use crate::vocabulary::{ACTIONS, AGENTS, PAGES, PLACES, REFERRERS};

/// Field names and values of one stream entry.
pub type LoadEntry = Vec<(&'static str, Cow<'static, str>)>;

/// What the load is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// The same options give the same events.
    pub seed: u64,
    /// Projects, used evenly; none stands for those of the samples.
    pub projects: Vec<Uuid>,
    /// Known persons per project, acting equally often.
    pub persons: u64,
    /// Share of events by known persons, 0 to 1; every other event is by a distinct id never seen before.
    pub known_share: f64,
    /// Share of events that are an `$identify` by a known person, 0 to 1, out of all. Half of their anonymous ids have
    /// an event before, if new ids occur at all.
    pub identify_share: f64,
    /// Number of events; `None` for no end.
    pub events: Option<u64>,
    /// Newest possible event time, milliseconds since 1970; all lie within the hour before.
    pub end_ms: i64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            projects: Vec::new(),
            persons: 10_000,
            known_share: 0.95,
            identify_share: 0.01,
            events: None,
            end_ms: crate::story::END_MS,
        }
    }
}

impl LoadOptions {
    /// The distinct id of a known person, below [`LoadOptions::persons`]; the same in every project.
    pub fn known_distinct_id(&self, person: u64) -> String {
        format!("load-{}-user-{person}", self.seed)
    }
}

/// An iterator over events.
#[derive(Debug, Clone)]
pub struct Load {
    options: LoadOptions,
    projects: Vec<String>,
    random: Random,
    made: u64,
    /// Distinct ids handed out that are not known persons.
    new_ids: u64,
    /// Per project: a new id that has an event and was not yet identified.
    loose: Vec<Option<String>>,
}

/// Shares are counted in millionths.
const WHOLE: f64 = 1_000_000.0;

impl Load {
    /// Begins.
    pub fn new(options: LoadOptions) -> Self {
        let projects: Vec<String> = if options.projects.is_empty() {
            PROJECTS.iter().map(|project| project.id.to_owned()).collect()
        } else {
            options.projects.iter().map(Uuid::to_string).collect()
        };
        let (random, loose) = (Random::new(options.seed), vec![None; projects.len()]);
        Self {
            options,
            projects,
            random,
            made: 0,
            new_ids: 0,
            loose,
        }
    }

    fn share(&mut self, share: f64) -> bool {
        self.random.below(WHOLE as u64) < (share * WHOLE) as u64
    }

    fn new_id(&mut self) -> String {
        self.new_ids += 1;
        format!("load-{}-new-{}", self.options.seed, self.new_ids)
    }

    fn known_id(&mut self) -> String {
        let person = self.random.below(self.options.persons);
        self.options.known_distinct_id(person)
    }

    /// Who does what: event name, distinct id, anonymous id.
    fn act(&mut self, project: usize) -> (&'static str, String, String) {
        if self.share(self.options.identify_share) {
            let seen = if self.random.chance(500) {
                self.loose[project].take()
            } else {
                None
            };
            let anonymous = seen.unwrap_or_else(|| self.new_id());
            return ("$identify", self.known_id(), anonymous);
        }
        let name = match self.random.below(4) {
            0 | 1 => "$pageview",
            2 => "$pageleave",
            _ => self.random.pick(&ACTIONS),
        };
        if self.share(self.options.known_share) {
            return (name, self.known_id(), String::new());
        }
        let id = self.new_id();
        self.loose[project] = Some(id.clone());
        (name, id, String::new())
    }

    fn entry(&mut self) -> LoadEntry {
        let project = (self.made % self.projects.len() as u64) as usize;
        let (name, distinct_id, anonymous_id) = self.act(project);
        let random = &mut self.random;
        let at = self.options.end_ms - random.below(3_600_000) as i64;
        let agent = random.one(&AGENTS);
        let place = random.one(&PLACES[..5]);
        let (path, title) = *random.one(&PAGES);
        let user_id = if name == "$identify" {
            distinct_id.clone()
        } else {
            String::new()
        };
        let event_type = match name {
            "$identify" => "identify",
            "$pageview" => "pageview",
            "$pageleave" => "pageleave",
            _ => "track",
        };
        let [browser, browser_version, os, os_version, device_type] =
            if random.chance(200) { agent.parsed } else { [""; 5] };
        vec![
            ("event_id", random.uuid().to_string().into()),
            ("project_id", self.projects[project].clone().into()),
            ("event_name", name.into()),
            ("event_type", event_type.into()),
            ("distinct_id", distinct_id.into()),
            ("anonymous_id", anonymous_id.into()),
            ("user_id", user_id.into()),
            ("session_id", random.uuid().to_string().into()),
            ("url", format!("https://load.example{path}").into()),
            ("referrer", (*random.pick(&REFERRERS)).into()),
            ("page_title", title.into()),
            ("page_path", path.into()),
            ("device_type", device_type.into()),
            ("browser", browser.into()),
            ("browser_version", browser_version.into()),
            ("os", os.into()),
            ("os_version", os_version.into()),
            ("screen_width", agent.screen.0.to_string().into()),
            ("screen_height", agent.screen.1.to_string().into()),
            ("language", place.language.into()),
            ("timezone", place.timezone.into()),
            (
                "ip",
                format!("73.162.{}.{}", random.below(256), random.below(256)).into(),
            ),
            ("sdk_name", "qurvo-browser".into()),
            ("sdk_version", "1.4.2".into()),
            ("properties", properties(random).into()),
            ("user_properties", user_properties(random, name)),
            ("timestamp", crate::story::iso(at).into()),
            ("batch_id", random.uuid().to_string().into()),
            ("user_agent", agent.header.into()),
            ("schema_version", "1".into()),
        ]
    }
}

impl Iterator for Load {
    type Item = LoadEntry;

    fn next(&mut self) -> Option<LoadEntry> {
        if self.options.events.is_some_and(|events| self.made >= events) {
            return None;
        }
        let entry = self.entry();
        self.made += 1;
        Some(entry)
    }
}

fn properties(random: &mut Random) -> String {
    let mut json = String::with_capacity(128);
    let (cents, position) = (random.below(100_000), random.below(100));
    // Writing to a string cannot fail.
    let _ = write!(
        json,
        r#"{{"price":{}.{:02},"position":{position},"label":"Weiter →","in_stock":{},"coupon":null,"sku":"sku-{}"}}"#,
        cents / 100,
        cents % 100,
        random.chance(900),
        random.below(1000),
    )
    .is_ok();
    json
}

fn user_properties(random: &mut Random, name: &str) -> Cow<'static, str> {
    match name {
        "$identify" => format!(
            r#"{{"$set":{{"plan":"pro","seats":{}}},"name":"Анна Schmidt"}}"#,
            random.below(50)
        )
        .into(),
        _ if random.chance(50) => format!(r#"{{"$set":{{"last_seen_level":{}}}}}"#, random.below(100)).into(),
        _ => "{}".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn value<'a>(entry: &'a LoadEntry, name: &str) -> &'a str {
        entry
            .iter()
            .find(|(known, _)| *known == name)
            .map_or("", |(_, value)| value)
    }

    #[test]
    fn an_entry_has_the_size_and_fields_of_a_real_one() {
        let load = Load::new(LoadOptions {
            events: Some(5_000),
            ..LoadOptions::default()
        });
        let mut bytes = 0;
        for entry in load {
            assert_eq!(
                entry.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(),
                30
            );
            for json in ["properties", "user_properties"] {
                assert!(
                    serde_json::from_str::<serde_json::Value>(value(&entry, json))
                        .unwrap()
                        .is_object()
                );
            }
            bytes += entry
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>();
        }
        assert!(
            (800..1200).contains(&(bytes / 5_000)),
            "{} bytes per entry",
            bytes / 5_000
        );
    }

    #[test]
    fn shares_are_kept_and_the_same_options_give_the_same_events() {
        let options = LoadOptions {
            persons: 100,
            known_share: 0.8,
            identify_share: 0.1,
            ..LoadOptions::default()
        };
        let entries: Vec<_> = Load::new(options.clone()).take(20_000).collect();
        assert!(
            entries
                .iter()
                .eq(Load::new(options).take(20_000).collect::<Vec<_>>().iter())
        );
        let count =
            |condition: &dyn Fn(&LoadEntry) -> bool| entries.iter().filter(|entry| condition(entry)).count();
        let identified = count(&|entry| value(entry, "event_name") == "$identify");
        let new = count(&|entry| value(entry, "distinct_id").contains("-new-"));
        assert!((1_800..2_200).contains(&identified), "{identified}");
        assert!((3_400..3_800).contains(&new), "{new}");
        let seen: BTreeSet<_> = entries.iter().map(|entry| value(entry, "distinct_id")).collect();
        let of_seen = count(&|entry| seen.contains(value(entry, "anonymous_id")));
        assert!(of_seen > identified / 4 && of_seen < identified, "{of_seen}");
    }

    #[test]
    fn the_load_ends_when_told_to_and_uses_the_given_projects() {
        let project = Uuid::from_u128(7);
        let load = Load::new(LoadOptions {
            projects: vec![project],
            events: Some(3),
            ..LoadOptions::default()
        });
        let projects: Vec<_> = load.map(|entry| value(&entry, "project_id").to_owned()).collect();
        assert_eq!(projects, vec![project.to_string(); 3]);
        assert_eq!(Load::new(LoadOptions::default()).take(10).count(), 10);
    }
}
