//! Whether entries are still some consumer's.

use redis::RedisResult;
use stream_reply::StreamId;

use crate::stores::{Redis, StoreError};

use super::GROUP;

const DURING: &str = "looking for pending entries";

/// Whether each entry of a stream is pending for any consumer.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub(crate) async fn are_pending(
    redis: &Redis,
    entries: &[(&str, StreamId)],
) -> Result<Vec<bool>, StoreError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = redis::pipe();
    for (stream, id) in entries {
        let id = id.to_string();
        let command = pipeline.cmd("XPENDING").arg(*stream).arg(GROUP);
        command.arg(&id).arg(&id).arg(1);
    }
    // One stream without the group says nothing of the others.
    let answers: Vec<RedisResult<Vec<redis::Value>>> = redis.ask_each(DURING, pipeline).await?;
    let is_pending = |answer: RedisResult<Vec<redis::Value>>| match answer {
        Ok(answer) => Ok(!answer.is_empty()),
        Err(error) => match StoreError::redis(DURING, &error) {
            // Without the group nothing is pending.
            error if error.is_no_group() => Ok(false),
            error => Err(error),
        },
    };
    answers.into_iter().map(is_pending).collect()
}
