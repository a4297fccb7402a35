//! The cohort that an id on the command line names.

use uuid::Uuid;

use crate::cli::failure::Failure;
use crate::cohorts::Cohort;

/// The cohort with this id.
pub(super) fn named(cohorts: &[Cohort], id: Uuid) -> Result<&Cohort, Failure> {
    let found = cohorts.iter().find(|cohort| cohort.id == id);
    found.ok_or_else(|| Failure::Usage(format!("there is no cohort {id}: see `cohorts list`")))
}
