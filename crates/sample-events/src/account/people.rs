//! Which person each distinct id belongs to, by the contract's rules for `$identify` under the policy `guarded`.

use std::collections::{BTreeMap, BTreeSet};

use uuid::{Uuid, uuid};

use super::properties;
use crate::line::Line;

/// Namespace of person ids (contract, later versions).
const PERSON_NAMESPACE: Uuid = uuid!("a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d");

/// Values that clients send when they have no id.
pub(crate) const ILLEGAL_IDS: [&str; 11] = [
    "anonymous",
    "null",
    "undefined",
    "none",
    "nil",
    "[object object]",
    "nan",
    "true",
    "false",
    "0",
    "guest",
];

/// The person that a distinct id gets when nobody has seen it before.
pub fn person_id(project_id: &str, distinct_id: &str) -> Uuid {
    Uuid::new_v5(
        &PERSON_NAMESPACE,
        format!("{project_id}:{distinct_id}").as_bytes(),
    )
}

/// The people of one project.
#[derive(Debug, Default)]
pub(crate) struct People {
    pub(crate) mappings: BTreeMap<String, Uuid>,
    /// Distinct ids that have been the subject of an `$identify`.
    identified: BTreeSet<String>,
    /// Keys that each person had a write of, itself or through those merged into it.
    written: BTreeMap<Uuid, BTreeSet<String>>,
    pub(crate) merges: usize,
    pub(crate) refused: usize,
    pub(crate) unusable: usize,
    pub(crate) contested: BTreeSet<String>,
}

impl People {
    /// Takes the next line; `is_new` is false for a second delivery, which changes nothing but is not looked up.
    pub(crate) fn meet(&mut self, line: &Line, is_new: bool) {
        let distinct_id = line.text("distinct_id");
        let new_person = person_id(line.text("project_id"), distinct_id);
        let person = *self.mappings.entry(distinct_id.to_owned()).or_insert(new_person);
        self.written
            .entry(person)
            .or_default()
            .extend(properties::keys(line));
        if line.text("event_name") == "$identify" {
            self.identified.insert(distinct_id.to_owned());
            self.identify(person, distinct_id, line.text("anonymous_id"), is_new);
        }
    }

    fn identify(&mut self, user: Uuid, user_id: &str, anonymous_id: &str, is_new: bool) {
        if anonymous_id.is_empty() {
            return;
        }
        if anonymous_id == user_id || !is_usable(anonymous_id) {
            self.unusable += usize::from(is_new);
            return;
        }
        match self.mappings.get(anonymous_id).copied() {
            None => {
                self.mappings.insert(anonymous_id.to_owned(), user);
            }
            Some(other) if other == user => {}
            Some(other) if self.is_of_somebody_else(other, user_id) => self.refused += usize::from(is_new),
            Some(other) => self.merge(other, user),
        }
    }

    fn is_of_somebody_else(&self, person: Uuid, user_id: &str) -> bool {
        let mut ids = self
            .mappings
            .iter()
            .filter(|(_, of)| **of == person)
            .map(|(id, _)| id);
        ids.any(|id| id != user_id && self.identified.contains(id))
    }

    fn merge(&mut self, from: Uuid, into: Uuid) {
        self.merges += 1;
        for person in self.mappings.values_mut().filter(|person| **person == from) {
            *person = into;
        }
        let theirs = self.written.remove(&from).unwrap_or_default();
        let ours = self.written.entry(into).or_default();
        self.contested.extend(theirs.intersection(ours).cloned());
        ours.extend(theirs);
    }
}

fn is_usable(id: &str) -> bool {
    let short = id.trim().to_lowercase();
    !short.is_empty()
        && !ILLEGAL_IDS.contains(&short.as_str())
        && id.chars().count() <= 400
        && !id.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn person_ids_are_those_of_the_platform() {
        let project = "11111111-1111-1111-1111-111111111111";
        assert_eq!(
            person_id(project, "user-1"),
            uuid!("f8b36faf-727f-5c7d-8a73-b64b3a9f3721")
        );
        assert_eq!(
            person_id(project, "Ж 1:2"),
            uuid!("c8f9a7dc-a75b-5b19-84e1-75c13c25c462")
        );
    }
}
