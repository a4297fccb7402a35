//! What an event does not say itself: where its address is ([`geo`]) and what its user agent means ([`user_agent`]).

mod browsers;
mod devices;
pub mod geo;
mod geo_source;
mod systems;
mod token;
pub mod user_agent;
