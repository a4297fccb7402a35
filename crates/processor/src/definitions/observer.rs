//! Looks through a batch for names that have to be written: those not yet written in this hour, as far as the process
//! remembers.

use std::borrow::Cow;
use std::sync::Arc;

use crate::event::decode::MOST_PROPERTIES;
use crate::event::{Batch, Event, Field, ProjectId, json};

use super::fingerprint::{Fingerprint, Kind, within};
use super::seen::{Seen, Written};
use super::sightings::{EventName, EventProperty, Property, PropertyType, Sightings};
use super::value_type::ValueType;

/// Longest name that is recorded, in Unicode scalar values.
const LONGEST_NAME: usize = 200;
/// Keys of `properties` and `user_properties` whose members are properties of the person, when their value is an object.
const OBJECTS_OF_PROPERTIES: [&str; 2] = ["$set", "$set_once"];
/// Keys of `properties` that are not recorded as properties.
const SKIPPED: [&str; 9] = [
    "$set",
    "$set_once",
    "$unset",
    "$groups",
    "$group_0",
    "$group_1",
    "$group_2",
    "$group_3",
    "$group_4",
];

/// One pass over a batch; collects the names to be written.
pub(super) struct Observer<'a> {
    seen: &'a Seen,
    now_s: i64,
    hour: u32,
    pub(super) new: Sightings,
}

/// The event whose properties are looked at.
struct Scope<'a> {
    project: ProjectId,
    name: Cow<'a, str>,
    project_fingerprint: Fingerprint,
    event_fingerprint: Fingerprint,
}

impl<'a> Observer<'a> {
    /// A pass at `now_s` seconds since the epoch, which lies in `hour`.
    pub(super) fn new(seen: &'a Seen, now_s: i64, hour: u32) -> Self {
        Self {
            seen,
            now_s,
            hour,
            new: Sightings::default(),
        }
    }

    /// Looks at one event. `project` is the fingerprint of its project.
    pub(super) fn event(&mut self, batch: &Batch, event: &Event, project: Fingerprint) {
        // Compared as recorded: names that differ only in NUL are one row, and a statement must not hold a row twice.
        let name = without_nul(batch.text(event, Field::EventName));
        if is_too_long(&name) || event.member_count() > MOST_PROPERTIES {
            return;
        }
        let scope = Scope {
            project: event.project,
            event_fingerprint: within(project, Kind::Event, &name),
            name,
            project_fingerprint: project,
        };
        if self.seen.events.get(scope.event_fingerprint, self.hour).is_none() {
            self.new.event(scope.event_fingerprint, || EventName {
                project: scope.project,
                name: scope.name.as_ref().into(),
            });
        }
        for (literal, value) in batch.properties(event) {
            let key = json::text(literal);
            if !key.starts_with('$') || !SKIPPED.contains(&key.as_ref()) {
                self.property(&scope, PropertyType::Event, &key, value);
            } else if OBJECTS_OF_PROPERTIES.contains(&key.as_ref()) {
                self.members(&scope, value);
            }
        }
        for (literal, value) in batch.user_properties(event) {
            let key = json::text(literal);
            if !key.starts_with('$') {
                self.property(&scope, PropertyType::Person, &key, value);
            } else if OBJECTS_OF_PROPERTIES.contains(&key.as_ref()) {
                self.members(&scope, value);
            } else if key != "$unset" {
                self.property(&scope, PropertyType::Person, &key, value);
            }
        }
    }

    /// Records the members of a `$set` or `$set_once` as properties of the person. A value that is no object is ignored.
    fn members(&mut self, scope: &Scope<'_>, value: &str) {
        let mut inner = Vec::new();
        if json::members(value, |literal, value| inner.push((literal, value))) {
            for (literal, value) in inner {
                self.property(scope, PropertyType::Person, &json::text(literal), value);
            }
        }
    }

    fn property(&mut self, scope: &Scope<'_>, of: PropertyType, key: &str, value: &str) {
        let kind = match of {
            PropertyType::Event => Kind::EventProperty,
            PropertyType::Person => Kind::PersonProperty,
        };
        let of_event = within(scope.event_fingerprint, kind, key);
        let known = self.seen.event_properties.get(of_event, self.hour);
        if known == Some(Written::Done) || is_too_long(key) {
            return;
        }
        let own = within(scope.project_fingerprint, kind, key);
        let own_known = self.seen.properties.get(own, self.hour);
        let name = || -> Arc<str> { [of.prefix(), key].concat().into() };
        if own_known != Some(Written::Done) {
            let value_type = ValueType::detect(key, value, self.now_s);
            if own_known.is_none() || value_type.is_some() {
                self.new.property(own, value_type, || Property {
                    project: scope.project,
                    name: name(),
                    of,
                    value_type,
                });
            }
        }
        match known {
            None => self.new.event_property(of_event, || EventProperty {
                project: scope.project,
                event: scope.name.as_ref().into(),
                name: name(),
                of,
                property: own,
            }),
            // Meanwhile another event gave its property a type.
            Some(_) if own_known == Some(Written::Done) => {
                self.seen
                    .event_properties
                    .mark(of_event, self.hour, Written::Done);
            }
            Some(_) => {}
        }
    }
}

fn is_too_long(name: &str) -> bool {
    name.len() > LONGEST_NAME && name.chars().nth(LONGEST_NAME).is_some()
}

fn without_nul(name: &str) -> Cow<'_, str> {
    if name.contains('\0') {
        Cow::Owned(name.replace('\0', ""))
    } else {
        Cow::Borrowed(name)
    }
}
