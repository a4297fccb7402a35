//! The outbox of moved distinct ids: what PostgreSQL has committed and ClickHouse and Redis have yet to be told.
//!
//! Nothing is locked meanwhile, and no connection of PostgreSQL's is kept: the others may take as long as they like.
//! Several publishers may be at the same row, of which some know an older version of it. So that an older merge is never
//! published over a newer one,
//!
//! - ClickHouse is given the version, and keeps the newest;
//! - a person key in Redis is looked at, then PostgreSQL is asked whether the version is still the newest, and the key is
//!   set only if it is still what it was: the publisher of a newer version has changed it meanwhile, or comes later;
//! - a row counts as published only while its version is the one that was told. When it is not, the key is deleted: then
//!   PostgreSQL answers.
//!
//! A crash leaves the row unpublished for the sweep. What two publish at the same time is told twice, which
//! changes nothing. What was left for a while is told as of now: where PostgreSQL was restored from a backup, the others
//! may have heard of newer versions than it remembers.

use std::collections::HashMap;

use native_block::{Column, StringColumn, UInt64Column, UuidColumn, take_block};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::event::{DistinctId, KeyRef, PersonId, ProjectId};
use crate::runtime::retry::GaveUp;
use crate::runtime::search::Search;
use crate::stores::{Body, ClickHouse, Postgres, Redis, Store, StoreError, unnest_keys};

use crate::identity::moved::Moved;
use crate::identity::person_key::{PersonKey, person_key};
use crate::identity::publish::floor::Floor;

/// Where a distinct id has moved to, as of a version.
#[derive(Debug, Clone)]
pub(crate) struct Override {
    pub(crate) project: ProjectId,
    pub(crate) distinct_id: DistinctId,
    pub(crate) person: PersonId,
    pub(crate) version: i64,
}

impl Override {
    fn of(row: &Row) -> Self {
        Self {
            project: row.get(0),
            distinct_id: row.get(1),
            person: row.get(2),
            version: row.get(3),
        }
    }

    pub(crate) fn key(&self) -> KeyRef<'_> {
        KeyRef::new(self.project, &self.distinct_id)
    }

    /// What its person key is called.
    pub(crate) fn name(&self) -> String {
        person_key(self.key())
    }

    pub(crate) fn person_key(&self) -> PersonKey {
        PersonKey {
            project: self.project,
            distinct_id: self.distinct_id.clone(),
            person: self.person,
        }
    }
}

/// Rows published in one go by the sweep.
const SWEEP_ROWS: i64 = 5_000;
/// Person keys that others keep changing are left to the next sweep after so many tries.
const TRIES: usize = 3;
const THESE: &str = "
    SELECT o.project_id, o.distinct_id, o.person_id, o.version
    FROM processor_person_overrides o
    JOIN unnest($1::uuid[], $2::text[]) AS k (project_id, distinct_id)
      ON o.project_id = k.project_id AND o.distinct_id = k.distinct_id
    WHERE NOT o.published";

const ANY_BEHIND: &str = "
    SELECT project_id, distinct_id, person_id, version
    FROM processor_person_overrides
    WHERE NOT published AND (project_id, distinct_id) > ($1::uuid, $2::text)
    ORDER BY project_id, distinct_id
    LIMIT $3";

/// What no publisher has published within a minute gets a version of now.
const AS_OF_NOW: &str = "
    UPDATE processor_person_overrides o
    SET version = greatest(o.version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    FROM (SELECT project_id, distinct_id FROM processor_person_overrides
          WHERE NOT published AND (project_id, distinct_id) > ($1::uuid, $2::text)
            AND version < (extract(epoch FROM clock_timestamp() - interval '1 min') * 1000000)::bigint
          ORDER BY project_id, distinct_id
          LIMIT $3
          FOR UPDATE SKIP LOCKED) b
    WHERE o.project_id = b.project_id AND o.distinct_id = b.distinct_id";

/// Lifts versions above those that ClickHouse holds.
const LIFT: &str = "
    WITH low AS (
        SELECT o.project_id, o.distinct_id, o.version
        FROM processor_person_overrides o
        JOIN unnest($1::uuid[], $2::text[], $3::bigint[]) AS k (project_id, distinct_id, version)
          ON o.project_id = k.project_id AND o.distinct_id = k.distinct_id AND o.version = k.version
        ORDER BY o.project_id, o.distinct_id
        FOR UPDATE OF o)
    UPDATE processor_person_overrides o SET version = $4::bigint + 1, published = false
    FROM low
    WHERE o.project_id = low.project_id AND o.distinct_id = low.distinct_id AND o.version = low.version
    RETURNING o.project_id, o.distinct_id, o.person_id, o.version";

/// Those that no other publisher has published yet, and whose version is still the newest.
const STILL: &str = "
    SELECT o.project_id, o.distinct_id, o.person_id, o.version
    FROM processor_person_overrides o
    JOIN unnest($1::uuid[], $2::text[], $3::bigint[]) AS k (project_id, distinct_id, version)
      ON o.project_id = k.project_id AND o.distinct_id = k.distinct_id AND o.version = k.version
    WHERE NOT o.published";

/// Locked in the order of their keys, like everywhere.
const PUBLISHED: &str = "
    WITH told AS (
        SELECT o.project_id, o.distinct_id, o.version
        FROM processor_person_overrides o
        JOIN unnest($1::uuid[], $2::text[], $3::bigint[]) AS k (project_id, distinct_id, version)
          ON o.project_id = k.project_id AND o.distinct_id = k.distinct_id AND o.version = k.version
        ORDER BY o.project_id, o.distinct_id
        FOR UPDATE OF o)
    UPDATE processor_person_overrides o SET published = true
    FROM told
    WHERE o.project_id = told.project_id AND o.distinct_id = told.distinct_id AND o.version = told.version
    RETURNING o.project_id, o.distinct_id, o.person_id, o.version";

/// How many overrides wait to be published.
///
/// # Errors
/// PostgreSQL's.
pub async fn count_unpublished(postgres: &Postgres) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM processor_person_overrides WHERE NOT published";
    let rows = postgres.query("counting what waits", sql, &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Tells ClickHouse and Redis.
#[derive(Clone)]
pub struct Publisher {
    /// The authority.
    pub postgres: Postgres,
    /// Gets the override rows.
    pub clickhouse: ClickHouse,
    /// Gets the person keys.
    pub redis: Redis,
    floor: Floor,
}

impl Publisher {
    /// A publisher of what is in PostgreSQL's outbox.
    pub fn new(postgres: Postgres, clickhouse: ClickHouse, redis: Redis) -> Self {
        Self {
            postgres,
            clickhouse,
            redis,
            floor: Floor::default(),
        }
    }

    /// Publishes the given ones, as far as they are not published and anything of them is to be told.
    ///
    /// # Errors
    /// Of any of the three stores; what was not marked is published again.
    pub async fn publish(&self, moved: &[Moved]) -> Result<(), StoreError> {
        if moved.is_empty() {
            return Ok(());
        }
        let (projects, ids) = unnest_keys(moved.iter().map(Moved::key));
        let these = [(&projects as _, Type::UUID_ARRAY), (&ids as _, Type::TEXT_ARRAY)];
        let overrides = self.overrides(THESE, &these).await?;
        let overrides = self.without_unseen(overrides, moved).await?;
        self.publish_all(overrides).await?;
        Ok(())
    }

    /// Publishes some of what a crash or a lost connection left behind: what comes after `after`, which moves on. Returns
    /// how many were published; nothing when there are no more.
    ///
    /// # Errors
    /// Of any of the three stores; what was not marked is published again.
    pub async fn sweep(&self, after: &mut Moved) -> Result<Option<usize>, StoreError> {
        let behind = [
            (&after.project as _, Type::UUID),
            (&after.distinct_id as _, Type::TEXT),
            (&SWEEP_ROWS as _, Type::INT8),
        ];
        self.overrides(AS_OF_NOW, &behind).await?;
        let overrides = self.overrides(ANY_BEHIND, &behind).await?;
        let Some(last) = overrides.last() else {
            return Ok(None);
        };
        let last = Moved {
            project: last.project,
            distinct_id: last.distinct_id.clone(),
            unseen_at: None,
        };
        let published = match self.publish_all(overrides.clone()).await {
            Ok(published) => published,
            Err(error) => {
                self.clickhouse.takes_writes().await?;
                self.publish_in_pieces(&overrides, error).await
            }
        };
        // Even when nothing of the page was taken: the pages behind it are not to wait for it.
        *after = last;
        Ok(Some(published))
    }

    /// Publishes what could not be published together piece by piece, so that one that ClickHouse never takes holds up no
    /// other. Those stay unpublished.
    async fn publish_in_pieces(&self, overrides: &[Override], failure: StoreError) -> usize {
        let nothing_is_data = |_: &StoreError| false;
        let Ok(mut search) = Search::begin(overrides.len(), GaveUp::Away(failure), 1, nothing_is_data) else {
            return 0;
        };
        let mut published = 0;
        while let Some(range) = search.next() {
            let told = self.publish_all(overrides[range].to_vec()).await;
            let told = told.map(|told| published += told).map_err(GaveUp::Away);
            if search.answered(told.map(|()| true)).is_err() {
                break;
            }
        }
        match search.end() {
            Ok(at_fault) => {
                for item in at_fault {
                    let KeyRef { project, distinct_id } = overrides[item.index].key();
                    tracing::warn!(
                        error = %item.error, %project, distinct_id,
                        "where a distinct id belongs could not be published: tried again by the next sweep"
                    );
                }
            }
            Err(error) => tracing::warn!(
                %error, ids = overrides.len(),
                "where distinct ids belong could not be published: tried again by the next sweep"
            ),
        }
        published
    }

    async fn overrides(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Override>, StoreError> {
        let rows = self
            .postgres
            .query("publishing overrides", sql, parameters)
            .await?;
        Ok(rows.iter().map(Override::of).collect())
    }

    /// Those of `overrides` whose version a statement finds.
    pub(crate) async fn of_version(
        &self,
        sql: &str,
        overrides: &[Override],
    ) -> Result<Vec<Override>, StoreError> {
        if overrides.is_empty() {
            return Ok(Vec::new());
        }
        let (projects, ids) = unnest_keys(overrides.iter().map(Override::key));
        let versions: Vec<i64> = overrides.iter().map(|o| o.version).collect();
        let parameters = [
            (&projects as _, Type::UUID_ARRAY),
            (&ids as _, Type::TEXT_ARRAY),
            (&versions as _, Type::INT8_ARRAY),
        ];
        self.overrides(sql, &parameters).await
    }

    /// Returns how many count as published now.
    async fn publish_all(&self, mut overrides: Vec<Override>) -> Result<usize, StoreError> {
        if overrides.is_empty() {
            return Ok(0);
        }
        self.lift(&mut overrides).await?;
        let rows = overrides.len();
        let insert = self
            .clickhouse
            .insert_all("inserting overrides", INSERT, rows, block(&overrides)?);
        let ((), mut seen) = tokio::try_join!(insert, self.person_keys(&overrides))?;
        let (mut published, mut tries) = (0, 0);
        loop {
            // After the keys were looked at: a publisher of a version that is not there yet changes them later.
            let still = self.of_version(STILL, &overrides).await?;
            let (set, changed) = self.set_person_keys(still, &overrides, &seen).await?;
            let marked = match self.of_version(PUBLISHED, &set).await {
                Ok(marked) => marked,
                Err(error) => {
                    // It is not known whether they are still the newest.
                    self.delete_unless(&set, &[]).await?;
                    return Err(error);
                }
            };
            published += marked.len();
            self.delete_unless(&set, &marked).await?;
            tries += 1;
            if changed.is_empty() || tries == TRIES {
                break;
            }
            seen = self.person_keys(&changed).await?;
            overrides = changed;
        }
        Ok(published)
    }

    /// Lifts the versions of those that ClickHouse would take for old. A publisher that has published one of them meanwhile
    /// has told of the same version.
    async fn lift(&self, overrides: &mut [Override]) -> Result<(), StoreError> {
        let floor = self.floor.version(&self.clickhouse).await?;
        let low: Vec<&Override> = overrides.iter().filter(|o| o.version <= floor).collect();
        if low.is_empty() {
            return Ok(());
        }
        let (projects, ids) = unnest_keys(low.iter().map(|o| o.key()));
        let versions: Vec<i64> = low.iter().map(|o| o.version).collect();
        let parameters = [
            (&projects as _, Type::UUID_ARRAY),
            (&ids as _, Type::TEXT_ARRAY),
            (&versions as _, Type::INT8_ARRAY),
            (&floor as _, Type::INT8),
        ];
        let lifted = self.overrides(LIFT, &parameters).await?;
        let lifted: HashMap<KeyRef<'_>, i64> = lifted.iter().map(|o| (o.key(), o.version)).collect();
        for o in overrides {
            if let Some(version) = lifted.get(&o.key()) {
                o.version = *version;
            }
        }
        Ok(())
    }
}

const INSERT: &str =
    "INSERT INTO person_distinct_id_overrides (project_id, distinct_id, person_id, version) FORMAT Native";

fn block(rows: &[Override]) -> Result<Body, StoreError> {
    let (mut projects, mut distinct_ids) = (UuidColumn::default(), StringColumn::default());
    let (mut persons, mut versions) = (UuidColumn::default(), UInt64Column::default());
    for row in rows {
        projects.push(row.project.0);
        distinct_ids.push(&row.distinct_id);
        persons.push(row.person.0);
        versions.push(row.version as u64);
    }
    let mut columns: [(&str, &mut dyn Column); 4] = [
        ("project_id", &mut projects),
        ("distinct_id", &mut distinct_ids),
        ("person_id", &mut persons),
        ("version", &mut versions),
    ];
    take_block(rows.len(), &mut columns)
        .map(Body::from)
        .map_err(|e| StoreError::poison(Store::ClickHouse, "encoding overrides", e.to_string()))
}
