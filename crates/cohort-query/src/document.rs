//! How the engine is made to read documents that its JSON functions refuse whole: one number that no type of theirs holds,
//! or half a character, and they find no key of it.

/// An escape of half a character, as clients write it that cut texts. Whole characters and other escapes are matched first,
/// and kept.
const HALVES: &str =
    r"(\\\\[^u]|\\\\u[dD][89abAB]..\\\\u[dD][c-fC-F]..|\\\\u[dD][0-7]..|\\\\u[^dD]...)|\\\\u[dD][89a-fA-F]..";

/// A document piece by piece, nothing left out: strings, what may be numbers, what stands between them.
const TOKENS: &str = r#""(?:[^"\\\\]|\\\\.)*"|-?[0-9][-+.0-9eE]*|[^-"0-9]+|(?s:.)"#;

/// A number by JSON's grammar.
const NUMBER: &str = "^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?$";

/// Stands at both ends of a string that is a number: a code point that is for use inside a program, and in no text.
const MARK: char = '\u{fdd0}';

/// A column's document as the engine can read it: almost always as it is. In others, halves of characters are left out, and
/// each number that is no document by itself is a marked string.
pub(crate) fn readable(column: &str) -> String {
    let whole = format!(r"replaceRegexpAll({column}, '{HALVES}', '\\1')");
    let readable = format!(
        "arrayStringConcat(arrayMap(token -> if(match(token, '{NUMBER}') AND NOT isValidJSON(token), \
         concat('\"{MARK}', token, '{MARK}\"'), token), extractAll({whole}, '{TOKENS}')))"
    );
    format!("if({column} = '{{}}' OR isValidJSON({column}), {column}, {readable})")
}

/// A raw value that was found in a readable document, as it was written.
pub(crate) fn as_written(raw: &str) -> String {
    format!("replaceAll(replaceAll({raw}, '\"{MARK}', ''), '{MARK}\"', '')")
}
