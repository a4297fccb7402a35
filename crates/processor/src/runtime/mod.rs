//! What every loop needs whatever it does: a pulse that says it is alive, retries, a gate, locks, a way to stop.

pub mod attempts;
pub mod complaint;
pub mod failed_alone;
pub mod gate;
pub mod halving;
pub mod instances;
pub mod life;
pub mod lock;
pub mod moment;
pub mod outages;
pub mod pulse;
pub mod report;
pub mod retry;
pub mod search;
pub mod shutdown;
pub(crate) mod signals;
pub mod streams;
pub mod supervise;
pub mod task;
pub mod work;
