//! The columns of `events`, filled row by row and sent as one Native block.

use native_block::{
    BlockError, Column, DateTime64Column, LowCardinalityColumn, StringColumn, UInt16Column, UuidColumn,
    write_block,
};
use stream_reply::Entry;
use uuid::Uuid;

use crate::event::decode::screen_size;
use crate::event::{Event, Field};

use super::enriched::Enrichment;

/// Text columns that hold the field of the same name as it came.
const TEXT_FIELDS: [Field; 11] = [
    Field::DistinctId,
    Field::AnonymousId,
    Field::UserId,
    Field::SessionId,
    Field::Url,
    Field::Referrer,
    Field::PageTitle,
    Field::PagePath,
    Field::Timezone,
    Field::SdkVersion,
    Field::BatchId,
];

/// Rows of `events` on their way to a block. Memory is kept when cleared.
#[derive(Default)]
pub struct EventColumns {
    event_id: UuidColumn,
    project_id: UuidColumn,
    person_id: UuidColumn,
    event_name: LowCardinalityColumn,
    event_type: LowCardinalityColumn,
    text: [StringColumn; TEXT_FIELDS.len()],
    device_type: LowCardinalityColumn,
    browser: LowCardinalityColumn,
    browser_version: StringColumn,
    os: LowCardinalityColumn,
    os_version: StringColumn,
    screen_width: UInt16Column,
    screen_height: UInt16Column,
    country: LowCardinalityColumn,
    region: StringColumn,
    city: StringColumn,
    language: LowCardinalityColumn,
    properties: StringColumn,
    user_properties: StringColumn,
    sdk_name: LowCardinalityColumn,
    timestamp: DateTime64Column,
    ingested_at: DateTime64Column,
    ip: StringColumn,
    rows: usize,
}

impl EventColumns {
    /// Appends the row of one event.
    pub fn push(
        &mut self,
        event: &Event,
        entry: Entry<'_>,
        person: Uuid,
        now_ms: i64,
        enrichment: &Enrichment,
    ) {
        self.event_id.push(event.event_id);
        self.project_id.push(event.project);
        self.person_id.push(person);
        self.event_name.push(Field::EventName.of(entry));
        self.event_type.push(or(Field::EventType.of(entry), "track"));
        for (column, field) in self.text.iter_mut().zip(TEXT_FIELDS) {
            column.push(field.of(entry));
        }
        enrichment.with_agent(
            entry,
            |[device_type, browser, browser_version, os, os_version]| {
                self.device_type.push(device_type);
                self.browser.push(browser);
                self.browser_version.push(browser_version);
                self.os.push(os);
                self.os_version.push(os_version);
            },
        );
        self.screen_width.push(screen_size(Field::ScreenWidth.of(entry)));
        self.screen_height
            .push(screen_size(Field::ScreenHeight.of(entry)));
        enrichment.with_place(entry, |[country, region, city]| {
            self.country.push(country);
            self.region.push(region);
            self.city.push(city);
        });
        self.ip.push(Field::Ip.of(entry));
        self.language.push(Field::Language.of(entry));
        self.properties.push(or(Field::Properties.of(entry), "{}"));
        self.user_properties
            .push(or(Field::UserProperties.of(entry), "{}"));
        self.sdk_name.push(Field::SdkName.of(entry));
        self.timestamp.push(event.timestamp);
        self.ingested_at.push(now_ms);
        self.rows += 1;
    }

    /// Every column with its name, in the order of the statement.
    fn columns(&self) -> Vec<(&'static str, &dyn Column)> {
        let mut columns: Vec<(&'static str, &dyn Column)> = vec![
            ("event_id", &self.event_id),
            ("project_id", &self.project_id),
            ("person_id", &self.person_id),
            ("event_name", &self.event_name),
            ("event_type", &self.event_type),
            ("device_type", &self.device_type),
            ("browser", &self.browser),
            ("browser_version", &self.browser_version),
            ("os", &self.os),
            ("os_version", &self.os_version),
            ("screen_width", &self.screen_width),
            ("screen_height", &self.screen_height),
            ("country", &self.country),
            ("region", &self.region),
            ("city", &self.city),
            ("language", &self.language),
            ("properties", &self.properties),
            ("user_properties", &self.user_properties),
            ("sdk_name", &self.sdk_name),
            ("timestamp", &self.timestamp),
            ("ingested_at", &self.ingested_at),
            ("ip", &self.ip),
        ];
        for (column, field) in self.text.iter().zip(TEXT_FIELDS) {
            columns.push((field.name(), column));
        }
        columns
    }

    /// The insert statement that blocks belong to.
    pub fn statement() -> String {
        let empty = Self::default();
        let names: Vec<&str> = empty.columns().iter().map(|(name, _)| *name).collect();
        format!("INSERT INTO events ({}) FORMAT Native", names.join(", "))
    }

    /// The rows as one block.
    ///
    /// # Errors
    /// When columns disagree about the number of rows, which `push` rules out.
    pub fn block(&self) -> Result<Vec<u8>, BlockError> {
        let columns = self.columns();
        let size: usize = columns.iter().map(|(_, column)| column.byte_len()).sum();
        let mut body = Vec::with_capacity(size + 64 * columns.len());
        write_block(&mut body, self.rows, &columns)?;
        Ok(body)
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
