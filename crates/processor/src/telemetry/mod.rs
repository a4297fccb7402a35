//! What people and machines see of a running instance: the heartbeat file, `/metrics`, its report for `status`.

mod endpoint;
pub mod heartbeat;
mod reporter;
mod sampler;

pub use endpoint::{Endpoint, listen};
pub use reporter::Reporter;
pub use sampler::Sampler;
