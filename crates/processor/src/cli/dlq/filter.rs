//! Arguments of all `dlq` commands: which letters are meant, and how they are changed.

use std::time::Duration;

use stream_reply::StreamId;

use crate::event::ProjectId;
use crate::replay::Selection;

/// How letters are changed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(in crate::cli) struct How {
    /// Only say how many.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// One JSON object: `matched`, `left_queue`, `rejected`, `absent` (ids), `stopped` (why it ended early, or null).
    #[arg(long)]
    pub(super) json: bool,
}

/// Which letters are meant.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Filter {
    /// Only this one; may be repeated.
    #[arg(long = "id")]
    pub(super) ids: Vec<StreamId>,
    /// Only of this project.
    #[arg(long)]
    project: Option<ProjectId>,
    /// Only events of this name.
    #[arg(long)]
    event: Option<String>,
    /// Only with this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Only what was set aside at least this long ago, such as `2h 30m`.
    #[arg(long, value_parser = duration)]
    older_than: Option<Duration>,
    /// The rejected events instead of the dead letters.
    #[arg(long)]
    pub(super) rejected: bool,
}

impl Filter {
    pub(super) fn selection(&self) -> Selection {
        Selection {
            ids: self.ids.clone(),
            project: self.project,
            event: self.event.clone(),
            reason: self.reason.clone(),
            older_than: self.older_than,
        }
    }

    /// Whether it selects everything.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
            && self.project.is_none()
            && self.event.is_none()
            && self.reason.is_none()
            && self.older_than.is_none()
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(parsed).map_err(|error| error.to_string())
}
