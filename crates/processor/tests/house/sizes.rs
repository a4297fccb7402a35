//! How long a file may be. How long a function may be, clippy knows (`clippy.toml`).

use std::path::{Path, PathBuf};

use crate::crates;

const MOST_LINES: usize = 400;

/// Rust files in a folder and all below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn no_file_is_longer_than_four_hundred_lines() {
    let all = files(&crates());
    assert!(all.iter().any(|file| file.ends_with("tests/house/sizes.rs")));
    let mut long = Vec::new();
    for file in all {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        if lines > MOST_LINES {
            long.push(format!("{}: {lines} lines", file.display()));
        }
    }
    assert_eq!(long, Vec::<String>::new());
}
