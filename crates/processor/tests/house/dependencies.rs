//! Every direct dependency has a line that says why it is here, and no line speaks of one that has gone.

use std::collections::BTreeSet;

use crate::crates;

fn read(path: &str) -> String {
    std::fs::read_to_string(crates().join("..").join(path)).unwrap()
}

#[test]
fn the_page_of_dependencies_names_what_the_workspace_names() {
    let manifest = read("Cargo.toml");
    let (_, after) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let (section, _) = after.split_once("\n[").unwrap();
    let named: BTreeSet<&str> = section
        .lines()
        .filter(|line| !line.contains("path = "))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .collect();
    let page = read("docs/dependencies.md");
    let (_, after) = page.split_once("| --- | --- |\n").unwrap();
    let (table, _) = after.split_once("\n\n").unwrap();
    let told: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|names| names.split(','))
        .map(str::trim)
        .collect();
    assert!(named.len() > 30, "{named:?}");
    assert_eq!(told, named);
}
