//! Telling an insert that brings its rows from every other statement.

use std::borrow::Cow;

use bytes::Bytes;

use crate::engine::EngineError;

/// A statement and what goes with it.
pub(super) enum Statement {
    /// An insert whose rows follow as data in a format.
    Insert {
        /// The statement without its format clause.
        sql: String,
        /// Format of the data.
        format: String,
        /// The rows.
        data: Bytes,
    },
    /// Anything that is complete by itself.
    Other {
        /// The statement.
        sql: String,
    },
}

impl Statement {
    /// `data` belongs to an insert with a format clause at its end; to any other statement it is the rest of its text.
    pub(super) fn of(sql: &str, data: Bytes) -> Result<Self, EngineError> {
        let trimmed = sql.trim().trim_end_matches(';').trim_end();
        if first_word(trimmed).eq_ignore_ascii_case("INSERT") {
            if let Some((head, format)) = trailing_format(trimmed)
                && !contains_word(head, "SELECT")
            {
                return Ok(Self::Insert {
                    sql: head.to_owned(),
                    format: format.to_owned(),
                    data,
                });
            }
            if !data.is_empty() && !contains_word(trimmed, "SELECT") {
                let head = trimmed
                    .strip_suffix("VALUES")
                    .or(trimmed.strip_suffix("values"))
                    .unwrap_or(trimmed);
                return Ok(Self::Insert {
                    sql: head.trim_end().to_owned(),
                    format: "Values".into(),
                    data,
                });
            }
        }
        if data.is_empty() {
            return Ok(Self::Other { sql: sql.to_owned() });
        }
        let rest = std::str::from_utf8(&data).map_err(|_| not_text())?;
        Ok(Self::Other {
            sql: format!("{sql}\n{rest}"),
        })
    }
}

/// A body that holds statement and data: an insert's data begins behind its format clause and one line end.
pub(super) fn split_body(body: &Bytes) -> Result<(String, Bytes), EngineError> {
    let head_length = body.len().min(64 * 1024);
    let head = String::from_utf8_lossy(&body[..head_length]);
    if first_word(&head).eq_ignore_ascii_case("INSERT")
        && let Some(end) = data_begins(&head)
        && end <= body.len()
    {
        let sql = String::from_utf8(body[..end].to_vec()).map_err(|_| not_text())?;
        return Ok((sql, body.slice(end..)));
    }
    String::from_utf8(body.to_vec())
        .map(|sql| (sql, Bytes::new()))
        .map_err(|_| not_text())
}

fn not_text() -> EngineError {
    EngineError("Code: 62. DB::Exception: the statement is not UTF-8. (SYNTAX_ERROR)".into())
}

/// Byte position behind `FORMAT name` and the white space that ends its line.
fn data_begins(text: &str) -> Option<usize> {
    let clause = find_word(text, "FORMAT")?;
    if contains_word(&text[..clause], "SELECT") || contains_word(&text[..clause], "VALUES") {
        return None;
    }
    let after = &text[clause + "FORMAT".len()..];
    let name_start = after.len() - after.trim_start().len();
    let name_length = after[name_start..]
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(after.len() - name_start);
    let rest = &after[name_start + name_length..];
    let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
    let newline = usize::from(rest[blank..].starts_with('\n'));
    Some(clause + "FORMAT".len() + name_start + name_length + blank + newline)
}

/// `INSERT … FORMAT Name` in two: what stands before the clause, and the name.
fn trailing_format(sql: &str) -> Option<(&str, &str)> {
    let (head, format) = sql.rsplit_once(char::is_whitespace)?;
    let head = head.trim_end();
    let keyword_at = head.len().checked_sub("FORMAT".len())?;
    let is_format = head.is_char_boundary(keyword_at) && head[keyword_at..].eq_ignore_ascii_case("FORMAT");
    let is_name = !format.is_empty() && format.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_format && is_name).then(|| (head[..keyword_at].trim_end(), format))
}

/// Whether a statement cannot change anything, by its first word.
pub(super) fn reads_only(sql: &str) -> bool {
    let word = first_word(sql);
    ["SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS"]
        .iter()
        .any(|w| word.eq_ignore_ascii_case(w))
}

/// A dictionary that reads from this very server names its user and password; the engine itself knows no users, since
/// they are checked here.
pub(super) fn without_credentials<'a>(sql: &'a str, user: &str, password: &str) -> Cow<'a, str> {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let credentials = format!("USER '{}' PASSWORD '{}'", escaped(user), escaped(password));
    if contains_word(sql, "DICTIONARY") && sql.contains(&credentials) {
        Cow::Owned(sql.replace(&credentials, ""))
    } else {
        Cow::Borrowed(sql)
    }
}

fn first_word(sql: &str) -> &str {
    let sql = sql.trim_start().trim_start_matches('(').trim_start();
    sql.split(|c: char| !c.is_ascii_alphabetic())
        .next()
        .unwrap_or_default()
}

fn contains_word(text: &str, word: &str) -> bool {
    find_word(text, word).is_some()
}

/// Position of a keyword outside quotes, in any case.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote: Option<u8> = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'\'' | b'"' | b'`')) => quote = Some(byte),
            (None, _) => {
                let ends = at + word.len();
                let alone =
                    (at == 0 || !is_word(bytes[at - 1])) && bytes.get(ends).is_none_or(|b| !is_word(*b));
                if alone
                    && bytes
                        .get(at..ends)
                        .is_some_and(|b| b.eq_ignore_ascii_case(word.as_bytes()))
                {
                    return Some(at);
                }
            }
        }
        at += 1;
    }
    None
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(sql: &str, data: &'static [u8]) -> Option<(String, String, Bytes)> {
        match Statement::of(sql, Bytes::from_static(data)).unwrap() {
            Statement::Insert { sql, format, data } => Some((sql, format, data)),
            Statement::Other { .. } => None,
        }
    }

    #[test]
    fn an_insert_with_a_format_takes_its_rows_from_the_data() {
        let (sql, format, data) = insert("INSERT INTO t (a, b) FORMAT Native", b"\x00").unwrap();
        assert_eq!(
            (sql.as_str(), format.as_str(), &data[..]),
            ("INSERT INTO t (a, b)", "Native", &b"\x00"[..])
        );
        assert!(insert("INSERT INTO t SELECT 1 FORMAT Null", b"").is_none());
        assert!(insert("INSERT INTO t VALUES (1)", b"").is_none());
        assert!(insert("SELECT 1 FORMAT JSON", b"").is_none());
    }

    #[test]
    fn a_body_is_split_behind_the_format_clause() {
        let (sql, data) =
            split_body(&Bytes::from_static(b"INSERT INTO t FORMAT RowBinary\n\x00\xff")).unwrap();
        assert_eq!(
            (sql.trim_end(), &data[..]),
            ("INSERT INTO t FORMAT RowBinary", &b"\x00\xff"[..])
        );
        let (sql, data) = split_body(&Bytes::from_static(b"INSERT INTO t VALUES ('FORMAT x')")).unwrap();
        assert_eq!(
            (sql.as_str(), data.len()),
            ("INSERT INTO t VALUES ('FORMAT x')", 0)
        );
    }
}
