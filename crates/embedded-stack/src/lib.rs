//! embedded-stack
