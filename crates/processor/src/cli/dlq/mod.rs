//! `qurvo-processor dlq`: what was set aside, why, and what becomes of it.

mod change;
mod filter;
mod letters;
mod look;

use stream_reply::StreamId;

use super::failure::Failure;
use crate::config::Config;
use filter::{Filter, How};
use letters::queue;

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
