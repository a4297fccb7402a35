//! How fast a preloaded stream is drained, what an event costs each process, and, in the same run, the limits: merely
//! reading and acknowledging the entries, merely inserting the rows.
//!
//! `./dev bench`, or with more events: `DRAIN_EVENTS=1000000 ./dev bench`. Private services on loopback, gone afterwards.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark"
)]

mod common;

use std::process::Stdio;
use std::time::Instant;

use bytes::BytesMut;
use embedded_stack::{Stack, StackOptions};
use native_block::{Column, DateTime64Column, LowCardinalityColumn, StringColumn, UuidColumn, write_block};
use std::sync::Arc;
use stream_reply::{
    FieldTable, Limits, ReplyDecoder, ReplyEnd, ReplyKind, Step, encode_command, encode_command_with_ids,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use common::{Measured, STREAM, command, connect_redis, cpu_of, difference, drain, is_drained, services_cpu};

const PROJECT: &str = "11111111-1111-1111-1111-111111111111";
const PERSONS: usize = 20_000;
/// Rows in a block of [`insert_only`].
const ROWS: usize = 10_000;

#[tokio::main]
async fn main() {
    let events: usize = std::env::var("DRAIN_EVENTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(300_000);
    let stack = Stack::start(StackOptions::temporary().unwrap()).await.unwrap();
    let mut redis = connect_redis(&stack).await;
    assert!(
        command(&stack)
            .arg("migrate")
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let (postgres, connection) =
        tokio_postgres::connect(&stack.database_url().unwrap(), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    postgres
        .execute(
            &format!("INSERT INTO projects (id, name) VALUES ('{PROJECT}', 'bench')"),
            &[],
        )
        .await
        .unwrap();

    println!(
        "{events} events of {PERSONS} persons, 800 bytes and 28 fields each; every process on this machine\n"
    );
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "run",
        "events/s",
        "worker µs",
        "Redis µs",
        "PostgreSQL µs",
        "ClickHouse µs",
        "worker peak MB",
    ]);
    for (name, first) in [("mostly new persons", 0), ("known persons", 1)] {
        load(&mut redis, events, first).await;
        let drained = drain(&stack, &mut redis, events).await;
        table.add_row(drained.row(name, events));
    }
    load(&mut redis, events, 2).await;
    table.add_row(
        read_only(&stack, &mut redis, events)
            .await
            .row("limit: read and acknowledge only", events),
    );
    table.add_row(
        insert_only(&stack, events)
            .await
            .row("limit: insert only", events),
    );
    println!("{table}");
    println!("\nµs are CPU time per event of the process and its children, user and system");
}

/// Appends realistic entries; `round` keeps their ids apart.
async fn load(redis: &mut redis::aio::MultiplexedConnection, events: usize, round: usize) {
    let padding = "x".repeat(120);
    let now = jiff::Timestamp::now().as_millisecond();
    for chunk in 0..events.div_ceil(1000) {
        let mut pipeline = redis::pipe();
        for n in chunk * 1000..((chunk + 1) * 1000).min(events) {
            let at = jiff::Timestamp::from_millisecond(now - (n as i64 % 3_600_000)).unwrap();
            let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
            let person = (n * 7919 + n / PERSONS) % PERSONS;
            for (name, value) in [
                (
                    "event_id",
                    Uuid::from_u128((round as u128) << 64 | n as u128 | 1 << 100).to_string(),
                ),
                ("project_id", PROJECT.into()),
                (
                    "event_name",
                    ["$pageview", "click", "search", "buy"][n % 4].into(),
                ),
                ("event_type", "track".into()),
                ("distinct_id", format!("visitor-{person}")),
                ("anonymous_id", format!("anonymous-{person}")),
                ("user_id", String::new()),
                ("session_id", format!("session-{}", n / 20)),
                (
                    "url",
                    format!("https://shop.example/products/{}?campaign=spring", n % 500),
                ),
                ("referrer", "https://search.example/".into()),
                ("page_title", "A product that somebody may want to buy".into()),
                ("page_path", format!("/products/{}", n % 500)),
                ("device_type", String::new()),
                ("browser", String::new()),
                ("browser_version", String::new()),
                ("os", String::new()),
                ("os_version", String::new()),
                ("screen_width", "1920".into()),
                ("screen_height", "1080".into()),
                ("language", "en-US".into()),
                ("timezone", "Europe/Zurich".into()),
                ("ip", format!("81.{}.{}.7", n % 200, n % 250)),
                ("sdk_name", "qurvo-js".into()),
                ("sdk_version", "1.4.2".into()),
                (
                    "properties",
                    format!(r#"{{"price":{},"category":"shoes","note":"{padding}"}}"#, n % 100),
                ),
                ("user_properties", "{}".into()),
                ("timestamp", format!("{at:.3}")),
                (
                    "user_agent",
                    format!(
                        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36",
                        100 + n % 40
                    ),
                ),
            ] {
                command.arg(name).arg(value);
            }
            command.ignore();
        }
        pipeline.query_async::<()>(redis).await.unwrap();
    }
}

/// The entries read by the in-place decoder and acknowledged, nothing else.
async fn read_only(stack: &Stack, redis: &mut redis::aio::MultiplexedConnection, events: usize) -> Measured {
    let url = stack.redis_url().unwrap();
    let address = url.trim_start_matches("redis://").to_owned();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let fields = Arc::new(FieldTable::new(&qurvo_processor::event::field::NAMES));
    let limits = Limits {
        block_bytes: 512 * 1024,
        entry_bytes: 16 << 20,
    };
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let (before, own, started) = (services_cpu(), cpu_of(std::process::id()), Instant::now());
    let mut read = 0;
    while read < events {
        output.clear();
        encode_command(
            &[
                b"XREADGROUP",
                b"GROUP",
                b"processor-group",
                b"limit",
                b"COUNT",
                b"2000",
                b"STREAMS",
                STREAM.as_bytes(),
                b">",
            ],
            &mut output,
        );
        socket.write_all(&output).await.unwrap();
        let mut decoder = ReplyDecoder::new(ReplyKind::Read, fields.clone(), limits);
        let mut ids = Vec::new();
        loop {
            match decoder.decode(&mut input).unwrap() {
                Step::NeedMore => {
                    input.reserve(256 * 1024);
                    socket.read_buf(&mut input).await.unwrap();
                }
                Step::Block(block) => ids.extend(block.iter().map(stream_reply::Entry::id)),
                Step::End(ReplyEnd::Complete) => break,
                Step::End(end) => panic!("{end:?} after {read} entries"),
            }
        }
        read += ids.len();
        output.clear();
        encode_command_with_ids(
            &[b"XACK", STREAM.as_bytes(), b"processor-group"],
            &ids,
            &[],
            &mut output,
        );
        socket.write_all(&output).await.unwrap();
        while stream_reply::decode_simple(&mut input).unwrap().is_none() {
            socket.read_buf(&mut input).await.unwrap();
        }
    }
    assert!(is_drained(redis).await);
    let seconds = started.elapsed().as_secs_f64();
    let services = difference(before, services_cpu());
    Measured {
        seconds,
        worker_cpu: cpu_of(std::process::id()) - own,
        worker_peak_mb: 0,
        services,
    }
}

/// The statement that inserts a block, and the block.
fn block_of_rows(block: usize) -> (String, bytes::Bytes) {
    let (mut id, mut project, mut person) = (
        UuidColumn::default(),
        UuidColumn::default(),
        UuidColumn::default(),
    );
    let (mut name, mut at) = (LowCardinalityColumn::default(), DateTime64Column::default());
    let mut text: [StringColumn; 8] = Default::default();
    let now = jiff::Timestamp::now().as_millisecond();
    for n in 0..ROWS {
        id.push(Uuid::new_v4());
        project.push(PROJECT.parse().unwrap());
        person.push(Uuid::from_u128((n % 997) as u128));
        name.push(["$pageview", "click", "search", "buy"][n % 4]);
        at.push(now - n as i64);
        for column in &mut text {
            column.push(&format!(
                "https://shop.example/products/{}?campaign=spring and some more text {block}",
                n % 500
            ));
        }
    }
    let names = [
        "distinct_id",
        "anonymous_id",
        "session_id",
        "url",
        "referrer",
        "page_title",
        "properties",
        "page_path",
    ];
    let mut columns: Vec<(&str, &dyn Column)> = vec![
        ("event_id", &id),
        ("project_id", &project),
        ("person_id", &person),
        ("event_name", &name),
        ("timestamp", &at),
    ];
    columns.extend(
        names
            .into_iter()
            .zip(text.iter().map(|column| column as &dyn Column)),
    );
    let mut body = Vec::new();
    write_block(&mut body, ROWS, &columns).unwrap();
    let list = columns
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ");
    (
        format!("INSERT INTO events ({list}) FORMAT Native"),
        bytes::Bytes::from(body),
    )
}

/// Ready-made blocks of ten thousand rows inserted one after another, nothing else.
async fn insert_only(stack: &Stack, events: usize) -> Measured {
    let config = qurvo_processor::config::Config::from_lookup(&|name| {
        stack
            .env()
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    })
    .unwrap();
    let clickhouse = qurvo_processor::stores::ClickHouse::new(&config.clickhouse);
    let bodies: Vec<_> = (0..events.div_ceil(ROWS)).map(block_of_rows).collect();
    let (before, own, started) = (services_cpu(), cpu_of(std::process::id()), Instant::now());
    for (statement, body) in bodies {
        clickhouse
            .insert_all("inserting", &statement, ROWS, body)
            .await
            .unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let services = difference(before, services_cpu());
    Measured {
        seconds,
        worker_cpu: cpu_of(std::process::id()) - own,
        worker_peak_mb: 0,
        services,
    }
}
