//! `cohorts recompute` and `cohorts sql`.

use std::collections::BTreeSet;

use anyhow::Context;
use cohort_query::{Definition, Reference, compile};
use uuid::Uuid;

use super::named::named;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cohorts::{Cohort, Cycle, Registry, Selection};
use crate::config::Config;
use crate::logs::harmless;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task::Task;
use crate::stores::{ClickHouse, Redis};

pub(super) async fn recompute(config: &Config, registry: &Registry, ids: Vec<Uuid>) -> Result<(), Failure> {
    let cohorts = registry.load().await?;
    for id in &ids {
        if named(&cohorts, *id)?.is_static {
            return Err(Failure::Usage(format!(
                "cohort {id} is static: its members are written, not computed"
            )));
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
        Redis::new(&config.redis),
        config.cohorts,
    );
    let shutdown = Shutdown::default();
    shutdown
        .on_signals(config.shutdown_timeout)
        .context("installing signal handlers")?;
    let task = Task::new("cohorts", config.heartbeat_stale, &shutdown);
    // Each failure is told below, once.
    let outcome = cycle.run(&selection, &task, |_, _| {}).await?;
    for (id, message) in &outcome.failed {
        let line = format!("failed: {id} {}: {message}", name(&cohorts, *id));
        print(&harmless::line(&line));
    }
    for id in &outcome.waiting {
        let why = "it refers to a cohort without a complete membership";
        let line = format!("waiting: {id} {}: {why}", name(&cohorts, *id));
        print(&harmless::line(&line));
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

pub(super) async fn sql(registry: &Registry, id: Uuid) -> Result<(), Failure> {
    let cohorts = registry.load().await?;
    let cohort = named(&cohorts, id)?;
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

/// What people call a cohort, in quotes.
fn name(cohorts: &[Cohort], id: Uuid) -> String {
    let found = cohorts.iter().find(|cohort| cohort.id == id);
    found.map_or_else(String::new, |cohort| format!("{:?}", cohort.name))
}
