//! Texts in so many columns of a terminal. Pure.

use unicode_width::UnicodeWidthChar;

/// What stands for the rest of a text.
const REST: char = '…';

/// Columns of a terminal that a character takes, at most: terminals differ over what is joined into one picture.
fn columns_of(character: char) -> usize {
    match character {
        // Makes a picture of the character before it, which is twice as wide.
        '\u{fe0f}' => 1,
        character => character.width().unwrap_or(0),
    }
}

/// Columns of a terminal that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// A text in at most so many columns.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut taken = 0;
    let mut kept = String::new();
    for character in text.chars() {
        taken += columns_of(character);
        if taken + 1 > columns {
            break;
        }
        kept.push(character);
    }
    if columns > 0 {
        kept.push(REST);
    }
    kept
}

/// A text in lines of so many columns, broken between words where there are any.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words(text, columns) {
        let fits = |line: &str| width(line) + width(word.trim_end()) <= columns;
        if !lines.last().is_some_and(|line| fits(line)) {
            lines.push(String::new());
        }
        for character in word.chars() {
            let is_full = lines
                .last()
                .is_some_and(|line| width(line) + columns_of(character) > columns);
            match character {
                ' ' if is_full => continue,
                _ if is_full => lines.push(String::new()),
                _ => {}
            }
            if let Some(line) = lines.last_mut() {
                line.push(character);
            }
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// Words with the space behind them. A command between backticks is one, if it fits: people copy it.
fn words(text: &str, columns: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut is_command) = (0, false);
    for (at, character) in text.char_indices() {
        is_command ^= character == '`';
        if character == ' ' && !is_command {
            words.push(&text[start..=at]);
            start = at + 1;
        }
    }
    words.push(&text[start..]);
    let fits = |word: &str| width(word.trim_end()) <= columns;
    let parts = |word| {
        if fits(word) {
            vec![word]
        } else {
            word.split_inclusive(' ').collect()
        }
    };
    words.into_iter().flat_map(parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_and_wide_characters_are_cut_where_they_begin() {
        assert_eq!(cut("界界界", 5), "界界…");
        assert_eq!(cut("界界界", 4), "界…");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!((cut("abc", 0).as_str(), cut("abc", 1).as_str()), ("", "…"));
    }

    #[test]
    fn a_long_text_is_broken_between_words_or_where_it_has_to_be() {
        for columns in [7, 8] {
            assert_eq!(wrapped("one two three", columns), ["one two", "three"]);
        }
        assert_eq!(wrapped("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrapped("界界界", 4), ["界界", "界"]);
        assert_eq!(wrapped("", 4), [""; 0]);
    }

    #[test]
    fn a_command_is_broken_only_where_it_does_not_fit() {
        assert_eq!(
            wrapped("one two: `a b c`, three", 12),
            ["one two:", "`a b c`,", "three"]
        );
        assert_eq!(wrapped("one: `abc def ghi`", 8), ["one:", "`abc def", "ghi`"]);
        assert_eq!(wrapped("one ` two three", 9), ["one ` two", "three"]);
    }
}
