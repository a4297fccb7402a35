//! What an operator may choose by a word.

/// A loop an instance may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Consume the stream.
    Consume,
    /// Replay dead letters.
    Dlq,
    /// Recompute cohort memberships.
    Cohorts,
}

impl Role {
    /// Its name in `PROCESSOR_ROLES`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Dlq => "dlq",
            Self::Cohorts => "cohorts",
        }
    }
}

/// What an `$identify` may merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergePolicy {
    /// Never merge two identified users.
    Guarded,
    /// Merge whatever is identified.
    Always,
}

/// Which of two writes of a property is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyOrder {
    /// The one whose event happened later, as far as it had arrived by then.
    EventTime,
    /// The one that came later in the stream.
    Arrival,
}

/// Whether bodies to and from ClickHouse are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain bodies.
    None,
    /// LZ4 blocks.
    Lz4,
}

/// Log output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Which instances read which streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamShare {
    /// Every instance reads every stream.
    All,
    /// Instances share the streams out among themselves: each is read by one of them.
    Auto,
}
