//! Anonymous ids that an `$identify` has attached: PostgreSQL had no mapping of them, so no row of theirs can be under
//! another person, and no override is needed, unless another store says that they had been seen.
//!
//! ClickHouse keeps every override in memory, for ever: one that says what the rows say already is not written. It is
//! written as for a merge when there is any doubt:
//!
//! - this process remembers another person, or the outbox still holds the id: it had a mapping that was deleted;
//! - Redis holds something else than the new person: the same, or the word of another program;
//! - ClickHouse holds an override: of another program's, or from before PostgreSQL was restored or has forgotten it.
//!
//! Until both have been asked the id is in the outbox as yet to be published: when that is cut short, the next publisher
//! publishes it. Afterwards its version there is negative: the time, and that ClickHouse was told nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio_postgres::Row;

use crate::event::KeyRef;
use crate::stores::{ClickHouse, StoreError};

use crate::identity::moved::Moved;
use crate::identity::person_key::PersonKey;
use crate::identity::publish::overrides::{Override, Publisher};

/// Ids in one question…
const PER_QUESTION: usize = 1_000;
/// …and their bytes: the engine takes a parameter of 128 KB, in which some characters take two.
const QUESTION_BYTES: usize = 60_000;

/// More than these at once are looked up in memory: for each the table reads thousands of its neighbours.
const FEW: usize = 100;
/// How long that may take: the dictionary may have to be loaded first.
const IN_MEMORY: Duration = Duration::from_secs(2);

/// Overrides of the ids, in whatever of the projects, by the primary key. One row holds all that is found: of an answer
/// that is cut off nothing can be taken for "not there".
const IN_TABLE: &str = "
    SELECT groupArray(toString(project_id)) AS projects, groupArray(distinct_id) AS ids
    FROM @
    WHERE project_id IN {projects:Array(UUID)} AND distinct_id IN {ids:Array(String)}";

/// The same of what the readers' dictionary holds, which may be a minute old. Who was moved more lately than that, and is
/// unknown to PostgreSQL, Redis knows.
const IN_DICTIONARY: &str = "
    SELECT groupArray(toString(key.1)) AS projects, groupArray(key.2) AS ids
    FROM (SELECT arrayJoin(arrayZip({projects:Array(UUID)}, {ids:Array(String)})) AS key)
    WHERE dictHas('person_overrides_dict', (key.1, key.2))";

/// Notes that nothing is to be told of those whose version is still the newest. Locked in the order of their keys, like
/// everywhere.
const NOTHING_TO_TELL: &str = "
    WITH attached AS (
        SELECT o.project_id, o.distinct_id, o.version
        FROM processor_person_overrides o
        JOIN unnest($1::uuid[], $2::text[], $3::bigint[]) AS k (project_id, distinct_id, version)
          ON o.project_id = k.project_id AND o.distinct_id = k.distinct_id AND o.version = k.version
        WHERE NOT o.published
        ORDER BY o.project_id, o.distinct_id
        FOR UPDATE OF o)
    UPDATE processor_person_overrides o SET published = true, version = -o.version
    FROM attached
    WHERE o.project_id = attached.project_id AND o.distinct_id = attached.distinct_id
      AND o.version = attached.version
    RETURNING o.project_id, o.distinct_id, o.person_id, o.version";

/// Keys of overrides, a column each.
#[derive(clickhouse::Row, serde::Deserialize)]
struct Found {
    projects: Vec<String>,
    ids: Vec<String>,
}

impl Moved {
    /// A row of the statement that attaches: with its version when the outbox did not hold the id before.
    pub(crate) fn attached(row: &Row, doubted: &HashSet<KeyRef<'_>>) -> Self {
        let mut moved = Self::of(row);
        let is_doubted = doubted.contains(&moved.key());
        moved.unseen_at = row.get::<_, Option<i64>>(2).filter(|_| !is_doubted);
        moved
    }
}

impl Publisher {
    /// Sets the person keys of those of `overrides` that were attached, unseen, at their present version, and notes that
    /// nothing else is to be told of them. Returns the others, and those of which another store says something.
    ///
    /// # Errors
    /// Of any of the three stores: all are as yet to be published.
    pub(crate) async fn without_unseen(
        &self,
        overrides: Vec<Override>,
        moved: &[Moved],
    ) -> Result<Vec<Override>, StoreError> {
        let unseen: HashMap<KeyRef<'_>, i64> = moved
            .iter()
            .filter_map(|moved| Some((moved.key(), moved.unseen_at?)))
            .collect();
        let is_unseen = |o: &Override| unseen.get(&o.key()) == Some(&o.version);
        let (unseen, mut to_tell): (Vec<_>, Vec<_>) = overrides.into_iter().partition(is_unseen);
        for chunk in pieces(&unseen) {
            let (overridden, set) = tokio::try_join!(overridden(&self.clickhouse, chunk), self.claim(chunk))?;
            let (mut certain, mut was_set) = (Vec::new(), Vec::new());
            for ((o, claimed), overridden) in chunk.iter().zip(set).zip(overridden) {
                if overridden || claimed == Claimed::Otherwise {
                    to_tell.push(o.clone());
                    continue;
                }
                certain.push(o.clone());
                if claimed == Claimed::Now {
                    was_set.push(o.clone());
                }
            }
            let noted = match self.of_version(NOTHING_TO_TELL, &certain).await {
                Ok(noted) => noted,
                Err(error) => {
                    // It is not known whether they are still the newest.
                    self.delete_unless(&was_set, &[]).await?;
                    return Err(error);
                }
            };
            // A merge that has moved one meanwhile publishes it.
            self.delete_unless(&was_set, &noted).await?;
        }
        Ok(to_tell)
    }

    /// Sets the person keys where there are none.
    async fn claim(&self, overrides: &[Override]) -> Result<Vec<Claimed>, StoreError> {
        let keys: Vec<PersonKey> = overrides.iter().map(Override::person_key).collect();
        let held = self.set_absent(&keys).await?;
        let claimed = keys.iter().zip(held).map(|(key, (set, held))| match set {
            _ if !key.is_held(held.as_deref()) => Claimed::Otherwise,
            true => Claimed::Now,
            false => Claimed::Before,
        });
        Ok(claimed.collect())
    }
}

/// What a person key says once it was to be set where there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claimed {
    /// The person: it was set.
    Now,
    /// The person, as it did before.
    Before,
    /// Something else.
    Otherwise,
}

/// Of which of them ClickHouse holds an override.
async fn overridden(clickhouse: &ClickHouse, overrides: &[Override]) -> Result<Vec<bool>, StoreError> {
    let projects: Vec<String> = overrides.iter().map(|o| o.project.to_string()).collect();
    let ids: Vec<&str> = overrides.iter().map(|o| &*o.distinct_id).collect();
    let look_up = async |clickhouse: &ClickHouse, sql: &str| {
        let table = "person_distinct_id_overrides";
        let query = clickhouse.query_of_all_replicas(sql, table).await?;
        let query = query.param("projects", &projects).param("ids", &ids);
        clickhouse.row::<Found>("looking for overrides", query).await
    };
    let mut in_memory = None;
    if overrides.len() > FEW {
        let found = look_up(&clickhouse.within(IN_MEMORY), IN_DICTIONARY).await;
        in_memory = found
            .inspect_err(|error| tracing::debug!(%error, "the dictionary of overrides does not answer"))
            .ok();
    }
    let found = match in_memory {
        Some(found) => found,
        None => look_up(clickhouse, IN_TABLE).await?,
    };
    let keys = found.projects.iter().zip(&found.ids);
    let keys = keys.filter_map(|(project, id)| Some(KeyRef::new(project.parse().ok()?, id)));
    let keys: HashSet<KeyRef<'_>> = keys.collect();
    Ok(overrides.iter().map(|o| keys.contains(&o.key())).collect())
}

/// As many at a time as one question may hold.
fn pieces(overrides: &[Override]) -> impl Iterator<Item = &[Override]> {
    let mut rest = overrides;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |o: &&Override| {
            bytes += o.distinct_id.len();
            bytes <= QUESTION_BYTES
        };
        let fitting = rest.iter().take(PER_QUESTION).take_while(fits).count();
        let (chunk, behind) = rest.split_at(fitting.max(1).min(rest.len()));
        rest = behind;
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::event::{DistinctId, PersonId, ProjectId};

    use super::*;

    #[test]
    fn a_question_holds_a_bounded_number_of_ids_and_of_bytes() {
        let of = |length: usize| Override {
            project: ProjectId(Uuid::nil()),
            distinct_id: DistinctId("x".repeat(length).into()),
            person: PersonId(Uuid::nil()),
            version: 1,
        };
        let sizes = |overrides: &[Override]| pieces(overrides).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&vec![of(10); 2_500]), [1_000, 1_000, 500]);
        assert_eq!(sizes(&vec![of(20_000); 7]), [3, 3, 1]);
        assert_eq!(sizes(&[of(1), of(QUESTION_BYTES * 2), of(1)]), [1, 1, 1]);
    }
}
