//! Cohorts: what a definition may say, and the ClickHouse query that answers who is in it.
//!
//! No input or output: definitions come as JSON values, queries go as text with parameters. Nothing of a definition is
//! ever part of the text, so nothing in it can change what is asked.
//!
//! What the engine makes of documents: a number has one text however it was written (`5` for 5.0, `100` for 1e2), in events
//! and as a JSON number in a definition. A number that no type of the engine holds (an integer of more than 64 bits, 1e999)
//! has the text that was written. Halves of characters are left out of a document before it is read.

mod compile;
mod condition;
mod definition;
mod document;
mod moment;
mod number;
mod order;
mod parameters;
mod parse;
mod pass;
mod predicate;
mod property;
mod reading;

pub use compile::{Query, Reference, compile};
pub use definition::{
    Aggregation, Comparison, Condition, Conjunction, Definition, EventMatch, Group, Node, Period, Predicate,
    Property, PropertyPredicate,
};
pub use order::{Order, order};
pub use parameters::{Parameter, Value};
pub use parse::DefinitionError;
