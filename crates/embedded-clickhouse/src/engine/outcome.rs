//! What becomes of a statement: the engine's answer, or its refusal.

/// A statement's outcome.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The answer in the requested format.
    pub body: Vec<u8>,
    /// Rows read.
    pub rows_read: u64,
    /// Rows written, as a server counts them: when they enter a table, so with those that are dropped as a repetition,
    /// and with those of materialized views.
    pub rows_written: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

/// A failure in the engine's own words: `Code: 60. DB::Exception: …`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);

impl EngineError {
    /// The engine's code; 1002 (unknown exception) when its text has none.
    pub fn code(&self) -> u32 {
        const UNKNOWN: u32 = 1002;
        let Some((_, rest)) = self.0.split_once("Code: ") else {
            return UNKNOWN;
        };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(UNKNOWN)
    }
}
