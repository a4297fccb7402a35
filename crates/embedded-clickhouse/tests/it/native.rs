//! The Native block encoder against the engine itself: what goes in comes out, for every column type of our tables.

use std::fmt::Write;

use clickhouse::Compression;
use native_block::{
    Column, DateColumn, DateTime64Column, DateTimeColumn, LowCardinalityColumn, StringColumn, UInt16Column,
    UInt64Column, UuidColumn, take_block,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::support::{Server, server};

#[derive(Debug, Clone)]
struct Values {
    uuid: u128,
    text: String,
    word: String,
    small: u16,
    large: u64,
    date: u16,
    seconds: u32,
    millis: i64,
}

fn values() -> impl Strategy<Value = Values> {
    let text = prop_oneof![
        3 => any::<String>(),
        1 => Just(String::new()),
        1 => "[\\x00\"'\\\\\\t\\n{}🦔ї]{1,9}",
        1 => (0_usize..40_000).prop_map(|length| "я".repeat(length)),
    ];
    let word = prop_oneof![4 => "(|Chrome|Firefox|Яндекс)", 1 => ".{0,12}"];
    // 1900 to 2299: what the type holds.
    let millis = -2_208_988_800_000_i64..10_413_791_999_999;
    (
        any::<u128>(),
        text,
        word,
        any::<u16>(),
        any::<u64>(),
        any::<u16>(),
        any::<u32>(),
        millis,
    )
        .prop_map(|(uuid, text, word, small, large, date, seconds, millis)| Values {
            uuid,
            text,
            word,
            small,
            large,
            date,
            seconds,
            millis,
        })
}

fn block(rows: &[Values]) -> Vec<u8> {
    let (mut index, mut uuid) = (UInt64Column::default(), UuidColumn::default());
    let (mut text, mut word) = (StringColumn::default(), LowCardinalityColumn::default());
    let (mut small, mut large) = (UInt16Column::default(), UInt64Column::default());
    let (mut date, mut seconds) = (DateColumn::default(), DateTimeColumn::default());
    let mut millis = DateTime64Column::default();
    for (number, row) in rows.iter().enumerate() {
        index.push(number as u64);
        uuid.push(Uuid::from_u128(row.uuid));
        text.push(&row.text);
        word.push(&row.word);
        small.push(row.small);
        large.push(row.large);
        date.push(row.date);
        seconds.push(row.seconds);
        millis.push(row.millis);
    }
    let mut columns: [(&str, &mut dyn Column); 9] = [
        ("number", &mut index),
        ("uuid", &mut uuid),
        ("text", &mut text),
        ("word", &mut word),
        ("small", &mut small),
        ("large", &mut large),
        ("date", &mut date),
        ("seconds", &mut seconds),
        ("millis", &mut millis),
    ];
    take_block(rows.len(), &mut columns).unwrap().concat()
}

/// The rows as the engine is asked to print them.
fn printed(rows: &[Values]) -> String {
    let mut out = String::new();
    for row in rows {
        let hex = |text: &str| {
            text.bytes()
                .fold(String::new(), |hex, byte| hex + &format!("{byte:02X}"))
        };
        writeln!(
            out,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            Uuid::from_u128(row.uuid),
            hex(&row.text),
            hex(&row.word),
            row.small,
            row.large,
            row.date,
            row.seconds,
            row.millis
        )
        .unwrap();
    }
    out
}

async fn comes_back(server: &Server, compression: Compression, rows: &[Values]) {
    server.ask("TRUNCATE TABLE every_type").await;
    let client = server.client().with_compression(compression);
    let mut insert = client.insert_formatted_with(
        "INSERT INTO every_type (number, uuid, text, word, small, large, date, seconds, millis) FORMAT Native",
    );
    insert.send(block(rows).into()).await.unwrap();
    insert.end().await.unwrap();
    let found = server
        .ask(
            "SELECT uuid, hex(text), hex(word), small, large, toUInt16(date), toUInt32(seconds),
                    toUnixTimestamp64Milli(millis)
             FROM every_type ORDER BY number",
        )
        .await;
    assert!(found == printed(rows).trim_end(), "{} rows differ", rows.len());
}

#[tokio::test]
async fn blocks_of_every_type_come_back_as_they_were() {
    let (server, _data) = server();
    server
        .ask(
            "CREATE TABLE every_type (number UInt64, uuid UUID, text String, word LowCardinality(String), small UInt16,
                large UInt64, date Date, seconds DateTime, millis DateTime64(3, 'UTC'))
             ENGINE = MergeTree ORDER BY number",
        )
        .await;
    let mut runner = TestRunner::default();
    for round in 0..24 {
        let length = if round == 0 { 0..=0 } else { 1..=60 };
        let rows = vec(values(), length).new_tree(&mut runner).unwrap().current();
        let compression = if round % 2 == 0 {
            Compression::Lz4
        } else {
            Compression::None
        };
        comes_back(&server, compression, &rows).await;
    }
    // Enough different words for every width of the dictionary's indexes.
    for count in [255_u32, 256, 257, 65_535, 65_536, 70_000] {
        let row = values().new_tree(&mut runner).unwrap().current();
        let rows: Vec<Values> = (0..count)
            .map(|n| Values {
                text: String::new(),
                word: format!("word {n}"),
                ..row.clone()
            })
            .collect();
        comes_back(&server, Compression::Lz4, &rows).await;
    }
}
