//! `sample-events`: writes the fixtures and names the projects they belong to.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use sample_events::{
    ACCOUNT_FILE, COHORTS, COUNT, EVENTS_FILE, FixtureError, HOSTILE_FILE, PROJECTS, SEED, account,
    account_text, generate, hostile_cases, lines_text,
};

/// Realistic and hostile events for the worker, and the account of what must come out.
#[derive(Debug, Parser)]
enum Command {
    /// Writes the fixtures.
    Write {
        /// The same seed gives the same events.
        #[arg(long, default_value_t = SEED)]
        seed: u64,
        /// Number of lines, second deliveries included.
        #[arg(long, default_value_t = COUNT)]
        events: usize,
        /// Folder to write to.
        #[arg(long, default_value = "fixtures")]
        dir: PathBuf,
    },
    /// Prints id and name of each project of the samples, a line each.
    Projects,
    /// Prints id, project, definition and name of each cohort of the samples, a line each, separated by tabs.
    Cohorts,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Write { seed, events, dir } => write(seed, events, &dir),
        Command::Projects => {
            let line = |project: &sample_events::Project| format!("{} {}", project.id, project.name);
            print_lines(PROJECTS.iter().map(line))
        }
        Command::Cohorts => {
            let line = |cohort: &sample_events::Cohort| {
                [cohort.id, cohort.project, cohort.definition, cohort.name].join("\t")
            };
            print_lines(COHORTS.iter().map(line))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; then nobody can be told.
            let _ = writeln!(io::stderr(), "sample-events: {error}").is_ok();
            ExitCode::FAILURE
        }
    }
}

fn write(seed: u64, events: usize, dir: &Path) -> Result<(), FixtureError> {
    let lines = generate(seed, events);
    let files = [
        (EVENTS_FILE, lines_text(&lines)?),
        (ACCOUNT_FILE, account_text(&account(&lines))?),
        (HOSTILE_FILE, lines_text(&hostile_cases())?),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|source| FixtureError::File { path, source })?;
    }
    Ok(())
}

fn print_lines(lines: impl Iterator<Item = String>) -> Result<(), FixtureError> {
    for line in lines {
        writeln!(io::stdout(), "{line}").map_err(|source| FixtureError::File {
            path: "standard output".into(),
            source,
        })?;
    }
    Ok(())
}
