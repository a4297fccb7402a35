//! `qurvo-processor cohorts`: the state of memberships and who is in them, computing them now, the query behind a
//! definition, and whether a definition can be used.

mod check;
mod compute;
mod list;
mod members;
mod named;

use std::path::PathBuf;

use uuid::Uuid;

use super::environment;
use super::failure::Failure;
use crate::cohorts::Registry;
use crate::config::Config;
use crate::event::{PersonId, ProjectId};
use crate::stores::{ClickHouse, Postgres};

/// Arguments of `cohorts`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Arguments {
    /// List cohorts, how many members each has, and how fresh that is.
    #[command(after_long_help = environment::of_members())]
    List {
        /// Only of this project.
        #[arg(long)]
        project: Option<ProjectId>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show who is in a cohort: how many persons, and a page of them.
    #[command(after_long_help = environment::of_members())]
    Members {
        /// Which.
        id: Uuid,
        /// Most persons shown.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        limit: u64,
        /// Go on behind this person, the last of the page before.
        #[arg(long, value_name = "PERSON")]
        after: Option<PersonId>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Say whether a definition can be used; if not, where it is wrong and what may stand there. Exit 1 when it cannot.
    #[command(after_long_help = environment::of_none())]
    Check {
        /// File with the definition as JSON; `-` is standard input.
        file: PathBuf,
        /// One JSON object: `usable`, `path` and `problem` (or null), `unknown` (members that are ignored), `conditions`.
        #[arg(long)]
        json: bool,
    },
    /// Compute memberships now, however fresh they are and however often that has failed: all dynamic cohorts, or those
    /// named and what they refer to as far as it is due.
    #[command(after_long_help = environment::of_computing())]
    Recompute {
        /// Which.
        ids: Vec<Uuid>,
    },
    /// Print the query of a definition, with its parameters.
    #[command(after_long_help = environment::of_postgres())]
    Sql {
        /// Which.
        id: Uuid,
    },
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let postgres = Postgres::new(&config.postgres)?;
    let registry = Registry { postgres };
    let clickhouse = ClickHouse::new(&config.clickhouse);
    match arguments {
        Arguments::List { project, json } => {
            list::list(&registry, &clickhouse, &config.cohorts, (project, json)).await
        }
        Arguments::Members {
            id,
            limit,
            after,
            json,
        } => {
            let page = members::Page { limit, after };
            members::members(&registry, &clickhouse, id, page, json).await
        }
        Arguments::Check { file, json } => check::check(&file, json),
        Arguments::Recompute { ids } => compute::recompute(&config, &registry, ids).await,
        Arguments::Sql { id } => compute::sql(&registry, id).await,
    }
}
