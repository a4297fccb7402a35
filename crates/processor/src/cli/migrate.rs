//! `qurvo-processor migrate`.

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;

use super::{Failure, print};
use crate::config::Config;
use crate::migrations;
use crate::stores::{ClickHouse, Postgres};

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only report; exit 1 when the schema is behind.
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let postgres = Postgres::new(&config.database_url).map_err(anyhow::Error::from)?;
    let clickhouse = ClickHouse::new(&config.clickhouse);
    let steps = if arguments.check {
        migrations::status(&postgres, &clickhouse).await
    } else {
        migrations::migrate(&config, &postgres, &clickhouse).await
    };
    let steps = steps.map_err(anyhow::Error::from)?;
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_header(["database", "migration", "state"]);
    for step in &steps {
        let state = match (step.was_applied, arguments.check) {
            (true, _) => "there already",
            (false, true) => "missing",
            (false, false) => "applied now",
        };
        table.add_row([step.database, step.name, state]);
    }
    print(&table.to_string());
    let behind = arguments.check && steps.iter().any(|step| !step.was_applied);
    if behind {
        Err(anyhow::anyhow!("the schema is behind: run `qurvo-processor migrate`").into())
    } else {
        Ok(())
    }
}
