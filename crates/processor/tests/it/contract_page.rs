//! docs/contract.md, held against the source: the fields of an entry and the keys in Redis are the program's.

use std::collections::BTreeSet;
use std::path::Path;

use qurvo_processor::event::field::NAMES;

const PAGE: &str = include_str!("../../../../docs/contract.md");

/// How the program's keys in Redis begin.
const PREFIXES: [&str; 7] = [
    "cohort_membership:",
    "dlq:",
    "event_names:",
    "event_property_names:",
    "events:",
    "person:",
    "processor:",
];

/// The names in the first cells of the table under a heading.
fn first_cells(heading: &str) -> Vec<&'static str> {
    let (_, section) = PAGE.split_once(&format!("\n### {heading}\n")).unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split(" | ").next().unwrap());
    cells
        .flat_map(|cell| cell.trim_end_matches('`').split("`, `"))
        .collect()
}

/// What a key begins with, up to the first value in it.
fn fixed(key: &str) -> &str {
    key.split('{').next().unwrap_or(key)
}

/// Keys in the string literals of the source under a folder.
fn keys_in(folder: &Path, found: &mut BTreeSet<String>) {
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        if file.is_dir() {
            keys_in(&file, found);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&file).unwrap();
            let literals = text.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
            let keys = literals.filter(|text| PREFIXES.iter().any(|prefix| text.starts_with(prefix)));
            found.extend(keys.map(str::to_owned));
        }
    }
}

#[test]
fn the_contract_page_lists_the_fields_of_an_entry() {
    let listed: BTreeSet<&str> = first_cells("Fields of an entry").into_iter().collect();
    assert_eq!(listed, BTreeSet::from(NAMES));
}

#[test]
fn the_contract_page_lists_the_keys_in_redis() {
    let mut keys = BTreeSet::new();
    keys_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut keys);
    // Its name is made of the queue's.
    keys.insert("events:dlq:staged:".to_owned());
    let used: BTreeSet<&str> = keys.iter().map(|key| fixed(key)).collect();
    assert!(used.len() >= 18, "{used:?}");
    let listed: BTreeSet<&str> = first_cells("Redis keys").into_iter().map(fixed).collect();
    assert_eq!(listed, used);
}
