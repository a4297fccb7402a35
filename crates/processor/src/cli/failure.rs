//! What a command that does not succeed ends with: what is said of it, and the exit code.

use cohort_query::DefinitionError;

use crate::config::ConfigErrors;
use crate::migrations::MigrateError;
use crate::stores::StoreError;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Exit code 2.
    #[error("configuration: {0}")]
    Config(#[from] ConfigErrors),
    /// Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Exit code 2; it has a form of its own.
    #[error("{0}")]
    Arguments(clap::Error),
    /// Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// Exit code 1; everything worth saying has been said.
    #[error("")]
    Silent,
}

/// Errors that say themselves what happened.
macro_rules! failed_with {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Failed(error.into())
            }
        })*
    };
}

failed_with!(MigrateError, DefinitionError, serde_json::Error);

impl From<StoreError> for Failure {
    /// With what an operator has to do, where no waiting helps.
    fn from(error: StoreError) -> Self {
        Self::Failed(match error.advice() {
            Some(advice) => anyhow::anyhow!("{error}: {advice}"),
            None => error.into(),
        })
    }
}

impl Failure {
    /// What the process ends with.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::Arguments(_) => 2,
            Self::Failed(_) | Self::Silent => 1,
        }
    }
}
