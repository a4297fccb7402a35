//! `qurvo-processor dlq`: what was set aside, why, and what becomes of it.

use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use stream_reply::StreamId;
use uuid::Uuid;

use super::{Failure, print};
use crate::config::Config;
use crate::dead_letter::{Letter, QUEUE, Queue, Selection};
use crate::rejected::REJECTED;
use crate::stores::connect_redis;
use crate::worker;

/// Letters read in one round trip.
const PAGE: usize = 500;

/// Arguments of `dlq`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Arguments {
    /// List what was set aside, oldest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Most lines.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show one with everything that is known about it.
    Show {
        /// Its id in the queue.
        id: StreamId,
        /// Look among the rejected events.
        #[arg(long)]
        rejected: bool,
    },
    /// Put them through the whole pipeline now. Those that land, or are rejected, leave the queue.
    Replay {
        #[command(flatten)]
        filter: Filter,
        /// Only say how many.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove some for good.
    Purge {
        /// Which; may be repeated.
        #[arg(long = "id", required = true)]
        ids: Vec<StreamId>,
        /// Among the rejected events.
        #[arg(long)]
        rejected: bool,
        /// Only say how many.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which letters are meant.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// Only this one; may be repeated.
    #[arg(long = "id")]
    ids: Vec<StreamId>,
    /// Only of this project.
    #[arg(long)]
    project: Option<Uuid>,
    /// Only events of this name.
    #[arg(long)]
    event: Option<String>,
    /// Only with this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Only what was set aside at least this long ago, such as `2h 30m`.
    #[arg(long, value_parser = duration)]
    older_than: Option<Duration>,
    /// The rejected events instead of the dead letters.
    #[arg(long)]
    rejected: bool,
}

impl Filter {
    fn selection(&self) -> Selection {
        Selection {
            ids: self.ids.clone(),
            project: self.project,
            event: self.event.clone(),
            reason: self.reason.clone(),
            older_than: self.older_than,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(parsed).map_err(|error| error.to_string())
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    match arguments {
        Arguments::List { filter, limit, json } => {
            list(&queue(&config, filter.rejected)?, &filter, limit, json).await
        }
        Arguments::Show { id, rejected } => show(&queue(&config, rejected)?, id).await,
        Arguments::Replay { filter, dry_run } => replay(&config, &filter, dry_run).await,
        Arguments::Purge {
            ids,
            rejected,
            dry_run,
        } => purge(&queue(&config, rejected)?, ids, dry_run).await,
    }
}

fn queue(config: &Config, rejected: bool) -> Result<Queue, Failure> {
    Ok(Queue {
        redis: connect_redis(config).map_err(anyhow::Error::from)?,
        name: if rejected { REJECTED } else { QUEUE },
        capacity: config.dead_letters.capacity,
    })
}

/// Calls `each` with what is meant, oldest first, until it has enough.
async fn walk(
    queue: &Queue,
    selection: &Selection,
    mut each: impl FnMut(Letter) -> bool,
) -> Result<(), Failure> {
    let now = jiff::Timestamp::now().as_millisecond() as u64;
    let mut behind = StreamId::MIN;
    loop {
        let page = queue.after(behind, PAGE).await.map_err(anyhow::Error::from)?;
        let Some(last) = page.last() else { return Ok(()) };
        behind = last.id;
        for letter in page {
            if selection.takes(&letter, now) && !each(letter) {
                return Ok(());
            }
        }
    }
}

async fn list(queue: &Queue, filter: &Filter, limit: usize, json: bool) -> Result<(), Failure> {
    let mut letters = Vec::new();
    let mut count = 0;
    walk(queue, &filter.selection(), |letter| {
        count += 1;
        if letters.len() < limit {
            letters.push(letter);
        }
        true
    })
    .await?;
    if json {
        for letter in &letters {
            print(&described(letter).to_string());
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "id",
        "project",
        "event",
        "distinct id",
        "reason",
        "set aside at",
        "attempts",
    ]);
    for letter in &letters {
        let fields = letter.fields().unwrap_or_default();
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        table.add_row([
            letter.id.to_string(),
            field("project_id"),
            field("event_name"),
            field("distinct_id"),
            letter.reason.clone(),
            letter.failed_at.clone(),
            letter.attempts.clone(),
        ]);
    }
    print(&format!(
        "{table}\n{} of {count} in {}",
        letters.len(),
        queue.name
    ));
    Ok(())
}

/// Everything known about a letter, its data as JSON where it is.
fn described(letter: &Letter) -> Value {
    let data = letter.data.as_deref().unwrap_or_default();
    let data = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
    json!({
        "id": letter.id.to_string(), "reason": letter.reason, "error": letter.error, "stream": letter.stream,
        "stream_id": letter.stream_id.map(|id| id.to_string()), "failed_at": letter.failed_at,
        "attempts": letter.attempts, "consumer": letter.consumer, "data": data,
    })
}

async fn show(queue: &Queue, id: StreamId) -> Result<(), Failure> {
    let only = Selection {
        ids: vec![id],
        ..Selection::default()
    };
    let mut found = None;
    walk(queue, &only, |letter| {
        found = Some(letter);
        false
    })
    .await?;
    let Some(letter) = found else {
        let message = format!(
            "{id} is not in {}: it was replayed, purged, or never there",
            queue.name
        );
        return Err(Failure::Failed(anyhow::anyhow!(message)));
    };
    print(&format!("{:#}", described(&letter)));
    Ok(())
}

async fn replay(config: &Config, filter: &Filter, dry_run: bool) -> Result<(), Failure> {
    let queue = queue(config, filter.rejected)?;
    let selection = filter.selection();
    let mut count = 0;
    walk(&queue, &selection, |_| {
        count += 1;
        true
    })
    .await?;
    if dry_run {
        print(&format!("{count} would be replayed"));
        return Ok(());
    }
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} replayed, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    let outcome = worker::replay_once(config, queue, &selection, |letters| bar.inc(letters as u64))
        .await
        .map_err(anyhow::Error::from)?;
    bar.finish_and_clear();
    print(&format!(
        "{} of {count} left the queue, {} of them are rejected now: see `dlq list --rejected`",
        outcome.settled, outcome.rejected
    ));
    match outcome.stopped {
        None => Ok(()),
        Some(stopped) => Err(Failure::Failed(anyhow::Error::from(stopped))),
    }
}

async fn purge(queue: &Queue, ids: Vec<StreamId>, dry_run: bool) -> Result<(), Failure> {
    if dry_run {
        let selection = Selection {
            ids,
            ..Selection::default()
        };
        let mut count = 0;
        walk(queue, &selection, |_| {
            count += 1;
            true
        })
        .await?;
        print(&format!("{count} would be removed"));
        return Ok(());
    }
    let removed = queue.remove(&ids).await.map_err(anyhow::Error::from)?;
    print(&format!("{removed} of {} removed from {}", ids.len(), queue.name));
    if removed as usize == ids.len() {
        Ok(())
    } else {
        Err(Failure::Silent)
    }
}
