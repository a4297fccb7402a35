//! Every loop's sign of life.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::Role;
use crate::runtime::pulse::Pulse;

/// Every loop's sign of life.
pub(super) struct Pulses {
    pub(super) start: Pulse,
    pub(super) reader: Pulse,
    pub(super) keeper: Pulse,
    pub(super) watch: Pulse,
    pub(super) name: Pulse,
    pub(super) gather: Pulse,
    pub(super) identity: Pulse,
    pub(super) land: Pulse,
    pub(super) report: Pulse,
    pub(super) warnings: Pulse,
    pub(super) definitions: Pulse,
    pub(super) sweep: Pulse,
    pub(super) mover: Pulse,
    pub(super) gate: Pulse,
    pub(super) replay: Pulse,
    pub(super) cohorts: Pulse,
}

impl Pulses {
    pub(super) fn new(stale: Duration) -> Self {
        let pulse = |name| Pulse::new(name, stale);
        Self {
            start: pulse("start"),
            reader: pulse("reader"),
            keeper: pulse("keeper"),
            watch: pulse("watch"),
            name: pulse("name"),
            gather: pulse("gather"),
            identity: pulse("identity"),
            land: pulse("land"),
            report: pulse("report"),
            warnings: pulse("warnings"),
            definitions: pulse("definitions"),
            sweep: pulse("sweep"),
            mover: pulse("mover"),
            gate: pulse("gate"),
            replay: pulse("replay"),
            cohorts: pulse("cohorts"),
        }
    }

    /// Of the loops that run in these roles, and are about to begin.
    pub(super) fn all(&self, roles: &BTreeSet<Role>) -> Vec<Pulse> {
        let mut all = vec![
            &self.keeper,
            &self.watch,
            &self.name,
            &self.report,
            &self.warnings,
            &self.definitions,
            &self.sweep,
            &self.mover,
            &self.gate,
        ];
        if roles.contains(&Role::Consume) {
            all.extend([&self.reader, &self.gather, &self.identity, &self.land]);
        }
        if roles.contains(&Role::Dlq) {
            all.push(&self.replay);
        }
        if roles.contains(&Role::Cohorts) {
            all.push(&self.cohorts);
        }
        for pulse in &all {
            pulse.beat();
        }
        all.into_iter().cloned().collect()
    }
}
