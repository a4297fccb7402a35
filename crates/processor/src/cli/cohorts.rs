//! `qurvo-processor cohorts`: the state of memberships, computing them now, and the query behind a definition.

use std::collections::BTreeSet;

use anyhow::Context;
use cohort_query::{Definition, Reference, compile};
use serde_json::json;
use uuid::Uuid;

use super::failure::Failure;
use super::output::{Rows, print};
use crate::cohorts::{Cohort, Cycle, Registry, Selection, is_stale, is_waiting};
use crate::config::{CohortConfig, Config};
use crate::event::ProjectId;
use crate::logs::harmless;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task::Task;
use crate::stores::{ClickHouse, Postgres, Redis};

/// Arguments of `cohorts`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Arguments {
    /// List cohorts and the state of their memberships.
    List {
        /// Only of this project.
        #[arg(long)]
        project: Option<ProjectId>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Compute memberships now, however fresh they are and however often that has failed: all dynamic cohorts, or those
    /// named and what they refer to as far as it is due.
    Recompute {
        /// Which.
        ids: Vec<Uuid>,
    },
    /// Print the query of a definition, with its parameters.
    Sql {
        /// Which.
        id: Uuid,
    },
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let postgres = Postgres::new(&config.database_url)?;
    let registry = Registry { postgres };
    match arguments {
        Arguments::List { project, json } => list(&registry, &config.cohorts, project, json).await,
        Arguments::Recompute { ids } => recompute(&config, &registry, ids).await,
        Arguments::Sql { id } => sql(&registry, id).await,
    }
}

fn state(cohort: &Cohort, all: &[Cohort], settings: &CohortConfig) -> &'static str {
    if cohort.is_static {
        "static"
    } else if cohort.errors > 0 {
        "failing"
    } else if is_waiting(cohort, all) {
        "waiting"
    } else if cohort.version.is_none() {
        "never computed"
    } else if is_stale(cohort, settings) {
        "stale"
    } else {
        "fresh"
    }
}

async fn list(
    registry: &Registry,
    settings: &CohortConfig,
    project: Option<ProjectId>,
    json: bool,
) -> Result<(), Failure> {
    let all = registry.load().await?;
    let mut cohorts = all.clone();
    cohorts.retain(|cohort| project.is_none_or(|project| cohort.project == project));
    let age = |cohort: &Cohort| cohort.computed_ago.map(|age| age.as_secs());
    if json {
        for cohort in &cohorts {
            let line = json!({
                "id": cohort.id, "project": cohort.project, "name": cohort.name, "state": state(cohort, &all, settings),
                "version": cohort.version, "computed_s_ago": age(cohort), "errors": cohort.errors,
                "last_error": cohort.last_error,
            });
            print(&line.to_string());
        }
        return Ok(());
    }
    let mut table = Rows::new(&[
        "id",
        "project",
        "name",
        "state",
        "computed",
        "errors",
        "last error",
    ]);
    for cohort in &cohorts {
        table.add([
            cohort.id.to_string(),
            cohort.project.to_string(),
            cohort.name.clone(),
            state(cohort, &all, settings).to_owned(),
            age(cohort).map_or_else(String::new, |seconds| format!("{seconds} s ago")),
            cohort.errors.to_string(),
            cohort.last_error.clone().unwrap_or_default(),
        ]);
    }
    print(&format!("{table}\n{} cohorts", cohorts.len()));
    Ok(())
}

async fn recompute(config: &Config, registry: &Registry, ids: Vec<Uuid>) -> Result<(), Failure> {
    let cohorts = registry.load().await?;
    for id in &ids {
        match cohorts.iter().find(|cohort| cohort.id == *id) {
            None => return Err(Failure::Usage(format!("there is no cohort {id}"))),
            Some(cohort) if cohort.is_static => {
                return Err(Failure::Usage(format!(
                    "cohort {id} is static: its members are written, not computed"
                )));
            }
            Some(_) => {}
        }
    }
    let selection = if ids.is_empty() {
        Selection::All
    } else {
        Selection::These(ids.into_iter().collect::<BTreeSet<_>>())
    };
    let mut cycle = Cycle::new(
        registry.postgres.clone(),
        &ClickHouse::new(&config.clickhouse),
        Redis::new(&config.redis_url)?,
        config.cohorts,
    );
    let shutdown = Shutdown::default();
    shutdown
        .on_signals(config.shutdown_timeout)
        .context("installing signal handlers")?;
    let done = |cohort: &Cohort| tracing::debug!(cohort = %cohort.id, "done");
    let task = Task::new("cohorts", config.heartbeat_stale, &shutdown);
    let outcome = cycle.run(&selection, &task, done).await?;
    for (id, message) in &outcome.failed {
        print(&format!("failed: {id}: {}", harmless::line(message)));
    }
    for id in &outcome.waiting {
        print(&format!(
            "waiting: {id}: it refers to a cohort without a complete membership"
        ));
    }
    print(&format!(
        "{} computed, {} failed, {} waiting in {:.1} s",
        outcome.computed.len(),
        outcome.failed.len(),
        outcome.waiting.len(),
        outcome.took.as_secs_f64()
    ));
    if let Some(stopped) = outcome.stopped {
        return Err(Failure::Failed(anyhow::anyhow!("{stopped}")));
    }
    if outcome.failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Silent)
    }
}

async fn sql(registry: &Registry, id: Uuid) -> Result<(), Failure> {
    let cohorts = registry.load().await?;
    let Some(cohort) = cohorts.iter().find(|cohort| cohort.id == id) else {
        return Err(Failure::Usage(format!("there is no cohort {id}")));
    };
    let definition = serde_json::from_str(&cohort.definition)?;
    let definition = Definition::parse(&definition)?;
    let now = jiff::Timestamp::now().as_millisecond();
    let query = compile(&definition, cohort.project.0, now, &|to| match cohorts
        .iter()
        .find(|known| known.id == to && known.project == cohort.project)
    {
        None => Reference::Missing,
        Some(known) if known.is_static => Reference::Static,
        Some(known) => Reference::Dynamic {
            version: known.version.unwrap_or(0),
        },
    });
    for parameter in &query.parameters {
        let value = serde_json::to_string(&parameter.value)?;
        print(&format!("-- {} = {value}", parameter.name));
    }
    print(&query.sql);
    Ok(())
}
