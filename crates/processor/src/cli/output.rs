//! The output of commands. What cannot be written makes any command fail, which [`finish`] sees to for all of them; a
//! reader that has seen enough does not.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use serde::Serialize;

pub(super) use super::table::Rows;
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

/// Standard output as a screen that is drawn on. What is drawn has gone through [`harmless::line`] before.
#[derive(Debug)]
pub(super) struct Screen;

impl io::Write for Screen {
    fn write(&mut self, drawn: &[u8]) -> io::Result<usize> {
        write_bytes(drawn);
        if is_open() {
            Ok(drawn.len())
        } else {
            Err(ErrorKind::BrokenPipe.into())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(text: &str) {
    write_bytes(text.as_bytes());
}

fn write_bytes(bytes: &[u8]) {
    let mut output = output();
    if output.failed.is_none() {
        output.failed = output.write(bytes).err();
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
