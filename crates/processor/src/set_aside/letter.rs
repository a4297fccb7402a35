//! A dead letter: the event as its readers know it, and what is needed to replay it as the entry it was.

use std::collections::HashMap;

use redis::streams::StreamId as RedisEntry;
use serde_json::Value;
use serde_json::value::RawValue;
use stream_reply::{EntryBlock, StreamId};

use crate::event::decode;
use crate::event::field::{LETTER_FIELDS, PLACE};
use crate::event::{Batch, Field, PersonId, Reason, Reject, Source};
use crate::stores::Store;
use crate::warehouse::Row;
use crate::warehouse::enriched::Enrichment;

/// Why an event is a dead letter: the store that did not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// The store.
    pub store: Store,
    /// What it said last, or that it said nothing.
    pub error: String,
    /// Attempts made.
    pub attempts: u32,
    /// The store failed on this event alone and took its neighbours.
    pub alone: bool,
}

impl Unavailable {
    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        match (self.store, self.alone) {
            (Store::Redis, _) => AWAY[0],
            (Store::Postgres, false) => AWAY[1],
            (Store::ClickHouse, false) => AWAY[2],
            (Store::Postgres, true) => ALONE[0],
            (Store::ClickHouse, true) => ALONE[1],
        }
    }
}

/// The codes of all reasons for which events are set aside.
pub(crate) const REASONS: [&str; 5] = [AWAY[0], AWAY[1], AWAY[2], ALONE[0], ALONE[1]];

/// Codes of letters whose store took nothing.
const AWAY: [&str; 3] = [
    "redis_unavailable",
    "postgresql_unavailable",
    "clickhouse_unavailable",
];

/// Codes of letters that a store failed on while it took their neighbours.
const ALONE: [&str; 2] = ["postgresql_keeps_failing", "clickhouse_keeps_failing"];

/// Reason of rejects that hold only what is small of their events.
pub(crate) const ENTRY_TOO_LARGE: &str = "entry_too_large";

/// Reason of letters that an operator has corrected and that have not landed yet.
pub(crate) const CORRECTED: &str = "corrected";

/// Whether a code is one of dead letters, as a store has made them. A predecessor gave none.
pub(crate) fn is_of_dead_letters(reason: &str) -> bool {
    reason.is_empty() || AWAY.contains(&reason) || ALONE.contains(&reason)
}

/// An entry of `events:dlq` or `events:rejected`.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    /// Its own id in the queue.
    pub id: StreamId,
    /// The event as JSON text; `None` when the entry has no such field, or it is no text.
    pub data: Option<String>,
    /// Where there is no data: all fields of the entry as JSON text, so that nothing of it is lost.
    pub other_fields: Option<String>,
    /// Stable code; empty in entries of the predecessor.
    pub reason: String,
    /// What went wrong, for people.
    pub error: String,
    /// Stream that the event came from.
    pub stream: String,
    /// Its entry there.
    pub stream_id: Option<StreamId>,
    /// When it was set aside, ISO 8601.
    pub failed_at: String,
    /// Attempts made.
    pub attempts: String,
    /// Instance that set it aside.
    pub consumer: String,
}

impl Letter {
    /// Reads an entry. Fields that are missing are empty: the predecessor wrote `data` alone.
    pub(super) fn of(mut entry: RedisEntry) -> Option<Self> {
        let data = take_text(&mut entry, "data");
        let text = |name: &str| entry.get::<String>(name);
        let or_empty = |name: &str| text(name).unwrap_or_default();
        let other_fields = data.is_none().then(|| everything(&entry).to_string());
        Some(Self {
            id: StreamId::parse(entry.id.as_bytes())?,
            data,
            other_fields,
            reason: or_empty("reason"),
            error: or_empty("error"),
            stream: or_empty("stream"),
            stream_id: text("stream_id").and_then(|id| StreamId::parse(id.as_bytes())),
            failed_at: or_empty("failed_at"),
            attempts: or_empty("attempts"),
            consumer: or_empty("consumer"),
        })
    }

    /// Whether it was set aside because a store failed on it alone and took its neighbours.
    pub(crate) fn stood_alone(&self) -> bool {
        ALONE.contains(&self.reason.as_str())
    }

    /// What there is to keep of it.
    pub(crate) fn text(&self) -> &str {
        self.data
            .as_deref()
            .or(self.other_fields.as_deref())
            .unwrap_or_default()
    }

    /// The event's fields as texts, or what is wrong with them.
    ///
    /// # Errors
    /// What the data is instead of a JSON object.
    pub(crate) fn fields(&self) -> Result<HashMap<String, String>, String> {
        let data = self
            .data
            .as_deref()
            .ok_or("the entry has no field `data` that is text")?;
        // Each value is unescaped by itself: no value of megabytes is there a third time.
        let object: HashMap<String, &RawValue> =
            serde_json::from_str(data).map_err(|error| error.to_string())?;
        let mut fields = HashMap::with_capacity(object.len());
        for (name, value) in object {
            let text = match value.get() {
                "null" => continue,
                text if text.starts_with('"') => {
                    serde_json::from_str(text).map_err(|error| error.to_string())?
                }
                other => other.to_owned(),
            };
            fields.insert(name, text);
        }
        Ok(fields)
    }
}

/// Takes a text out of an entry: it may have megabytes. What is none stays.
fn take_text(entry: &mut RedisEntry, name: &str) -> Option<String> {
    match entry.map.get_mut(name)? {
        redis::Value::BulkString(bytes) => {
            std::str::from_utf8(bytes).ok()?;
            String::from_utf8(std::mem::take(bytes)).ok()
        }
        _ => entry.get(name),
    }
}

/// All fields of an entry, whatever they are.
fn everything(entry: &RedisEntry) -> Value {
    let text = |value: &redis::Value| match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    };
    let fields = entry
        .map
        .iter()
        .map(|(name, value)| (name.clone(), text(value).into()));
    Value::Object(fields.collect())
}

/// The events of a batch that are to become letters.
#[derive(Clone, Copy)]
pub(crate) struct Letters<'a> {
    /// Their batch.
    pub batch: &'a Batch,
    /// Their persons, as far as that was decided.
    pub persons: Option<&'a [PersonId]>,
    /// What their rows would be enriched with.
    pub enrichment: &'a Enrichment,
}

impl Letters<'_> {
    /// `data` of one of the events: the row that it would have been, and its user agent. Where it is not known whose it
    /// is, the person is the one that a new distinct id gets.
    pub(super) fn data(&self, index: usize) -> String {
        let event = &self.batch.events[index];
        let person = self.persons.and_then(|persons| persons.get(index)).copied();
        let person = person.unwrap_or_else(|| self.batch.keys[event.key as usize].new_person());
        Row::with(self.batch, event, person, self.enrichment, |row| {
            data(row).to_string()
        })
    }
}

/// A row under the names of its columns, and the user agent.
fn data(row: &Row<'_>) -> Value {
    let time = jiff::Timestamp::from_millisecond(row.timestamp).unwrap_or_default();
    let mut data = serde_json::Map::new();
    for field in Field::ALL {
        let value = match field {
            Field::EventId => row.event_id.to_string().into(),
            Field::Timestamp => format!("{time:.3}").into(),
            _ => decode::json_value(field, row.text(field)),
        };
        data.insert(field.name().to_owned(), value);
    }
    data.insert("person_id".to_owned(), row.person.to_string().into());
    for (name, text) in PLACE.into_iter().zip([row.country, row.region, row.city]) {
        data.insert(name.to_owned(), text.into());
    }
    Value::Object(data)
}

/// Where the event of a letter came from. One that does not say is taken for one of the first stream.
pub(crate) fn source(letter: &Letter, streams: &[String]) -> Source {
    let stream = streams
        .iter()
        .position(|name| *name == letter.stream)
        .unwrap_or_default();
    Source {
        stream: stream as u16,
        id: letter.stream_id.unwrap_or(letter.id),
        redelivered: true,
    }
}

fn reject(letter: &Letter, streams: &[String], reason: Reason) -> Reject {
    Reject {
        source: source(letter, streams),
        reason,
        data: letter.text().to_owned(),
        warning: None,
    }
}

/// Letters as a batch of entries that were delivered before. What cannot be read becomes a reject. Their texts, which may
/// have megabytes, are moved into it.
pub(crate) fn batch(letters: &mut [Letter], streams: &[String]) -> Batch {
    let mut batch = Batch::default();
    for letter in letters {
        if letter.reason == ENTRY_TOO_LARGE {
            let error = "the entry was too large to be read, and what is kept is not the whole event";
            let reason = Reason::UnreadableDeadLetter(error.to_owned());
            batch.rejects.push(reject(letter, streams, reason));
            continue;
        }
        match letter.fields() {
            Ok(fields) => {
                letter.data = None;
                let source = source(letter, streams);
                let stream = streams.get(source.stream as usize).map_or("", String::as_str);
                let fields = fields.iter().map(|(name, text)| (name.as_str(), text.as_str()));
                let block = EntryBlock::of(stream, &LETTER_FIELDS, [(source.id, fields)]);
                decode::append(&mut batch, block, source.stream, stream, true, &[]);
            }
            Err(error) => {
                let reason = Reason::UnreadableDeadLetter(error);
                batch.rejects.push(reject(letter, streams, reason));
            }
        }
    }
    batch
}

/// A letter that is never to be replayed again, as a batch of one reject.
pub(crate) fn refused(letter: &Letter, streams: &[String], reason: Reason) -> Batch {
    let mut batch = Batch::default();
    batch.rejects.push(reject(letter, streams, reason));
    batch
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use enrichment::geo::GeoIp;
    use enrichment::user_agent::UserAgents;
    use uuid::Uuid;

    use crate::event::field::FIELDS;

    use super::*;

    fn letter(data: &str) -> Letter {
        Letter {
            id: StreamId::new(9, 0),
            data: Some(data.to_owned()),
            other_fields: None,
            reason: String::new(),
            error: String::new(),
            stream: String::new(),
            stream_id: Some(StreamId::new(5, 1)),
            failed_at: String::new(),
            attempts: String::new(),
            consumer: String::new(),
        }
    }

    const PROJECT: &str = "11111111-1111-1111-1111-111111111111";

    #[test]
    fn an_event_comes_back_as_the_entry_it_was() {
        let fields = [
            ("project_id", PROJECT),
            ("distinct_id", "Ж \"q\""),
            ("event_name", "e"),
            ("properties", r#"{"a":1.50}"#),
            ("screen_width", "1080"),
            ("user_agent", "agent"),
        ];
        let mut first = Batch::default();
        let block = EntryBlock::of("s", &FIELDS, [(StreamId::new(5, 1), fields)]);
        decode::append(&mut first, block, 0, "s", false, &[]);
        let enrichment = Enrichment {
            geo: GeoIp::disabled(),
            agents: Arc::new(UserAgents::new(1)),
        };
        let person = PersonId(Uuid::from_u128(7));
        let letters = Letters {
            batch: &first,
            persons: Some(&[person]),
            enrichment: &enrichment,
        };
        let data = letters.data(0);
        let row: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(row["person_id"], person.to_string());
        assert_eq!((&row["url"], &row["user_properties"]), (&"".into(), &"{}".into()));
        assert_eq!(row["screen_height"], 0);
        let again = batch(&mut [letter(&data)], &["s".to_owned()]);
        let (before, after) = (&first.events[0], &again.events[0]);
        assert_eq!(
            (
                before.event_id,
                before.timestamp,
                before.source.id,
                before.project
            ),
            (after.event_id, after.timestamp, after.source.id, after.project)
        );
        assert!(after.source.redelivered);
        for field in Field::ALL {
            let text = match first.text(before, field) {
                "" if field == Field::EventId => &before.event_id.to_string(),
                "" if field == Field::Timestamp => "1970-01-01T00:00:00.005Z",
                "" => field.fallback(),
                text => text,
            };
            assert_eq!(again.text(after, field), text, "{}", field.name());
        }
        assert_eq!(again.text(after, Field::EventType), "track");
    }

    #[test]
    fn letters_of_the_predecessor_are_read() {
        let text = format!(
            r#"{{"project_id":"{PROJECT}","distinct_id":"d","event_name":"e","person_id":"x","screen_width":70000,
                 "screen_height":null,"region":"","timestamp":"2026-01-15T10:00:00.000Z"}}"#
        );
        let batch = batch(&mut [letter(&text)], &["s".to_owned()]);
        assert_eq!(batch.rejects.len(), 0);
        assert_eq!(batch.text(&batch.events[0], Field::ScreenWidth), "70000");
        assert_eq!(batch.text(&batch.events[0], Field::ScreenHeight), "");
    }

    #[test]
    fn what_cannot_be_read_is_a_reject_of_its_own() {
        let mut without = letter("");
        without.data = None;
        let mut letters = [
            letter("{"),
            letter("[]"),
            without,
            letter(r#"{"event_name":"e"}"#),
        ];
        let batch = batch(&mut letters, &["s".to_owned()]);
        let reasons: Vec<_> = batch.rejects.iter().map(|reject| reject.reason.code()).collect();
        let unreadable = "unreadable_dead_letter";
        assert_eq!(reasons, [unreadable, unreadable, unreadable, "missing_fields"]);
    }
}
