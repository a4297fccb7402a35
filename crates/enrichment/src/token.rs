//! Words of a user agent, and the versions behind them.

/// The version behind a token: digits and letters up to a separator. The token begins a word.
pub(crate) fn after<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    let rest = behind(text, token)?;
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_')))
        .unwrap_or(rest.len());
    Some(&rest[..end])
}

/// The same where it begins with a digit.
pub(crate) fn number_after<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    after(text, token).filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
}

/// What follows a token that begins a word.
pub(crate) fn behind<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    let begins_a_word = |at: usize| at == 0 || !text.as_bytes()[at - 1].is_ascii_alphanumeric();
    let mut places = text.match_indices(token).map(|(at, _)| at);
    let at = places.find(|at| begins_a_word(*at))?;
    Some(&text[at + token.len()..])
}

/// The text from each beginning of a word on.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut within = false;
    text.char_indices().filter_map(move |(at, c)| {
        let begins = !within;
        within = c.is_ascii_alphanumeric();
        (begins && within).then(|| &text[at..])
    })
}

/// Whether the text has any of these.
pub(crate) fn any(text: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| text.contains(part))
}
