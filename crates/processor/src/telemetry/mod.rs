//! What people and machines see of a running instance: the heartbeat file, `/metrics`, its report for
//! `status`, and what the log says of states that last. And the one
//! reader of what Redis knows of the streams and queues.

mod endpoint;
mod export;
pub(crate) mod heartbeat;
mod lookout;
mod others;
pub(crate) mod queues;
mod reminders;
mod reporter;
mod sampler;
pub(crate) mod streams;

pub(crate) use endpoint::{Endpoint, listen};
pub(crate) use export::Exports;
pub(crate) use lookout::look_out;
pub(crate) use others::Others;
pub(crate) use reminders::remind;
pub(crate) use reporter::{Reporter, farewell_at_the_start, streams_of, tell_of_waiting};
pub(crate) use sampler::Sampler;
