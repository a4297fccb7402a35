//! Who is who: the contract's stories, the decision against a reference model, and whole histories on real stores.

mod decision;
mod histories;
mod model;
mod stories;
