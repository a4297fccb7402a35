//! What a run of the benchmark is asked for.

use std::path::PathBuf;

use clap::Parser;

use crate::scenarios::{Kind, SCENARIOS, Scenario};

/// How fast the worker is, and what an event costs every process, beside what the services allow.
#[derive(Debug, Parser)]
#[command(name = "./dev bench", bin_name = "./dev bench")]
pub(crate) struct Arguments {
    /// Scenarios; without any, most of them: 25 minutes on two cores.
    #[arg(env = "BENCH_ONLY", value_delimiter = ',')]
    names: Vec<String>,
    /// Shows the scenarios and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// Compares with a stored run.
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,
    /// Runs nothing and shows a stored run.
    #[arg(long, value_name = "FILE")]
    pub(crate) read: Option<PathBuf>,
    /// Runs of each scenario.
    #[arg(long, env = "BENCH_RUNS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) runs: u64,
    /// Events of each drain instead of its own number.
    #[arg(long, env = "BENCH_EVENTS")]
    events: Option<usize>,
    /// Known persons of each scenario instead of its own number.
    #[arg(long, env = "BENCH_PERSONS")]
    persons: Option<u64>,
    /// Seconds of a trickle, after three that do not count.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 20)]
    pub(crate) seconds: u64,
    /// Seconds for which ClickHouse stands still.
    #[arg(long, env = "BENCH_OUTAGE_SECONDS", default_value_t = 20)]
    pub(crate) outage: u64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// What is to be run.
    ///
    /// # Errors
    /// When no scenario has one of the names.
    pub(crate) fn scenarios(&self) -> Result<Vec<Scenario>, String> {
        let names: Vec<&str> = self
            .names
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .collect();
        let unknown = names
            .iter()
            .find(|name| SCENARIOS.iter().all(|scenario| scenario.name != **name));
        if let Some(name) = unknown {
            return Err(format!("there is no scenario {name}: --list shows them"));
        }
        let wanted = SCENARIOS.iter().filter(|scenario| {
            names.contains(&scenario.name) || (names.is_empty() && !scenario.by_name_only)
        });
        Ok(wanted.copied().map(|scenario| self.sized(scenario)).collect())
    }

    fn sized(&self, scenario: Scenario) -> Scenario {
        let events = match scenario.kind {
            Kind::Drain | Kind::Shared(_) => self.events.unwrap_or(scenario.events),
            Kind::Trickle(_) | Kind::CatchUp(_) | Kind::Commands => 0,
        };
        Scenario {
            persons: self.persons.unwrap_or(scenario.persons),
            events,
            ..scenario
        }
    }
}
