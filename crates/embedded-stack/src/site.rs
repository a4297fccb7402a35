//! The data folder's layout: where each service's data, log, process file and port file are. Paths only, but for the
//! lock that keeps two owners out of one folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{ServiceKind, StackError};

/// Lines of a log that go into an error.
const TAIL_LINES: usize = 25;

/// One data folder.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    root: PathBuf,
}

impl Site {
    /// Makes the folder if it is missing; its path is made absolute, as services run in folders of their own.
    pub(crate) fn open(root: &Path) -> Result<Self, StackError> {
        for folder in [root.to_path_buf(), root.join("run"), root.join("log")] {
            fs::create_dir_all(&folder).map_err(StackError::path("create", &folder))?;
        }
        let root = root.canonicalize().map_err(StackError::path("find", root))?;
        Ok(Self { root })
    }

    /// The folder, only if it is there already.
    pub(crate) fn existing(root: &Path) -> Option<Self> {
        let root = root.canonicalize().ok()?;
        root.join("run").is_dir().then_some(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn data(&self, kind: ServiceKind) -> PathBuf {
        self.root.join(kind.name())
    }

    pub(crate) fn log(&self, kind: ServiceKind) -> PathBuf {
        self.root.join("log").join(format!("{}.log", kind.name()))
    }

    pub(crate) fn pid_file(&self, kind: ServiceKind) -> PathBuf {
        self.root.join("run").join(format!("{}.pid", kind.name()))
    }

    pub(crate) fn port_file(&self, kind: ServiceKind) -> PathBuf {
        self.root.join("run").join(format!("{}.port", kind.name()))
    }

    /// The port on which a node of a Redis Cluster talks to the others.
    pub(crate) fn bus_file(&self) -> PathBuf {
        self.root.join("run").join("redis.bus")
    }

    /// Where `embedded-clickhouse` says that it listens.
    pub(crate) fn announcement(&self, kind: ServiceKind) -> PathBuf {
        self.root.join("run").join(format!("{}.listening", kind.name()))
    }

    /// The last lines of a service's log.
    pub(crate) fn log_tail(&self, kind: ServiceKind) -> String {
        let bytes = fs::read(self.log(kind)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(TAIL_LINES);
        match &lines[first..] {
            [] => format!("({} is empty)", self.log(kind).display()),
            tail => tail.join("\n"),
        }
    }

    /// Takes the folder for this process, waiting up to `patience` for another one to let go of it.
    pub(crate) fn lock(&self, patience: Duration) -> Result<File, StackError> {
        let path = lock_path(&self.root);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StackError::path("open", &path))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(StackError::path("lock", path)(source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(StackError::Busy(self.root.clone()));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// The file whose lock says that somebody works on the folder `root`.
pub(crate) fn lock_path(root: &Path) -> PathBuf {
    root.join("run").join("lock")
}
