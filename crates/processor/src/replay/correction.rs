//! What an operator makes of an event that was set aside. Pure.
//!
//! The event stays the one it was: it keeps the entry that it came from, and with it its place in order, and its event id,
//! unless that is what was wrong.

use std::collections::{BTreeSet, HashMap};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use stream_reply::StreamId;

use crate::event::Field;
use crate::event::decode;
use crate::event::field::PLACE;
use crate::set_aside::Letter;
use crate::set_aside::letter::{self, CORRECTED, ENTRY_TOO_LARGE};

/// What is changed about an event.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// These fields; an empty text means that there is none.
    Fields(Vec<(String, String)>),
    /// All of it: an event as JSON text, or what `dlq show` prints, which has it under `data`.
    Whole(String),
}

/// A field that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Its name.
    pub field: String,
    /// Its text before; empty where there was none.
    pub before: String,
    /// Its text now.
    pub now: String,
}

/// A corrected letter.
#[derive(Debug, Clone)]
pub(crate) struct Corrected {
    /// What takes the old one's place.
    pub letter: Letter,
    /// What is different, by name.
    pub differences: Vec<Difference>,
}

type Fields = HashMap<String, String>;

/// What the error of a corrected letter begins with, before the id, the reason and the error of the one that it was made
/// of first.
const WAS: &str = "was ";

/// Whether a letter was made of the one that had this id.
pub(crate) fn corrects(letter: &Letter, id: StreamId) -> bool {
    first_of(letter).is_some_and(|(first, _)| first == id.to_string())
}

/// Whether a letter was made of a rejected event, rather than of a dead letter.
pub(super) fn corrects_a_reject(letter: &Letter) -> bool {
    first_of(letter).is_some_and(|(_, reason)| !letter::is_of_dead_letters(reason))
}

/// The id and the reason of the letter that a corrected one was made of first.
fn first_of(letter: &Letter) -> Option<(&str, &str)> {
    let was = letter
        .error
        .strip_prefix(WAS)
        .filter(|_| letter.reason == CORRECTED)?;
    let (id, why) = was.split_once(", ")?;
    Some((id, why.split_once(':')?.0))
}

impl Corrected {
    /// Corrects a letter.
    ///
    /// # Errors
    /// Why it cannot be corrected so.
    pub(crate) fn of(old: &Letter, change: &Change) -> Result<Self, String> {
        let before = old.fields();
        let is_whole = old.reason != ENTRY_TOO_LARGE;
        let mut now = match (change, &before) {
            (Change::Whole(text), _) => read(old, text)?,
            (Change::Fields(_), Err(error)) => {
                return Err(format!("it holds no event ({error}): give it whole, with --file"));
            }
            (Change::Fields(_), Ok(_)) if !is_whole => {
                let problem = "the entry was too large, and what is kept is not the whole event";
                return Err(format!("{problem}: give it whole, with --file"));
            }
            (Change::Fields(fields), Ok(before)) => {
                let mut now = before.clone();
                now.extend(fields.iter().cloned());
                now
            }
        };
        if let Ok(before) = &before {
            keep_event_id(before, &mut now)?;
            forget_place(before, &mut now);
        }
        now.retain(|_, text| !text.is_empty());
        let differences = differences(&before.unwrap_or_default(), &now);
        let error = if old.reason == CORRECTED {
            old.error.clone()
        } else {
            format!("{WAS}{}, {}: {}", old.id, old.reason, old.error)
        };
        let letter = Letter {
            data: Some(written(&now)),
            other_fields: None,
            reason: CORRECTED.to_owned(),
            error,
            // A letter that does not say where it came from stands for itself.
            stream_id: Some(old.stream_id.unwrap_or(old.id)),
            ..old.clone()
        };
        Ok(Self { letter, differences })
    }
}

/// The fields of an event that is given whole.
fn read(old: &Letter, text: &str) -> Result<Fields, String> {
    let members: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(text);
    let members =
        members.map_err(|error| format!("what is given is not an event as a JSON object: {error}"))?;
    let shown = members.get("data").map(|data| data.get());
    let event = shown.filter(|data| data.starts_with('{')).unwrap_or(text);
    let given = Letter {
        data: Some(event.to_owned()),
        ..old.clone()
    };
    given.fields()
}

/// The id of an event that has a right one stays.
fn keep_event_id(before: &Fields, now: &mut Fields) -> Result<(), String> {
    let field = Field::EventId.name();
    let text = |fields: &Fields| fields.get(field).cloned().unwrap_or_default();
    let (kept, given) = (text(before), text(now));
    if kept.is_empty() {
        return if given.is_empty() {
            Ok(())
        } else {
            Err("its event_id follows from the entry that it came from: give it none".to_owned())
        };
    }
    let Some(id) = decode::uuid(&kept) else {
        return Ok(());
    };
    if given.is_empty() {
        now.insert(field.to_owned(), kept);
    } else if decode::uuid(&given) != Some(id) {
        return Err(format!("its event_id is not what is wrong: it stays {kept}"));
    }
    Ok(())
}

/// The place of a row is that of its address: of another address it is found anew.
fn forget_place(before: &Fields, now: &mut Fields) {
    let is_same = |name: &str| before.get(name) == now.get(name);
    if !is_same(Field::Ip.name()) && PLACE.iter().all(|name| is_same(name)) {
        for name in PLACE {
            now.remove(name);
        }
    }
}

fn differences(before: &Fields, now: &Fields) -> Vec<Difference> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let text = |fields: &Fields, name: &str| fields.get(name).cloned().unwrap_or_default();
    let differences = names.into_iter().map(|name| Difference {
        field: name.clone(),
        before: text(before, name),
        now: text(now, name),
    });
    differences
        .filter(|difference| difference.before != difference.now)
        .collect()
}

/// The fields as the `data` of a letter has them.
fn written(fields: &Fields) -> String {
    let value = |name: &str, text: &str| {
        let field = Field::ALL.into_iter().find(|field| field.name() == name);
        field.map_or_else(|| text.into(), |field| decode::json_value(field, text))
    };
    let members = fields
        .iter()
        .map(|(name, text)| (name.clone(), value(name, text)));
    Value::Object(members.collect::<Map<_, _>>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d";

    fn letter(data: &str) -> Letter {
        Letter {
            id: StreamId::new(9, 0),
            data: Some(data.to_owned()),
            other_fields: None,
            reason: "missing_fields".to_owned(),
            error: "missing fields: event_name".to_owned(),
            stream: "events:incoming".to_owned(),
            stream_id: Some(StreamId::new(5, 1)),
            failed_at: String::new(),
            attempts: "1".to_owned(),
            consumer: "w".to_owned(),
        }
    }

    fn set(letter: &Letter, fields: &[(&str, &str)]) -> Result<Corrected, String> {
        let fields = fields
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Corrected::of(letter, &Change::Fields(fields.collect()))
    }

    fn whole(letter: &Letter, text: &str) -> Result<Corrected, String> {
        Corrected::of(letter, &Change::Whole(text.to_owned()))
    }

    fn data(corrected: &Corrected) -> Value {
        serde_json::from_str(corrected.letter.text()).unwrap()
    }

    #[test]
    fn what_is_not_corrected_stays_and_so_does_the_entry_that_it_came_from() {
        let old = letter(&format!(
            r#"{{"event_id":"{ID}","distinct_id":"d","screen_width":"9.5"}}"#
        ));
        let corrected = set(&old, &[("event_name", "signup"), ("distinct_id", "")]).unwrap();
        assert_eq!(
            data(&corrected),
            serde_json::json!({"event_id": ID, "event_name": "signup", "screen_width": 9})
        );
        let Letter {
            stream,
            stream_id,
            reason,
            error,
            ..
        } = &corrected.letter;
        assert_eq!(
            (stream.as_str(), *stream_id),
            ("events:incoming", Some(StreamId::new(5, 1)))
        );
        assert_eq!(reason, CORRECTED);
        assert_eq!(error, "was 9-0, missing_fields: missing fields: event_name");
        let changed: Vec<_> = corrected
            .differences
            .iter()
            .map(|d| (&*d.field, &*d.before, &*d.now))
            .collect();
        assert_eq!(changed, [("distinct_id", "d", ""), ("event_name", "", "signup")]);
        let mut without = old.clone();
        without.stream_id = None;
        let again = set(&without, &[]).unwrap();
        assert_eq!(again.letter.stream_id, Some(old.id), "it stands for itself");
        assert_eq!(again.differences, []);
    }

    #[test]
    fn a_corrected_letter_says_whether_it_was_a_rejected_event() {
        let corrected = |reason: &str| {
            let mut old = letter("{}");
            reason.clone_into(&mut old.reason);
            let once = set(&old, &[("event_name", "a")]).unwrap().letter;
            assert_eq!(once.error, format!("was 9-0, {reason}: {}", old.error));
            let twice = set(&once, &[("event_name", "b")]).unwrap().letter;
            assert!(!corrects_a_reject(&old) && !corrects(&old, old.id));
            assert!(corrects(&twice, old.id) && !corrects(&twice, StreamId::new(9, 1)));
            assert_eq!(corrects_a_reject(&once), corrects_a_reject(&twice));
            corrects_a_reject(&twice)
        };
        for rejected in ["missing_fields", "cannot_be_settled", "unreadable_dead_letter"] {
            assert!(corrected(rejected), "{rejected}");
        }
        // A predecessor's letter has no reason.
        for dead in ["clickhouse_unavailable", "postgresql_keeps_failing", ""] {
            assert!(!corrected(dead), "{dead}");
        }
    }

    #[test]
    fn an_event_keeps_its_id_unless_that_is_wrong() {
        let other = "b1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d";
        let right = letter(&format!(r#"{{"event_id":"{ID}","event_name":"e"}}"#));
        assert!(
            set(&right, &[("event_id", other)])
                .unwrap_err()
                .contains("it stays")
        );
        let given_whole = whole(&right, r#"{"event_name":"f"}"#).unwrap();
        assert_eq!(
            data(&given_whole),
            serde_json::json!({"event_id": ID, "event_name": "f"})
        );
        let wrong = letter(r#"{"event_id":"7","event_name":"e"}"#);
        assert_eq!(
            data(&set(&wrong, &[("event_id", other)]).unwrap())["event_id"],
            other
        );
        assert_eq!(
            data(&set(&wrong, &[("event_id", "")]).unwrap()),
            serde_json::json!({"event_name": "e"})
        );
        let derived = letter(r#"{"event_name":"e"}"#);
        assert!(
            set(&derived, &[("event_id", other)])
                .unwrap_err()
                .contains("follows from")
        );
    }

    #[test]
    fn an_event_may_be_given_whole_and_as_it_is_shown() {
        let old = letter("no event");
        let event = r#"{"event_name":"e","properties":{"n": 1.50},"url":null,"screen_width":10}"#;
        let expected =
            serde_json::json!({"event_name": "e", "properties": r#"{"n": 1.50}"#, "screen_width": 10});
        assert_eq!(data(&whole(&old, event).unwrap()), expected);
        let shown = format!(r#"{{"id":"9-0","reason":"missing_fields","data":{event}}}"#);
        assert_eq!(data(&whole(&old, &shown).unwrap()), expected);
        assert!(whole(&old, "[1]").unwrap_err().contains("JSON object"));
        assert!(set(&old, &[("event_name", "e")]).unwrap_err().contains("--file"));
        let mut cut = letter(r#"{"event_name":"e"}"#);
        cut.reason = ENTRY_TOO_LARGE.to_owned();
        assert!(set(&cut, &[("distinct_id", "d")]).unwrap_err().contains("--file"));
        assert_eq!(whole(&cut, event).unwrap().letter.reason, CORRECTED);
    }

    #[test]
    fn another_address_has_another_place() {
        let old = letter(r#"{"ip":"1.1.1.1","country":"AU","region":"","city":"Sydney"}"#);
        assert_eq!(
            data(&set(&old, &[("ip", "8.8.8.8")]).unwrap()),
            serde_json::json!({"ip": "8.8.8.8"})
        );
        let told = set(&old, &[("ip", "8.8.8.8"), ("country", "US")]).unwrap();
        assert_eq!(data(&told)["country"], "US");
        assert_eq!(data(&set(&old, &[("url", "x")]).unwrap())["city"], "Sydney");
    }
}
