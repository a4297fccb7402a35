//! What must be in the stores once every line has been worked off: a model so plain that it can be read.
//!
//! It takes the lines one after the other, in stream order, under the merge policy `guarded`, and shares no code with
//! the worker. It knows nothing of batches, retries or absolute time. It never sees invalid events: lines that
//! validation would reject do not belong into an account.

mod catalogue;
mod people;
mod properties;
mod value_type;

pub(crate) use people::ILLEGAL_IDS;
pub use people::person_id;
pub use value_type::ValueType;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::line::Line;
use catalogue::Catalogue;
use people::People;

/// Everything that must come out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Stream entries.
    pub lines: usize,
    /// Distinct event ids.
    pub events: usize,
    /// Entries that repeat an earlier event id.
    pub duplicates: usize,
    /// By project id.
    pub projects: BTreeMap<String, ProjectAccount>,
}

/// What must come out in one project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProjectAccount {
    /// Distinct events.
    pub events: usize,
    /// Persons after all merges.
    pub persons: usize,
    /// Distinct ids with a mapping.
    pub distinct_ids: usize,
    /// `$identify` events that joined two persons.
    pub merges: usize,
    /// `$identify` events that would have joined two identified users.
    pub merges_refused: usize,
    /// `$identify` events whose anonymous id is illegal, too long or the distinct id itself.
    pub unusable_anonymous_ids: usize,
    /// Keys that had a value on both sides of a merge; while there are any, the properties of their persons depend on
    /// which side wins.
    pub contested_keys: BTreeSet<String>,
    /// Distinct events by name.
    pub event_names: BTreeMap<String, usize>,
    /// By person id.
    pub people: BTreeMap<Uuid, PersonAccount>,
    /// The final person of every distinct id.
    pub mappings: BTreeMap<String, Uuid>,
    /// Names in `event_definitions`.
    pub event_definitions: BTreeSet<String>,
    /// `property_definitions`: prefixed name to value type. The prefix tells the property's type, see
    /// [`property_type`].
    pub property_definitions: BTreeMap<String, Option<ValueType>>,
    /// `event_properties`: event name to prefixed property names.
    pub event_properties: BTreeMap<String, BTreeSet<String>>,
}

/// What must be known about a person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PersonAccount {
    /// Distinct events whose distinct id ended up with this person.
    pub events: usize,
    /// Final properties.
    pub properties: BTreeMap<String, Value>,
}

/// `property_definitions.property_type` of a prefixed property name: `event` or `person`.
pub fn property_type(prefixed_name: &str) -> &'static str {
    if prefixed_name.starts_with("user_properties.") {
        "person"
    } else {
        "event"
    }
}

/// Works the lines off, one after the other.
pub fn account(lines: &[Line]) -> Account {
    let mut by_project: BTreeMap<String, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        by_project
            .entry(line.text("project_id").to_owned())
            .or_default()
            .push(line);
    }
    let projects: BTreeMap<_, _> = by_project
        .into_iter()
        .map(|(project, lines)| (project, project_account(&lines)))
        .collect();
    let events = projects.values().map(|project| project.events).sum();
    Account {
        lines: lines.len(),
        events,
        duplicates: lines.len() - events,
        projects,
    }
}

fn project_account(lines: &[&Line]) -> ProjectAccount {
    let mut people = People::default();
    let mut catalogue = Catalogue::default();
    let mut events: Vec<&Line> = Vec::new();
    let mut seen = BTreeSet::new();
    for line in lines {
        let is_new = seen.insert(line.text("event_id"));
        people.meet(line, is_new);
        catalogue.record(line);
        if is_new {
            events.push(line);
        }
    }

    let mut event_names = BTreeMap::new();
    let mut of_person: BTreeMap<Uuid, Vec<&Line>> = BTreeMap::new();
    for event in &events {
        *event_names
            .entry(event.text("event_name").to_owned())
            .or_default() += 1;
        if let Some(person) = people.mappings.get(event.text("distinct_id")) {
            of_person.entry(*person).or_default().push(event);
        }
    }
    // Every person left has an event: an unseen anonymous id never makes one, and a user's is made by its own.
    let people_accounts = of_person.into_iter().map(|(person, events)| {
        let account = PersonAccount {
            events: events.len(),
            properties: properties::after(&events),
        };
        (person, account)
    });
    let people_accounts: BTreeMap<_, _> = people_accounts.collect();

    ProjectAccount {
        events: events.len(),
        persons: people_accounts.len(),
        distinct_ids: people.mappings.len(),
        merges: people.merges,
        merges_refused: people.refused,
        unusable_anonymous_ids: people.unusable,
        contested_keys: people.contested,
        event_names,
        people: people_accounts,
        mappings: people.mappings,
        event_definitions: catalogue.events,
        property_definitions: catalogue.properties,
        event_properties: catalogue.event_properties,
    }
}
