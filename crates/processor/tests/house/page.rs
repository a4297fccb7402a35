//! ARCHITECTURE.md, held against the source: its floors are those of the house, and the files that the pages name exist.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{FLOORS, crates};

/// Pages that name files of the source.
const PAGES: [&str; 6] = [
    "ARCHITECTURE.md",
    "README.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/sizing.md",
];

/// Folders that a path in a page may begin at, from the repository's root.
const FROM: [&str; 8] = [
    "",
    "crates",
    "crates/processor",
    "crates/processor/src",
    "crates/processor/tests/it",
    "crates/cohort-query",
    "crates/cohort-query/src",
    "crates/cohort-query/tests/it",
];

fn page(name: &str) -> String {
    std::fs::read_to_string(crates().join("..").join(name)).unwrap()
}

fn exists(path: &str) -> bool {
    let root = crates().join("..");
    FROM.iter().any(|from| root.join(from).join(path).exists())
}

/// Paths between backticks, as far as they name a file or a folder.
fn paths(page: &str) -> impl Iterator<Item = &str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(|text| {
        let is_path = text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || b"_-./0123456789".contains(&byte));
        let is_source = Path::new(text).extension().is_some_and(|ending| ending == "rs");
        is_path && text.contains('/') && (is_source || text.ends_with('/'))
    })
}

#[test]
fn the_floors_of_the_page_are_those_of_the_house() {
    let page = page("ARCHITECTURE.md");
    let (_, floors) = page.split_once("\n## Floors\n").unwrap();
    let block = floors.split("```").nth(1).unwrap();
    let rooms = block.lines().filter_map(|line| line.strip_prefix("src/"));
    let rooms: Vec<&str> = rooms.map(|line| line.split(['/', '.']).next().unwrap()).collect();
    for (at, room) in rooms.iter().enumerate() {
        let floor = |room: &str| FLOORS.iter().position(|floor| floor.contains(&room)).unwrap();
        assert!(
            at == 0 || floor(rooms[at - 1]) >= floor(room),
            "{room} stands below {}",
            rooms[at - 1]
        );
    }
    let house: BTreeSet<&str> = FLOORS.iter().flat_map(|floor| floor.iter().copied()).collect();
    assert_eq!(rooms.into_iter().collect::<BTreeSet<_>>(), house);
}

#[test]
fn files_and_folders_that_the_pages_name_exist() {
    let mut named = 0;
    for name in PAGES {
        for path in paths(&page(name)) {
            named += 1;
            assert!(exists(path), "{name} names `{path}`, which is not there");
        }
    }
    assert!(named > 30, "{named}");
}
