//! Makes documents readable that the engine's JSON functions refuse as a whole: one number that no type of theirs holds, or
//! half a surrogate pair, and they find none of its keys.

/// The escape of half a surrogate pair, as written by clients that cut texts. Whole pairs and other escapes are matched
/// first and kept.
const HALVES: &str =
    r"(\\\\[^u]|\\\\u[dD][89abAB]..\\\\u[dD][c-fC-F]..|\\\\u[dD][0-7]..|\\\\u[^dD]...)|\\\\u[dD][89a-fA-F]..";

/// Splits a document without leaving anything out: strings, possible numbers, and the text between them.
const TOKENS: &str = r#""(?:[^"\\\\]|\\\\.)*"|-?[0-9][-+.0-9eE]*|[^-"0-9]+|(?s:.)"#;

/// A number in JSON's grammar.
const NUMBER: &str = "^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?$";

/// Put at both ends of a number that is made a string. A noncharacter: no text contains it.
const MARK: char = '\u{fdd0}';

/// A column's document in a form that the engine can read: almost always the document itself. Otherwise half surrogate
/// pairs are left out, and each number that the engine cannot read becomes a marked string.
pub(crate) fn readable(column: &str) -> String {
    let whole = format!(r"replaceRegexpAll({column}, '{HALVES}', '\\1')");
    let readable = format!(
        "arrayStringConcat(arrayMap(token -> if(match(token, '{NUMBER}') AND NOT isValidJSON(token), \
         concat('\"{MARK}', token, '{MARK}\"'), token), extractAll({whole}, '{TOKENS}')))"
    );
    format!("if({column} = '{{}}' OR isValidJSON({column}), {column}, {readable})")
}

/// A raw value from a readable document as it was written, without marks.
pub(crate) fn as_written(raw: &str) -> String {
    format!("replaceAll(replaceAll({raw}, '\"{MARK}', ''), '{MARK}\"', '')")
}
