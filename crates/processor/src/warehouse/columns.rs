//! The columns of `events`, filled row by row and sent as one Native block.

use native_block::{
    BlockError, Column, DateTime64Column, LowCardinalityColumn, StringColumn, UInt16Column, UuidColumn,
    take_block,
};

use crate::event::Field;
use crate::stores::Body;

use super::row::Row;

/// Makes, of one line per column, everything that lists columns: its name, its type, and what it holds of a row.
macro_rules! columns {
    (|$row:ident, $now_ms:ident| $($name:ident: $column:ident = $value:expr,)+) => {
        /// Rows of `events` on their way to a block.
        #[derive(Default)]
        pub struct EventColumns {
            $($name: $column,)+
            rows: usize,
        }

        impl EventColumns {
            /// Appends a row that is ingested at `now_ms`, UTC milliseconds.
            pub(crate) fn push(&mut self, $row: &Row<'_>, $now_ms: i64) {
                $(self.$name.push($value);)+
                self.rows += 1;
            }

            /// Every column with its name, in the order of the statement.
            fn columns(&mut self) -> Vec<(&'static str, &mut dyn Column)> {
                vec![$((stringify!($name), &mut self.$name),)+]
            }
        }
    };
}

columns! {
    |row, now_ms|
    event_id: UuidColumn = row.event_id,
    project_id: UuidColumn = row.project.0,
    person_id: UuidColumn = row.person.0,
    event_name: LowCardinalityColumn = row.text(Field::EventName),
    event_type: LowCardinalityColumn = row.text(Field::EventType),
    device_type: LowCardinalityColumn = row.text(Field::DeviceType),
    browser: LowCardinalityColumn = row.text(Field::Browser),
    browser_version: StringColumn = row.text(Field::BrowserVersion),
    os: LowCardinalityColumn = row.text(Field::Os),
    os_version: StringColumn = row.text(Field::OsVersion),
    screen_width: UInt16Column = row.size(Field::ScreenWidth),
    screen_height: UInt16Column = row.size(Field::ScreenHeight),
    country: LowCardinalityColumn = row.country,
    region: StringColumn = row.region,
    city: StringColumn = row.city,
    language: LowCardinalityColumn = row.text(Field::Language),
    properties: StringColumn = row.text(Field::Properties),
    user_properties: StringColumn = row.text(Field::UserProperties),
    sdk_name: LowCardinalityColumn = row.text(Field::SdkName),
    timestamp: DateTime64Column = row.timestamp,
    ingested_at: DateTime64Column = now_ms,
    ip: StringColumn = row.text(Field::Ip),
    distinct_id: StringColumn = row.text(Field::DistinctId),
    anonymous_id: StringColumn = row.text(Field::AnonymousId),
    user_id: StringColumn = row.text(Field::UserId),
    session_id: StringColumn = row.text(Field::SessionId),
    url: StringColumn = row.text(Field::Url),
    referrer: StringColumn = row.text(Field::Referrer),
    page_title: StringColumn = row.text(Field::PageTitle),
    page_path: StringColumn = row.text(Field::PagePath),
    timezone: StringColumn = row.text(Field::Timezone),
    sdk_version: StringColumn = row.text(Field::SdkVersion),
    batch_id: StringColumn = row.text(Field::BatchId),
}

impl EventColumns {
    /// Name and type of every column, in the order of the statement.
    pub fn names_and_types() -> Vec<(&'static str, &'static str)> {
        let mut empty = Self::default();
        let columns = empty.columns().into_iter();
        columns.map(|(name, column)| (name, column.type_name())).collect()
    }

    /// The names of all columns as a statement lists them.
    pub(crate) fn names() -> String {
        let columns = Self::names_and_types().into_iter();
        columns.map(|(name, _)| name).collect::<Vec<_>>().join(", ")
    }

    /// The insert statement that blocks belong to.
    pub(crate) fn statement() -> String {
        format!("INSERT INTO events ({}) FORMAT Native", Self::names())
    }

    /// The rows as one block.
    ///
    /// # Errors
    /// When columns disagree about the number of rows, which `push` rules out.
    pub(crate) fn into_block(mut self) -> Result<Body, BlockError> {
        take_block(self.rows, &mut self.columns()).map(Body::from)
    }
}
