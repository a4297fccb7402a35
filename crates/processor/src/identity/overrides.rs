//! The outbox of moved distinct ids: what PostgreSQL has committed and ClickHouse and Redis have yet to be told.
//!
//! Nothing is locked meanwhile, and no connection of PostgreSQL's is kept: the others may take as long as they like.
//! Several publishers may be at the same row, of which some know an older version of it. So that an older merge is never
//! published over a newer one,
//!
//! - ClickHouse is given the version, and keeps the newest;
//! - a person key in Redis is looked at, then PostgreSQL is asked whether the version is still the newest, and the key is
//!   set only if it is still what it was: whoever publishes a newer version has changed it meanwhile, or comes later;
//! - a row counts as published only while its version is the one that was told. When it is not, the key is deleted: then
//!   PostgreSQL answers.
//!
//! A crash leaves the row unpublished for whoever comes next. What two publish at the same time is told twice, which
//! changes nothing.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use native_block::{StringColumn, UInt64Column, UuidColumn, write_block};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::runtime::retry::GaveUp;
use crate::runtime::search::Search;
use crate::stores::{ClickHouse, Postgres, RedisConnection, Store, StoreError};

use super::stage::{PERSON_TTL_S, person_key};

/// A distinct id that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Project.
    pub project: Uuid,
    /// Distinct id.
    pub distinct_id: String,
}

impl Moved {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            project: row.get(0),
            distinct_id: row.get(1),
        }
    }
}

/// Where a distinct id has moved to, as of a version.
#[derive(Debug, Clone)]
struct Override {
    project: Uuid,
    distinct_id: String,
    person: Uuid,
    version: i64,
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

    fn key(&self) -> String {
        person_key(self.project, &self.distinct_id)
    }
}

/// Rows published in one go by the sweep.
const SWEEP_ROWS: i64 = 5_000;
/// Person keys that others keep changing are left to the next sweep after so many tries.
const TRIES: usize = 3;
/// Person keys in one command or pipeline.
const KEYS: usize = 1_000;

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

/// Those that nobody has published yet, and whose version is still the newest.
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

/// Sets a person key if it is still what it was: text, or nothing, which stands for anything that is no text too.
const SET_IF_UNCHANGED: &str = "
if (redis.call('MGET', KEYS[1])[1] or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1";

/// Tells ClickHouse and Redis.
#[derive(Clone)]
pub struct Publisher {
    /// The authority.
    pub postgres: Postgres,
    /// Gets the override rows.
    pub clickhouse: ClickHouse,
    /// Gets the person keys.
    pub redis: RedisConnection,
}

impl Publisher {
    /// Publishes the given ones, as far as they are not published.
    ///
    /// # Errors
    /// Of any of the three stores; what was not marked is published again.
    pub async fn publish(&self, moved: &[Moved]) -> Result<(), StoreError> {
        if moved.is_empty() {
            return Ok(());
        }
        let projects: Vec<Uuid> = moved.iter().map(|m| m.project).collect();
        let ids: Vec<&str> = moved.iter().map(|m| m.distinct_id.as_str()).collect();
        let these = [(&projects as _, Type::UUID_ARRAY), (&ids as _, Type::TEXT_ARRAY)];
        let overrides = self.overrides(THESE, &these).await?;
        self.tell(overrides).await?;
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
        let overrides = self.overrides(ANY_BEHIND, &behind).await?;
        let Some(last) = overrides.last() else {
            return Ok(None);
        };
        let last = Moved {
            project: last.project,
            distinct_id: last.distinct_id.clone(),
        };
        let published = match self.tell(overrides.clone()).await {
            Ok(published) => published,
            Err(error) => {
                self.clickhouse.takes_writes().await?;
                self.tell_in_pieces(&overrides, error).await
            }
        };
        // Even when nothing of the page was taken: the pages behind it are not to wait for it.
        *after = last;
        Ok(Some(published))
    }

    /// Publishes what could not be published together piece by piece, so that one that ClickHouse never takes holds up no
    /// other. Those stay unpublished.
    async fn tell_in_pieces(&self, overrides: &[Override], failure: StoreError) -> usize {
        let nothing_is_data = |_: &StoreError| false;
        let Ok(mut search) = Search::begin(overrides.len(), GaveUp::Away(failure), 1, nothing_is_data) else {
            return 0;
        };
        let mut published = 0;
        while let Some(range) = search.next() {
            let told = self.tell(overrides[range].to_vec()).await;
            let told = told.map(|told| published += told).map_err(GaveUp::Away);
            if search.answered(told.map(|()| true)).is_err() {
                break;
            }
        }
        match search.end() {
            Ok(at_fault) => {
                for item in at_fault {
                    let Override {
                        project, distinct_id, ..
                    } = &overrides[item.index];
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
    async fn of_version(&self, sql: &str, overrides: &[Override]) -> Result<Vec<Override>, StoreError> {
        if overrides.is_empty() {
            return Ok(Vec::new());
        }
        let projects: Vec<Uuid> = overrides.iter().map(|o| o.project).collect();
        let ids: Vec<&str> = overrides.iter().map(|o| o.distinct_id.as_str()).collect();
        let versions: Vec<i64> = overrides.iter().map(|o| o.version).collect();
        let parameters = [
            (&projects as _, Type::UUID_ARRAY),
            (&ids as _, Type::TEXT_ARRAY),
            (&versions as _, Type::INT8_ARRAY),
        ];
        self.overrides(sql, &parameters).await
    }

    /// Returns how many count as published now.
    async fn tell(&self, mut overrides: Vec<Override>) -> Result<usize, StoreError> {
        if overrides.is_empty() {
            return Ok(0);
        }
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
            let marked = self.of_version(PUBLISHED, &set).await?;
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

    /// What the person keys hold, in the order of the overrides; nothing where that is no text.
    async fn person_keys(&self, overrides: &[Override]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut held = Vec::with_capacity(overrides.len());
        for some in overrides.chunks(KEYS) {
            let keys: Vec<String> = some.iter().map(Override::key).collect();
            let values: Vec<Option<Vec<u8>>> = redis::cmd("MGET")
                .arg(keys)
                .query_async(&mut self.redis.clone())
                .await
                .map_err(|e| StoreError::redis("reading person keys", &e))?;
            held.extend(values);
        }
        Ok(held)
    }

    /// Sets the keys of those that are `still` to be told, if they hold what was `seen` of all. Returns which were set, and
    /// which somebody has changed.
    async fn set_person_keys(
        &self,
        still: Vec<Override>,
        all: &[Override],
        seen: &[Option<Vec<u8>>],
    ) -> Result<(Vec<Override>, Vec<Override>), StoreError> {
        let seen: HashMap<String, &[u8]> = all
            .iter()
            .zip(seen)
            .map(|(o, seen)| (o.key(), seen.as_deref().unwrap_or_default()))
            .collect();
        let mut was_set = Vec::with_capacity(still.len());
        for some in still.chunks(KEYS) {
            let mut pipeline = redis::pipe();
            for o in some {
                let key = o.key();
                let before = seen.get(&key).copied().unwrap_or_default();
                let command = pipeline.cmd("EVAL").arg(SET_IF_UNCHANGED).arg(1).arg(key);
                command.arg(before).arg(o.person.to_string()).arg(PERSON_TTL_S);
            }
            let answers: Vec<bool> = pipeline
                .query_async(&mut self.redis.clone())
                .await
                .map_err(|e| StoreError::redis("setting person keys", &e))?;
            was_set.extend(answers);
        }
        let (mut set, mut changed) = (Vec::new(), Vec::new());
        for (o, was_set) in still.into_iter().zip(was_set) {
            if was_set { set.push(o) } else { changed.push(o) }
        }
        Ok((set, changed))
    }

    /// Deletes the person keys of what was told to Redis and is the newest no more.
    async fn delete_unless(&self, told: &[Override], newest: &[Override]) -> Result<(), StoreError> {
        let newest: HashSet<String> = newest.iter().map(Override::key).collect();
        let mut outdated: Vec<String> = told.iter().map(Override::key).collect();
        outdated.retain(|key| !newest.contains(key));
        for keys in outdated.chunks(KEYS) {
            redis::cmd("DEL")
                .arg(keys)
                .query_async::<()>(&mut self.redis.clone())
                .await
                .map_err(|e| StoreError::redis("deleting person keys", &e))?;
        }
        Ok(())
    }
}

const INSERT: &str =
    "INSERT INTO person_distinct_id_overrides (project_id, distinct_id, person_id, version) FORMAT Native";

fn block(rows: &[Override]) -> Result<Bytes, StoreError> {
    let (mut projects, mut distinct_ids) = (UuidColumn::default(), StringColumn::default());
    let (mut persons, mut versions) = (UuidColumn::default(), UInt64Column::default());
    for row in rows {
        projects.push(row.project);
        distinct_ids.push(&row.distinct_id);
        persons.push(row.person);
        versions.push(row.version as u64);
    }
    let mut body = Vec::new();
    write_block(
        &mut body,
        rows.len(),
        &[
            ("project_id", &projects),
            ("distinct_id", &distinct_ids),
            ("person_id", &persons),
            ("version", &versions),
        ],
    )
    .map_err(|e| {
        StoreError::new(
            Store::ClickHouse,
            "encoding overrides",
            true,
            String::new(),
            e.to_string(),
        )
    })?;
    Ok(body.into())
}
