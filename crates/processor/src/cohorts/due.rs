//! When a cohort is to be computed. Pure.

use cohort_query::Definition;
use uuid::Uuid;

use crate::config::CohortConfig;

use super::registry::Cohort;

/// After this many failures in a row a cohort waits to be changed, or asked for.
const MOST_FAILURES: u64 = 20;

/// Whether a cohort's membership is too old, or not there yet.
pub fn is_stale(cohort: &Cohort, settings: &CohortConfig) -> bool {
    !cohort.is_static && cohort.computed_ago.is_none_or(|age| age > settings.stale)
}

/// Whether a cohort cannot be computed before one that it refers to.
pub fn is_waiting(cohort: &Cohort, cohorts: &[Cohort]) -> bool {
    let is_awaited = |to: &Uuid| {
        cohorts
            .iter()
            .any(|c| c.id == *to && c.project == cohort.project && !c.is_static && c.version.is_none())
    };
    !cohort.is_static && read(&cohort.definition).is_ok_and(|read| read.references().iter().any(is_awaited))
}

/// Whether failures hold a cohort back.
fn is_held_back(cohort: &Cohort, settings: &CohortConfig) -> bool {
    if cohort.errors == 0 || cohort.changed_since_failure {
        return false;
    }
    if cohort.errors >= MOST_FAILURES {
        return true;
    }
    let exponent = cohort.errors.min(u64::from(settings.backoff_max_exponent)) as u32;
    let pause = settings
        .backoff_base
        .saturating_mul(2u32.saturating_pow(exponent));
    cohort.failed_ago.is_some_and(|ago| ago < pause)
}

/// Whether a cohort is to be computed on the schedule.
pub(super) fn is_due(cohort: &Cohort, settings: &CohortConfig) -> bool {
    is_stale(cohort, settings) && !is_held_back(cohort, settings)
}

/// A cohort's definition, or what is wrong with it.
pub(super) fn read(definition: &str) -> Result<Definition, String> {
    let json =
        serde_json::from_str(definition).map_err(|error| format!("definition is not JSON: {error}"))?;
    Definition::parse(&json).map_err(|error| format!("definition: {error}"))
}
