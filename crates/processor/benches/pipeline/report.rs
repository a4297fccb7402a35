//! A whole run as it is stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::figures::Figure;
use crate::scenarios::Scenario;
use crate::usage::cores;
use crate::world::World;

/// Files of another format are not comparable.
const FORMAT: u32 = 1;

/// What was measured, on what, of which source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    format: u32,
    pub(crate) taken_at: String,
    /// Of the source, with `+` when it was changed since; or another worker's path.
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) runs: u64,
    pub(crate) scenarios: Vec<Outcome>,
}

/// Where it was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gb: u64,
    pub(crate) kernel: String,
    pub(crate) redis: String,
    pub(crate) postgres: String,
    pub(crate) clickhouse: String,
}

/// What was measured of one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) persons: u64,
    pub(crate) events: usize,
    pub(crate) figures: BTreeMap<String, Figure>,
}

impl Outcome {
    pub(crate) fn of(scenario: &Scenario, figures: BTreeMap<String, Figure>) -> Self {
        Self {
            name: scenario.name.to_owned(),
            about: scenario.about.to_owned(),
            persons: scenario.persons,
            events: scenario.events,
            figures,
        }
    }
}

impl Report {
    pub(crate) fn new(machine: Machine, runs: u64) -> Self {
        Self {
            format: FORMAT,
            taken_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string(),
            commit: commit(),
            machine,
            runs,
            scenarios: Vec::new(),
        }
    }

    /// Reads a stored one.
    ///
    /// # Errors
    /// When there is no such file, or it is none of this format.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let path = root().join(path);
        let of = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| of(&error))?;
        let report: Self = serde_json::from_str(&text).map_err(|error| of(&error))?;
        if report.format == FORMAT {
            Ok(report)
        } else {
            Err(of(&format!(
                "format {}, where this program knows {FORMAT}",
                report.format
            )))
        }
    }

    /// Stores it, beside what was built. Called after each scenario: what was measured is not lost when a later one fails.
    pub(crate) fn store(&self) -> PathBuf {
        let own = std::env::current_exe().unwrap();
        let folder = own.ancestors().nth(3).unwrap().join("bench");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.json", self.taken_at));
        std::fs::write(&path, serde_json::to_string_pretty(self).unwrap()).unwrap();
        path
    }
}

impl Machine {
    /// This one, with the services of `world`.
    pub(crate) async fn of(world: &World) -> Self {
        let line = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name).map(str::to_owned));
            line.unwrap_or_default()
                .trim_start_matches([' ', '\t', ':'])
                .to_owned()
        };
        let kilobytes = line("/proc/meminfo", "MemTotal");
        let kilobytes: u64 = kilobytes.trim_end_matches(" kB").parse().unwrap_or_default();
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        let redis = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let postgres = world
            .postgres
            .query_one("SHOW server_version", &[])
            .await
            .unwrap();
        Self {
            processor: line("/proc/cpuinfo", "model name"),
            cores: cores() as usize,
            memory_gb: kilobytes >> 20,
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            redis: redis.unwrap_or_default().to_owned(),
            postgres: postgres.get(0),
            clickhouse: world.ask("SELECT version()").await,
        }
    }
}

/// Where paths that people give begin.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn commit() -> String {
    if let Ok(worker) = std::env::var("BENCH_WORKER") {
        return worker;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root()).args(arguments).output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
    };
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() {
        ""
    } else {
        "+"
    };
    git(&["rev-parse", "--short=12", "HEAD"]) + changed
}
