//! Texts that look like dates ("Value types" in docs/contract.md). Only the shape counts: a 39th day of a month passes.

use super::white_space::is_white_space;

/// Whether `text` looks like a date; `trimmed` is the same without white space around it. Either the text begins with
/// `YYYY-MM-DD` and `T` or white space, or the trimmed text is a date, alone or with a time.
pub(super) fn is_date_like(text: &str, trimmed: &str) -> bool {
    is_iso(text) || is_date_with_time(trimmed)
}

fn is_iso(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else {
        return false;
    };
    matches(date, "0000-00-00") && rest.starts_with(|c: char| c == 'T' || is_white_space(c))
}

/// Whether a text is `YYYY-MM-DD`, `YYYY/MM/DD`, or two fields of two digits and a year; then nothing, or a space or `T`,
/// `hh:mm:ss` and anything.
fn is_date_with_time(trimmed: &str) -> bool {
    let Some((date, rest)) = trimmed.split_at_checked(10) else {
        return false;
    };
    let is_date = matches(date, "9999/29/39") || matches(date, "29/39/9999");
    let is_time = |rest: &str| {
        rest.starts_with([' ', 'T']) && rest.get(1..9).is_some_and(|time| matches(time, "29:69:69"))
    };
    is_date && (rest.is_empty() || is_time(rest))
}

/// Whether a text has a shape. In the shape `0` stands for any digit, another digit for the digits up to it, `/` for `-` or
/// `/`, and any other character for itself.
fn matches(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'1'..=b'9' => (b'0'..=shape).contains(&byte),
        b'/' => matches!(byte, b'-' | b'/'),
        _ => byte == shape,
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str) -> bool {
        is_date_like(text, text.trim_matches(is_white_space))
    }

    #[test]
    fn a_date_at_the_beginning_with_more_behind_it() {
        for text in [
            "2026-01-15T",
            "2026-01-15 ",
            "2026-99-99\t…",
            "2026-01-15Tanything",
            "2026-01-15\u{a0}x",
        ] {
            assert!(like(text), "{text}");
        }
        for text in [
            "2026-01-15x",
            "2026/01/15Tx",
            " 2026-99-15Tx",
            "226-01-15T",
            "2026-01-1",
            "2026-1-15T10:00:00",
        ] {
            assert!(!like(text), "{text}");
        }
    }

    #[test]
    fn a_date_alone() {
        for text in [
            "2026-01-15",
            "2026/01/15",
            "2026-01/15",
            " 2026-01-15 ",
            "2026-29-39",
            "12/31/2026",
            "25/12/2026",
            "12-31/2026",
            "00-00-0000",
        ] {
            assert!(like(text), "{text}");
        }
        for text in [
            "31/12/2026",
            "2026-31-15",
            "2026-01-45",
            "12/41/2026",
            "2026.01.15",
            "12/31/26",
            "x2026-01-15",
        ] {
            assert!(!like(text), "{text}");
        }
    }

    #[test]
    fn a_date_with_a_time() {
        for text in [
            "2026/01/15 10:30:00",
            "12/31/2026T29:69:69",
            "2026/01/15 10:30:00.5 or so",
            "\u{feff}12/31/2026 00:00:00Z",
        ] {
            assert!(like(text), "{text}");
        }
        for text in [
            "2026/01/15 30:30:00",
            "2026/01/15 10:30",
            "2026/01/15  10:30:00",
            "2026/01/15 10:70:00",
            "12/31/2026 x",
        ] {
            assert!(!like(text), "{text}");
        }
    }

    #[test]
    fn characters_of_several_bytes_are_no_boundary_to_cut_at() {
        for text in ["2026-01-1é", "é", "2026/01/15 10:30:0é", "2026-01-15é"] {
            assert!(!like(text), "{text}");
        }
    }
}
