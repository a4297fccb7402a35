//! Which of several streams an event belongs to. Producers do the same: docs/streams.md.

/// What decides about an event's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Its project: all rules hold as with a single stream.
    Project,
    /// Its project and distinct id, for a project that is too large for one stream.
    DistinctId,
}

/// The place of an event's stream among `streams`: CRC-32 (ISO-HDLC, that of zlib) of `project` or of
/// `project:distinct_id`, modulo their number.
pub fn partition(spread: Spread, project: &str, distinct_id: &str, streams: usize) -> usize {
    let mut crc = crc32fast::Hasher::new();
    crc.update(project.as_bytes());
    if spread == Spread::DistinctId {
        crc.update(b":");
        crc.update(distinct_id.as_bytes());
    }
    crc.finalize() as usize % streams.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = "11111111-1111-1111-1111-111111111111";

    /// As `python3 -c 'import zlib; print(zlib.crc32("…".encode()) % 4)'` and the page for producers have them.
    #[test]
    fn places_are_those_that_other_languages_find() {
        for (spread, distinct_id, streams, place) in [
            (Spread::Project, "anything", 4, 1),
            (Spread::DistinctId, "user-1", 4, 2),
            (Spread::DistinctId, "Zoë 🦀", 4, 0),
            (Spread::DistinctId, "user-1", 16, 10),
            (Spread::Project, "", 1, 0),
        ] {
            assert_eq!(
                partition(spread, PROJECT, distinct_id, streams),
                place,
                "{distinct_id} {streams}"
            );
        }
    }
}
