//! What can go wrong with migrating, in words that say what to do.

use crate::stores::StoreError;

/// Why migrating stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    /// A store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One migration was refused.
    #[error("migration {name} of {database} failed: {source}")]
    Failed {
        /// Which database.
        database: &'static str,
        /// Which migration.
        name: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// An applied migration is not the one in this version.
    #[error(
        "migration {name} of {database} was applied in another form: use the version of this program that applied \
         it, or, if both forms are known to agree, delete its row from the table {ledger} and migrate again"
    )]
    Changed {
        /// Which database.
        database: &'static str,
        /// Which migration.
        name: &'static str,
        /// Where it is recorded.
        ledger: &'static str,
    },
    /// Another `migrate` holds the lock.
    #[error("another migration has been running for {0} s: wait for it, or end it, and migrate again")]
    Locked(u64),
}
