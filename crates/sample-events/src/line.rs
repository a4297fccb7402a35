//! One event as a line of a fixture: the stream's field names in order, as a JSON object.
//!
//! A line never interprets what it holds; that is the account's work.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

/// An event on its way into the stream. Values are strings, numbers (screen sizes) or objects (`properties`,
/// `user_properties`); an absent field and an empty one mean the same.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    fields: Vec<(String, Value)>,
}

impl Line {
    /// A line without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The line with one more field, or with another value for a field it has.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.put(name, value);
        self
    }

    /// Gives a field its value. Objects are stored in the order of their keys, so that a line has one spelling.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) {
        let value = sorted(value.into());
        match self.fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// A field's text; empty when it is absent or no string.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// A field that is an object.
    pub fn object(&self, name: &str) -> Option<&Map<String, Value>> {
        self.get(name).and_then(Value::as_object)
    }

    /// The fields as the stream carries them: everything as text, objects as JSON text.
    pub fn fields(&self) -> impl Iterator<Item = (&str, String)> {
        self.fields.iter().map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (name.as_str(), text)
        })
    }
}

/// The same value with the keys of every object in order, whether or not the JSON library keeps insertion order.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut pairs: Vec<_> = object
                .into_iter()
                .map(|(key, inner)| (key, sorted(inner)))
                .collect();
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(pairs.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Line;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of stream fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
        let mut line = Line::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            line.put(&name, value);
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        let line = Line::new()
            .with("timestamp", "2026-06-01T00:00:00.000Z")
            .with("distinct_id", "Ж 1:2 🦔\n")
            .with("screen_width", 1080)
            .with(
                "properties",
                json!({"z": [1, null, {"b": 1, "a": 2.5}], "a": "x"}),
            );
        let text = serde_json::to_string(&line).unwrap();
        assert!(
            text.starts_with(r#"{"timestamp":"#)
                && text.contains(r#"{"a":"x","z":[1,null,{"a":2.5,"b":1}]}"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }

    #[test]
    fn the_stream_gets_text_only() {
        let line = Line::new()
            .with("screen_width", 1080)
            .with("properties", json!({"a": 1}))
            .with("url", "/");
        let fields: Vec<_> = line.fields().collect();
        assert_eq!(
            fields,
            [
                ("screen_width", "1080".to_owned()),
                ("properties", r#"{"a":1}"#.to_owned()),
                ("url", "/".to_owned()),
            ]
        );
    }
}
