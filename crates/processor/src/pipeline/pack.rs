//! Resolved batches into inserts. While a backlog waits, batches are joined until they make a large insert: the engine
//! spends a fraction per row on it, and makes few parts. Identity works in smaller steps meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use crate::identity::Resolved;

/// Bounds of what is inserted at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackBounds {
    /// Closed at this many entries.
    pub entries: usize,
    /// Most bytes that their texts take.
    pub bytes: usize,
    /// Waits for more no longer than this.
    pub age: Duration,
}

/// Batches that are to be inserted together, in stream order.
pub(super) struct Pack {
    resolved: Resolved,
    bytes: usize,
    since: Instant,
    bounds: PackBounds,
}

impl Pack {
    pub(super) fn new(first: Resolved, bounds: PackBounds) -> Self {
        Self {
            bytes: first.batch.text_bytes(),
            resolved: first,
            since: Instant::now(),
            bounds,
        }
    }

    /// Takes the next batch too, or gives it back: together they would be too large.
    ///
    /// # Errors
    /// The batch.
    pub(super) fn join(&mut self, next: Resolved) -> Result<(), Resolved> {
        let bytes = self.bytes + next.batch.text_bytes();
        if bytes > self.bounds.bytes {
            return Err(next);
        }
        self.bytes = bytes;
        self.resolved.join(next);
        Ok(())
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

    pub(super) fn into_resolved(self) -> Resolved {
        self.resolved
    }
}
