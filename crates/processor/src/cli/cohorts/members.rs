//! `cohorts members`: who is in a cohort.

use serde_json::json;
use uuid::Uuid;

use super::list::ago;
use super::named::named;
use crate::cli::failure::Failure;
use crate::cli::output::{Rows, note, print};
use crate::cli::sentences::quoted;
use crate::cohorts::{self, Cohort, Registry, count_members};
use crate::event::PersonId;
use crate::identity::upkeep::history::known_as;
use crate::stores::ClickHouse;

/// Which of the members are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) limit: u64,
    pub(super) after: Option<PersonId>,
}

pub(super) async fn members(
    registry: &Registry,
    clickhouse: &ClickHouse,
    id: Uuid,
    page: Page,
    json: bool,
) -> Result<(), Failure> {
    let cohorts = registry.load().await?;
    let cohort = named(&cohorts, id)?;
    if !cohort.is_static && cohort.version.is_none() {
        let why = cohort
            .last_error
            .as_ref()
            .map_or_else(String::new, |error| format!(": {error}"));
        return Err(anyhow::anyhow!(
            "cohort {id} {:?} has no membership yet{why}; `cohorts recompute {id}` computes it now",
            cohort.name
        )
        .into());
    }
    let counts = count_members(clickhouse, std::slice::from_ref(cohort)).await?;
    let count = counts.get(&id).copied().unwrap_or_default();
    let persons = cohorts::members(clickhouse, cohort, page.after, page.limit).await?;
    let names = known_as(&registry.postgres, &persons).await?;
    let name = |person: &PersonId| names.get(person).map(|id| &**id);
    let next = persons.last().filter(|_| persons.len() as u64 == page.limit);
    let next = next.map(|last| format!("`cohorts members {id} --after {last}` goes on"));
    if json {
        for person in &persons {
            print(&json!({"person_id": person, "distinct_id": name(person)}).to_string());
        }
        if let Some(next) = next {
            note(&format!("{count} members in all; {next}"));
        }
        return Ok(());
    }
    if !persons.is_empty() {
        let mut table = Rows::new(&["person", "one of the distinct ids"]).whole(&["person"]);
        for person in &persons {
            table.add([person.to_string(), name(person).map(quoted).unwrap_or_default()]);
        }
        print(&table.to_string());
    }
    print(&summary(cohort, count, persons.len()));
    if let Some(next) = next {
        print(&next);
    }
    Ok(())
}

fn summary(cohort: &Cohort, count: u64, shown: usize) -> String {
    let fresh = match cohort.computed_ago {
        Some(age) if !cohort.is_static => format!(", computed {}", ago(age)),
        _ => String::new(),
    };
    let members = if count == 1 { "member" } else { "members" };
    format!("{count} {members} of {:?}{fresh}; {shown} shown", cohort.name)
}
