//! `qurvo-processor dlq`: what was set aside, why, and what becomes of it.

mod change;
mod look;

use std::time::Duration;

use stream_reply::StreamId;
use uuid::Uuid;

use super::{Failure, output};
use crate::config::Config;
use crate::replay::Selection;
use crate::set_aside::{Letter, QUEUE, Queue, REJECTED};
use crate::stores::connect_redis;

/// Letters read, or removed, in one round trip.
const PAGE: usize = 500;
/// Lines of a list, unless told.
const LINES: usize = 50;

/// Arguments of `dlq`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Arguments {
    /// List what was set aside, oldest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Most lines; 0 for all [default: 50].
        #[arg(long)]
        limit: Option<usize>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show one with everything that is known about it, as JSON.
    Show {
        /// Its id in the queue.
        id: StreamId,
        /// Look among the rejected events.
        #[arg(long)]
        rejected: bool,
        /// The same.
        #[arg(long)]
        json: bool,
    },
    /// Put them through the whole pipeline now. Those that land, or are rejected, leave the queue.
    Replay {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        how: How,
    },
    /// Remove some for good: by id, or, said with --yes, all that a filter selects.
    Purge {
        #[command(flatten)]
        filter: Filter,
        /// Remove what the filter selects, however many that are.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        how: How,
    },
}

/// How letters are changed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct How {
    /// Only say how many.
    #[arg(long)]
    dry_run: bool,
    /// One JSON object: `matched`, `left_queue`, `rejected`, `absent` (ids), `stopped` (why it ended early, or null).
    #[arg(long)]
    json: bool,
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

    /// Whether it selects everything.
    fn is_empty(&self) -> bool {
        self.ids.is_empty()
            && self.project.is_none()
            && self.event.is_none()
            && self.reason.is_none()
            && self.older_than.is_none()
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(parsed).map_err(|error| error.to_string())
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    match arguments {
        Arguments::List { filter, limit, json } => {
            look::list(&queue(&config, filter.rejected)?, &filter, limit, json).await
        }
        Arguments::Show { id, rejected, .. } => look::show(&queue(&config, rejected)?, id).await,
        Arguments::Replay { filter, how } => change::replay(&config, &filter, how).await,
        Arguments::Purge { filter, yes, how } => {
            change::purge(&queue(&config, filter.rejected)?, &filter, yes, how).await
        }
    }
}

fn queue(config: &Config, rejected: bool) -> Result<Queue, Failure> {
    Ok(Queue {
        redis: connect_redis(config).map_err(anyhow::Error::from)?,
        name: if rejected { REJECTED } else { QUEUE },
        capacity: config.dead_letters.capacity,
    })
}

/// Calls `each` with what is meant, oldest first. Returns the ids that were asked for and are not there.
async fn walk(
    queue: &Queue,
    selection: &Selection,
    mut each: impl FnMut(Letter),
) -> Result<Vec<StreamId>, Failure> {
    let now = jiff::Timestamp::now().as_millisecond() as u64;
    let mut take = |letter: Letter| {
        if selection.takes(&letter, now) {
            each(letter);
        }
    };
    let mut absent = Vec::new();
    if !selection.ids.is_empty() {
        let mut ids = selection.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            match queue.get(id).await.map_err(anyhow::Error::from)? {
                Some(letter) => take(letter),
                None => absent.push(id),
            }
        }
        return Ok(absent);
    }
    let mut behind = StreamId::MIN;
    loop {
        let page = queue.after(behind, PAGE).await.map_err(anyhow::Error::from)?;
        let Some(last) = page.last() else {
            return Ok(absent);
        };
        behind = last.id;
        page.into_iter().for_each(&mut take);
        if !output::is_open() {
            return Ok(absent);
        }
    }
}

/// Says that letters are not there, if any is not.
fn all_there(queue: &Queue, absent: &[StreamId]) -> Result<(), Failure> {
    if absent.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = absent.iter().map(ToString::to_string).collect();
    let verb = if let [_] = absent { "is" } else { "are" };
    let message = format!(
        "{} {verb} not in {}: replayed, purged, or never there",
        ids.join(", "),
        queue.name
    );
    Err(Failure::Failed(anyhow::anyhow!(message)))
}
