//! `cohorts list`: each cohort, how many members it has, and how fresh that is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::cli::failure::Failure;
use crate::cli::output::{Rows, print};
use crate::cli::sentences::wrapped;
use crate::cohorts::{Cohort, Registry, count_members, is_stale, is_waiting};
use crate::config::CohortConfig;
use crate::event::ProjectId;
use crate::stores::ClickHouse;

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

pub(super) async fn list(
    registry: &Registry,
    clickhouse: &ClickHouse,
    settings: &CohortConfig,
    (project, json): (Option<ProjectId>, bool),
) -> Result<(), Failure> {
    let all = registry.load().await?;
    let mut cohorts = all.clone();
    cohorts.retain(|cohort| project.is_none_or(|project| cohort.project == project));
    let state = |cohort: &Cohort| state(cohort, &all, settings);
    let counts = count_members(clickhouse, &cohorts).await;
    // What PostgreSQL knows is told without ClickHouse, too.
    let (counts, failed) = match counts {
        Ok(counts) => (Some(counts), None),
        Err(error) => (None, Some(error)),
    };
    if json {
        for cohort in &cohorts {
            let line = json!({
                "id": cohort.id, "project": cohort.project, "name": cohort.name, "state": state(cohort),
                "members": counts.as_ref().and_then(|counts| counts.get(&cohort.id)), "version": cohort.version,
                "computed_s_ago": cohort.computed_ago.map(|age| age.as_secs()), "errors": cohort.errors,
                "last_error": cohort.last_error,
            });
            print(&line.to_string());
        }
    } else {
        print(&text(&cohorts, state, counts.as_ref()));
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// The cohorts as a table, and below it what is wrong with each that fails.
fn text(
    cohorts: &[Cohort],
    state: impl Fn(&Cohort) -> &'static str,
    counts: Option<&BTreeMap<Uuid, u64>>,
) -> String {
    // Where there is but one project, its id would only make the lines longer.
    let projects: BTreeSet<ProjectId> = cohorts.iter().map(|cohort| cohort.project).collect();
    let columns = ["name", "state", "members", "computed", "id", "project"];
    let columns = &columns[..if projects.len() > 1 { 6 } else { 5 }];
    let mut table = Rows::new(columns).whole(&["id"]).optional(&["project"]);
    let mut failures = String::new();
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for cohort in cohorts {
        let members = match counts {
            None => "unknown".to_owned(),
            Some(counts) => counts.get(&cohort.id).map(u64::to_string).unwrap_or_default(),
        };
        let cells = [
            cohort.name.as_str(),
            state(cohort),
            &members,
            &cohort.computed_ago.map(ago).unwrap_or_default(),
            &cohort.id.to_string(),
            &cohort.project.to_string(),
        ];
        table.add(&cells[..columns.len()]);
        *states.entry(state(cohort)).or_default() += 1;
        if cohort.errors > 0 {
            let failed = format!(
                "{:?} has failed {}: {}",
                cohort.name,
                times(cohort.errors),
                cohort.last_error.as_deref().unwrap_or("no reason is recorded")
            );
            failures += &format!("\n{}", wrapped(&failed, "    "));
        }
    }
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    match cohorts {
        [] => "no cohorts".to_owned(),
        [_] => format!("{table}{failures}\n1 cohort: {}", states.join(", ")),
        some => format!("{table}{failures}\n{} cohorts: {}", some.len(), states.join(", ")),
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        more => format!("{more} times in a row"),
    }
}

/// How long ago, in the largest unit that says enough.
pub(super) fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_the_largest_unit_that_says_enough() {
        for (seconds, told) in [
            (0, "0 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7_199, "119 min ago"),
            (7_200, "2 h ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), told);
        }
    }
}
