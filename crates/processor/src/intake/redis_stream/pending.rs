//! Whether entries are still some consumer's.

use stream_reply::StreamId;

use crate::stores::{RedisConnection, StoreError};

use super::GROUP;

/// Whether each entry of a stream is pending for any consumer.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub async fn are_pending(
    redis: &RedisConnection,
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
    let answers: redis::RedisResult<Vec<Vec<redis::Value>>> = pipeline.query_async(&mut redis.clone()).await;
    match answers {
        Ok(answers) => Ok(answers.iter().map(|answer| !answer.is_empty()).collect()),
        // Without the group nothing is pending.
        Err(error) if error.code() == Some("NOGROUP") => Ok(vec![false; entries.len()]),
        Err(error) => Err(StoreError::redis("looking for pending entries", &error)),
    }
}
