//! The command line, and nothing else.

use std::process::ExitCode;

use clap::Parser;
use qurvo_processor::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    // Chosen once for every TLS connection; a second installation cannot happen here.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    cli::main(Cli::parse()).await
}
