//! Parameters of a query: everything that comes from a definition goes to the engine as one, never inside the text.

use serde::Serialize;
use uuid::Uuid;

/// A value that a query refers to by name. Serialised as the value alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// `String`.
    Text(String),
    /// `Array(String)`.
    Texts(Vec<String>),
    /// `Float64`.
    Number(f64),
    /// `Int64`: milliseconds since 1970, UTC.
    Moment(i64),
    /// `UInt64`.
    Version(u64),
    /// `UUID`.
    Id(Uuid),
}

impl Value {
    fn prefix(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Texts(_) => "texts",
            Self::Number(_) => "number",
            Self::Moment(_) => "moment",
            Self::Version(_) => "version",
            Self::Id(_) => "id",
        }
    }

    fn sql_type(&self) -> &'static str {
        match self {
            Self::Text(_) => "String",
            Self::Texts(_) => "Array(String)",
            Self::Number(_) => "Float64",
            Self::Moment(_) => "Int64",
            Self::Version(_) => "UInt64",
            Self::Id(_) => "UUID",
        }
    }
}

/// A value with the name by which the query refers to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name, without the prefix `param_` of the request.
    pub name: String,
    /// What the engine puts in its place.
    pub value: Value,
}

/// The parameters of a query that is being written.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    list: Vec<Parameter>,
}

impl Parameters {
    /// Adds a value and returns the text that refers to it. Equal values share a name.
    pub(crate) fn bind(&mut self, value: Value) -> String {
        let prefix = format!("{}_", value.prefix());
        let numbered = self.list.iter().filter(|p| p.name.starts_with(&prefix));
        let name = format!("{prefix}{}", numbered.count() + 1);
        self.bind_as(&name, value)
    }

    /// The same, with the name that a new value gets.
    pub(crate) fn bind_as(&mut self, name: &str, value: Value) -> String {
        if let Some(known) = self.list.iter().find(|p| p.value == value) {
            return reference(known);
        }
        let parameter = Parameter {
            name: name.to_owned(),
            value,
        };
        let text = reference(&parameter);
        self.list.push(parameter);
        text
    }

    pub(crate) fn text(&mut self, text: &str) -> String {
        self.bind(Value::Text(text.to_owned()))
    }

    pub(crate) fn texts(&mut self, texts: &[String]) -> String {
        self.bind(Value::Texts(texts.to_vec()))
    }

    pub(crate) fn number(&mut self, number: f64) -> String {
        self.bind(Value::Number(number))
    }

    /// Adds a time in milliseconds since 1970.
    pub(crate) fn moment(&mut self, ms: i64) -> String {
        self.bind(Value::Moment(ms))
    }

    pub(crate) fn into_list(self) -> Vec<Parameter> {
        self.list
    }
}

fn reference(parameter: &Parameter) -> String {
    format!("{{{}:{}}}", parameter.name, parameter.value.sql_type())
}
