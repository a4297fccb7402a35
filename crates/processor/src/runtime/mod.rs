//! What every loop needs whatever it does: a pulse that says it is alive, retries, a way to stop, logs.

pub mod heartbeat;
pub mod pulse;
pub mod retry;
pub mod shutdown;
pub mod telemetry;
