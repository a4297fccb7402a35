//! Makes texts from outside safe to print: characters that would control a terminal are replaced by escapes.
//!
//! Replaced are the control characters (C0, DEL and C1), the characters that change the direction of text, and the
//! separators of lines and paragraphs, each by its JSON escape. So JSON that contains them raw, which is allowed for most
//! of them, keeps its meaning.

use std::borrow::Cow;
use std::fmt::Write;

/// A text that becomes part of a line: line breaks are escaped, too.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escape(text, steers)
}

/// A text of several lines: its line breaks are kept.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| character != '\n' && steers(character))
}

fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

fn escape(text: &str, is_harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&is_harmful) else {
        return Cow::Borrowed(text);
    };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first]);
    for character in text[first..].chars() {
        match character {
            _ if !is_harmful(character) => shown.push(character),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // All of them are below U+10000.
            _ => {
                let _never_fails = write!(shown, "\\u{:04x}", u32::from(character));
            }
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown() {
        for (text, shown) in [
            ("\u{1b}[31mred\u{7}", "\\u001b[31mred\\u0007"),
            ("a\0b\u{7f}\u{9b}2J", "a\\u0000b\\u007f\\u009b2J"),
            ("\u{202e}txt.exe\u{2066}\u{2028}", "\\u202etxt.exe\\u2066\\u2028"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("Ж 🦔 é\u{200d} \u{202f}\\n", "Ж 🦔 é\u{200d} \u{202f}\\n"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("a\n\u{1b}b\r\n"), "a\n\\u001bb\\r\n");
    }

    proptest! {
        #[test]
        fn nothing_steers_any_more_and_json_says_the_same(text in any::<String>()) {
            prop_assert!(!line(&text).contains(steers));
            let json = serde_json::json!({ text.clone(): [text] });
            for printed in [json.to_string(), format!("{json:#}")] {
                let shown = lines(&printed);
                prop_assert!(!shown.contains(|c| c != '\n' && steers(c)));
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json.clone());
            }
        }
    }
}
