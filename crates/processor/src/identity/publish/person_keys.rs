//! Person keys in Redis: copies for speed. They are set where there are none; what another program has put there, and what
//! is set late, is compared with PostgreSQL.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;

use crate::event::PersonId;
use crate::stores::{StoreError, script, unnest_keys};

use crate::identity::known::mappings::{mapped, unfinished};
use crate::identity::person_key::{PERSON_TTL_S, PersonKey};
use crate::identity::publish::again::{Differs, publish_again};
use crate::identity::publish::overrides::Publisher;

/// Keys in one pipeline.
const PER_PIPELINE: usize = 1_000;
/// What PostgreSQL said longer ago than this is asked again once the keys are set: another instance may have moved the id
/// and told Redis, and Redis may have lost that.
const LATE: Duration = Duration::from_secs(1);

/// Where the distinct ids belong now.
const NOW: &str = concat!(
    "
    SELECT k.place::int4, coalesce(r.into_person, m.person_id)
    FROM ",
    mapped!(),
    unfinished!()
);

/// Deletes a key that still holds what was seen there.
const DELETE_IF_UNCHANGED: &str = "
if redis.call('MGET', KEYS[1])[1] ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// A key that may not say what PostgreSQL says, and what it holds: text, or nothing, which stands for anything that is no
/// text too.
type Doubtful<'a> = (&'a PersonKey, Option<Vec<u8>>);

impl Publisher {
    /// Sets person keys where there are none, `since` PostgreSQL named the persons. Whatever holds something else is told
    /// again what PostgreSQL says now.
    ///
    /// # Errors
    /// Of any of the three stores. What was not done is found when the ids are looked up again.
    pub async fn set_where_absent(&self, keys: &[PersonKey], since: Duration) -> Result<(), StoreError> {
        let began = Instant::now();
        for chunk in keys.chunks(PER_PIPELINE) {
            let doubtful = self.set_some(chunk, || since + began.elapsed() >= LATE).await?;
            if doubtful.is_empty() {
                continue;
            }
            if let Err(error) = self.mend(&doubtful).await {
                self.delete(&doubtful).await?;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn set_some<'a>(
        &self,
        keys: &'a [PersonKey],
        is_late: impl Fn() -> bool,
    ) -> Result<Vec<Doubtful<'a>>, StoreError> {
        let answers = self.set_absent(keys).await?;
        let late = is_late();
        Ok(keys
            .iter()
            .zip(answers)
            .filter(|(key, (was_set, held))| (*was_set && late) || !key.is_held(held.as_deref()))
            .map(|(key, (_, held))| (key, held))
            .collect())
    }

    /// Sets keys where there are none. Returns whether each was set, and what it holds: text, or nothing for anything that
    /// is no text.
    pub(crate) async fn set_absent(
        &self,
        keys: &[PersonKey],
    ) -> Result<Vec<(bool, Option<Vec<u8>>)>, StoreError> {
        let during = "setting person keys";
        let names: Vec<String> = keys.iter().map(PersonKey::name).collect();
        let mut pipeline = redis::pipe();
        for (key, name) in keys.iter().zip(&names) {
            let command = pipeline.cmd("SET").arg(name).arg(key.person.to_string());
            command.arg("NX").arg("EX").arg(PERSON_TTL_S);
        }
        let (answers, held) = self.redis.ask_many_and_read(during, pipeline, &names).await?;
        let was_set = answers.iter().map(|answer| !matches!(answer, redis::Value::Nil));
        Ok(was_set.zip(held).collect())
    }

    async fn mend(&self, doubtful: &[Doubtful<'_>]) -> Result<(), StoreError> {
        let (projects, ids) = unnest_keys(doubtful.iter().map(|(key, _)| key.key()));
        let these = [(&projects as _, Type::UUID_ARRAY), (&ids as _, Type::TEXT_ARRAY)];
        let rows = self.postgres.query("comparing person keys", NOW, &these).await?;
        let mut persons = vec![None; doubtful.len()];
        for row in &rows {
            persons[row.get::<_, i32>(0) as usize - 1] = Some(row.get::<_, PersonId>(1));
        }
        let (mut nobody, mut differing) = (Vec::new(), Vec::new());
        for ((key, held), person) in doubtful.iter().zip(persons) {
            match person {
                None => nobody.push((*key, held.clone())),
                Some(person) if held.as_deref() != Some(person.to_string().as_bytes()) => {
                    differing.push(Differs {
                        key: key.key(),
                        above: 0,
                    });
                }
                Some(_) => {}
            }
        }
        self.delete(&nobody).await?;
        if differing.is_empty() {
            return Ok(());
        }
        tracing::info!(
            keys = differing.len(),
            "person keys in Redis name other persons: published again"
        );
        let told = publish_again(&self.postgres, differing).await?;
        self.publish(&told).await
    }

    async fn delete(&self, doubtful: &[Doubtful<'_>]) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        for (key, held) in doubtful {
            if let Some(held) = held {
                let mut command = script(DELETE_IF_UNCHANGED, &[&key.name()]);
                command.arg(held);
                pipeline.add_command(command);
            }
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        let _deleted: Vec<u64> = self.redis.ask_many("deleting person keys", &pipeline).await?;
        Ok(())
    }
}
