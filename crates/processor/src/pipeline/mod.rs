//! The stages between intake and acknowledgement, and the order in which they pass a batch on.

mod apart;
pub(crate) mod aside;
pub(crate) mod gather;
pub(crate) mod land;
pub(crate) mod landing;
pub(crate) mod pack;
pub(crate) mod settle;
pub(crate) mod stages;
mod traced;
