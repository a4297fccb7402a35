//! Names that wait to be written. Each is held once, however often it was seen, and their total size is bounded.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::ProjectId;

use super::fingerprint::Fingerprint;
use super::value_type::ValueType;

/// Most bytes of waiting names. Names beyond are dropped; later events bring them again.
const MOST_BYTES: usize = 16 << 20;
/// Bytes that a name takes besides its text.
const PER_NAME: usize = 150;

/// `property_definitions.property_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PropertyType {
    Event,
    Person,
}

impl PropertyType {
    /// The text stored in `property_type`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Person => "person",
        }
    }

    /// The prefix of a key in `property_name`.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Event => "properties.",
            Self::Person => "user_properties.",
        }
    }
}

/// A row of `event_definitions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventName {
    pub(super) project: ProjectId,
    pub(super) name: Arc<str>,
}

/// A row of `property_definitions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) project: ProjectId,
    pub(super) name: Arc<str>,
    pub(super) of: PropertyType,
    pub(super) value_type: Option<ValueType>,
}

/// A row of `event_properties`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventProperty {
    pub(super) project: ProjectId,
    pub(super) event: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) of: PropertyType,
    /// The fingerprint of the property itself.
    pub(super) property: Fingerprint,
}

/// Rows to be written, by their fingerprints.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    pub(super) events: FxHashMap<Fingerprint, EventName>,
    pub(super) properties: FxHashMap<Fingerprint, Property>,
    pub(super) event_properties: FxHashMap<Fingerprint, EventProperty>,
    bytes: usize,
    /// Number of names that did not fit.
    pub(super) forgotten: usize,
}

impl Sightings {
    /// Whether no name waits.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.properties.is_empty() && self.event_properties.is_empty()
    }

    /// Notes an event's name.
    pub(super) fn event(&mut self, name: Fingerprint, row: impl FnOnce() -> EventName) {
        if let Entry::Vacant(place) = self.events.entry(name) {
            let row = row();
            if fits(&mut self.bytes, row.name.len(), &mut self.forgotten) {
                place.insert(row);
            }
        }
    }

    /// Notes a property. Its first type stays.
    pub(super) fn property(
        &mut self,
        name: Fingerprint,
        value_type: Option<ValueType>,
        row: impl FnOnce() -> Property,
    ) {
        match self.properties.entry(name) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.value_type = known.value_type.or(value_type);
            }
            Entry::Vacant(place) => {
                let row = row();
                if fits(&mut self.bytes, row.name.len(), &mut self.forgotten) {
                    place.insert(Property { value_type, ..row });
                }
            }
        }
    }

    /// Notes that an event has a property.
    pub(super) fn event_property(&mut self, name: Fingerprint, row: impl FnOnce() -> EventProperty) {
        if let Entry::Vacant(place) = self.event_properties.entry(name) {
            let row = row();
            if fits(
                &mut self.bytes,
                row.name.len() + row.event.len(),
                &mut self.forgotten,
            ) {
                place.insert(row);
            }
        }
    }

    /// Adds sightings that were made later.
    pub(super) fn add(&mut self, later: Self) {
        for (name, row) in later.events {
            self.event(name, || row);
        }
        for (name, row) in later.properties {
            self.property(name, row.value_type, || row);
        }
        for (name, row) in later.event_properties {
            self.event_property(name, || row);
        }
        self.forgotten += later.forgotten;
    }
}

fn fits(bytes: &mut usize, text: usize, forgotten: &mut usize) -> bool {
    let fits = *bytes + text + PER_NAME <= MOST_BYTES;
    if fits {
        *bytes += text + PER_NAME;
    } else {
        *forgotten += 1;
    }
    fits
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn property(value_type: Option<ValueType>) -> Property {
        Property {
            project: ProjectId(Uuid::nil()),
            name: "properties.a".into(),
            of: PropertyType::Event,
            value_type,
        }
    }

    #[test]
    fn the_first_type_that_is_one_stays() {
        let mut earlier = Sightings::default();
        earlier.property(1, None, || property(None));
        let mut later = Sightings::default();
        for value_type in [None, Some(ValueType::Numeric), Some(ValueType::String)] {
            later.property(1, value_type, || property(None));
        }
        earlier.add(later);
        assert_eq!(earlier.properties[&1].value_type, Some(ValueType::Numeric));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_not_held() {
        let mut sightings = Sightings::default();
        let name: Arc<str> = "n".repeat(200).into();
        for n in 0..200_000 {
            sightings.event(n, || EventName {
                project: ProjectId(Uuid::nil()),
                name: name.clone(),
            });
        }
        assert!(sightings.events.len() * 350 <= MOST_BYTES && sightings.events.len() > 40_000);
        assert_eq!(sightings.events.len() + sightings.forgotten, 200_000);
    }
}
