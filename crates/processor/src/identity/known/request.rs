//! What PostgreSQL has to be asked about a batch, under lock.

use rustc_hash::FxHashSet;

use crate::config::PropertyOrder;
use crate::event::{Batch, Event};

use crate::identity::decision::resolve::Mapping;
use crate::identity::known::cache::needs_nothing;

/// What a transaction needs to know about the batch, by key index.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// Keys to create when they have no mapping.
    pub(crate) create: Vec<u32>,
    /// Keys whose persons may change.
    pub(crate) lock: Vec<u32>,
    /// Those of `create` of which nothing is known: in all likelihood they are new.
    pub(crate) new: FxHashSet<u32>,
}

impl Request {
    /// All keys that PostgreSQL is asked about, each once.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u32> {
        let mut seen = FxHashSet::default();
        let keys = self.create.iter().chain(&self.lock).copied();
        keys.filter(move |key| seen.insert(*key))
    }

    /// What PostgreSQL has to be asked. What may change is asked about even when a cache knows it, and created when
    /// PostgreSQL knows nothing of it.
    pub(crate) fn of(batch: &Batch, known: &[Option<Mapping>], order: PropertyOrder) -> Self {
        let mut request = Self::default();
        let mut locked = FxHashSet::default();
        // An instance may have died between merging and telling the others: the merge is looked at again.
        let is_left = |event: &Event| event.identify.is_some() && event.source.redelivered;
        let needs_nothing =
            |event: &Event| !is_left(event) && needs_nothing(event, order, |key| known[key as usize]);
        for event in batch.events.iter().filter(|event| !needs_nothing(event)) {
            for key in keys_of(event) {
                if locked.insert(key) {
                    request.lock.push(key);
                }
            }
        }
        let mut created = FxHashSet::default();
        let mut attached_first = FxHashSet::default();
        for event in &batch.events {
            // An anonymous id that first appears in an `$identify` gets no person of its own.
            if (locked.contains(&event.key) || known[event.key as usize].is_none())
                && !attached_first.contains(&event.key)
                && created.insert(event.key)
            {
                request.create.push(event.key);
            }
            let anonymous = event.identify.and_then(|identify| identify.anonymous);
            if let Some(anonymous) = anonymous
                && !created.contains(&anonymous)
            {
                attached_first.insert(anonymous);
            }
        }
        let is_new = |key: &&u32| known[**key as usize].is_none();
        request.new = request.create.iter().filter(is_new).copied().collect();
        request
    }

    /// Whether PostgreSQL has to be asked nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.lock.is_empty()
    }
}

/// The keys that an event is about.
fn keys_of(event: &Event) -> impl Iterator<Item = u32> {
    let anonymous = event.identify.and_then(|identify| identify.anonymous);
    std::iter::once(event.key).chain(anonymous)
}
