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

/// What became of our own consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// It is removed.
    Removed,
    /// Entries are pending for it.
    Stays,
    /// The group knew none.
    WasNone,
}

/// Deletes consumer `name` if it has nothing pending and, when given, has been idle for `idle_ms`. Checked and
/// deleted in one step on the server: deleting a consumer discards what it has pending. Returns those that are deleted, and
/// that it is there and stays.
const DELETE_IF_CLEAR: &str = r"#!lua flags=allow-oom
local consumers = redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
local deleted, stays = {}, {}
for _, fields in ipairs(consumers) do
  local c = {}
  for i = 1, #fields, 2 do c[fields[i]] = fields[i + 1] end
  local idle = math.min(c['idle'], c['inactive'] and c['inactive'] >= 0 and c['inactive'] or c['idle'])
  local named = ARGV[2] ~= '' and c['name'] == ARGV[2]
  local abandoned = ARGV[2] == '' and c['name'] ~= ARGV[4] and idle >= tonumber(ARGV[3])
  if c['pending'] == 0 and (named or abandoned) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c['name'])
    deleted[#deleted + 1] = c['name']
  elseif named then
    stays[1] = c['name']
  end
end
return {deleted, stays}";

/// Removes our own consumer when nothing is pending for it.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub(crate) async fn leave(redis: &Redis, stream: &str, consumer: &str) -> Result<Left, StoreError> {
    let (deleted, stays) = delete(redis, stream, consumer, 0, "").await?;
    Ok(match (deleted.is_empty(), stays.is_empty()) {
        (false, _) => Left::Removed,
        (true, false) => Left::Stays,
        (true, true) => Left::WasNone,
    })
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
    let (deleted, _stays) = delete(redis, stream, "", idle_ms, own).await?;
    Ok(deleted)
}

async fn delete(
    redis: &Redis,
    stream: &str,
    name: &str,
    idle_ms: u64,
    own: &str,
) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let mut delete = script(DELETE_IF_CLEAR, &[stream]);
    delete.arg(GROUP).arg(name).arg(idle_ms).arg(own);
    redis.ask("removing a consumer", &delete).await
}
