//! `qurvo-processor status`: what waits where, and for how long; what each instance does, and whether the stores answer.

mod facts;
mod read;
mod tables;

use std::time::Duration;

use super::failure::Failure;
use super::output::{self, print, print_json};
use crate::config::Config;
use crate::warehouse::newest::Newest;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show again every two seconds until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let mut newest = Newest::default();
    loop {
        let status = read::status(&config, &mut newest).await?;
        if arguments.json {
            print_json(&status)?;
        } else {
            if arguments.watch {
                output::clear();
            }
            print(&tables::all(&status));
        }
        if !arguments.watch || !output::is_open() {
            return if status.errors.is_empty() {
                Ok(())
            } else {
                Err(Failure::Silent)
            };
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}
