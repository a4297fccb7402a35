//! Process files: how a later command finds what an earlier one started. Never answers with a process that merely
//! has the number.

use std::fs;
use std::path::Path;

use crate::StackError;
use crate::process::ProcessIdentity;

/// The process that the file names, if it still runs.
pub(crate) fn read(path: &Path) -> Option<ProcessIdentity> {
    let identity: ProcessIdentity = fs::read_to_string(path).ok()?.parse().ok()?;
    identity.is_alive().then_some(identity)
}

/// Writes the file in one step, so that no reader sees half of it.
pub(crate) fn write(path: &Path, identity: &ProcessIdentity) -> Result<(), StackError> {
    let draft = path.with_extension("pid.new");
    fs::write(&draft, format!("{identity}\n")).map_err(StackError::path("write", &draft))?;
    fs::rename(&draft, path).map_err(StackError::path("write", path))
}

/// Removes the file; that it is gone already is no error.
pub(crate) fn remove(path: &Path) {
    let _gone = fs::remove_file(path);
}
