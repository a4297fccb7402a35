//! `qurvo-processor send`: NDJSON events onto the stream, in the ingest service's format.

mod line;
mod progress;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;

use super::failure::Failure;
use super::input::{next_line, open};
use super::output::{note, print};
use crate::config::{Config, stream_names};
use crate::event::{Field, Spread, partition, timestamp};
use crate::logs::harmless;
use crate::stores::{Redis, StoreError};
use line::{Entry, read, text, text_of};
use progress::Progress;

/// Events in one round trip.
const PER_ROUND_TRIP: usize = 1000;
/// Capacity of the stream, as the ingest service keeps it.
const STREAM_CAPACITY: u64 = 1_000_000;
/// Redis's code for what a user may not do.
const NO_RIGHT: &str = "NOPERM";
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
    /// Events a second at most, from 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Streams to write to, named as in `PROCESSOR_STREAM`, instead of those of it that are not in `PROCESSOR_STREAM_FIRST`.
    #[arg(long)]
    stream: Option<String>,
    /// What decides which of several streams an event goes to.
    #[arg(long, value_enum, default_value = "project")]
    by: By,
}

/// What decides which of several streams an event goes to.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum By {
    /// Its project.
    Project,
    /// Its project and distinct id.
    DistinctId,
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let shift = shift(&arguments)?;
    let mut sender = Sender {
        redis: Redis::new(&config.redis),
        streams: streams(&config, &arguments)?,
        spread: match arguments.by {
            By::Project => Spread::Project,
            By::DistinctId => Spread::DistinctId,
        },
        waiting: Vec::new(),
        progress: Progress::new(progress(&arguments.file)),
        is_reached: false,
        started: Instant::now(),
        rate: arguments.rate,
    };
    sender.progress.is_told_at_a_signal()?;
    let all = send_all(&mut sender, &arguments.file, shift).await;
    sender.progress.sent().is_over = true;
    sender.progress.bar.finish_and_clear();
    match all {
        Ok(bad) => {
            print(&sender.summary());
            if bad > 0 {
                return Err(anyhow::anyhow!("{bad} lines were not events and were skipped").into());
            }
            Ok(())
        }
        Err(error) => {
            note(&sender.progress.sent().so_far());
            Err(error)
        }
    }
}

/// Where events go: not to streams that producers are moving away from.
fn streams(config: &Config, arguments: &Arguments) -> Result<Vec<String>, Failure> {
    let Some(list) = &arguments.stream else {
        let is_new = |stream: &&String| !config.streams_first.contains(stream);
        return Ok(config.streams.iter().filter(is_new).cloned().collect());
    };
    let names = stream_names(list).ok_or_else(|| {
        Failure::Usage(format!(
            "--stream {}: expected names as in PROCESSOR_STREAM",
            harmless::line(list)
        ))
    })?;
    for name in names.iter().filter(|name| !config.streams.contains(name)) {
        note(&format!(
            "{} is not in PROCESSOR_STREAM: workers that are configured like this do not read it",
            harmless::line(name)
        ));
    }
    Ok(names)
}

/// Sends the events of a file. Returns how many lines were skipped.
async fn send_all(sender: &mut Sender, file: &Path, shift: i64) -> Result<usize, Failure> {
    let mut reader = open(file)?;
    let (mut line, mut number, mut bad) = (Vec::new(), 0, 0);
    loop {
        number += 1;
        match next_line(&mut *reader, &mut line) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                sender.flush(number - 1).await?;
                let error = anyhow::Error::from(error);
                return Err(error.context(format!("reading line {number}")).into());
            }
        }
        match read(&line, number, shift) {
            Ok(None) => {}
            Ok(Some(entry)) => sender.push(entry, number).await?,
            Err(reason) => {
                bad += 1;
                if bad <= SHOWN {
                    let reason = harmless::line(&reason);
                    print(&format!("line {number}: {reason}: skipped"));
                }
            }
        }
    }
    sender.flush(number - 1).await?;
    Ok(bad)
}

fn progress(file: &Path) -> ProgressBar {
    let lines = if std::io::stderr().is_terminal() && file.as_os_str() != "-" {
        count_lines(file)
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

fn count_lines(file: &Path) -> Option<u64> {
    let (mut reader, mut line, mut lines) = (open(file).ok()?, Vec::new(), 0);
    while next_line(&mut *reader, &mut line).ok()? {
        lines += 1;
    }
    Some(lines)
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
    let (mut reader, mut line, mut number) = (open(&arguments.file)?, Vec::new(), 0);
    while next_line(&mut *reader, &mut line).context("reading the file")? {
        number += 1;
        let text = text(&line, number).unwrap_or_default();
        let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else {
            continue;
        };
        let at = fields
            .get("timestamp")
            .and_then(|value| timestamp::parse(&text_of(value)));
        newest = newest.max(at);
    }
    Ok(newest.map_or(0, |newest| target - newest))
}

/// Writes entries in round trips of many.
struct Sender {
    redis: Redis,
    streams: Vec<String>,
    spread: Spread,
    waiting: Vec<Entry>,
    progress: Progress,
    /// Redis has answered something.
    is_reached: bool,
    started: Instant,
    rate: Option<u32>,
}

impl Sender {
    /// Takes the event of a line.
    async fn push(&mut self, entry: Entry, line: usize) -> Result<(), StoreError> {
        self.waiting.push(entry);
        let at_once = self.rate.map_or(PER_ROUND_TRIP, |rate| {
            (rate as usize / 20).clamp(1, PER_ROUND_TRIP)
        });
        if self.waiting.len() >= at_once {
            self.flush(line).await
        } else {
            Ok(())
        }
    }

    /// Sends what waits: then all up to a line are sent.
    async fn flush(&mut self, line: usize) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.reach().await?;
        for (index, stream) in self.streams.iter().enumerate() {
            let mut pipeline = redis::pipe();
            for entry in self.waiting.iter().filter(|entry| self.place(entry) == index) {
                let command = pipeline.cmd("XADD").arg(stream).arg("MAXLEN").arg("~");
                command.arg(STREAM_CAPACITY).arg("*");
                for (name, value) in entry {
                    command.arg(name).arg(value);
                }
            }
            if pipeline.is_empty() {
                continue;
            }
            let events = pipeline.len() as u64;
            self.progress.sent().doubtful = events;
            let during = "writing events to the stream";
            let written = self
                .redis
                .ask_all_of::<()>(during, (stream, "stream"), &pipeline)
                .await;
            if let Err(error) = written {
                if is_refused_at_once(&error) {
                    self.progress.sent().doubtful = 0;
                }
                return Err(self.with_reason(error, stream).await);
            }
            let mut sent = self.progress.sent();
            sent.doubtful = 0;
            sent.behind += events;
            sent.events += events;
            drop(sent);
            self.progress.bar.inc(events);
        }
        let events = {
            let mut sent = self.progress.sent();
            (sent.behind, sent.line) = (0, line);
            sent.events
        };
        self.waiting.clear();
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(events as f64 / f64::from(rate));
            tokio::time::sleep(due.saturating_sub(self.started.elapsed())).await;
        }
        Ok(())
    }

    /// Asks Redis something before the first event is written: while it cannot be reached, or does not let us in, nothing is
    /// sent for certain. Who may only write may not ask.
    async fn reach(&mut self) -> Result<(), StoreError> {
        if self.is_reached {
            return Ok(());
        }
        match self
            .redis
            .type_of("looking at the stream", &self.streams[0])
            .await
        {
            Err(error) if error.code != NO_RIGHT => Err(error),
            _ => {
                self.is_reached = true;
                Ok(())
            }
        }
    }

    /// An error of writing with the stream and what is behind it: a connection that has ended may be let in no more.
    async fn with_reason(&self, error: StoreError, stream: &str) -> StoreError {
        let said = |message: String, error: StoreError| StoreError { message, ..error };
        if error.code == NO_RIGHT {
            let message = format!(
                "`{stream}`: {}; writing events takes +xadd and ~{stream}",
                error.message
            );
            return said(message, error);
        }
        if error.is_wrong_type() {
            return error;
        }
        let message = format!("`{stream}`: {}", error.message);
        if error.advice().is_some() {
            return said(message, error);
        }
        match self.redis.type_of(error.during, stream).await {
            Err(now) if now.code != NO_RIGHT && now.advice().is_some() => {
                said(format!("{message}, then {}", now.message), now)
            }
            Err(_) => said(message, error),
            Ok(_) => said(format!("{message}; Redis answers now"), error),
        }
    }

    /// The place of an event's stream.
    fn place(&self, entry: &Entry) -> usize {
        let value = |field: Field| {
            let found = entry.iter().find(|(name, _)| name == field.name());
            found.map_or("", |(_, value)| value.as_str())
        };
        partition(
            self.spread,
            value(Field::ProjectId),
            value(Field::DistinctId),
            self.streams.len(),
        )
    }

    fn summary(&self) -> String {
        let (seconds, events) = (self.started.elapsed().as_secs_f64(), self.progress.sent().events);
        format!(
            "sent {events} events to {} in {seconds:.1} s ({:.0}/s)",
            harmless::line(&self.streams.join(",")),
            events as f64 / seconds.max(0.001)
        )
    }
}

/// Whether none of the commands of a round trip was carried out: all of them are of one user, and about one stream.
fn is_refused_at_once(error: &StoreError) -> bool {
    error.is_wrong_type() || ["WRONGPASS", "NOAUTH", NO_RIGHT].contains(&error.code.as_str())
}
