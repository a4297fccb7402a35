//! What a hostile case is: an entry as raw field pairs, and the outcome that the contract demands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;

/// Bad input and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostileCase {
    /// Short unique name.
    pub case: String,
    /// What must happen.
    pub expect: Expect,
    /// What the contract leaves open and how it was decided, or what to mind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Field names and values as they go into the stream, repetitions included.
    pub entry: Vec<(Bytes, Bytes)>,
}

/// The outcome of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Expect {
    /// The entry goes to `events:rejected`.
    Rejected {
        /// Stable code.
        reason: String,
    },
    /// The event has a row.
    Lands {
        /// Columns that matter and their values; nothing is said about others. `timestamp` is ISO 8601 UTC with
        /// milliseconds, `country` is only given where no database can have one.
        #[serde(default)]
        row: BTreeMap<String, Cell>,
        /// The one warning of type `malformed_properties` or `illegal_anonymous_id`; without it there is none of
        /// these. Nothing is said about warnings of other types.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warning: Option<String>,
        /// All properties of the person: key to JSON text, as PostgreSQL spells it. Nothing is said without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        person_properties: Option<BTreeMap<String, String>>,
        /// The row is older than the table's rows live: it may be gone at once, and that is right.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        may_expire: bool,
    },
}

/// A column's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// A number (screen sizes).
    Number(u64),
    /// A text, UUID or time.
    Text(Bytes),
}

impl Cell {
    /// The value as text; numbers in decimal.
    pub fn to_text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(bytes) => String::from_utf8_lossy(&bytes.expand()).into_owned(),
        }
    }
}

impl HostileCase {
    /// The field pairs with every placeholder written out, for `XADD`.
    pub fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.entry
            .iter()
            .map(|(name, value)| (name.expand(), value.expand()))
            .collect()
    }

    /// The value that counts for a field, as text: the last one given. `None` when the field is absent.
    pub fn field(&self, name: &str) -> Option<String> {
        let (_, value) = self
            .entry
            .iter()
            .rev()
            .find(|(known, _)| known.expand() == name.as_bytes())?;
        Some(String::from_utf8_lossy(&value.expand()).into_owned())
    }

    /// The columns that matter, as text. Empty for rejected cases.
    pub fn row(&self) -> BTreeMap<String, String> {
        match &self.expect {
            Expect::Lands { row, .. } => row
                .iter()
                .map(|(name, cell)| (name.clone(), cell.to_text()))
                .collect(),
            Expect::Rejected { .. } => BTreeMap::new(),
        }
    }
}
