//! The official client, unchanged.

use clickhouse::{Client, Compression, Row};
use native_block::{Column, LowCardinalityColumn, StringColumn, UInt64Column, take_block};
use serde::{Deserialize, Serialize};

use crate::support::server;

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Visit {
    id: u64,
    page: String,
    #[serde(with = "clickhouse::serde::uuid")]
    person: uuid::Uuid,
    seconds: Option<f64>,
    tags: Vec<String>,
}

fn visits(count: u64) -> Vec<Visit> {
    (0..count)
        .map(|id| Visit {
            id,
            page: format!("/seite/{}/привіт\u{0}'\"\\", id % 97),
            person: uuid::Uuid::from_u128(u128::from(id) << 64 | 7),
            seconds: (id % 3 > 0).then(|| f64::from(id as u32) / 8.0),
            tags: (0..id % 4).map(|n| n.to_string()).collect(),
        })
        .collect()
}

async fn create(client: &Client) {
    let sql = "CREATE TABLE visits (id UInt64, page String, person UUID, seconds Nullable(Float64), tags Array(String))
               ENGINE = MergeTree ORDER BY id";
    client.query(sql).execute().await.unwrap();
}

async fn all(client: &Client) -> Vec<Visit> {
    client
        .query("SELECT ?fields FROM visits ORDER BY id")
        .fetch_all()
        .await
        .unwrap()
}

async fn inserts_and_reads_back(compression: Compression) {
    let (server, _data) = server();
    let client = server.client().with_compression(compression);
    create(&client).await;
    let visits = visits(20_000);
    let mut insert = client.insert::<Visit>("visits").await.unwrap();
    for visit in &visits {
        insert.write(visit).await.unwrap();
    }
    insert.end().await.unwrap();
    assert_eq!(all(&client).await, visits);
}

#[tokio::test]
async fn typed_rows_go_in_and_come_out_without_compression() {
    inserts_and_reads_back(Compression::None).await;
}

#[tokio::test]
async fn typed_rows_go_in_and_come_out_in_lz4_blocks() {
    inserts_and_reads_back(Compression::Lz4).await;
}

#[tokio::test]
async fn a_native_block_goes_in_and_native_comes_out() {
    let (server, _data) = server();
    let client = server.client();
    client
        .query("CREATE TABLE native (id UInt64, name String, kind LowCardinality(String)) ENGINE = MergeTree ORDER BY id")
        .execute()
        .await
        .unwrap();
    let (mut ids, mut names, mut kinds) = (
        UInt64Column::default(),
        StringColumn::default(),
        LowCardinalityColumn::default(),
    );
    for id in 0..5000 {
        ids.push(id);
        names.push(&format!("name {id}"));
        kinds.push(if id % 2 == 0 { "even" } else { "odd" });
    }
    let mut columns: [(&str, &mut dyn Column); 3] =
        [("id", &mut ids), ("name", &mut names), ("kind", &mut kinds)];
    let body = take_block(5000, &mut columns).unwrap().concat();
    let mut insert = client.insert_formatted_with("INSERT INTO native (id, name, kind) FORMAT Native");
    insert.send(body.into()).await.unwrap();
    insert.end().await.unwrap();
    assert_eq!(
        server.ask("SELECT count(), sum(id), countIf(kind = 'odd'), countIf(name = 'name ' || toString(id)) FROM native").await,
        "5000\t12497500\t2500\t5000"
    );
    let bytes = client
        .query("SELECT id, kind FROM native ORDER BY id LIMIT 2")
        .fetch_bytes("JSONEachRow")
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(
        &bytes[..],
        b"{\"id\":0,\"kind\":\"even\"}\n{\"id\":1,\"kind\":\"odd\"}\n"
    );
}

#[tokio::test]
async fn parameters_are_values_whatever_they_hold() {
    let (server, _data) = server();
    for value in [
        "",
        "it's",
        "a\\b",
        "\t\n\r",
        "{x:String}",
        "'; DROP TABLE t --",
        "🦔 ї",
        "NULL",
    ] {
        let found: String = server
            .client()
            .query("SELECT {value:String}")
            .param("value", value)
            .fetch_one()
            .await
            .unwrap();
        assert_eq!(found, value);
    }
    let rows: u64 = server
        .client()
        .query("SELECT count() FROM numbers(10) WHERE number IN {of:Array(UInt64)}")
        .param("of", vec![1_u64, 3, 99])
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn an_error_has_the_engines_code_and_words() {
    let (server, _data) = server();
    let error = server
        .client()
        .query("SELECT * FROM nothing_of_that_name")
        .execute()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("Code: 60") && error.contains("UNKNOWN_TABLE"),
        "{error}"
    );
    let error = server
        .client()
        .with_password("wrong")
        .query("SELECT 1")
        .execute()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("Code: 516") && !error.contains("wrong"), "{error}");
}

#[tokio::test]
async fn settings_hold_for_their_request_alone() {
    let (server, _data) = server();
    let client = server.client();
    let strict = client.clone().with_setting("max_result_rows", "5");
    let ask = async |client: &Client| {
        client
            .query("SELECT number FROM numbers(1000)")
            .fetch_all::<u64>()
            .await
    };
    let error = ask(&strict).await.unwrap_err().to_string();
    assert!(error.contains("Code: 396"), "{error}");
    assert_eq!(ask(&client).await.unwrap().len(), 1000);
    let error = client
        .clone()
        .with_setting("no_such_setting", "1")
        .query("SELECT 1")
        .execute()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn a_request_works_in_the_database_it_names() {
    let (server, _data) = server();
    server.ask("CREATE DATABASE `an other`").await;
    let other = server.client().with_database("an other");
    create(&other).await;
    assert_eq!(
        server
            .ask("SELECT database FROM system.tables WHERE name = 'visits'")
            .await,
        "an other"
    );
    assert!(all(&other).await.is_empty());
}

#[tokio::test]
async fn many_requests_at_once_all_end() {
    let (server, _data) = server();
    create(&server.client()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0_u64..24 {
        let client = server.client();
        tasks.spawn(async move {
            for round in 0..5 {
                let mut insert = client.insert::<Visit>("visits").await.unwrap();
                for visit in visits(50) {
                    let id = (worker * 5 + round) * 50 + visit.id;
                    insert.write(&Visit { id, ..visit }).await.unwrap();
                }
                insert.end().await.unwrap();
                let _count: u64 = client
                    .query("SELECT count() FROM visits WHERE id % 3 = 0")
                    .fetch_one()
                    .await
                    .unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(
        server.ask("SELECT count(), uniqExact(id) FROM visits").await,
        "6000\t6000"
    );
}

#[tokio::test]
async fn a_dictionary_may_name_the_servers_own_user() {
    let (server, _data) = server();
    server
        .ask("CREATE TABLE source (id UInt64, name String) ENGINE = MergeTree ORDER BY id")
        .await;
    server.ask("INSERT INTO source VALUES (7, 'seven')").await;
    server
        .ask(r"CREATE DICTIONARY names (id UInt64, name String) PRIMARY KEY id
               SOURCE(CLICKHOUSE(USER 'someone' PASSWORD 'it\'s a secret' QUERY 'SELECT id, name FROM default.source'))
               LAYOUT(HASHED()) LIFETIME(0)")
        .await;
    assert_eq!(
        server.ask("SELECT dictGet('default.names', 'name', 7)").await,
        "seven"
    );
}
