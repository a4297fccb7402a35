//! Do the three stores name the same person for every distinct id? And if not, mending it: PostgreSQL is right.
//!
//! Walks PostgreSQL and ClickHouse side by side in the order of the distinct ids' bytes, a page at a time: memory does
//! not grow with the number of mappings.

use clickhouse::query::RowCursor;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::stores::{ClickHouse, Postgres, RedisConnection, StoreError, Transaction};

use super::mover::Mover;
use super::overrides::{Moved, Publisher};
use super::redirects::with_survivors;
use super::stage::{PERSON_TTL_S, person_key};

/// Mappings compared at a time.
const PAGE: usize = 2_000;

/// Every distinct id of a project that ClickHouse has heard of: its newest override, and persons of its rows, of which
/// two say as much as all. Spills to disk rather than to fail.
const IN_CLICKHOUSE: &str = "
    SELECT distinct_id,
           if(max(version) > 0, toString(argMax(person_id, version)), '') AS override,
           max(version) AS newest,
           arrayMap(p -> toString(p), groupUniqArrayIf(2)(person_id, version = 0)) AS rows
    FROM (SELECT distinct_id, person_id, version FROM person_distinct_id_overrides WHERE project_id = {project:UUID}
          UNION ALL
          SELECT DISTINCT distinct_id, person_id, toUInt64(0) AS version FROM events WHERE project_id = {project:UUID})
    WHERE {id:String} = '' OR distinct_id = {id:String}
    GROUP BY distinct_id
    ORDER BY distinct_id
    SETTINGS max_bytes_before_external_group_by = 500000000, max_bytes_before_external_sort = 500000000";

/// Tells the other stores once more, in the way that merges are told.
const TELL_AGAIN: &str = "
    INSERT INTO processor_person_overrides AS o (project_id, distinct_id, person_id, version)
    SELECT m.project_id, m.distinct_id, m.person_id,
           greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, k.newest + 1)
    FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS k (project_id, distinct_id, newest)
    JOIN person_distinct_ids m USING (project_id, distinct_id)
    ORDER BY m.project_id, m.distinct_id
    ON CONFLICT (project_id, distinct_id) DO UPDATE
    SET person_id = excluded.person_id, version = greatest(excluded.version, o.version + 1), published = false";

/// Gives a distinct id that has rows but no mapping the person of its rows, or whom that one was merged into.
const MAP: &str = with_survivors!(
    ",
    given AS (
        SELECT n.project_id, n.distinct_id, coalesce(s.survivor, n.person_id) AS person_id
        FROM n
        LEFT JOIN survivors s USING (project_id, person_id)),
    created AS (
        INSERT INTO persons (id, project_id) SELECT DISTINCT person_id, project_id FROM given ON CONFLICT DO NOTHING)
    INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
    SELECT project_id, person_id, distinct_id FROM given ORDER BY project_id, distinct_id
    ON CONFLICT (project_id, distinct_id) DO NOTHING"
);

#[derive(Debug, Clone, clickhouse::Row, serde::Deserialize)]
struct ClickHouseRow {
    distinct_id: String,
    #[serde(rename = "override")]
    moved_to: String,
    newest: u64,
    rows: Vec<String>,
}

/// What the stores say about one distinct id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The distinct id.
    pub distinct_id: String,
    /// PostgreSQL's mapping.
    pub postgres: Option<Uuid>,
    /// Redis's key. Absent is no disagreement: it is a copy that may be gone.
    pub redis: Option<String>,
    /// ClickHouse's newest override.
    pub moved_to: Option<Uuid>,
    /// Persons of ClickHouse's rows; two say as much as all.
    pub rows: Vec<Uuid>,
    /// Version of the override, 0 without one.
    newest: u64,
}

impl View {
    fn of(row: ClickHouseRow) -> Self {
        Self {
            distinct_id: row.distinct_id,
            moved_to: row.moved_to.parse().ok(),
            rows: row.rows.iter().filter_map(|person| person.parse().ok()).collect(),
            newest: row.newest,
            ..Self::default()
        }
    }

    /// Whom a reader of ClickHouse takes the distinct id for: one person, several, or nobody.
    pub fn in_clickhouse(&self) -> &[Uuid] {
        self.moved_to.as_ref().map_or(&self.rows, std::slice::from_ref)
    }

    /// What the stores do not agree on; `None` when they do.
    pub fn disagreement(&self) -> Option<Disagreement> {
        let Some(person) = self.postgres else {
            let anything = !self.in_clickhouse().is_empty() || self.redis.is_some();
            return anything.then_some(Disagreement::Unmapped);
        };
        if self.in_clickhouse().iter().any(|found| *found != person) {
            return Some(Disagreement::ClickHouse);
        }
        let in_redis = self.redis.as_ref();
        in_redis
            .is_some_and(|found| *found != person.to_string())
            .then_some(Disagreement::Redis)
    }
}

/// Which store does not say what PostgreSQL says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disagreement {
    /// ClickHouse names somebody else.
    ClickHouse,
    /// Redis names somebody else.
    Redis,
    /// PostgreSQL has no mapping where another store names a person.
    Unmapped,
}

/// The stores to compare. Cloning is cheap.
#[derive(Clone)]
pub struct Auditor {
    /// The authority.
    pub postgres: Postgres,
    /// Rows and overrides.
    pub clickhouse: ClickHouse,
    /// Person keys.
    pub redis: RedisConnection,
}

impl Auditor {
    /// What the stores say about one distinct id.
    ///
    /// # Errors
    /// Of any of the three stores.
    pub async fn view(&mut self, project: Uuid, distinct_id: &str) -> Result<View, StoreError> {
        let query = self.in_clickhouse(project, distinct_id);
        let found: Vec<ClickHouseRow> = self.clickhouse.rows("reading a person's rows", query).await?;
        let mut view = found.into_iter().next().map_or_else(View::default, View::of);
        distinct_id.clone_into(&mut view.distinct_id);
        let sql = "SELECT person_id FROM person_distinct_ids WHERE project_id = $1 AND distinct_id = $2";
        let key = [(&project as _, Type::UUID), (&distinct_id as _, Type::TEXT)];
        let rows = self.postgres.query("reading a mapping", sql, &key).await?;
        view.postgres = rows.first().map(|row| row.get(0));
        let mut views = [view];
        self.read_redis(project, &mut views).await?;
        let [view] = views;
        Ok(view)
    }

    fn in_clickhouse(&self, project: Uuid, distinct_id: &str) -> clickhouse::query::Query {
        self.clickhouse
            .query(IN_CLICKHOUSE)
            .param("project", project.to_string())
            .param("id", distinct_id)
    }

    /// Projects that have mappings.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn projects(&self) -> Result<Vec<Uuid>, StoreError> {
        let sql = "SELECT id FROM projects ORDER BY id";
        let rows = self.postgres.query("listing projects", sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Goes through all distinct ids of a project, a page of views at a time.
    ///
    /// # Errors
    /// Of any of the three stores, and the callback's.
    pub async fn walk<E: From<StoreError>>(
        &mut self,
        project: Uuid,
        mut each: impl AsyncFnMut(Vec<View>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut mapped = Mapped::begin(&self.postgres, project).await?;
        let mut known = Known::begin(self.in_clickhouse(project, "")).await?;
        loop {
            let mut page = Vec::with_capacity(PAGE);
            while page.len() < PAGE {
                let Some(view) = next(&mut mapped, &mut known).await? else {
                    break;
                };
                page.push(view);
            }
            if page.is_empty() {
                return Ok(());
            }
            self.read_redis(project, &mut page).await?;
            each(page).await?;
        }
    }

    async fn read_redis(&mut self, project: Uuid, views: &mut [View]) -> Result<(), StoreError> {
        let keys = views.iter().map(|view| person_key(project, &view.distinct_id));
        let found: Vec<Option<String>> = redis::cmd("MGET")
            .arg(keys.collect::<Vec<_>>())
            .query_async(&mut self.redis)
            .await
            .map_err(|error| StoreError::redis("reading person keys", &error))?;
        for (view, found) in views.iter_mut().zip(found) {
            view.redis = found;
        }
        Ok(())
    }

    /// Makes the other stores say what PostgreSQL says; where it says nothing, it learns it from them first.
    ///
    /// # Errors
    /// Of any of the three stores. Mending again is harmless.
    pub async fn mend(&mut self, project: Uuid, wrong: &[View]) -> Result<(), StoreError> {
        let of = |kind: Disagreement| wrong.iter().filter(move |view| view.disagreement() == Some(kind));
        let unmapped =
            of(Disagreement::Unmapped).filter_map(|view| Some((view, *view.in_clickhouse().first()?)));
        let (unmapped, persons): (Vec<&View>, Vec<Uuid>) = unmapped.unzip();
        if !unmapped.is_empty() {
            let projects = vec![project; unmapped.len()];
            let ids: Vec<&str> = unmapped.iter().map(|view| view.distinct_id.as_str()).collect();
            let given = [
                (&projects as _, Type::UUID_ARRAY),
                (&ids as _, Type::TEXT_ARRAY),
                (&persons as _, Type::UUID_ARRAY),
            ];
            self.postgres.query("mapping distinct ids", MAP, &given).await?;
        }
        let told: Vec<&View> = of(Disagreement::ClickHouse).chain(unmapped).collect();
        self.tell_again(project, &told).await?;
        for view in of(Disagreement::Redis) {
            if let Some(person) = view.postgres {
                redis::cmd("SETEX")
                    .arg(person_key(project, &view.distinct_id))
                    .arg(PERSON_TTL_S)
                    .arg(person.to_string())
                    .query_async::<()>(&mut self.redis)
                    .await
                    .map_err(|error| StoreError::redis("setting person keys", &error))?;
            }
        }
        for view in wrong
            .iter()
            .filter(|view| view.postgres.is_none() && view.in_clickhouse().is_empty())
        {
            redis::cmd("DEL")
                .arg(person_key(project, &view.distinct_id))
                .query_async::<()>(&mut self.redis)
                .await
                .map_err(|error| StoreError::redis("removing person keys", &error))?;
        }
        Ok(())
    }

    async fn tell_again(&self, project: Uuid, views: &[&View]) -> Result<(), StoreError> {
        if views.is_empty() {
            return Ok(());
        }
        let projects = vec![project; views.len()];
        let ids: Vec<&str> = views.iter().map(|view| view.distinct_id.as_str()).collect();
        let newest: Vec<i64> = views.iter().map(|view| view.newest as i64).collect();
        let keys = [
            (&projects as _, Type::UUID_ARRAY),
            (&ids as _, Type::TEXT_ARRAY),
            (&newest as _, Type::INT8_ARRAY),
        ];
        self.postgres
            .query("telling of mappings again", TELL_AGAIN, &keys)
            .await?;
        let moved: Vec<Moved> = ids
            .iter()
            .map(|id| Moved {
                project,
                distinct_id: (*id).to_owned(),
            })
            .collect();
        self.publisher().publish(&moved).await
    }

    /// Moves all that large merges have left over: until then PostgreSQL names persons that are going.
    ///
    /// # Errors
    /// Of any of the three stores. Going on later is harmless.
    pub async fn finish_merges(&self) -> Result<(), StoreError> {
        let mut mover = Mover::new(self.publisher());
        while mover.step().await?.is_some() {}
        Ok(())
    }

    fn publisher(&self) -> Publisher {
        Publisher {
            postgres: self.postgres.clone(),
            clickhouse: self.clickhouse.clone(),
            redis: self.redis.clone(),
        }
    }
}

/// PostgreSQL's mappings of a project, in the order of the distinct ids' bytes.
struct Mapped {
    transaction: Transaction,
    page: std::vec::IntoIter<(String, Uuid)>,
    ahead: Option<(String, Uuid)>,
}

impl Mapped {
    async fn begin(postgres: &Postgres, project: Uuid) -> Result<Self, StoreError> {
        let transaction = postgres.begin("walking mappings").await?;
        transaction.start().await?;
        let sql = format!(
            "DECLARE mappings NO SCROLL CURSOR FOR
             SELECT distinct_id, person_id FROM person_distinct_ids WHERE project_id = '{project}'
             ORDER BY distinct_id COLLATE \"C\""
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
            let rows: Vec<(String, Uuid)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            self.page = rows.into_iter();
        }
        self.ahead = self.page.next();
        Ok(())
    }
}

/// What ClickHouse knows of a project, in the same order.
struct Known {
    rows: RowCursor<ClickHouseRow>,
    ahead: Option<ClickHouseRow>,
}

impl Known {
    async fn begin(query: clickhouse::query::Query) -> Result<Self, StoreError> {
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

/// The next distinct id of either, with what both say.
async fn next(mapped: &mut Mapped, known: &mut Known) -> Result<Option<View>, StoreError> {
    let order = match (&mapped.ahead, &known.ahead) {
        (None, None) => return Ok(None),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (Some((mapped, _)), Some(known)) => mapped.as_bytes().cmp(known.distinct_id.as_bytes()),
    };
    let mut view = View::default();
    if order.is_ge()
        && let Some(row) = known.ahead.take()
    {
        view = View::of(row);
        known.step().await?;
    }
    if order.is_le()
        && let Some((distinct_id, person)) = mapped.ahead.take()
    {
        view.distinct_id = distinct_id;
        view.postgres = Some(person);
        mapped.step().await?;
    }
    Ok(Some(view))
}
