//! What every loop needs whatever it does: a pulse that says it is alive, retries, a way to stop, logs, what
//! `status` shows.

pub mod complaint;
pub mod gate;
pub mod halving;
pub mod harmless;
pub mod heartbeat;
pub mod lock;
pub mod log;
mod log_fields;
pub mod metrics;
pub mod moment;
pub mod pulse;
pub mod report;
pub mod retry;
pub mod search;
pub mod shutdown;
mod signals;
pub mod supervise;
pub mod telemetry;
