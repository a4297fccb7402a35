//! stream-reply
