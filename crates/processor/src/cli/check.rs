//! `qurvo-processor check`.

use super::Failure;
use crate::config::Config;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) async fn run(_config: Config, _arguments: Arguments) -> Result<(), Failure> {
    Err(Failure::Usage("not written yet".into()))
}
