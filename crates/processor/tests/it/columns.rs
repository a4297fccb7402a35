//! Every column of `events`, for a full event and for a minimal one.

use crate::support::{PROJECT, SOON, World};

#[allow(
    dead_code,
    reason = "one writer of GeoIP databases for all tests, of which these need a part"
)]
#[path = "../../../enrichment/tests/it/support.rs"]
mod mmdb;

const FULL: [(&str, &str); 29] = [
    ("event_id", "0b0e5f8e-5a3c-4e2a-9c1d-3a1b2c3d4e5f"),
    ("project_id", PROJECT),
    ("event_name", "Bestellung ✓"),
    ("event_type", "track"),
    ("distinct_id", "user-1"),
    ("anonymous_id", "anon 1"),
    ("user_id", "u1"),
    ("session_id", "s1"),
    ("url", "https://example.com/a?b=c"),
    ("referrer", "https://ref.example"),
    ("page_title", "Titel"),
    ("page_path", "/a"),
    ("device_type", "mobile"),
    ("browser", "Firefox"),
    ("browser_version", "120.0"),
    ("os", "Linux"),
    ("os_version", "6"),
    ("screen_width", "70000"),
    ("screen_height", "1080.9"),
    ("language", "de-CH"),
    ("timezone", "Europe/Zurich"),
    ("ip", "8.8.8.8"),
    ("sdk_name", "qurvo-js"),
    ("sdk_version", "1.2.3"),
    ("properties", r#"{"a": 1.50, "b":{"c":null}}"#),
    ("user_properties", r#"{ "$set": {"plan":"pro"} }"#),
    ("timestamp", "TIMESTAMP"),
    ("batch_id", "import-0b0e5f8e-5a3c-4e2a-9c1d-3a1b2c3d4e5f"),
    (
        "user_agent",
        "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    ),
];

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
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
    let at = now();
    let fields = FULL.map(|(name, value)| (name, if value == "TIMESTAMP" { at.as_str() } else { value }));
    crate::support::eventually("the GeoIP database is in use", SOON, async || {
        worker.log().contains("in use")
    })
    .await;
    world.add(&fields).await;
    let row = row(&world, FULL[0].1).await;
    for (name, value) in fields {
        let expected = match name {
            "screen_width" => "65535".to_owned(),
            "screen_height" => "1080".to_owned(),
            "timestamp" => at.replace('T', " ").trim_end_matches('Z').to_owned(),
            "user_agent" => continue,
            _ => value.to_owned(),
        };
        let found = row[name]
            .as_str()
            .map_or_else(|| row[name].to_string(), str::to_owned);
        assert_eq!(found, expected, "column {name}");
    }
    assert_eq!(row["person_id"], "f8b36faf-727f-5c7d-8a73-b64b3a9f3721");
    assert_eq!(row["country"], "US");
    assert_eq!(row["region"], "California");
    assert_eq!(row["city"], "Mountain View");
    assert!(row["ingested_at"].as_str().unwrap() >= at.replace('T', " ").trim_end_matches('Z'));
    assert_eq!(
        row.as_object().unwrap().len(),
        33,
        "the table's columns are all accounted for"
    );
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
        .event("d", &[("user_agent", FULL[28].1), ("browser", "Own")])
        .await;
    world.settled(SOON).await;
    let row = world
        .ch("SELECT browser, browser_version, os, os_version, device_type FROM events")
        .await;
    assert_eq!(row, "Own\t120.0.0.0\tWindows\t10\tdesktop");
}
