//! The fields of a stream entry ("Fields of an entry" in docs/contract.md).

use stream_reply::{Entry, FieldTable};

/// A known field; its discriminant is its index in [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the field of that name")]
pub enum Field {
    EventId,
    ProjectId,
    EventName,
    EventType,
    DistinctId,
    AnonymousId,
    UserId,
    SessionId,
    Url,
    Referrer,
    PageTitle,
    PagePath,
    DeviceType,
    Browser,
    BrowserVersion,
    Os,
    OsVersion,
    ScreenWidth,
    ScreenHeight,
    Language,
    Timezone,
    Ip,
    SdkName,
    SdkVersion,
    Properties,
    UserProperties,
    Timestamp,
    BatchId,
    UserAgent,
}

/// Field names as they stand in the stream, indexed by [`Field`].
pub const NAMES: [&str; 29] = [
    "event_id",
    "project_id",
    "event_name",
    "event_type",
    "distinct_id",
    "anonymous_id",
    "user_id",
    "session_id",
    "url",
    "referrer",
    "page_title",
    "page_path",
    "device_type",
    "browser",
    "browser_version",
    "os",
    "os_version",
    "screen_width",
    "screen_height",
    "language",
    "timezone",
    "ip",
    "sdk_name",
    "sdk_version",
    "properties",
    "user_properties",
    "timestamp",
    "batch_id",
    "user_agent",
];

/// The table that finds these fields in entries.
pub const FIELDS: FieldTable = FieldTable::new(&NAMES);

/// Fields that only dead letters have: the place that their row already had.
const PLACE: [&str; 3] = ["country", "region", "city"];

const LETTER_NAMES: [&str; NAMES.len() + PLACE.len()] = {
    let mut names = [""; NAMES.len() + PLACE.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = if index < NAMES.len() {
            NAMES[index]
        } else {
            PLACE[index - NAMES.len()]
        };
        index += 1;
    }
    names
};

/// The table that finds fields in dead letters: those of entries, then the place.
pub const LETTER_FIELDS: FieldTable = FieldTable::new(&LETTER_NAMES);

/// Country, region and city that a dead letter carries; nothing when its country is empty.
pub fn told_place(entry: Entry<'_>) -> Option<[&str; 3]> {
    let place = [0, 1, 2].map(|index| entry.field(NAMES.len() + index));
    (!place[0].is_empty()).then_some(place)
}

impl Field {
    /// Every field, in the order of [`NAMES`].
    pub const ALL: [Self; NAMES.len()] = [
        Self::EventId,
        Self::ProjectId,
        Self::EventName,
        Self::EventType,
        Self::DistinctId,
        Self::AnonymousId,
        Self::UserId,
        Self::SessionId,
        Self::Url,
        Self::Referrer,
        Self::PageTitle,
        Self::PagePath,
        Self::DeviceType,
        Self::Browser,
        Self::BrowserVersion,
        Self::Os,
        Self::OsVersion,
        Self::ScreenWidth,
        Self::ScreenHeight,
        Self::Language,
        Self::Timezone,
        Self::Ip,
        Self::SdkName,
        Self::SdkVersion,
        Self::Properties,
        Self::UserProperties,
        Self::Timestamp,
        Self::BatchId,
        Self::UserAgent,
    ];

    /// The name in the stream.
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// The field's text in `entry`. An absent field has the empty text: both mean the same.
    pub fn of(self, entry: Entry<'_>) -> &str {
        entry.field(self as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_stands_at_its_own_index() {
        for (index, field) in Field::ALL.iter().enumerate() {
            assert_eq!(*field as usize, index);
        }
        assert_eq!(Field::UserAgent.name(), "user_agent");
        assert_eq!(Field::Timestamp.name(), "timestamp");
    }
}
