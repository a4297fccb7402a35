//! Bytes of a fixture, written short: a text, or pieces one of which may be repeated, generated or no UTF-8 at all.

use serde::{Deserialize, Serialize};

/// A value of a hostile entry. In JSON a string, or an array of pieces that are joined:
///
/// - `"text"` stands for itself,
/// - `{"repeat": "x", "times": 3}` for `xxx`,
/// - `{"keys": 2}` for the JSON object `{"k0":0,"k1":1}`,
/// - `{"hex": "ff00"}` for the two bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bytes {
    /// A text as it is.
    Plain(String),
    /// Pieces, joined.
    Pieces(Vec<Piece>),
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Piece {
    /// A text as it is.
    Text(String),
    /// A text several times.
    Repeat {
        /// The text.
        repeat: String,
        /// How often.
        times: usize,
    },
    /// A JSON object with this many numbered keys.
    Keys {
        /// How many.
        keys: usize,
    },
    /// Any bytes.
    Hex {
        /// Two hexadecimal digits a byte; whatever is none ends the piece.
        hex: String,
    },
}

impl Bytes {
    /// The bytes, written out.
    pub fn expand(&self) -> Vec<u8> {
        match self {
            Self::Plain(text) => text.clone().into_bytes(),
            Self::Pieces(pieces) => pieces.iter().flat_map(Piece::expand).collect(),
        }
    }
}

impl Piece {
    fn expand(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Repeat { repeat, times } => repeat.repeat(*times).into_bytes(),
            Self::Keys { keys } => {
                let pairs: Vec<_> = (0..*keys).map(|n| format!("\"k{n}\":{n}")).collect();
                format!("{{{}}}", pairs.join(",")).into_bytes()
            }
            Self::Hex { hex } => {
                let pairs = (0..hex.len() / 2).map_while(|n| hex.get(2 * n..2 * n + 2));
                pairs
                    .map_while(|pair| u8::from_str_radix(pair, 16).ok())
                    .collect()
            }
        }
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

impl From<Vec<Piece>> for Bytes {
    fn from(pieces: Vec<Piece>) -> Self {
        Self::Pieces(pieces)
    }
}

/// A text as a piece.
pub(crate) fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

/// A repeated text as a piece.
pub(crate) fn repeat(text: &str, times: usize) -> Piece {
    Piece::Repeat {
        repeat: text.to_owned(),
        times,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_written_out() {
        let json = r#"["a",{"repeat":"é","times":3},{"keys":2},{"hex":"ff00"}]"#;
        let bytes: Bytes = serde_json::from_str(json).unwrap();
        assert_eq!(
            bytes.expand(),
            [&b"a\xc3\xa9\xc3\xa9\xc3\xa9{\"k0\":0,\"k1\":1}\xff\0"[..]].concat()
        );
        assert_eq!(serde_json::to_string(&bytes).unwrap(), json);
        assert_eq!(Bytes::from("x").expand(), b"x");
    }
}
