//! The order of the house: what may import what, held against the source itself.
//!
//! ARCHITECTURE.md says the order in words. Here it is read off the `use` lines and paths of every file, so that an import
//! that climbs, or two files that import each other, fail by name.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]

mod dependencies;
mod imports;
mod page;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use imports::Source;
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

/// Folders of the processor from the ground up. Each knows those below it; those of one floor know nothing of each other.
const FLOORS: &[&[&str]] = &[
    &["traces", "config"],
    &["event", "logs"],
    &["metrics"],
    &["stores"],
    &["runtime"],
    &["intake", "identity", "cohorts"],
    &["warehouse"],
    &["migrations", "definitions", "set_aside"],
    &["pipeline"],
    &["replay"],
    &["telemetry"],
    &["worker"],
    &["cli"],
];

/// Folders within `identity`, from the ground up: each knows those before it.
const STEPS: &[&str] = &["decision", "known", "publish", "commit"];

/// Folders that decide and never wait: no store, no client library, no runtime.
const PURE: &[&str] = &["event", "identity/decision"];

/// What a pure folder names none of.
const NOT_PURE: &[&str] = &[
    "tokio",
    "tokio_postgres",
    "redis",
    "clickhouse",
    "deadpool",
    "hyper",
    "reqwest",
    "rand",
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn processor() -> Source {
    Source::read(&crates().join("processor/src"))
}

/// The folder of a file, or the file itself where it lies beside the folders.
fn room(file: &str) -> &str {
    let room = file.split('/').next().unwrap_or(file);
    room.strip_suffix(".rs").unwrap_or(room)
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// Where a file of `identity` stands among its steps.
fn step(file: &str) -> Option<usize> {
    let folder = file.strip_prefix("identity/")?.split('/').next()?;
    STEPS.iter().position(|step| *step == folder)
}

/// Imports that do not go down, as `from -> to`.
fn climbing(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (from, to) in source.imports() {
        if from == "lib.rs" {
            continue;
        }
        let (below, above) = (room(&from), room(&to));
        let climbs = if below == above {
            step(&from)
                .is_some_and(|step_of_from| step(&to).is_some_and(|step_of_to| step_of_from < step_of_to))
        } else {
            // Nothing is imported by way of the crate's root.
            floor(below).is_none() || floor(above).is_none() || floor(below) <= floor(above)
        };
        if climbs {
            found.insert(format!("{from} -> {to}"));
        }
    }
    found
}

/// Files that reach each other by imports.
fn circles(source: &Source) -> Vec<Vec<String>> {
    let imports = source.imports();
    let graph: DiGraphMap<&str, ()> = imports
        .iter()
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .collect();
    let mut found = Vec::new();
    for circle in tarjan_scc(&graph) {
        if circle.len() > 1 {
            let mut files: Vec<String> = circle.iter().map(ToString::to_string).collect();
            files.sort();
            found.push(files);
        }
    }
    found
}

#[test]
fn every_folder_stands_on_one_floor() {
    let source = processor();
    let mut rooms: BTreeSet<&str> = source.files().map(room).collect();
    rooms.remove("lib");
    let floors: BTreeSet<&str> = FLOORS.iter().flat_map(|floor| floor.iter().copied()).collect();
    assert_eq!(rooms, floors);
}

#[test]
fn imports_go_down() {
    assert_eq!(climbing(&processor()), BTreeSet::new());
}

#[test]
fn no_two_files_import_each_other() {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(crates()).unwrap() {
        let folder = entry.unwrap().path();
        let circles = circles(&Source::read(&folder.join("src")));
        if !circles.is_empty() {
            found.insert(folder.file_name().unwrap().to_owned(), circles);
        }
    }
    assert_eq!(found, BTreeMap::new());
}

#[test]
fn what_decides_names_no_store_and_no_client_library() {
    let mut found = BTreeSet::new();
    let source = processor();
    for (file, name) in source.crates_named() {
        let is_pure = PURE.iter().any(|folder| file.starts_with(folder));
        if is_pure && NOT_PURE.contains(&name.as_str()) {
            found.insert(format!("{file} -> {name}"));
        }
    }
    for (from, to) in source.imports() {
        let is_pure = PURE.iter().any(|folder| from.starts_with(folder));
        if is_pure && ["stores", "runtime"].contains(&room(&to)) {
            found.insert(format!("{from} -> {to}"));
        }
    }
    assert_eq!(found, BTreeSet::new());
}

/// A small house of its own.
fn of(files: &[(&str, &str)]) -> Source {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    Source::read(folder.path())
}

#[test]
fn an_import_that_climbs_is_found_however_it_is_written() {
    for text in [
        "use crate::pipeline::land::Lander;",
        "use crate::{event::Batch, pipeline::{land::{self, Lander}}};",
        "fn f() { crate::pipeline::land::go(); }",
        "fn f(_: &super::super::pipeline::land::Lander) {}",
        "fn f() { tracing::info!(x = crate::pipeline::land::go()); }",
        "use crate::pipeline::Lander;",
        "pub(crate) use crate::pipeline::land::Lander;",
        "#[arg(value_parser = crate::pipeline::land::go)] struct A;",
    ] {
        let source = of(&[
            ("lib.rs", "mod pipeline; mod stores; mod event;"),
            ("pipeline/mod.rs", "pub mod land; pub use land::Lander;"),
            ("pipeline/land.rs", "pub struct Lander; pub fn go() {}"),
            ("event/mod.rs", "pub struct Batch;"),
            ("stores/mod.rs", "mod redis;"),
            ("stores/redis.rs", text),
        ]);
        let expected = BTreeSet::from(["stores/redis.rs -> pipeline/land.rs".to_owned()]);
        assert_eq!(climbing(&source), expected, "{text}");
    }
}

#[test]
fn a_visibility_is_no_import() {
    for text in [
        "pub(in crate::stores) struct A;",
        "macro_rules! name { ($name:ident) => { pub(super) struct $name; } } name!(A);",
    ] {
        let source = of(&[
            ("lib.rs", "mod stores;"),
            ("stores/mod.rs", "mod redis; use redis::A;"),
            ("stores/redis.rs", text),
        ]);
        assert_eq!(circles(&source), Vec::<Vec<String>>::new(), "{text}");
    }
}

#[test]
fn what_only_tests_import_is_not_held_against_a_file() {
    let text = "#[cfg(test)] mod tests { use crate::pipeline::Lander; } #[cfg(test)] use crate::pipeline;";
    let source = of(&[("pipeline/mod.rs", "pub struct Lander;"), ("stores/mod.rs", text)]);
    assert_eq!(climbing(&source), BTreeSet::new());
}

#[test]
fn files_that_import_each_other_by_way_of_others_are_found() {
    let source = of(&[
        ("event/mod.rs", "mod a; mod b; mod c; pub use c::C;"),
        ("event/a.rs", "use super::b::B;"),
        ("event/b.rs", "use crate::event::C; pub struct B;"),
        ("event/c.rs", "pub struct C; fn f() { super::a::f() }"),
    ]);
    let expected = ["event/a.rs", "event/b.rs", "event/c.rs"].map(str::to_owned);
    assert_eq!(circles(&source), [expected.to_vec()]);
}
