//! `qurvo-processor run`: the worker.

use super::Failure;
use crate::config::Config;

pub(super) async fn run(_config: Config) -> Result<(), Failure> {
    Err(Failure::Usage("not written yet".into()))
}
