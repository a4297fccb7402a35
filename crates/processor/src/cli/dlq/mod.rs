//! `qurvo-processor dlq`: what was set aside, why, and what becomes of it.

mod change;
mod correct;
mod endings;
mod filter;
mod letters;
mod look;

use stream_reply::StreamId;

use super::failure::Failure;
use crate::cli::environment;
use crate::config::Config;
use correct::Correction;
use filter::{Filter, How};
use letters::queue;

/// Arguments of `dlq`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Arguments {
    /// List what was set aside, oldest first.
    #[command(after_long_help = environment::of_queues())]
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
    #[command(after_long_help = environment::of_queues())]
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
    /// Correct one and send it again: it keeps its place in order and its event id, and is checked by the very rules that
    /// reject events. Where it would still be rejected, or be there twice, nothing is changed. Until it has landed, it is a
    /// dead letter.
    #[command(after_long_help = environment::of_replay())]
    Correct(Correction),
    /// Put them through the whole pipeline now. Those that land, or are rejected, leave the queue. Exit 1 when none landed.
    #[command(after_long_help = environment::of_replay())]
    Replay {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        how: How,
    },
    /// Remove some for good: by id, or, said with --yes, all that a filter selects; `--older-than 0s --yes` removes all.
    #[command(after_long_help = environment::of_queues())]
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
            look::list(&queue(&config, filter.rejected), &filter, limit, json).await
        }
        Arguments::Show { id, rejected, .. } => look::show(&queue(&config, rejected), id).await,
        Arguments::Correct(correction) => correct::correct(&config, correction).await,
        Arguments::Replay { filter, how } => change::replay(&config, &filter, how).await,
        Arguments::Purge { filter, yes, how } => {
            change::purge(&queue(&config, filter.rejected), &filter, yes, how).await
        }
    }
}
