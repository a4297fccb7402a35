//! Person keys of what is published: compared before they are set, deleted when what was told is the newest no more.

use std::collections::{HashMap, HashSet};

use crate::stores::{StoreError, script};

use crate::identity::person_key::PERSON_TTL_S;
use crate::identity::publish::overrides::{Override, Publisher};

/// Person keys in one command or pipeline.
const KEYS: usize = 1_000;

/// Sets a person key if it is still what it was: text, or nothing, which stands for anything that is no text too.
const SET_IF_UNCHANGED: &str = "
if (redis.call('MGET', KEYS[1])[1] or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1";

impl Publisher {
    /// What the person keys hold, in the order of the overrides; nothing where that is no text.
    pub(crate) async fn person_keys(
        &self,
        overrides: &[Override],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut held = Vec::with_capacity(overrides.len());
        for chunk in overrides.chunks(KEYS) {
            let keys: Vec<String> = chunk.iter().map(Override::name).collect();
            held.extend(self.redis.texts("reading person keys", &keys).await?);
        }
        Ok(held)
    }

    /// Sets the keys of those that are `still` to be told, if they hold what was `seen` of all. Returns which were set, and
    /// which another publisher has changed.
    pub(crate) async fn set_person_keys(
        &self,
        still: Vec<Override>,
        all: &[Override],
        seen: &[Option<Vec<u8>>],
    ) -> Result<(Vec<Override>, Vec<Override>), StoreError> {
        let seen: HashMap<String, &[u8]> = all
            .iter()
            .zip(seen)
            .map(|(o, seen)| (o.name(), seen.as_deref().unwrap_or_default()))
            .collect();
        let mut was_set = Vec::with_capacity(still.len());
        for chunk in still.chunks(KEYS) {
            let mut pipeline = redis::pipe();
            for o in chunk {
                let key = o.name();
                let before = seen.get(&key).copied().unwrap_or_default();
                let mut command = script(SET_IF_UNCHANGED, &[&key]);
                command.arg(before).arg(o.person.to_string()).arg(PERSON_TTL_S);
                pipeline.add_command(command);
            }
            let answers: Vec<bool> = self.redis.ask_many("setting person keys", &pipeline).await?;
            was_set.extend(answers);
        }
        let (mut set, mut changed) = (Vec::new(), Vec::new());
        for (o, was_set) in still.into_iter().zip(was_set) {
            if was_set { set.push(o) } else { changed.push(o) }
        }
        Ok((set, changed))
    }

    /// Deletes the person keys of what was told to Redis and is the newest no more.
    pub(crate) async fn delete_unless(
        &self,
        told: &[Override],
        newest: &[Override],
    ) -> Result<(), StoreError> {
        let newest: HashSet<String> = newest.iter().map(Override::name).collect();
        let mut outdated: Vec<String> = told.iter().map(Override::name).collect();
        outdated.retain(|key| !newest.contains(key));
        for keys in outdated.chunks(KEYS) {
            self.redis.delete("deleting person keys", keys).await?;
        }
        Ok(())
    }
}
