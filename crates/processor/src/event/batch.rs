//! A batch: some stream entries, the events they hold, and the entries that were refused. The unit of every later stage.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexSet;
use stream_reply::{Entry, EntryBlock};
use uuid::Uuid;

use super::field::Field;
use super::id::ProjectId;
use super::key::{Key, KeyRef};
use super::reject::{Reject, Warning};
use super::source::Source;
use crate::traces::Trace;

/// What an `$identify` asks for ("What `$identify` does" in docs/contract.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentifyWith {
    /// The usable anonymous id, as an index into the batch's keys. Without one the user is only marked as identified.
    pub anonymous: Option<u32>,
}

/// A valid event. Its texts stay in the block of its entry.
#[derive(Debug, Clone)]
pub struct Event {
    /// The entry it came from.
    pub source: Source,
    /// Index of the block that holds its entry.
    pub block: u32,
    /// Index of its entry within the block.
    pub entry: u32,
    /// The project it belongs to.
    pub project: ProjectId,
    /// Event id, given or derived.
    pub event_id: Uuid,
    /// Event time, UTC milliseconds.
    pub timestamp: i64,
    /// Hash of what its row is sorted by: equal rows have one hash, and nearly always others another.
    pub sort_key: u64,
    /// Its distinct id, as an index into the batch's keys.
    pub key: u32,
    /// Set when the event is an `$identify`.
    pub identify: Option<IdentifyWith>,
    /// The members of `properties` and `user_properties`; a text that is no JSON object has none.
    pub members: Members,
}

impl Event {
    /// Whether `user_properties` is a JSON object with at least one member.
    pub fn has_user_properties(&self) -> bool {
        self.members.middle < self.members.end
    }

    /// Number of members of `properties` and `user_properties` together.
    pub fn member_count(&self) -> usize {
        (self.members.end - self.members.first) as usize
    }
}

/// The range of a batch's members that belong to an event: from `first` those of `properties`, from `middle` to `end`
/// those of `user_properties`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Members {
    pub(super) first: u32,
    pub(super) middle: u32,
    pub(super) end: u32,
}

impl Members {
    fn move_by(&mut self, members: u32) {
        self.first += members;
        self.middle += members;
        self.end += members;
    }
}

/// Where a member of a JSON object stands in its field's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) key: (u32, u32),
    pub(super) value: (u32, u32),
}

impl Member {
    /// The member whose key literal and value are these parts of `text`.
    pub(super) fn of(text: &str, key: &str, value: &str) -> Self {
        let span = |part: &str| {
            let start = part.as_ptr() as usize - text.as_ptr() as usize;
            (start as u32, (start + part.len()) as u32)
        };
        Self {
            key: span(key),
            value: span(value),
        }
    }
}

/// Some stream entries on their way through the stages, in stream order. One stage owns it at a time.
#[derive(Debug, Default)]
pub struct Batch {
    /// The texts of all entries.
    pub blocks: Vec<EntryBlock>,
    /// Events of the valid entries.
    pub events: Vec<Event>,
    /// Distinct keys of the events, in order of appearance.
    pub keys: IndexSet<Key>,
    /// Entries refused so far.
    pub rejects: Vec<Reject>,
    /// Entries whose fields are gone (trimmed while pending): nothing to do but acknowledge.
    pub gone: Vec<Source>,
    /// Warnings about events that land.
    pub warnings: Vec<Warning>,
    /// Members of the events' JSON objects, in order. Validation reads them once; property writes and the catalogue use
    /// them.
    pub(super) members: Vec<Member>,
    /// Holds suspects: entries of which one may crash the process. Nothing else is on its way meanwhile.
    pub solitary: bool,
    /// More entries were waiting when it was closed: another batch comes soon, if only an empty one.
    pub more_follows: bool,
    /// When its first entry was taken.
    pub since: Option<Instant>,
    /// What becomes of it.
    pub trace: Trace,
    /// Goes with the batch, or with the last one that it was joined to: whoever gave it learns when that is.
    pub on_its_way: Option<Arc<dyn Any + Send + Sync>>,
}

impl Batch {
    /// An empty batch for suspects.
    pub fn solitary() -> Self {
        Self {
            solitary: true,
            ..Self::default()
        }
    }

    /// A batch without entries, which says whether more follows.
    pub fn nothing(more_follows: bool) -> Self {
        Self {
            more_follows,
            ..Self::default()
        }
    }

    /// A batch that holds one event of this batch, over the same texts.
    #[must_use]
    pub fn only(&self, event: &Event) -> Self {
        let mut only = Self {
            blocks: self.blocks.clone(),
            events: vec![event.clone()],
            ..Self::default()
        };
        only.keys.insert(self.keys[event.key as usize].clone());
        let event = &mut only.events[0];
        (event.key, event.identify, event.members) = (0, None, Members::default());
        only
    }

    /// Appends the entries of the batch that came right after this one.
    pub fn join(&mut self, next: Self) {
        let first_block = self.blocks.len() as u32;
        let first_member = self.members.len() as u32;
        let keys: Vec<u32> = next
            .keys
            .into_iter()
            .map(|key| self.keys.insert_full(key).0 as u32)
            .collect();
        // Not by doubling: a joined batch is large, and there are few joins.
        self.events.reserve_exact(next.events.len());
        self.members.reserve_exact(next.members.len());
        self.events.extend(next.events.into_iter().map(|mut event| {
            event.block += first_block;
            event.key = keys[event.key as usize];
            if let Some(identify) = &mut event.identify {
                identify.anonymous = identify.anonymous.map(|key| keys[key as usize]);
            }
            event.members.move_by(first_member);
            event
        }));
        self.blocks.extend(next.blocks);
        self.members.extend(next.members);
        self.rejects.extend(next.rejects);
        self.gone.extend(next.gone);
        self.warnings.extend(next.warnings);
        self.solitary |= next.solitary;
        self.more_follows = next.more_follows;
        self.since = self.since.or(next.since);
        self.trace.join(next.trace);
        self.on_its_way = self.on_its_way.take().or(next.on_its_way);
    }

    /// Bytes of memory that the texts of its entries take.
    pub fn text_bytes(&self) -> usize {
        self.blocks.iter().map(EntryBlock::byte_len).sum()
    }

    /// Number of entries held: events, rejects and those that are gone.
    pub fn len(&self) -> usize {
        self.events.len() + self.rejects.len() + self.gone.len()
    }

    /// Whether no entry is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry an event came from.
    pub fn entry(&self, event: &Event) -> Entry<'_> {
        self.blocks[event.block as usize].entry(event.entry as usize)
    }

    /// The text of a field of an event's entry.
    pub fn text(&self, event: &Event, field: Field) -> &str {
        field.of(self.entry(event))
    }

    /// The members of an event's `properties`: key literals and values, as they stand in the text.
    pub fn properties(&self, event: &Event) -> impl Iterator<Item = (&str, &str)> {
        self.members(
            event,
            Field::Properties,
            event.members.first,
            event.members.middle,
        )
    }

    /// The members of an event's `user_properties`.
    pub fn user_properties(&self, event: &Event) -> impl Iterator<Item = (&str, &str)> {
        self.members(
            event,
            Field::UserProperties,
            event.members.middle,
            event.members.end,
        )
    }

    fn members(&self, event: &Event, field: Field, from: u32, to: u32) -> impl Iterator<Item = (&str, &str)> {
        let text = self.text(event, field);
        let part = move |(start, end): (u32, u32)| &text[start as usize..end as usize];
        let members = &self.members[from as usize..to as usize];
        members
            .iter()
            .map(move |member| (part(member.key), part(member.value)))
    }

    /// The index of a key, added when new.
    pub(super) fn intern(&mut self, project: ProjectId, project_text: &str, distinct_id: &str) -> u32 {
        if let Some(index) = self.keys.get_index_of(&KeyRef::new(project, distinct_id)) {
            return index as u32;
        }
        let key = Key::spelled(project, project_text, distinct_id);
        self.keys.insert_full(key).0 as u32
    }

    /// Every entry held, to be acknowledged.
    pub fn sources(&self) -> impl Iterator<Item = Source> + '_ {
        let events = self.events.iter().map(|e| e.source);
        let rejects = self.rejects.iter().map(|r| r.source);
        events.chain(rejects).chain(self.gone.iter().copied())
    }

    /// The lowest and the highest entry id held, of whatever stream, as Redis writes them. For logs.
    pub fn id_range(&self) -> [String; 2] {
        let ids = || self.sources().map(|source| source.id);
        [ids().min(), ids().max()].map(|id| id.map_or_else(String::new, |id| id.to_string()))
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
