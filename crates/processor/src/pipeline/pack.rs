//! Resolved batches into inserts. While a backlog waits, batches are joined until they make a large insert: the engine
//! spends a fraction per row on it, and makes few parts. Identity works in smaller steps meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use crate::identity::Resolved;

use super::settle::KeysBeingSet;

/// Bounds of what is inserted at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackBounds {
    /// Closed at this many entries.
    pub entries: usize,
    /// Most bytes that their texts take.
    pub bytes: usize,
    /// Waits for more no longer than until its first entry was taken so long ago.
    pub age: Duration,
}

/// Batches that are to be inserted together, in stream order.
pub(super) struct Pack {
    resolved: Resolved,
    keys: Vec<KeysBeingSet>,
    bytes: usize,
    since: Instant,
    bounds: PackBounds,
}

impl Pack {
    pub(super) fn new(first: Resolved, bounds: PackBounds) -> Self {
        Self {
            bytes: first.batch.text_bytes(),
            since: first.batch.since.map_or_else(Instant::now, Instant::from_std),
            resolved: first,
            keys: Vec::new(),
            bounds,
        }
    }

    /// Takes the next batch too, or gives it back: together they would be too large, or one of them has events that failed
    /// alone, which name their texts and keys by where they stand in their own batch.
    ///
    /// # Errors
    /// The batch.
    pub(super) fn join(&mut self, next: Box<Resolved>) -> Result<(), Box<Resolved>> {
        let bytes = self.bytes + next.batch.text_bytes();
        let failed_alone = !self.resolved.failed_alone.is_empty() || !next.failed_alone.is_empty();
        if failed_alone || bytes > self.bounds.bytes {
            return Err(next);
        }
        self.bytes = bytes;
        self.resolved.join(*next);
        Ok(())
    }

    /// Person keys of its events are being set.
    pub(super) fn waits_for(&mut self, keys: Option<KeysBeingSet>) {
        self.keys.extend(keys);
    }

    /// Whether it is not to wait for more.
    pub(super) fn is_due(&self) -> bool {
        !self.resolved.batch.more_follows || self.is_full() || Instant::now() >= self.due_by_age()
    }

    /// Whether it is as large as it may be.
    pub(super) fn is_full(&self) -> bool {
        self.resolved.batch.len() >= self.bounds.entries || self.bytes >= self.bounds.bytes
    }

    /// When it has waited for long enough.
    pub(super) fn due_by_age(&self) -> Instant {
        self.since + self.bounds.age
    }

    /// Whether it takes so much memory that nothing should be inserted beside it.
    pub(super) fn is_large(&self) -> bool {
        self.bytes > self.bounds.bytes / 2
    }

    /// What is to land, and the person keys that are being set meanwhile.
    pub(super) fn into_parts(self) -> (Resolved, Vec<KeysBeingSet>) {
        (self.resolved, self.keys)
    }
}

#[cfg(test)]
mod tests {
    use stream_reply::{EntryBlock, StreamId};

    use super::*;
    use crate::event::field::FIELDS;
    use crate::event::{Batch, decode};
    use crate::runtime::failed_alone::FailedAlone;
    use crate::stores::{Store, StoreError};

    fn bounds(entries: usize, bytes: usize) -> PackBounds {
        PackBounds {
            entries,
            bytes,
            age: Duration::from_mins(10),
        }
    }

    /// A batch with entries of these ids.
    fn resolved(ids: std::ops::Range<u64>, more_follows: bool) -> Resolved {
        let entries = ids.map(|ms| {
            let fields = [
                ("project_id", "11111111-1111-1111-1111-111111111111"),
                ("distinct_id", "d"),
                ("event_name", "e"),
            ];
            (StreamId::new(ms, 0), fields)
        });
        let mut batch = Batch::default();
        let block = EntryBlock::of("s", &FIELDS, entries.collect::<Vec<_>>());
        decode::append(&mut batch, block, 0, "s", false, &[]);
        batch.more_follows = more_follows;
        Resolved::without_events(batch)
    }

    #[test]
    fn a_pack_grows_while_more_follows() {
        let mut pack = Pack::new(resolved(0..3, true), bounds(8, 1 << 20));
        assert!(!pack.is_due());
        assert!(pack.join(Box::new(resolved(3..6, true))).is_ok());
        assert!(!pack.is_due());
        assert!(pack.join(Box::new(resolved(6..9, true))).is_ok());
        assert!(
            pack.is_due() && pack.is_full(),
            "it has as many entries as it may"
        );
        let ids: Vec<u64> = pack.into_parts().0.batch.sources().map(|s| s.id.ms).collect();
        assert_eq!(ids, (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn a_pack_waits_for_nothing_once_nothing_follows() {
        let mut pack = Pack::new(resolved(0..3, true), bounds(8, 1 << 20));
        assert!(pack.join(Box::new(resolved(3..3, false))).is_ok());
        assert!(pack.is_due() && !pack.is_full());
        assert!(Pack::new(resolved(0..1, false), bounds(8, 1 << 20)).is_due());
    }

    #[test]
    fn a_batch_that_would_make_a_pack_too_large_is_given_back() {
        let first = resolved(0..3, true);
        let bytes = first.batch.text_bytes();
        let mut pack = Pack::new(first, bounds(100, bytes + bytes / 2));
        assert!(pack.is_large());
        let back = pack.join(Box::new(resolved(3..6, true))).unwrap_err();
        assert_eq!(back.batch.len(), 3);
        assert_eq!(pack.into_parts().0.batch.len(), 3);
    }

    #[test]
    fn a_batch_with_events_that_failed_alone_is_joined_with_none() {
        let failed = || {
            let mut batch = resolved(3..6, true);
            let event = batch.batch.events.remove(0);
            batch.failed_alone.push(FailedAlone {
                event,
                person: None,
                error: StoreError::transient(Store::Postgres, "resolving persons", "no".to_owned()),
                attempts: 1,
            });
            Box::new(batch)
        };
        let mut pack = Pack::new(resolved(0..3, true), bounds(100, 1 << 20));
        assert!(pack.join(failed()).is_err());
        let mut pack = Pack::new(*failed(), bounds(100, 1 << 20));
        assert!(pack.join(Box::new(resolved(6..9, true))).is_err());
    }

    #[test]
    fn an_old_pack_waits_no_longer() {
        let bounds = PackBounds {
            age: Duration::ZERO,
            ..bounds(8, 1 << 20)
        };
        assert!(Pack::new(resolved(0..1, true), bounds).is_due());
    }
}
