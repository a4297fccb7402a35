//! Letters in the dead-letter queue, as tests put them there.

use uuid::Uuid;

use super::{PROJECT, QUEUE, World, ask};

/// A replay that comes around often.
pub(crate) const QUICK: (&str, &str) = ("DLQ_REPLAY_INTERVAL_MS", "500");

/// A letter as the predecessor wrote it.
pub(crate) async fn letter(world: &World, data: &str) -> String {
    ask(world, "XADD", &[QUEUE, "*", "data", data]).await
}

/// The data of a letter: an event named `old`, with more members behind the usual ones.
pub(crate) fn event_data(id: Uuid, who: &str, more: &str) -> String {
    format!(
        r#"{{"event_id":"{id}","project_id":"{PROJECT}","event_name":"old","event_type":"track","distinct_id":"{who}",
            "person_id":"99999999-9999-4999-8999-999999999999","screen_width":1080,"screen_height":null,"region":"",
            "timestamp":"2026-11-01T10:00:00.000Z"{more}}}"#
    )
}

/// How many rows an event has.
pub(crate) async fn rows(world: &World, id: Uuid) -> String {
    world
        .ch(&format!("SELECT count() FROM events WHERE event_id = '{id}'"))
        .await
}
