//! What people and machines see of a running instance: the heartbeat file, `/metrics`, its report for `status`. And the one
//! reader of what Redis knows of the streams and queues.

mod endpoint;
pub mod heartbeat;
pub mod queues;
mod reporter;
mod sampler;
pub mod streams;

pub use endpoint::{Endpoint, listen};
pub use reporter::Reporter;
pub use sampler::Sampler;
