//! What standard output is shown in.

use std::io::{self, IsTerminal};

use ratatui::crossterm::terminal;

/// Of a terminal that does not say how wide it is.
const USUAL_COLUMNS: usize = 80;

/// Columns of the terminal that standard output is. Nothing when it is none: what goes into a pipe or a file is searched
/// and cut by other programs, which need all of it.
pub(super) fn columns() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let columns = terminal::size().map_or(0, |(columns, _)| usize::from(columns));
    Some(if columns == 0 { USUAL_COLUMNS } else { columns })
}

/// Whether a screen may be drawn on it, and keys are pressed before it.
pub(super) fn is_screen() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
    io::stdout().is_terminal() && io::stdin().is_terminal() && !is_dumb
}
