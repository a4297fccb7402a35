//! Who reads which stream, and which streams nobody reads although entries wait in them. Pure.

use super::facts::{Instance, Reader, RedisFacts, Stream};
use crate::runtime::instances::Presence;
use crate::runtime::lock::Noted;
use crate::runtime::report::Reading;

/// A consumer that has asked for entries within so long reads.
const ASKS_MS: u64 = 15_000;
/// What waits for longer in a stream that nobody reads is not just between two readers: a lease ends after six seconds.
const WAITS_S: u64 = 10;

/// Who reads a stream: the instance that has its lease, and those that read every stream.
pub(super) fn of(stream: &Stream, lease: Noted, instances: &[Instance]) -> Vec<Reader> {
    let presence = |name: &str| {
        let found = instances.iter().find(|instance| instance.name == name);
        found.map(|instance| instance.presence)
    };
    let mut readers = Vec::new();
    match lease {
        Noted::Nobody => {}
        Noted::Unnamed => readers.push(Reader {
            name: None,
            presence: None,
            lease: true,
        }),
        Noted::Named(name) => readers.push(Reader {
            presence: presence(&name),
            name: Some(name),
            lease: true,
        }),
    }
    let is_leased = !readers.is_empty();
    let others = instances.iter().filter(|instance| {
        instance.consumes()
            && match instance.streams() {
                Some(streams) => !streams.shared && streams.list.contains(&stream.name),
                // What an older version does not say, its asking does.
                None => !is_leased && asks(stream, &instance.name),
            }
    });
    readers.extend(others.map(|instance| Reader {
        name: Some(instance.name.clone()),
        presence: Some(instance.presence),
        lease: false,
    }));
    readers
}

fn asks(stream: &Stream, name: &str) -> bool {
    let mut consumers = stream.consumers.iter();
    consumers.any(|consumer| consumer.name == name && consumer.idle_ms < ASKS_MS)
}

/// Streams that have been waiting for a reader although instances are there, or were lately. Where all of those that live
/// wait for a store, that is what is the matter.
pub(super) fn not_read(redis: &RedisFacts) -> Vec<&Stream> {
    let instances = redis.instances.as_deref().unwrap_or_default();
    let consuming: Vec<&Instance> = instances.iter().filter(|instance| instance.consumes()).collect();
    let is_paused = |instance: &&Instance| {
        let report = instance.report.as_ref();
        report.is_some_and(|report| report.reading == Reading::Paused)
    };
    let all_wait = !consuming.is_empty() && consuming.iter().all(is_paused);
    if instances.is_empty() || all_wait {
        return Vec::new();
    }
    let waits = |stream: &&Stream| {
        let waits = |entries: Option<u64>, seconds: Option<u64>| {
            entries.is_some_and(|entries| entries > 0) && seconds.is_none_or(|seconds| seconds >= WAITS_S)
        };
        waits(stream.lag, stream.lag_s) || waits(stream.pending, stream.pending_s)
    };
    let streams = redis.streams.iter();
    streams
        .filter(|stream| is_free(stream) && waits(stream))
        .collect()
}

/// Whether no living instance reads it, as far as that is known.
pub(super) fn is_free(stream: &Stream) -> bool {
    let reads = |reader: &Reader| matches!(reader.presence, None | Some(Presence::Alive));
    stream
        .readers
        .as_ref()
        .is_some_and(|readers| !readers.iter().any(reads))
}
