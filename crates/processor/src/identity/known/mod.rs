//! What the stores say of a batch before anything is decided: remembered, looked up, or read under lock.

pub(crate) mod cache;
mod create;
pub(crate) mod fetch;
pub(crate) mod locked;
pub(crate) mod mappings;
pub(crate) mod projects;
pub(crate) mod recall;
pub(crate) mod redirects;
pub(crate) mod request;
pub(crate) mod too_much;
