//! The stream ids in flight, and how much more may be taken.
//!
//! An id is in the ledger from the moment it is taken until it is acknowledged. Four things follow from that one
//! set: an id we hold is never taken a second time, its idle time is refreshed while we hold it, reading stops while too
//! many entries or bytes are held, and it is known since when Redis has not confirmed that an entry is still ours.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use stream_reply::{EntryBlock, StreamId};
use tokio::sync::{Notify, watch};

use crate::event::Source;
use crate::runtime::moment::Moment;

/// A larger entry counts four times: what is made of it on its way (a body, a letter, what a reply holds of the next one)
/// is as large again, and few of them fill what many small ones share.
const LARGE: usize = 1 << 20;

fn weight(bytes: usize) -> usize {
    if bytes > LARGE { 4 * bytes } else { bytes }
}

/// What is held for one id.
#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u32,
    /// When it was ours for certain; `None` when that is doubtful.
    ours: Option<Moment>,
    /// It is another's now: its row is left to that one, and so is its acknowledgement.
    lost: bool,
}

impl Held {
    fn is_unconfirmed(&self, now: Moment, age: Duration) -> bool {
        !self.lost && self.ours.is_none_or(|ours| now.since(ours) >= age)
    }
}

/// What Redis gives to us from a moment on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    /// The moment.
    pub(crate) at: Moment,
    /// How often a stream had been doubted by then.
    pub(crate) doubts: u64,
}

impl Given {
    /// How long it has been on its way, at most.
    pub(crate) fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Keyed by stream index and id.
    held: FxHashMap<(u16, StreamId), Held>,
    bytes: usize,
    /// Everything that is held was ours at this moment or later; `None` when that is not known of all of it. It spares a
    /// look at each entry.
    all_ours_since: Option<Moment>,
    /// How often a stream was doubted.
    doubts: u64,
    /// Whatever is held is another's, also what is taken from now on: it was given to our name.
    all_lost: bool,
    /// What an entry of the block that was taken last has, on average.
    typical: usize,
}

impl State {
    /// An entry was ours at this moment.
    fn note_ours(&mut self, at: Moment) {
        self.all_ours_since = self.all_ours_since.map(|since| since.or_earlier(at));
    }

    /// Since when all that is held is ours; `None` when some of it may be another's.
    fn oldest(&self) -> Option<Moment> {
        let mut all = self.held.values();
        all.try_fold(Moment::now(), |oldest, held| {
            held.ours
                .filter(|_| !held.lost)
                .map(|ours| oldest.or_earlier(ours))
        })
    }
}

/// The ledger. Shared by reference.
#[derive(Debug)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    released: Notify,
    /// Whether the reader waits for room, and nothing has been let go of since it began to.
    full: watch::Sender<bool>,
    most_entries: usize,
    most_bytes: usize,
}

impl Ledger {
    /// A ledger that lets this many entries and bytes be held before reading stops.
    pub(crate) fn new(most_entries: usize, most_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            released: Notify::new(),
            full: watch::Sender::new(false),
            most_entries,
            most_bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves counters at worst too high: reading stops earlier, nothing is lost.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what is asked of Redis now.
    pub(crate) fn given_from_now(&self) -> Given {
        let doubts = self.doubts();
        Given {
            at: Moment::now(),
            doubts,
        }
    }

    /// Takes the entries of a block that were given to us then or later. Where a stream was doubted while they were on their
    /// way, they may be another's, like those that were held. Returns the indices of those that are held already and must be
    /// left alone, ascending.
    pub(crate) fn take(&self, stream: u16, block: &EntryBlock, given: Given) -> Vec<usize> {
        let mut state = self.state();
        let lost = state.all_lost;
        let ours = (!lost && given.doubts == state.doubts).then_some(given.at);
        if state.held.is_empty() {
            state.all_ours_since = ours;
        }
        match ours {
            Some(at) => state.note_ours(at),
            None => state.all_ours_since = None,
        }
        let mut held_already = Vec::new();
        for (index, entry) in block.iter().enumerate() {
            let bytes = u32::try_from(weight(entry.bytes())).unwrap_or(u32::MAX);
            match state.held.entry((stream, entry.id())) {
                std::collections::hash_map::Entry::Occupied(_) => held_already.push(index),
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(Held { bytes, ours, lost });
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
    pub(crate) async fn wait_for_room(&self, bytes: usize) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.has_room_for(bytes) {
                return;
            }
            self.full.send_replace(true);
            released.await;
        }
    }

    /// Waits until the reader waits for room: nothing more comes before something of what is held has landed.
    pub(crate) async fn wait_until_full(&self) {
        let mut full = self.full.subscribe();
        // The sender lives as long as the ledger.
        let _never_closed = full.wait_for(|full| *full).await;
    }

    /// Lets go of acknowledged ids.
    pub(crate) fn release(&self, sources: impl Iterator<Item = Source>) {
        let mut state = self.state();
        for source in sources {
            if let Some(held) = state.held.remove(&(source.stream, source.id)) {
                state.bytes -= held.bytes as usize;
            }
        }
        drop(state);
        self.full.send_replace(false);
        self.released.notify_waiters();
    }

    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.state().held.len()
    }

    /// Entries held, and their bytes.
    pub(crate) fn held(&self) -> (usize, usize) {
        let state = self.state();
        (state.held.len(), state.bytes)
    }

    /// How many more entries may be taken now; 0 while either bound is reached.
    pub(crate) fn capacity(&self) -> usize {
        let state = self.state();
        if state.bytes >= self.most_bytes {
            0
        } else {
            self.most_entries.saturating_sub(state.held.len())
        }
    }

    /// How many entries to ask for, of up to `wanted`: as many as will fit if they are as large as those before them. A
    /// reply waits in the server's memory for as long as we have no room for it.
    pub(crate) fn worth_asking_for(&self, wanted: usize) -> usize {
        let state = self.state();
        let fit = self.most_bytes.saturating_sub(state.bytes) / state.typical.max(1);
        wanted.min(fit).max(1)
    }

    /// Waits until at least `wanted` more entries may be taken (or as many as may ever be).
    pub(crate) async fn wait_for_capacity(&self, wanted: usize) -> usize {
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
            self.full.send_replace(true);
            released.await;
        }
    }

    /// Whether any entry of a stream is held.
    pub(crate) fn holds_of(&self, stream: u16) -> bool {
        self.state().held.keys().any(|(of, _)| *of == stream)
    }

    /// Whether an entry is held.
    pub(crate) fn holds(&self, source: Source) -> bool {
        self.state().held.contains_key(&(source.stream, source.id))
    }

    /// Waits until an entry has been let go of.
    pub(crate) async fn wait_for_release(&self, stream: u16, id: StreamId) {
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

    /// Ids of one stream that were not confirmed to be ours for `age`, ascending.
    pub(crate) fn unconfirmed(&self, stream: u16, age: Duration) -> Vec<StreamId> {
        let (state, now) = (self.state(), Moment::now());
        let old = state
            .held
            .iter()
            .filter(|((s, _), held)| *s == stream && held.is_unconfirmed(now, age));
        let mut old: Vec<StreamId> = old.map(|((_, id), _)| *id).collect();
        old.sort_unstable();
        old
    }

    /// Those of some entries that were not confirmed to be ours for `age`. What is not held is left out.
    pub(crate) fn unconfirmed_among(
        &self,
        sources: impl Iterator<Item = Source>,
        age: Duration,
    ) -> Vec<Source> {
        let (state, now) = (self.state(), Moment::now());
        let is_old = |source: &Source| {
            let held = state.held.get(&(source.stream, source.id));
            held.is_some_and(|held| held.is_unconfirmed(now, age))
        };
        sources.filter(is_old).collect()
    }

    /// Whether one of some entries is another's, or was not confirmed to be ours for `age`.
    pub(crate) fn is_doubtful(&self, mut sources: impl Iterator<Item = Source>, age: Duration) -> bool {
        let (mut state, now) = (self.state(), Moment::now());
        let is_recent = |since: Option<Moment>| since.is_some_and(|since| now.since(since) < age);
        if is_recent(state.all_ours_since) {
            return false;
        }
        state.all_ours_since = state.oldest();
        if is_recent(state.all_ours_since) {
            return false;
        }
        sources.any(|source| {
            let held = state.held.get(&(source.stream, source.id));
            held.is_some_and(|held| held.lost || held.is_unconfirmed(now, age))
        })
    }

    /// These were ours when that was asked of Redis. What was doubted since then is not settled by it.
    pub(crate) fn confirm(&self, stream: u16, ids: impl IntoIterator<Item = StreamId>, given: Given) {
        let mut state = self.state();
        if given.doubts != state.doubts {
            return;
        }
        state.note_ours(given.at);
        for id in ids {
            if let Some(held) = state.held.get_mut(&(stream, id)) {
                held.ours = Some(given.at);
            }
        }
    }

    /// These are another's now. For good: the instance that holds one has left it alone since.
    pub(crate) fn lose(&self, stream: u16, ids: impl IntoIterator<Item = StreamId>) {
        let mut state = self.state();
        for id in ids {
            if let Some(held) = state.held.get_mut(&(stream, id)) {
                held.lost = true;
                state.all_ours_since = None;
            }
        }
    }

    /// All of it is another's now, and so is what is still on its way to us.
    pub(crate) fn lose_all(&self) {
        let mut state = self.state();
        state.all_lost = true;
        state.all_ours_since = None;
        for held in state.held.values_mut() {
            held.lost = true;
        }
    }

    /// Those of some entries that we hold and that are another's.
    pub(crate) fn lost_among(&self, sources: &[Source]) -> Vec<Source> {
        let state = self.state();
        if state.all_ours_since.is_some() {
            return Vec::new();
        }
        let is_lost = |source: &&Source| {
            let held = state.held.get(&(source.stream, source.id));
            held.is_some_and(|held| held.lost)
        };
        sources.iter().filter(is_lost).copied().collect()
    }

    /// How often it was said of a stream that what is held may be another's.
    pub(crate) fn doubts(&self) -> u64 {
        self.state().doubts
    }

    /// Whatever is held of a stream may be another's.
    pub(crate) fn doubt(&self, stream: u16) {
        let mut state = self.state();
        state.doubts += 1;
        state.all_ours_since = None;
        for ((of, _), held) in &mut state.held {
            if *of == stream {
                held.ours = None;
            }
        }
    }
}
