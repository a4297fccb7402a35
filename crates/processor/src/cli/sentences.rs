//! Sentences for people on a terminal of 80 columns.

use crate::logs::harmless;

/// Columns of the narrowest terminal that is counted on.
const WIDTH: usize = 80;
/// Longest id that is shown whole, in characters.
const LONGEST: usize = 60;

/// A text broken between its words, so that no line is wider than the terminal unless a single word is; lines after the
/// first begin with `indent`. What stands in it may come from outside.
pub(super) fn wrapped(text: &str, indent: &str) -> String {
    let text = harmless::line(text);
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(indent);
            lines.push_str(word);
            width = indent.len() + length;
            continue;
        }
        if !lines.is_empty() {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines
}

/// An id in quotes, its end left out when it is long.
pub(super) fn quoted(id: &str) -> String {
    match id.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &id[..end]),
        None => format!("{id:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_break_between_words_and_the_others_are_indented() {
        let text = wrapped(&"word ".repeat(40), "    ");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(
            text.lines().skip(1).all(|line| line.starts_with("    word")),
            "{text}"
        );
        let long = "x".repeat(100);
        assert_eq!(wrapped(&format!("a {long} b"), " "), format!("a\n {long}\n b"));
        assert_eq!(wrapped("a\nb", ""), "a\\nb", "nothing from outside begins a line");
    }

    #[test]
    fn a_long_id_is_shown_in_part() {
        assert_eq!(quoted("it's a"), "\"it's a\"");
        assert_eq!(quoted(&"é".repeat(61)), format!("\"{}\"…", "é".repeat(60)));
    }

    proptest! {
        #[test]
        fn no_word_is_lost_and_no_line_is_too_wide(words in prop::collection::vec("[a-zé]{1,36}", 0..40)) {
            let text = words.join(" ");
            let lines = wrapped(&text, "  ");
            prop_assert!(lines.lines().all(|line| line.chars().count() <= WIDTH));
            let again: Vec<&str> = lines.split_whitespace().collect();
            prop_assert_eq!(again, words);
        }
    }
}
