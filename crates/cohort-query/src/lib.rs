//! Cohorts: reads a definition and compiles it to the ClickHouse query that finds its members. What a definition may say is
//! in docs/contract.md, "Cohorts".
//!
//! No I/O: definitions come as JSON values, queries leave as text with parameters. Nothing of a definition is ever part of
//! the text, so no definition can change what is asked.
//!
//! How the engine reads documents: a number has one text however it was written (`5` for 5.0, `100` for 1e2), in events and
//! as a JSON number in a definition. A number that no type of the engine holds (an integer of more than 64 bits, 1e999)
//! keeps its own text. Half surrogate pairs are left out of a document before it is read.

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
mod words;

pub use compile::{Query, Reference, compile};
pub use definition::{
    Aggregation, Comparison, Condition, Conjunction, Definition, EventMatch, Group, Node, Period, Predicate,
    Property, PropertyPredicate,
};
pub use order::{Order, order};
pub use parameters::{Parameter, Value};
pub use parse::DefinitionError;
pub use words::{UnknownMember, unknown_members};
