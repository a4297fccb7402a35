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
    let presence = |name: &str| instance(instances, name).map(|instance| instance.presence);
    let mut readers = Vec::new();
    match lease {
        Noted::Nobody => {}
        // Whoever has it lives if somebody reads of whom nothing else is known: a lease alone may be anybody's.
        Noted::Unnamed => readers.push(Reader {
            name: None,
            presence: stream
                .consumers
                .iter()
                .any(|consumer| asks(stream, &consumer.name) && may_hold_unnamed(instances, &consumer.name))
                .then_some(Presence::Alive),
            lease: true,
        }),
        Noted::Named(name) => readers.push(Reader {
            presence: presence(&name).or_else(|| asks(stream, &name).then_some(Presence::Alive)),
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

fn instance<'a>(instances: &'a [Instance], name: &str) -> Option<&'a Instance> {
    instances.iter().find(|instance| instance.name == name)
}

/// Whether the lease without a name may be this one's: a version that says which streams it has names itself in leases.
fn may_hold_unnamed(instances: &[Instance], name: &str) -> bool {
    instance(instances, name).is_none_or(|found| found.consumes() && found.streams().is_none())
}

/// Whether an instance shares streams, and others have all of them.
pub(super) fn is_standby(instance: &Instance, redis: &RedisFacts) -> bool {
    let Some(streams) = instance.streams().filter(|streams| streams.shared) else {
        return false;
    };
    let has = |reader: &Reader| reader.name.as_ref() == Some(&instance.name);
    let is_others = |name: &String| {
        let stream = redis.streams.iter().find(|stream| stream.name == *name);
        let readers = stream.and_then(|stream| stream.readers.as_deref());
        readers.is_some_and(|readers| !readers.is_empty() && !readers.iter().any(has))
    };
    instance.consumes() && !streams.list.is_empty() && streams.list.iter().all(is_others)
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
    let reads = |reader: &Reader| reader.presence == Some(Presence::Alive);
    stream
        .readers
        .as_ref()
        .is_some_and(|readers| !readers.iter().any(reads))
}

/// Streams without a reader among those that living instances are told of, or that are there, also where nothing waits in
/// them. Where one of the instances does not say which it reads, nobody knows.
pub(super) fn free(redis: &RedisFacts) -> Vec<&Stream> {
    let instances = redis.instances.as_deref().unwrap_or_default();
    let consuming: Vec<&Instance> = instances.iter().filter(|instance| instance.consumes()).collect();
    let lists: Option<Vec<_>> = consuming.iter().map(|instance| instance.streams()).collect();
    let Some(lists) = lists else { return Vec::new() };
    let matters = |stream: &Stream| {
        stream.length.is_some_and(|length| length > 0)
            || lists.iter().any(|streams| streams.list.contains(&stream.name))
    };
    let streams = redis.streams.iter();
    streams
        .filter(|stream| is_free(stream) && matters(stream))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{consuming, everything, paused_for};
    use super::*;
    use crate::runtime::streams::Streams;

    fn told(name: &str, shared: bool, presence: Presence) -> Instance {
        let mut instance = consuming(name);
        instance.presence = presence;
        let report = instance.report.as_mut().unwrap();
        report.streams = Some(Streams {
            list: vec!["events:incoming".into()],
            shared,
            first: Some(Vec::new()),
        });
        instance
    }

    fn names(readers: &[Reader]) -> Vec<(Option<&str>, bool)> {
        readers
            .iter()
            .map(|reader| (reader.name.as_deref(), reader.lease))
            .collect()
    }

    #[test]
    fn a_stream_is_read_by_who_has_its_lease_and_by_those_that_read_all() {
        let all = [
            told("a", true, Presence::Alive),
            told("b", false, Presence::Alive),
            told("c", false, Presence::Dead),
        ];
        let stream = &everything(0, 0, Vec::new()).streams[0];
        let readers = of(stream, Noted::Named("a".into()), &all);
        assert_eq!(names(&readers), [(Some("a"), true), (Some("b"), false)]);
        assert_eq!(names(&of(stream, Noted::Unnamed, &all[..1])), [(None, true)]);
        assert_eq!(of(stream, Noted::Nobody, &all[..1]), []);
        let elsewhere = Stream {
            name: "another".into(),
            ..Stream::default()
        };
        assert_eq!(of(&elsewhere, Noted::Nobody, &all), []);
    }

    #[test]
    fn whoever_has_a_lease_lives_if_it_says_so_or_asks_for_entries() {
        let is_free_by = |noted: Noted, consumer: &str, idle_ms: u64, instances: &[Instance]| {
            let mut stream = everything(0, 0, Vec::new()).streams.remove(0);
            stream.consumers = vec![super::super::facts::Consumer {
                name: consumer.into(),
                pending: 0,
                idle_ms,
            }];
            let readers = of(&stream, noted, instances);
            stream.readers = Some(readers);
            is_free(&stream)
        };
        let older = || vec![consuming("older")];
        let dead = || vec![told("gone", true, Presence::Dead)];
        for (noted, consumer, idle_ms, instances, is_free) in [
            (Noted::Unnamed, "older", ASKS_MS - 1, older(), false),
            (Noted::Unnamed, "older", ASKS_MS, older(), true),
            (Noted::Unnamed, "unknown", 0, dead(), false),
            // It says which streams it reads, so it would have named itself.
            (
                Noted::Unnamed,
                "newer",
                0,
                vec![told("newer", true, Presence::Alive)],
                true,
            ),
            (Noted::Unnamed, "gone", 0, dead(), true),
            (Noted::Named("a".into()), "a", 0, Vec::new(), false),
            (Noted::Named("a".into()), "a", ASKS_MS, Vec::new(), true),
            (Noted::Named("gone".into()), "gone", 0, dead(), true),
        ] {
            let case = format!("{noted:?} {consumer} {idle_ms}");
            assert_eq!(
                is_free_by(noted, consumer, idle_ms, &instances),
                is_free,
                "{case}"
            );
        }
    }

    #[test]
    fn an_instance_that_shares_and_has_nothing_is_a_standby() {
        let mut redis = everything(
            0,
            0,
            vec![told("a", true, Presence::Alive), told("b", true, Presence::Alive)],
        );
        let standby = |redis: &RedisFacts| {
            let instances = redis.instances.iter().flatten();
            instances
                .map(|instance| is_standby(instance, redis))
                .collect::<Vec<_>>()
        };
        assert_eq!(standby(&redis), [false, false]);
        redis.streams[0].readers.as_mut().unwrap().pop();
        assert_eq!(standby(&redis), [false, true]);
        redis.streams[0].readers = Some(Vec::new());
        assert_eq!(standby(&redis), [false, false], "it is about to take it");
        redis.streams[0].readers = None;
        assert_eq!(standby(&redis), [false, false], "nobody knows");
    }

    #[test]
    fn an_instance_of_a_version_that_does_not_say_it_reads_what_it_asks_for() {
        let mut redis = everything(0, 0, vec![consuming("a"), consuming("b")]);
        redis.streams[0].consumers[1].idle_ms = 300;
        let instances = redis.instances.unwrap();
        let readers = of(&redis.streams[0], Noted::Nobody, &instances);
        assert_eq!(names(&readers), [(Some("b"), false)]);
        assert_eq!(
            names(&of(&redis.streams[0], Noted::Unnamed, &instances)),
            [(None, true)]
        );
    }

    #[test]
    fn a_stream_is_not_read_once_its_entries_have_waited_and_nobody_alive_reads_it() {
        let found = |instances: Vec<Instance>, waits_s: u64, readers: Option<Vec<Reader>>| {
            let mut redis = everything(7, 0, instances);
            redis.streams[0].lag_s = Some(waits_s);
            redis.streams[0].readers = readers;
            not_read(&redis).len() == 1
        };
        let by = |presence| {
            Some(vec![Reader {
                name: Some("a".into()),
                presence: Some(presence),
                lease: true,
            }])
        };
        let shares = || vec![told("a", true, Presence::Alive)];
        assert!(found(shares(), WAITS_S, Some(Vec::new())));
        assert!(found(shares(), WAITS_S, by(Presence::Stalled)));
        assert!(!found(shares(), WAITS_S, by(Presence::Alive)));
        assert!(
            !found(shares(), WAITS_S - 1, Some(Vec::new())),
            "it is changing hands"
        );
        assert!(!found(shares(), WAITS_S, None), "nobody knows");
        assert!(
            !found(Vec::new(), WAITS_S, Some(Vec::new())),
            "there never were instances"
        );
        assert!(
            !found(
                vec![paused_for("a", 9, &["ClickHouse"])],
                WAITS_S,
                Some(Vec::new())
            ),
            "they wait for a store"
        );
    }
}
