//! Tables that fit the terminal that they are shown in. Where there is less room than a table needs, columns are left out
//! or their cells cut, and one line says which; without a terminal nothing is. The layout itself knows no terminal.

use std::fmt;

use super::columns::{cut, width, wrapped};
use super::terminal;
use crate::logs::harmless;

/// Between two columns.
const GAP: usize = 2;
/// A column is cut to no less than this, or than its name takes: columns go before that…
const LEAST: usize = 12;
/// …and optional ones before others are cut to less than this.
const COMFORTABLE: usize = 24;

/// A table. What is added to it may come from outside.
#[derive(Debug, Default)]
pub(super) struct Rows {
    header: Vec<String>,
    cells: Vec<Vec<String>>,
    whole: Vec<usize>,
    optional: Vec<usize>,
    prose: Vec<usize>,
    repeated: Vec<usize>,
}

impl Rows {
    /// Without a header line where there is no header.
    pub(super) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|name| (*name).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The same, with columns that are the last to be cut: people copy from them into other commands.
    #[must_use]
    pub(super) fn whole(mut self, columns: &[&str]) -> Self {
        self.whole = self.places(columns);
        self
    }

    /// The same, with columns that are left out, the first one first, before any other would become too narrow.
    #[must_use]
    pub(super) fn optional(mut self, columns: &[&str]) -> Self {
        self.optional = self.places(columns);
        self
    }

    /// The same, with columns of sentences: they are broken into lines rather than cut.
    #[must_use]
    pub(super) fn prose(mut self, columns: &[&str]) -> Self {
        self.prose = self.places(columns);
        self
    }

    /// The same, with columns that stand in every line of a row: so that whoever searches for one finds all of it.
    #[must_use]
    pub(super) fn repeated(mut self, columns: &[&str]) -> Self {
        self.repeated = self.places(columns);
        self
    }

    /// Names, and what is said of each, without a header line.
    pub(super) fn pairs() -> Self {
        Self {
            prose: vec![1],
            ..Self::default()
        }
    }

    fn places(&self, columns: &[&str]) -> Vec<usize> {
        let place = |column: &&str| self.header.iter().position(|name| name == column);
        columns.iter().filter_map(place).collect()
    }

    pub(super) fn add(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        let cells = cells.into_iter();
        let cells = cells.map(|cell| harmless::line(cell.as_ref()).into_owned());
        self.cells.push(cells.collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The table in so many columns of a terminal, or as wide as it is.
    pub(super) fn within(&self, columns: Option<usize>) -> String {
        let fitted = self.lines(columns);
        let rule = "─".repeat(fitted.width);
        let header = fitted
            .header
            .into_iter()
            .flat_map(|header| [header, rule.clone()]);
        header
            .chain(fitted.rows)
            .chain(fitted.note)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The same, line by line.
    pub(super) fn lines(&self, columns: Option<usize>) -> Lines {
        let shown = self.fitted(columns);
        let width = shown.iter().map(|column| column.width).sum::<usize>() + gaps(&shown);
        let note = columns.and_then(|columns| Some(cut(&self.left_out(&shown)?, columns)));
        Lines {
            header: (!self.header.is_empty()).then(|| self.row(&self.header, &shown).swap_remove(0)),
            rows: self.cells.iter().flat_map(|row| self.row(row, &shown)).collect(),
            note,
            width,
        }
    }

    /// A row's lines: one, unless there are sentences in it.
    fn row(&self, cells: &[String], shown: &[Column]) -> Vec<String> {
        let mut parts: Vec<Vec<String>> = shown
            .iter()
            .map(|column| {
                let cell = cells.get(column.place).map_or("", String::as_str);
                if self.prose.contains(&column.place) {
                    wrapped(cell, column.width)
                } else {
                    vec![cut(cell, column.width)]
                }
            })
            .collect();
        let height = parts.iter().map(Vec::len).max().unwrap_or(1).max(1);
        for (cell, column) in parts.iter_mut().zip(shown) {
            if self.repeated.contains(&column.place) {
                *cell = cell.iter().cycle().take(height).cloned().collect();
            }
        }
        (0..height).map(|at| line(&parts, shown, at)).collect()
    }

    /// Which columns are shown, and how wide.
    fn fitted(&self, columns: Option<usize>) -> Vec<Column> {
        let mut shown = self.natural();
        let Some(room) = columns else { return shown };
        for column in &mut shown {
            column.width = column.width.min(room);
        }
        let whole = |column: &Column| self.whole.contains(&column.place);
        for place in &self.optional {
            let least = |column: &Column| match column {
                column if whole(column) => usize::MAX,
                column if self.optional.contains(&column.place) => LEAST,
                _ => COMFORTABLE,
            };
            if fit(&mut shown, room, least) {
                return shown;
            }
            shown.retain(|column| column.place != *place);
        }
        loop {
            if fit(
                &mut shown,
                room,
                |column| if whole(column) { usize::MAX } else { LEAST },
            ) {
                return shown;
            }
            match shown.iter().rposition(|column| !whole(column)) {
                Some(last) if shown.len() > 1 => shown.remove(last),
                _ => break,
            };
        }
        // What is left is to be cut last.
        if !fit(&mut shown, room, |_| LEAST) {
            let share = room.saturating_sub(gaps(&shown)) / shown.len().max(1);
            for column in &mut shown {
                column.width = column.width.min(share.max(1));
            }
        }
        shown
    }

    /// All columns as wide as they are. One that has neither a name nor anything else is none.
    fn natural(&self) -> Vec<Column> {
        let count = self.cells.iter().map(Vec::len).max().unwrap_or(0);
        let of = |place: usize| {
            let cells = || self.cells.iter().filter_map(move |row| row.get(place));
            let name = self.header.get(place).map_or(0, |name| width(name));
            Column {
                place,
                name,
                width: cells().map(|cell| width(cell)).max().unwrap_or(0).max(name),
                is_number: cells().any(|cell| is_number(cell))
                    && cells().all(|cell| cell.is_empty() || is_number(cell) || cell == UNKNOWN),
            }
        };
        let all = (0..count.max(self.header.len())).map(of);
        all.filter(|column| column.width > 0).collect()
    }

    /// What is missing of the table, in one line.
    fn left_out(&self, shown: &[Column]) -> Option<String> {
        let (mut left_out, mut cut_short) = (Vec::new(), Vec::new());
        for natural in self.natural() {
            let name = self.header.get(natural.place).map_or("", String::as_str);
            match shown.iter().find(|column| column.place == natural.place) {
                None => left_out.push(name),
                Some(column) if column.width < natural.width && !self.prose.contains(&column.place) => {
                    cut_short.push(name);
                }
                Some(_) => {}
            }
        }
        if left_out.is_empty() && cut_short.is_empty() {
            return None;
        }
        let mut parts = Vec::new();
        for (what, names) in [("left out", left_out), ("cut short", cut_short)] {
            let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
            if !names.is_empty() {
                parts.push(format!("{what}: {}", names.join(", ")));
            }
        }
        parts.insert(0, "… `| cat` shows all".into());
        Some(parts.join("; "))
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.within(terminal::columns()))
    }
}

/// A table's lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// The names of its columns.
    pub(super) header: Option<String>,
    pub(super) rows: Vec<String>,
    /// What is missing of it.
    pub(super) note: Option<String>,
    width: usize,
}

/// Stands in a cell of numbers for one that could not be read.
pub(super) const UNKNOWN: &str = "unknown";

#[derive(Debug, Clone, Copy)]
struct Column {
    /// Which of the table's it is.
    place: usize,
    /// What its name takes.
    name: usize,
    width: usize,
    is_number: bool,
}

/// One line of a row, of which each cell has some.
fn line(cells: &[Vec<String>], shown: &[Column], at: usize) -> String {
    let mut line = String::new();
    for (index, (cell, column)) in cells.iter().zip(shown).enumerate() {
        let text = cell.get(at).map_or("", String::as_str);
        let padding = " ".repeat(column.width.saturating_sub(width(text)));
        if index > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        if column.is_number {
            line.push_str(&padding);
            line.push_str(text);
        } else {
            line.push_str(text);
            line.push_str(&padding);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

fn gaps(columns: &[Column]) -> usize {
    GAP * columns.len().saturating_sub(1)
}

/// Cuts the widest columns, all to the same width, until the table fits. `false` when one would be cut to less than `least`
/// says, or than its name takes.
fn fit(columns: &mut [Column], room: usize, least: impl Fn(&Column) -> usize) -> bool {
    let least = |column: &Column| column.width.min(least(column).max(column.name));
    let mut taken = columns.iter().map(|column| column.width).sum::<usize>() + gaps(columns);
    let at_least = columns.iter().map(least).sum::<usize>() + gaps(columns);
    if at_least > room {
        return false;
    }
    while taken > room {
        let cuttable = columns.iter_mut().filter(|column| column.width > least(column));
        // There is one: all of them at their least would fit.
        let Some(widest) = cuttable.max_by_key(|column| column.width) else {
            break;
        };
        widest.width -= 1;
        taken -= 1;
    }
    true
}

fn is_number(cell: &str) -> bool {
    // A version has two points.
    cell.starts_with(|c: char| c.is_ascii_digit())
        && cell.matches('.').count() < 2
        && cell.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '.'))
}
