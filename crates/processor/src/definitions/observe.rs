//! The shared part of the catalogue: batches are looked through here, and new names wait here for the writer.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::event::{Batch, ProjectId};

use super::fingerprint::{Fingerprint, Fingerprints};
use super::observer::Observer;
use super::seen::{Seen, Written};
use super::sightings::{EventProperty, Property, Sightings};

/// The hours since the epoch.
pub(super) fn hour(now_s: i64) -> u32 {
    (now_s / 3600) as u32
}

/// Looks through batches for new names and keeps them until the writer takes them. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    fingerprints: Fingerprints,
    pub(super) seen: Seen,
    waiting: Mutex<Sightings>,
    pub(super) something: Notify,
}

impl Catalogue {
    /// Looks through a batch that has landed and leaves new names to the writer. Never waits for the writer.
    pub fn observe(&self, batch: &Batch) {
        self.observe_at(batch, jiff::Timestamp::now().as_second());
    }

    pub(super) fn observe_at(&self, batch: &Batch, now_s: i64) {
        let hour = hour(now_s);
        self.shared.seen.begin(hour);
        let mut observer = Observer::new(&self.shared.seen, now_s, hour);
        let mut scope: Option<(ProjectId, Fingerprint)> = None;
        for event in &batch.events {
            let project = match scope {
                Some((project, fingerprint)) if project == event.project => fingerprint,
                _ => self.shared.fingerprints.project(event.project),
            };
            scope = Some((event.project, project));
            observer.event(batch, event, project);
        }
        if !observer.new.is_empty() {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.add(observer.new);
            drop(waiting);
            self.shared.something.notify_one();
        }
    }

    /// Marks all waiting names as written without writing them. For benchmarks of what remains.
    pub fn assume_written(&self) {
        let hour = hour(jiff::Timestamp::now().as_second());
        let new = self.take();
        self.shared
            .seen
            .events
            .mark_all(new.events.keys().map(|name| (*name, Written::Done)), hour);
        self.mark_properties(new.properties.iter(), hour);
        self.mark_event_properties(new.event_properties.iter(), hour);
    }

    /// Marks properties as written. One without a type is not done: a later value may give it one.
    pub(super) fn mark_properties<'a>(
        &self,
        rows: impl Iterator<Item = (&'a Fingerprint, &'a Property)>,
        hour: u32,
    ) {
        let known = rows.map(|(name, row)| match row.value_type {
            Some(_) => (*name, Written::Done),
            None => (*name, Written::Untyped),
        });
        self.shared.seen.properties.mark_all(known, hour);
    }

    /// Marks properties of events as written. They are done when the property itself is; until then later events are still
    /// looked at.
    pub(super) fn mark_event_properties<'a>(
        &self,
        rows: impl Iterator<Item = (&'a Fingerprint, &'a EventProperty)>,
        hour: u32,
    ) {
        let seen = &self.shared.seen;
        let known = rows.map(|(name, row)| {
            (
                *name,
                seen.properties
                    .get(row.property, hour)
                    .unwrap_or(Written::Untyped),
            )
        });
        seen.event_properties.mark_all(known, hour);
    }

    /// Takes all waiting names out.
    pub(super) fn take(&self) -> Sightings {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::ValueType;
    use super::super::observer_tests::{News, batch, names_in, news};
    use super::*;

    #[test]
    fn what_is_marked_is_no_news_until_the_next_hour() {
        let catalogue = Catalogue::default();
        let events = [("e", r#"{"a":1,"b":null}"#, "")];
        let all = news(&catalogue, &events);
        assert_eq!(news(&catalogue, &events), all, "not marked, so it comes again");
        let now = jiff::Timestamp::now().as_second();
        let news = |catalogue: &Catalogue, events: &[(&str, &str, &str)]| -> News {
            catalogue.observe_at(&batch(events), now);
            names_in(catalogue.take())
        };
        catalogue.observe_at(&batch(&events), now);
        catalogue.assume_written();
        assert_eq!(news(&catalogue, &events), News::default());
        let (events_of, properties, event_properties) = news(&catalogue, &[("e", r#"{"a":"x","b":2}"#, "")]);
        assert_eq!((events_of.len(), event_properties.len()), (0, 0));
        assert_eq!(
            properties,
            BTreeMap::from([("properties.b".to_owned(), Some(ValueType::Numeric))]),
            "a property without a type is not done"
        );
        let (_, properties, event_properties) = news(&catalogue, &[("f", r#"{"a":"x"}"#, "")]);
        assert_eq!(properties.len(), 0);
        assert_eq!(
            event_properties,
            BTreeSet::from(["f/properties.a".to_owned()]),
            "another event has it too"
        );
        catalogue.observe_at(&batch(&events), now + 3600);
        assert_eq!(names_in(catalogue.take()), all);
    }
}
