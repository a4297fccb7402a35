//! `qurvo-processor person`: who a distinct id is, in all three stores, and whether they agree.

mod audit;
mod show;

use clap::Subcommand;

use super::environment;
use super::failure::Failure;
use crate::config::Config;
use crate::event::{DistinctId, ProjectId};
use crate::identity::upkeep::audit::Auditor;
use crate::stores::{ClickHouse, Postgres, Redis};

/// Arguments of `person`.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// Who a distinct id is in each store, and how it became so, in sentences; exit 1 when the stores disagree.
    #[command(after_long_help = environment::of_stores())]
    Show {
        /// Project id.
        project: ProjectId,
        /// Distinct id, exactly as events have it.
        distinct_id: DistinctId,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Compare all three stores for every distinct id; exit 1 when a disagreement is left. Made for quiet hours: what
    /// is on its way while it runs may be reported, or mended, without need.
    #[command(after_long_help = environment::of_stores())]
    Audit {
        /// Only this project.
        #[arg(long)]
        project: Option<ProjectId>,
        /// Make Redis and ClickHouse say what PostgreSQL says.
        #[arg(long)]
        repair: bool,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let auditor = Auditor {
        postgres: Postgres::new(&config.postgres)?,
        clickhouse: ClickHouse::new(&config.clickhouse),
        redis: Redis::new(&config.redis),
    };
    match arguments {
        Arguments::Show {
            project,
            distinct_id,
            json,
        } => show::show(auditor, project, &distinct_id, json).await,
        Arguments::Audit {
            project,
            repair,
            json,
        } => audit::audit(auditor, project, repair, json).await,
    }
}
