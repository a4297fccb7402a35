//! Temporary data folders, and the removal of those that a killed test left behind. Never removes a folder that is
//! locked or young: its owner may be alive.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::site::lock_path;
use crate::{StackError, postgres};

const PREFIX: &str = "qurvo-embedded-stack-";
/// A folder is made before it is locked; in this time its owner has surely come to the lock.
const YOUNG: Duration = Duration::from_mins(2);

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(crate) struct TemporaryFolder(TempDir);

impl TemporaryFolder {
    /// Makes one, after removing the forgotten ones of earlier runs.
    pub(crate) fn create() -> Result<Self, StackError> {
        let parent = std::env::temp_dir();
        remove_forgotten(&parent);
        tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&parent)
            .map(Self)
            .map_err(StackError::path("create a folder in", parent))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // The folder itself goes by its own drop, after this.
        discard_cluster(self.path());
    }
}

/// Best effort: the cluster of the data folder, which may stand elsewhere.
fn discard_cluster(folder: &Path) {
    if let Ok(root) = folder.canonicalize() {
        drop(postgres::remove(&root));
    }
}

/// Best effort: what cannot be read or removed (another user's) stays.
fn remove_forgotten(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if ours && is_forgotten(&entry.path()) {
            discard_cluster(&entry.path());
            let _removed = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_forgotten(folder: &Path) -> bool {
    let age = fs::symlink_metadata(folder)
        .and_then(|meta| meta.modified())
        .map(|time| time.elapsed());
    let old = matches!(age, Ok(Ok(age)) if age > YOUNG);
    old && File::open(lock_path(folder)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aged_folder(parent: &Path) -> std::path::PathBuf {
        let folder = parent.join(format!("{PREFIX}old"));
        fs::create_dir_all(folder.join("run")).unwrap();
        File::create(lock_path(&folder)).unwrap();
        let past = std::time::SystemTime::now() - YOUNG * 2;
        File::open(&folder).unwrap().set_modified(past).unwrap();
        folder
    }

    #[test]
    fn a_forgotten_folder_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = aged_folder(parent.path());
        remove_forgotten(parent.path());
        assert!(!folder.exists());
    }

    #[test]
    fn a_locked_or_young_folder_is_kept() {
        let parent = tempfile::tempdir().unwrap();
        let folder = aged_folder(parent.path());
        let lock = File::open(lock_path(&folder)).unwrap();
        lock.lock().unwrap();
        remove_forgotten(parent.path());
        assert!(folder.exists());

        drop(lock);
        File::open(&folder)
            .unwrap()
            .set_modified(std::time::SystemTime::now())
            .unwrap();
        remove_forgotten(parent.path());
        assert!(folder.exists());
    }
}
