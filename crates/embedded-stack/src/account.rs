//! The account that PostgreSQL runs as. PostgreSQL refuses to run as root, rightly; where the stack is started by
//! root, the cluster belongs to `postgres` or, without one, to `nobody`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::unistd::{User, geteuid};

use crate::StackError;

/// An unprivileged account of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// The account to change to, or none where this process is not root and may stay who it is.
    pub(crate) fn unprivileged() -> Result<Option<Self>, StackError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| {
                Some(Self {
                    uid: user.uid.as_raw(),
                    gid: user.gid.as_raw(),
                })
            })
            .ok_or_else(|| StackError::NotInstalled {
                what: "an account that PostgreSQL can run as (postgres or nobody)".into(),
                remedy: "install PostgreSQL's package, which creates one, or do not run as root".into(),
            })
    }

    /// Whether this account can come to `path` from the root folder.
    pub(crate) fn can_reach(self, path: &Path) -> bool {
        path.ancestors()
            .all(|folder| fs::metadata(folder).is_ok_and(|meta| self.may_search(&meta)))
    }

    fn may_search(self, meta: &fs::Metadata) -> bool {
        let bit = match (meta.uid() == self.uid, meta.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        meta.mode() & bit != 0
    }

    /// Makes the account the owner of one file or folder.
    pub(crate) fn own(self, path: &Path) -> Result<(), StackError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(StackError::path("change the owner of", path))
    }
}

/// Lets other accounts pass through a folder without letting them list it.
pub(crate) fn let_pass(folder: &Path) -> Result<(), StackError> {
    let mode = fs::metadata(folder)
        .map_err(StackError::path("read", folder))?
        .mode();
    fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011))
        .map_err(StackError::path("change the mode of", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: Account = Account {
        uid: 4_000_000,
        gid: 4_000_000,
    };

    #[test]
    fn a_folder_is_reachable_only_when_every_folder_above_lets_pass() {
        let private = tempfile::tempdir().unwrap();
        let inner = private.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(private.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!STRANGER.can_reach(&inner));

        let_pass(private.path()).unwrap();
        assert_eq!(fs::metadata(private.path()).unwrap().mode() & 0o777, 0o711);
        assert_eq!(
            STRANGER.can_reach(&inner),
            STRANGER.can_reach(&std::env::temp_dir())
        );
    }
}
