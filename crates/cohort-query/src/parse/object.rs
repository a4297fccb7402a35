//! A JSON object of a definition, and typed access to its fields. Each error names the place in the definition.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::definition::LONGEST_WINDOW;
use crate::{number, words};

/// A definition that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct DefinitionError {
    /// The place of the fault, such as `values[2].event_filters[0].operator`; empty for the definition as a whole.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
}

pub(super) type Result<T> = std::result::Result<T, DefinitionError>;

/// A JSON object and its place in the definition.
pub(super) struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn of(path: &str, value: &'a Value) -> Result<Self> {
        let path = path.to_owned();
        match value.as_object() {
            Some(fields) => Ok(Self { path, fields }),
            None => Err(DefinitionError {
                path,
                problem: "is not an object".into(),
            }),
        }
    }

    pub(super) fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    pub(super) fn error(&self, field: &str, problem: impl Into<String>) -> DefinitionError {
        DefinitionError {
            path: self.path_of(field),
            problem: problem.into(),
        }
    }

    /// The error of a word that is none of those known there; `what` says what it would be.
    pub(super) fn unknown(&self, field: &str, (what, word): (&str, &str), known: &[&str]) -> DefinitionError {
        self.error(field, words::unknown(what, word, known))
    }

    /// The value of a field that is present and not `null`.
    pub(super) fn present(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn required(&self, field: &str) -> Result<&'a Value> {
        self.present(field).ok_or_else(|| self.error(field, "is missing"))
    }

    pub(super) fn optional_text(&self, field: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.present(field) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| self.error(field, "is not text"))
    }

    pub(super) fn text(&self, field: &str) -> Result<&'a str> {
        self.required(field)?;
        Ok(self.optional_text(field)?.unwrap_or_default())
    }

    /// The text that a property is compared with; of numbers and booleans their JSON text.
    pub(super) fn value(&self, field: &str) -> Result<String> {
        scalar(self.required(field)?).ok_or_else(|| self.error(field, "is not text"))
    }

    pub(super) fn values(&self, field: &str) -> Result<Vec<String>> {
        let values = self.array(field)?.iter().enumerate();
        let text = |(index, value)| {
            scalar(value).ok_or_else(|| self.error(&format!("{field}[{index}]"), "is not text"))
        };
        values.map(text).collect()
    }

    pub(super) fn array(&self, field: &str) -> Result<&'a [Value]> {
        let value = self.required(field)?;
        let array = value
            .as_array()
            .ok_or_else(|| self.error(field, "is not an array"))?;
        Ok(array)
    }

    pub(super) fn objects(&self, field: &'a str) -> Result<impl Iterator<Item = Result<Object<'a>>>> {
        let path = self.path_of(field);
        let members = self.array(field)?.iter().enumerate();
        Ok(members.map(move |(index, member)| Object::of(&format!("{path}[{index}]"), member)))
    }

    pub(super) fn number(&self, field: &str) -> Result<f64> {
        let value = self.required(field)?;
        value.as_f64().ok_or_else(|| self.error(field, "is not a number"))
    }

    pub(super) fn flag(&self, field: &str) -> Result<bool> {
        let value = self.required(field)?;
        value
            .as_bool()
            .ok_or_else(|| self.error(field, "is neither true nor false"))
    }

    pub(super) fn uuid(&self, field: &str) -> Result<Uuid> {
        let text = self.text(field)?;
        text.parse()
            .map_err(|_| self.error(field, format!("{text:?} is not a UUID")))
    }

    /// A whole number of at least 1.
    pub(super) fn whole(&self, field: &str) -> Result<u32> {
        let number = self.number(field)?;
        if number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number) {
            Ok(number as u32)
        } else {
            Err(self.error(field, "is not a whole number from 1"))
        }
    }

    pub(super) fn days(&self, field: &str) -> Result<u32> {
        match self.whole(field)? {
            days @ 1..=LONGEST_WINDOW => Ok(days),
            _ => Err(self.error(field, format!("is more than {LONGEST_WINDOW} days"))),
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(written) => Some(number::text(written)),
        Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
