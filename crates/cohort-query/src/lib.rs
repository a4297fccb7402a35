//! Cohorts: what a definition may say, and the ClickHouse query that answers who is in it.
//!
//! No input or output: definitions come as JSON values, queries go as text with parameters. Nothing of a definition is
//! ever part of the text, so nothing in it can change what is asked.

mod compile;
mod condition;
mod definition;
mod moment;
mod number;
mod order;
mod parameters;
mod parse;
mod pass;
mod property;
mod test;

pub use compile::{Query, Reference, compile};
pub use definition::{
    Aggregation, Comparison, Condition, Conjunction, Definition, EventMatch, Group, Node, Period, Property,
    PropertyTest, Test,
};
pub use order::{Order, order};
pub use parameters::{Parameter, Value};
pub use parse::DefinitionError;
