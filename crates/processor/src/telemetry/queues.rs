//! What was set aside, the replay's circuit, and the locks that instances share: what `status` and the metrics tell of them.

use stream_reply::StreamId;

use crate::stores::{Redis, StoreError, TimeLeft};
use crate::{cohorts, replay, set_aside};

/// Each part by itself: a key that holds something else hides only what it would have told.
#[derive(Debug)]
pub(crate) struct Queues {
    /// Entries in the ring of rejected events.
    pub rejected: Result<u64, StoreError>,
    /// What waits to be replayed.
    pub dead_letters: Result<DeadLetters, StoreError>,
    /// Failed replays in a row.
    pub failures: Result<u64, StoreError>,
    /// How much longer the circuit is open, if it is.
    pub open: Result<Option<TimeLeft>, StoreError>,
}

/// The queue of dead letters.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    /// How many there are.
    pub count: u64,
    /// When the oldest one was set aside.
    pub oldest: Option<StreamId>,
}

/// Reads the state of the queues and the circuit.
pub(crate) async fn read(queue: &set_aside::Queue) -> Queues {
    let redis = &queue.redis;
    Queues {
        rejected: set_aside::rejected::count(redis).await,
        dead_letters: dead_letters(queue).await,
        failures: replay::failures(redis).await,
        open: replay::open_for(redis).await,
    }
}

async fn dead_letters(queue: &set_aside::Queue) -> Result<DeadLetters, StoreError> {
    Ok(DeadLetters {
        count: queue.count().await?,
        oldest: queue.oldest().await?,
    })
}

/// Reads which of the locks of replays and cohorts are held, and for how long.
///
/// # Errors
/// Redis's.
pub(crate) async fn locks(redis: &Redis) -> Result<Vec<(&'static str, TimeLeft)>, StoreError> {
    let mut held = Vec::new();
    for lock in [replay::LOCK, cohorts::LOCK] {
        let left = redis.time_left("reading a lock", lock).await?;
        held.extend(left.map(|left| (lock, left)));
    }
    Ok(held)
}
