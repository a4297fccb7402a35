//! docs/glossary.md, held against the source: what it names is there, and its words are found by their order.

use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../../docs/glossary.md");

/// A file that the page names: of the processor's source, or of the whole repository.
fn file(name: &str) -> Option<PathBuf> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [crate_folder.join("src"), crate_folder.join("../..")];
    let mut files = places.iter().map(|place| place.join(name));
    files.find(|file| file.is_file())
}

fn is_file_name(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "rs")
}

/// The rows of the page's tables: a word, its meaning, and what carries it.
fn rows() -> Vec<[&'static str; 3]> {
    let rows = PAGE
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| word ") && !line.starts_with("| ---"));
    let cells = rows.map(|row| row.trim_matches(['|', ' ']).split(" | ").collect::<Vec<_>>());
    cells
        .map(|cells| match cells[..] {
            [word, meaning, carried_by] => [word, meaning, carried_by],
            [word, meaning] => [word, meaning.trim_end_matches([' ', '|']), ""],
            _ => panic!("{cells:?} is no row of three cells"),
        })
        .collect()
}

#[test]
fn what_the_glossary_names_is_in_the_source() {
    let mut named = 0;
    for [word, _, carried_by] in rows() {
        let mut parts: Vec<&str> = carried_by.split('`').skip(1).step_by(2).collect();
        // "`Type` in `file` and in `file`": the type stands before its files.
        let mut text = String::new();
        while let Some(part) = parts.pop() {
            match file(part) {
                Some(file) => text += &std::fs::read_to_string(file).unwrap(),
                // A word may name a type alone, but never a file that is not there.
                None if text.is_empty() && !is_file_name(part) => {}
                None => {
                    let name = part.rsplit("::").next().unwrap();
                    assert!(
                        !is_file_name(part) && text.contains(name),
                        "{word}: there is no `{part}`"
                    );
                }
            }
            named += 1;
        }
    }
    assert!(named > 100, "{named}");
}

#[test]
fn the_words_of_the_glossary_stand_in_their_order() {
    let words: Vec<&str> = rows().iter().map(|[word, ..]| *word).collect();
    let (stages, words) = words.split_at(4);
    assert_eq!(
        stages,
        ["**read**", "**resolved**", "**settled**", "**acknowledged**"]
    );
    assert!(words.len() > 80 && words.is_sorted(), "{words:?}");
}
