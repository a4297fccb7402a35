//! What is told apart by an id, a type each, so that none is taken for another; ids that are computed, not drawn at random,
//! so that replays and other instances get the same ones; and which distinct ids are valid ("Distinct ids" and "Persons"
//! in docs/contract.md).

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use stream_reply::StreamId;
use uuid::Uuid;

/// Makes types of UUIDs, each the id of one kind of thing. In every format they are what the UUID is.
macro_rules! uuids {
    ($($(#[$doc:meta])* $name:ident,)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[repr(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, out)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    )+};
}

uuids! {
    /// A person: who did it.
    PersonId,
    /// A project: what events, persons and names belong to.
    ProjectId,
}

/// A distinct id, as the entry has it: untrimmed.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[repr(transparent)]
pub struct DistinctId(pub Box<str>);

impl Deref for DistinctId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for DistinctId {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&str> for DistinctId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for DistinctId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Debug for DistinctId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

/// Namespace of person ids. Shared with the rest of the platform; must never change.
pub const PERSON_NAMESPACE: Uuid = Uuid::from_u128(0xa1b2_c3d4_e5f6_4a7b_8c9d_0e1f_2a3b_4c5d);

/// Namespace of event ids derived from stream entries. The worker's own; must never change.
pub const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x5f6d_91c2_7be4_4d0e_9a57_c8f0_35e2_1b6a);

/// Longest distinct id that PostgreSQL can hold, in characters.
pub const LONGEST_DISTINCT_ID: usize = 400;

/// Values that clients send when they have no id. Compared with the id trimmed and in lower case.
const ILLEGAL: [&str; 11] = [
    "anonymous",
    "null",
    "undefined",
    "none",
    "nil",
    "[object object]",
    "nan",
    "true",
    "false",
    "0",
    "guest",
];

/// The person of a distinct id that was never seen before: UUIDv5 of `{project}:{distinct id}`, both exactly as in the
/// entry.
pub fn new_person(project_text: &str, distinct_id: &str) -> PersonId {
    let name = format!("{project_text}:{distinct_id}");
    PersonId(Uuid::new_v5(&PERSON_NAMESPACE, name.as_bytes()))
}

/// The id of an event whose entry has none.
pub fn derived_event(stream: &str, id: StreamId) -> Uuid {
    Uuid::new_v5(&EVENT_NAMESPACE, format!("{stream}:{id}").as_bytes())
}

/// Why a distinct or anonymous id is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdFault {
    /// Absent, empty or white space.
    Blank,
    /// One of the values that clients send when they have no id.
    Illegal,
    /// Longer than PostgreSQL can hold.
    TooLong,
    /// Contains a NUL character.
    Nul,
}

/// Checks a distinct or anonymous id. The id itself is used untrimmed.
///
/// # Errors
/// The first fault, in the order blank, illegal, too long, NUL.
pub fn check(id: &str) -> Result<(), IdFault> {
    let trimmed = id.trim();
    if trimmed.is_empty() {
        return Err(IdFault::Blank);
    }
    if ILLEGAL
        .iter()
        .any(|illegal| trimmed.eq_ignore_ascii_case(illegal))
    {
        return Err(IdFault::Illegal);
    }
    // Bytes bound characters from above: the exact count is only taken for long ids.
    if id.len() > LONGEST_DISTINCT_ID && id.chars().count() > LONGEST_DISTINCT_ID {
        return Err(IdFault::TooLong);
    }
    if id.as_bytes().contains(&0) {
        Err(IdFault::Nul)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn person_ids_follow_the_platforms_vectors() {
        let project = "11111111-1111-1111-1111-111111111111";
        assert_eq!(
            new_person(project, "user-1").to_string(),
            "f8b36faf-727f-5c7d-8a73-b64b3a9f3721"
        );
        assert_eq!(
            new_person(project, "Ж 1:2").to_string(),
            "c8f9a7dc-a75b-5b19-84e1-75c13c25c462"
        );
    }

    #[test]
    fn illegal_ids_are_found_whatever_their_case_and_white_space() {
        for id in [
            "anonymous",
            " NULL ",
            "Undefined",
            "none",
            "nil",
            "[object Object]",
            "NaN",
            "TRUE",
            "false",
            "0",
            "guest\t",
        ] {
            assert_eq!(check(id), Err(IdFault::Illegal), "{id}");
        }
        for id in ["anonymous1", "00", "guests", " x "] {
            assert_eq!(check(id), Ok(()), "{id}");
        }
    }

    #[test]
    fn the_limit_counts_characters_not_bytes() {
        assert_eq!(check(&"Ж".repeat(400)), Ok(()));
        assert_eq!(check(&"Ж".repeat(401)), Err(IdFault::TooLong));
        assert_eq!(check("a\0b"), Err(IdFault::Nul));
        assert_eq!(check(" \t "), Err(IdFault::Blank));
    }

    #[test]
    fn derived_event_ids_differ_by_stream_and_entry() {
        let id = StreamId { ms: 1, seq: 2 };
        assert_eq!(derived_event("a", id), derived_event("a", id));
        assert_ne!(derived_event("a", id), derived_event("b", id));
        assert_ne!(
            derived_event("a", id),
            derived_event("a", StreamId { ms: 1, seq: 3 })
        );
    }
}
