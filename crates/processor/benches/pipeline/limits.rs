//! What the services allow at most, measured in the same minutes as the worker.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use embedded_stack::{PASSWORD, USER};
use stream_reply::{
    Entry, FieldTable, Limits, ReplyDecoder, ReplyEnd, ReplyKind, Step, encode_command,
    encode_command_with_ids,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::form_urlencoded::Serializer;
use uuid::Uuid;

use crate::figures::Run;
use crate::native;
use crate::recorder::{Recorded, parameters};
use crate::usage::{Usage, cores};
use crate::world::{STREAM, World};

/// Entries asked for at a time, as the worker does.
const COUNT: &[u8] = b"2000";
/// Rows of an insert.
const ROWS: usize = 50_000;

/// The worker's own blocks, packed into large inserts.
pub(crate) struct Packed {
    inserts: Vec<(String, Bytes)>,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// Blocks that follow each other are one body, so nothing has to be encoded anew.
pub(crate) fn pack(recorded: &[Recorded]) -> Packed {
    let mut packed = Packed {
        inserts: Vec::new(),
        rows: 0,
        bytes: 0,
    };
    let (mut body, mut held) = (BytesMut::new(), 0);
    for (n, insert) in recorded.iter().enumerate() {
        let rows = native::read(&insert.body).rows;
        packed.rows += rows;
        packed.bytes += insert.body.len();
        held += rows;
        body.extend_from_slice(&insert.body);
        if held >= ROWS || n + 1 == recorded.len() {
            packed
                .inserts
                .push((insert.target.clone(), body.split().freeze()));
            held = 0;
        }
    }
    packed
}

/// The limits of reading what is in the stream, of inserting, and of both on all cores with nothing else to do.
pub(crate) async fn measure(world: &World, events: usize, packed: &Packed) -> Run {
    let (read, seconds) = read_and_acknowledge(world, events).await;
    let read_us = (read.own + read.redis.seconds) * 1e6 / events as f64;
    let read_rate = events as f64 / seconds;
    world.fresh().await;
    let (insert, seconds) = insert(world, packed).await;
    let insert_us = (insert.own + insert.clickhouse.seconds) * 1e6 / packed.rows as f64;
    let per_event = packed.rows as f64 / events as f64;
    vec![
        ("read_rate", read_rate),
        ("read_us", read_us),
        ("insert_rate", packed.rows as f64 / seconds),
        ("insert_us", insert_us),
        ("insert_merged", insert.engine.merged_rows / packed.rows as f64),
        ("chain_rate", cores() * 1e6 / (read_us + insert_us * per_event)),
    ]
}

/// What was used, and the seconds that it took.
async fn read_and_acknowledge(world: &World, events: usize) -> (Usage, f64) {
    let url = world.stack.redis_url().unwrap();
    let mut socket = TcpStream::connect(url.trim_start_matches("redis://"))
        .await
        .unwrap();
    let fields = Arc::new(FieldTable::new(&qurvo_processor::event::field::NAMES));
    let limits = Limits {
        block_bytes: 512 * 1024,
        entry_bytes: 16 << 20,
    };
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let before = Usage::now(world, None).await;
    let mut read = 0;
    while read < events {
        ask_for_entries(&mut output);
        socket.write_all(&output).await.unwrap();
        let mut decoder = ReplyDecoder::new(ReplyKind::Read, fields.clone(), limits);
        let mut ids = Vec::new();
        loop {
            match decoder.decode(&mut input).unwrap() {
                Step::NeedMore => {
                    input.reserve(256 * 1024);
                    socket.read_buf(&mut input).await.unwrap();
                }
                Step::Block(block) => ids.extend(block.iter().map(Entry::id)),
                Step::End(ReplyEnd::Complete) => break,
                Step::End(end) => panic!("{end:?} after {read} entries"),
            }
        }
        read += ids.len();
        output.clear();
        let command: [&[u8]; 3] = [b"XACK", STREAM.as_bytes(), b"processor-group"];
        encode_command_with_ids(&command, &ids, &[], &mut output);
        socket.write_all(&output).await.unwrap();
        while stream_reply::decode_simple(&mut input).unwrap().is_none() {
            socket.read_buf(&mut input).await.unwrap();
        }
    }
    let used = Usage::now(world, None).await.since(&before);
    assert!(world.is_drained().await, "everything is acknowledged");
    (used, used.seconds)
}

fn ask_for_entries(output: &mut BytesMut) {
    output.clear();
    let stream = STREAM.as_bytes();
    let command: [&[u8]; 9] = [
        b"XREADGROUP",
        b"GROUP",
        b"processor-group",
        b"limit",
        b"COUNT",
        COUNT,
        b"STREAMS",
        stream,
        b">",
    ];
    encode_command(&command, output);
}

/// What was used until merges are over, and the seconds that the inserts took.
async fn insert(world: &World, packed: &Packed) -> (Usage, f64) {
    let (http, url) = (
        reqwest::Client::builder().no_proxy().build().unwrap(),
        world.stack.clickhouse_url().unwrap(),
    );
    let before = Usage::now(world, None).await;
    let began = std::time::Instant::now();
    for (target, body) in &packed.inserts {
        let request = http
            .post(format!("{url}/?{}", with_own_token(target)))
            .header("X-ClickHouse-User", USER)
            .header("X-ClickHouse-Key", PASSWORD)
            .body(body.clone());
        let answer = request.send().await.unwrap();
        let (fine, text) = (answer.status().is_success(), answer.text().await.unwrap());
        assert!(fine, "{text}");
    }
    let seconds = began.elapsed().as_secs_f64();
    world.settle().await;
    let used = Usage::now(world, None).await.since(&before);
    assert!(
        world.number("SELECT count() FROM events").await > 0.0,
        "rows are there"
    );
    (used, seconds)
}

/// The same statement and settings with another token: the worker's own would have the engine drop the rows.
fn with_own_token(target: &str) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters(target) {
        let token = name == "insert_deduplication_token";
        let value = if token {
            Uuid::new_v4().simple().to_string()
        } else {
            value
        };
        query.append_pair(&name, &value);
    }
    query.finish()
}
