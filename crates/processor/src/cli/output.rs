//! The output of commands. What cannot be written makes any command fail, which [`finish`] sees to for all of them; a
//! reader that has seen enough does not.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde::Serialize;

use crate::logs::writer::write_whole;
use crate::logs::{self, harmless};

/// Standard output, and the first that was wrong with it, from which on nothing is written any more.
static OUTPUT: Mutex<Output> = Mutex::new(Output {
    file: None,
    failed: None,
});

struct Output {
    file: Option<File>,
    failed: Option<io::Error>,
}

impl Output {
    /// Without a buffer: what was printed is with the system, and all that can fail has failed.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            // Not `io::stdout()`, which takes a descriptor that cannot be written for one that swallows everything.
            self.file = Some(File::from(io::stdout().as_fd().try_clone_to_owned()?));
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        write_whole(file, text).map_err(|(error, _)| error)
    }

    /// Some file systems say only now that they are full.
    fn sync(&self) -> io::Result<()> {
        match &self.file {
            Some(file) if file.metadata()?.is_file() => match file.sync_all() {
                Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                    Ok(())
                }
                synced => synced,
            },
            _ => Ok(()),
        }
    }
}

fn output() -> MutexGuard<'static, Output> {
    OUTPUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints a finished text and a line break on standard output. Whatever stands in it, nothing steers the terminal; texts
/// from outside go through [`harmless::line`] before, or through [`Rows`], so that they begin no lines either.
pub(super) fn print(text: &str) {
    write(&format!("{}\n", harmless::lines(text)));
}

/// Prints a value for programs, as one line of JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), serde_json::Error> {
    print(&serde_json::to_string(value)?);
    Ok(())
}

/// Says something beside a command's output, on standard error.
pub(super) fn note(text: &str) {
    logs::say(&format!("qurvo-processor: {}", harmless::line(text)));
}

/// Clears the screen.
pub(super) fn clear() {
    write("\x1b[2J\x1b[H");
}

fn write(text: &str) {
    let mut output = output();
    if output.failed.is_none() {
        output.failed = output.write(text.as_bytes()).err();
    }
}

/// A table. What is added to it may come from outside.
pub(super) struct Rows(Table);

impl Rows {
    /// Without a header line where there is no header.
    pub(super) fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        if !header.is_empty() {
            table.set_header(header);
        }
        Self(table)
    }

    pub(super) fn add(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        let cells = cells.into_iter();
        self.0
            .add_row(cells.map(|cell| harmless::line(cell.as_ref()).into_owned()));
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether what is printed has a reader: a command that goes on and on ends when it has none.
pub(super) fn is_open() -> bool {
    output().failed.is_none()
}

/// Whether all that was printed has arrived, as far as it had a reader.
pub(super) fn finish() -> anyhow::Result<()> {
    let mut output = output();
    let arrived = output.failed.take().map_or_else(|| output.sync(), Err);
    match arrived {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        arrived => arrived.context("standard output cannot be written"),
    }
}
