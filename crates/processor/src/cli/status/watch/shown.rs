//! How states look, and how old they are. Pure.

use jiff::Timestamp;
use ratatui::style::{Color, Modifier, Style};

use super::super::facts::StoreState;
use super::super::tables::shown_time;
use super::super::words::time;
use super::model::Seen;

/// What is not what it should be.
pub(super) const WRONG: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
/// What was so once, and what is beside the point.
pub(super) const OLD: Style = Style::new().add_modifier(Modifier::DIM);
/// What only names other things.
pub(super) const NAME: Style = Style::new().add_modifier(Modifier::UNDERLINED);

/// With the day, for people who come back to a screen that was left alone.
pub(super) fn clock(at: Timestamp) -> String {
    shown_time(&format!("{at:.3}"))
}

/// Said of what a store told that does not answer now.
pub(super) fn as_of<F>(seen: &Seen<F>) -> Option<String> {
    seen.silent_since?;
    Some(
        seen.at
            .map_or(String::new(), |at| format!(" (as of {})", clock(at))),
    )
}

/// Whether a store answers.
pub(super) fn store_state(store: &StoreState, silent: Option<u64>) -> (String, Style) {
    match (silent, store.answered_ms) {
        (Some(silent), _) if store.refuses => (format!("refuses this command for {}", time(silent)), WRONG),
        (Some(silent), _) => (format!("silent for {}", time(silent)), WRONG),
        (None, Some(ms)) if store.reachable => (format!("{ms} ms"), Style::new()),
        _ => ("asked".into(), OLD),
    }
}
