//! Which letters a run replays.

use std::collections::HashMap;
use std::time::Duration;

use stream_reply::StreamId;

use crate::event::ProjectId;
use crate::set_aside::Letter;

/// Which letters are meant. Empty means all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// These ids.
    pub ids: Vec<StreamId>,
    /// This project.
    pub project: Option<ProjectId>,
    /// This event name.
    pub event: Option<String>,
    /// This reason.
    pub reason: Option<String>,
    /// Set aside at least this long ago.
    pub older_than: Option<Duration>,
}

impl Selection {
    /// Whether a letter is meant. `now_ms`: milliseconds since the epoch.
    pub(crate) fn takes(&self, letter: &Letter, now_ms: u64) -> bool {
        let fields = if self.project.is_some() || self.event.is_some() {
            letter.fields().unwrap_or_default()
        } else {
            HashMap::default()
        };
        let says = |name: &str| fields.get(name).map_or("", String::as_str);
        (self.ids.is_empty() || self.ids.contains(&letter.id))
            && self
                .project
                .is_none_or(|project| says("project_id").parse() == Ok(project))
            && self
                .event
                .as_ref()
                .is_none_or(|event| says("event_name") == event)
            && self.reason.as_ref().is_none_or(|reason| letter.reason == *reason)
            && self
                .older_than
                .is_none_or(|age| letter.id.ms.saturating_add(age.as_millis() as u64) <= now_ms)
    }
}
