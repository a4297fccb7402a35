//! From entries to events: validation, before anything is looked up. The rules are in docs/contract.md, "Fields of an
//! entry", "Distinct ids", "Event times" and "Rejected events".
//!
//! An invalid entry is refused by itself; nothing here fails a batch.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;
use stream_reply::{Body, Entry, EntryBlock};
use uuid::Uuid;

use super::batch::{Batch, Event, IdentifyWith, Member, Members};
use super::field::Field;
use super::id::{self, IdFault, ProjectId};
use super::json;
use super::reject::{Reason, Reject, Warning, WarningKind};
use super::source::Source;
use super::timestamp;

/// Most properties of an event. With more, neither the event's name nor theirs are recorded in the catalogue.
pub const MOST_PROPERTIES: usize = 10_000;

/// Appends the entries of `block` to `batch` in their order, without those at the indices in `skip`, which are sorted.
///
/// Missing event ids derive from `stream_name`. `redelivered`: the group gave these entries to some consumer before.
pub fn append(
    batch: &mut Batch,
    block: EntryBlock,
    stream: u16,
    stream_name: &str,
    redelivered: bool,
    skip: &[usize],
) {
    let block_index = batch.blocks.len() as u32;
    for (index, entry) in block.iter().enumerate() {
        if skip.binary_search(&index).is_ok() {
            continue;
        }
        let source = Source {
            stream,
            id: entry.id(),
            redelivered,
        };
        match entry.body() {
            Body::Deleted => batch.gone.push(source),
            Body::Oversized { bytes } => {
                batch
                    .rejects
                    .push(refuse(source, entry, Reason::EntryTooLarge(bytes)));
            }
            Body::Fields => match Checked::of(entry, stream_name) {
                Ok(checked) => push(batch, source, entry, (block_index, index as u32), &checked),
                Err(reason) => batch.rejects.push(refuse(source, entry, reason)),
            },
        }
    }
    batch.blocks.push(block);
}

/// What validation has read of an entry.
struct Checked {
    project: ProjectId,
    event_id: Uuid,
    timestamp: i64,
}

impl Checked {
    /// Hash of what the row of an event of this name is sorted by.
    fn sort_key(&self, event_name: &str) -> u64 {
        let mut hasher = FxHasher::default();
        self.event_id.hash(&mut hasher);
        self.project.hash(&mut hasher);
        self.timestamp.hash(&mut hasher);
        event_name.hash(&mut hasher);
        hasher.finish()
    }

    fn of(entry: Entry<'_>, stream_name: &str) -> Result<Self, Reason> {
        let required = [Field::ProjectId, Field::EventName, Field::DistinctId];
        if required.iter().any(|field| is_blank(field.of(entry))) {
            let missing = required.iter().filter(|field| is_blank(field.of(entry)));
            return Err(Reason::MissingFields(missing.map(|field| field.name()).collect()));
        }
        let project = project(entry).ok_or(Reason::InvalidProjectId)?;
        id::check(Field::DistinctId.of(entry)).map_err(|fault| match fault {
            IdFault::Blank | IdFault::Illegal => Reason::IllegalDistinctId,
            IdFault::TooLong => Reason::DistinctIdTooLong,
            IdFault::Nul => Reason::InvalidDistinctId,
        })?;
        let event_id = match Field::EventId.of(entry) {
            "" => id::derived_event(stream_name, entry.id()),
            given => uuid(given).ok_or(Reason::InvalidEventId)?,
        };
        let timestamp = match Field::Timestamp.of(entry) {
            "" => timestamp::of_entry(entry.id().ms),
            given => timestamp::parse(given),
        };
        let timestamp = timestamp.ok_or(Reason::InvalidTimestamp)?;
        Ok(Self {
            project,
            event_id,
            timestamp,
        })
    }
}

fn is_blank(text: &str) -> bool {
    text.trim_start().is_empty()
}

/// The project that an entry names.
fn project(entry: Entry<'_>) -> Option<ProjectId> {
    uuid(Field::ProjectId.of(entry)).map(ProjectId)
}

/// Reads a UUID in its 36-character form, in upper or lower case.
pub fn uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 {
        Uuid::try_parse(text).ok()
    } else {
        None
    }
}

fn push(batch: &mut Batch, source: Source, entry: Entry<'_>, (block, index): (u32, u32), checked: &Checked) {
    let project_text = Field::ProjectId.of(entry);
    let distinct_id = Field::DistinctId.of(entry);
    let event_name = Field::EventName.of(entry);
    let warn = |batch: &mut Batch, kind, reason: &str| {
        let warning = Warning::new(checked.project, kind, Some(event_name), Some(distinct_id), reason);
        batch.warnings.push(warning);
    };

    let first = batch.members.len() as u32;
    if !read_members(batch, Field::Properties.of(entry)) {
        let what = "properties is not a JSON object";
        warn(batch, WarningKind::MalformedProperties, what);
    }
    let middle = batch.members.len() as u32;
    if !read_members(batch, Field::UserProperties.of(entry)) {
        let what = "user_properties is not a JSON object";
        warn(batch, WarningKind::MalformedProperties, what);
    }
    let end = batch.members.len() as u32;
    if (end - first) as usize > MOST_PROPERTIES {
        let what = "more than 10000 properties: their names and the event's are not recorded";
        warn(batch, WarningKind::TooManyProperties, what);
    }

    let key = batch.intern(checked.project, project_text, distinct_id);
    let identify = (event_name == "$identify").then(|| {
        let anonymous_id = Field::AnonymousId.of(entry);
        let anonymous = match id::check(anonymous_id) {
            Ok(()) if anonymous_id == distinct_id => {
                let what = "anonymous_id is the distinct_id itself: nothing merged";
                warn(batch, WarningKind::IllegalAnonymousId, what);
                None
            }
            Ok(()) => Some(batch.intern(checked.project, project_text, anonymous_id)),
            Err(IdFault::Blank) => None,
            Err(fault) => {
                let what = match fault {
                    IdFault::TooLong => "anonymous_id is longer than 400 characters: nothing merged",
                    IdFault::Nul => "anonymous_id holds a NUL character: nothing merged",
                    _ => "illegal anonymous_id value: nothing merged",
                };
                warn(batch, WarningKind::IllegalAnonymousId, what);
                None
            }
        };
        IdentifyWith { anonymous }
    });

    batch.events.push(Event {
        source,
        block,
        entry: index,
        project: checked.project,
        event_id: checked.event_id,
        timestamp: checked.timestamp,
        sort_key: checked.sort_key(event_name),
        key,
        identify,
        members: Members { first, middle, end },
    });
}

/// Notes the members of a JSON object. `true` when the text is one, or empty.
fn read_members(batch: &mut Batch, text: &str) -> bool {
    let before = batch.members.len();
    let note = |key: &str, value: &str| batch.members.push(Member::of(text, key, value));
    let fine = text.is_empty() || json::members(text, note);
    if !fine {
        batch.members.truncate(before);
    }
    fine
}

/// Makes a reject of an entry: its fields, the reason, and the warning for its project.
pub fn refuse(source: Source, entry: Entry<'_>, reason: Reason) -> Reject {
    let present = |field: Field| entry.is_present(field as usize).then(|| field.of(entry));
    let kind = match reason {
        Reason::IllegalDistinctId => WarningKind::IllegalDistinctId,
        _ => WarningKind::InvalidEvent,
    };
    let warning = project(entry).map(|project| {
        let (name, distinct_id) = (present(Field::EventName), present(Field::DistinctId));
        Warning::new(project, kind, name, distinct_id, &reason.warning_text())
    });
    Reject {
        source,
        data: serde_json::Value::Object(raw_fields(entry)).to_string(),
        reason,
        warning,
    }
}

/// The known fields that are present, under their column names.
fn raw_fields(entry: Entry<'_>) -> serde_json::Map<String, serde_json::Value> {
    let mut object = serde_json::Map::new();
    for field in Field::ALL {
        if !entry.is_present(field as usize) {
            continue;
        }
        let value = json_value(field, field.of(entry));
        object.insert(field.name().to_owned(), value);
    }
    object
}

/// A field's text as its column holds it: screen sizes are numbers, everything else is text.
pub fn json_value(field: Field, text: &str) -> serde_json::Value {
    match field {
        Field::ScreenWidth | Field::ScreenHeight => screen_size(text).into(),
        _ => text.into(),
    }
}

/// A screen size as the column holds it: the leading whole number, at most 65,535; 0 where there is none.
pub fn screen_size(text: &str) -> u16 {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    digits.fold(0u32, |n, d| {
        (n * 10 + u32::from(d - b'0')).min(u32::from(u16::MAX))
    }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_sizes_are_cut_and_clamped() {
        for (text, size) in [
            ("1080", 1080),
            ("1080.5", 1080),
            (" 800 ", 800),
            ("70000", 65_535),
            ("99999999999999999999", 65_535),
            ("-5", 0),
            ("abc", 0),
            ("", 0),
            ("Infinity", 0),
            ("12px", 12),
        ] {
            assert_eq!(screen_size(text), size, "{text}");
        }
    }

    #[test]
    fn only_the_usual_form_of_a_uuid_counts() {
        assert!(uuid("A1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d").is_some());
        for text in [
            "a1b2c3d4e5f64a7b8c9d0e1f2a3b4c5d",
            "{a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d}",
            "x",
            "",
        ] {
            assert!(uuid(text).is_none(), "{text}");
        }
    }
}
