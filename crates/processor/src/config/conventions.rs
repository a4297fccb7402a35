//! Values as the conventions of OpenTelemetry and Datadog write them.

use std::net::Ipv6Addr;

use hyper::http::{HeaderName, HeaderValue};
use url::Url;

use super::read::{ConfigError, Reader, invalid};
use super::variables::Variable;

impl Reader<'_> {
    /// The first of two variables that is set; the second has the preset.
    pub(super) fn either<'v>(&self, own: &'v Variable, of_all: &'v Variable) -> &'v Variable {
        if self.optional(own).is_some() { own } else { of_all }
    }

    /// Yes or no, in the words of both conventions.
    pub(super) fn flag(&self, variable: &Variable) -> Result<bool, ConfigError> {
        let value = self.text(variable).to_lowercase();
        match value.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(invalid(variable, value, "true or false")),
        }
    }

    /// Whether a signal is sent by OTLP, of a list of exporters of which some are for other programs.
    pub(super) fn exporters(&self, variable: &Variable) -> Result<bool, ConfigError> {
        const OTHERS: [&str; 6] = ["none", "prometheus", "console", "logging", "zipkin", "jaeger"];
        let value = self.text(variable);
        let words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
        // Some programs have the protocol in the name.
        let words: Vec<&str> = words
            .map(|word| {
                if word.starts_with("otlp_proto_") {
                    "otlp"
                } else {
                    word
                }
            })
            .collect();
        if let Some(unknown) = words
            .iter()
            .find(|word| **word != "otlp" && !OTHERS.contains(word))
        {
            return Err(invalid(variable, (*unknown).to_owned(), "otlp or none"));
        }
        Ok(words.contains(&"otlp"))
    }

    /// A collector's address. It is repeated in the error, as far as it holds no secret.
    pub(super) fn endpoint(&self, variable: &Variable) -> Result<Option<Url>, ConfigError> {
        let Some(value) = self.optional(variable) else {
            return Ok(None);
        };
        let is_shown = !value.contains(['@', '?', '#']);
        match Url::parse(&value) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Some(url)),
            _ => {
                let shown = if is_shown { value } else { "(hidden)".into() };
                Err(invalid(variable, shown, "a URL such as http://collector:4318"))
            }
        }
    }

    /// A host's name or address, alone; an address of version 6 gets its brackets.
    pub(super) fn host(&self, variable: &Variable) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.optional(variable) else {
            return Ok(None);
        };
        let host = value.trim_matches(['[', ']']);
        if host.parse::<Ipv6Addr>().is_ok() {
            return Ok(Some(format!("[{host}]")));
        }
        let is_name = host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if is_name && !host.is_empty() {
            return Ok(Some(host.to_owned()));
        }
        let accepted = "a host's name or address without port and http://, such as 10.0.0.7; ports have variables of their own";
        Err(invalid(variable, value, accepted))
    }

    pub(super) fn port(&self, variable: &Variable, preset: u16) -> Result<u16, ConfigError> {
        match self.optional(variable) {
            None => Ok(preset),
            Some(value) => match value.parse() {
                Ok(port @ 1..) => Ok(port),
                _ => Err(invalid(variable, value, "a port, 1 to 65535")),
            },
        }
    }

    /// Datadog's tags: separated by commas or blanks; one without a value is a tag, too.
    pub(super) fn tags(&self, variable: &Variable) -> Vec<(String, String)> {
        let text = self.text(variable);
        let tags = text
            .split([',', ' '])
            .map(str::trim)
            .filter(|tag| !tag.is_empty());
        let pair = |tag: &str| match tag.split_once(':') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (tag.to_owned(), String::new()),
        };
        tags.map(pair).collect()
    }

    /// Headers. Neither names nor values are repeated in the error: where the name is forgotten, the value stands for it.
    pub(super) fn headers(&self, variable: &Variable) -> Result<Vec<(String, String)>, ConfigError> {
        let headers = self.pairs(variable, '=')?;
        let is_header = |(name, value): &(String, String)| {
            HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok()
        };
        if headers.iter().all(is_header) {
            Ok(headers)
        } else {
            let accepted = "comma-separated headers such as api-key=value, each with its name before =";
            Err(invalid(variable, "(hidden)".into(), accepted))
        }
    }

    /// Pairs, comma-separated, with percent-encoded values; none where the variable is unset. Values are not repeated in
    /// the error: they may be secrets.
    pub(super) fn pairs(
        &self,
        variable: &Variable,
        between: char,
    ) -> Result<Vec<(String, String)>, ConfigError> {
        let Some(text) = self.optional(variable) else {
            return Ok(Vec::new());
        };
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once(between)?;
            let value = percent_encoding::percent_decode_str(value.trim())
                .decode_utf8()
                .ok()?;
            let name = name.trim();
            (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
        };
        let pairs: Option<Vec<_>> = pairs.map(pair).collect();
        pairs.ok_or_else(|| {
            let accepted = format!("comma-separated pairs such as name{between}value");
            invalid(variable, "(hidden)".into(), &accepted)
        })
    }
}
