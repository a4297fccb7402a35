//! The command line, and nothing else.

use std::process::ExitCode;

use qurvo_processor::cli;

fn main() -> ExitCode {
    shared_heap::share();
    // Chosen once for every TLS connection; a second installation cannot happen here.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    cli::main()
}
