//! `qurvo-processor status`: what waits where, and for how long; what each instance does, and whether the stores answer.

mod facts;
#[cfg(test)]
mod fields_tests;
mod history;
mod read;
mod readers;
#[cfg(test)]
mod samples;
mod tables;
#[cfg(test)]
mod tables_tests;
mod verdict;
#[cfg(test)]
mod verdict_tests;
mod watch;
mod words;

use std::time::Duration;

use super::failure::Failure;
use super::output::{self, print, print_json};
use super::terminal;
use crate::config::Config;
use crate::warehouse::newest::Newest;
use read::Stores;
use tables::Settings;

/// Pause between two pictures where there is no terminal.
const PAUSE: Duration = Duration::from_secs(2);

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Watch it on a screen of its own until q or Ctrl-C; without a terminal, print it every two seconds.
    #[arg(long)]
    watch: bool,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Seconds that each store has to answer, and then to tell what it knows: more for one that is far away.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=300))]
    limit: u64,
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let stores = Stores::new(&config, Duration::from_secs(arguments.limit))?;
    let settings = Settings::of(&config);
    if arguments.watch && !arguments.json && terminal::is_screen() {
        return watch::run(&stores, settings).await;
    }
    let mut newest = Newest::default();
    loop {
        let status = stores.status(&mut newest).await;
        if arguments.json {
            print_json(&status)?;
        } else {
            let gap = if arguments.watch { "\n" } else { "" };
            print(&format!(
                "{}{gap}",
                tables::all(&status, settings, terminal::columns())
            ));
        }
        if !arguments.watch || !output::is_open() {
            return if status.is_wrong() {
                Err(Failure::Silent)
            } else {
                Ok(())
            };
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
