//! Words of a user agent, and the versions that follow them.

/// The version after a token that begins a word: digits and letters up to a separator.
pub(crate) fn after<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    let rest = rest_after(text, token)?;
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_')))
        .unwrap_or(rest.len());
    Some(&rest[..end])
}

/// The version after a token, if it begins with a digit.
pub(crate) fn number_after<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    after(text, token).filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
}

/// The text after a token that begins a word.
pub(crate) fn rest_after<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    let begins_a_word = |at: usize| at == 0 || !text.as_bytes()[at - 1].is_ascii_alphanumeric();
    let mut places = text.match_indices(token).map(|(at, _)| at);
    let at = places.find(|at| begins_a_word(*at))?;
    Some(&text[at + token.len()..])
}

/// For each word, the text from its beginning on.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut within = false;
    text.char_indices().filter_map(move |(at, c)| {
        let begins = !within;
        within = c.is_ascii_alphanumeric();
        (begins && within).then(|| &text[at..])
    })
}

/// Whether the text contains any of these parts.
pub(crate) fn any(text: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| text.contains(part))
}
