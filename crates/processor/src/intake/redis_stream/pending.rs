//! Whether entries are still some consumer's.

use stream_reply::StreamId;

use crate::stores::{Redis, StoreError};

use super::GROUP;

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
    let answers: Result<Vec<Vec<redis::Value>>, StoreError> =
        redis.ask_all("looking for pending entries", &pipeline).await;
    match answers {
        Ok(answers) => Ok(answers.iter().map(|answer| !answer.is_empty()).collect()),
        // Without the group nothing is pending.
        Err(error) if error.is_no_group() => Ok(vec![false; entries.len()]),
        Err(error) => Err(error),
    }
}
