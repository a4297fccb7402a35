//! PostgreSQL's mappings and what ClickHouse knows, side by side in the order of the distinct ids' bytes.

use std::time::Duration;

use clickhouse::query::RowCursor;
use tokio_postgres::types::Type;

use crate::event::{DistinctId, PersonId, ProjectId};
use crate::stores::{Postgres, StoreError, Transaction};

use super::view::View;

/// Longest that a page of mappings takes: the first one needs all of them sorted.
const LONGEST: Duration = Duration::from_mins(30);
/// Mappings compared at a time.
pub(crate) const PAGE: usize = 2_000;

/// Distinct ids of a range that ClickHouse has heard of: the newest override of each, and the least and the greatest person
/// of its rows, which say as much as all. Where ClickHouse has heard of many more than PostgreSQL has mappings, what is
/// kept goes to disk rather than to fail.
pub(crate) const IN_CLICKHOUSE: &str = "
    SELECT distinct_id,
           if(max(version) > 0, toString(argMax(person_id, version)), '') AS override,
           max(version) AS newest,
           if(countIf(version = 0) = 0, [],
              arrayMap(p -> toString(p), arrayDistinct([minIf(person_id, version = 0), maxIf(person_id, version = 0)]))) AS rows
    FROM (SELECT distinct_id, person_id, version FROM person_distinct_id_overrides WHERE project_id = {project:UUID}
          UNION ALL
          SELECT distinct_id, person_id, toUInt64(0) AS version FROM events WHERE project_id = {project:UUID})
    WHERE distinct_id > {after:String} AND ({until:String} = '' OR distinct_id <= {until:String})
    GROUP BY distinct_id
    ORDER BY distinct_id
    SETTINGS max_bytes_before_external_group_by = 300000000, max_bytes_before_external_sort = 300000000";

/// The same of a single distinct id.
pub(crate) const ONE_IN_CLICKHOUSE: &str = "
    SELECT distinct_id,
           if(max(version) > 0, toString(argMax(person_id, version)), '') AS override,
           max(version) AS newest,
           arrayMap(p -> toString(p), groupUniqArrayIf(2)(person_id, version = 0)) AS rows
    FROM (SELECT distinct_id, person_id, version FROM person_distinct_id_overrides
          WHERE project_id = {project:UUID} AND distinct_id = {id:String}
          UNION ALL
          SELECT distinct_id, person_id, toUInt64(0) AS version FROM events
          WHERE project_id = {project:UUID} AND distinct_id = {id:String})
    GROUP BY distinct_id";

/// Every so many mappings of a project, in the order of the distinct ids' bytes.
const BOUNDARIES: &str = r#"
    SELECT distinct_id
    FROM (SELECT distinct_id, row_number() OVER (ORDER BY distinct_id COLLATE "C") AS place
          FROM person_distinct_ids WHERE project_id = $1) m
    WHERE place % $2 = 0
    ORDER BY place"#;
/// Mappings in a range: what the engine keeps of so many takes 100 MB.
const RANGE: i64 = 500_000;

/// A range of distinct ids, in the order of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Range {
    /// What comes before it; empty for nothing.
    pub(crate) after: String,
    /// The last one of it; empty for the end of all.
    pub(crate) until: String,
}

impl Range {
    fn holds(&self, distinct_id: &str) -> bool {
        self.until.is_empty() || distinct_id.as_bytes() <= self.until.as_bytes()
    }
}

/// Ranges that hold all distinct ids together, each with a bounded number of mappings. The last may hold none.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn ranges(postgres: &Postgres, project: ProjectId) -> Result<Vec<Range>, StoreError> {
    let transaction = postgres.begin("dividing mappings").await?.within(LONGEST);
    transaction.start().await?;
    transaction.query(PATIENT, &[]).await?;
    let of_project = [(&project as _, Type::UUID), (&RANGE as _, Type::INT8)];
    let rows = transaction.query(BOUNDARIES, &of_project).await?;
    transaction.commit().await?;
    let mut ranges = vec![Range::default()];
    for row in rows {
        let boundary: String = row.get(0);
        if let Some(last) = ranges.last_mut() {
            last.until.clone_from(&boundary);
        }
        ranges.push(Range {
            after: boundary,
            until: String::new(),
        });
    }
    Ok(ranges)
}

/// It waits while ClickHouse is asked, and the first page needs all mappings sorted.
const PATIENT: &str = "
    SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)";

#[derive(Debug, Clone, clickhouse::Row, serde::Deserialize)]
pub(crate) struct ClickHouseRow {
    pub(crate) distinct_id: DistinctId,
    #[serde(rename = "override")]
    pub(crate) moved_to: String,
    pub(crate) newest: u64,
    pub(crate) rows: Vec<String>,
}

impl ClickHouseRow {
    pub(super) fn view(self) -> View {
        View {
            distinct_id: self.distinct_id,
            moved_to: self.moved_to.parse().ok(),
            rows: self
                .rows
                .iter()
                .filter_map(|person| person.parse().ok())
                .collect(),
            newest: self.newest,
            ..View::default()
        }
    }
}

/// Mappings, with what their next moves will be above.
macro_rules! mappings {
    () => {
        "SELECT m.distinct_id, m.person_id,
                greatest(abs(coalesce(o.version, 0)), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
         FROM person_distinct_ids m LEFT JOIN processor_person_overrides o USING (project_id, distinct_id)"
    };
}
pub(crate) use mappings;

/// A mapping.
pub(crate) struct MappedRow {
    distinct_id: DistinctId,
    person: PersonId,
    next: i64,
}

impl MappedRow {
    pub(crate) fn of(row: &tokio_postgres::Row) -> Self {
        Self {
            distinct_id: row.get(0),
            person: row.get(1),
            next: row.get(2),
        }
    }

    pub(crate) fn join(self, view: &mut View) {
        view.distinct_id = self.distinct_id;
        view.postgres = Some(self.person);
        view.next = self.next.max(0).cast_unsigned();
    }
}

/// PostgreSQL's mappings of a project, in the order of the distinct ids' bytes.
pub(crate) struct Mapped {
    transaction: Transaction,
    page: std::vec::IntoIter<MappedRow>,
    ahead: Option<MappedRow>,
}

impl Mapped {
    pub(crate) async fn begin(postgres: &Postgres, project: ProjectId) -> Result<Self, StoreError> {
        let transaction = postgres.begin("walking mappings").await?.within(LONGEST);
        transaction.start().await?;
        transaction.query(PATIENT, &[]).await?;
        let sql = format!(
            "DECLARE mappings NO SCROLL CURSOR FOR
             {} WHERE m.project_id = '{project}' ORDER BY m.distinct_id COLLATE \"C\"",
            mappings!()
        );
        transaction.query(&sql, &[]).await?;
        let mut mapped = Self {
            transaction,
            page: Vec::new().into_iter(),
            ahead: None,
        };
        mapped.step().await?;
        Ok(mapped)
    }

    async fn step(&mut self) -> Result<(), StoreError> {
        if self.page.len() == 0 {
            let sql = format!("FETCH {PAGE} FROM mappings");
            let rows = self.transaction.query(&sql, &[]).await?;
            let rows: Vec<MappedRow> = rows.iter().map(MappedRow::of).collect();
            self.page = rows.into_iter();
        }
        self.ahead = self.page.next();
        Ok(())
    }
}

/// What ClickHouse knows of a project, in the same order.
pub(crate) struct InClickHouse {
    rows: RowCursor<ClickHouseRow>,
    ahead: Option<ClickHouseRow>,
}

impl InClickHouse {
    pub(crate) async fn begin(query: clickhouse::query::Query) -> Result<Self, StoreError> {
        let failed = |error| StoreError::clickhouse("walking rows", &error);
        let mut known = Self {
            rows: query.fetch().map_err(failed)?,
            ahead: None,
        };
        known.step().await?;
        Ok(known)
    }

    async fn step(&mut self) -> Result<(), StoreError> {
        let next = self.rows.next().await;
        self.ahead = next.map_err(|error| StoreError::clickhouse("walking rows", &error))?;
        Ok(())
    }
}

/// The next distinct id of either in a range, with what both say.
pub(crate) async fn next(
    mapped: &mut Mapped,
    known: &mut InClickHouse,
    range: &Range,
) -> Result<Option<View>, StoreError> {
    let in_range = mapped.ahead.as_ref().filter(|row| range.holds(&row.distinct_id));
    let order = match (in_range, &known.ahead) {
        (None, None) => return Ok(None),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (Some(mapped), Some(known)) => mapped.distinct_id.as_bytes().cmp(known.distinct_id.as_bytes()),
    };
    let mut view = View::default();
    if order.is_ge()
        && let Some(row) = known.ahead.take()
    {
        view = row.view();
        known.step().await?;
    }
    if order.is_le()
        && let Some(row) = mapped.ahead.take()
    {
        row.join(&mut view);
        mapped.step().await?;
    }
    Ok(Some(view))
}
