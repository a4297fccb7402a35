//! Which cohorts to compute, and in which order. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cohort_query::{Definition, order};
use uuid::Uuid;

use crate::config::CohortConfig;

use super::due::{is_due, read};
use super::registry::Cohort;

/// Which cohorts are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those that are stale and not held back by failures.
    Due,
    /// All.
    All,
    /// These, and what they refer to as far as it is due.
    These(BTreeSet<Uuid>),
}

/// A cohort to compute.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) cohort: Cohort,
    pub(super) definition: Definition,
}

/// What a run has to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Each level after those before it.
    pub(super) levels: Vec<Vec<Task>>,
    /// Cohorts that cannot be computed, and why.
    pub(super) failures: Vec<(Cohort, String)>,
    /// Those of them that were asked for, and whose failure is recorded already.
    pub(super) known_failures: Vec<(Uuid, String)>,
}

/// Plans a run over all cohorts there are. Those that are `unshown` are due in any case.
pub(super) fn plan(
    cohorts: &[Cohort],
    selection: &Selection,
    settings: &CohortConfig,
    unshown: &BTreeSet<Uuid>,
) -> Plan {
    let mut candidates = Candidates::of(cohorts);
    let dynamic = &candidates.dynamic.clone();
    let due = |id: &Uuid| unshown.contains(id) || is_due(dynamic[id], settings);
    let chosen = chosen(dynamic, &candidates.references, selection, &due);
    let mut plan = Plan::default();
    for (id, message) in std::mem::take(&mut candidates.unreadable) {
        if chosen.contains(&id) {
            plan.failures.push((dynamic[&id].clone(), message));
        }
    }
    let order = order(&candidates.references);
    for (id, cycle) in order.cyclic.iter().filter(|(id, _)| chosen.contains(id)) {
        let (cohort, message) = (dynamic[id], cycle_message(dynamic, cycle));
        // Said once: nothing changes until a definition is changed.
        if cohort.last_error.as_ref() != Some(&message) {
            plan.failures.push((cohort.clone(), message));
        } else if *selection != Selection::Due {
            plan.known_failures.push((*id, message));
        }
    }
    for level in order.levels {
        let chosen = level.into_iter().filter(|id| chosen.contains(id));
        let tasks: Vec<Task> = chosen.filter_map(|id| candidates.take(id)).collect();
        if !tasks.is_empty() {
            plan.levels.push(tasks);
        }
    }
    plan
}

/// Cohorts that are computed, by id, and what they say.
struct Candidates<'a> {
    dynamic: BTreeMap<Uuid, &'a Cohort>,
    definitions: BTreeMap<Uuid, Definition>,
    /// What is wrong with those that have no definition here.
    unreadable: BTreeMap<Uuid, String>,
    /// Within a project: a cohort of another does not exist for it.
    references: BTreeMap<Uuid, Vec<Uuid>>,
}

impl<'a> Candidates<'a> {
    fn of(cohorts: &'a [Cohort]) -> Self {
        let dynamic = cohorts.iter().filter(|cohort| !cohort.is_static);
        let dynamic: BTreeMap<Uuid, &Cohort> = dynamic.map(|cohort| (cohort.id, cohort)).collect();
        let (mut definitions, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        let mut references = BTreeMap::new();
        for cohort in dynamic.values() {
            match read(&cohort.definition) {
                Ok(definition) => {
                    let is_of_project =
                        |to: &Uuid| dynamic.get(to).is_some_and(|to| to.project == cohort.project);
                    let mut refers_to = definition.references();
                    refers_to.retain(is_of_project);
                    references.insert(cohort.id, refers_to);
                    definitions.insert(cohort.id, definition);
                }
                Err(message) => drop(unreadable.insert(cohort.id, message)),
            }
        }
        Self {
            dynamic,
            definitions,
            unreadable,
            references,
        }
    }

    fn take(&mut self, id: Uuid) -> Option<Task> {
        Some(Task {
            cohort: self.dynamic[&id].clone(),
            definition: self.definitions.remove(&id)?,
        })
    }
}

fn cycle_message(dynamic: &BTreeMap<Uuid, &Cohort>, cycle: &[Uuid]) -> String {
    let members = cycle.iter().chain(cycle.first());
    let names: Vec<&str> = members.map(|member| dynamic[member].name.as_str()).collect();
    let message = format!("cyclic dependency: {}", names.join(" → "));
    message.chars().take(500).collect()
}

fn chosen(
    dynamic: &BTreeMap<Uuid, &Cohort>,
    references: &BTreeMap<Uuid, Vec<Uuid>>,
    selection: &Selection,
    due: &dyn Fn(&Uuid) -> bool,
) -> BTreeSet<Uuid> {
    match selection {
        Selection::All => dynamic.keys().copied().collect(),
        Selection::Due => dynamic.keys().copied().filter(due).collect(),
        Selection::These(ids) => {
            let mut chosen: BTreeSet<Uuid> = ids
                .iter()
                .copied()
                .filter(|id| dynamic.contains_key(id))
                .collect();
            let mut reached = chosen.clone();
            let mut waiting: Vec<Uuid> = chosen.iter().copied().collect();
            while let Some(id) = waiting.pop() {
                for to in references.get(&id).into_iter().flatten().copied() {
                    if reached.insert(to) {
                        waiting.push(to);
                    }
                }
            }
            chosen.extend(reached.into_iter().filter(due));
            chosen
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::event::ProjectId;

    use super::super::due::is_waiting;
    use super::*;

    /// The contract's defaults.
    const USUAL: CohortConfig = CohortConfig {
        initial_delay: Duration::from_secs(30),
        interval: Duration::from_mins(10),
        stale: Duration::from_mins(15),
        backoff_base: Duration::from_mins(30),
        backoff_max_exponent: 10,
        max_memory_bytes: 1,
        max_threads: 1,
    };

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    /// A dynamic cohort that refers to others and was never computed.
    fn cohort(n: u128, references: &[u128]) -> Cohort {
        let references = references
            .iter()
            .map(|to| json!({"type": "cohort", "cohort_id": id(*to), "negated": false}));
        let definition = json!({"type": "AND", "values": references.collect::<Vec<_>>()});
        Cohort {
            id: id(n),
            project: ProjectId(id(100)),
            name: format!("cohort {n}"),
            definition: definition.to_string(),
            is_static: false,
            version: None,
            computed_ago: None,
            errors: 0,
            failed_ago: None,
            last_error: None,
            changed_since_failure: false,
            updated_at: String::new(),
            read_at: String::new(),
        }
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_mins(n)
    }

    fn ids(plan: &Plan) -> Vec<Vec<Uuid>> {
        let level = |level: &Vec<Task>| level.iter().map(|task| task.cohort.id).collect();
        plan.levels.iter().map(level).collect()
    }

    fn due(cohort: Cohort) -> bool {
        !plan(&[cohort], &Selection::Due, &USUAL, &BTreeSet::new())
            .levels
            .is_empty()
    }

    #[test]
    fn a_cohort_is_due_when_never_computed_or_computed_more_than_fifteen_minutes_ago() {
        assert!(due(cohort(1, &[])));
        assert!(!due(Cohort {
            computed_ago: Some(minutes(14)),
            ..cohort(1, &[])
        }));
        assert!(due(Cohort {
            computed_ago: Some(minutes(16)),
            ..cohort(1, &[])
        }));
        assert!(!due(Cohort {
            is_static: true,
            ..cohort(1, &[])
        }));
    }

    #[test]
    fn failures_hold_a_cohort_back_for_longer_and_longer_until_it_is_changed() {
        let failed = |errors: u64, ago: u64| Cohort {
            errors,
            failed_ago: Some(minutes(ago)),
            ..cohort(1, &[])
        };
        assert!(!due(failed(1, 59)));
        assert!(due(failed(1, 61)));
        assert!(!due(failed(3, 239)));
        assert!(due(failed(3, 241)));
        // 2^10 half hours are three weeks.
        assert!(!due(failed(15, 30 * 1023)));
        assert!(due(failed(15, 30 * 1025)));
        assert!(!due(failed(20, 1_000_000)));
        assert!(due(Cohort {
            changed_since_failure: true,
            ..failed(20, 1)
        }));
        let asked_for = plan(
            &[failed(20, 1)],
            &Selection::These([id(1)].into()),
            &USUAL,
            &BTreeSet::new(),
        );
        assert_eq!(ids(&asked_for), [[id(1)]]);
    }

    #[test]
    fn references_come_first_as_far_as_they_are_due() {
        let fresh = Cohort {
            computed_ago: Some(minutes(1)),
            version: Some(1),
            ..cohort(3, &[])
        };
        let cohorts = [cohort(1, &[2, 3]), cohort(2, &[3]), fresh];
        assert_eq!(
            ids(&plan(&cohorts, &Selection::Due, &USUAL, &BTreeSet::new())),
            [[id(2)], [id(1)]]
        );
        assert_eq!(
            ids(&plan(&cohorts, &Selection::All, &USUAL, &BTreeSet::new())),
            [[id(3)], [id(2)], [id(1)]]
        );
        let one = Selection::These([id(1)].into());
        assert_eq!(
            ids(&plan(&cohorts, &one, &USUAL, &BTreeSet::new())),
            [[id(2)], [id(1)]]
        );
        let other = Selection::These([id(3)].into());
        assert_eq!(ids(&plan(&cohorts, &other, &USUAL, &BTreeSet::new())), [[id(3)]]);
    }

    #[test]
    fn a_cycle_is_said_once_and_stops_nobody_else() {
        let mut cohorts = [cohort(1, &[2]), cohort(2, &[1]), cohort(3, &[1]), cohort(4, &[])];
        let first = plan(&cohorts, &Selection::Due, &USUAL, &BTreeSet::new());
        assert_eq!(ids(&first), [[id(4)]]);
        let said: Vec<(Uuid, &str)> = first
            .failures
            .iter()
            .map(|(c, message)| (c.id, message.as_str()))
            .collect();
        let message = "cyclic dependency: cohort 1 → cohort 2 → cohort 1";
        assert_eq!(said, [(id(1), message), (id(2), message), (id(3), message)]);
        for cohort in &mut cohorts[..3] {
            cohort.errors = 1;
            cohort.failed_ago = Some(minutes(100));
            cohort.last_error = Some(message.into());
        }
        let again = plan(&cohorts, &Selection::Due, &USUAL, &BTreeSet::new());
        assert!(again.failures.is_empty() && again.known_failures.is_empty());
        let asked_for = plan(&cohorts, &Selection::All, &USUAL, &BTreeSet::new());
        assert!(asked_for.failures.is_empty(), "not recorded again");
        let known: Vec<Uuid> = asked_for.known_failures.iter().map(|(id, _)| *id).collect();
        assert_eq!(known, [id(1), id(2), id(3)]);
    }

    #[test]
    fn one_whose_members_are_not_shown_is_due_however_fresh_and_however_often_it_failed() {
        let fresh = Cohort {
            computed_ago: Some(minutes(1)),
            errors: 20,
            failed_ago: Some(minutes(1)),
            ..cohort(1, &[])
        };
        let plan = plan(&[fresh], &Selection::Due, &USUAL, &[id(1)].into());
        assert_eq!(ids(&plan), [[id(1)]]);
    }

    #[test]
    fn a_cohort_waits_for_one_that_was_never_computed() {
        let cohorts = [cohort(1, &[2]), cohort(2, &[])];
        assert!(is_waiting(&cohorts[0], &cohorts));
        assert!(!is_waiting(&cohorts[1], &cohorts));
        let computed = Cohort {
            version: Some(1),
            ..cohort(2, &[])
        };
        assert!(!is_waiting(&cohorts[0], &[computed]));
    }

    #[test]
    fn a_definition_that_cannot_be_read_fails_alone() {
        let broken = Cohort {
            definition: r#"{"type":"AND","values":[{"type":"x"}]}"#.into(),
            ..cohort(1, &[])
        };
        let plan = plan(
            &[broken, cohort(2, &[1])],
            &Selection::Due,
            &USUAL,
            &BTreeSet::new(),
        );
        assert_eq!(ids(&plan), [[id(2)]]);
        let why = r#"definition: values[0].type: unknown condition type "x", expected one of "#;
        assert!(plan.failures[0].1.starts_with(why), "{}", plan.failures[0].1);
    }

    #[test]
    fn a_cohort_of_another_project_is_no_reference() {
        let foreign = Cohort {
            project: ProjectId(id(200)),
            ..cohort(2, &[1])
        };
        let plan = plan(
            &[cohort(1, &[2]), foreign],
            &Selection::Due,
            &USUAL,
            &BTreeSet::new(),
        );
        assert!(plan.failures.is_empty());
        assert_eq!(ids(&plan), [[id(1), id(2)]]);
    }
}
