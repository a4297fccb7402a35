//! Every column of `events`, for a full event and for a minimal one: every field has a column and is in the samples.

use std::collections::BTreeSet;

use qurvo_processor::event::Field;
use qurvo_processor::testing::EventColumns;
use sample_events::{Line, Load, LoadOptions};

use crate::support::{PROJECT, SOON, World};

#[allow(
    dead_code,
    reason = "one writer of GeoIP databases for all tests, of which these need a part"
)]
#[path = "../../../enrichment/tests/it/support.rs"]
mod mmdb;

/// Columns that are no field of an entry.
const MADE: [&str; 5] = ["person_id", "country", "region", "city", "ingested_at"];

/// What a full event says: of every field another text.
fn said(field: Field) -> String {
    let text = match field {
        Field::EventId => "0b0e5f8e-5a3c-4e2a-9c1d-3a1b2c3d4e5f",
        Field::ProjectId => PROJECT,
        Field::DistinctId => "user-1",
        Field::ScreenWidth => "70000",
        Field::ScreenHeight => "1080.9",
        Field::Ip => "8.8.8.8",
        Field::Properties => r#"{"a": 1.50, "b":{"c":null}}"#,
        Field::UserProperties => r#"{ "$set": {"plan":"pro"} }"#,
        Field::Timestamp => return format!("{:.3}", jiff::Timestamp::now()),
        Field::UserAgent => {
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
        }
        _ => return format!("the {} ✓", field.name()),
    };
    text.to_owned()
}

/// An instant as the table shows it.
fn time(text: &str) -> String {
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

async fn row(world: &World, id: &str) -> serde_json::Value {
    world.settled(SOON).await;
    let row = world
        .ch(&format!(
            "SELECT * FROM events WHERE event_id = '{id}' FORMAT JSONEachRow"
        ))
        .await;
    serde_json::from_str(&row).unwrap()
}

#[tokio::test]
async fn a_full_event_fills_every_column() {
    let world = World::start().await;
    let geoip = world.path("city.mmdb");
    let place = mmdb::city("US", "California", "Mountain View");
    std::fs::write(&geoip, mmdb::database("GeoLite2-City", &[("8.8.8.0/24", place)])).unwrap();
    let worker = world.worker("w1", &[("GEOIP_DATABASE", geoip.to_str().unwrap())]);
    let texts = Field::ALL.map(said);
    let fields: Vec<_> = Field::ALL.into_iter().zip(&texts).collect();
    crate::support::eventually("the GeoIP database is in use", SOON, async || {
        worker.log().contains("in use")
    })
    .await;
    let entry: Vec<_> = fields
        .iter()
        .map(|(field, text)| (field.name(), text.as_str()))
        .collect();
    world.add(&entry).await;
    let row = row(&world, &said(Field::EventId)).await;
    let mut columns = BTreeSet::from(MADE);
    for (field, text) in fields {
        let name = field.name();
        let expected = match field {
            Field::ScreenWidth => "65535",
            Field::ScreenHeight => "1080",
            Field::Timestamp => &time(text),
            Field::UserAgent => continue,
            _ => text,
        };
        let found = row[name]
            .as_str()
            .map_or_else(|| row[name].to_string(), str::to_owned);
        assert_eq!(found, expected, "column {name}");
        columns.insert(name);
    }
    assert_eq!(row["person_id"], "f8b36faf-727f-5c7d-8a73-b64b3a9f3721");
    assert_eq!(row["country"], "US");
    assert_eq!(row["region"], "California");
    assert_eq!(row["city"], "Mountain View");
    let at = &texts[Field::Timestamp as usize];
    assert!(row["ingested_at"].as_str().unwrap() >= time(at).as_str());
    let there: BTreeSet<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(there, columns, "the table's columns are all accounted for");
}

#[tokio::test]
async fn each_column_is_written_in_the_type_that_the_table_has() {
    let world = World::start().await;
    let table = world
        .ch(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'events'
             FORMAT JSONCompactEachRow",
        )
        .await;
    let table: BTreeSet<(String, String)> = table
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let written = EventColumns::names_and_types().into_iter();
    let written: BTreeSet<_> = written
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let none = BTreeSet::new();
    let missing: BTreeSet<_> = written.difference(&table).collect();
    assert_eq!(missing, none, "written, and the table does not have it so");
    let left_out: BTreeSet<_> = table.difference(&written).collect();
    assert_eq!(left_out, none, "in the table, and not written so");
}

#[tokio::test]
async fn check_names_a_column_of_rows_that_the_table_does_not_have() {
    let world = World::start().await;
    let (fine, text) = world.check(&[]);
    assert!(fine, "{text}");
    world
        .ch("ALTER TABLE events DROP PROJECTION events_by_project_timestamp")
        .await;
    world.ch("ALTER TABLE events DROP COLUMN page_title").await;
    let (fine, text) = world.check(&[]);
    assert!(!fine && text.contains("page_title"), "{text}");
}

/// Fields that are there with a text.
fn names<'a>(fields: impl Iterator<Item = (&'a str, impl AsRef<str>)>) -> BTreeSet<&'a str> {
    let with_text = fields.filter(|(_, text)| !text.as_ref().is_empty());
    with_text.map(|(name, _)| name).collect()
}

#[test]
fn the_sample_events_say_every_field() {
    let lines = sample_events::generate(sample_events::SEED, 2_000);
    let story = names(lines.iter().flat_map(Line::fields));
    let load = names(Load::new(LoadOptions::default()).take(2_000).flatten());
    for field in Field::ALL {
        let name = field.name();
        assert!(story.contains(name), "{name} in story/emit.rs of sample-events");
        assert!(load.contains(name), "{name} in load.rs of sample-events");
    }
}

#[tokio::test]
async fn a_minimal_event_gets_the_defaults_and_its_entrys_id_and_time() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    let entry = world
        .add(&[("project_id", PROJECT), ("event_name", "x"), ("distinct_id", "d")])
        .await;
    world.settled(SOON).await;
    let row: serde_json::Value = serde_json::from_str(
        &world
            .ch("SELECT *, toUnixTimestamp64Milli(timestamp) AS ms FROM events FORMAT JSONEachRow")
            .await,
    )
    .unwrap();
    let (ms, _) = entry.split_once('-').unwrap();
    assert_eq!(row["ms"].to_string().trim_matches('"'), ms);
    for (name, value) in row.as_object().unwrap() {
        let expected = match name.as_str() {
            "event_type" => "\"track\"",
            "properties" | "user_properties" => "\"{}\"",
            "screen_width" | "screen_height" => "0",
            "event_id" | "project_id" | "event_name" | "distinct_id" | "person_id" | "timestamp"
            | "ingested_at" | "ms" => {
                continue;
            }
            _ => "\"\"",
        };
        assert_eq!(value.to_string(), expected, "column {name}");
    }
}

#[tokio::test]
async fn what_the_sdk_did_not_say_comes_from_the_user_agent() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world
        .event(
            "d",
            &[("user_agent", &said(Field::UserAgent)), ("browser", "Own")],
        )
        .await;
    world.settled(SOON).await;
    let row = world
        .ch("SELECT browser, browser_version, os, os_version, device_type FROM events")
        .await;
    assert_eq!(row, "Own\t120.0.0.0\tWindows\t10\tdesktop");
}
