//! One file per subcommand. Exit codes: 0 done, 1 failed, 2 usage or configuration error.

mod check;
mod cohorts;
mod columns;
mod dlq;
mod environment;
mod failure;
mod input;
mod migrate;
mod output;
mod person;
mod probe;
mod projects;
mod run;
mod send;
mod sentences;
mod slots;
mod status;
mod table;
#[cfg(test)]
mod table_tests;
mod terminal;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ContextValue;
use clap::{Parser, Subcommand};

use crate::config::{Config, LogFormat, unknown_variables};
use crate::logs::harmless;
use crate::logs::{self, LastLines};
use environment::all as environment_help;
use failure::Failure;
use output::{note, print};

/// Stack of a thread of the runtime: a build without optimisation keeps every temporary of a batch's way through the
/// stages on it, which is more than the usual 2 MB.
const STACK_BYTES: usize = 8 << 20;

/// Takes product-analytics events off a Redis Stream, resolves who they belong to, and lands them in ClickHouse.
#[derive(Debug, Parser)]
#[command(name = "qurvo-processor", version, after_long_help = environment_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the worker until a signal asks it to stop: SIGTERM, SIGINT, SIGHUP or SIGQUIT.
    #[command(after_long_help = environment_help())]
    Run,
    /// Bring PostgreSQL and ClickHouse to the schema this version needs.
    #[command(after_long_help = environment_help())]
    Migrate(migrate::Arguments),
    /// Validate the configuration and every service, rights and settings included; exit 1 when anything is wrong.
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
    /// Look at cohorts and their members, compute them, and check a definition.
    #[command(subcommand, after_long_help = environment_help())]
    Cohorts(cohorts::Arguments),
    /// Look at persons: how a distinct id resolves, and whether the stores agree.
    #[command(subcommand, after_long_help = environment_help())]
    Person(person::Arguments),
    /// List the projects whose events are taken, and add one where there is no platform that does.
    #[command(subcommand, after_long_help = environment_help())]
    Projects(projects::Arguments),
    /// Say by exit code 0 or 1, and in one line, whether an instance has started, lives, or is ready; asks no store.
    #[command(subcommand, after_long_help = environment::of_heartbeat())]
    Probe(probe::Question),
}

/// Runs the command that the arguments name and turns its outcome into an exit code.
pub fn main() -> ExitCode {
    let _last_lines = LastLines;
    let mut is_worker = false;
    let outcome = match Cli::try_parse() {
        Ok(cli) => {
            is_worker = matches!(cli.command, Command::Run);
            run_command(cli.command)
        }
        Err(usage) if usage.use_stderr() => Err(Failure::Arguments(harmless_usage(usage))),
        Err(help) => {
            print(help.to_string().trim_end());
            Ok(())
        }
    };
    // In this order: what went wrong first, and then that it, or anything, could not be told.
    let outcomes = [outcome, output::finish().map_err(Failure::Failed)];
    let mut code = 0;
    for failure in outcomes.into_iter().filter_map(Result::err) {
        report(&failure, is_worker);
        code = code.max(failure.exit_code());
    }
    ExitCode::from(code)
}

fn run_command(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(dispatch(command));
    // A name that is still looked up, or a disk that hangs, must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    if let Command::Probe(question) = command {
        return probe::run(question);
    }
    let mut config = Config::from_env().map_err(|mut errors| {
        // The log's own words are told together with the others.
        errors
            .0
            .extend(logs::fault(&std::env::var("LOG_LEVEL").unwrap_or_default()));
        errors
    })?;
    if !matches!(command, Command::Run) {
        prefer_few_words(&mut config);
    }
    logs::install(&config)?;
    // The worker's log says it, and so does what is checked.
    if !matches!(command, Command::Run | Command::Check(_)) {
        for unknown in unknown_variables() {
            note(&unknown.to_string());
        }
    }
    match command {
        Command::Run => run::run(config).await,
        Command::Migrate(arguments) => migrate::run(config, arguments).await,
        Command::Check(arguments) => check::run(config, arguments).await,
        Command::Status(arguments) => status::run(config, arguments).await,
        Command::Send(arguments) => send::run(config, arguments).await,
        Command::Dlq(arguments) => dlq::run(config, arguments).await,
        Command::Cohorts(arguments) => cohorts::run(config, arguments).await,
        Command::Person(arguments) => person::run(config, arguments).await,
        Command::Projects(arguments) => projects::run(config, arguments).await,
        Command::Probe(question) => probe::run(question),
    }
}

/// The last word of a command goes to the person who ran it; the worker's is a line of its log, like all the others.
fn report(failure: &Failure, is_worker: bool) {
    let told: Vec<String> = match failure {
        Failure::Silent => Vec::new(),
        Failure::Arguments(usage) => return logs::say(usage.to_string().trim_end()),
        Failure::Config(errors) => errors
            .0
            .iter()
            .map(|error| format!("configuration: {error}"))
            .collect(),
        told => vec![told.to_string()],
    };
    for text in told {
        if is_worker {
            logs::install_preset();
            tracing::error!("{text}");
        } else {
            note(&text);
        }
    }
}

/// What was given is shown harmless: it begins no lines either.
fn harmless_usage(mut usage: clap::Error) -> clap::Error {
    let given: Vec<_> = usage
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(given) => Some((kind, harmless::line(given).into_owned())),
            _ => None,
        })
        .collect();
    for (kind, shown) in given {
        usage.insert(kind, ContextValue::String(shown));
    }
    usage
}

/// What a command says between its output is for the person who runs it, unless told otherwise: as lines where that person
/// sees them, and nothing of what goes as it should.
fn prefer_few_words(config: &mut Config) {
    if std::env::var_os("LOG_LEVEL").is_none_or(|level| level.is_empty()) {
        config.log_level = String::from("warn");
    }
    if std::io::stdout().is_terminal() {
        config.log_format.get_or_insert(LogFormat::Pretty);
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn without_variables(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let subcommands: Vec<_> = command
            .get_subcommands()
            .filter(|c| c.get_name() != "help")
            .collect();
        let help = command.get_after_long_help().map(ToString::to_string);
        if subcommands.is_empty() && !help.is_some_and(|help| help.contains("Environment:")) {
            found.push(path.clone());
        }
        for subcommand in subcommands {
            without_variables(subcommand, &path, found);
        }
    }

    #[test]
    fn the_help_of_every_command_lists_the_variables_that_it_reads() {
        let mut found = Vec::new();
        without_variables(&Cli::command(), "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }
}
