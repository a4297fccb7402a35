//! Looking at JSON text without building a tree.

use serde::de::IgnoredAny;

/// Whether `text` is one well-formed JSON object. Linear time, no recursion: depth is not limited.
pub fn is_object(text: &str) -> bool {
    let text = text.trim_ascii();
    text == "{}" || (text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_count() {
        assert!(is_object("{}") && is_object(" {\"a\": [1, 1e400, \"\\ud800\"]} "));
        for text in ["", "null", "[]", "1", "\"{}\"", "{", "{\"a\":}", "{} {}"] {
            assert!(!is_object(text), "{text}");
        }
    }

    #[test]
    fn depth_neither_overflows_nor_counts_as_malformed() {
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert!(is_object(&deep));
    }
}
