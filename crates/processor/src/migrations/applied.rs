//! What a migration is, and where each one stands given the ledger of applied ones. No I/O.

use sha2::{Digest, Sha256};

use super::error::MigrateError;

/// One migration as it stands in the repository.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    /// The worker runs without it, so a server that refuses it is no failure.
    pub(super) optional: bool,
    /// In PostgreSQL: the index that is all it builds, while the table is written to.
    pub(super) index: Option<&'static str>,
}

impl Migration {
    /// The checksum of the text in the repository, before anything is filled in: the same on every installation, and free
    /// of passwords.
    pub(super) fn checksum(&self) -> String {
        format!("{:x}", Sha256::digest(self.sql.as_bytes()))
    }
}

/// Embeds a migration file.
macro_rules! migration {
    (optional $database:literal, $name:literal) => {
        $crate::migrations::applied::Migration {
            optional: true,
            ..migration!($database, $name)
        }
    };
    (index $index:literal, $database:literal, $name:literal) => {
        $crate::migrations::applied::Migration {
            index: Some($index),
            ..migration!($database, $name)
        }
    };
    ($database:literal, $name:literal) => {
        $crate::migrations::applied::Migration {
            name: $name,
            sql: include_str!(concat!("../../../../migrations/", $database, "/", $name, ".sql")),
            optional: false,
            index: None,
        }
    };
}
pub(super) use migration;

/// Where a migration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// An earlier run applied it.
    AlreadyApplied,
    /// This run applied it.
    AppliedNow,
    /// It is needed and not applied.
    Pending,
    /// It is optional and not applied, for this reason. Each `migrate` tries it again.
    Skipped(String),
}

/// A migration and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The name of the database: `PostgreSQL` or `ClickHouse`.
    pub database: &'static str,
    /// The name of its file, without the ending.
    pub name: &'static str,
    /// Whether it is applied.
    pub state: State,
}

/// Every migration of both databases, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// The migrations, those of PostgreSQL first.
    pub steps: Vec<Step>,
}

impl Report {
    /// Migrations that are needed and not applied.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.state == State::Pending)
    }
}

/// Compares the applied migrations, as (name, checksum) pairs, with those of this version. Applied ones that this version
/// does not know belong to a newer version and are left alone: both run side by side during an update.
pub(super) fn compare(
    database: &'static str,
    ledger: &'static str,
    all: &[Migration],
    applied: &[(String, String)],
) -> Result<Vec<Step>, MigrateError> {
    let state = |migration: &Migration| {
        let stored = applied.iter().find(|(name, _)| name == migration.name);
        match stored {
            Some((_, checksum)) if *checksum != migration.checksum() => Err(MigrateError::Changed {
                database,
                name: migration.name,
                ledger,
            }),
            Some(_) => Ok(State::AlreadyApplied),
            None if migration.optional => Ok(State::Skipped("optional".into())),
            None => Ok(State::Pending),
        }
    };
    all.iter()
        .map(|migration| {
            Ok(Step {
                database,
                name: migration.name,
                state: state(migration)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Migration = Migration {
        name: "0001_one",
        sql: "SELECT 1",
        optional: false,
        index: None,
    };
    const TWO: Migration = Migration {
        name: "0002_two",
        sql: "SELECT 2",
        optional: true,
        index: None,
    };

    fn compared(applied: &[(String, String)]) -> Result<Report, MigrateError> {
        let steps = compare("PostgreSQL", "the_ledger", &[ONE, TWO], applied)?;
        Ok(Report { steps })
    }

    #[test]
    fn an_applied_migration_in_another_form_is_an_error_that_names_it_and_its_ledger() {
        let error = compared(&[("0001_one".into(), "other".into())])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("0001_one") && error.contains("the_ledger"),
            "{error}"
        );
    }

    #[test]
    fn only_a_needed_migration_is_pending() {
        let report = compared(&[]).unwrap();
        let pending: Vec<&str> = report.pending().map(|step| step.name).collect();
        assert_eq!(pending, ["0001_one"]);
    }

    #[test]
    fn what_a_newer_version_applied_is_left_alone() {
        let applied = [
            ("0001_one".to_owned(), ONE.checksum()),
            ("0009_of_the_future".to_owned(), "x".to_owned()),
        ];
        let report = compared(&applied).unwrap();
        assert_eq!(report.steps[0].state, State::AlreadyApplied);
        assert_eq!(report.pending().count(), 0);
    }
}
