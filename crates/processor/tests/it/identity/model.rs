//! The reference model: one event after another, everything kept, nothing clever. It shares no code with the worker.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

const NAMESPACE: Uuid = Uuid::from_u128(0xa1b2_c3d4_e5f6_4a7b_8c9d_0e1f_2a3b_4c5d);

/// What an event says, as far as persons are concerned.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) who: String,
    /// Set on `$identify`.
    pub(crate) anonymous: Option<String>,
    pub(crate) identifies: bool,
    /// What it writes to the person's properties.
    pub(crate) writes: Vec<Write>,
    /// Event time, milliseconds.
    pub(crate) time: i64,
    /// Place in the stream.
    pub(crate) place: (u64, u64),
}

#[derive(Debug, Clone)]
pub(crate) enum Write {
    Set(String, Value),
    Once(String, Value),
    Unset(String),
}

impl Write {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Set(key, _) | Self::Once(key, _) | Self::Unset(key) => key,
        }
    }
}

/// When a write happened: event time, then place.
type When = (i64, (u64, u64));

#[derive(Debug, Clone, Default)]
struct Person {
    /// Every write that counts, by key.
    writes: BTreeMap<String, Vec<(When, Write)>>,
}

/// The newest set or unset decides; without a value from it, the oldest set-once above it.
fn value(writes: &[(When, Write)]) -> Option<Value> {
    let decided = writes
        .iter()
        .filter(|(_, write)| !matches!(write, Write::Once(..)))
        .max_by_key(|(when, _)| *when);
    if let Some((_, Write::Set(_, value))) = decided {
        return Some(value.clone());
    }
    let floor = decided.map(|(when, _)| *when);
    let onces = writes.iter().filter_map(|(when, write)| match write {
        Write::Once(_, value) if Some(*when) > floor => Some((*when, value)),
        _ => None,
    });
    onces
        .min_by_key(|(when, _)| *when)
        .map(|(_, value)| value.clone())
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    project: Uuid,
    guarded: bool,
    pub(crate) mappings: BTreeMap<String, Uuid>,
    identified: BTreeSet<String>,
    persons: BTreeMap<Uuid, Person>,
    pub(crate) merges: usize,
    pub(crate) refused: usize,
}

impl Model {
    pub(crate) fn new(project: Uuid, guarded: bool) -> Self {
        Self {
            project,
            guarded,
            mappings: BTreeMap::new(),
            identified: BTreeSet::new(),
            persons: BTreeMap::new(),
            merges: 0,
            refused: 0,
        }
    }

    /// Takes an event in; the person of its row.
    pub(crate) fn take(&mut self, said: &Said) -> Uuid {
        let person = *self.mappings.entry(said.who.clone()).or_insert_with(|| {
            let name = format!("{}:{}", self.project, said.who);
            Uuid::new_v5(&NAMESPACE, name.as_bytes())
        });
        self.persons.entry(person).or_default();
        if said.identifies {
            self.identified.insert(said.who.clone());
            if let Some(anonymous) = said
                .anonymous
                .as_ref()
                .filter(|anonymous| **anonymous != said.who)
            {
                self.join(&said.who, person, anonymous);
            }
        }
        let properties = self.persons.get_mut(&person).unwrap();
        for write in &said.writes {
            let of_key = properties.writes.entry(write.key().to_owned()).or_default();
            of_key.push(((said.time, said.place), write.clone()));
        }
        person
    }

    fn join(&mut self, user: &str, into: Uuid, anonymous: &str) {
        let Some(from) = self.mappings.get(anonymous).copied() else {
            self.mappings.insert(anonymous.to_owned(), into);
            return;
        };
        if from == into {
            return;
        }
        let mut of_from = self.mappings.iter().filter(|(_, person)| **person == from);
        if self.guarded && of_from.any(|(id, _)| id != user && self.identified.contains(id)) {
            self.refused += 1;
            return;
        }
        self.merges += 1;
        for person in self.mappings.values_mut().filter(|person| **person == from) {
            *person = into;
        }
        let merged = self.persons.remove(&from).unwrap();
        let survivor = self.persons.get_mut(&into).unwrap();
        for (key, theirs) in merged.writes {
            let ours = survivor.writes.entry(key).or_default();
            if value(ours).is_none() {
                if value(&theirs).is_some() {
                    ours.clear();
                }
                ours.extend(theirs);
            }
        }
    }

    /// Every person's properties.
    pub(crate) fn properties(&self) -> BTreeMap<Uuid, BTreeMap<String, Value>> {
        let persons = self.persons.iter().map(|(id, person)| {
            let values = person
                .writes
                .iter()
                .filter_map(|(key, writes)| Some((key.clone(), value(writes)?)));
            (*id, values.collect())
        });
        persons.collect()
    }
}
