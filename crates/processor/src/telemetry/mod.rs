//! What people and machines see of a running instance: the heartbeat file, `/metrics`, its report for `status`. And the one
//! reader of what Redis knows of the streams and queues.

mod endpoint;
pub(crate) mod heartbeat;
pub(crate) mod queues;
mod reporter;
mod sampler;
pub(crate) mod streams;

pub(crate) use endpoint::{Endpoint, listen};
pub(crate) use reporter::Reporter;
pub(crate) use sampler::Sampler;
