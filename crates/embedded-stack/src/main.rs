//! The stack on the command line: `up`, `down`, `status`, `env`, `remove`. What shells are to take over goes to
//! standard output as `export …` lines; what people read goes to standard error. Never leaves a service running that
//! a failed `up` started and could not bring to answer.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use embedded_stack::{
    External, Lifetime, PortChoice, ServiceKind, Stack, StackError, StackOptions, Standing, environment,
};

/// Private Redis, PostgreSQL and ClickHouse on loopback.
///
/// A service whose URL is set already (`REDIS_URL`, `DATABASE_URL`, `CLICKHOUSE_URL`) is used instead of one of ours.
#[derive(Debug, Parser)]
#[command(name = "embedded-stack", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Folder for data, logs and process files.
    #[arg(long, global = true, default_value = ".dev", value_name = "FOLDER")]
    data: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts what does not run yet, waits until it answers, prints `export` lines.
    Up {
        /// Gives up durability for speed; for data nobody will miss.
        #[arg(long)]
        no_fsync: bool,
        /// Takes any free port for each service, also where the standard one is free.
        #[arg(long)]
        free_ports: bool,
        /// Redis is a cluster of three masters with a replica each, instead of one server.
        #[arg(long)]
        cluster: bool,
    },
    /// Stops what runs, in good order; the data stays.
    Down,
    /// Says what runs; exit code 1 when something does not.
    Status,
    /// Prints `export` lines for what runs; exit code 1 when something does not.
    Env,
    /// Stops what runs and removes all its data.
    Remove,
    /// Runs a command on a private stack of its own, not durable and gone afterwards; ends with its exit code.
    With {
        /// Starts only these services.
        #[arg(
            long,
            value_delimiter = ',',
            value_name = "SERVICE",
            default_value = "redis,postgres,clickhouse"
        )]
        only: Vec<ServiceKind>,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(code) => code,
        Err(error) => {
            say(&format!("embedded-stack: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(Arguments { command, data }: Arguments) -> Result<ExitCode, StackError> {
    match command {
        Command::Up {
            no_fsync,
            free_ports,
            cluster,
        } => {
            let ports = if free_ports {
                PortChoice::Free
            } else {
                PortChoice::Standard
            };
            up(data, !no_fsync, ports, cluster).await
        }
        Command::Down => {
            for kind in Stack::stop_detached(&data).await? {
                say(&format!("{kind} stopped"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::With { only, command } => with(&only, &command).await,
        Command::Remove => Stack::remove(&data).await.map(|()| ExitCode::SUCCESS),
        Command::Status => {
            let standings = Stack::standing(&data, &External::from_environment()).await;
            for (kind, standing) in &standings {
                say(&describe(*kind, standing));
            }
            Ok(verdict(&standings))
        }
        Command::Env => {
            let standings = Stack::standing(&data, &External::from_environment()).await;
            let url = |kind| {
                standings
                    .iter()
                    .find(|(known, _)| *known == kind)
                    .and_then(|(_, it)| it.url())
            };
            export(&environment(
                |kind| url(kind).map(str::to_owned),
                &External::from_environment(),
            ))?;
            Ok(verdict(&standings))
        }
    }
}

async fn up(data: PathBuf, durable: bool, ports: PortChoice, cluster: bool) -> Result<ExitCode, StackError> {
    let external = External::from_environment();
    let options = StackOptions::new(&data)
        .durable(durable)
        .cluster(cluster)
        .lifetime(Lifetime::Detached)
        .ports(ports)
        .external(external.clone());
    let stack = Stack::start(options).await?;
    for (kind, standing) in Stack::standing(&data, &external).await {
        say(&describe(kind, &standing));
    }
    export(&stack.env())?;
    Ok(ExitCode::SUCCESS)
}

async fn with(only: &[ServiceKind], words: &[String]) -> Result<ExitCode, StackError> {
    let [program, arguments @ ..] = words else {
        return Ok(ExitCode::FAILURE);
    };
    let stack = Stack::start(StackOptions::temporary()?.only(only)).await?;
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .envs(stack.env())
        .status()
        .await;
    let status = status.map_err(|error| StackError::Run {
        program: program.clone(),
        reason: error.to_string(),
    })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn verdict(standings: &[(ServiceKind, Standing)]) -> ExitCode {
    let all = standings.iter().all(|(_, standing)| standing.url().is_some());
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn describe(kind: ServiceKind, standing: &Standing) -> String {
    let name = format!("{:<10}", kind.to_string());
    match standing {
        // The URL may hold a password.
        Standing::External(_) => format!("{name} as {} says", kind.variable()),
        Standing::Running { pid, port, .. } => format!("{name} 127.0.0.1:{port} (process {pid})"),
        Standing::Stopped => format!("{name} not running"),
    }
}

/// Quoted for a shell, whatever an external URL may contain.
fn export(variables: &[(String, String)]) -> Result<(), StackError> {
    let mut out = io::stdout().lock();
    for (name, value) in variables {
        writeln!(out, "export {name}='{}'", value.replace('\'', r"'\''")).map_err(|source| {
            StackError::Path {
                action: "write to",
                path: "standard output".into(),
                source,
            }
        })?;
    }
    Ok(())
}

/// Best effort: without a standard error nobody is there to read.
fn say(line: &str) {
    let _nobody = writeln!(io::stderr(), "{line}");
}
