//! `qurvo-processor migrate`.

use super::Failure;
use crate::config::Config;

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) async fn run(_config: Config, _arguments: Arguments) -> Result<(), Failure> {
    Err(Failure::Usage("not written yet".into()))
}
