//! sample-events
