//! ClickHouse's own engine, loaded from libchdb, behind ClickHouse's HTTP interface: well enough that a production
//! client works unchanged against it and against a real server. For development, tests and single machines; it never
//! listens on anything but loopback unless told to.

pub mod dictionaries;
pub mod engine;
pub mod http;
pub mod options;
