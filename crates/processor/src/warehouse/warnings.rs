//! `ingestion_warnings`: what a project's owners are told about their events. Best effort: never holds an event up.

use std::time::Duration;

use native_block::{
    BlockError, Column, DateTimeColumn, LowCardinalityColumn, StringColumn, UuidColumn, take_block,
};
use tokio::sync::mpsc;

use crate::event::Warning;
use crate::runtime::task::Task;
use crate::stores::{Body, ClickHouse};

/// A write happens at this many warnings…
const BATCH: usize = 100;
/// …or after this long.
const INTERVAL: Duration = Duration::from_secs(10);
/// Warnings waiting at most; more are counted and dropped.
const WAITING: usize = 10_000;

/// Hands warnings to the writer without ever waiting for it.
#[derive(Debug, Clone)]
pub struct WarningSink {
    out: mpsc::Sender<(i64, Warning)>,
}

impl WarningSink {
    /// Passes warnings on as far as there is room.
    pub fn send(&self, warnings: Vec<Warning>) {
        let mut dropped = 0usize;
        let now = jiff::Timestamp::now().as_second();
        for warning in warnings {
            dropped += usize::from(self.out.try_send((now, warning)).is_err());
        }
        if dropped > 0 {
            tracing::warn!(dropped, "more ingestion warnings than can be written");
        }
    }
}

/// A sink, and the writer of what it is given.
pub(crate) fn channel(clickhouse: ClickHouse) -> (WarningSink, WarningWriter) {
    let (out, warnings) = mpsc::channel(WAITING);
    (WarningSink { out }, WarningWriter { clickhouse, warnings })
}

/// Writes warnings.
pub(crate) struct WarningWriter {
    clickhouse: ClickHouse,
    /// Each with the second in which it was raised.
    warnings: mpsc::Receiver<(i64, Warning)>,
}

impl WarningWriter {
    /// Writes until the drain begins, and then what is left.
    pub(crate) async fn run(self, task: Task) {
        let Self {
            clickhouse,
            mut warnings,
        } = self;
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut held = Vec::new();
        loop {
            let stopping = tokio::select! {
                biased;
                () = task.shutdown.draining().cancelled() => true,
                _ = ticks.tick() => false,
                count = warnings.recv_many(&mut held, BATCH) => {
                    if count > 0 && held.len() < BATCH { continue }
                    count == 0
                }
            };
            while let Ok(warning) = warnings.try_recv() {
                held.push(warning);
            }
            task.pulse.alive_for(Duration::from_mins(1));
            if !held.is_empty() {
                write(&clickhouse, &held).await;
                held.clear();
            }
            if stopping {
                return;
            }
        }
    }
}

const INSERT: &str = "INSERT INTO ingestion_warnings (project_id, type, details, timestamp) FORMAT Native";

async fn write(clickhouse: &ClickHouse, warnings: &[(i64, Warning)]) {
    let body = match block(warnings) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "ingestion warnings could not be encoded");
            return;
        }
    };
    if let Err(error) = clickhouse
        .insert_all("inserting warnings", INSERT, warnings.len(), body)
        .await
    {
        tracing::warn!(%error, warnings = warnings.len(), "ingestion warnings were not written");
    }
}

fn block(warnings: &[(i64, Warning)]) -> Result<Body, BlockError> {
    let (mut project, mut kind) = (UuidColumn::default(), LowCardinalityColumn::default());
    let (mut details, mut timestamp) = (StringColumn::default(), DateTimeColumn::default());
    for (at, warning) in warnings {
        project.push(warning.project.0);
        kind.push(warning.kind.as_str());
        details.push(&warning.details);
        timestamp.push(u32::try_from(*at).unwrap_or(u32::MAX));
    }
    let mut columns: [(&str, &mut dyn Column); 4] = [
        ("project_id", &mut project),
        ("type", &mut kind),
        ("details", &mut details),
        ("timestamp", &mut timestamp),
    ];
    take_block(warnings.len(), &mut columns).map(Body::from)
}
