//! What commands read: a file, or standard input for `-`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, stdin};
use std::path::Path;

use anyhow::Context;

use super::failure::Failure;

/// A mark that some editors write before the first character of a file.
pub(super) const MARK: &[u8] = "\u{feff}".as_bytes();

/// A file to be read line by line.
pub(super) fn open(file: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(stdin())));
    }
    let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, opened)))
}

/// A whole file, without the mark before its first character.
pub(super) fn text_of(file: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    open(file)?
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {}", file.display()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", file.display()))?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or_else(|| text.clone(), str::to_owned))
}

/// Reads the next line, whatever its bytes are, into `line`, without its end. `false` when there is none.
pub(super) fn next_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if reader.read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.ends_with(b"\n") {
        line.pop();
    }
    Ok(true)
}
