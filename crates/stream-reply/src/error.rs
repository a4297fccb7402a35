//! The error for bytes that are not the expected reply.

/// The bytes of a reply break the protocol, or the reply has another shape than its command gives.
///
/// The position in the byte stream is lost with it: the connection must be closed and opened again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unreadable Redis reply: {place} at byte {offset} should be {expected}, but the server sent {found}; \
     the connection has to be reopened (check that REDIS_URL names a Redis 7 or Valkey server, not a proxy)"
)]
pub struct DecodeError {
    /// The part of the reply that was being read, such as "entry id".
    pub place: &'static str,
    /// What that part may be.
    pub expected: &'static str,
    /// What was there instead: a short, escaped excerpt.
    pub found: String,
    /// Bytes from the beginning of the reply to the offending part.
    pub offset: u64,
}
