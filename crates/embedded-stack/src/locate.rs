//! Where the programs and the library are that the stack runs. Looks only; installing is for `./dev`.

use std::env;
use std::path::{Path, PathBuf};

use crate::StackError;

/// Version of the ClickHouse engine library that `./dev` installs.
const LIBCHDB: &str = "libchdb-26.7.3-stable.1";

/// `redis-server`.
pub(crate) fn redis_server() -> Result<PathBuf, StackError> {
    on_path("redis-server").ok_or_else(|| missing("redis-server", "apt-get install redis-server"))
}

/// The folder of the newest installed PostgreSQL's programs; Debian keeps them off the search path.
pub(crate) fn postgres_programs() -> Result<PathBuf, StackError> {
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .ok()
        .into_iter()
        .flatten()
        .flatten();
    let versions = debian.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    versions
        .filter(|version| *version >= 14)
        .map(|version| {
            (
                version,
                PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")),
            )
        })
        .filter(|(_, programs)| programs.join("postgres").is_file() && programs.join("initdb").is_file())
        .max()
        .map(|(_, programs)| programs)
        .or_else(|| Some(on_path("postgres")?.canonicalize().ok()?.parent()?.to_path_buf()))
        .ok_or_else(|| missing("PostgreSQL 14 or newer", "apt-get install postgresql"))
}

/// Our ClickHouse server: `EMBEDDED_CLICKHOUSE`, or the program built beside this one.
pub(crate) fn embedded_clickhouse() -> Result<PathBuf, StackError> {
    const NAME: &str = "embedded-clickhouse";
    if let Some(path) = env::var_os("EMBEDDED_CLICKHOUSE") {
        return Ok(PathBuf::from(path));
    }
    // A test program stands one folder deeper than the programs it was built with.
    let own = env::current_exe().ok();
    let beside = own.iter().flat_map(|path| path.ancestors().skip(1).take(2));
    beside
        .map(|folder| folder.join(NAME))
        .find(|path| path.is_file())
        .or_else(|| on_path(NAME))
        .ok_or_else(|| missing(NAME, "cargo build -p embedded-clickhouse"))
}

/// The engine's library: `LIBCHDB_PATH`, or where `./dev` puts it.
pub(crate) fn libchdb() -> Result<PathBuf, StackError> {
    if let Some(path) = env::var_os("LIBCHDB_PATH") {
        return Ok(PathBuf::from(path));
    }
    cache_folder()
        .map(|cache| cache.join(LIBCHDB).join("libchdb.so"))
        .filter(|path| path.is_file())
        .ok_or_else(|| missing("libchdb.so", "./dev up"))
}

/// This project's folder among the user's caches.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(caches.join("qurvo-processor"))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let sbin = [PathBuf::from("/usr/local/sbin"), PathBuf::from("/usr/sbin")];
    env::split_paths(&path)
        .chain(sbin)
        .map(|folder: PathBuf| folder.join(program))
        .find(|file| is_file(file))
}

fn is_file(path: &Path) -> bool {
    path.is_file()
}

fn missing(what: &str, command: &str) -> StackError {
    StackError::NotInstalled {
        what: what.into(),
        remedy: format!("`{command}` provides it"),
    }
}
