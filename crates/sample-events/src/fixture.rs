//! Fixtures as files: what they are called, how they are written and read.
//!
//! Lines end with a line feed; the account has one person, mapping or definition a line, so that a difference shows.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use crate::account::Account;
use crate::hostile::HostileCase;
use crate::line::Line;

/// The seed of the committed fixtures.
pub const SEED: u64 = 20_260_630;
/// The number of lines in the committed fixtures.
pub const COUNT: usize = 12_000;

/// File of events.
pub const EVENTS_FILE: &str = "sample-events.ndjson";
/// File of the account of those events.
pub const ACCOUNT_FILE: &str = "sample-events.account.json";
/// File of hostile cases.
pub const HOSTILE_FILE: &str = "hostile-events.ndjson";

/// Why a fixture could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// The file system refused.
    #[error("{path}: {source}; give the folder of the fixtures")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path}, line {line}: {source}; write the fixtures anew with `sample-events write`")]
    Content {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A value could not become JSON.
    #[error("a fixture cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
}

/// The events as a file's text.
///
/// # Errors
/// [`FixtureError::Encode`].
pub fn lines_text<T: Serialize>(lines: &[T]) -> Result<String, FixtureError> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    Ok(text)
}

/// The account as a file's text.
///
/// # Errors
/// [`FixtureError::Encode`].
pub fn account_text(account: &Account) -> Result<String, FixtureError> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Outline::default());
    account.serialize(&mut serializer)?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a file of events.
///
/// # Errors
/// [`FixtureError::File`] and [`FixtureError::Content`].
pub fn load_lines(path: impl AsRef<Path>) -> Result<Vec<Line>, FixtureError> {
    load_ndjson(path.as_ref())
}

/// Reads an account.
///
/// # Errors
/// [`FixtureError::File`] and [`FixtureError::Content`].
pub fn load_account(path: impl AsRef<Path>) -> Result<Account, FixtureError> {
    let path = path.as_ref();
    let text = read(path)?;
    serde_json::from_str(&text).map_err(|source| FixtureError::Content {
        path: path.into(),
        line: source.line(),
        source,
    })
}

/// Reads a file of hostile cases.
///
/// # Errors
/// [`FixtureError::File`] and [`FixtureError::Content`].
pub fn load_hostile(path: impl AsRef<Path>) -> Result<Vec<HostileCase>, FixtureError> {
    load_ndjson(path.as_ref())
}

fn load_ndjson<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, FixtureError> {
    let text = read(path)?;
    let parse = |(index, line): (usize, &str)| {
        let content = |source| FixtureError::Content {
            path: path.into(),
            line: index + 1,
            source,
        };
        serde_json::from_str(line).map_err(content)
    };
    text.split_terminator('\n').enumerate().map(parse).collect()
}

fn read(path: &Path) -> Result<String, FixtureError> {
    fs::read_to_string(path).map_err(|source| FixtureError::File {
        path: path.into(),
        source,
    })
}

/// Line breaks down to the entries of a project's tables, none below.
#[derive(Default)]
struct Outline {
    depth: usize,
    has_entries: bool,
}

/// account → projects → project → table.
const DEEPEST_BROKEN: usize = 4;

impl Outline {
    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> io::Result<()> {
        self.depth += 1;
        self.has_entries = false;
        writer.write_all(&[bracket])
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> io::Result<()> {
        self.depth -= 1;
        if self.has_entries && self.depth < DEEPEST_BROKEN {
            self.break_line(writer)?;
        }
        self.has_entries = true;
        writer.write_all(&[bracket])
    }

    fn entry<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        self.has_entries = true;
        if self.depth <= DEEPEST_BROKEN {
            self.break_line(writer)
        } else {
            Ok(())
        }
    }

    fn break_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        writer.write_all(" ".repeat(self.depth).as_bytes())
    }
}

impl Formatter for Outline {
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'{')
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b'}')
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.entry(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        CompactFormatter.begin_object_value(writer)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'[')
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b']')
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.entry(writer, first)
    }
}
