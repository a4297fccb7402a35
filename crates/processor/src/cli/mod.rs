//! One file per subcommand. Exit codes: 0 done, 1 failed, 2 usage or configuration error.

mod check;
mod cohorts;
mod dlq;
mod migrate;
mod person;
mod run;
mod send;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, VARIABLES};
use crate::runtime::telemetry;

/// Takes product-analytics events off a Redis Stream, resolves who they belong to, and lands them in ClickHouse.
#[derive(Debug, Parser)]
#[command(name = "qurvo-processor", version, after_long_help = environment_help())]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the worker until SIGTERM or SIGINT.
    #[command(after_long_help = environment_help())]
    Run,
    /// Bring PostgreSQL and ClickHouse to the schema this version needs.
    #[command(after_long_help = environment_help())]
    Migrate(migrate::Arguments),
    /// Validate the configuration and every service; exit 1 on the first thing wrong.
    #[command(after_long_help = environment_help())]
    Check(check::Arguments),
    /// Show the stream, the consumers and what waits.
    #[command(after_long_help = environment_help())]
    Status(status::Arguments),
    /// Write NDJSON events to the stream in the ingest format.
    #[command(after_long_help = environment_help())]
    Send(send::Arguments),
    /// Inspect, replay and purge dead letters and rejected events.
    #[command(subcommand, after_long_help = environment_help())]
    Dlq(dlq::Arguments),
    /// List and compute cohort memberships.
    #[command(subcommand, after_long_help = environment_help())]
    Cohorts(cohorts::Arguments),
    /// Look at persons: how a distinct id resolves, and whether the stores agree.
    #[command(subcommand, after_long_help = environment_help())]
    Person(person::Arguments),
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Exit code 2.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// Exit code 1; everything worth saying has been said.
    #[error("")]
    Silent,
}

/// Runs the command and turns its outcome into an exit code.
pub async fn main(cli: Cli) -> ExitCode {
    match dispatch(cli.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            ExitCode::from(match failure {
                Failure::Config(_) | Failure::Usage(_) => 2,
                Failure::Failed(_) | Failure::Silent => 1,
            })
        }
    }
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    let config = Config::from_env()?;
    telemetry::install(&config)?;
    match command {
        Command::Run => run::run(config).await,
        Command::Migrate(arguments) => migrate::run(config, arguments).await,
        Command::Check(arguments) => check::run(config, arguments).await,
        Command::Status(arguments) => status::run(config, arguments).await,
        Command::Send(arguments) => send::run(config, arguments).await,
        Command::Dlq(arguments) => dlq::run(config, arguments).await,
        Command::Cohorts(arguments) => cohorts::run(config, arguments).await,
        Command::Person(arguments) => person::run(config, arguments).await,
    }
}

/// The last word of a command goes to the person who ran it.
fn report(failure: &Failure) {
    if !matches!(failure, Failure::Silent) {
        note(&failure.to_string());
    }
}

/// Prints a finished text on standard output; a reader that went away is not an error.
pub(crate) fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _closed_pipe = writeln!(out, "{text}");
}

/// Says something beside a command's output, on standard error.
#[allow(clippy::print_stderr, reason = "beside the output, which programs may read")]
fn note(text: &str) {
    eprintln!("qurvo-processor: {text}");
}

/// The environment variables as a table, for `--help`.
fn environment_help() -> String {
    let mut text = String::from("Environment:\n");
    for variable in VARIABLES {
        let default = if variable.default.is_empty() {
            "unset"
        } else {
            variable.default
        };
        text.push_str(&format!(
            "  {}\n      {} [default: {}]\n",
            variable.name, variable.meaning, default
        ));
    }
    text
}
