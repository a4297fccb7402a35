//! Checks that the tables have the columns that the worker uses, and that it may write them: the platform's tables may
//! be of an older or newer version.
//!
//! Asks for the columns by name and reads no row; the store's answer names what is missing.

use std::iter;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use crate::stores::{ClickHouse, Postgres, Store, StoreError};
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

/// One query per table of ClickHouse; the columns of `events` are said where rows are made.
const CLICKHOUSE: &[&str] = &[
    "SELECT project_id, distinct_id, person_id, version FROM person_distinct_id_overrides LIMIT 0",
    "SELECT cohort_id, project_id, person_id, version FROM cohort_members LIMIT 0",
    "SELECT project_id, cohort_id, person_id, added_at FROM person_static_cohort LIMIT 0",
    "SELECT project_id, cohort_id, date, count, recorded_at FROM cohort_membership_history LIMIT 0",
    "SELECT project_id, type, details, timestamp FROM ingestion_warnings LIMIT 0",
];

/// The dictionary, without which the worker works and its readers do not. It answers only when it can read its table with
/// its own user and password.
const DICTIONARY: &str =
    "SELECT dictHas('person_overrides_dict', (toUUID('00000000-0000-0000-0000-000000000000'), '')) LIMIT 0";

/// What the worker does with PostgreSQL's tables, beyond reading them.
const POSTGRES_RIGHTS: &[(&str, &[&str])] = &[
    ("persons", &["INSERT", "UPDATE", "DELETE"]),
    ("person_distinct_ids", &["INSERT", "UPDATE"]),
    ("event_definitions", &["INSERT", "UPDATE"]),
    ("property_definitions", &["INSERT", "UPDATE"]),
    ("event_properties", &["INSERT", "UPDATE"]),
    ("cohorts", &["UPDATE"]),
    ("processor_person_redirects", &["INSERT", "UPDATE", "DELETE"]),
    ("processor_person_overrides", &["INSERT", "UPDATE", "DELETE"]),
    ("processor_merges", &["INSERT", "DELETE"]),
];

/// Rights that the current user does not have, by table. A right to some columns is taken for the right.
const MISSING_RIGHTS: &str = "
    SELECT string_agg(lacking.privileges || ' on ' || lacking.name, '; ')
    FROM (SELECT n.name, string_agg(n.privilege, ', ' ORDER BY n.privilege) AS privileges
          FROM unnest($1::text[], $2::text[]) AS n (name, privilege)
          WHERE NOT has_table_privilege(to_regclass(n.name)::oid, n.privilege)
            AND NOT CASE n.privilege WHEN 'DELETE' THEN false
                    ELSE has_any_column_privilege(to_regclass(n.name)::oid, n.privilege) END
          GROUP BY n.name ORDER BY n.name) lacking";

/// Asks PostgreSQL for all columns that the worker uses.
///
/// # Errors
/// PostgreSQL's answer about the first table or column that is missing.
pub(crate) async fn postgres_is_as_needed(postgres: &Postgres) -> Result<(), StoreError> {
    for sql in POSTGRES {
        postgres.query("looking for the columns in use", sql, &[]).await?;
    }
    Ok(())
}

/// Asks PostgreSQL whether the worker may do what it does.
///
/// # Errors
/// All rights that are missing.
pub(crate) async fn postgres_rights(postgres: &Postgres) -> Result<(), StoreError> {
    let during = "looking for rights";
    let pairs = POSTGRES_RIGHTS
        .iter()
        .flat_map(|(table, privileges)| privileges.iter().map(move |privilege| (*table, *privilege)));
    let (tables, privileges): (Vec<&str>, Vec<&str>) = pairs.unzip();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&tables, Type::TEXT_ARRAY), (&privileges, Type::TEXT_ARRAY)];
    let rows = postgres.query(during, MISSING_RIGHTS, &parameters).await?;
    match rows.first().and_then(|row| row.get::<_, Option<String>>(0)) {
        None => Ok(()),
        Some(missing) => {
            let message = format!("missing: {missing}");
            let code = SqlState::INSUFFICIENT_PRIVILEGE.code().to_owned();
            Err(StoreError::transient(Store::Postgres, during, message).with_code(code))
        }
    }
}

/// Asks ClickHouse for all columns that the worker uses.
///
/// # Errors
/// ClickHouse's answer about the first table or column that is missing.
pub(crate) async fn clickhouse_is_as_needed(clickhouse: &ClickHouse) -> Result<(), StoreError> {
    let events = format!("SELECT {} FROM events LIMIT 0", EventColumns::names());
    for sql in iter::once(events.as_str()).chain(CLICKHOUSE.iter().copied()) {
        let query = clickhouse.query(sql);
        clickhouse
            .execute("looking for the columns in use", query)
            .await?;
    }
    Ok(())
}

/// Asks ClickHouse whether readers of the overrides get an answer.
///
/// # Errors
/// ClickHouse's.
pub(crate) async fn dictionary_answers(clickhouse: &ClickHouse) -> Result<(), StoreError> {
    let query = clickhouse.query(DICTIONARY);
    clickhouse.execute("asking the dictionary", query).await
}
