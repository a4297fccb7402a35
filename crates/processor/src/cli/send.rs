//! `qurvo-processor send`: NDJSON events onto the stream, in the ingest service's format.
//!
//! A line is an object of fields; text as it is, numbers and booleans as their JSON text, objects and arrays exactly as
//! they stand. Or it is a raw entry, an array of `[field, value]` pairs sent as it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, stdin};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::failure::Failure;
use super::output::print;
use crate::config::Config;
use crate::event::{Field, timestamp};
use crate::logs::harmless;
use crate::stores::{Redis, StoreError};

/// Events in one round trip.
const PER_ROUND_TRIP: usize = 1000;
/// Capacity of the stream, as the ingest service keeps it.
const STREAM_CAPACITY: u64 = 1_000_000;
/// Bad lines that are shown; more are counted.
const SHOWN: usize = 20;

/// Arguments of `send`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of events, one JSON value a line; `-` is standard input.
    file: PathBuf,
    /// Shift all timestamps alike, so that the newest becomes now.
    #[arg(long, conflicts_with = "rebase_to")]
    rebase: bool,
    /// Shift all timestamps alike, so that the newest becomes this instant; sent again, the events are the same.
    #[arg(long, value_name = "ISO")]
    rebase_to: Option<String>,
    /// Events a second at most.
    #[arg(long)]
    rate: Option<u32>,
    /// Stream to write to, instead of the first of `PROCESSOR_STREAM`.
    #[arg(long)]
    stream: Option<String>,
}

/// An entry's fields in their order.
type Entry = Vec<(String, String)>;

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let shift = shift(&arguments)?;
    let stream = arguments
        .stream
        .clone()
        .unwrap_or_else(|| config.streams[0].clone());
    let mut sender = Sender {
        redis: Redis::new(&config.redis_url)?,
        stream,
        waiting: Vec::new(),
        sent: 0,
        started: Instant::now(),
        rate: arguments.rate,
        bar: progress(&arguments.file),
    };
    let mut bad = 0usize;
    for (index, line) in open(&arguments.file)?.lines().enumerate() {
        let line = line.with_context(|| format!("reading line {}", index + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        match parse(&line, shift) {
            Ok(entry) => sender.push(entry).await?,
            Err(reason) => {
                bad += 1;
                if bad <= SHOWN {
                    let reason = harmless::line(&reason);
                    print(&format!("line {}: {reason}: skipped", index + 1));
                }
            }
        }
    }
    sender.flush().await?;
    sender.bar.finish_and_clear();
    let seconds = sender.started.elapsed().as_secs_f64();
    print(&format!(
        "sent {} events to {} in {seconds:.1} s ({:.0}/s)",
        sender.sent,
        harmless::line(&sender.stream),
        sender.sent as f64 / seconds.max(0.001)
    ));
    if bad > 0 {
        return Err(anyhow::anyhow!("{bad} lines were not events and were skipped").into());
    }
    Ok(())
}

fn open(file: &PathBuf) -> Result<Box<dyn BufRead + Send>, Failure> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(stdin())));
    }
    let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, opened)))
}

fn progress(file: &PathBuf) -> ProgressBar {
    let lines = if std::io::stderr().is_terminal() && file.as_os_str() != "-" {
        open(file).map(|reader| reader.lines().count() as u64).ok()
    } else {
        None
    };
    let Some(lines) = lines else {
        return ProgressBar::hidden();
    };
    let template = "{bar:40} {pos}/{len} events  {per_sec}  {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(lines).with_style(style)
}

/// Milliseconds to add to every timestamp.
fn shift(arguments: &Arguments) -> Result<i64, Failure> {
    let target = match &arguments.rebase_to {
        Some(text) => timestamp::parse(text).ok_or_else(|| {
            Failure::Usage(format!(
                "--rebase-to {text}: expected an instant such as 2026-01-15T10:30:00Z"
            ))
        })?,
        None if arguments.rebase => jiff::Timestamp::now().as_millisecond(),
        None => return Ok(0),
    };
    if arguments.file.as_os_str() == "-" {
        return Err(Failure::Usage(
            "standard input cannot be rebased: it can be read only once".into(),
        ));
    }
    let mut newest = None;
    for line in open(&arguments.file)?.lines() {
        let line = line.context("reading the file")?;
        let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&line) else {
            continue;
        };
        let at = fields
            .get("timestamp")
            .and_then(|value| timestamp::parse(&text_of(value)));
        newest = newest.max(at);
    }
    Ok(newest.map_or(0, |newest| target - newest))
}

/// Reads one line.
fn parse(line: &str, shift: i64) -> Result<Entry, String> {
    let trimmed = line.trim();
    if trimmed.starts_with('[') {
        let pairs: Vec<(String, String)> = serde_json::from_str(trimmed)
            .map_err(|e| format!("not an array of [field, value] pairs of text ({e})"))?;
        return if pairs.is_empty() {
            Err("no fields".into())
        } else {
            Ok(pairs)
        };
    }
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(trimmed).map_err(|e| format!("not a JSON object ({e})"))?;
    if fields.is_empty() {
        return Err("no fields".into());
    }
    let mut entry: BTreeMap<String, String> = fields
        .iter()
        .filter(|(_, value)| value.get() != "null")
        .map(|(name, value)| (name.clone(), text_of(value)))
        .collect();
    if shift != 0
        && let Some(text) = entry.get_mut("timestamp")
        && let Some(at) = timestamp::parse(text)
        && let Ok(at) = jiff::Timestamp::from_millisecond(at + shift)
    {
        *text = format!("{at:.3}");
    }
    complete(&mut entry);
    Ok(entry.into_iter().collect())
}

/// Fields that the ingest service writes even where the event does not say them.
const ALWAYS_WRITTEN: [Field; 6] = [
    Field::AnonymousId,
    Field::UserId,
    Field::ScreenWidth,
    Field::ScreenHeight,
    Field::Properties,
    Field::UserProperties,
];

/// Adds what the ingest service always writes.
fn complete(entry: &mut BTreeMap<String, String>) {
    let name = entry.get(Field::EventName.name()).cloned().unwrap_or_default();
    let mut missing = |field: Field, value: &dyn Fn() -> String| {
        entry.entry(field.name().to_owned()).or_insert_with(value);
    };
    missing(Field::EventId, &|| Uuid::now_v7().to_string());
    missing(Field::Timestamp, &|| format!("{:.3}", jiff::Timestamp::now()));
    missing(Field::EventType, &|| event_type(&name).to_owned());
    for field in ALWAYS_WRITTEN {
        missing(field, &|| field.fallback().to_owned());
    }
}

fn event_type(name: &str) -> &'static str {
    match name {
        "$identify" => "identify",
        "$pageview" => "pageview",
        "$pageleave" => "pageleave",
        "$set" | "$set_once" => "set",
        "$screen" => "screen",
        _ => Field::EventType.fallback(),
    }
}

/// Text as it is, everything else as its JSON text.
fn text_of(value: &RawValue) -> String {
    serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

/// Writes entries in round trips of many.
struct Sender {
    redis: Redis,
    stream: String,
    waiting: Vec<Entry>,
    sent: u64,
    started: Instant,
    rate: Option<u32>,
    bar: ProgressBar,
}

impl Sender {
    async fn push(&mut self, entry: Entry) -> Result<(), StoreError> {
        self.waiting.push(entry);
        let at_once = self.rate.map_or(PER_ROUND_TRIP, |rate| {
            (rate as usize / 20).clamp(1, PER_ROUND_TRIP)
        });
        if self.waiting.len() >= at_once {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for entry in &self.waiting {
            let command = pipeline
                .cmd("XADD")
                .arg(&self.stream)
                .arg("MAXLEN")
                .arg("~")
                .arg(STREAM_CAPACITY)
                .arg("*");
            for (name, value) in entry {
                command.arg(name).arg(value);
            }
            command.ignore();
        }
        self.redis
            .ask_all::<()>("writing events to the stream", &pipeline)
            .await?;
        self.sent += self.waiting.len() as u64;
        self.bar.inc(self.waiting.len() as u64);
        self.waiting.clear();
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(self.sent as f64 / f64::from(rate));
            tokio::time::sleep(due.saturating_sub(self.started.elapsed())).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(entry: &'a Entry, name: &str) -> &'a str {
        entry
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value)
    }

    #[test]
    fn values_travel_as_they_stand() {
        let line =
            r#"{"event_name":"x","screen_width":10,"properties":{"n": 12345678901234567890.50 },"ip":null}"#;
        let entry = parse(line, 0).unwrap();
        assert_eq!(field(&entry, "properties"), r#"{"n": 12345678901234567890.50 }"#);
        assert_eq!(field(&entry, "screen_width"), "10");
        assert_eq!(field(&entry, "event_type"), "track");
        assert!(entry.iter().all(|(name, _)| name != "ip"));
        assert!(Uuid::parse_str(field(&entry, "event_id")).is_ok());
    }

    #[test]
    fn raw_entries_are_sent_as_they_are() {
        let entry = parse(r#"[["a","1"],["a","2"]]"#, 0).unwrap();
        assert_eq!(
            entry,
            [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]
        );
    }

    #[test]
    fn what_is_no_event_says_why() {
        for (line, reason) in [
            ("{", "not a JSON object"),
            ("{}", "no fields"),
            ("[]", "no fields"),
            ("1", "not a JSON"),
        ] {
            assert!(parse(line, 0).unwrap_err().contains(reason), "{line}");
        }
    }

    #[test]
    fn shifting_keeps_milliseconds() {
        let entry = parse(r#"{"timestamp":"2026-01-15T10:30:00.123Z"}"#, 1_000).unwrap();
        assert_eq!(field(&entry, "timestamp"), "2026-01-15T10:30:01.123Z");
    }
}
