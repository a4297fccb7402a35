//! Making a cluster: `initdb`, our user, our database. Clusters that need not be durable are copied from one made
//! earlier, as `initdb` takes longer than everything else together.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::spawn::Launch;
use crate::{DATABASE, PASSWORD, StackError, USER, locate};

/// Part of the template's name: count up when what is in a new cluster changes.
const RECIPE: u32 = 1;
/// Last of all we write this one: without it the cluster is half made.
const COMPLETE: &str = "qurvo_complete";
/// Who may connect: from this machine, with the password.
const ACCESS: &str = "host all all 127.0.0.1/32 scram-sha-256\n";

/// Makes the cluster in `folder` unless a complete one is there.
pub(super) fn ensure(
    programs: &Path,
    folder: &Path,
    account: Option<Account>,
    durable: bool,
) -> Result<(), StackError> {
    if folder.join(COMPLETE).is_file() {
        return Ok(());
    }
    clear(folder)?;
    match template(programs).filter(|template| !durable && template.join(COMPLETE).is_file()) {
        Some(template) => copy(&template, folder, account)?,
        None => make(programs, folder, account, durable)?,
    }
    if !durable {
        keep_as_template(programs, folder);
    }
    Ok(())
}

fn make(programs: &Path, folder: &Path, account: Option<Account>, durable: bool) -> Result<(), StackError> {
    Launch::new(programs.join("initdb"), "/")
        .account(account)
        .arg("-D")
        .arg(folder)
        .args([
            "--username",
            USER,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
        ])
        .args((!durable).then_some("--no-sync"))
        .run("")?;
    Launch::new(programs.join("postgres"), folder)
        .account(account)
        .args([
            "--single",
            "-D",
            ".",
            "-c",
            if durable { "fsync=on" } else { "fsync=off" },
            "postgres",
        ])
        .run(&format!(
            "ALTER ROLE {USER} PASSWORD '{PASSWORD}'\nCREATE DATABASE {DATABASE}\n"
        ))?;
    write_owned(&folder.join("pg_hba.conf"), ACCESS, account)?;
    write_owned(&folder.join(COMPLETE), "", account)
}

fn write_owned(path: &Path, text: &str, account: Option<Account>) -> Result<(), StackError> {
    fs::write(path, text).map_err(StackError::path("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(StackError::path("protect", path))?;
    account.map_or(Ok(()), |account| account.own(path))
}

/// What a failed attempt left: never anything of a complete cluster.
fn clear(folder: &Path) -> Result<(), StackError> {
    for entry in fs::read_dir(folder)
        .map_err(StackError::path("list", folder))?
        .flatten()
    {
        let path = entry.path();
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(StackError::path("remove", path))?;
    }
    Ok(())
}

/// The template's folder for this version of PostgreSQL.
fn template(programs: &Path) -> Option<PathBuf> {
    let version = programs.parent()?.file_name()?.to_str()?;
    Some(locate::cache_folder()?.join(format!("postgres-{version}-template-{RECIPE}")))
}

/// Best effort: without a template the next cluster only takes longer. Several tests may do this at once; each copies
/// to a folder of its own, and the first to rename it wins.
fn keep_as_template(programs: &Path, folder: &Path) {
    let Some(template) = template(programs).filter(|template| !template.exists()) else {
        return;
    };
    let Some(parent) = template.parent() else { return };
    let kept = fs::create_dir_all(parent)
        .and_then(|()| {
            tempfile::Builder::new()
                .prefix("postgres-template-")
                .tempdir_in(parent)
        })
        .map_err(StackError::path("create a folder in", parent))
        .and_then(|draft| {
            copy(folder, draft.path(), None)?;
            fs::rename(draft.path(), &template).map_err(StackError::path("create", &template))
        });
    drop(kept);
}

/// Copies what is in `from` into the existing folder `to`, the mark of completeness last.
fn copy(from: &Path, to: &Path, account: Option<Account>) -> Result<(), StackError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(from).map_err(StackError::path("list", from))? {
        entries.push(entry.map_err(StackError::path("list", from))?);
    }
    entries.sort_by_key(|entry| entry.file_name() == COMPLETE);
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).map_err(StackError::path("create", &target))?;
            let mode = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&target, mode).map_err(StackError::path("protect", &target))?;
            copy(&entry.path(), &target, account)?;
        } else {
            fs::copy(entry.path(), &target).map_err(StackError::path("write", &target))?;
        }
        account.map_or(Ok(()), |account| account.own(&target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_made_cluster_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("PG_VERSION"), "15").unwrap();
        fs::create_dir(folder.path().join("base")).unwrap();
        clear(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
