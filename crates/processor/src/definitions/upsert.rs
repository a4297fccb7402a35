//! The three upserts of the catalogue, and the cached lists that they make out of date.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;

use crate::event::ProjectId;
use crate::stores::{Postgres, Redis, StoreError};

use super::sightings::{EventName, EventProperty, Property};
use super::value_type::ValueType;

/// Most rows of one statement: it takes a few hundred milliseconds.
pub(super) const ROWS: usize = 5_000;

// The hour is that of PostgreSQL's clock, so that all instances share one clock. A stored date more than a day ahead of it
// comes from a wrong clock and is corrected; a nearer one is left, as it will be reached soon.

/// Rows of projects that exist, in the order of their keys, so that instances wait for each other instead of deadlocking.
const EVENTS: &str = "
    INSERT INTO event_definitions AS d (project_id, event_name, last_seen_at)
    SELECT n.project_id, n.event_name, date_trunc('hour', now(), 'UTC')
    FROM unnest($1::uuid[], $2::text[]) AS n (project_id, event_name)
    JOIN projects p ON p.id = n.project_id
    ORDER BY n.project_id, n.event_name
    ON CONFLICT (project_id, event_name) DO UPDATE SET last_seen_at = excluded.last_seen_at
    WHERE d.last_seen_at < excluded.last_seen_at OR d.last_seen_at > now() + interval '1 day'";

/// The first type that is not null stays for ever.
const PROPERTIES: &str = "
    INSERT INTO property_definitions AS d
        (project_id, property_name, property_type, value_type, is_numerical, last_seen_at)
    SELECT n.project_id, n.property_name, n.property_type, n.value_type, coalesce(n.value_type = 'Numeric', false),
           date_trunc('hour', now(), 'UTC')
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        AS n (project_id, property_name, property_type, value_type)
    JOIN projects p ON p.id = n.project_id
    ORDER BY n.project_id, n.property_name, n.property_type
    ON CONFLICT (project_id, property_name, property_type) DO UPDATE
    SET last_seen_at = CASE WHEN d.last_seen_at > now() + interval '1 day' THEN excluded.last_seen_at
                            ELSE greatest(d.last_seen_at, excluded.last_seen_at) END,
        value_type = coalesce(d.value_type, excluded.value_type),
        is_numerical = coalesce(coalesce(d.value_type, excluded.value_type) = 'Numeric', false)
    WHERE d.last_seen_at < excluded.last_seen_at OR d.last_seen_at > now() + interval '1 day'
       OR (d.value_type IS NULL AND excluded.value_type IS NOT NULL)";

const EVENT_PROPERTIES: &str = "
    INSERT INTO event_properties AS d (project_id, event_name, property_name, property_type, last_seen_at)
    SELECT n.project_id, n.event_name, n.property_name, n.property_type, date_trunc('hour', now(), 'UTC')
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        AS n (project_id, event_name, property_name, property_type)
    JOIN projects p ON p.id = n.project_id
    ORDER BY n.project_id, n.event_name, n.property_name, n.property_type
    ON CONFLICT (project_id, event_name, property_name, property_type) DO UPDATE
    SET last_seen_at = excluded.last_seen_at
    WHERE d.last_seen_at < excluded.last_seen_at OR d.last_seen_at > now() + interval '1 day'";

/// Writes event names as seen in this hour, at most [`ROWS`] of them.
pub(super) async fn events(postgres: &Postgres, rows: &[&EventName]) -> Result<(), StoreError> {
    let projects: Vec<ProjectId> = rows.iter().map(|row| row.project).collect();
    let names: Vec<&str> = rows.iter().map(|row| &*row.name).collect();
    let parameters = [
        (&projects as _, Type::UUID_ARRAY),
        (&names as _, Type::TEXT_ARRAY),
    ];
    let during = "recording event names";
    postgres.query(during, EVENTS, &parameters).await.map(drop)
}

/// Writes properties of projects, likewise.
pub(super) async fn properties(postgres: &Postgres, rows: &[&Property]) -> Result<(), StoreError> {
    let projects: Vec<ProjectId> = rows.iter().map(|row| row.project).collect();
    let names: Vec<&str> = rows.iter().map(|row| &*row.name).collect();
    let of: Vec<&str> = rows.iter().map(|row| row.of.as_str()).collect();
    let types: Vec<Option<&str>> = rows
        .iter()
        .map(|row| row.value_type.map(ValueType::as_str))
        .collect();
    let parameters = [
        (&projects as _, Type::UUID_ARRAY),
        (&names as _, Type::TEXT_ARRAY),
        (&of as _, Type::TEXT_ARRAY),
        (&types as _, Type::TEXT_ARRAY),
    ];
    let during = "recording properties";
    postgres.query(during, PROPERTIES, &parameters).await.map(drop)
}

/// Writes properties of events, likewise.
pub(super) async fn event_properties(postgres: &Postgres, rows: &[&EventProperty]) -> Result<(), StoreError> {
    let projects: Vec<ProjectId> = rows.iter().map(|row| row.project).collect();
    let events: Vec<&str> = rows.iter().map(|row| &*row.event).collect();
    let names: Vec<&str> = rows.iter().map(|row| &*row.name).collect();
    let of: Vec<&str> = rows.iter().map(|row| row.of.as_str()).collect();
    let parameters = [
        (&projects as _, Type::UUID_ARRAY),
        (&events as _, Type::TEXT_ARRAY),
        (&names as _, Type::TEXT_ARRAY),
        (&of as _, Type::TEXT_ARRAY),
    ];
    let during = "recording events' properties";
    postgres
        .query(during, EVENT_PROPERTIES, &parameters)
        .await
        .map(drop)
}

/// Projects whose cached lists are out of date.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Projects with new event names.
    pub(super) events: BTreeSet<ProjectId>,
    /// Projects with new properties.
    pub(super) properties: BTreeSet<ProjectId>,
}

impl Changed {
    /// Deletes the lists of these projects that the API has cached in Redis.
    pub(super) async fn forget(&self, redis: &Redis) -> Result<(), StoreError> {
        let events = self.events.iter().map(|project| format!("event_names:{project}"));
        let properties = self
            .properties
            .iter()
            .map(|project| format!("event_property_names:{project}"));
        let keys: Vec<String> = events.chain(properties).collect();
        if keys.is_empty() {
            return Ok(());
        }
        redis.delete("forgetting cached lists", &keys).await
    }
}
