//! The stages between intake and acknowledgement, and the order in which they pass a batch on.

mod apart;
pub mod aside;
pub mod gather;
pub mod land;
pub mod settle;
pub mod stages;
