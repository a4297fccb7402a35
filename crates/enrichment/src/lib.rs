//! What an event does not say itself: where its address is ([`geo`]) and what its user agent means ([`user_agent`]).

pub mod geo;
mod geo_source;
pub mod user_agent;
mod user_agent_rules;
