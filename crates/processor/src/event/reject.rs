//! Why an event is refused, and what is said about one that lands altered.

use std::borrow::Cow;

use stream_reply::StreamId;
use uuid::Uuid;

use super::source::Source;

/// A stable code for a refused event; the text operators filter by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Required fields absent or blank.
    MissingFields(Vec<&'static str>),
    /// `project_id` is no UUID.
    InvalidProjectId,
    /// No such project.
    UnknownProject,
    /// `distinct_id` is on the list of values that are no ids.
    IllegalDistinctId,
    /// `distinct_id` is longer than 400 characters.
    DistinctIdTooLong,
    /// `distinct_id` holds a NUL.
    InvalidDistinctId,
    /// `event_id` is no UUID.
    InvalidEventId,
    /// `timestamp`, or the entry's id where there is none, is no time or lies outside what the table keeps.
    InvalidTimestamp,
    /// The entry is larger than the worker reads.
    EntryTooLarge(u64),
    /// The entry ended the worker whenever it was processed alone.
    CrashLoop,
    /// ClickHouse refuses the row.
    RefusedByWarehouse(String),
    /// PostgreSQL refuses what the event says of its person.
    RefusedByPostgres(String),
    /// A dead letter that holds no event.
    UnreadableDeadLetter(String),
    /// The stores keep failing on it although they take its neighbours.
    CannotBeSettled {
        /// What the store said last.
        error: String,
        /// How often it was tried.
        attempts: u32,
    },
}

impl Reason {
    /// The stable code.
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

    /// How often the event was tried before it was refused.
    pub fn attempts(&self) -> u32 {
        match self {
            Self::CannotBeSettled { attempts, .. } => *attempts,
            _ => 1,
        }
    }

    /// What to tell a person.
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
    /// Where it came from.
    pub source: Source,
    /// Why.
    pub reason: Reason,
    /// The raw fields as JSON text, as far as they exist.
    pub data: String,
    /// The warning for its project, if that is known to be a UUID.
    pub warning: Option<Warning>,
}

impl Reject {
    /// The entry's id.
    pub fn id(&self) -> StreamId {
        self.source.id
    }
}

/// What a warning row is about (`ingestion_warnings.type`).
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
    /// The event landed; its person would hold more than it may with all that the event writes.
    PersonTooLarge,
    /// The event landed; the catalogue's table refuses one of its names.
    NameNotRecorded,
}

impl WarningKind {
    /// The stored text.
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
    /// Project.
    pub project: Uuid,
    /// Type.
    pub kind: WarningKind,
    /// `{"event_name", "distinct_id", "reason"}` as JSON text.
    pub details: String,
}

impl Warning {
    /// A warning with the three keys its readers know; `None` becomes `null`.
    pub fn new(
        project: Uuid,
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
}

/// Longest value repeated in a warning: a bound on what a broken client can make us store.
const LONGEST_EXCERPT: usize = 1000;

fn excerpt(text: &str) -> &str {
    match text.char_indices().nth(LONGEST_EXCERPT) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
