//! Checks that the tables have the columns that the worker uses: the platform's tables may be of an older or newer version.
//!
//! Asks for the columns by name and reads no row; the store's answer names what is missing.

use std::iter;

use super::error::MigrateError;
use crate::stores::{ClickHouse, Postgres};
use crate::warehouse::EventColumns;

/// One query per table of PostgreSQL.
const POSTGRES: &[&str] = &[
    "SELECT id FROM projects LIMIT 0",
    "SELECT id, project_id, properties, created_at, updated_at, property_versions FROM persons LIMIT 0",
    "SELECT project_id, person_id, distinct_id, created_at, identified_at FROM person_distinct_ids LIMIT 0",
    "SELECT project_id, event_name, last_seen_at FROM event_definitions LIMIT 0",
    "SELECT project_id, property_name, property_type, value_type, is_numerical, last_seen_at
     FROM property_definitions LIMIT 0",
    "SELECT project_id, event_name, property_name, property_type, last_seen_at FROM event_properties LIMIT 0",
    "SELECT id, project_id, definition, is_static, membership_version, membership_computed_at, errors_calculating,
            last_error_at, last_error_message FROM cohorts LIMIT 0",
    "SELECT project_id, from_person, into_person, merged_at, unfinished, moves FROM processor_person_redirects LIMIT 0",
    "SELECT project_id, distinct_id, person_id, version, published, moves FROM processor_person_overrides LIMIT 0",
    "SELECT project_id, from_person, into_person, event_id, anonymous_id, distinct_id, stream_id, consumer, merged_at
     FROM processor_merges LIMIT 0",
];

/// One query per table of ClickHouse; the columns of `events` are said where rows are made. The dictionary answers only
/// when it can read its table with its own user and password.
const CLICKHOUSE: &[&str] = &[
    "SELECT project_id, distinct_id, person_id, version FROM person_distinct_id_overrides LIMIT 0",
    "SELECT dictHas('person_overrides_dict', (toUUID('00000000-0000-0000-0000-000000000000'), '')) LIMIT 0",
    "SELECT cohort_id, project_id, person_id, version FROM cohort_members LIMIT 0",
    "SELECT project_id, cohort_id, person_id, added_at FROM person_static_cohort LIMIT 0",
    "SELECT project_id, cohort_id, date, count, recorded_at FROM cohort_membership_history LIMIT 0",
    "SELECT project_id, type, details, timestamp FROM ingestion_warnings LIMIT 0",
];

/// Asks both databases for all columns that the worker uses.
///
/// # Errors
/// The store's answer about the first table or column that is missing.
pub(crate) async fn verify(postgres: &Postgres, clickhouse: &ClickHouse) -> Result<(), MigrateError> {
    for sql in POSTGRES {
        postgres.query("looking for the columns in use", sql, &[]).await?;
    }
    let events = format!("SELECT {} FROM events LIMIT 0", EventColumns::names());
    for sql in iter::once(events.as_str()).chain(CLICKHOUSE.iter().copied()) {
        clickhouse
            .execute("looking for the columns in use", clickhouse.query(sql))
            .await?;
    }
    Ok(())
}
