//! The engine's codes are called as the engine calls them.

use qurvo_processor::stores::engine;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_has_the_same_names_for_its_codes() {
    let world = World::start().await;
    let codes: Vec<String> = engine::ALL.iter().map(|(code, _)| code.to_string()).collect();
    let sql = format!(
        "SELECT errorCodeToName(toUInt32(code)) FROM (SELECT arrayJoin([{}]) AS code)",
        codes.join(", ")
    );
    let known = world.ch(&sql).await;
    let named: Vec<&str> = engine::ALL.iter().map(|(_, name)| *name).collect();
    assert_eq!(known.lines().collect::<Vec<_>>(), named);
}
