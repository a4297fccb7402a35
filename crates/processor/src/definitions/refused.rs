//! Names that PostgreSQL refuses. They are found by halving the statement, so that its other names are recorded.

use std::ops::Range;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::event::{ProjectId, Warning, WarningKind};
use crate::runtime::halving::{Halving, Next, Reply};
use crate::runtime::retry;
use crate::stores::{FailureKind, SqlClass, StoreError};
use crate::warehouse::warnings::WarningSink;

use super::fingerprint::Fingerprint;
use super::sightings::{EventName, EventProperty, Property, Sightings};

/// Pause before a refused name is tried again, however many events bring it meanwhile.
const PAUSE: Duration = Duration::from_secs(10);
/// Refused names remembered. One that is evicted is found and reported once more.
const CAPACITY: usize = 10_000;
/// Most warnings per table and round: a client that invents names without end does not get one for each.
const MOST_WARNINGS: usize = 100;
/// Most names in one log line.
const SHOWN: usize = 5;

/// A row of the catalogue, as logs and warnings name it.
pub(super) trait Named {
    fn project(&self) -> ProjectId;
    fn event(&self) -> Option<&str>;
    fn property(&self) -> Option<&str>;
}

impl Named for EventName {
    fn project(&self) -> ProjectId {
        self.project
    }

    fn event(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn property(&self) -> Option<&str> {
        None
    }
}

impl Named for Property {
    fn project(&self) -> ProjectId {
        self.project
    }

    fn event(&self) -> Option<&str> {
        None
    }

    fn property(&self) -> Option<&str> {
        Some(&self.name)
    }
}

impl Named for EventProperty {
    fn project(&self) -> ProjectId {
        self.project
    }

    fn event(&self) -> Option<&str> {
        Some(&self.event)
    }

    fn property(&self) -> Option<&str> {
        Some(&self.name)
    }
}

/// Which rows of a statement were written, and which were not.
#[derive(Debug)]
pub(super) struct Recorded {
    /// Rows that were written.
    pub(super) taken: Vec<Range<usize>>,
    /// Rows that PostgreSQL refused while it took others, each with its error.
    refused: Vec<(usize, StoreError)>,
    /// Why the remaining rows were not written, if there are any.
    end: Result<(), StoreError>,
}

/// Writes `count` rows by one statement. Where PostgreSQL refuses it, by one statement for each piece that it takes.
pub(super) async fn record<F: Future<Output = Result<(), StoreError>>>(
    count: usize,
    deadline: Instant,
    mut statement: impl FnMut(Range<usize>) -> F,
) -> Recorded {
    let mut recorded = Recorded {
        taken: Vec::new(),
        refused: Vec::new(),
        end: Ok(()),
    };
    let error = match attempts(|| statement(0..count)).await {
        Ok(()) => {
            recorded.taken.push(0..count);
            return recorded;
        }
        Err(error) => error,
    };
    let Some(said) = said(&error) else {
        recorded.end = Err(error);
        return recorded;
    };
    let mut last = error.clone();
    let mut halving = Halving::new(count, 1, said, error);
    loop {
        match halving.next() {
            Next::Try(range) if Instant::now() < deadline => {
                let tried = attempts(|| statement(range.clone())).await;
                match tried.as_ref().map_err(self::said) {
                    Ok(()) => {
                        recorded.taken.push(range);
                        halving.answered(Reply::Taken, None);
                    }
                    Err(Some(said)) => {
                        last = tried.err().unwrap_or(last);
                        halving.answered(said, Some(last.clone()));
                    }
                    // The store went away meanwhile: no further name is blamed.
                    Err(None) => {
                        recorded.end = tried;
                        return recorded;
                    }
                }
            }
            Next::Done => {
                let refused = halving.at_fault().into_iter();
                recorded.refused = refused.map(|item| (item.index, item.error)).collect();
                return recorded;
            }
            Next::Try(_) | Next::NothingTaken => {
                recorded.end = Err(last);
                return recorded;
            }
        }
    }
}

/// Tries a statement within the preset for definitions. After that, later events bring the names again.
async fn attempts<F: Future<Output = Result<(), StoreError>>>(
    mut statement: impl FnMut() -> F,
) -> Result<(), StoreError> {
    let preset = retry::DEFINITIONS;
    let mut failures = 0;
    loop {
        let Err(error) = statement().await else {
            return Ok(());
        };
        failures += 1;
        // A project that is deleted at this very moment fails the statement once; the next attempt leaves it out.
        let lost = (error.kind == FailureKind::Poison || said(&error).is_some())
            && !error.is_foreign_key_violation();
        if failures >= preset.attempts || lost {
            return Err(error);
        }
        tokio::time::sleep(retry::pause(preset, failures)).await;
    }
}

/// Whether an error is about the rows of a statement, and in which way; nothing when it is about the store.
fn said(error: &StoreError) -> Option<Reply> {
    match error.sql_class()? {
        SqlClass::ConnectionException
        | SqlClass::InvalidTransactionState
        | SqlClass::InvalidAuthorization
        | SqlClass::InvalidCatalogName
        | SqlClass::TransactionRollback
        | SqlClass::InsufficientResources
        | SqlClass::ObjectNotInPrerequisiteState
        | SqlClass::OperatorIntervention
        | SqlClass::SystemError => None,
        SqlClass::CardinalityViolation
        | SqlClass::DataException
        | SqlClass::IntegrityConstraintViolation
        | SqlClass::WithCheckOptionViolation
        | SqlClass::ProgramLimitExceeded => Some(Reply::Refused),
        // Whatever a trigger says, or what is broken: about a row only when others are taken.
        SqlClass::SyntaxErrorOrAccessRuleViolation | SqlClass::Other => Some(Reply::Failed),
    }
}

/// Names that PostgreSQL refused lately.
#[derive(Debug)]
pub(super) struct Refused {
    /// When each name was refused last.
    names: Cache<Fingerprint, Instant>,
    warnings: WarningSink,
}

impl Refused {
    pub(super) fn new(warnings: WarningSink) -> Self {
        Self {
            names: Cache::new(CAPACITY),
            warnings,
        }
    }

    /// Takes names out that are not to be tried again yet.
    pub(super) fn leave_out(&self, new: &mut Sightings) {
        let now = Instant::now();
        let may_try = |name: &Fingerprint| self.names.get(name).is_none_or(|at| now - at >= PAUSE);
        new.events.retain(|name, _| may_try(name));
        new.properties.retain(|name, _| may_try(name));
        new.event_properties.retain(|name, _| may_try(name));
    }

    /// Remembers refused names. Those refused for the first time are reported in the log and to the owners of their
    /// project.
    pub(super) fn note<R: Named>(
        &self,
        rows: &[(&Fingerprint, &R)],
        recorded: Recorded,
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut new = Vec::new();
        for (index, error) in &recorded.refused {
            let (name, row) = rows[*index];
            if self.names.get(name).is_none() {
                new.push((row, error));
            }
            self.names.insert(*name, now);
        }
        if let Some((row, error)) = new.first() {
            let names: Vec<String> = new.iter().take(SHOWN).map(|(row, _)| shown(*row)).collect();
            tracing::warn!(
                project = %row.project(), names = names.join(", "), count = new.len(), %error,
                "PostgreSQL refuses names: they are left out of the catalogue, and tried again as events bring them"
            );
        }
        let warnings = new.iter().take(MOST_WARNINGS).map(|(row, error)| {
            let what = if row.property().is_some() {
                "property"
            } else {
                "event name"
            };
            let reason = format!(
                "the {what} {} is not in the lists of names: {}",
                shown(*row),
                error.message
            );
            Warning::new(
                row.project(),
                WarningKind::NameNotRecorded,
                row.event(),
                None,
                &reason,
            )
        });
        self.warnings.send(warnings.collect());
        // The whole statement failed: names that are known to be refused are not tried again at once.
        if recorded.end.is_err() && recorded.taken.is_empty() {
            for (name, _) in rows {
                if self.names.get(*name).is_some() {
                    self.names.insert(**name, now);
                }
            }
        }
        recorded.end
    }
}

fn shown(row: &impl Named) -> String {
    match (row.event(), row.property()) {
        (Some(event), Some(property)) => format!("`{property}` of `{event}`"),
        (event, property) => format!("`{}`", event.or(property).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use crate::stores::Store;

    use super::*;

    fn error(code: &str) -> StoreError {
        StoreError::transient(Store::Postgres, "test", String::new()).with_code(code)
    }

    /// Records rows of which some fail with a code, in at most `tries` statements.
    async fn recorded(codes: &[&str], tries: usize) -> (Vec<usize>, Vec<usize>, Option<String>) {
        let left = Mutex::new(tries);
        let deadline = Instant::now() + Duration::from_mins(1);
        let recorded = record(codes.len(), deadline, async |range: Range<usize>| {
            let mut left = left.lock().unwrap();
            if *left == 0 {
                return Err(error("57P01"));
            }
            *left -= 1;
            match codes[range].iter().find(|code| !code.is_empty()) {
                Some(code) => Err(error(code)),
                None => Ok(()),
            }
        })
        .await;
        (
            recorded.taken.into_iter().flatten().collect(),
            recorded.refused.into_iter().map(|(index, _)| index).collect(),
            recorded.end.err().map(|error| error.code),
        )
    }

    #[tokio::test]
    async fn what_is_refused_stands_alone_and_the_rest_is_taken() {
        let many = usize::MAX;
        for code in ["22021", "23514", "54000", "21000", "P0001", "42703"] {
            let rows = ["", code, "", "", "", code, "", ""];
            assert_eq!(
                recorded(&rows, many).await,
                (vec![0, 2, 3, 4, 6, 7], vec![1, 5], None),
                "{code}"
            );
        }
        assert_eq!(recorded(&["", ""], many).await, (vec![0, 1], vec![], None));
        assert_eq!(recorded(&["23514"; 3], many).await, (vec![], vec![0, 1, 2], None));
    }

    #[tokio::test]
    async fn no_name_is_blamed_for_a_store_that_is_away_or_broken() {
        for code in ["08006", "57014", "25006", "53100", "40P01"] {
            let end = Some(code.to_owned());
            assert_eq!(
                recorded(&["", code, ""], 99).await,
                (vec![], vec![], end),
                "{code}"
            );
        }
        let end = Some("42P01".to_owned());
        assert_eq!(recorded(&["42P01"; 5], 99).await, (vec![], vec![], end));
        // Refused as a whole, then in its first half; then the store goes.
        let end = Some("57P01".to_owned());
        assert_eq!(
            recorded(&["22021", "", "", ""], 3).await,
            (vec![], vec![], end.clone())
        );
        assert_eq!(recorded(&["22021", "", "", ""], 4).await, (vec![1], vec![], end));
    }
}
