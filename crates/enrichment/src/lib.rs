//! What is derived from an event: the place of its address ([`geo`]), and the browser, system and device type of its user
//! agent ([`user_agent`]). See docs/contract.md, "Enrichment".

mod browsers;
mod devices;
pub mod geo;
pub mod geo_source;
mod systems;
mod token;
pub mod user_agent;
