//! Merges that this program's predecessor began and could not finish: a list in Redis that no other program works off.

use serde::Deserialize;
use stream_reply::StreamId;
use tokio_postgres::types::Type;

use crate::config::PropertyOrder;
use crate::event::{PersonId, ProjectId};
use crate::runtime::complaint::Complaint;
use crate::stores::{Postgres, Redis, StoreError};

use crate::identity::commit::write::{DELETE_MERGED, REDIRECT, write_properties};
use crate::identity::decision::changes::LockedPerson;
use crate::identity::decision::changes::PropertyChange;
use crate::identity::decision::moves;
use crate::identity::decision::properties::{Limits, Version};
use crate::identity::known::locked::{loaded, unpacked};
use crate::identity::known::redirects::with_survivors;

/// Its oldest entry is the last.
const LIST: &str = "processor:failed_merges";
/// Entries looked at in one go.
const PER_STEP: isize = 10;

/// Whom the survivor went into meanwhile.
const SURVIVOR: &str = with_survivors!("SELECT survivor FROM survivors");

/// The two persons, without one that a merge has yet to empty.
const LOCK: &str = concat!(
    "
    WITH locked AS MATERIALIZED (
        SELECT p.id, p.properties, p.property_versions
        FROM persons p
        WHERE p.project_id = ($1::uuid[])[1] AND p.id = ANY($2::uuid[])
          AND NOT EXISTS (SELECT FROM processor_person_redirects r
                          WHERE r.project_id = p.project_id AND r.from_person = p.id AND r.unfinished)
        ORDER BY p.id
        FOR UPDATE OF p)",
    loaded!()
);

/// Milliseconds since the epoch.
const NOW: &str = "SELECT (extract(epoch FROM now()) * 1000)::int8";

const RECORD: &str = "
    INSERT INTO processor_merges
        (project_id, from_person, into_person, event_id, anonymous_id, distinct_id, stream_id, consumer)
    VALUES ($1, $2, $3, '00000000-0000-0000-0000-000000000000', '', '', '', 'processor:failed_merges')";

#[derive(Debug, Clone, Copy, Deserialize)]
struct Begun {
    #[serde(rename = "projectId")]
    project: ProjectId,
    #[serde(rename = "fromPersonId")]
    from: PersonId,
    #[serde(rename = "intoPersonId")]
    into: PersonId,
}

/// Takes over the predecessor's unfinished merges.
pub struct Inherited {
    /// Has the persons.
    pub postgres: Postgres,
    /// Has the list.
    pub redis: Redis,
    /// How much a person may hold.
    pub limits: Limits,
    /// What was said last of entries that fail.
    complaint: Complaint,
}

impl Inherited {
    /// Nothing is taken over yet.
    pub fn new(postgres: Postgres, redis: Redis, limits: Limits) -> Self {
        Self {
            postgres,
            redis,
            limits,
            complaint: Complaint::new(),
        }
    }

    /// Takes over some. Their distinct ids are left to the [`super::mover::Mover`]. Returns how many entries were tried.
    ///
    /// # Errors
    /// Of PostgreSQL or Redis, the last one; an entry stays until its merge is committed, behind the others, which are
    /// tried all the same.
    pub async fn step(&mut self) -> Result<usize, StoreError> {
        let mut read = redis::cmd("LRANGE");
        read.arg(LIST).arg(-PER_STEP).arg(-1);
        let oldest: Vec<String> = self.redis.ask("reading inherited merges", &read).await?;
        let mut failed = None;
        for entry in oldest.iter().rev() {
            match serde_json::from_str::<Begun>(entry) {
                Ok(begun) => {
                    if let Err(error) = self.finish(begun).await {
                        self.put_behind(entry).await?;
                        let Begun { project, from, into } = begun;
                        if self.complaint.is_news(entry) {
                            tracing::warn!(
                                %error, %project, %from, %into,
                                "an inherited merge could not be taken over: the others go first, then it is tried again"
                            );
                        }
                        failed = Some(error);
                        continue;
                    }
                }
                Err(error) => tracing::error!(%error, entry, "an inherited merge cannot be read: removed"),
            }
            let mut remove = redis::cmd("LREM");
            remove.arg(&[LIST, "-1", entry]);
            self.redis.ask::<()>("removing inherited merges", &remove).await?;
        }
        failed.map_or(Ok(oldest.len()), Err)
    }

    /// Lets the other entries have their turn before one that failed is tried again.
    async fn put_behind(&mut self, entry: &str) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("LREM").arg(&[LIST, "-1", entry]);
        pipeline.cmd("LPUSH").arg(&[LIST, entry]);
        self.redis
            .ask_all("putting an inherited merge behind the others", &pipeline)
            .await
    }

    async fn finish(&self, begun: Begun) -> Result<(), StoreError> {
        let Begun { project, from, into } = begun;
        let way = [
            (&vec![project] as _, Type::UUID_ARRAY),
            (&vec![String::new()] as _, Type::TEXT_ARRAY),
            (&vec![into] as _, Type::UUID_ARRAY),
        ];
        let transaction = self.postgres.begin("finishing an inherited merge").await?;
        transaction.start().await?;
        let gone = transaction.query(SURVIVOR, &way).await?;
        let into = gone.first().map_or(into, |row| row.get(0));
        let persons = [
            (&project as _, Type::UUID),
            (&from as _, Type::UUID),
            (&into as _, Type::UUID),
        ];
        let (most, together) = LockedPerson::bounds(self.limits);
        let load = [
            (&vec![project] as _, Type::UUID_ARRAY),
            (&vec![from, into] as _, Type::UUID_ARRAY),
            (&most as _, Type::INT8),
            (&together as _, Type::INT8),
        ];
        let locked = transaction.query(LOCK, &load).await?;
        let properties = |person: PersonId| {
            let row = locked.iter().find(|row| row.get::<_, PersonId>(0) == person)?;
            LockedPerson::of(row)
        };
        let (Some(merged), Some(survivor)) = (properties(from), properties(into)) else {
            tracing::info!(%project, %from, %into, "an inherited merge has nothing left to do");
            return Ok(());
        };
        if from == into {
            return Ok(());
        }
        // The database's clock: a merge that lies in the future would outrank all writes until then.
        let now = transaction.query(NOW, &[]).await?;
        let now: i64 = now.first().map_or(0, |row| row.get(0));
        let entry = StreamId::new(now.max(0).cast_unsigned(), 0);
        let at = Version::new(now, entry, PropertyOrder::Arrival);
        if let (LockedPerson::Loaded(merged), LockedPerson::Loaded(mut survivor)) = (merged, survivor) {
            survivor.absorb(merged, at, &[], self.limits);
            let change = PropertyChange {
                person: into,
                properties: survivor.to_values(),
                versions: survivor.to_versions(),
                survived: true,
            };
            write_properties(&transaction, &[change]).await?;
        } else {
            tracing::warn!(%project, %from, %into, "properties are too large or unreadable: the survivor keeps its own");
        }
        let redirect = [
            (&vec![from] as _, Type::UUID_ARRAY),
            (&vec![into] as _, Type::UUID_ARRAY),
            (&vec![moves::text(&[at])] as _, Type::TEXT_ARRAY),
            (&vec![project] as _, Type::UUID_ARRAY),
        ];
        transaction.query(REDIRECT, &redirect).await?;
        let merged = [(&vec![from] as _, Type::UUID_ARRAY)];
        transaction.query(DELETE_MERGED, &merged).await?;
        transaction.query(RECORD, &persons).await?;
        transaction.commit().await?;
        tracing::info!(%project, %from, %into, "took over an inherited merge");
        Ok(())
    }
}
