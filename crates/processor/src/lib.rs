//! qurvo-processor
