//! What intake hands to the pipeline.

use stream_reply::EntryBlock;

/// Entries on their way into the pipeline, in stream order.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Index of their stream.
    pub stream: u16,
    /// Given to some consumer before, or perhaps: rows are looked up.
    pub redelivered: bool,
    /// The entries.
    pub block: EntryBlock,
    /// Indices of entries that we hold already, ascending: leave them alone.
    pub skip: Vec<usize>,
    /// Indices of entries delivered too often, ascending: to be processed apart, after everything before them has landed.
    pub suspects: Vec<usize>,
    /// More is waiting right behind: gather larger batches.
    pub backlog: bool,
}
