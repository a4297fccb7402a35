//! `events:rejected`: the ring of events that break the rules, each with its reason. Written before the entry is
//! acknowledged, so a crash in between may repeat one and never loses one.

use redis::Value;

use crate::event::Reject;
use crate::metrics;
use crate::stores::{Redis, StoreError};

/// The stream's name.
pub(crate) const REJECTED: &str = "events:rejected";

/// Entries in one round trip.
const PER_ROUND_TRIP: usize = 500;

/// Entries in the ring.
///
/// # Errors
/// When Redis cannot be reached or refuses, or the key is no stream.
pub(crate) async fn count(redis: &Redis) -> Result<u64, StoreError> {
    let mut length = redis::cmd("XLEN");
    length.arg(REJECTED);
    redis
        .ask_of("reading a length", (REJECTED, "stream"), &length)
        .await
}

/// Appends rejects of entries of `streams`; the oldest beyond `capacity` go.
///
/// # Errors
/// When Redis cannot be reached or refuses; some may have been written.
pub(crate) async fn write(
    redis: &Redis,
    rejects: &[Reject],
    capacity: u64,
    streams: &[String],
    consumer: &str,
) -> Result<(), StoreError> {
    let now = jiff::Timestamp::now();
    let failed_at = format!("{now:.3}");
    for chunk in rejects.chunks(PER_ROUND_TRIP) {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XLEN").arg(REJECTED);
        for reject in chunk {
            let stream = streams
                .get(reject.source.stream as usize)
                .map_or("", String::as_str);
            pipeline
                .cmd("XADD")
                .arg(REJECTED)
                .arg("MAXLEN")
                .arg(capacity)
                .arg("*")
                .arg(&[("data", reject.data.as_str())])
                .arg(&[("reason", reject.reason.code())])
                .arg(&[("error", &*reject.reason.explanation())])
                .arg(&[
                    ("stream", stream),
                    ("stream_id", reject.id().to_string().as_str()),
                ])
                .arg(&[
                    ("failed_at", failed_at.as_str()),
                    ("attempts", reject.reason.attempts().to_string().as_str()),
                    ("consumer", consumer),
                ]);
        }
        pipeline.cmd("XLEN").arg(REJECTED);
        let answers: Vec<Value> = redis
            .ask_all_of("writing rejected events", (REJECTED, "stream"), &pipeline)
            .await?;
        // Another instance that writes meanwhile adds as many as it drops, once the ring is full.
        if let (Some(Value::Int(before)), Some(Value::Int(after))) = (answers.first(), answers.last()) {
            let dropped = before.saturating_add_unsigned(chunk.len() as u64) - after;
            metrics::evicted(dropped.try_into().unwrap_or_default());
        }
    }
    Ok(())
}
