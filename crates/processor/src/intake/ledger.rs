//! The stream ids in flight, and how much more may be taken.
//!
//! An id is in the ledger from the moment it is taken until it is acknowledged. Three things follow from that one
//! set: an id we hold is never taken a second time, its idle time is refreshed while we hold it, and reading stops
//! while too many entries or bytes are held.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use stream_reply::{EntryBlock, StreamId};
use tokio::sync::Notify;

use crate::event::Source;

/// A larger entry counts twice: what is made of it on its way (a body, a letter) is as large again.
const LARGE: usize = 1 << 20;

fn weight(bytes: usize) -> usize {
    if bytes > LARGE { 2 * bytes } else { bytes }
}

/// What is held for one id.
#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u32,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// Keyed by stream index and id.
    held: FxHashMap<(u16, StreamId), Held>,
    bytes: usize,
    /// What an entry of the block that was taken last has, on average.
    typical: usize,
}

/// The ledger. Shared by reference.
#[derive(Debug)]
pub struct Ledger {
    state: Mutex<State>,
    released: Notify,
    most_entries: usize,
    most_bytes: usize,
}

impl Ledger {
    /// A ledger that lets this many entries and bytes be held before reading stops.
    pub fn new(most_entries: usize, most_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            released: Notify::new(),
            most_entries,
            most_bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves counters at worst too high: reading stops earlier, nothing is lost.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the entries of a block. Returns the indices of those that are held already and must be left alone,
    /// ascending.
    pub fn take(&self, stream: u16, block: &EntryBlock) -> Vec<usize> {
        let now = Instant::now();
        let mut state = self.state();
        let mut held_already = Vec::new();
        for (index, entry) in block.iter().enumerate() {
            let bytes = u32::try_from(weight(entry.bytes())).unwrap_or(u32::MAX);
            match state.held.entry((stream, entry.id())) {
                std::collections::hash_map::Entry::Occupied(_) => held_already.push(index),
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(Held { bytes, since: now });
                    state.bytes += bytes as usize;
                }
            }
        }
        state.typical = weight(block.byte_len() / block.len().max(1));
        held_already
    }

    /// Whether a block may be taken too: when it fits, or nothing else is held.
    fn has_room_for(&self, bytes: usize) -> bool {
        let state = self.state();
        state.held.is_empty() || state.bytes + weight(bytes) <= self.most_bytes
    }

    /// Waits until a block of this size may be taken: a reply brings what was asked for, however large that is.
    pub async fn wait_for_room(&self, bytes: usize) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.has_room_for(bytes) {
                return;
            }
            released.await;
        }
    }

    /// Lets go of acknowledged ids.
    pub fn release(&self, sources: impl Iterator<Item = Source>) {
        let mut state = self.state();
        for source in sources {
            if let Some(held) = state.held.remove(&(source.stream, source.id)) {
                state.bytes -= held.bytes as usize;
            }
        }
        drop(state);
        self.released.notify_waiters();
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.state().held.len()
    }

    /// Entries held, and their bytes.
    pub fn held(&self) -> (usize, usize) {
        let state = self.state();
        (state.held.len(), state.bytes)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more entries may be taken now; 0 while either bound is reached.
    pub fn capacity(&self) -> usize {
        let state = self.state();
        if state.bytes >= self.most_bytes {
            0
        } else {
            self.most_entries.saturating_sub(state.held.len())
        }
    }

    /// How many entries to ask for, of up to `wanted`: as many as will fit if they are as large as those before them. A
    /// reply waits in the server's memory for as long as we have no room for it.
    pub fn worth_asking_for(&self, wanted: usize) -> usize {
        let state = self.state();
        let fit = self.most_bytes.saturating_sub(state.bytes) / state.typical.max(1);
        wanted.min(fit).max(1)
    }

    /// Waits until at least `wanted` more entries may be taken (or as many as may ever be).
    pub async fn wait_for_capacity(&self, wanted: usize) -> usize {
        let wanted = wanted.min(self.most_entries).max(1);
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Registered before the check, so that a release in between is not missed.
            released.as_mut().enable();
            let capacity = self.capacity();
            if capacity >= wanted {
                return capacity;
            }
            released.await;
        }
    }

    /// Whether an entry is held.
    pub fn holds(&self, source: Source) -> bool {
        self.state().held.contains_key(&(source.stream, source.id))
    }

    /// Waits until an entry has been let go of.
    pub async fn wait_for_release(&self, stream: u16, id: StreamId) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if !self.state().held.contains_key(&(stream, id)) {
                return;
            }
            released.await;
        }
    }

    /// Ids of one stream that have been held for longer than `age`.
    pub fn held_longer_than(&self, stream: u16, age: Duration) -> Vec<StreamId> {
        let state = self.state();
        let old = state
            .held
            .iter()
            .filter(|((s, _), held)| *s == stream && held.since.elapsed() >= age);
        old.map(|((_, id), _)| *id).collect()
    }
}
