//! A dead letter: the event as its readers know it, and what is needed to replay it as the entry it was.

use std::collections::HashMap;

use redis::streams::StreamId as RedisEntry;
use serde_json::{Map, Value};
use stream_reply::{EntryBlock, StreamId};

use crate::event::decode::{self, raw_fields};
use crate::event::field::LETTER_FIELDS;
use crate::event::{Batch, Event, Field, Reason, Reject, Source};
use crate::stores::Store;

/// Why an event is a dead letter: the store that was away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// The store.
    pub store: Store,
    /// What it said last, or that it said nothing.
    pub error: String,
    /// Attempts made.
    pub attempts: u32,
}

impl Unavailable {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self.store {
            Store::Redis => "redis_unavailable",
            Store::Postgres => "postgresql_unavailable",
            Store::ClickHouse => "clickhouse_unavailable",
        }
    }
}

/// An entry of `events:dlq` or `events:rejected`.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its own id in the queue.
    pub id: StreamId,
    /// The event as JSON text; `None` when the entry has no such field.
    pub data: Option<String>,
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
    pub(super) fn of(entry: &RedisEntry) -> Option<Self> {
        let text = |name: &str| entry.get::<String>(name);
        let or_empty = |name: &str| text(name).unwrap_or_default();
        Some(Self {
            id: StreamId::parse(entry.id.as_bytes())?,
            data: text("data"),
            reason: or_empty("reason"),
            error: or_empty("error"),
            stream: or_empty("stream"),
            stream_id: text("stream_id").and_then(|id| StreamId::parse(id.as_bytes())),
            failed_at: or_empty("failed_at"),
            attempts: or_empty("attempts"),
            consumer: or_empty("consumer"),
        })
    }

    /// The event's fields as texts, or what is wrong with them.
    ///
    /// # Errors
    /// What the data is instead of a JSON object.
    pub fn fields(&self) -> Result<HashMap<String, String>, String> {
        let data = self.data.as_deref().ok_or("the entry has no field `data`")?;
        let object: Map<String, Value> = serde_json::from_str(data).map_err(|error| error.to_string())?;
        let text = |value| match value {
            Value::String(text) => Some(text),
            Value::Null => None,
            other => Some(other.to_string()),
        };
        Ok(object
            .into_iter()
            .filter_map(|(name, value)| Some((name, text(value)?)))
            .collect())
    }
}

/// `data` of an event: what came with it, with the id, the time and the type that its row has.
pub(super) fn data(batch: &Batch, event: &Event) -> String {
    let mut object = raw_fields(batch.entry(event));
    let time = jiff::Timestamp::from_millisecond(event.timestamp).unwrap_or_default();
    object.insert(Field::EventId.name().into(), event.event_id.to_string().into());
    object.insert(Field::Timestamp.name().into(), format!("{time:.3}").into());
    if batch.text(event, Field::EventType).is_empty() {
        object.insert(Field::EventType.name().into(), "track".into());
    }
    Value::Object(object).to_string()
}

/// Letters as a batch of entries that were delivered before. What cannot be read becomes a reject.
pub(super) fn batch(letters: &[Letter], streams: &[String]) -> Batch {
    let mut batch = Batch::default();
    for letter in letters {
        let stream = streams
            .iter()
            .position(|name| *name == letter.stream)
            .unwrap_or_default();
        let source = Source {
            stream: stream as u16,
            id: letter.stream_id.unwrap_or(letter.id),
            redelivered: true,
        };
        match letter.fields() {
            Ok(fields) => {
                let fields = fields.iter().map(|(name, text)| (name.as_str(), text.as_str()));
                let block = EntryBlock::of(&letter.stream, &LETTER_FIELDS, [(source.id, fields)]);
                decode::append(&mut batch, block, source.stream, &letter.stream, true, &[]);
            }
            Err(error) => batch.rejects.push(Reject {
                source,
                reason: Reason::UnreadableDeadLetter(error),
                data: letter.data.clone().unwrap_or_default(),
                warning: None,
            }),
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use crate::event::field::FIELDS;

    use super::*;

    fn letter(data: &str) -> Letter {
        Letter {
            id: StreamId::new(9, 0),
            data: Some(data.to_owned()),
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
        let again = batch(&[letter(&data(&first, &first.events[0]))], &["s".to_owned()]);
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
        for (name, text) in fields {
            let field = Field::ALL.into_iter().find(|field| field.name() == name).unwrap();
            assert_eq!(again.text(after, field), text);
        }
        assert_eq!(again.text(after, Field::EventType), "track");
    }

    #[test]
    fn letters_of_the_predecessor_are_read() {
        let text = format!(
            r#"{{"project_id":"{PROJECT}","distinct_id":"d","event_name":"e","person_id":"x","screen_width":70000,
                 "screen_height":null,"region":"","timestamp":"2026-01-15T10:00:00.000Z"}}"#
        );
        let batch = batch(&[letter(&text)], &["s".to_owned()]);
        assert_eq!(batch.rejects.len(), 0);
        assert_eq!(batch.text(&batch.events[0], Field::ScreenWidth), "70000");
        assert_eq!(batch.text(&batch.events[0], Field::ScreenHeight), "");
    }

    #[test]
    fn what_cannot_be_read_is_a_reject_of_its_own() {
        let mut without = letter("");
        without.data = None;
        let letters = [
            letter("{"),
            letter("[]"),
            without,
            letter(r#"{"event_name":"e"}"#),
        ];
        let batch = batch(&letters, &["s".to_owned()]);
        let reasons: Vec<_> = batch.rejects.iter().map(|reject| reject.reason.code()).collect();
        let unreadable = "unreadable_dead_letter";
        assert_eq!(reasons, [unreadable, unreadable, unreadable, "missing_fields"]);
    }
}
