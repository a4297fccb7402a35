//! Who is who: the contract's stories, the decision against a reference model, and whole histories on real stores.

mod collisions;
mod crowds;
mod decision;
mod histories;
mod late;
mod model;
mod people;
mod stories;
