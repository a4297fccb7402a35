//! Dictionaries follow their source.

use std::time::{Duration, Instant};

use crate::support::server;

#[tokio::test]
async fn a_dictionary_is_loaded_again_at_the_end_of_its_lifetime() {
    let (server, _data) = server();
    server
        .ask("CREATE TABLE source (id UInt64, name String) ENGINE = MergeTree ORDER BY id")
        .await;
    server
        .ask(
            "CREATE DICTIONARY `odd ``name` (id UInt64, name String) PRIMARY KEY id
             SOURCE(CLICKHOUSE(TABLE 'source')) LAYOUT(HASHED()) LIFETIME(MIN 1 MAX 2)",
        )
        .await;
    let ask = "SELECT dictGet('odd `name', 'name', 1::UInt64)";
    assert_eq!(server.ask(ask).await, "");
    server.ask("INSERT INTO source VALUES (1, 'one')").await;
    let began = Instant::now();
    while server.ask(ask).await != "one" {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the dictionary is never loaded again"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
