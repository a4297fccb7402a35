//! The fields of a stream entry ("Fields of an entry" in docs/contract.md).

use stream_reply::{Entry, FieldTable};

/// Makes, of one line per field, everything that lists fields: the variant, its name in the stream and, after `or`, what a
/// row holds where the event does not say it.
macro_rules! fields {
    ($($field:ident = $name:literal $(or $fallback:literal)?,)+) => {
        /// A known field; its discriminant is its index in [`NAMES`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant is the field of that name")]
        pub enum Field {
            $($field,)+
        }

        /// Field names as they stand in the stream, indexed by [`Field`].
        pub const NAMES: [&str; [$($name),+].len()] = [$($name),+];

        const FALLBACKS: [&str; NAMES.len()] = [$(concat!($($fallback)?)),+];

        impl Field {
            /// Every field, in the order of [`NAMES`].
            pub const ALL: [Self; NAMES.len()] = [$(Self::$field),+];
        }
    };
}

fields! {
    EventId = "event_id",
    ProjectId = "project_id",
    EventName = "event_name",
    EventType = "event_type" or "track",
    DistinctId = "distinct_id",
    AnonymousId = "anonymous_id",
    UserId = "user_id",
    SessionId = "session_id",
    Url = "url",
    Referrer = "referrer",
    PageTitle = "page_title",
    PagePath = "page_path",
    DeviceType = "device_type",
    Browser = "browser",
    BrowserVersion = "browser_version",
    Os = "os",
    OsVersion = "os_version",
    ScreenWidth = "screen_width" or "0",
    ScreenHeight = "screen_height" or "0",
    Language = "language",
    Timezone = "timezone",
    Ip = "ip",
    SdkName = "sdk_name",
    SdkVersion = "sdk_version",
    Properties = "properties" or "{}",
    UserProperties = "user_properties" or "{}",
    Timestamp = "timestamp",
    BatchId = "batch_id",
    UserAgent = "user_agent",
}

/// The table that finds these fields in entries.
pub const FIELDS: FieldTable = FieldTable::new(&NAMES);

/// Fields that only dead letters have: the place that their row already had.
pub const PLACE: [&str; 3] = ["country", "region", "city"];

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
pub fn recorded_place(entry: Entry<'_>) -> Option<[&str; 3]> {
    let place = [0, 1, 2].map(|index| entry.field(NAMES.len() + index));
    (!place[0].is_empty()).then_some(place)
}

impl Field {
    /// The name in the stream.
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// What a row holds where the event does not say it.
    pub fn fallback(self) -> &'static str {
        FALLBACKS[self as usize]
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

    #[test]
    fn what_a_row_holds_where_the_event_does_not_say_it_is_the_contracts() {
        for field in Field::ALL {
            let fallback = match field.name() {
                "event_type" => "track",
                "properties" | "user_properties" => "{}",
                "screen_width" | "screen_height" => "0",
                _ => "",
            };
            assert_eq!(field.fallback(), fallback, "{}", field.name());
        }
    }
}
