//! The outbox of moved distinct ids: what PostgreSQL has committed and ClickHouse and Redis have yet to be told.
//!
//! A row is published while it is locked, so an older merge can never be published over a newer one; a crash leaves
//! it unpublished for whoever comes next.

use bytes::Bytes;
use native_block::{StringColumn, UInt64Column, UuidColumn, write_block};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

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

/// Rows published in one go by the sweep.
const SWEEP_ROWS: i64 = 5_000;

const TAKE_THESE: &str = "
    SELECT o.project_id, o.distinct_id, o.person_id, o.version
    FROM processor_person_overrides o
    JOIN unnest($1::uuid[], $2::text[]) AS k (project_id, distinct_id)
      ON o.project_id = k.project_id AND o.distinct_id = k.distinct_id
    WHERE NOT o.published
    ORDER BY o.project_id, o.distinct_id
    FOR UPDATE OF o SKIP LOCKED";

const TAKE_ANY: &str = "
    SELECT project_id, distinct_id, person_id, version
    FROM processor_person_overrides
    WHERE NOT published
    ORDER BY project_id, distinct_id
    LIMIT $1
    FOR UPDATE SKIP LOCKED";

const PUBLISHED: &str = "
    UPDATE processor_person_overrides o SET published = true
    FROM unnest($1::uuid[], $2::text[]) AS k (project_id, distinct_id)
    WHERE o.project_id = k.project_id AND o.distinct_id = k.distinct_id";

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
    /// Publishes the given ones as far as nobody else is publishing them right now.
    ///
    /// # Errors
    /// Of any of the three stores; what was not marked is published again.
    pub async fn publish(&self, moved: &[Moved]) -> Result<(), StoreError> {
        if moved.is_empty() {
            return Ok(());
        }
        let projects: Vec<Uuid> = moved.iter().map(|m| m.project).collect();
        let ids: Vec<&str> = moved.iter().map(|m| m.distinct_id.as_str()).collect();
        self.publish_taken(
            TAKE_THESE,
            &[(&projects, Type::UUID_ARRAY), (&ids, Type::TEXT_ARRAY)],
        )
        .await?;
        Ok(())
    }

    /// Publishes what a crash or a lost connection left behind. Returns how many there were.
    ///
    /// # Errors
    /// Of any of the three stores; what was not marked is published again.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let mut published = 0;
        loop {
            let round = self.publish_taken(TAKE_ANY, &[(&SWEEP_ROWS, Type::INT8)]).await?;
            published += round;
            if round < SWEEP_ROWS as usize {
                return Ok(published);
            }
        }
    }

    async fn publish_taken(
        &self,
        take: &str,
        parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)],
    ) -> Result<usize, StoreError> {
        let transaction = self.postgres.begin("publishing overrides").await?;
        let ((), rows) = tokio::try_join!(biased; transaction.start(), transaction.query(take, parameters))?;
        if !rows.is_empty() {
            self.clickhouse
                .insert_all("inserting overrides", INSERT, rows.len(), block(&rows)?)
                .await?;
            self.set_person_keys(&rows).await?;
            let projects: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            let ids: Vec<&str> = rows.iter().map(|row| row.get(1)).collect();
            transaction
                .query(
                    PUBLISHED,
                    &[(&projects, Type::UUID_ARRAY), (&ids, Type::TEXT_ARRAY)],
                )
                .await?;
        }
        transaction.commit().await?;
        Ok(rows.len())
    }

    async fn set_person_keys(&self, rows: &[Row]) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        for row in rows {
            let (project, distinct_id, person): (Uuid, &str, Uuid) = (row.get(0), row.get(1), row.get(2));
            pipeline
                .set_ex(person_key(project, distinct_id), person.to_string(), PERSON_TTL_S)
                .ignore();
        }
        pipeline
            .query_async::<()>(&mut self.redis.clone())
            .await
            .map_err(|e| StoreError::redis("setting person keys", &e))
    }
}

const INSERT: &str =
    "INSERT INTO person_distinct_id_overrides (project_id, distinct_id, person_id, version) FORMAT Native";

fn block(rows: &[Row]) -> Result<Bytes, StoreError> {
    let (mut projects, mut distinct_ids) = (UuidColumn::default(), StringColumn::default());
    let (mut persons, mut versions) = (UuidColumn::default(), UInt64Column::default());
    for row in rows {
        projects.push(row.get(0));
        distinct_ids.push(row.get(1));
        persons.push(row.get(2));
        versions.push(row.get::<_, i64>(3) as u64);
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
