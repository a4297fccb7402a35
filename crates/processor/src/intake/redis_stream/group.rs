//! The consumer group: created from the beginning of the stream, created again when it disappears.

use std::sync::Mutex;

use crate::runtime::complaint::Complaint;
use crate::stores::{Redis, StoreError, script};

use super::GROUP;
use super::continuity::{Continuity, Look};
use crate::intake::ledger::Ledger;

/// What was said last of a stream that is none.
static COMPLAINT: Mutex<Complaint> = Mutex::new(Complaint::new());

/// Looks at the group, and creates it (and the stream) where missing.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub(super) async fn look(redis: &Redis, continuity: &Continuity) -> Result<Look, StoreError> {
    let error = match continuity.look(redis, true).await {
        Ok(look) => return Ok(look),
        Err(error) => error,
    };
    if error.is_wrong_type()
        && COMPLAINT
            .lock()
            .is_ok_and(|mut said| said.is_news(&error.message))
    {
        tracing::error!(%error, "nothing can be read until this is mended");
    }
    Err(error)
}

/// Creates the group (and the stream) where missing.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub(crate) async fn ensure(redis: &Redis, stream: &str) -> Result<(), StoreError> {
    let mut continuity = Continuity::new(stream, false, false);
    let look = look(redis, &continuity).await?;
    // Nothing is held yet.
    continuity.note(&look, &Ledger::new(0, 0), 0);
    Ok(())
}

/// Deletes consumer `name` if it has nothing pending and, when given, has been idle for `idle_ms`. Checked and
/// deleted in one step on the server: deleting a consumer discards what it has pending.
const DELETE_IF_CLEAR: &str = r"#!lua flags=allow-oom
local consumers = redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
local deleted = {}
for _, fields in ipairs(consumers) do
  local c = {}
  for i = 1, #fields, 2 do c[fields[i]] = fields[i + 1] end
  local idle = math.min(c['idle'], c['inactive'] and c['inactive'] >= 0 and c['inactive'] or c['idle'])
  local named = ARGV[2] ~= '' and c['name'] == ARGV[2]
  local abandoned = ARGV[2] == '' and c['name'] ~= ARGV[4] and idle >= tonumber(ARGV[3])
  if c['pending'] == 0 and (named or abandoned) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c['name'])
    deleted[#deleted + 1] = c['name']
  end
end
return deleted";

/// Removes our own consumer when nothing is pending for it. Says whether it was removed.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub(crate) async fn leave(redis: &Redis, stream: &str, consumer: &str) -> Result<bool, StoreError> {
    Ok(!delete(redis, stream, consumer, 0, "").await?.is_empty())
}

/// Removes consumers other than `own` that have nothing pending and have been idle for `idle_ms`.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub(crate) async fn remove_abandoned(
    redis: &Redis,
    stream: &str,
    own: &str,
    idle_ms: u64,
) -> Result<Vec<String>, StoreError> {
    delete(redis, stream, "", idle_ms, own).await
}

async fn delete(
    redis: &Redis,
    stream: &str,
    name: &str,
    idle_ms: u64,
    own: &str,
) -> Result<Vec<String>, StoreError> {
    let mut delete = script(DELETE_IF_CLEAR, &[stream]);
    delete.arg(GROUP).arg(name).arg(idle_ms).arg(own);
    redis.ask("removing a consumer", &delete).await
}
