//! What lands of one event. All that need a row read it here: the columns of ClickHouse, and the dead letter of an event
//! whose row did not land.

use stream_reply::Entry;
use uuid::Uuid;

use crate::event::decode::screen_size;
use crate::event::{Batch, Event, Field, PersonId, ProjectId};

use super::enriched::Enrichment;

/// A row, made of borrowed texts.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Event id, given or derived.
    pub event_id: Uuid,
    /// Project.
    pub project: ProjectId,
    /// Whose event it is.
    pub person: PersonId,
    /// Event time, UTC milliseconds.
    pub timestamp: i64,
    /// Country of the address.
    pub country: &'a str,
    /// Its region.
    pub region: &'a str,
    /// Its city.
    pub city: &'a str,
    /// In the order of [`Enrichment::with_agent`].
    agent: [&'a str; 5],
    entry: Entry<'a>,
}

impl Row<'_> {
    /// Calls `use_row` with the row of an event of `batch`.
    pub(crate) fn with<R>(
        batch: &Batch,
        event: &Event,
        person: PersonId,
        enrichment: &Enrichment,
        use_row: impl FnOnce(&Row<'_>) -> R,
    ) -> R {
        let entry = batch.entry(event);
        enrichment.with_agent(entry, |agent| {
            enrichment.with_place(entry, |[country, region, city]| {
                use_row(&Row {
                    event_id: event.event_id,
                    project: event.project,
                    person,
                    timestamp: event.timestamp,
                    country,
                    region,
                    city,
                    agent,
                    entry,
                })
            })
        })
    }
}

impl<'a> Row<'a> {
    /// A field's text as it lands: the event's, or what its user agent means, or what stands for it when nothing is said.
    #[inline]
    pub(crate) fn text(&self, field: Field) -> &'a str {
        let [device_type, browser, browser_version, os, os_version] = self.agent;
        match field {
            Field::DeviceType => device_type,
            Field::Browser => browser,
            Field::BrowserVersion => browser_version,
            Field::Os => os,
            Field::OsVersion => os_version,
            _ => match field.of(self.entry) {
                "" => field.fallback(),
                text => text,
            },
        }
    }

    /// A screen size as it lands.
    pub(crate) fn size(&self, field: Field) -> u16 {
        screen_size(self.text(field))
    }
}
