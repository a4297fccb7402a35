//! `qurvo-processor migrate`: brings both databases to the schema this version needs, or says how far they are.

use std::time::Duration;

use super::failure::Failure;
use super::output::{Rows, print};
use crate::config::Config;
use crate::migrations::{self, State, Step};
use crate::stores::{ClickHouse, Postgres};

/// Longest one statement may take in ClickHouse: on a cluster it waits for every host, by default 180 s.
const STATEMENT_LIMIT: Duration = Duration::from_secs(200);

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only report; exit 1 when the schema is behind.
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(mut config: Config, arguments: Arguments) -> Result<(), Failure> {
    config.clickhouse.request_timeout = config.clickhouse.request_timeout.max(STATEMENT_LIMIT);
    let postgres = Postgres::new(&config.postgres)?;
    let clickhouse = ClickHouse::new(&config.clickhouse);
    let report = if arguments.check {
        migrations::status(&postgres, &clickhouse).await
    } else {
        migrations::migrate(&config, &postgres, &clickhouse).await
    };
    let report = report?;
    print(&table(&report.steps).to_string());
    match report.pending().count() {
        0 => Ok(()),
        behind => Err(anyhow::anyhow!(
            "the schema is behind by {behind} migrations: run `qurvo-processor migrate`"
        )
        .into()),
    }
}

fn table(steps: &[Step]) -> Rows {
    let mut table = Rows::new(&["database", "migration", "state"]).prose(&["state"]);
    for step in steps {
        let state = match &step.state {
            State::AlreadyApplied => "already applied".to_owned(),
            State::AppliedNow => "applied now".to_owned(),
            State::Pending => "pending".to_owned(),
            State::Skipped(why) => format!("skipped, everything works without: {why}"),
        };
        table.add([step.database, step.name, &state]);
    }
    table
}
