//! Who is in a cohort, as readers see it: of a dynamic one the membership that is marked, of a static one what the API has
//! written. Reads only.

use std::collections::BTreeMap;

use clickhouse::query::Query;
use uuid::Uuid;

use crate::event::PersonId;
use crate::stores::{ClickHouse, StoreError};

use super::registry::Cohort;

/// By the primary key.
const COUNT: &str = "
    SELECT toString(cohort_id) AS cohort, count() AS members
    FROM cohort_members
    WHERE (project_id, cohort_id, version) IN (
        SELECT k.1, k.2, k.3
        FROM (SELECT arrayJoin(arrayZip(
            {projects:Array(UUID)}, {cohorts:Array(UUID)}, {versions:Array(UInt64)})) AS k))
    GROUP BY cohort_id";
const COUNT_STATIC: &str = "
    SELECT toString(cohort_id) AS cohort, uniqExact(person_id) AS members
    FROM person_static_cohort
    WHERE project_id IN {projects:Array(UUID)} AND cohort_id IN {cohorts:Array(UUID)}
    GROUP BY cohort_id";

/// Cohorts that are asked about in one query.
const TOGETHER: usize = 1_000;

#[derive(clickhouse::Row, serde::Deserialize)]
struct Counted {
    cohort: String,
    members: u64,
}

/// How many members each of some cohorts has; one that was never computed is left out.
///
/// # Errors
/// ClickHouse's.
pub async fn count_members(
    clickhouse: &ClickHouse,
    cohorts: &[Cohort],
) -> Result<BTreeMap<Uuid, u64>, StoreError> {
    let known = cohorts
        .iter()
        .filter(|cohort| cohort.is_static || cohort.version.is_some());
    let mut counts: BTreeMap<Uuid, u64> = known.map(|cohort| (cohort.id, 0)).collect();
    for is_static in [false, true] {
        let of_kind = cohorts.iter().filter(|cohort| cohort.is_static == is_static);
        let of_kind: Vec<&Cohort> = of_kind.filter(|cohort| counts.contains_key(&cohort.id)).collect();
        for some in of_kind.chunks(TOGETHER) {
            let projects: Vec<String> = some.iter().map(|cohort| cohort.project.to_string()).collect();
            let ids: Vec<String> = some.iter().map(|cohort| cohort.id.to_string()).collect();
            let sql = if is_static { COUNT_STATIC } else { COUNT };
            let mut query = clickhouse
                .query(sql)
                .param("projects", projects)
                .param("cohorts", ids);
            if !is_static {
                let versions = some.iter().map(|cohort| cohort.version.unwrap_or_default());
                query = query.param("versions", versions.collect::<Vec<_>>());
            }
            let found: Vec<Counted> = clickhouse.rows("counting members", query).await?;
            let found = found
                .into_iter()
                .filter_map(|Counted { cohort, members }| Some((cohort.parse::<Uuid>().ok()?, members)));
            counts.extend(found);
        }
    }
    Ok(counts)
}

/// At most `limit` members of a cohort behind one of them, in ClickHouse's order of persons.
///
/// # Errors
/// ClickHouse's.
pub async fn members(
    clickhouse: &ClickHouse,
    cohort: &Cohort,
    after: Option<PersonId>,
    limit: u64,
) -> Result<Vec<PersonId>, StoreError> {
    let (table, at_version) = if cohort.is_static {
        ("person_static_cohort", "")
    } else {
        ("cohort_members", "AND version = {version:UInt64}")
    };
    let behind = after.map_or("", |_| "AND person_id > {after:UUID}");
    let sql = format!(
        "SELECT toString(person_id) FROM (
             SELECT DISTINCT person_id FROM {table}
             WHERE project_id = {{project:UUID}} AND cohort_id = {{cohort:UUID}} {at_version} {behind}
             ORDER BY person_id LIMIT {{limit:UInt64}})
         ORDER BY person_id"
    );
    let query = bound(clickhouse.query(&sql), cohort, after).param("limit", limit);
    let found: Vec<String> = clickhouse.rows("reading members", query).await?;
    Ok(found.iter().filter_map(|person| person.parse().ok()).collect())
}

fn bound(query: Query, cohort: &Cohort, after: Option<PersonId>) -> Query {
    let query = query
        .param("project", cohort.project.to_string())
        .param("cohort", cohort.id.to_string());
    let query = match cohort.version {
        Some(version) if !cohort.is_static => query.param("version", version),
        _ => query,
    };
    match after {
        Some(after) => query.param("after", after.to_string()),
        None => query,
    }
}
