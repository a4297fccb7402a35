//! The catalogue of event and property names in PostgreSQL.

mod failures;
mod names;
mod recording;
mod settling;

use std::time::{Duration, Instant};

use crate::support::{SOON, World};

const EVENTS: &str = "SELECT event_name FROM event_definitions ORDER BY 1";
const PROPERTIES: &str =
    "SELECT concat_ws(' ', property_name, property_type, coalesce(value_type, '?'), is_numerical)
    FROM property_definitions ORDER BY property_name COLLATE \"C\", property_type";
const EVENT_PROPERTIES: &str = "SELECT concat_ws(' ', event_name, property_name, property_type)
    FROM event_properties ORDER BY event_name, property_name COLLATE \"C\"";

/// Waits until PostgreSQL answers with exactly these.
async fn recorded(world: &World, sql: &str, expected: &[&str]) {
    let deadline = Instant::now() + SOON;
    loop {
        let found = world.pg(sql).await;
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{sql}:\n{found:?} instead of\n{expected:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn event(world: &World, name: &str, properties: &str) {
    world
        .event("d", &[("event_name", name), ("properties", properties)])
        .await;
}
