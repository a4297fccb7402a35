//! What reading a stream entry costs: in place, and as the client library's tree of values. One thread, same bytes,
//! taken in turns.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops when something is wrong"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use stream_reply::{FieldTable, Limits, ReplyDecoder, ReplyKind, Step};

const NAMES: &[&str] = &[
    "event_id",
    "project_id",
    "event_name",
    "distinct_id",
    "anonymous_id",
    "user_id",
    "session_id",
    "url",
    "referrer",
    "page_title",
    "page_path",
    "user_agent",
    "ip",
    "screen_width",
    "screen_height",
    "language",
    "timezone",
    "properties",
    "user_properties",
    "sdk_name",
    "sdk_version",
    "timestamp",
    "batch_id",
];
const ENTRIES: usize = 2000;
const ROUNDS: usize = 60;

fn reply() -> Vec<u8> {
    let mut out = format!("*1\r\n*2\r\n$15\r\nevents:incoming\r\n*{ENTRIES}\r\n").into_bytes();
    for n in 0..ENTRIES {
        let id = format!("17639712000{:02}-{n}", n % 100);
        out.extend(format!("*2\r\n${}\r\n{id}\r\n*{}\r\n", id.len(), NAMES.len() * 2).into_bytes());
        for name in NAMES {
            let value = match *name {
                "properties" => {
                    r#"{"plan":"pro","price":19.9,"items":[1,2,3],"ref":"newsletter","step":4}"#.repeat(3)
                }
                "user_agent" => "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0".into(),
                _ => format!("{name}-{n}"),
            };
            out.extend(format!("${}\r\n{name}\r\n${}\r\n{value}\r\n", name.len(), value.len()).into_bytes());
        }
    }
    out
}

fn in_place(bytes: &[u8]) -> usize {
    let limits = Limits {
        block_bytes: 1 << 20,
        entry_bytes: 1 << 20,
    };
    let mut decoder = ReplyDecoder::new(ReplyKind::Read, Arc::new(FieldTable::new(NAMES)), limits);
    let mut input = BytesMut::from(bytes);
    let mut seen = 0;
    while let Step::Block(block) = decoder.decode(&mut input).unwrap() {
        seen += block.iter().map(|entry| entry.field(2).len()).sum::<usize>();
    }
    seen
}

fn as_values(bytes: &[u8]) -> usize {
    let value = redis::parse_redis_value(bytes).unwrap();
    let reply: redis::streams::StreamReadReply = redis::from_redis_value(value).unwrap();
    let entries = reply.keys.iter().flat_map(|key| &key.ids);
    entries
        .map(|entry| entry.get::<String>("event_name").unwrap().len())
        .sum()
}

fn main() {
    let bytes = reply();
    assert_eq!(in_place(&bytes), as_values(&bytes));
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (times, read) in times.iter_mut().zip([in_place, as_values]) {
            let started = Instant::now();
            black_box(read(black_box(&bytes)));
            times.push(started.elapsed());
        }
    }
    let [in_place, as_values] = times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2].as_secs_f64() * 1e9 / ENTRIES as f64
    });
    println!(
        "entry of {} fields, {} bytes; median of {ROUNDS}",
        NAMES.len(),
        bytes.len() / ENTRIES
    );
    println!("in place          {in_place:8.0} ns");
    println!("client library    {as_values:8.0} ns");
    println!("ratio             {:8.1}", as_values / in_place);
}
