//! What a person takes: in PostgreSQL, printed, and in our memory while its properties change.
//!
//! Everything that is kept counts, the values that readers see and the history behind them: a name and a value are as
//! long as PostgreSQL prints them (`1e1000` has a thousand digits), and whatever has a version has room for it. So both
//! columns, printed, are about as long as the weight says, or shorter.

use std::ops::{Add, AddAssign, Sub};

use super::change::Change;
use super::key_state::KeyState;
use super::lineage::{Lineage, Writes};

/// What a version and its brackets take, printed.
const VERSION: usize = 56;
/// Quotes, colons and commas around a key.
const KEY: usize = 16;

/// How much a person may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Keys.
    pub keys: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Limits {
    /// No limits.
    pub const NONE: Self = Self {
        keys: usize::MAX,
        bytes: usize::MAX,
    };

    pub(super) fn weight(&self) -> Weight {
        Weight {
            keys: self.keys,
            bytes: self.bytes,
        }
    }

    pub(super) fn hold(&self, weight: Weight) -> bool {
        weight.keys <= self.keys && weight.bytes <= self.bytes
    }
}

/// How much a person, or a part of it, holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(super) struct Weight {
    /// Keys, each as often as it is kept: on each side of a merge that writes it.
    pub(super) keys: usize,
    pub(super) bytes: usize,
}

impl Weight {
    pub(super) fn of_key(name: &str, state: &KeyState) -> Self {
        let decided = state.decided.iter();
        let decided = decided.map(|(_, value)| VERSION + value.as_deref().map_or(0, printed_length));
        let onces = state
            .onces
            .iter()
            .zip(std::iter::once(None).chain(state.onces.iter().map(Some)))
            .map(|(once, before)| match before {
                // Of equal values in a row, one is stored.
                Some(before) if before.value == once.value => VERSION,
                _ => VERSION + printed_length(&once.value),
            });
        Self {
            keys: 1,
            bytes: KEY + printed_name(name) + decided.chain(onces).sum::<usize>(),
        }
    }

    /// What a change adds to a person that has no such key.
    pub(super) fn of_change(name: &str, change: &Change) -> Self {
        let value = match change {
            Change::Set(value) | Change::Once(value) => printed_length(value),
            Change::Unset => 0,
        };
        Self {
            keys: 1,
            bytes: KEY + printed_name(name) + VERSION + value,
        }
    }

    pub(super) fn of_writes(writes: &Writes) -> Self {
        let keys = writes.0.iter().map(|(name, state)| Self::of_key(name, state));
        keys.fold(Self::default(), Add::add)
    }

    pub(super) fn of_lineage(lineage: &Lineage) -> Self {
        let mut weight = Self::of_writes(&lineage.own);
        for side in lineage.merged.values() {
            weight += Self::of_merged(side);
        }
        weight.bytes += VERSION * (2 * lineage.earlier.len() + 2 * usize::from(lineage.joined.is_some()));
        weight
    }

    /// A merged person.
    pub(super) fn of_merged(side: &Lineage) -> Self {
        let mut weight = Self::of_lineage(side);
        weight.bytes += VERSION;
        weight
    }

    /// Whether it has neither more keys nor more bytes.
    pub(super) fn fits_in(self, other: Self) -> bool {
        self.keys <= other.keys && self.bytes <= other.bytes
    }
}

impl Add for Weight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            keys: self.keys + other.keys,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl AddAssign for Weight {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Weight {
    type Output = Self;

    /// Never below nothing.
    fn sub(self, other: Self) -> Self {
        Self {
            keys: self.keys.saturating_sub(other.keys),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// A name as PostgreSQL prints it, without its quotes.
fn printed_name(name: &str) -> usize {
    let escaped = name.bytes().map(|byte| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    });
    escaped.sum()
}

/// How long a JSON value is that PostgreSQL prints, at most: numbers have no exponents, commas and colons have a blank.
pub(super) fn printed_length(json: &str) -> usize {
    let bytes = json.as_bytes();
    let mut length = bytes.len();
    let mut at = 0;
    while at < bytes.len() {
        at += match bytes[at] {
            b'"' => string_length(&json[at..]),
            b',' | b':' => {
                length += 1;
                1
            }
            b'e' | b'E' => {
                let digits = bytes[at + 1..].iter();
                let digits = digits.take_while(|b| matches!(b, b'0'..=b'9' | b'+' | b'-'));
                let end = at + 1 + digits.count();
                // The letters of `true` and `false` are followed by no digit.
                let exponent = json[at + 1..end].trim_start_matches(['+', '-']);
                length += exponent.parse().unwrap_or(0);
                end - at
            }
            _ => 1,
        };
    }
    length
}

/// Length of the string literal that `text` begins with, quotes included.
pub(super) fn string_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_as_long_as_it_is_printed_or_shorter() {
        for (json, printed) in [
            ("1e1000", 1001),
            ("-1.5E-300", 304),
            ("[1e10,2]", 14),
            (r#"{"e10":"1e1000, :"}"#, 20),
            ("true", 4),
            ("[false,null]", 13),
            ("12", 2),
        ] {
            let length = printed_length(json);
            assert!(length >= printed, "{json}: {length}");
            assert!(length <= printed + 8, "{json}: {length}");
        }
        assert_eq!(printed_name("a\"\n"), 9);
    }
}
