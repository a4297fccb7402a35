//! Why an event is refused, and the warnings about events that land altered. Codes and types are listed in
//! docs/contract.md, "Rejected events" and "Ingestion warnings".

use std::borrow::Cow;

use stream_reply::StreamId;
use uuid::Uuid;

use super::id::ProjectId;
use super::source::Source;

/// Why an event is refused. Each reason has a stable code that operators filter by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Required fields are absent or blank: their names.
    MissingFields(Vec<&'static str>),
    /// `project_id` is no UUID.
    InvalidProjectId,
    /// `project_id` names no existing project.
    UnknownProject,
    /// `distinct_id` is one of the values that clients send when they have no id.
    IllegalDistinctId,
    /// `distinct_id` is longer than 400 characters.
    DistinctIdTooLong,
    /// `distinct_id` holds a NUL.
    InvalidDistinctId,
    /// `event_id` is no UUID.
    InvalidEventId,
    /// `timestamp`, or the entry's id where there is none, is no time or lies outside what the table keeps.
    InvalidTimestamp,
    /// The entry is larger than the worker reads: its bytes.
    EntryTooLarge(u64),
    /// The process ended each time it processed the entry alone.
    CrashLoop,
    /// ClickHouse refuses the row: its error.
    RefusedByWarehouse(String),
    /// PostgreSQL refuses the event's changes to its person: its error.
    RefusedByPostgres(String),
    /// A dead letter that holds no event: what is wrong with it.
    UnreadableDeadLetter(String),
    /// A store keeps failing on the event although it takes the event's neighbours.
    CannotBeSettled {
        /// The store's last error.
        error: String,
        /// Number of attempts.
        attempts: u32,
    },
}

impl Reason {
    /// The codes of all reasons.
    pub const CODES: [&str; 14] = [
        "missing_fields",
        "invalid_project_id",
        "unknown_project",
        "illegal_distinct_id",
        "distinct_id_too_long",
        "invalid_distinct_id",
        "invalid_event_id",
        "invalid_timestamp",
        "entry_too_large",
        "crash_loop",
        "refused_by_warehouse",
        "refused_by_postgresql",
        "unreadable_dead_letter",
        "cannot_be_settled",
    ];

    /// The code of the reason, which never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingFields(_) => "missing_fields",
            Self::InvalidProjectId => "invalid_project_id",
            Self::UnknownProject => "unknown_project",
            Self::IllegalDistinctId => "illegal_distinct_id",
            Self::DistinctIdTooLong => "distinct_id_too_long",
            Self::InvalidDistinctId => "invalid_distinct_id",
            Self::InvalidEventId => "invalid_event_id",
            Self::InvalidTimestamp => "invalid_timestamp",
            Self::EntryTooLarge(_) => "entry_too_large",
            Self::CrashLoop => "crash_loop",
            Self::RefusedByWarehouse(_) => "refused_by_warehouse",
            Self::RefusedByPostgres(_) => "refused_by_postgresql",
            Self::UnreadableDeadLetter(_) => "unreadable_dead_letter",
            Self::CannotBeSettled { .. } => "cannot_be_settled",
        }
    }

    /// Number of attempts before the event was refused.
    pub fn attempts(&self) -> u32 {
        match self {
            Self::CannotBeSettled { attempts, .. } => *attempts,
            _ => 1,
        }
    }

    /// The reason in words, for people.
    pub fn explanation(&self) -> Cow<'static, str> {
        match self {
            Self::MissingFields(fields) => format!("missing fields: {}", fields.join(", ")).into(),
            Self::InvalidProjectId => "project_id is not a UUID".into(),
            Self::UnknownProject => "project_id names no existing project".into(),
            Self::IllegalDistinctId => "illegal distinct_id value".into(),
            Self::DistinctIdTooLong => "distinct_id is longer than 400 characters".into(),
            Self::InvalidDistinctId => "distinct_id holds a NUL character".into(),
            Self::InvalidEventId => "event_id is not a UUID".into(),
            Self::InvalidTimestamp => {
                "timestamp, or the entry's id where there is none, cannot be read as a time of 1970-01-01 to 2105-02-05".into()
            },
            Self::EntryTooLarge(bytes) => format!("the entry holds {bytes} bytes, more than is read").into(),
            Self::CrashLoop => "the worker ended each time it processed this entry alone".into(),
            Self::RefusedByWarehouse(error) => format!("ClickHouse refuses the row: {error}").into(),
            Self::RefusedByPostgres(error) => {
                format!("PostgreSQL refuses the event's person: {error}").into()
            }
            Self::UnreadableDeadLetter(error) => format!("the dead letter holds no event: {error}").into(),
            Self::CannotBeSettled { error, .. } => {
                format!("the store keeps failing on this event and takes others: {error}").into()
            }
        }
    }

    /// The `reason` text of the warning that the project's owners read.
    pub fn warning_text(&self) -> String {
        match self {
            Self::MissingFields(_) | Self::IllegalDistinctId => self.explanation().into_owned(),
            other => format!("{}: {}", other.code(), other.explanation()),
        }
    }
}

/// A refused entry on its way to `events:rejected`.
#[derive(Debug, Clone)]
pub struct Reject {
    /// The entry that is refused.
    pub source: Source,
    /// Why it is refused.
    pub reason: Reason,
    /// The entry's fields as JSON text, as far as they exist.
    pub data: String,
    /// The warning for its project, when `project_id` is a UUID.
    pub warning: Option<Warning>,
}

impl Reject {
    /// The id of the refused entry.
    pub fn id(&self) -> StreamId {
        self.source.id
    }
}

/// The type of a warning (`ingestion_warnings.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarningKind {
    /// The event was refused.
    InvalidEvent,
    /// The event was refused for its distinct id.
    IllegalDistinctId,
    /// The event landed; its properties are not a JSON object.
    MalformedProperties,
    /// The event landed; it has too many properties for the catalogue.
    TooManyProperties,
    /// The event landed; its anonymous id cannot be merged.
    IllegalAnonymousId,
    /// The event landed; merging would have joined two identified users.
    MergeRefused,
    /// The event landed; property writes that do not fit its person were left out.
    PersonTooLarge,
    /// The event landed; PostgreSQL refuses one of its names for the catalogue.
    NameNotRecorded,
}

impl WarningKind {
    /// The text stored in `ingestion_warnings.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidEvent => "invalid_event",
            Self::IllegalDistinctId => "illegal_distinct_id",
            Self::MalformedProperties => "malformed_properties",
            Self::TooManyProperties => "too_many_properties",
            Self::IllegalAnonymousId => "illegal_anonymous_id",
            Self::MergeRefused => "merge_refused",
            Self::PersonTooLarge => "person_too_large",
            Self::NameNotRecorded => "name_not_recorded",
        }
    }
}

/// A row of `ingestion_warnings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The project whose owners read it.
    pub project: ProjectId,
    /// Its type.
    pub kind: WarningKind,
    /// `{"event_name", "distinct_id", "reason"}` as JSON text; of a refused merge also the other id and the event.
    pub details: String,
}

impl Warning {
    /// A warning with the three keys that its readers know; `None` becomes `null`.
    pub fn new(
        project: ProjectId,
        kind: WarningKind,
        event_name: Option<&str>,
        distinct_id: Option<&str>,
        reason: &str,
    ) -> Self {
        let details = serde_json::json!({
            "event_name": event_name.map(excerpt), "distinct_id": distinct_id.map(excerpt), "reason": reason,
        });
        Self {
            project,
            kind,
            details: details.to_string(),
        }
    }

    /// That an `$identify` joined nobody. It names both ids, and the event, so that people can be told who was not joined
    /// and why.
    pub fn merge_refused(
        project: ProjectId,
        [distinct_id, anonymous_id]: [&str; 2],
        event_id: Uuid,
        entry: StreamId,
    ) -> Self {
        let details = serde_json::json!({
            "event_name": "$identify", "distinct_id": excerpt(distinct_id),
            "reason": "merge refused: anonymous_id belongs to another identified user",
            "anonymous_id": excerpt(anonymous_id), "event_id": event_id, "stream_id": entry.to_string(),
        });
        Self {
            project,
            kind: WarningKind::MergeRefused,
            details: details.to_string(),
        }
    }
}

/// Longest text repeated in a warning, in characters: a bound on what a broken client can make the worker store.
const LONGEST_EXCERPT: usize = 1000;

fn excerpt(text: &str) -> &str {
    match text.char_indices().nth(LONGEST_EXCERPT) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
