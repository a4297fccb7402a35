//! What counts as white space in values.

/// Whether a character is white space to the platform, as to JavaScript: Unicode's, with the byte order mark and without
/// U+0085.
pub(super) fn is_white_space(c: char) -> bool {
    c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}
