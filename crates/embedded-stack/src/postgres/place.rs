//! Where the cluster's folder is: in the data folder, unless the account that PostgreSQL runs as cannot come there.
//!
//! Root's home lets nobody else pass, and a repository checked out there is common. Opening that home would be wrong,
//! so the cluster then goes to `/var/tmp`, under a name that follows from the data folder's path.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, DirBuilder};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::account::{Account, let_pass};
use crate::site::Site;
use crate::{ServiceKind, StackError};

/// The cluster's folder, made and owned by the account if it was missing.
pub(crate) fn folder(site: &Site, account: Option<Account>) -> Result<PathBuf, StackError> {
    let Some(account) = account else {
        let folder = site.data(ServiceKind::Postgres);
        make(&folder)?;
        return Ok(folder);
    };
    let above = site.root().parent().unwrap_or(site.root());
    let folder = if account.can_reach(above) {
        let_pass(site.root())?;
        site.data(ServiceKind::Postgres)
    } else {
        elsewhere(site.root())
    };
    make(&folder)?;
    let owner = fs::symlink_metadata(&folder).map_err(StackError::path("read", &folder))?;
    if owner.uid() == 0 && owner.is_dir() {
        account.own(&folder)?;
    }
    if owner.is_symlink() || ![0, account.uid].contains(&owner.uid()) {
        let planted = std::io::Error::other("it belongs to somebody else");
        return Err(StackError::path("use", folder)(planted));
    }
    Ok(folder)
}

/// Removes the cluster, wherever it is.
pub(crate) fn remove(root: &Path) -> Result<(), StackError> {
    for folder in [root.join(ServiceKind::Postgres.name()), elsewhere(root)] {
        if folder.is_dir() {
            fs::remove_dir_all(&folder).map_err(StackError::path("remove", &folder))?;
        }
    }
    Ok(())
}

fn elsewhere(root: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    PathBuf::from(format!(
        "/var/tmp/qurvo-embedded-postgres-{:016x}",
        hasher.finish()
    ))
}

/// PostgreSQL wants the folder for its account alone.
fn make(folder: &Path) -> Result<(), StackError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StackError::path("create", folder)(error))
        }
        _ => Ok(()),
    }
}
